"""Lab 5, each rule by which a ring loses nothing, at the moment that the rule is for."""

import asyncio

import pytest

from tests.lab05_parts import (
    EXAMPLE,
    ScriptedHost,
    chord,
    member,
    messages,
    node_in,
    refused,
    store,
    unreachable,
    view_of,
)

IDS = [2, 16, 24, 31]  # 16 owns 3 to 16, and its replicas are 24 and 31
KEY = "Minsk"  # 3, on 16
FIRST = ""  # 1, on 2; and on 16 when 2 is gone
NOW = 100.0  # s


@pytest.fixture
def node():
    """Node 16, which serves and has a lease."""
    node = node_in(view_of(IDS), 16)
    node.host.time = NOW
    node.place.renew_lease(NOW)
    return node


def request(kind, counter=1, key=KEY, text="text"):
    return messages.Operation(kind, key, text, messages.RequestId(2, 1, counter, counter))


SAVE, REMOVE = request(messages.Kind.SAVE), request(messages.Kind.REMOVE)


def execute(node, operation):
    outcome = asyncio.run(node.replication.execute(operation))
    return None if outcome.status == messages.Status.RETRY else outcome.success


def after(node, seconds, value):
    """Return an answer that takes so long."""

    def answer(address):
        node.host.time += seconds
        return value

    return answer


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
    node.install(view_of(IDS[1:], epoch=2))
    newer = messages.DigestRequest(16, node.place.view, 24, 31)
    node.host.time += messages.LEASE_TIMEOUT - 0.01
    assert not asyncio.run(node.sync._agree(node.place.view))
    assert not node.digest(newer).accepted
    node.host.time += 0.02
    assert asyncio.run(node.sync._agree(node.place.view))
    assert node.digest(newer).accepted


# --- views ---


def test_an_older_view_changes_nothing(node):
    node.install(view_of(IDS[1:], epoch=0))
    assert node.place.view == view_of(IDS)


def test_a_node_stops_serving_what_a_newer_view_gives_to_another(node):
    key_of = {chord.key_id(str(n), 5): str(n) for n in range(500)}
    node.install(view_of([*IDS, 9], epoch=2))
    assert [k for k, key in key_of.items() if node.place.serves(key)] == list(range(10, 17))
    node.install(view_of([2, 24, 31], epoch=3))
    assert not any(map(node.place.serves, key_of.values()))


def test_a_node_with_new_replicas_is_not_in_sync(node):
    node.install(view_of([*IDS, 3], epoch=2))  # another predecessor, and the same replicas
    assert not node.place.in_sync
    node.place.serve_whole_arc()
    node.install(view_of([*IDS, 3, 27], epoch=3))
    assert not node.place.in_sync
    node.place.serve_whole_arc()
    node.install(view_of([*IDS, 3, 27, 1], epoch=4))
    assert node.place.in_sync


# --- writes ---


def test_a_write_counts_when_all_replicas_have_it(node):
    node.host.answers = {"replicate": lambda address: messages.Ack(True)}
    assert execute(node, SAVE) is True
    assert node.host.asked == ["host:24", "host:31"]
    record = node.store.records[KEY]
    assert (record.text, record.request_ids) == ("text", (SAVE.request_id,))


def refuse_one(address):
    return messages.Ack(address == "host:24", view_of(IDS))


@pytest.mark.parametrize("answer", [unreachable, refused, refuse_one])
def test_a_write_that_a_replica_has_not_taken_is_uncertain(node, answer):
    node.host.answers = {"replicate": answer}
    assert execute(node, SAVE) is None
    assert KEY not in node.store.records and node.replication.uncertain == {KEY}


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda node: node.install(view_of(IDS, epoch=2)),
        lambda node: setattr(node.place, "leaving", True),
        lambda node: setattr(node.host, "time", NOW + messages.LEASE_TIMEOUT),
    ],
    ids=["another view", "leaving", "no lease"],
)
def test_a_write_does_not_count_when_the_node_may_not_serve_any_more(node, meanwhile):
    def answer(address):
        meanwhile(node)
        return messages.Ack(True)

    node.host.answers = {"replicate": answer}
    assert execute(node, SAVE) is None
    assert KEY not in node.store.records and node.replication.uncertain == {KEY}


def test_no_false_is_said_about_an_uncertain_key(node):
    node.host.answers = {"replicate": unreachable}
    assert execute(node, SAVE) is None
    assert execute(node, request(messages.Kind.REMOVE, counter=2)) is None
    node.host.answers = {"replicate": lambda address: messages.Ack(True)}
    assert execute(node, request(messages.Kind.REMOVE, counter=2)) is False
    assert node.store.records[KEY].text is None and not node.replication.uncertain


def test_a_key_is_written_by_one_request_at_a_time(node):
    def answer(address):
        with pytest.raises(StopIteration) as second:  # it awaits nothing
            node.replication.execute(request(messages.Kind.SAVE, counter=2)).send(None)
        assert second.value.value.status == messages.Status.RETRY
        return messages.Ack(True)

    node.host.answers = {"replicate": answer}
    assert execute(node, SAVE) is True


def test_a_repeated_request_is_done_once(node):
    node.host.answers = {"replicate": lambda address: messages.Ack(True)}
    assert execute(node, SAVE) is True
    record = node.store.records[KEY]
    assert execute(node, SAVE) is True and node.store.records[KEY] == record


def test_a_message_of_a_request_that_has_ended_changes_nothing(node):
    node.host.answers = {"replicate": lambda address: messages.Ack(True)}
    for counter, kind in enumerate((messages.Kind.SAVE, messages.Kind.REMOVE), start=2):
        assert execute(node, request(kind, counter)) is True
    assert execute(node, SAVE) is None
    assert node.store.records[KEY].text is None


def test_a_new_place_begins_without_uncertain_keys(node):
    node.replication.uncertain.add(KEY)
    node.replication.handed_over.add(KEY)
    node.sync.rejoin(5, absence=1.0)
    assert not node.replication.uncertain and not node.replication.handed_over


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_replica_takes_no_copy_of_another_epoch(node, epoch):
    copies = messages.Copies(16, epoch, (messages.Record("Kazan", 1, "x"),), 1)
    assert not node.replicate(copies).accepted and not node.store.records


# --- in sync ---


def stores(node, versions, taken=True):
    """Let replicas have records: {id: {key: version}}; they take what they are given, or not."""

    def digest(address):
        its = versions.get(int(address.split(":")[1]), {})
        return messages.Digest(True, None, tuple(its), tuple(its.values()), 7, len(its))

    def fetch(address):
        its = versions[int(address.split(":")[1])]
        found = [messages.Record(k, its[k], f"of {address}") for k in node.host.request.keys]
        return messages.Copies(0, 2, tuple(found))

    def replicate(address):
        node.host.pushed += [(address, record) for record in node.host.request.records]
        return messages.Ack(taken, node.place.view)

    node.host.pushed = []
    node.host.answers = {"digest": digest, "fetch": fetch, "replicate": replicate}


def agree_without_2(node):
    """Let node 16 become the owner of what was 2's."""
    node.install(view_of(IDS[1:], epoch=2))
    return asyncio.run(node.sync._agree(node.place.view))


def test_of_what_it_serves_a_nodes_own_records_are_right(node):
    node.store.put(messages.Record(KEY, 1, "own"))
    stores(node, {24: {KEY: 9, FIRST: 5}, 31: {KEY: 9, FIRST: 5}})
    assert agree_without_2(node)
    assert node.store.records[KEY].text == "own"
    assert node.store.records[FIRST] == messages.Record(FIRST, 5, "of host:24")
    assert node.place.served_after == 31


@pytest.mark.parametrize(
    "own, theirs",
    [(None, {24: {}, 31: {FIRST: 5}}), (None, {24: {FIRST: 4}, 31: {FIRST: 5}})]
    + [(4, {24: {FIRST: 5}, 31: {FIRST: 5}}), (5, {24: {FIRST: 4}, 31: {}})],
)
def test_a_record_on_which_nodes_disagree_gets_a_new_version(node, own, theirs):
    if own:
        node.store.put(messages.Record(FIRST, own, "own"))
    stores(node, theirs)
    assert agree_without_2(node)
    record = node.store.records[FIRST]
    assert record.version > 2 * messages.VERSIONS_PER_EPOCH
    assert record.text == ("own" if own == 5 else f"of host:{24 if own else 31}")
    assert node.host.pushed == [("host:24", record), ("host:31", record)]


def test_nothing_is_kept_or_served_before_all_replicas_have_it(node):
    stores(node, {24: {}, 31: {FIRST: 5}}, taken=False)
    assert not agree_without_2(node)
    assert FIRST not in node.store.records and node.place.served_after == 2


def test_a_node_serves_nothing_by_a_view_that_has_passed_meanwhile(node):
    stores(node, {24: {}, 31: {FIRST: 5}})
    take = node.host.answers["replicate"]

    def replicate(address):
        node.install(view_of([1, *IDS[1:]], epoch=3))
        return take(address)

    node.host.answers["replicate"] = replicate
    assert not agree_without_2(node)
    assert FIRST not in node.store.records and node.place.served_after == 2


def test_records_are_listed_for_the_newest_view_alone(node):
    node.install(view_of(IDS, epoch=2))
    assert not node.digest(messages.DigestRequest(16, view_of(IDS), 2, 16)).accepted
    assert node.digest(messages.DigestRequest(16, node.place.view, 2, 16)).accepted


def test_a_sweep_drops_what_a_node_does_not_hold_unless_it_is_handed_over():
    node = node_in(view_of(EXAMPLE), 16)  # it holds 27 to 16
    for key in ("Kazan", "Moscow", KEY):  # 22, 25, 3
        node.store.put(messages.Record(key, 1, "x"))
    copies = messages.Copies(16, 1, (messages.Record("Kazan", 2, "y"),), 1)
    assert node.replicate(copies).accepted
    node.sync.sweep()
    assert node.store.records.keys() == {"Kazan", KEY}
    node.install(view_of(EXAMPLE, epoch=2))
    node.sync.sweep()
    assert node.store.records.keys() == {KEY}


# --- records ---


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
    it.rejoin(5, absence, [messages.Record(KEY, 1, "new")])
    assert it.records[KEY].text == "new" and ("Kazan" in it.records) == kept
    it.put(messages.Record("Kazan", 1, "new"))
    assert it.records["Kazan"].text == "new"


# --- leaving and lookup ---


def test_a_node_does_not_leave_before_all_that_live_have_its_records(node):
    node.store.put(messages.Record(KEY, 1, "x"))
    digest = {"digest": lambda address: messages.Digest(True)}
    node.host.answers = digest | {"replicate": unreachable}
    assert asyncio.run(node.handoff.hand_over(node.place.view)) is None
    node.host.answers = digest | {"replicate": lambda address: messages.Ack(True)}
    assert asyncio.run(node.handoff.hand_over(view_of(IDS))) is None  # not the present view
    assert asyncio.run(node.handoff.hand_over(node.place.view)) == 3


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


# --- the dialogue with the registry ---


def heartbeat(node, **reply):
    fields = {"known": True, "epoch": node.place.view.epoch} | reply
    reply = messages.HeartbeatReply(**fields)
    node.host.answers["populate_finger_table"] = lambda address: reply
    asyncio.run(node.heartbeat())


def test_a_node_sweeps_when_all_are_in_sync_and_not_while_it_leaves(node):
    node.install(view_of([*IDS, 20, 22], epoch=2))  # it no longer holds "Kazan"
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
    node.install(view_of([*IDS, 14, 20, 22], epoch=2))
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
    heartbeat(node, view=view_of(IDS, ring=9))
    assert node.place.lease_start == NOW


def test_a_restarted_registry_is_told_the_newest_view(node):
    told = []
    node.host.answers |= {
        "restore": lambda address: told.append(node.host.request),
        "grant_lease": lambda address: messages.Ack(False),
    }
    heartbeat(node, epoch=-1)
    assert told == [view_of(IDS)] and node.place.registry_lost


def test_a_node_that_joins_takes_no_view_from_others(node):
    node.place.start_joining()
    node.install(view_of(IDS[1:], epoch=2))
    assert node.place.view == view_of(IDS)


def test_a_view_of_another_size_is_not_taken(node):
    node.install(view_of(IDS, m=6, epoch=2))
    assert node.place.view == view_of(IDS)


def test_uncertain_keys_are_decided_before_a_node_is_in_sync(node):
    stores(node, {})
    node.replication.uncertain |= {KEY, "Kazan"}  # 3, which is its own; 22, which is another's
    node.host.answers["populate_finger_table"] = unreachable
    node.host.answers["grant_lease"] = unreachable
    asyncio.run(node.sync.run())
    assert node.store.records.keys() == {KEY} and node.store.records[KEY].text is None
    assert not node.replication.uncertain


def test_a_leaving_node_tells_its_neighbours_of_the_view_without_it(node):
    without = view_of([2, 24, 31], epoch=2)
    installed = []
    node.host.answers = {
        "deregister": lambda address: messages.Departed(True, "", without),
        "install": lambda address: installed.append((address, node.host.request)),
    }
    assert asyncio.run(node.deregister(node.place.view))
    assert installed == [(f"host:{id}", without) for id in (2, 24, 31)]
