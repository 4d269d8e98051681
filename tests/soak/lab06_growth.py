"""Give one server's core and disk many commands: python -m tests.soak.lab06_growth DIR COUNT

Prints by how many megabytes memory has grown, the megabytes on disk, and the seconds of a restart.
"""

import os
import sys
import time
from pathlib import Path

from tests.support.harness import ROOT, load
from tests.support.processes import resident

raft = load(ROOT / "lab06_raft/raft.py")
protocol = load(ROOT / "lab06_raft/protocol.py")
storage = load(ROOT / "lab06_raft/storage.py")
BATCH = 100  # commands saved together
CLIENTS = 50


def start(folder: Path):
    disk = storage.Disk(folder, 0, [0])
    return raft.Raft(0, [0], lambda: 0.2, 0.0, disk.load()), disk


def save(server, disk) -> None:
    while server.is_unsaved:
        unsaved = server.take_unsaved()
        disk.save(unsaved)
        server.mark_saved(unsaved)
        server.compact()


def main(folder: Path, count: int) -> None:
    server, disk = start(folder)
    before = resident(os.getpid())
    server.tick(1.0)
    for first in range(0, count, BATCH):
        for n in range(first, first + BATCH):
            session = n % CLIENTS + 1, n // CLIENTS + 1
            server.leadership.propose(protocol.Command(f"key{n % 100}", f"value {n}", *session))
        server.leadership.replicate()
        save(server, disk)
    memory = (resident(os.getpid()) - before) / 1e6
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    values = dict(server.values)
    disk.close()
    begun = time.monotonic()
    server, disk = start(folder)
    elapsed = time.monotonic() - begun
    server.tick(1.0)
    save(server, disk)
    assert server.values == values
    print(memory, size, elapsed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
