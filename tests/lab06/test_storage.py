"""Lab 6, the disk: what was saved comes back, whole or not at all."""

import shutil

import pytest

from tests.lab06.disks import (
    MEMBERS,
    Disk,
    Entry,
    Snapshot,
    StorageError,
    protocol,
    storage,
    unsaved,
)


@pytest.fixture
def reopen(tmp_path):
    """Open the directory as a process would that starts after kill -9 of the one before."""
    disks = []

    def open_again(node_id=0, members=MEMBERS, folder=tmp_path / "a" / "b"):
        if disks:
            disks.pop().close()
        disks.append(Disk(folder, node_id, members))
        return disks[-1]

    yield open_again
    for disk in disks:
        disk.close()


def test_a_new_directory_begins_at_term_0(reopen):
    assert reopen().load() == protocol.Saved()


def test_what_was_saved_comes_back(reopen):
    log = [Entry(1, "a", "1\0\n"), Entry(1, "ключ", "значение 🙂", 2**62, 5), Entry(2)]
    disk = reopen()
    disk.save(unsaved(2**62, 1, 1, log))
    disk.save(unsaved(2**62, None, 2, [Entry(7, "b", "")]))
    found = reopen().load()
    assert found == protocol.Saved(2**62, None, Snapshot(), [log[0], Entry(7, "b", "")])


def test_the_compacted_log_becomes_part_of_the_snapshot(reopen):
    disk = reopen()
    disk.save(unsaved(entries=[Entry(1, key, "1") for key in "abcd"]))
    disk.save(unsaved(first=5, compacted=Snapshot(2, 1, {"a": "1", "b": "1"}, {7: 1, 8: 1})))
    changes = Snapshot(3, 1, {"b": "2", "c": "1"}, {7: 2})
    disk.save(unsaved(first=5, entries=[Entry(1, "e")], compacted=changes))
    found = reopen().load()
    assert found.snapshot == Snapshot(3, 1, {"a": "1", "b": "2", "c": "1"}, {7: 2, 8: 1})
    assert list(found.snapshot.sessions) == [8, 7]
    assert found.log == [Entry(1, "d", "1"), Entry(1, "e")]


def test_an_installed_snapshot_replaces_all(reopen):
    disk = reopen()
    disk.save(unsaved(entries=[Entry(1, key, "1") for key in "abcd"]))
    disk.save(unsaved(first=5, compacted=Snapshot(2, 1, {"a": "1", "b": "1"}, {7: 1})))
    installed = Snapshot(9, 2, {"z": "1"}, {5: 3, 4: 1})
    disk.save(unsaved(2, None, 10, [Entry(2, "x")], installed))
    found = reopen().load()
    assert found == protocol.Saved(2, None, installed, [Entry(2, "x")])
    assert list(found.snapshot.sessions) == [5, 4]
    disk = reopen()
    disk.save(unsaved(2, None, 1, [], Snapshot()))
    assert reopen().load() == protocol.Saved(2)


def test_the_sessions_on_disk_are_as_bounded_as_those_in_memory(reopen, monkeypatch):
    monkeypatch.setattr(storage, "MAX_SESSIONS", 3)
    disk = reopen()
    disk.save(unsaved(compacted=Snapshot(0, 0, {}, {1: 1, 2: 1, 3: 1})))
    disk.save(unsaved(compacted=Snapshot(0, 0, {}, {1: 2, 4: 1})))
    assert list(reopen().load().snapshot.sessions.items()) == [(3, 1), (1, 2), (4, 1)]


@pytest.mark.parametrize(
    ("node_id", "members"), [(1, MEMBERS), (0, (0, 1)), (0, (0, 1, 2, 3)), (0, (0, 1, 4))]
)
def test_a_directory_of_another_server_or_cluster_is_refused(node_id, members, reopen):
    reopen()
    with pytest.raises(StorageError, match="belongs to server 0 of the servers 0 1 2, not to"):
        reopen(node_id, members)


def test_a_directory_in_use_is_refused(tmp_path):
    first = Disk(tmp_path, 0, MEMBERS)
    with pytest.raises(StorageError, match="another process is using it"):
        Disk(tmp_path, 0, MEMBERS)
    first.close()
    Disk(tmp_path, 0, MEMBERS).close()


def test_the_files_stay_small_however_much_is_written(tmp_path):
    disk = Disk(tmp_path, 0, MEMBERS)
    for batch in range(60):
        first = batch * 1000 + 1
        entries = [Entry(1, f"key{n % 100}", f"value {n}") for n in range(first, first + 1000)]
        disk.save(unsaved(1, None, first, entries))
        if batch % 10 == 9:
            last = first + 999
            values = {entry.key: entry.value for entry in entries}
            disk.save(unsaved(1, None, last + 1, [], None, Snapshot(last, 1, values, {})))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 5_000_000
    disk.close()


def test_a_save_returns_when_the_disk_has_it(reopen):
    settings = ("synchronous", "fullfsync", "journal_mode")
    found = [reopen().db.execute(f"PRAGMA {name}").fetchone()[0] for name in settings]
    assert found == [2, 1, "wal"]  # FULL, ON


def test_a_save_that_is_cut_off_is_there_whole_or_not_at_all(tmp_path):
    disk, images = Disk(tmp_path / "a", 0, MEMBERS), []
    disk.save(unsaved(1, 0, entries=[Entry(1, "x", "1")] * 3))
    before = disk.load()

    def copy(statement: str) -> None:
        images.append(shutil.copytree(tmp_path / "a", tmp_path / f"image{len(images)}"))

    disk.db.set_trace_callback(copy)
    disk.save(unsaved(2, 1, first=2, entries=[Entry(2, "y", "2")]))
    disk.db.set_trace_callback(None)
    after = disk.load()
    disk.close()
    assert len(images) > 4
    for image in images:
        cut_off = Disk(image, 0, MEMBERS)
        assert cut_off.load() in (before, after)
        cut_off.close()


@pytest.mark.parametrize("rest", [b"", b"\0" * 10, b"\0" * 40_000])
def test_a_write_ahead_log_that_a_crash_has_left_without_a_header_is_empty(reopen, rest, tmp_path):
    reopen().save(unsaved(3, 1))
    found = reopen().load()
    reopen().close()
    (tmp_path / "a/b/raft.sqlite3-wal").write_bytes(rest)
    assert reopen().load() == found
