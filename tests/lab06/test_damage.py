"""Lab 6, the disk: what has been damaged is found out at the start, or does not matter."""

import random
import shutil
import sqlite3
import struct

import pytest

from tests.lab06.disks import MEMBERS, Disk, Entry, Snapshot, StorageError, unsaved


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
def test_a_changed_row_is_detected(statement, good):
    assert len(load_copy(good).log) == 100
    db = sqlite3.connect(good)
    with db:
        db.execute(statement)
    db.close()
    with pytest.raises(StorageError, match="^it is damaged: [ -~]+$"):
        load_copy(good)


@pytest.mark.parametrize("size", [0, 1, 100, 512, 4096, 5000, -4096, -1])
def test_a_truncated_file_is_detected(size, good):
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


def test_a_free_list_that_names_a_page_in_use_is_detected(good):
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


def test_a_commit_that_a_crash_cut_off_is_ignored(killed):
    image, contents = killed
    assert load_with(image, lambda data: data) == contents[-1]
    assert load_with(image, flip(-1)) == contents[-2]
    assert load_with(image, lambda data: data[:-1]) == contents[-2]
    assert load_with(image, lambda data: data[:-10_000]) in contents
