"""Lab 6, the core: log compaction and InstallSnapshot (§7)."""

import copy

import pytest

from tests.lab06.core import (
    LOG,
    Command,
    Entry,
    answer,
    append,
    leader,
    propose,
    raft,
    save,
    server,
)
from tests.sim_raft_core.disk import write
from tests.support.harness import ROOT, load

protocol = load(ROOT / "lab06_raft/protocol.py")


def piece(term, index, values, offset=0, done=True, sessions=(), leader_id=1):
    """A piece of the snapshot up to (index, term), sent in that term."""
    return raft.InstallSnapshotRequest(
        term, leader_id, index, term, offset, tuple(values), tuple(sessions), done
    )


def committed(it, *keys):
    """Have a leader commit commands; return the last calls that it made."""
    calls = propose(it, *keys)
    for call in calls[: it.quorum - 1]:
        answer(it, call)
    assert it.commit_index == it.log.last_index
    it.compact()
    return calls


def deliver(it, other, calls):
    """Carry calls and replies between a leader and server 1, until there are no more."""
    todo = [call for call in calls if call.peer == 1]
    while todo:
        call = todo.pop(0)
        snapshot = isinstance(call.request, raft.InstallSnapshotRequest)
        name = "install_snapshot" if snapshot else "append_entries"
        reply = getattr(other, name)(call.request, 0.2)
        save(other)
        getattr(it, name + "_reply")(call, reply, 0.2)
        todo += [call for call in it.take_outbox() if call.peer == 1]


def test_a_long_log_is_compacted_and_a_tenth_stays():
    it, calls = leader(snapshot_after=20)
    answer(it, calls[0])
    for n in range(18):
        committed(it, str(n))
    assert (it.log.snapshot_index, it.log.last_index) == (0, 19)
    committed(it, "19")
    assert (it.log.snapshot_index, len(it.log.entries)) == (18, 2)
    assert len(it.values) == 19


def test_a_log_of_large_values_is_compacted_by_its_size():
    it, calls = leader(snapshot_after_size=100)
    answer(it, calls[0])
    for n in range(5):
        calls = propose(it, str(n), value="x" * 19)
        answer(it, calls[0])
        it.compact()
    assert (it.log.snapshot_index, len(it.log.entries)) == (6, 0)


@pytest.mark.parametrize(("size", "last", "kept"), [(1, 10_000, 1000), (999_999, 17, 1)])
def test_a_log_is_compacted_by_default_at_10000_entries_or_16_mb(size, last, kept):
    it, calls = leader()
    answer(it, calls[0])  # the no-op, which is the entry 1
    for _ in range(2, last):
        it.leadership.propose(Command("k", "v" * size))
    save(it)
    it.replica.commit(last - 1)
    it.compact()
    assert it.log.snapshot_index == 0
    it.leadership.propose(Command("k", "v" * size))
    save(it)
    it.replica.commit(last)
    it.compact()
    assert (it.log.snapshot_index, len(it.log.entries)) == (last - kept, kept)


def test_what_is_not_committed_or_not_on_disk_is_not_compacted():
    it, calls = leader(snapshot_after=1)
    for call in calls:
        answer(it, call)
    it.compact()
    assert it.log.snapshot_index == 1
    propose(it, "a")
    it.compact()
    assert it.log.snapshot_index == 1
    it, calls = leader(snapshot_after=1)
    for call in calls:
        answer(it, call)
    it.leadership.propose(Command("a", "1"))
    it.leadership.replicate()
    for call in it.take_outbox():
        answer(it, call)
    assert (it.commit_index, it.log.saved_index) == (2, 1)
    it.compact()
    assert it.log.snapshot_index == 1


def test_the_disk_is_told_what_the_compacted_entries_have_changed():
    it, calls = leader(snapshot_after=3)
    answer(it, calls[0])
    save(it)
    committed(it, "a", "b", "a")
    unsaved = it.take_unsaved()
    assert unsaved.compacted == protocol.Snapshot(4, 1, {"a": "1", "b": "1"}, {})
    assert not it.is_unsaved


def test_a_follower_behind_the_log_gets_the_snapshot_in_pieces_and_then_the_entries():
    it, calls = leader(snapshot_after=10, batch_size=3)
    answer(it, calls[1])
    for n in range(12):
        calls = propose(it, f"{n:02}")
        answer(it, calls[-1])
        it.compact()
    assert it.log.snapshot_index > 0
    propose(it, "last")
    other = server()
    it.call_lost(it.leadership.followers[1].under_way)
    it.tick(it.deadline)
    deliver(it, other, it.take_outbox())
    assert it.commit_index == it.log.last_index
    it.tick(it.deadline)
    deliver(it, other, it.take_outbox())
    assert (other.values, other.commit_index) == (it.values, it.commit_index)
    assert other.log.snapshot_index > 0


def test_a_snapshot_is_installed_when_its_last_piece_is_there():
    it = server()
    first, last = piece(2, 9, [("a", "1")], done=False), piece(2, 9, [("b", "2")], 1)
    assert it.install_snapshot(first, 0.1) == (2, 1, False)
    assert it.values == {}
    assert it.deadline == pytest.approx(0.3)
    assert it.install_snapshot(last, 0.1) == (2, 2, True)
    assert (it.values, it.commit_index, it.log.last_index) == ({"a": "1", "b": "2"}, 9, 9)
    assert (it.log.last_term, it.known_leader()) == (2, 1)
    assert it.take_unsaved().installed == protocol.Snapshot(9, 2, {"a": "1", "b": "2"}, {})


def test_a_piece_that_is_late_or_doubled_is_answered_with_what_is_there():
    it = server()
    first, last = piece(2, 9, [("a", "1")], done=False), piece(2, 9, [("b", "2")], 1)
    assert it.install_snapshot(last, 0.1) == (2, 0, False)
    assert it.install_snapshot(first, 0.1) == (2, 1, False)
    assert it.install_snapshot(first, 0.1) == (2, 1, False)
    assert it.install_snapshot(last, 0.1) == (2, 2, True)
    assert it.install_snapshot(last, 0.1) == (2, 0, True)
    assert it.values == {"a": "1", "b": "2"}


@pytest.mark.parametrize("other", [piece(2, 8, [("b", "2")], 1), piece(3, 9, [("b", "2")], 1)])
def test_pieces_of_two_snapshots_or_leaders_are_never_mixed(other):
    it = server()
    it.install_snapshot(piece(2, 9, [("a", "1")], done=False), 0.1)
    assert it.install_snapshot(other, 0.1)[1:] == (0, False)
    assert it.values == {}


def test_a_snapshot_that_is_older_than_what_is_committed_changes_nothing():
    it = server(log=LOG, term=2)
    it.append_entries(append(2, (3, 2), commit=3), 0.0)
    assert it.install_snapshot(piece(2, 3, [("z", "9")]), 0.0) == (2, 0, True)
    assert it.values == {"a": "1", "b": "2", "c": "3"}


def test_a_snapshot_of_an_older_leader_is_refused():
    it = server(term=5)
    assert it.install_snapshot(piece(4, 9, [("a", "1")]), 0.1) == (5, 0, False)
    assert (it.deadline, it.values) == (0.2, {})


def test_entries_behind_a_snapshot_stay_if_they_fit_it():
    it = server(log=LOG, term=3)
    it.install_snapshot(raft.InstallSnapshotRequest(3, 1, 2, 1, 0, (("a", "9"),), (), True), 0.0)
    assert (it.log.snapshot_index, it.log.entries) == (2, LOG[2:])
    assert it.take_unsaved()[2:] == (protocol.Snapshot(2, 1, {"a": "9"}, {}), 3, LOG[2:], None)
    it = server(log=LOG, term=3)
    it.install_snapshot(raft.InstallSnapshotRequest(3, 1, 2, 2, 0, (("a", "9"),), (), True), 0.0)
    assert (it.log.snapshot_index, it.log.entries) == (2, [])


def test_entries_that_are_in_the_snapshot_already_are_skipped():
    it = server()
    it.install_snapshot(raft.InstallSnapshotRequest(2, 1, 2, 1, 0, (("a", "1"),), (), True), 0.0)
    late = append(2, (0, 0), [*LOG[:2], Entry(2, "c", "3")], commit=3)
    assert it.append_entries(late, 0.0).success
    assert (it.log.entries, it.commit_index) == ([Entry(2, "c", "3")], 3)
    assert it.append_entries(append(2, (0, 0), LOG[:1]), 0.0).success
    assert it.log.last_index == 3


def test_heartbeats_go_on_while_a_snapshot_is_under_way():
    it, calls = leader(snapshot_after=1)
    answer(it, calls[1])
    it.compact()
    it.call_lost(calls[0])
    for kinds in (
        [raft.InstallSnapshotRequest, raft.AppendEntriesRequest],
        [raft.AppendEntriesRequest, raft.AppendEntriesRequest],
    ):
        it.tick(it.deadline)
        assert [type(call.request) for call in it.take_outbox()] == kinds


def test_the_log_keeps_what_follows_a_snapshot_under_way_up_to_a_limit():
    it, calls = leader(snapshot_after=4)
    answer(it, calls[1])
    for n in range(4):
        calls = propose(it, f"{n}")
        answer(it, calls[-1])
    it.compact()
    it.call_lost(it.leadership.followers[1].under_way)
    it.tick(it.deadline)
    (sent,) = (c.request for c in it.take_outbox() if hasattr(c.request, "last_included_index"))
    kept = []
    for n in range(4, 60):
        answer(it, propose(it, f"{n}")[-1])
        it.compact()
        kept.append(it.log.snapshot_index)
    assert sent.last_included_index == 5
    assert kept[:30] == [5] * 30
    assert kept[-1] > 40


def test_a_snapshot_that_arrived_is_given_back_although_its_last_reply_is_lost():
    it, calls = leader(snapshot_after=4)
    answer(it, calls[1])
    for n in range(4):
        answer(it, propose(it, f"{n}")[-1])
    it.compact()
    it.call_lost(it.leadership.followers[1].under_way)
    it.tick(it.deadline)
    pieces = [c for c in it.take_outbox() if isinstance(c.request, raft.InstallSnapshotRequest)]
    it.tick(it.deadline)
    heartbeat = next(call for call in it.take_outbox() if call.peer == 1)
    it.call_lost(pieces[0])  # it was installed, but the answer took too long
    answer(it, heartbeat)
    assert it.leadership.followers[1].outgoing is None
    for n in range(4, 12):
        answer(it, propose(it, f"{n}")[-1])
        it.compact()
    assert it.log.snapshot_index > 8


def test_a_read_is_confirmed_although_the_entry_that_began_the_term_is_compacted():
    it, calls = leader(snapshot_after=1)
    answer(it, calls[0])
    it.compact()
    assert it.log.entries == []
    read = it.start_read(0.3)
    answer(it, it.take_outbox()[0])
    assert it.is_confirmed(read)


def test_a_restart_from_the_disk_finds_snapshot_and_log():
    it, calls = leader(snapshot_after=4)
    disk, take_unsaved = raft.Saved(1, 0, log=it.log.entries[:]), it.take_unsaved

    def write_unsaved():
        unsaved = take_unsaved()
        write(disk, unsaved)
        return unsaved

    it.take_unsaved = write_unsaved
    answer(it, calls[0])
    for key in "abcdef":
        committed(it, key)
    save(it)
    again = raft.Raft(0, range(3), lambda: 0.2, 0.0, copy.deepcopy(disk))
    assert again.log.snapshot_index == it.log.snapshot_index > 0
    assert (again.log.entries, again.log.last_index) == (it.log.entries, it.log.last_index)
    assert (again.log.saved_index, again.commit_index) == (it.log.last_index, it.log.snapshot_index)
    again.append_entries(append(1, (7, 1), commit=7, leader=1), 0.0)
    assert again.values == it.values
