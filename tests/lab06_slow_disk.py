"""Runs lab 6's server with a disk that takes as many seconds for a save as the file `sync` says."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "lab06_raft"))

import server  # noqa: E402
import storage  # noqa: E402

save = storage.Disk.save


def slow_save(disk, unsaved) -> None:
    path = Path("sync")
    time.sleep(float(path.read_text()) if path.exists() else 0)
    save(disk, unsaved)


if __name__ == "__main__":
    storage.Disk.save = slow_save
    sys.exit(server.main())
