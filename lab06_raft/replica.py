"""One server's copy of the log and of the state that comes from it.

What is committed is applied at once: one index is the paper's commitIndex and its lastApplied. When
the log gets long, a snapshot takes in its beginning (§7):

     snapshot on disk      log                           in memory:  log and `machine`, the state
     0 ... snapshot_index  ... commit_index ... last_index           after the entry commit_index

commit_index may be ahead of log.saved_index: then a majority has the entry on disk, and this server
not yet. A server reads its own snapshot only when it starts; for a follower, the leader copies its
present state. So the disk needs no whole snapshot each time, only what the entries have changed.
"""

from typing import NamedTuple

from log import Log
from protocol import Entry, Place, Saved, Snapshot
from state_machine import StateMachine


class Limits(NamedTuple):
    """Sizes are in bytes of keys and values."""

    batch_entries: int = 1000  # in one AppendEntries
    batch_size: int = 250_000  # after which an AppendEntries or piece of a snapshot ends
    waiting_entries: int = 10_000  # commands of a leader that are not committed yet
    waiting_size: int = 64_000_000
    snapshot_after: int = 10_000  # applied entries after which the log is compacted
    snapshot_after_size: int = 16_000_000


DEFAULT_LIMITS = Limits()


class Replica:
    """The log, the index up to which it is committed, and the state after that entry."""

    def __init__(self, saved: Saved, limits: Limits):
        snapshot = saved.snapshot
        self.limits = limits
        self.log = Log(snapshot.index, snapshot.term, saved.log)
        self.commit_index = snapshot.index
        self.machine = StateMachine(snapshot.values, snapshot.sessions)
        self._installed: Snapshot | None = None
        self._compacted: Snapshot | None = None

    def copy(self, prev: int, prev_term: int, entries: tuple[Entry, ...]) -> bool:
        """Take over the entries after (prev, prev_term); what is there already stays (§5.3).

        Return False if a committed entry would have to go. That happens only without --data-dir,
        when a majority has forgotten it: this server then starts over, to follow that majority.
        """
        terms = prev_term, *(entry.term for entry in entries)
        for offset, term in enumerate(terms):
            index = prev + offset
            if index < self.log.snapshot_index or self.log.holds(index, term):
                continue
            if index <= self.commit_index:
                self._restart(Snapshot(), [])
                return False
            self.log.truncate(index)
            self.log.append(entries[offset - 1 :])
            break
        return True

    def commit(self, index: int) -> None:
        """Advance the commit index and apply what it has passed (§5.3)."""
        for passed in range(self.commit_index + 1, index + 1):
            self.machine.apply(passed, self.log[passed])
            self.commit_index = passed

    def outcome(self, place: Place) -> bool | None:
        """Tell whether a command is done (True), lost (False), or neither yet (None)."""
        held = place.index > self.log.snapshot_index and self.log.holds(*place)
        if held and place.index > self.commit_index:
            return None
        return held and self.machine.has_done(place.index, self.log[place.index])

    def last_place(self) -> Place:
        """Return the place of the last committed entry."""
        return Place(self.commit_index, self.log.term(self.commit_index))

    # Snapshots

    def snapshot(self) -> Snapshot:
        """Return the state of now; further commands do not change what is returned."""
        term = self.log.term(self.commit_index)
        values, sessions = dict(self.machine.values), dict(self.machine.sessions)
        return Snapshot(self.commit_index, term, values, sessions)

    def install(self, snapshot: Snapshot) -> None:
        """Replace the state, and the log up to the snapshot's index; what follows stays if it fits.

        Figure 13, steps 6 to 8.
        """
        fits = self.log.holds(snapshot.index, snapshot.term)
        kept = self.log.entries[snapshot.index - self.log.snapshot_index :] if fits else []
        self._restart(snapshot, kept)

    def _restart(self, snapshot: Snapshot, entries: list[Entry]) -> None:
        self.log.restart(snapshot.index, snapshot.term, entries)
        self.machine.restore(dict(snapshot.values), dict(snapshot.sessions))
        self.commit_index = snapshot.index
        self._installed, self._compacted = snapshot, None

    def compact(self, last: int) -> None:
        """Let the snapshot take in the log's beginning, at most up to `last`, if it is long (§7).

        A tenth stays for followers that are a little behind. Outcomes of what goes are not known
        any more.
        """
        log, limits = self.log, self.limits
        last, start = min(last, self.commit_index, log.saved_index), log.snapshot_index
        is_large = log.size(start + 1, last) >= limits.snapshot_after_size
        if last - start < limits.snapshot_after and not is_large:
            return
        index = log.tail(last, limits.snapshot_after // 10, limits.snapshot_after_size // 10)
        # Only what these entries have changed: the disk has the rest.
        values, sessions = self.machine.take_changes(start + 1, log.entries[: index - start])
        earlier = self._compacted or Snapshot()
        values, sessions = earlier.values | values, _later(earlier.sessions, sessions)
        self._compacted = Snapshot(index, log.term(index), values, sessions)
        log.compact(index)

    # The disk

    @property
    def is_unsaved(self) -> bool:
        """Tell whether there are changes that no save has taken yet."""
        return bool(self.log.is_unsaved or self._installed or self._compacted)

    def take_unsaved(self) -> tuple:
        """Return the fields of `Unsaved` from `installed` on."""
        changes = (self._installed, *self.log.take_unsaved(), self._compacted)
        self._installed = self._compacted = None
        return changes


def _later(sessions: dict[int, int], more: dict[int, int]) -> dict[int, int]:
    """Return all sessions, those in `more` last."""
    return {key: sessions[key] for key in sessions if key not in more} | more
