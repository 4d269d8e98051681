"""Runs lab 6's server in trouble: with a disk that is slow, and with snapshots all the time.

The file `sync` in the current directory says how many seconds a save takes, now or later; the file
`snapshot_after` after how many entries the log is compacted.
"""

import functools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "lab06_raft"))

import server  # noqa: E402
import storage  # noqa: E402
from replica import Limits  # noqa: E402

save = storage.Disk.save


def slow_save(disk, unsaved) -> None:
    time.sleep(read("sync", 0.0))
    save(disk, unsaved)


def read(name: str, default: float) -> float:
    """Return the number in a file; the test may be writing it right now."""
    try:
        return float(Path(name).read_text() or default)
    except FileNotFoundError:
        return default


if __name__ == "__main__":
    storage.Disk.save = slow_save
    limits = Limits(snapshot_after=int(read("snapshot_after", Limits().snapshot_after)))
    server.Raft = functools.partial(server.Raft, limits=limits)
    sys.exit(server.main())
