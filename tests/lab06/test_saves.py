"""Lab 6, what drives the core, and the disk: nothing leaves before it is saved."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab06.driven import protocol, until


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
        node.acknowledge_all()
        assert node.raft.commit_index == 0
        written = node.write("a")
        await until(lambda: node.sent == ["a"])
        asked = len(node.peers[2].asked)
        for _ in range(3):
            node.step(node.raft.tick, node.raft.deadline)
        await until(lambda: len(node.peers[2].asked) == asked + 3)
        node.acknowledge_all()
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
