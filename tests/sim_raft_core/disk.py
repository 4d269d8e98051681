"""What a save does to a server's disk, in memory."""

import copy

from tests.support.harness import ROOT, load

protocol = load(ROOT / "lab06_raft/protocol.py")


def write(disk, unsaved) -> None:
    """Do to the disk what `Disk.save` does."""
    disk.current_term, disk.voted_for = unsaved.current_term, unsaved.voted_for
    if unsaved.installed:
        disk.snapshot, disk.log = copy.deepcopy(unsaved.installed), []
    if unsaved.entries:
        disk.log[unsaved.first_index - disk.snapshot.index - 1 :] = unsaved.entries
    if changes := unsaved.compacted:
        kept = disk.log[changes.index - disk.snapshot.index :]
        sessions = {c: s for c, s in disk.snapshot.sessions.items() if c not in changes.sessions}
        disk.snapshot = protocol.Snapshot(
            changes.index,
            changes.term,
            disk.snapshot.values | changes.values,
            sessions | changes.sessions,
        )
        disk.log = kept
