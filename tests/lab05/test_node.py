"""Lab 5, a node among others: leaving, lookup, and its dialogue with the registry."""

import asyncio

import pytest

from tests.lab05.example import EXAMPLE
from tests.lab05.parts import (
    FOUR,
    KEY,
    NOW,
    chord,
    messages,
    node_in,
    serving_node,
    unreachable,
    view_of,
)


@pytest.fixture
def node():
    return serving_node()


# --- leaving and lookup ---


def test_a_node_does_not_leave_before_all_that_live_have_its_records(node):
    node.store.put(messages.Record(KEY, 1, "x"))
    digest = {"digest": lambda address: messages.Digest(True)}
    node.host.answers = digest | {"replicate": unreachable}
    assert asyncio.run(node.handoff.hand_over(node.place.view)) is None
    node.host.answers = digest | {"replicate": lambda address: messages.Ack(True)}
    assert asyncio.run(node.handoff.hand_over(view_of(FOUR))) is None  # not the present view
    assert asyncio.run(node.handoff.hand_over(node.place.view)) == 3


def test_a_leaving_node_gives_its_records_away_while_it_still_serves(node):
    node.store.put(messages.Record(KEY, 1, "x"))
    serving = []

    def replicate(address):
        serving.append(node.place.serves(KEY))
        return messages.Ack(True)

    node.host.answers = {
        "digest": lambda address: messages.Digest(True),
        "replicate": replicate,
        "deregister": lambda address: messages.Departed(True, "", view_of([2, 24, 31], epoch=2)),
        "install": lambda address: messages.Ack(True),
    }
    assert asyncio.run(node.leave())
    assert serving[:3] == [True] * 3


def test_an_owner_that_has_answered_is_asked_first_in_the_same_view():
    node = node_in(view_of(EXAMPLE), 16)

    def route(address):
        owner = chord.Node(25, "host:25")
        status = messages.Status.DONE if address == owner.address else messages.Status.NEXT
        return messages.Outcome(status, True, owner)

    node.host.answers = {"route": route}
    for _ in range(2):
        asyncio.run(node.operate(messages.Kind.FIND, "Moscow"))
    node.install(view_of(EXAMPLE, epoch=2))
    asyncio.run(node.operate(messages.Kind.FIND, "Moscow"))
    assert node.host.asked == ["host:24", "host:25", "host:25", "host:24", "host:25"]


def test_a_node_that_did_not_answer_is_not_asked_again_until_it_is_heard():
    node, keys = node_in(view_of(EXAMPLE), 16), {25: "Moscow", 26: "9", 31: "149"}
    assert all(chord.key_id(key, 5) == id for id, key in keys.items())

    def route(address):
        if address == "host:24":
            raise messages.Unreachable
        owner = chord.Node(int(address.split(":")[1]), address)
        return messages.Outcome(messages.Status.DONE, True, owner)

    node.host.answers = {"route": route, "install": lambda address: messages.Ack(True)}
    for id in (25, 26):
        assert asyncio.run(node.operate(messages.Kind.FIND, keys[id])).node.id == id
    assert node.host.asked == ["host:24", "host:25", "host:26"]
    asyncio.run(node.lookup._listen(node.lookup.silent[24]))
    asyncio.run(node.operate(messages.Kind.FIND, keys[31]))
    assert node.host.asked[3:] == ["host:24", "host:24", "host:31"]


def test_a_get_gives_a_long_text_more_time_with_each_attempt():
    node, timeouts = node_in(view_of(EXAMPLE), 16), []
    call = node.host.call

    async def note_timeout(address, method, request, timeout):
        timeouts.append(round(timeout, 3))
        return await call(address, method, request, timeout)

    def sleep(address):
        node.host.time += timeouts[-1]
        raise messages.Unreachable

    async def pause(seconds):
        node.lookup.silent.clear()
        node.host.time += seconds

    node.host.call, node.host.sleep, node.host.answers = note_timeout, pause, {"route": sleep}
    node.lookup.owners.add(25)
    for kind, expected in ((messages.Kind.GET, [2, 4]), (messages.Kind.FIND, [2, 2, 2])):
        timeouts.clear()
        asyncio.run(node.operate(kind, "Moscow"))
        assert [t for t in timeouts if t > 1][: len(expected)] == expected


def test_a_get_that_is_only_told_to_try_again_gives_no_attempt_more_time():
    node, timeouts = node_in(view_of(EXAMPLE), 16), []

    async def answer(address, method, request, timeout):
        timeouts.append(timeout)
        return messages.Outcome(messages.Status.RETRY)

    async def pause(seconds):
        node.host.time += seconds

    node.host.call, node.host.sleep = answer, pause
    node.lookup.owners.add(25)
    assert asyncio.run(node.operate(messages.Kind.GET, "Moscow")) is None
    assert set(timeouts) == {2.0}


# --- the dialogue with the registry ---


def heartbeat(node, **reply):
    fields = {"known": True, "epoch": node.place.view.epoch} | reply
    reply = messages.HeartbeatReply(**fields)
    node.host.answers["populate_finger_table"] = lambda address: reply
    asyncio.run(node.heartbeat())


def test_a_node_sweeps_when_all_are_in_sync_and_not_while_it_leaves(node):
    node.install(view_of([*FOUR, 20, 22], epoch=2))  # it no longer holds "Kazan"
    node.store.put(messages.Record("Kazan", 1, "x"))
    node.place.serve_whole_arc()
    heartbeat(node)
    assert "Kazan" in node.store.records
    node.place.leaving = True
    heartbeat(node, all_in_sync=True)
    assert "Kazan" in node.store.records
    node.place.leaving = False
    heartbeat(node, all_in_sync=True)
    assert "Kazan" not in node.store.records


def test_a_node_does_not_sweep_before_it_is_in_sync_itself(node):
    node.install(view_of([*FOUR, 14, 20, 22], epoch=2))
    node.store.put(messages.Record("Kazan", 1, "x"))
    heartbeat(node, all_in_sync=True)
    assert "Kazan" in node.store.records


@pytest.mark.parametrize("leaving", [False, True])
def test_a_node_that_was_dropped_joins_again_unless_it_leaves(node, leaving):
    node.place.leaving = leaving
    full = messages.Registered(-1, reason="full")
    node.host.answers["register"] = lambda address: full
    heartbeat(node, known=False)
    assert (node.place.served_after is None) == (not leaving)


def test_a_registry_of_another_ring_gives_no_lease(node):
    node.host.answers["register"] = lambda address: messages.Registered(-1, reason="full")
    node.host.time += 1
    heartbeat(node, view=view_of(FOUR, ring=9))
    assert node.place.lease_start == NOW


def test_a_restarted_registry_is_told_the_newest_view(node):
    told = []
    node.host.answers |= {
        "restore": lambda address: told.append(node.host.request),
        "grant_lease": lambda address: messages.Ack(False),
    }
    heartbeat(node, epoch=-1)
    assert told == [view_of(FOUR)] and node.place.registry_lost


def test_a_node_that_joins_takes_no_view_from_others(node):
    node.place.start_joining()
    node.install(view_of(FOUR[1:], epoch=2))
    assert node.place.view == view_of(FOUR)


def test_a_view_of_another_size_is_not_taken(node):
    node.install(view_of(FOUR, m=6, epoch=2))
    assert node.place.view == view_of(FOUR)


def test_a_leaving_node_tells_its_neighbours_of_the_view_without_it(node):
    without = view_of([2, 24, 31], epoch=2)
    installed = []
    node.host.answers = {
        "deregister": lambda address: messages.Departed(True, "", without),
        "install": lambda address: installed.append((address, node.host.request)),
    }
    assert asyncio.run(node.deregister(node.place.view))
    assert installed == [(f"host:{id}", without) for id in (2, 24, 31)]
