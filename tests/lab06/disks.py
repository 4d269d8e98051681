"""Lab 6's disk, and what servers save there."""

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
