"""Lab 6, the disk: what was saved comes back, and what has been damaged is found out."""

import random
import shutil
import sqlite3
import struct

import pytest

from tests.support.harness import ROOT, load

storage = load(ROOT / "lab06_raft/storage.py")
protocol = load(ROOT / "lab06_raft/protocol.py")
Disk, Entry, Snapshot, StorageError = (
    storage.Disk,
    protocol.Entry,
    protocol.Snapshot,
    storage.StorageError,
)
MEMBERS = (0, 1, 2)


def unsaved(term=1, vote=None, first=1, entries=(), installed=None, compacted=None):
    return protocol.Unsaved(term, vote, installed, first, list(entries), compacted)


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


@pytest.fixture
def good(tmp_path):
    """The closed file of a server with a log, a snapshot and sessions."""
    disk = Disk(tmp_path / "good", 0, MEMBERS)
    disk.save(unsaved(3, 1, 1, [Entry(3, f"key{n}", "v" * n, n, n) for n in range(1, 200)]))
    values = {f"key{n}": "v" * n for n in range(1, 100)}
    disk.save(unsaved(3, 1, 200, [], None, Snapshot(99, 3, values, {n: n for n in range(1, 100)})))
    disk.close()
    return tmp_path / "good" / "raft.sqlite3"


def load_copy(path):
    disk = Disk(path.parent, 0, MEMBERS)
    try:
        return disk.load()
    finally:
        disk.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM log WHERE position = 150",
        "DELETE FROM log WHERE position = 199",
        "DELETE FROM log WHERE position = 100",
        "DELETE FROM log",
        "UPDATE log SET term = NULL WHERE position = 150",
        "UPDATE log SET key = NULL WHERE position = 150",
        "UPDATE log SET key = 7 WHERE position = 150",
        "UPDATE log SET value = 'other' WHERE position = 150",
        "UPDATE log SET value = CAST(x'FF' AS TEXT) WHERE position = 150",
        "UPDATE log SET value = x'FF' WHERE position = 150",
        "UPDATE log SET checksum = NULL WHERE position = 150",
        "UPDATE log SET checksum = 'x' WHERE position = 150",
        "UPDATE log SET client_id = client_id + 1 WHERE position = 150",
        "UPDATE log SET position = 1000 WHERE position = 199",
        "DELETE FROM snapshot WHERE key = 'key7'",
        "UPDATE snapshot SET value = 'other' WHERE key = 'key7'",
        "DELETE FROM session WHERE client_id = 7",
        "UPDATE session SET sequence = 1 WHERE client_id = 7",
        "UPDATE session SET position = 1000 WHERE client_id = 7",
        "DELETE FROM state",
        "UPDATE state SET current_term = 2",
        "UPDATE state SET current_term = NULL",
        "UPDATE state SET voted_for = NULL",
        "UPDATE state SET snapshot_index = 98",
        "UPDATE state SET last_index = 198",
        "INSERT INTO state SELECT 2, node_id, members, current_term, voted_for, snapshot_index,"
        " snapshot_term, last_index, snapshot_sum, checksum FROM state",
        "DROP TABLE log",
        "DROP TABLE state",
    ],
)
def test_a_changed_row_is_found_out(statement, good):
    assert len(load_copy(good).log) == 100
    db = sqlite3.connect(good)
    with db:
        db.execute(statement)
    db.close()
    with pytest.raises(StorageError, match="^it is damaged: [ -~]+$"):
        load_copy(good)


@pytest.mark.parametrize("size", [0, 1, 100, 512, 4096, 5000, -4096, -1])
def test_a_truncated_file_is_found_out(size, good):
    whole = good.read_bytes()
    good.write_bytes(whole[:size])
    with pytest.raises(StorageError, match="^it is damaged: [ -~]+$"):
        load_copy(good)


def test_a_file_with_changed_bytes_is_refused_or_read_as_it_was(good, tmp_path):
    whole, expected = good.read_bytes(), load_copy(good)
    chance, refused = random.Random(0), 0
    for copy in range(150):
        folder = tmp_path / str(copy)
        folder.mkdir()
        data = bytearray(whole)
        for _ in range(chance.choice((1, 10, 1000))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (folder / "raft.sqlite3").write_bytes(data)
        try:
            assert load_copy(folder / "raft.sqlite3") == expected, copy
        except StorageError as error:
            assert str(error).isascii()
            assert "\n" not in str(error)
            refused += 1
        shutil.rmtree(folder)
    assert refused > 100


def test_a_free_list_that_names_a_page_in_use_is_found_out(good):
    """No row has changed yet, but a save would take that page for its own."""
    db = sqlite3.connect(good)
    with db:
        db.execute("CREATE TABLE freed AS SELECT zeroblob(20000)")
        db.execute("DROP TABLE freed")
    (in_use,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'log'").fetchone()
    db.close()
    data = bytearray(good.read_bytes())
    (trunk,) = struct.unpack_from(
        ">I", data, 32
    )  # https://www.sqlite.org/fileformat2.html#freelist
    first_leaf = (trunk - 1) * 4096 + 8
    struct.pack_into(">I", data, first_leaf, in_use)
    good.write_bytes(data)
    with pytest.raises(StorageError, match="SQLite finds its pages inconsistent"):
        load_copy(good)


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


@pytest.fixture
def killed(tmp_path):
    """Return a folder as kill -9 leaves it after six saves, and what stands in it after each."""
    disk, contents = Disk(tmp_path / "killed", 0, MEMBERS), []
    for index in range(1, 7):
        disk.save(unsaved(1, 0, first=index, entries=[Entry(1, f"key {index}", "x" * 5000)]))
        contents.append(disk.load())
    image = shutil.copytree(tmp_path / "killed", tmp_path / "image")
    disk.close()
    return image, contents


def load_with(image, change):
    """Return what a folder holds when its write-ahead log has been changed."""
    copy = image.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    wal = shutil.copytree(image, copy) / "raft.sqlite3-wal"
    wal.write_bytes(change(bytearray(wal.read_bytes())))
    disk = Disk(copy, 0, MEMBERS)
    try:
        return disk.load()
    finally:
        disk.close()


def flip(place):
    def change(data):
        data[place] ^= 1
        return data

    return change


@pytest.mark.parametrize("place", [0, 3, 9, 17, 20, 25, 31, 33, 40, 60, 156, 4000])
def test_a_write_ahead_log_with_a_changed_byte_is_refused(killed, place):
    image, _ = killed
    with pytest.raises(StorageError, match="it is damaged: raft.sqlite3-wal has changed"):
        load_with(image, flip(place))


def test_a_commit_that_a_crash_has_cut_off_is_none(killed):
    image, contents = killed
    assert load_with(image, lambda data: data) == contents[-1]
    assert load_with(image, flip(-1)) == contents[-2]
    assert load_with(image, lambda data: data[:-1]) == contents[-2]
    assert load_with(image, lambda data: data[:-10_000]) in contents


@pytest.mark.parametrize("rest", [b"", b"\0" * 10, b"\0" * 40_000])
def test_a_write_ahead_log_that_a_crash_has_left_without_a_header_is_empty(reopen, rest, tmp_path):
    reopen().save(unsaved(3, 1))
    found = reopen().load()
    reopen().close()
    (tmp_path / "a/b/raft.sqlite3-wal").write_bytes(rest)
    assert reopen().load() == found
