"""Lab 6, what drives the core: batches of commands, and what becomes of them in the next term."""

import asyncio

import pytest

from tests.harness import ROOT, load

pytestmark = pytest.mark.ours
core = load(ROOT / "lab06_raft/node.py")
protocol = core.protocol


class Silent:
    """A peer that answers no call: the replies come from the test."""

    def __init__(self, address: str):
        pass

    async def ask(self, method: str, message, timeout: float) -> None:
        return None


class Driven(core.Node):
    """Server 0 of three, whose peers are played by the test."""

    def __init__(self):
        addresses = dict.fromkeys(range(3), "")
        super().__init__(0, addresses, core.Memory(), lambda before, after: None)

    def _arm_timer(self) -> None:
        """Time does not pass by itself."""

    def lead(self) -> None:
        """Win the next election, with the vote of server 1."""
        self.step(self.raft.tick, self.raft.deadline)
        raft = self.raft
        vote = protocol.RequestVoteRequest(raft.current_term, 0, raft.last_index, raft.log[-1].term)
        reply = protocol.RequestVoteReply(raft.current_term, True)
        self.step(raft.request_vote_reply, protocol.Call(1, vote), reply, self.loop.time())
        assert raft.role is core.Role.LEADER
        self.hear_all()

    def hear_all(self) -> None:
        """Let server 1 answer all, and have the whole log: it is committed."""
        raft = self.raft
        copy = protocol.AppendEntriesRequest(
            raft.current_term, 0, 0, 0, tuple(raft.log[1:]), raft.commit_index
        )
        reply = protocol.AppendEntriesReply(raft.current_term, True)
        call = protocol.Call(1, copy, raft.round)
        self.step(raft.append_entries_reply, call, reply, self.loop.time())
        assert raft.commit_index == raft.last_index

    def overthrow(self) -> None:
        """Hear a leader of the next term, who has nothing after what is committed but a no-op."""
        raft, index = self.raft, self.raft.commit_index
        no_op = protocol.Entry(raft.current_term + 1)
        request = protocol.AppendEntriesRequest(
            raft.current_term + 1, 1, index, raft.log[index].term, (no_op,), index + 1
        )
        self.step(raft.append_entries, request, self.loop.time())

    @property
    def keys(self) -> list[str]:
        return [entry.key for entry in self.raft.log if entry.key]


async def until(fact) -> None:
    async def look() -> None:
        while not fact():
            await asyncio.sleep(0)

    await asyncio.wait_for(look(), 5)


@pytest.fixture
def play(monkeypatch):
    """Play a scene with a leader; `write` and `read` begin with requests and return their tasks."""
    monkeypatch.setattr(core, "Peer", Silent)

    async def run(scene) -> None:
        node, tasks = Driven(), []
        node.lead()

        def begin(*requests) -> list[asyncio.Task]:
            tasks.extend(map(asyncio.create_task, requests))
            return tasks[-len(requests) :]

        node.write = lambda *keys: begin(*(node.commit(key, "value") for key in keys))
        node.read = lambda count: begin(*(node.confirm_read() for _ in range(count)))
        try:
            await scene(node)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return lambda scene: asyncio.run(run(scene))


def test_a_leader_takes_commands_although_a_batch_of_an_earlier_term_was_lost(play):
    async def scene(node):
        node.write(*"abcdef")
        await until(lambda: node.keys == list("abcdef"))
        node.overthrow()
        assert node.keys == []
        node.lead()
        node.write("again")
        await until(lambda: node.keys == ["again"])

    play(scene)


def test_those_who_wait_go_together_with_those_who_were_just_answered(play, monkeypatch):
    monkeypatch.setattr(core, "GATHER", 1000.0)

    async def scene(node):
        node.write("a")
        await until(lambda: node.keys == ["a"])
        node.write("b", "c")  # while the first one is under way
        await asyncio.sleep(0)
        assert node.keys == ["a"]
        node.hear_all()
        assert node.keys == ["a"]
        node.write("d")  # the first client again: now all are there
        await until(lambda: node.keys == list("abcd"))

    play(scene)


def test_who_does_not_come_back_is_not_waited_for(play):
    async def scene(node):
        node.write("a")
        await until(lambda: node.keys == ["a"])
        node.write("b")
        await asyncio.sleep(0)
        node.hear_all()
        await until(lambda: node.keys == ["a", "b"])

    play(scene)


def test_a_client_alone_does_not_wait(play, monkeypatch):
    monkeypatch.setattr(core, "GATHER", 1000.0)

    async def scene(node):
        for count in range(1, 10):
            node.write(f"{count}")
            await until(lambda count=count: len(node.keys) == count)
            node.hear_all()

    play(scene)


def test_a_command_given_up_before_it_was_begun_is_never_begun(play, monkeypatch):
    monkeypatch.setattr(core, "COMMIT_DEADLINE", 0.05)

    async def scene(node):
        node.write("a")
        await until(lambda: node.keys == ["a"])
        assert await node.commit("b", "value") is None
        node.hear_all()
        node.write("c")
        await until(lambda: "c" in node.keys)
        assert node.keys == ["a", "c"]

    play(scene)


def test_reads_that_come_together_are_confirmed_together_and_later_ones_after_them(play):
    async def scene(node):
        before = node.raft.round
        first = node.read(5)
        await until(lambda: node._begun)
        assert node.raft.round == before + 1
        second = node.read(5)
        await asyncio.sleep(0)
        node.hear_all()
        assert await asyncio.gather(*first) == [True] * 5
        assert not any(task.done() for task in second)
        await until(lambda: node.raft.round == before + 2)
        node.hear_all()
        assert await asyncio.gather(*second) == [True] * 5

    play(scene)


def test_a_leader_confirms_reads_although_some_of_an_earlier_term_were_lost(play):
    async def scene(node):
        lost = node.read(2)
        await until(lambda: node._begun)
        node.overthrow()
        assert await asyncio.gather(*lost) == [False] * 2
        node.lead()
        again = node.read(1)
        await until(lambda: node._begun)
        node.hear_all()
        assert await asyncio.gather(*again) == [True]

    play(scene)
