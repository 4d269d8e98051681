"""Lab 5, the rules alone: arcs, finger tables, routing, replica sets, and the registry's book."""

import asyncio
import itertools
import math
import random
import zlib

import pytest

from tests.lab05_parts import (
    EXAMPLE,
    FakeHost,
    ScriptedHost,
    ask,
    chord,
    ids,
    member,
    membership,
    messages,
    node_in,
    refused,
    store,
    unreachable,
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


@pytest.mark.parametrize(
    "id, fingers",
    [
        (2, [16, 24]),
        (16, [24, 2]),
        (24, [25, 26, 31, 2, 16]),
        (25, [26, 31, 2, 16]),
        (26, [31, 2, 16]),
        (31, [2, 16]),
    ],
)
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


# --- the registry's book ---


@pytest.fixture
def book():
    host = FakeHost()
    host.book = membership.Membership(host, 5)
    return host.book


def admit(book, port, wish=None):
    return asyncio.run(book.register(messages.Registration("host", port, wish)))


def pass_time(book, seconds):
    dropped = []
    for _ in range(round(seconds / 0.1)):
        book.host.time += 0.1
        dropped += book.tick()
    return [node.id for node in dropped]


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
    pass_time(book, 2.5)
    ask(book, 24)
    assert pass_time(book, 1) == [26]
    assert ids(book.view.members) == [24]


def test_a_registry_that_slept_itself_drops_no_node(book):
    admit(book, 1)
    book.host.time += 100
    assert book.tick() == []


def test_a_node_from_the_address_of_another_has_outlived_it(book):
    admit(book, 1)
    admit(book, 2)
    reply = admit(book, 1)
    assert [node.address for node in reply.view.members] == ["host:2", "host:1"]


def test_a_restarted_registry_takes_the_newest_view_that_it_is_offered(book):
    newest = view_of(EXAMPLE, epoch=9)
    assert book.restore(view_of(EXAMPLE[:5], epoch=8)).success
    assert book.restore(newest).success
    assert book.restore(view_of(EXAMPLE[:4], epoch=7)).success
    for id in EXAMPLE:
        ask(book, id)
    pass_time(book, 1.5)
    assert book.view.members == newest.members and book.view.epoch >= membership.LIFE
    assert not book.restore(chord.View(10**8, 6)).success  # of a ring of another size


def test_a_restarted_registry_changes_nothing_until_all_nodes_have_told_what_they_know(book):
    book.restore(view_of(EXAMPLE, epoch=9))
    for id in EXAMPLE[:5]:
        ask(book, id)
    behind = messages.Heartbeat(25, "host:25", epoch=10)  # it knows a newer view: not yet told
    assert book.populate_finger_table(behind).epoch == -1  # which gives no leave
    pass_time(book, 1.5)
    assert not book.deregister(messages.Departure(24)).success
    assert not book.open
    book.restore(view_of(EXAMPLE[1:], epoch=10))
    ask(book, 25)
    book.tick()
    assert book.open and ids(book.view.members) == EXAMPLE[1:]
    assert not book.all_in_sync()  # no node is admitted until all know the new life's epoch
    for id in EXAMPLE[1:]:
        ask(book, id)
    assert book.all_in_sync()


def test_registries_that_follow_the_same_one_use_different_epochs():
    lives = []
    for port in (7, 8):
        host = FakeHost()
        host.draw_identity = lambda life=port: random.Random(life).getrandbits(62)
        book = host.book = membership.Membership(host, 5)
        book.restore(view_of(EXAMPLE, epoch=9, ring=3))
        for id in EXAMPLE:
            ask(book, id)
        pass_time(book, 1.5)
        assert book.view.ring == 3
        lives.append({book.view.epoch, admit(book, port).view.epoch})
    assert len(lives[0] | lives[1]) == 4


def test_a_registry_that_learns_of_an_older_ring_goes_on_as_that_ring(book):
    newcomer = admit(book, 7)
    pass_time(book, 1.5)
    assert book.restore(view_of([2, 16], epoch=9, ring=3)).success
    assert (book.view.ring, ids(book.view.members)) == (3, [2, 16, 24])
    node = node_in(newcomer.view, 24)
    node.place.address = "host:7"
    question = messages.Heartbeat(24, "host:7", newcomer.view.epoch, 0, newcomer.view.ring)
    node.host.answers = {
        "populate_finger_table": lambda address: book.populate_finger_table(question)
    }
    asyncio.run(node.heartbeat())
    assert node.place.view == book.view


def test_a_registry_sends_its_view_to_a_node_of_another_ring_in_the_same_epoch(book):
    admit(book, 1)
    question = messages.Heartbeat(24, "host:1", book.view.epoch, 0, book.view.ring + 1)
    assert book.populate_finger_table(question).view == book.view


def test_a_restarted_registry_waits_no_longer_for_a_node_than_for_any_other(book):
    book.restore(view_of(EXAMPLE, epoch=9))
    dropped = []
    for _ in range(7):
        for id in EXAMPLE[:5]:
            if id in book.view.by_id:
                ask(book, id)
        dropped += pass_time(book, 0.5)
    assert book.open and dropped == [25]


def test_only_the_node_itself_is_a_sign_of_its_life(book):
    admit(book, 1)
    for _ in range(8):
        pass_time(book, 0.5)
        answer = book.populate_finger_table(messages.Heartbeat(24))
    assert not answer.known


@pytest.mark.parametrize("size", [1, 100_000, 400_000, 3_000_000])
def test_records_travel_in_messages_of_bounded_size(size):
    sent = [messages.Record(str(i), 1, "x" * size) for i in range(7)]
    batches = list(store.batches(sent))
    assert [record for batch in batches for record in batch] == sent
    for batch in batches:
        assert len(batch) == 1 or sum(len(r.text) for r in batch) <= store.BATCH_BYTES


# --- a node's place ---


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
    node.learn(STRANGE)
    node.learn(chord.View())  # of a node that has not joined yet
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

    def confirm(address):
        asked.append(address)
        if address in ("host:16", "host:25"):
            raise messages.Refused
        return messages.Ack(True)

    node.host.answers = {"grant_lease": confirm}
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


def test_request_ids_are_kept_until_their_node_has_ended_them():
    of_two = [messages.RequestId(2, 1, *it) for it in ((7, 7), (8, 7), (9, 8))]
    other = messages.RequestId(16, 3, 1, 1)
    kept = ()
    for request in (*of_two[:2], other, of_two[2]):
        kept = store.remember(kept, request)
    assert kept == (of_two[1], other, of_two[2])  # 7 has ended
    assert store.is_over(kept, of_two[0]) and not store.is_over(kept, of_two[1])


# --- a node's records ---


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
    "change", [lambda it: it.drop(["Minsk"]), lambda it: it.rejoin(5, 1000)], ids=["drop", "rejoin"]
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


def test_a_newcomer_is_told_its_id_and_keeps_it(book):
    host = book.host
    told = asyncio.run(book.register(messages.Registration("host", 1, prepare=True)))
    assert told.id == 24 and not book.view.members
    other = asyncio.run(book.register(messages.Registration("host", 2, prepare=True)))
    assert other.id == 26
    assert admit(book, 3, wish=24).id not in (24, 26)
    assert admit(book, 2, wish=26).id == 26 and admit(book, 1, wish=24).id == 24
    assert not book.reserved and host.time < 60


def test_the_id_of_a_newcomer_that_died_is_free_again(book):
    for port in range(1, 33):
        asyncio.run(book.register(messages.Registration("host", port, prepare=True)))
    assert admit(book, 33).id == -1
    book.host.limit = book.host.time = membership.RESERVATION_TIMEOUT + 5
    book.host.limit += 60
    assert admit(book, 33).id >= 0
