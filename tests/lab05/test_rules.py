"""Lab 5, writes and agreement: each rule at the moment that it is for."""

import asyncio
from dataclasses import replace

import pytest

from tests.lab05.example import EXAMPLE
from tests.lab05.parts import (
    FIRST,
    FOUR,
    KEY,
    NOW,
    admit,
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


def request(kind, counter=1, key=KEY, text="text"):
    return messages.Operation(kind, key, text, messages.RequestId(2, counter, counter))


SAVE, REMOVE = request(messages.Kind.SAVE), request(messages.Kind.REMOVE)


def execute(node, operation):
    outcome = asyncio.run(node.replication.execute(operation))
    return None if outcome.status == messages.Status.RETRY else outcome.success


# --- writes ---


def test_a_write_counts_when_all_replicas_have_it(node):
    node.host.answers = {"replicate": lambda address: messages.Ack(True)}
    assert execute(node, SAVE) is True
    assert node.host.asked == ["host:24", "host:31"]
    record = node.store.records[KEY]
    assert (record.text, record.request_ids) == ("text", (SAVE.request_id,))


def refuse_one(address):
    return messages.Ack(address == "host:24", view_of(FOUR))


@pytest.mark.parametrize("answer", [unreachable, refused, refuse_one])
def test_a_write_that_a_replica_has_not_taken_is_uncertain(node, answer):
    node.host.answers = {"replicate": answer}
    assert execute(node, SAVE) is None
    assert KEY not in node.store.records and node.replication.uncertain == {KEY}


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda node: node.install(view_of(FOUR, epoch=2)),
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
    node.install(view_of(FOUR[1:], epoch=2))
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
        node.install(view_of([1, *FOUR[1:]], epoch=3))
        return take(address)

    node.host.answers["replicate"] = replicate
    assert not agree_without_2(node)
    assert FIRST not in node.store.records and node.place.served_after == 2


def test_records_are_listed_for_the_newest_view_alone(node):
    node.install(view_of(FOUR, epoch=2))
    assert not node.digest(messages.DigestRequest(16, view_of(FOUR), 2, 16)).accepted
    assert node.digest(messages.DigestRequest(16, node.place.view, 2, 16)).accepted


def test_a_sweep_drops_what_a_node_does_not_hold_unless_it_is_handed_over():
    node = node_in(view_of(EXAMPLE), 16)  # it holds 27 to 16
    for key in ("Kazan", "Moscow", KEY):  # 22, 25, 3
        node.store.put(messages.Record(key, 1, "x"))
    copies = messages.Copies(16, 1, (messages.Record("Kazan", 2, "y"),), 1)
    assert node.replicate(copies).accepted
    asyncio.run(node.sync.sweep())
    assert node.store.records.keys() == {"Kazan", KEY}
    node.install(view_of(EXAMPLE, epoch=2))
    asyncio.run(node.sync.sweep())
    assert node.store.records.keys() == {KEY}


def test_a_sweep_lets_others_run_and_ends_with_its_view():
    node = node_in(view_of(EXAMPLE), 16)
    node.store.put(messages.Record("Kazan", 1, "x"))  # 22, which it holds in a smaller ring

    async def sleep(seconds):
        node.install(view_of([2, 16, 24], epoch=2))

    node.host.sleep = sleep
    asyncio.run(node.sync.sweep())
    assert "Kazan" in node.store.records


def test_uncertain_keys_are_decided_before_a_node_is_in_sync(node):
    stores(node, {})
    node.replication.uncertain |= {KEY, "Kazan"}  # 3, which is its own; 22, which is another's
    digest, attempts = node.host.answers["digest"], iter(range(20))
    node.host.answers["digest"] = lambda address: (next(attempts), digest(address))[1]
    node.host.answers["populate_finger_table"] = unreachable
    node.host.answers["grant_lease"] = unreachable
    asyncio.run(node.sync.run())
    assert node.store.records.keys() == {KEY} and node.store.records[KEY].text is None
    assert not node.replication.uncertain


# --- The registry's ---


def test_a_node_leaves_from_the_view_in_which_its_heirs_have_its_keys(book):
    for port in (1, 2, 3):
        admit(book, port)
    node = book.view.members[0]
    outdated = messages.Departure(node.id, node.address, book.view.epoch - 1)
    reply = book.deregister(outdated)
    assert not reply.success and reply.view == book.view and node in book.view.members
    assert book.deregister(replace(outdated, epoch=book.view.epoch)).success
    assert node not in book.view.members


def test_time_for_which_a_registry_did_not_run_is_no_time_of_listening(book):
    book.host.time += 60
    book.tick()
    assert not book.open
