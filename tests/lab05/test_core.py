"""Lab 5, what needs no node: arcs, finger tables, routing, replica sets; and a store of records."""

import itertools
import math
import random
import zlib

import pytest

from tests.lab05.example import EXAMPLE, FINGERS
from tests.lab05.parts import (
    KEY,
    chord,
    ids,
    messages,
    store,
    view_of,
)


@pytest.mark.parametrize("after", range(8))
@pytest.mark.parametrize("upto", range(8))
def test_an_arc_holds_what_one_passes_walking_from_its_beginning_to_its_end(after, upto):
    walked, here = set(), after
    while True:
        here = (here + 1) % 8
        walked.add(here)
        if here == upto:
            break
    assert {k for k in range(8) if chord.between(k, after, upto)} == walked


@pytest.mark.parametrize("key, id", [("Kazan", 22), ("Moscow", 25), ("Minsk", 3), ("", 1)])
def test_the_id_of_a_key_is_its_adler32_checksum_modulo_the_ring(key, id):
    assert chord.key_id(key, 5) == id == zlib.adler32(key.encode()) % 32


@pytest.mark.parametrize("id, fingers", FINGERS.items())
def test_the_finger_tables_of_the_assignment(id, fingers):
    assert ids(view_of(EXAMPLE).fingers(id)) == fingers


@pytest.mark.parametrize(
    "key, holders", [("Kazan", [24, 25, 26]), ("Moscow", [25, 26, 31]), ("Minsk", [16, 24, 25])]
)
def test_a_key_lives_with_its_owner_and_the_next_two(key, holders):
    assert ids(view_of(EXAMPLE).replica_set(chord.key_id(key, 5))) == holders


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 31, 32])
def test_what_a_node_holds_is_what_lists_it_as_a_holder(count):
    view = view_of(random.Random(count).sample(range(32), count))
    for id in view.ids:
        arc = {k for k in range(32) if chord.between(k, view.held_after(id), id)}
        assert arc == {k for k in range(32) if id in ids(view.replica_set(k))}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 31, 32])
def test_a_change_affects_only_nodes_with_another_predecessor_or_replica(count):
    before = view_of(random.Random(count).sample(range(32), count))
    gone = before.members[0]
    after = view_of([id for id in before.ids if id != gone.id], epoch=2)
    order = before.ids
    at = order.index(gone.id)
    near = {order[(at + step) % count] for step in (-2, -1, 1)} - {gone.id}
    assert after.affected(before) <= near
    assert before.affected(after) == near | {gone.id}


def hops(view, start, k, avoid=()):
    """Return the nodes that k passes on its way from `start` to its owner, without `start`."""
    way, here = [], start
    while (node := chord.next_hop(view, here, k, avoid)).id != here:
        way.append(node.id)
        here = node.id
    return way


@pytest.mark.parametrize("count", [1, 2, 3, 6, 16, 31, 32])
def test_every_key_is_found_from_every_node_in_less_than_m_hops(count):
    view = view_of(random.Random(count).sample(range(32), count))
    for start in view.ids:
        for k in range(32):
            way = hops(view, start, k)
            assert [start, *way][-1] == view.successor(k).id
            assert len(way) <= 5


def test_ten_thousand_nodes_are_searched_in_half_of_log2_n_hops():
    """Chord, Theorem 2 and §6.3: O(log n) hops, on average half of log2 n."""
    chance = random.Random(5)
    m, count = 32, 10_000
    view = view_of(chance.sample(range(2**m), count), m)
    counts = []
    for _ in range(3000):
        k = chance.randrange(2**m)
        way = hops(view, chance.choice(view.ids), k)
        counts.append(len(way))
    assert abs(sum(counts) / len(counts) - math.log2(count) / 2) < 1
    assert max(counts) < m


@pytest.mark.parametrize("dead", list(itertools.combinations(EXAMPLE, 2)))
def test_any_two_dead_nodes_are_gone_around(dead):
    """The living owner is found although its predecessors are dead (Chord §5.2)."""
    view = view_of(EXAMPLE)
    for k in range(32):
        owner = view.successor(k).id
        for start in set(view.ids) - set(dead):
            if owner in dead:
                assert_not_found(view, start, k, dead)
            else:
                assert [start, *hops(view, start, k, dead)][-1] == owner
                assert not set(hops(view, start, k, dead)) & set(dead)


def test_a_node_whose_only_finger_is_dead_goes_on_by_its_successor_list():
    view = view_of([2, 25, 8, 1, 5, 31, 26, 30])
    assert ids(view.fingers(8)) == [25] and 2 not in ids(view.successor_list(8))
    assert hops(view, 8, 2, avoid=(25,))[-1] == 2


def assert_not_found(view, here, k, dead):
    while (node := chord.next_hop(view, here, k, dead)) is not None:
        assert node.id not in dead
        here = node.id


def test_fingers_come_before_the_successor_list():
    view = view_of(random.Random(1).sample(range(2**8), 40), m=8)
    start = view.ids[0]
    owner = view.successor_list(start)[5]
    assert chord.next_hop(view, start, owner.id) != owner
    assert len(view.successor_list(start)) == 8


# --- a store ---


def store_of(*keys):
    it = store.Store(7)
    it.m = 5
    for version, key in enumerate(keys, 1):
        it.put(messages.Record(key, version, "x"))
    return it


def listed(it, known):
    """Ask a store for all that a listing does not know yet; return how many pages that took."""
    pages, more = 0, True
    while more:
        page = it.digest(known.after, known.upto, known.generation, known.since)
        known.add(page)
        more, pages = page.more, pages + 1
    return pages


def test_a_store_keeps_the_newer_of_two_records():
    it = store_of("Kazan", "Minsk")
    it.put(messages.Record("Minsk", 1, "older"))
    it.put(messages.Record("Minsk", 2, "as old"))
    assert it.records["Minsk"].text == "x" and it.count == 2


def test_a_listing_brings_first_all_and_then_what_changed(monkeypatch):
    monkeypatch.setattr(store, "PAGE", 3)
    it = store_of(*map(str, range(8)))
    known = store.RemoteVersions(0, 0)
    assert listed(it, known) == 3
    assert known.versions == {str(n): n + 1 for n in range(8)}
    it.put(messages.Record("2", 90, "newer"))
    page = it.digest(0, 0, known.generation, known.since)
    assert (page.keys, page.versions, page.more) == (("2",), (90,), False)


def test_a_change_between_two_pages_is_not_missed(monkeypatch):
    monkeypatch.setattr(store, "PAGE", 2)
    it, known = store_of("a", "b", "c", "d"), store.RemoteVersions(0, 0)
    known.add(it.digest(0, 0, 0, 0))
    it.put(messages.Record("a", 90, "newer"))
    it.put(messages.Record("e", 91, "new"))
    listed(it, known)
    assert known.versions == {"a": 90, "b": 2, "c": 3, "d": 4, "e": 91}


@pytest.mark.parametrize(
    "change",
    [lambda it: it.drop(["Minsk"]), lambda it: it.rejoin(1000, store.Store(0))],
    ids=["drop", "rejoin"],
)
def test_what_a_store_no_longer_has_is_in_no_listing(change):
    it, known = store_of("Kazan", "Minsk"), store.RemoteVersions(0, 0)
    listed(it, known)
    change(it)
    listed(it, known)
    assert known.versions.keys() == it.records.keys()


def test_the_listing_of_another_store_is_forgotten():
    known = store.RemoteVersions(0, 0)
    listed(store_of("Kazan", "Minsk"), known)
    other = store.Store(8)
    other.m = 5
    listed(other, known)
    assert known.versions == {}


@pytest.mark.parametrize("after, upto", [(2, 16), (24, 3), (5, 5), (25, 25)])
def test_a_listing_is_of_one_arc(after, upto):
    keys = [str(n) for n in range(50)]
    it, known = store_of(*keys), store.RemoteVersions(after, upto)
    whole = store.RemoteVersions(upto, upto)
    listed(it, known)
    listed(it, whole)
    on_arc = {key for key in keys if chord.between(chord.key_id(key, 5), after, upto)}
    assert known.versions.keys() == on_arc == it.on(after, upto).keys()
    assert whole.on(after, upto, 5) == known.versions


def test_a_listing_covers_the_parts_of_its_arc():
    known = store.RemoteVersions(24, 3)
    covered = [after for after in range(32) if known.covers(after, 3, 5)]
    assert covered == [0, 1, 2, *range(24, 32)]
    assert not known.covers(24, 2, 5)
    assert all(store.RemoteVersions(3, 3).covers(after, 3, 5) for after in range(32))


def test_a_tombstone_is_dropped_at_the_second_sweep():
    it = store.Store(7)
    it.put(messages.Record(KEY, 1, None))
    for time, kept in ((1.0, True), (1.5, True), (2.0, False)):
        it.sweep_tombstones(time * (store.TOMBSTONE_TIMEOUT + 1))
        assert (KEY in it.records) == kept


@pytest.mark.parametrize("absence, kept", [(1.0, True), (store.TOMBSTONE_TIMEOUT + 1, False)])
def test_a_node_that_comes_back_brings_records_that_are_older_than_any_other(absence, kept):
    it = store.Store(7)
    for key in (KEY, "Kazan"):
        it.put(messages.Record(key, 2**40, "old"))
    copied = store.Store(0)
    copied.put(messages.Record(KEY, 1, "new"))
    it.rejoin(absence, copied)
    assert it.records[KEY].text == "new" and ("Kazan" in it.records) == kept
    it.put(messages.Record("Kazan", 1, "new"))
    assert it.records["Kazan"].text == "new"


@pytest.mark.parametrize("size", [1, 100_000, 400_000, 3_000_000])
def test_records_travel_in_messages_of_bounded_size(size):
    sent = [messages.Record(str(i), 1, "x" * size) for i in range(7)]
    batches = list(store.batches(sent))
    assert [record for batch in batches for record in batch] == sent
    for batch in batches:
        assert len(batch) == 1 or sum(len(r.text) for r in batch) <= store.BATCH_BYTES


def test_request_ids_are_kept_until_their_node_has_ended_them():
    of_two = [messages.RequestId(2, *it) for it in ((7, 7), (8, 7), (9, 8))]
    other = messages.RequestId(16, 1, 1)
    kept = ()
    for request in (*of_two[:2], other, of_two[2]):
        kept = store.remember(kept, request)
    assert kept == (of_two[1], other, of_two[2])  # 7 has ended
    assert store.is_over(kept, of_two[0]) and not store.is_over(kept, of_two[1])
