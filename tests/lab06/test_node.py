"""Lab 6, what drives the core: clients' requests, the disk, and what becomes of both."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from tests.support.harness import ROOT, load

core = load(ROOT / "lab06_raft/node.py")
peers = load(ROOT / "lab06_raft/peers.py")
watching = load(ROOT / "lab06_raft/watching.py")
waiting = load(ROOT / "lab06_raft/waiting.py")
protocol = load(ROOT / "lab06_raft/protocol.py")
Limits, Raft, Role = waiting.Raft.__init__.__globals__["Limits"], core.Raft, core.Role


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
        raft = Raft(0, range(3), lambda: 0.2, 0.0, limits=Limits(**limits))
        self.said = []
        peers = {1: Silent(), 2: Silent()}
        super().__init__(raft, peers, save, executor, lambda before, after: self.said.append(after))

    def _arm_timer(self) -> None:
        """Time does not pass by itself."""

    def lead(self) -> None:
        """Win the next election, with the vote of server 1."""
        self.step(self.raft.tick, self.raft.deadline)
        self.vote()
        self.hear_all()

    def vote(self) -> None:
        log, term = self.raft.log, self.raft.current_term
        request = protocol.RequestVoteRequest(term, 0, log.last_index, log.last_term)
        reply = protocol.RequestVoteReply(term, True)
        self.step(self.raft.request_vote_reply, protocol.Call(1, request), reply, self.loop.time())
        assert self.raft.role is Role.LEADER

    def hear_all(self) -> None:
        """Let server 1 answer all, and have the whole log: it is committed."""
        self.hear(self.raft.log.last_index)

    def hear_first(self) -> None:
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

    def overthrow(self) -> None:
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


@pytest.fixture
def play():
    """Play a scene with a leader; `write` and `read` begin with requests and return their tasks."""

    async def run(scene, leads, arguments) -> None:
        node, tasks = Driven(**arguments), []
        if leads:
            node.lead()

        def begin(*requests) -> list[asyncio.Task]:
            tasks.extend(map(asyncio.create_task, requests))
            return tasks[-len(requests) :]

        commit, confirm = node.waiting.commit, node.waiting.confirm_read
        node.write = lambda *keys: begin(*(commit(protocol.Command(key, "1")) for key in keys))
        node.read = lambda count: begin(*(confirm() for _ in range(count)))
        try:
            await scene(node)
        finally:
            tasks.extend(node._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return lambda scene, leads=True, **arguments: asyncio.run(run(scene, leads, arguments))


def test_commands_enter_the_log_when_they_come_in_whatever_is_under_way(play):
    async def scene(node):
        node.write("a")
        await until(lambda: node.sent == ["a"])
        node.write("b", "c", "d")
        await until(lambda: node.keys == list("abcd"))
        assert node.sent == ["a"]

    play(scene)


def test_a_command_that_was_given_up_is_committed_all_the_same(play, monkeypatch):
    monkeypatch.setattr(waiting, "COMMIT_TIMEOUT", 0.02)

    async def scene(node):
        given_up = node.write(*"abcd")
        assert await asyncio.gather(*given_up) == [None] * 4
        node.hear_all()
        assert node.raft.values == dict.fromkeys("abcd", "1")

    play(scene)


def test_a_command_is_answered_with_its_place_once_it_is_committed(play):
    async def scene(node):
        (first,) = node.write("a")
        await until(lambda: node.sent == ["a"])
        node.hear_all()
        assert await first == (2, 1)

    play(scene)


def test_a_command_that_another_leader_has_replaced_is_lost(play):
    async def scene(node):
        lost = node.write(*"abc")
        await until(lambda: node.keys == list("abc"))
        node.overthrow()
        assert node.raft.commit_index == 2
        assert await asyncio.gather(*lost) == [None] * 3

    play(scene)


def test_a_leader_takes_commands_although_some_of_an_earlier_term_were_lost(play):
    async def scene(node):
        node.write(*"abcdef")
        await until(lambda: node.keys == list("abcdef"))
        node.overthrow()
        assert node.keys == []
        node.lead()
        (again,) = node.write("again")
        await until(lambda: node.sent == ["again"])
        node.hear_all()
        assert await again

    play(scene)


def test_all_commands_that_waited_for_a_majority_are_answered_though_the_log_is_compacted(play):
    async def scene(node):
        waited = node.write(*map(str, range(50)))
        await until(lambda: len(node.keys) == 50)
        node.hear_all()
        assert node.raft.log.snapshot_index > 40
        assert None not in await asyncio.gather(*waited)

    play(scene, snapshot_after=10)


def test_a_command_for_which_there_is_no_room_is_refused_at_once(play):
    async def scene(node):
        node.write("a", "b")
        (third,) = node.write("c")
        assert await third is None
        assert node.keys == ["a", "b"]

    play(scene, waiting_entries=2)


def test_what_waits_goes_out_together_with_what_follows_the_answers(play, monkeypatch):
    monkeypatch.setattr(waiting, "GATHER_INTERVAL", 1000.0)
    monkeypatch.setattr(waiting, "GATHER_TIMEOUT", 9000.0)

    async def scene(node):
        node.write("a")
        await until(lambda: node.sent == ["a"])
        node.write("b", "c")  # while the first one is under way
        await until(lambda: node.keys == list("abc"))
        assert node.sent == ["a"]
        node.hear_first()
        assert node.sent == ["a"]
        node.write("d")  # of the client that was answered: now all are there
        await until(lambda: node.sent == list("abcd"))

    play(scene)


def test_each_request_that_comes_in_gives_the_next_one_its_time(play, monkeypatch):
    monkeypatch.setattr(waiting, "GATHER_INTERVAL", 1000.0)
    monkeypatch.setattr(waiting, "GATHER_TIMEOUT", 9000.0)

    async def scene(node):
        node.write("a")
        await until(lambda: node.sent == ["a"])
        node.write("b", "c")
        await until(lambda: node.keys == list("abc"))
        node.hear_first()
        node.write("d")
        await until(lambda: node.sent == list("abcd"))
        node.hear_all()  # the clients of b, c and d are answered
        first = await gathering_with(node, "e")
        second = await gathering_with(node, "f")
        assert first.cancelled()
        assert second.when() > first.when()
        node.write("g")
        await until(lambda: node.sent == list("abcdefg"))

    async def gathering_with(node, key):
        node.write(key)
        await until(lambda: node.keys[-1] == key)
        return node.waiting._flush_timer

    play(scene)


def test_requests_that_come_one_by_one_are_not_waited_for_without_end(play, monkeypatch):
    monkeypatch.setattr(waiting, "GATHER_INTERVAL", 1000.0)
    monkeypatch.setattr(waiting, "GATHER_TIMEOUT", 0.01)

    async def scene(node):
        node.write("a")
        await until(lambda: node.sent == ["a"])
        node.write("b", "c", "d")
        await until(lambda: node.keys == list("abcd"))
        node.hear_first()
        await until(lambda: node.sent == list("abcd"))

    play(scene)


def test_a_client_that_does_not_come_back_is_not_waited_for(play):
    async def scene(node):
        node.write("a")
        await until(lambda: node.sent == ["a"])
        (second,) = node.write("b")
        await until(lambda: node.keys == ["a", "b"])
        node.hear_first()
        assert node.sent == ["a"]
        await until(lambda: node.sent == ["a", "b"])

    play(scene)


def test_a_client_alone_does_not_wait(play, monkeypatch):
    monkeypatch.setattr(waiting, "GATHER_INTERVAL", 1000.0)
    monkeypatch.setattr(waiting, "GATHER_TIMEOUT", 9000.0)

    async def scene(node):
        for count in range(1, 10):
            node.write(f"{count}")
            await until(lambda count=count: len(node.sent) == count)
            node.hear_all()

    play(scene)


def test_reads_that_come_together_are_confirmed_together_and_later_ones_after_them(play):
    async def scene(node):
        before = node.raft.leadership.round
        first = node.read(5)
        await until(lambda: node.waiting._reads)
        assert node.raft.leadership.round == before + 1
        second = node.read(5)
        await until(lambda: len(node.waiting._new_reads) == 5)
        node.hear_all()
        assert await asyncio.gather(*first) == [True] * 5
        assert not any(task.done() for task in second)
        await until(lambda: node.raft.leadership.round == before + 2)
        node.hear_all()
        assert await asyncio.gather(*second) == [True] * 5

    play(scene)


def test_reads_and_commands_that_come_together_share_one_round(play):
    async def scene(node):
        await until(lambda: node.peers[2].asked)
        under_way = node.raft.leadership.followers[2].under_way
        node.raft.call_lost(under_way)
        before = len(node.peers[2].asked)
        node.write("a")
        node.read(1)
        await until(lambda: len(node.peers[2].asked) > before)
        (call,) = node.peers[2].asked[before:]
        assert [entry.key for entry in call.entries] == ["", "a"]
        assert node.waiting._reads

    play(scene)


def test_a_leader_confirms_reads_although_some_of_an_earlier_term_were_lost(play):
    async def scene(node):
        lost = node.read(2)
        await until(lambda: node.waiting._reads)
        node.overthrow()
        assert await asyncio.gather(*lost) == [False] * 2
        node.lead()
        again = node.read(1)
        await until(lambda: node.waiting._reads)
        node.hear_all()
        assert await asyncio.gather(*again) == [True]

    play(scene)


def test_a_read_that_waits_when_the_leadership_ends_is_not_confirmed(play):
    async def scene(node):
        node.read(1)
        await until(lambda: node.waiting._reads)
        waits = node.read(1)
        await until(lambda: node.waiting._new_reads)
        node.overthrow()
        assert await asyncio.gather(*waits) == [False]

    play(scene)


def test_a_suspension_answers_all_that_waits_and_lets_nothing_out(play):
    async def scene(node):
        requests = [*node.write("a", "b"), *node.read(1)]
        await until(lambda: node.keys == ["a", "b"])
        node.suspend(1000)
        answers = asyncio.gather(*requests)
        assert await asyncio.wait_for(answers, 0.9) == [None, None, False]  # at once
        asked = len(node.peers[1].asked)
        node.step(node.raft.tick, node.raft.deadline)
        await asyncio.sleep(0.01)
        assert len(node.peers[1].asked) == asked

    play(scene)


def test_a_suspended_server_takes_in_no_reply_and_lets_no_timer_run(play):
    async def scene(node):
        reply = node.loop.create_future()
        node.peers[1].ask = lambda request: reply
        node.step(node.raft.tick, node.raft.deadline)
        node.suspend(1000)
        reply.set_result(protocol.AppendEntriesReply(99, False))
        await asyncio.sleep(0.01)
        assert node.raft.current_term == 1
        core.Node._arm_timer(node)
        assert node._timer is None

    play(scene)


def test_large_messages_have_a_connection_of_their_own():
    def stub(name):
        return SimpleNamespace(AppendEntries=lambda message, timeout: used.append(name))

    used, peer = [], object.__new__(peers.Peer)
    peer._small, peer._large = stub("small"), stub("large")
    for value in ("1", "1" * 32_000, "1"):
        entries = (protocol.Entry(1, "a", value),)
        peer.ask(protocol.AppendEntriesRequest(1, 0, 0, 0, entries, 0)).close()
    assert used == ["small", "large", "small"]


# The disk


class SlowDisk:
    """Saves when the test lets it."""

    def __init__(self):
        self.saved = []
        self.may_save = threading.Semaphore(0)

    def save(self, unsaved):
        assert self.may_save.acquire(timeout=10)
        self.saved.append(unsaved)


@pytest.fixture
def disk():
    return SlowDisk()


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def vote(term, candidate=1):
    return protocol.RequestVoteRequest(term, candidate, 0, 0)


def test_a_vote_leaves_when_it_is_on_disk_and_not_before(play, disk, executor):
    async def scene(node):
        reply = asyncio.create_task(node.answer(node.raft.request_vote, vote(1)))
        await asyncio.sleep(0.01)
        assert not reply.done()
        assert node.said == []
        disk.may_save.release()
        assert await reply == (1, True)
        assert disk.saved[0][:2] == (1, 1)
        assert [view.voted_for for view in node.said] == [1]

    play(scene, leads=False, save=disk.save, executor=executor)


def test_what_comes_while_a_save_is_under_way_waits_for_the_next_one(play, disk, executor):
    async def scene(node):
        first = asyncio.create_task(node.answer(node.raft.request_vote, vote(1)))
        await asyncio.sleep(0)
        second = asyncio.create_task(node.answer(node.raft.request_vote, vote(2)))
        again = asyncio.create_task(node.answer(node.raft.request_vote, vote(2, candidate=2)))
        await asyncio.sleep(0)
        disk.may_save.release()
        assert await first == (1, True)
        await asyncio.sleep(0.01)
        assert not second.done()
        assert not again.done()
        disk.may_save.release()
        assert (await second, await again) == ((2, True), (2, False))
        assert [unsaved.current_term for unsaved in disk.saved] == [1, 2]

    play(scene, leads=False, save=disk.save, executor=executor)


def test_a_reply_that_changes_nothing_waits_for_the_save_that_it_relies_on(play, disk, executor):
    async def scene(node):
        entry = protocol.Entry(1, "a", "1")
        request = protocol.AppendEntriesRequest(1, 1, 0, 0, (entry,), 0)
        tasks = [
            asyncio.create_task(node.answer(node.raft.append_entries, request)) for _ in range(2)
        ]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        disk.may_save.release()
        assert await asyncio.gather(*tasks) == [(1, True, 0)] * 2
        assert len(disk.saved) == 1

    play(scene, leads=False, save=disk.save, executor=executor)


def test_calls_for_votes_leave_when_the_own_vote_is_on_disk(play, disk, executor):
    async def scene(node):
        node.step(node.raft.tick, node.raft.deadline)
        await asyncio.sleep(0.01)
        assert node.peers[1].asked == []
        disk.may_save.release()
        await until(lambda: node.peers[1].asked)
        assert isinstance(node.peers[1].asked[0], protocol.RequestVoteRequest)

    play(scene, leads=False, save=disk.save, executor=executor)


def test_a_leader_with_a_slow_disk_sends_heartbeats_and_entries_and_commits_later(
    play, disk, executor
):
    async def scene(node):
        disk.may_save.release()
        node.step(node.raft.tick, node.raft.deadline)
        await until(lambda: node.peers[1].asked)
        node.vote()
        node.hear_all()
        assert node.raft.commit_index == 0
        written = node.write("a")
        await until(lambda: node.sent == ["a"])
        asked = len(node.peers[2].asked)
        for _ in range(3):
            node.step(node.raft.tick, node.raft.deadline)
        await until(lambda: len(node.peers[2].asked) == asked + 3)
        node.hear_all()
        await asyncio.sleep(0.01)
        assert not written[0].done()
        disk.may_save.release(5)
        assert await written[0] == (2, 1)

    play(scene, leads=False, save=disk.save, executor=executor)


def test_a_save_that_fails_ends_the_process_before_anything_is_answered(play, executor):
    def fail(unsaved):
        raise OSError("no space left")

    async def scene(node):
        ended = node.loop.create_future()

        def end(error):
            ended.set_result(str(error))
            raise SystemExit

        node._fail = end
        reply = asyncio.create_task(node.answer(node.raft.request_vote, vote(1)))
        with pytest.raises(SystemExit):
            await asyncio.wait_for(ended, 10)
        assert await ended == "no space left"
        assert not reply.done()

    with pytest.raises(SystemExit):
        play(scene, leads=False, save=fail, executor=executor)


# --- Watchers ---


def test_a_watcher_is_told_each_state_and_message_between_two_reports():
    async def scene():
        node = Driven()
        watcher = watching.Watcher(node)
        node.watchers = (watcher,)
        watcher.report()
        node.lead()
        node.suspend(9)
        report = watcher.report()
        roles = [(state.role, state.suspended) for state in report.states]
        assert roles == [
            ("candidate", False),
            ("leader", False),
            ("leader", True),
            ("leader", True),  # of now
        ]
        asked = [(record.kind, record.to) for record in report.traffic]
        assert asked[:2] == [("RequestVoteRequest", 1), ("RequestVoteRequest", 2)]
        assert not any(record.received for record in report.traffic)
        again = watcher.report()
        assert len(again.states) == 1 and not again.traffic

    asyncio.run(scene())


def test_a_watcher_that_does_not_read_costs_bounded_memory():
    async def scene():
        node = Driven()
        watcher = watching.Watcher(node)
        node.watchers = (watcher,)
        request = protocol.AppendEntriesRequest(1, 1, 0, 0, (), 0)
        for _ in range(watching.MAX_RECORDS + 10):
            await node.answer(node.raft.append_entries, request)
        assert len(watcher.report().traffic) == watching.MAX_RECORDS

    asyncio.run(scene())
