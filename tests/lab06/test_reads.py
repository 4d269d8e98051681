"""Lab 6, what drives the core: how reads are confirmed, together and with commands."""

import asyncio

from tests.lab06.driven import until


def test_reads_that_come_together_are_confirmed_together_and_later_ones_after_them(play):
    async def scene(node):
        before = node.raft.leadership.round
        first = node.read(5)
        await until(lambda: node.waiting._reads)
        assert node.raft.leadership.round == before + 1
        second = node.read(5)
        await until(lambda: len(node.waiting._new_reads) == 5)
        node.acknowledge_all()
        assert await asyncio.gather(*first) == [True] * 5
        assert not any(task.done() for task in second)
        await until(lambda: node.raft.leadership.round == before + 2)
        node.acknowledge_all()
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
        node.depose()
        assert await asyncio.gather(*lost) == [False] * 2
        node.lead()
        again = node.read(1)
        await until(lambda: node.waiting._reads)
        node.acknowledge_all()
        assert await asyncio.gather(*again) == [True]

    play(scene)


def test_a_read_that_waits_when_the_leadership_ends_is_not_confirmed(play):
    async def scene(node):
        node.read(1)
        await until(lambda: node.waiting._reads)
        waits = node.read(1)
        await until(lambda: node.waiting._new_reads)
        node.depose()
        assert await asyncio.gather(*waits) == [False]

    play(scene)
