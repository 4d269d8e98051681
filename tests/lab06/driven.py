"""Lab 6's node without network, disk or time of its own: the test plays its peers."""

import asyncio

from tests.support.harness import ROOT, load

core = load(ROOT / "lab06_raft/node.py")
waiting = load(ROOT / "lab06_raft/waiting.py")
protocol, replica = load(ROOT / "lab06_raft/protocol.py"), load(ROOT / "lab06_raft/replica.py")


class Silent:
    """A peer that answers no call: the replies come from the test."""

    def __init__(self):
        self.asked = []

    async def ask(self, request):
        self.asked.append(request)
        await asyncio.get_running_loop().create_future()


class Driven(core.Node):
    """Server 0 of three, whose peers are played by the test."""

    def __init__(self, save=lambda unsaved: None, executor=None, **limits):
        limits = replica.Limits(**limits)
        raft = core.Raft(0, range(3), lambda: 0.2, 0.0, limits=limits)
        self.said = []
        peers = {1: Silent(), 2: Silent()}
        super().__init__(raft, peers, save, executor, lambda before, after: self.said.append(after))

    def _arm_timer(self) -> None:
        """Time does not pass by itself."""

    def lead(self) -> None:
        """Win the next election, with the vote of server 1."""
        self.step(self.raft.tick, self.raft.deadline)
        self.vote()
        self.acknowledge_all()

    def vote(self) -> None:
        log, term = self.raft.log, self.raft.current_term
        request = protocol.RequestVoteRequest(term, 0, log.last_index, log.last_term)
        reply = protocol.RequestVoteReply(term, True)
        self.step(self.raft.request_vote_reply, protocol.Call(1, request), reply, self.loop.time())
        assert self.raft.role is core.Role.LEADER

    def acknowledge_all(self) -> None:
        """Let server 1 acknowledge the whole log, which commits it."""
        self.hear(self.raft.log.last_index)

    def acknowledge_first(self) -> None:
        """Let server 1 answer that it has the no-op and the first command."""
        self.hear(2)

    def hear(self, index: int) -> None:
        raft, log = self.raft, self.raft.log
        entries = tuple(log.entries[: index - log.snapshot_index])
        copy = protocol.AppendEntriesRequest(
            raft.current_term, 0, log.snapshot_index, 0, entries, raft.commit_index
        )
        reply = protocol.AppendEntriesReply(raft.current_term, True)
        call = protocol.Call(1, copy, raft.leadership.round)
        self.step(raft.append_entries_reply, call, reply, self.loop.time())

    def depose(self) -> None:
        """Hear a leader of the next term, whose log has only a no-op after what is committed."""
        raft, index = self.raft, self.raft.commit_index
        no_op = protocol.Entry(raft.current_term + 1)
        request = protocol.AppendEntriesRequest(
            raft.current_term + 1, 1, index, raft.log.term(index), (no_op,), index + 1
        )
        self.step(raft.append_entries, request, self.loop.time())

    @property
    def keys(self) -> list[str]:
        return [entry.key for entry in self.raft.log.entries if entry.key]

    @property
    def sent(self) -> list[str]:
        """The keys that have gone out."""
        released = self.raft.leadership.released_index - self.raft.log.snapshot_index
        return [entry.key for entry in self.raft.log.entries[:released] if entry.key]


async def until(fact) -> None:
    async def look() -> None:
        while not fact():
            await asyncio.sleep(0)

    await asyncio.wait_for(look(), 5)
