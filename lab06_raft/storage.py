"""Where a server keeps what it must not forget: term, vote and log (Figure 2, persistent state)."""

import sqlite3
from pathlib import Path

import protocol


class Memory:
    """Keeps nothing: a start begins at term 0, as the lab has it. A restart may then vote twice."""

    def load(self) -> protocol.Saved:
        return protocol.Saved()

    def save(self, unsaved: protocol.Unsaved) -> None:
        pass


class Disk:
    """Keeps it in DIR/raft-ID.sqlite3; raises OSError or sqlite3.Error if it cannot."""

    def __init__(self, directory: Path, node_id: int):
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"raft-{node_id}.sqlite3"
        # isolation_level=None: transactions begin and end where it is written.
        self.db = sqlite3.connect(path, timeout=0.5, isolation_level=None)
        self.db.executescript("""
            PRAGMA locking_mode = EXCLUSIVE;  -- no second server on the same file
            PRAGMA journal_mode = WAL;        -- one write to the disk per transaction
            PRAGMA synchronous = FULL;        -- COMMIT returns when the disk has it,
            PRAGMA fullfsync = ON;            -- on macOS too
            CREATE TABLE IF NOT EXISTS log (position INTEGER PRIMARY KEY, term, key, value);
            CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY, current_term, voted_for);
            INSERT OR IGNORE INTO state VALUES (1, 0, NULL);
        """)

    def load(self) -> protocol.Saved:
        ((current_term, voted_for),) = self.db.execute("SELECT current_term, voted_for FROM state")
        rows = self.db.execute("SELECT term, key, value FROM log ORDER BY position")
        return protocol.Saved(current_term, voted_for, [protocol.Entry(*row) for row in rows])

    def save(self, unsaved: protocol.Unsaved) -> None:
        """Return when all of it is on the disk; a crash meanwhile leaves all of it or nothing."""
        rows = [(index, *entry) for index, entry in enumerate(unsaved.entries, unsaved.index)]
        state = (unsaved.current_term, unsaved.voted_for)
        self.db.execute("BEGIN")
        self.db.execute("UPDATE state SET current_term = ?, voted_for = ?", state)
        self.db.execute("DELETE FROM log WHERE position >= ?", (unsaved.index,))
        self.db.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", rows)
        self.db.execute("COMMIT")
