"""Lab 5, the registry's book: which nodes are in the ring."""

import asyncio

import pytest

from tests.lab05.example import EXAMPLE
from tests.lab05.parts import (
    admit,
    advance,
    ask,
    ids,
    membership,
    messages,
)


def test_ids_are_drawn_as_the_assignment_has_them(book):
    assert [admit(book, port).id for port in range(1, 7)] == EXAMPLE


def test_a_full_ring_admits_no_node(book):
    assert sorted(admit(book, port).id for port in range(1, 33)) == list(range(32))
    reply = admit(book, 33)
    assert reply.id == -1 and "full" in reply.reason


def test_a_newcomer_waits_until_all_nodes_that_the_last_one_affected_are_in_sync(book):
    admit(book, 1)
    book.host.nodes_sync = False
    assert not book.all_in_sync()
    book.tick = lambda: None  # or else the silence of the first would let the second in
    assert admit(book, 2).id == -1  # it gave up
    ask(book, 24)
    assert admit(book, 2).id == 26


def test_silence_of_three_seconds_is_death(book):
    admit(book, 1)
    admit(book, 2)
    assert advance(book, 2.9, heard=[24]) == []
    assert advance(book, 0.2, heard=[24]) == [26]
    assert ids(book.view.members) == [24]


def test_a_node_that_hangs_while_the_ring_grows_is_not_taken_for_the_only_one(book):
    """It was that once, and the registry has not yet seen all nodes in sync since."""
    admit(book, 1)
    ask(book, 24)
    book.tick = lambda: []  # the others join sooner than the registry looks
    for port in (2, 3, 4):
        admit(book, port)
    del book.tick
    for id in (26, 2):
        ask(book, id)
    assert advance(book, 4, heard=[26, 2, 16]) == [24]


@pytest.mark.parametrize("knows, dropped", [(False, []), (True, [2, 24, 26])])
def test_an_owner_and_its_replicas_are_those_of_the_view_that_it_may_be_in(book, knows, dropped):
    """25 has come between 24 and its replicas, 26 and 2; then all three are silent."""
    for port in (1, 2, 3, 4):
        admit(book, port)
    advance(book, 0.1, heard=[24, 26, 2, 16])
    admit(book, 6, wish=25)
    if knows:
        ask(book, 24)
    assert sorted(advance(book, 20, heard=[16, 25])) == dropped


# --- lines that are cut (ring: 2 16 24 25 26 31) ---


@pytest.fixture
def ring(book):
    for port in range(1, 7):
        admit(book, port)
    advance(book, 0.1, heard=EXAMPLE)
    return book


@pytest.mark.parametrize(
    "silent, dropped",
    [
        ([24, 25], [24, 25]),
        ([24, 25, 26], []),  # two of them may give leases to the third
        ([24, 25, 31], [24, 25, 31]),
        ([2, 16, 31], []),
        ([2, 24, 25, 26], [2]),
        (EXAMPLE, []),
    ],
)
def test_silent_nodes_are_dropped_if_another_one_of_each_replica_set_is_heard(
    ring, silent, dropped
):
    heard = [id for id in EXAMPLE if id not in silent]
    assert sorted(advance(ring, 20, heard)) == dropped


def test_nodes_that_fall_silent_one_after_the_other_are_as_those_that_do_so_at_once(ring):
    """A cut takes effect with the next heartbeat of each."""
    rest = EXAMPLE[:]
    while rest:
        rest.pop()
        assert advance(ring, 1.0 / len(EXAMPLE), rest) == []
    assert advance(ring, 20) == []


def drop_two_and_lose_a_third(ring):
    """Drop 24 and 25 while 26 lives but hears of nothing, then hear 26 no longer."""
    heard = [2, 16, 31]
    advance(ring, 2, heard=[26, *heard])
    old = ring.view.epoch
    for _ in range(13):
        ask(ring, 26, old)
        advance(ring, 0.1, heard)
    assert ids(ring.view.members) == [26, *heard]
    return heard


def test_dropped_nodes_count_as_silent_until_all_know_a_view_without_them(ring):
    heard = drop_two_and_lose_a_third(ring)
    assert advance(ring, 20, heard) == []


def test_dropped_nodes_that_answer_have_heard_so(ring):
    heard = drop_two_and_lose_a_third(ring)
    ring.host.reached = {"host:1": True, "host:6": True}
    assert advance(ring, 20, heard) == [26]


def test_a_silent_member_that_answers_is_not_dropped(ring):
    ring.host.reached = dict.fromkeys((node.address for node in ring.view.members), True)
    assert advance(ring, 20) == []


def test_dropped_nodes_are_forgotten_when_all_know_a_view_without_them(ring):
    assert advance(ring, 4, heard=[26, 2, 16, 31]) == [24, 25]
    assert advance(ring, 4, heard=[2, 16, 31]) == [26]


def test_nodes_without_a_process_are_dropped_when_the_leases_that_they_gave_have_run_out(ring):
    ring.host.reached = dict.fromkeys((node.address for node in ring.view.members), False)
    assert advance(ring, messages.LEASE_TIMEOUT + membership.LATE_TIMEOUT - 0.2) == []
    assert sorted(advance(ring, 0.3)) == sorted(EXAMPLE)
    assert admit(ring, 9).id >= 0


def test_a_newcomer_waits_for_nodes_that_may_serve_and_is_told_so(ring):
    ring.host.nodes_sync = False
    advance(ring, 2)
    ring.host.limit = 100
    reply = admit(ring, 9)
    assert reply.id == -1
    assert "nodes that do not answer: 2 at host:3, 16 at host:4" in reply.reason
    advance(ring, 0.1, heard=EXAMPLE)
    assert admit(ring, 9).id >= 0


def test_a_newcomer_takes_the_place_of_a_node_that_does_not_answer_at_the_same_address(ring):
    assert advance(ring, 10, heard=[2, 16, 31]) == []
    ring.host.silent = {24, 25, 26}
    assert admit(ring, 1).id >= 0
    assert "host:1" in {node.address for node in ring.view.members}


def test_a_line_that_is_mended_brings_back_all_nodes(ring):
    assert advance(ring, 10) == []
    assert advance(ring, 0.5, heard=[24]) == []
    assert advance(ring, 0.5, heard=[24, 26, 2]) == []
    assert advance(ring, 10, heard=EXAMPLE) == []


def test_a_registry_that_slept_itself_drops_no_node(book):
    admit(book, 1)
    book.host.time += 100
    assert book.tick() == []


def test_a_node_from_the_address_of_another_has_outlived_it(book):
    admit(book, 1)
    admit(book, 2)
    reply = admit(book, 1)
    assert [node.address for node in reply.view.members] == ["host:2", "host:1"]


def test_only_the_node_itself_is_a_sign_of_its_life(book):
    admit(book, 1)
    for _ in range(8):
        advance(book, 0.5)
        answer = book.populate_finger_table(messages.Heartbeat(24))
    assert answer.known
    book.host.reached["host:1"] = False
    advance(book, 3)
    assert not book.populate_finger_table(messages.Heartbeat(24)).known


def test_a_newcomer_is_told_its_id_and_keeps_it(book):
    host = book.host
    told = asyncio.run(book.register(messages.Registration("host", 1, prepare=True)))
    assert told.id == 24 and not book.view.members
    other = asyncio.run(book.register(messages.Registration("host", 2, prepare=True)))
    assert other.id == 26
    assert admit(book, 3, wish=24).id not in (24, 26)
    assert admit(book, 2, wish=26).id == 26 and admit(book, 1, wish=24).id == 24
    assert not book.reserved and host.time < 60


def test_a_newcomer_that_starts_again_has_the_id_that_was_reserved_for_it(book):
    for _ in range(2):
        told = asyncio.run(book.register(messages.Registration("host", 1, prepare=True)))
        assert told.id == 24
    other = asyncio.run(book.register(messages.Registration("host", 1, wish=7, prepare=True)))
    assert other.id == 7
    assert ids(book.joining()) == [7]
    assert admit(book, 2, wish=24).id == 24


def test_the_id_of_a_newcomer_that_died_is_free_again(book):
    for port in range(1, 33):
        asyncio.run(book.register(messages.Registration("host", port, prepare=True)))
    assert admit(book, 33).id == -1
    book.host.limit = book.host.time = membership.RESERVATION_TIMEOUT + 5
    book.host.limit += 60
    assert admit(book, 33).id >= 0
