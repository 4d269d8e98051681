"""Snapshots on their way to a follower that is behind the beginning of the leader's log (§7).

A snapshot travels in pieces, one at a time. The follower says how much it holds, and the next piece
begins there: a lost piece is sent again, and a follower that has restarted gets the first one.
"""

from protocol import InstallSnapshotRequest, Snapshot, text_size


class Outgoing:
    """A snapshot that a leader sends to one follower. A piece has about `piece_size` bytes."""

    def __init__(self, snapshot: Snapshot, piece_size: int):
        self.snapshot = snapshot
        self._piece_size = piece_size
        self._keys = list(snapshot.values)
        self._offset = 0

    def piece(self, term: int, leader_id: int) -> InstallSnapshotRequest:
        """Return the request with what the follower needs next."""
        snapshot, values, end, size = self.snapshot, [], self._offset, 0
        while end < len(self._keys) and size < self._piece_size:
            key = self._keys[end]
            values.append((key, snapshot.values[key]))
            size += text_size(key, snapshot.values[key])
            end += 1
        done = end == len(self._keys)
        return InstallSnapshotRequest(
            term,
            leader_id,
            snapshot.index,
            snapshot.term,
            self._offset,
            tuple(values),
            tuple(snapshot.sessions.items()) if done else (),
            done,
        )

    def go_on(self, offset: int) -> None:
        """Go on after as many values as the follower says that it holds."""
        self._offset = min(offset, len(self._keys))


class Incoming:
    """A snapshot that a follower receives, its first piece first."""

    def __init__(self, request: InstallSnapshotRequest):
        self._source = _source(request)
        self.snapshot = Snapshot(request.last_included_index, request.last_included_term)
        self.is_complete = False

    def belongs(self, request: InstallSnapshotRequest) -> bool:
        """Tell whether a piece is of this snapshot, and of the same leader."""
        return self._source == _source(request)

    @property
    def offset(self) -> int:
        """How many values it holds."""
        return len(self.snapshot.values)

    def take(self, request: InstallSnapshotRequest) -> None:
        """Add a piece if it is the next one."""
        if request.offset == self.offset:
            self.snapshot.values.update(request.values)
            self.snapshot.sessions.update(request.sessions)
            self.is_complete = request.done


def _source(request: InstallSnapshotRequest) -> tuple[int, int, int]:
    return request.term, request.last_included_index, request.last_included_term
