"""Lab 6, what drives the core: clients' commands, suspension, and what becomes of both."""

import asyncio
from types import SimpleNamespace

from tests.lab06.driven import core, protocol, until, waiting
from tests.support.harness import ROOT, load

peers = load(ROOT / "lab06_raft/peers.py")


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
        node.acknowledge_all()
        assert node.raft.values == dict.fromkeys("abcd", "1")

    play(scene)


def test_a_command_is_answered_with_its_place_once_it_is_committed(play):
    async def scene(node):
        (first,) = node.write("a")
        await until(lambda: node.sent == ["a"])
        node.acknowledge_all()
        assert await first == (2, 1)

    play(scene)


def test_a_command_that_another_leader_has_replaced_is_lost(play):
    async def scene(node):
        lost = node.write(*"abc")
        await until(lambda: node.keys == list("abc"))
        node.depose()
        assert node.raft.commit_index == 2
        assert await asyncio.gather(*lost) == [None] * 3

    play(scene)


def test_a_leader_takes_commands_although_some_of_an_earlier_term_were_lost(play):
    async def scene(node):
        node.write(*"abcdef")
        await until(lambda: node.keys == list("abcdef"))
        node.depose()
        assert node.keys == []
        node.lead()
        (again,) = node.write("again")
        await until(lambda: node.sent == ["again"])
        node.acknowledge_all()
        assert await again

    play(scene)


def test_all_commands_that_waited_for_a_majority_are_answered_though_the_log_is_compacted(play):
    async def scene(node):
        waited = node.write(*map(str, range(50)))
        await until(lambda: len(node.keys) == 50)
        node.acknowledge_all()
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
        node.acknowledge_first()
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
        node.acknowledge_first()
        node.write("d")
        await until(lambda: node.sent == list("abcd"))
        node.acknowledge_all()  # the clients of b, c and d are answered
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
        node.acknowledge_first()
        await until(lambda: node.sent == list("abcd"))

    play(scene)


def test_a_client_that_does_not_come_back_is_not_waited_for(play):
    async def scene(node):
        node.write("a")
        await until(lambda: node.sent == ["a"])
        (second,) = node.write("b")
        await until(lambda: node.keys == ["a", "b"])
        node.acknowledge_first()
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
            node.acknowledge_all()

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


def test_the_election_timer_begins_anew_after_a_suspension(play):
    async def scene(node):
        begun = node.loop.time()
        assert node.raft.deadline < begun
        node.suspend(0)
        await until(lambda: not node.suspended)
        assert node.raft.deadline >= begun + node.raft.timeout

    play(scene, leads=False)


def test_large_messages_have_a_connection_of_their_own():
    def stub(name):
        return SimpleNamespace(AppendEntries=lambda message, timeout: used.append(name))

    used, peer = [], object.__new__(peers.Peer)
    peer._small, peer._large = stub("small"), stub("large")
    for value in ("1", "1" * 32_000, "1"):
        entries = (protocol.Entry(1, "a", value),)
        peer.ask(protocol.AppendEntriesRequest(1, 0, 0, 0, entries, 0)).close()
    assert used == ["small", "large", "small"]
