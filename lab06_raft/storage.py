"""A server's persistent state: term, vote, log and snapshot (Figure 2, §7), in one SQLite file.

What a disk or a careless copy has changed is found out at the start: every row has a checksum, the
log has no gap, and the row `state` knows where the log ends and what the snapshot adds up to.
SQLite silently ignores its write-ahead log from the first incomplete commit on. A crash leaves at
most one such commit, the last. If more commits follow it, the file has been changed since.
"""

import contextlib
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from protocol import Entry, Saved, Snapshot, Unsaved
from state_machine import MAX_SESSIONS

SCHEMA = (
    "CREATE TABLE state (one INTEGER PRIMARY KEY, node_id, members, current_term, voted_for,"
    " snapshot_index, snapshot_term, last_index, snapshot_sum, checksum)",
    "CREATE TABLE log"
    " (position INTEGER PRIMARY KEY, term, key, value, client_id, sequence, checksum)",
    "CREATE TABLE snapshot (key TEXT PRIMARY KEY, value, checksum) WITHOUT ROWID",
    "CREATE TABLE session (client_id INTEGER PRIMARY KEY, sequence, position, checksum)",
)
PRAGMAS = """
    PRAGMA locking_mode = EXCLUSIVE;     -- no second process on the same file
    PRAGMA journal_mode = WAL;           -- one write to the disk per transaction
    PRAGMA synchronous = FULL;           -- COMMIT returns when the disk has it,
    PRAGMA fullfsync = ON;               -- on macOS too
    PRAGMA wal_autocheckpoint = 200;     -- pages of 4 KB: what the second file holds at most
    PRAGMA journal_size_limit = 1000000;
"""


# The write-ahead log (https://www.sqlite.org/fileformat2.html#walformat): a header, then frames,
# each of a header and a page. SQLite draws new salts whenever it begins the log from its start.
WAL_HEADER = struct.Struct(">4I8s8s")  # magic, version, page size, count, salts, checksum
WAL_MAGIC = 0x377F0682  # or one more
FRAME_HEADER = struct.Struct(">II8s8x")  # page, database size if the frame ends a commit, salts
CHANGED = "it is damaged: raft.sqlite3-wal has changed"


class StorageError(Exception):
    """The data directory cannot be used; the text says why, in one line."""


class Memory:
    """Keeps nothing: a start begins at term 0, as the lab has it. A restart may then vote twice."""

    def load(self) -> Saved:
        return Saved()

    def save(self, unsaved: Unsaved) -> None:
        pass

    def close(self) -> None:
        pass


class Disk:
    """Keeps the state of one server of one cluster in DIR/raft.sqlite3.

    Args:
        directory: DIR; it is made if it does not exist. node_id: the server's id. members: all ids.

    Raises:
        OSError, StorageError: the directory cannot be used, or is another server's.
    """

    def __init__(self, directory: Path, node_id: int, members: Iterable[int]):
        directory.mkdir(parents=True, exist_ok=True)
        owner = (node_id, " ".join(map(str, sorted(members))))
        path = directory / "raft.sqlite3"
        with _in_words():
            if not path.exists():
                _create(path, owner)
            commits = _read_commits(path.with_name(path.name + "-wal"))
            self.db = _connect(path)
            try:
                self.db.executescript(PRAGMAS)
                _, whole, _ = self.db.execute("PRAGMA wal_checkpoint").fetchone()
                if sum(frame > whole for frame in commits) > 1:
                    raise StorageError(CHANGED)
                self._state = self._read_state(owner)
            except BaseException:
                self.db.close()
                raise

    def close(self) -> None:
        self.db.close()

    # At the start

    def load(self) -> Saved:
        """Return what has been saved; raise StorageError if any of it is damaged."""
        with _in_words():
            if self.db.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                raise StorageError("it is damaged: SQLite finds its pages inconsistent")
            _, _, term, voted_for, snapshot_index, snapshot_term, last_index, total = self._state
            if total != self._snapshot_sum():
                raise StorageError("it is damaged: rows of the snapshot are missing")
            log = self._read_log(snapshot_index + 1, last_index)
            values = dict(self._rows("key, value", "snapshot ORDER BY key"))
            rows = self._rows("client_id, sequence, position", "session ORDER BY position")
            sessions = {client_id: sequence for client_id, sequence, _ in rows}
        return Saved(
            term, voted_for, Snapshot(snapshot_index, snapshot_term, values, sessions), log
        )

    def _read_state(self, owner: tuple[int, str]) -> tuple:
        rows = self._rows(
            "node_id, members, current_term, voted_for,"
            "snapshot_index, snapshot_term, last_index, snapshot_sum",
            "state",
        )
        if len(rows) != 1:
            raise StorageError("it is damaged: term and vote are missing")
        if rows[0][:2] != owner:
            server, members = rows[0][:2]
            raise StorageError(
                f"it belongs to server {server} of the servers {members},"
                f" not to server {owner[0]} of the servers {owner[1]}"
            )
        return rows[0]

    def _read_log(self, first: int, last: int) -> list[Entry]:
        rows = self._rows(
            "position, term, key, value, client_id, sequence", "log ORDER BY position"
        )
        if [position for position, *_ in rows] != list(range(first, last + 1)):
            raise StorageError("it is damaged: entries of the log are missing")
        return [Entry(*fields) for _, *fields in rows]

    def _rows(self, columns: str, table: str) -> list[tuple]:
        rows = self.db.execute(f"SELECT {columns}, checksum FROM {table}").fetchall()
        if any(_checksum(row[:-1]) != row[-1] for row in rows):
            raise StorageError(f"it is damaged: a row of the {table.split()[0]} has changed")
        return [row[:-1] for row in rows]

    def _snapshot_sum(self) -> str:
        """Return the number of rows and the sum of their checksums, for both tables."""
        query = "SELECT count(*), coalesce(sum(checksum), 0) FROM "
        sums = [self.db.execute(query + table).fetchone() for table in ("snapshot", "session")]
        return " ".join(str(number) for pair in sums for number in pair)

    # While it runs

    def save(self, unsaved: Unsaved) -> None:
        """Return when all of it is on the disk; a crash meanwhile leaves all of it or nothing.

        Raises sqlite3.Error if it cannot be written.
        """
        owner, (index, term, last_index, total) = self._state[:2], self._state[4:]
        self.db.execute("BEGIN")
        if unsaved.installed:
            for table in ("log", "snapshot", "session"):
                self.db.execute(f"DELETE FROM {table}")
            index, term = unsaved.installed.index, unsaved.installed.term
            self._write_snapshot(unsaved.installed)
        self._write_log(unsaved.first_index, unsaved.entries)
        if unsaved.installed or unsaved.entries:
            last_index = unsaved.first_index + len(unsaved.entries) - 1
        if unsaved.compacted:
            index, term = unsaved.compacted.index, unsaved.compacted.term
            self.db.execute("DELETE FROM log WHERE position <= ?", (index,))
            self._write_snapshot(unsaved.compacted)
        if unsaved.installed or unsaved.compacted:
            total = self._snapshot_sum()
        state = (*owner, unsaved.current_term, unsaved.voted_for, index, term, last_index, total)
        _write_state(self.db, state)
        self.db.execute("COMMIT")
        self._state = state

    def _write_log(self, first: int, entries: Iterable[Entry]) -> None:
        self.db.execute("DELETE FROM log WHERE position >= ?", (first,))
        rows = ((index, *entry) for index, entry in enumerate(entries, first))
        self.db.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", map(_checked, rows))

    def _write_snapshot(self, changes: Snapshot) -> None:
        rows = map(_checked, changes.values.items())
        self.db.executemany("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?)", rows)
        (last,) = self.db.execute("SELECT coalesce(max(position), 0) FROM session").fetchone()
        numbered = enumerate(changes.sessions.items(), last + 1)
        rows = (_checked((*session, position)) for position, session in numbered)
        self.db.executemany("INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?)", rows)
        self.db.execute(
            "DELETE FROM session WHERE position <="
            " (SELECT position FROM session ORDER BY position DESC LIMIT 1 OFFSET ?)",
            (MAX_SESSIONS,),
        )


def _create(path: Path, owner: tuple[int, str]) -> None:
    """Make the file whole, or not at all: so an empty one has been damaged."""
    new = path.with_name(path.name + ".new")
    db = _connect(new)
    try:
        for pragma in ("synchronous = FULL", "fullfsync = ON"):
            db.execute(f"PRAGMA {pragma}")
        db.execute("BEGIN EXCLUSIVE")
        if not db.execute("SELECT 1 FROM sqlite_master").fetchall():
            for table in SCHEMA:
                db.execute(table)
            _write_state(db, (*owner, 0, None, 0, 0, 0, "0 0 0 0"))
        db.execute("COMMIT")
    finally:
        db.close()
    with contextlib.suppress(FileNotFoundError):  # another process was just as quick
        os.replace(new, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read_commits(wal: Path) -> list[int]:
    """Return the numbers, from 1, of the frames of a write-ahead log that end a commit."""
    commits: list[int] = []
    try:
        file = wal.open("rb")
    except FileNotFoundError:
        return commits
    with file:
        header = file.read(WAL_HEADER.size)
        if len(header) < WAL_HEADER.size or not any(header):
            return commits  # a crash came first
        magic, _, page_size, _, salts, checksum = WAL_HEADER.unpack(header)
        if magic | 1 != WAL_MAGIC | 1 or checksum != _wal_checksum(header[:24], magic & 1):
            raise StorageError(CHANGED)
        for number in count(1):
            frame = file.read(FRAME_HEADER.size)
            if len(frame) < FRAME_HEADER.size:
                return commits
            _, size, frame_salts = FRAME_HEADER.unpack(frame)
            if size and frame_salts == salts:
                commits.append(number)
            file.seek(page_size, os.SEEK_CUR)


def _wal_checksum(data: bytes, is_big_endian: int) -> bytes:
    first = second = 0
    for one, other in struct.iter_unpack(">2I" if is_big_endian else "<2I", data):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return struct.pack(">2I", first, second)


def _connect(path: Path) -> sqlite3.Connection:
    # isolation_level=None: transactions begin and end where it is written. The thread that saves is
    # not the one that opens; there are never two at a time.
    return sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)


def _write_state(db: sqlite3.Connection, state: tuple) -> None:
    values = (1, *_checked(state))
    db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def _checked(row: tuple) -> tuple:
    return (*row, _checksum(row))


def _checksum(row: tuple) -> int:
    return zlib.crc32(repr(row).encode(errors="surrogatepass"))


@contextlib.contextmanager
def _in_words():
    """Raise what SQLite says as a StorageError in a user's words."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text:
            raise StorageError("another process is using it") from None
        if not ("decode" in text or "no such" in text):  # a full disk, missing rights
            raise StorageError(text) from None
        raise StorageError("it is damaged: raft.sqlite3 cannot be read") from None
    except (sqlite3.Error, ValueError, TypeError, OverflowError):
        raise StorageError("it is damaged: raft.sqlite3 cannot be read") from None
