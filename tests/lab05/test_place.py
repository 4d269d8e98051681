"""Lab 5, a node's place in the ring: rings, views and leases."""

import asyncio

import pytest

from tests.lab05.example import EXAMPLE
from tests.lab05.parts import (
    FOUR,
    KEY,
    NOW,
    ScriptedHost,
    after,
    chord,
    member,
    membership,
    messages,
    node_in,
    refused,
    serving_node,
    unreachable,
    view_of,
)


@pytest.fixture
def node():
    return serving_node()


STRANGE = view_of([2, 16, 24], epoch=2, ring=9)


@pytest.mark.parametrize(
    "method, request_",
    [
        ("install", STRANGE),
        ("digest", messages.DigestRequest(16, STRANGE, 2, 16)),
        ("fetch", messages.FetchRequest(("Kazan",), ring=9)),
        ("replicate", messages.Copies(16, 1, (messages.Record("Minsk", 2**40, "x"),), ring=9)),
        ("grant_lease", messages.LeaseRequest(1, ring=9)),
        ("route", messages.Operation(messages.Kind.GET, "Kazan", ring=9)),
    ],
)
def test_a_node_refuses_every_message_of_another_ring(method, request_):
    node = node_in(view_of([2, 16, 24]), 16)
    node.store.put(messages.Record("Kazan", 1, "a city"))
    node.place.registry_lost = True
    with pytest.raises(messages.WrongRing):
        result = getattr(node, method)(request_)
        if method == "route":
            asyncio.run(result)
    assert (node.place.view.ring, node.place.granted) == (1, {})
    assert list(node.store.records) == ["Kazan"]


def test_an_answer_of_another_ring_changes_no_view():
    node = node_in(view_of([2, 16, 24]), 16)
    node.adopt_if_same_ring(STRANGE)
    node.adopt_if_same_ring(chord.View())  # of a node that has not joined yet
    assert node.place.view.ring == 1


def test_a_node_that_gave_a_lease_agrees_to_no_newer_view_while_it_runs():
    node = node_in(view_of([2, 16, 24]), 16)
    newer = messages.DigestRequest(16, view_of([16, 24], epoch=2), 16, 24)
    assert not node.grant_lease(messages.LeaseRequest(1, 1)).accepted  # the registry answers
    node.place.registry_lost = True
    assert node.grant_lease(messages.LeaseRequest(1, 1)).accepted
    assert not node.digest(newer).accepted
    node.host.time += messages.LEASE_TIMEOUT
    assert node.digest(newer).accepted
    assert not node.grant_lease(messages.LeaseRequest(1, 1)).accepted  # it knows better now


def test_a_node_that_is_refused_a_lease_learns_that_it_was_dropped(node):
    """Or else it would serve again when the nodes that know better have died."""
    knowing, newer = node_in(view_of([2, 24, 31], epoch=2), 24), view_of([2, 24, 31], epoch=2)
    node.host.answers = {
        "populate_finger_table": unreachable,
        "grant_lease": lambda address: knowing.grant_lease(node.host.request),
    }
    asyncio.run(node.heartbeat())
    assert node.place.view == newer and node.place.served_after is None


def test_a_node_leaves_when_the_leases_that_it_gave_have_run_out(node):
    node.place.registry_lost = True
    node.grant_lease(messages.LeaseRequest(1, 1))
    node.place.registry_lost = False
    left_at = []

    def deregister(address):
        left_at.append(node.host.time)
        return messages.Departed(True, "", view_of([2, 24, 31], epoch=2))

    node.host.answers = {
        "digest": lambda address: messages.Digest(True),
        "deregister": deregister,
        "install": lambda address: messages.Ack(True),
    }
    node.host.book, node.host.limit = membership.Membership(node.host, 5), NOW + 60
    asyncio.run(node.leave())
    assert left_at[0] >= NOW + messages.LEASE_TIMEOUT


def test_a_node_that_was_dropped_gives_no_lease():
    node = node_in(view_of([2, 16, 24]), 16)
    node.place.registry_lost, node.place.served_after = True, None
    assert not node.grant_lease(messages.LeaseRequest(1, 1)).accepted


@pytest.mark.parametrize(
    "registry, others, serves",
    [
        (unreachable, lambda address: messages.Ack(True), True),
        (unreachable, lambda address: messages.Ack(False), False),
        (unreachable, unreachable, False),
        (unreachable, refused, False),  # the registry may have let others in
        (refused, refused, True),
    ],
)
def test_without_a_registry_a_node_serves_if_the_next_owners_agree(registry, others, serves):
    node = node_in(view_of([2, 16, 24]), 16)
    node.host.time = 100.0
    node.host.answers = {"populate_finger_table": registry, "grant_lease": others}
    asyncio.run(node.heartbeat())
    assert node.place.serves("Minsk") == serves  # 3


def test_the_next_two_living_successors_give_the_lease():
    node = node_in(view_of([2, 16, 24, 25, 26, 31]), 2)
    asked = []

    def grant(address):
        asked.append(address)
        if address in ("host:16", "host:25"):
            raise messages.Refused
        return messages.Ack(True)

    node.host.answers = {"grant_lease": grant}
    assert asyncio.run(node.ask_successors()) == 2
    assert asked == ["host:16", "host:24", "host:25", "host:26"]


def test_a_leaving_node_brings_the_next_three_up_to_date():
    node, asked = node_in(view_of(EXAMPLE), 16), []

    def digest(address):
        asked.append(address)
        return messages.Digest(True)

    left = messages.Departed(True, "", view_of([24, 25, 26, 31, 2], epoch=2))
    node.host.answers = {
        "digest": digest,
        "deregister": lambda address: left,
        "install": lambda address: messages.Ack(True),
    }
    asyncio.run(node.leave())
    assert asked == 2 * ["host:24", "host:25", "host:26"]  # before and after it stops serving


@pytest.mark.parametrize("gone", [{24}, {24, 25, 26}, {24, 25, 26, 31}, set(EXAMPLE) - {16}])
def test_a_leaving_node_hands_over_to_the_next_that_live_however_many_are_gone(gone):
    node, got = node_in(view_of(EXAMPLE), 16), []

    def digest(address):
        if int(address.split(":")[1]) in gone:
            raise messages.Refused
        got.append(int(address.split(":")[1]))
        return messages.Digest(True)

    node.host.answers = {"digest": digest}
    living = [id for id in (24, 25, 26, 31, 2) if id not in gone][:3]
    assert asyncio.run(node.handoff.hand_over(node.place.view)) == len(living)
    assert got == living


@pytest.mark.parametrize("old", [2, 16, 26])
def test_a_newcomer_copies_although_the_ring_still_has_an_entry_with_its_address(old):
    node, asked = member.Member(ScriptedHost(), "host", old, "registry"), []

    def digest(address):
        asked.append(address)
        return messages.Digest(True)

    node.host.answers = {"digest": digest}
    place = messages.Registered(16 if old == 16 else 20, 5, view=view_of([2, 16, 24, 26]))
    assert asyncio.run(node.sync.copy(place))
    assert asked == [f"host:{id}" for id in (24, 26, 2) if id != old][:2]


def test_the_first_node_of_a_ring_has_nothing_to_copy():
    node = member.Member(ScriptedHost(), "host", 1, "registry")
    assert asyncio.run(node.sync.copy(messages.Registered(24, 5, view=view_of([]))))


def test_an_owner_takes_no_record_of_what_it_serves_from_a_neighbour_that_leaves():
    node = node_in(view_of([2, 16, 24]), 16)  # serves 3 to 16
    removed = messages.Record("Minsk", messages.VERSIONS_PER_EPOCH, None)  # 3: not acknowledged
    records = removed, messages.Record("Kazan", 1, "x")  # 22
    assert node.replicate(messages.Copies(16, 1, records, 1)).accepted
    assert list(node.store.records) == ["Kazan"]


def test_a_node_that_lost_its_id_to_another_is_no_member():
    node = node_in(view_of([2, 16, 24]), 16)
    others = tuple(chord.Node(id, f"other:{id}") for id in (2, 16, 24))
    node.install(chord.View(2, 5, others, 1))
    assert not node.place.is_member() and not node.place.serves("Minsk")
    assert chord.View(2, 5, others).affected(view_of([2, 16, 24])) == {2, 16, 24}


# --- leases ---


def test_a_lease_runs_from_the_sending_of_the_heartbeat(node):
    node.host.time = NOW + 10
    reply = messages.HeartbeatReply(known=True, epoch=1)
    node.host.answers = {"populate_finger_table": after(node, 0.9, reply)}
    asyncio.run(node.heartbeat())
    assert node.place.lease_start == NOW + 10


def test_a_lease_of_the_successors_runs_from_the_sending_of_the_heartbeat(node):
    node.host.time = NOW + 10
    granted = after(node, 0.2, messages.Ack(True))
    node.host.answers = {"populate_finger_table": unreachable, "grant_lease": granted}
    asyncio.run(node.heartbeat())
    assert node.place.lease_start == NOW + 10


def test_the_lease_of_a_newcomer_runs_from_the_sending_of_its_registration():
    newcomer = member.Member(ScriptedHost(), "host", 24, "registry")
    replies = iter([view_of([]), view_of([24])])

    def register(address):
        newcomer.host.time += 5
        return messages.Registered(24, 5, view=next(replies))

    newcomer.host.answers = {"register": register}
    asyncio.run(newcomer.join())
    assert newcomer.place.lease_start == 5 and newcomer.host.time == 10


def test_a_node_that_is_alone_serves_no_longer_than_a_new_registry_listens(node):
    node.host.time = NOW + 10
    node.host.answers = {"populate_finger_table": refused, "grant_lease": refused}
    asyncio.run(node.heartbeat())
    assert node.place.serves(KEY)
    node.host.time += messages.LISTEN_TIMEOUT
    assert not node.place.serves(KEY)


def test_a_node_agrees_to_no_newer_view_while_a_lease_that_it_gave_runs(node):
    node.host.answers = {"digest": lambda address: messages.Digest(True)}
    node.place.registry_lost = True
    assert node.grant_lease(messages.LeaseRequest(1, 1)).accepted
    node.install(view_of(FOUR[1:], epoch=2))
    newer = messages.DigestRequest(16, node.place.view, 24, 31)
    node.host.time += messages.LEASE_TIMEOUT - 0.01
    assert not asyncio.run(node.sync._agree(node.place.view))
    assert not node.digest(newer).accepted
    node.host.time += 0.02
    assert asyncio.run(node.sync._agree(node.place.view))
    assert node.digest(newer).accepted


# --- views ---


def test_an_older_view_changes_nothing(node):
    node.install(view_of(FOUR[1:], epoch=0))
    assert node.place.view == view_of(FOUR)


def test_a_node_stops_serving_what_a_newer_view_gives_to_another(node):
    key_of = {chord.key_id(str(n), 5): str(n) for n in range(500)}
    node.install(view_of([*FOUR, 9], epoch=2))
    assert [k for k, key in key_of.items() if node.place.serves(key)] == list(range(10, 17))
    node.install(view_of([2, 24, 31], epoch=3))
    assert not any(map(node.place.serves, key_of.values()))


def test_a_node_with_new_replicas_is_not_in_sync(node):
    node.install(view_of([*FOUR, 3], epoch=2))  # another predecessor, and the same replicas
    assert not node.place.in_sync
    node.place.serve_whole_arc()
    node.install(view_of([*FOUR, 3, 27], epoch=3))
    assert not node.place.in_sync
    node.place.serve_whole_arc()
    node.install(view_of([*FOUR, 3, 27, 1], epoch=4))
    assert node.place.in_sync
