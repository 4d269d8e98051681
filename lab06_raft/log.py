"""The log of one server: entries from the end of a snapshot on, and what of them is on disk.

     1 ............ snapshot_index | snapshot_index + 1 ...... saved_index ...... last_index
     in the snapshot               | in the log: on disk                 in memory only

Indices are the paper's: the first entry ever has the index 1.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from protocol import Entry, text_size


class Log:
    """A list of entries that can lose its beginning (compaction) and its end (conflicts).

    Args:
        snapshot_index, snapshot_term: the last entry in the snapshot, 0 if there is none.
        entries: those that follow it; they are on disk already.
    """

    def __init__(self, snapshot_index=0, snapshot_term=0, entries: Sequence[Entry] = ()):
        self._begin(snapshot_index, snapshot_term)
        self.append(entries)
        self.mark_saved(self.last_index, self.last_term)
        self._first_unsaved = self.last_index + 1

    def _begin(self, snapshot_index: int, snapshot_term: int) -> None:
        self.snapshot_index = self.saved_index = snapshot_index
        self.snapshot_term = snapshot_term
        self.entries: list[Entry] = []
        self._sizes = [0]  # running totals in bytes: before the first entry, and after each
        self._first_unsaved = snapshot_index + 1

    @property
    def last_index(self) -> int:
        return self.snapshot_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.snapshot_term

    def __getitem__(self, index: int) -> Entry:
        """Return the entry at an index after the snapshot."""
        if index <= self.snapshot_index:
            raise IndexError(f"the entry {index} is in the snapshot")
        return self.entries[index - self.snapshot_index - 1]

    def term(self, index: int) -> int:
        """Return the term of an entry, or of the last one in the snapshot."""
        return self.snapshot_term if index == self.snapshot_index else self[index].term

    def holds(self, index: int, term: int) -> bool:
        """Tell whether the entry (index, term) is here; so are then all before it (§5.3)."""
        return self.snapshot_index <= index <= self.last_index and self.term(index) == term

    def size(self, first: int, last: int) -> int:
        """Return the bytes in the keys and values of the entries first to last."""
        start = self.snapshot_index
        return self._sizes[last - start] - self._sizes[first - 1 - start]

    def batch(self, first: int, last: int, count: int, size: int) -> tuple[Entry, ...]:
        """Return entries first to last, or fewer: at most `count`, and about `size` bytes.

        A single entry may be larger than that.
        """
        start = first - self.snapshot_index - 1
        fitting = bisect_right(self._sizes, self._sizes[start] + size) - 1
        end = min(last - self.snapshot_index, start + count, max(fitting, start + 1))
        return tuple(self.entries[start:end])

    def tail(self, last: int, count: int, size: int) -> int:
        """Return the index before the longest run up to `last` of at most `count` and `size`."""
        end = last - self.snapshot_index
        fitting = bisect_left(self._sizes, self._sizes[end] - size, hi=end)
        return self.snapshot_index + max(fitting, end - count, 0)

    def conflict_index(self, prev_log_index: int) -> int:
        """Return the index to try next: our end, or the start of the term that differs (§5.3)."""
        if prev_log_index > self.last_index:
            return self.last_index + 1
        term = self.term(prev_log_index)  # terms never decrease along a log
        before = bisect_left(self.entries, term, key=lambda entry: entry.term)
        return self.snapshot_index + before + 1

    # Changes

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries at the end."""
        self.entries += entries
        sizes = (text_size(entry.key, entry.value) for entry in entries)
        self._sizes += list(accumulate(sizes, initial=self._sizes[-1]))[1:]

    def truncate(self, index: int) -> None:
        """Drop the entry at `index` and all after it."""
        kept = index - self.snapshot_index - 1
        del self.entries[kept:], self._sizes[kept + 1 :]
        self.saved_index = min(self.saved_index, index - 1)
        self._first_unsaved = min(self._first_unsaved, index)

    def compact(self, index: int) -> None:
        """Drop all entries up to `index`, which are in the snapshot now (§7)."""
        self.snapshot_term = self.term(index)
        dropped = index - self.snapshot_index
        del self.entries[:dropped], self._sizes[:dropped]
        self.snapshot_index = index

    def restart(self, index: int, term: int, entries: Sequence[Entry]) -> None:
        """Hold nothing but these entries, which follow a snapshot up to (index, term)."""
        self._begin(index, term)
        self.append(entries)

    # The disk

    @property
    def is_unsaved(self) -> bool:
        return self._first_unsaved <= self.last_index

    def take_unsaved(self) -> tuple[int, list[Entry]]:
        """Return the first index and the entries that no save has taken yet."""
        first = self._first_unsaved
        self._first_unsaved = self.last_index + 1
        return first, self.entries[first - self.snapshot_index - 1 :]

    def mark_saved(self, index: int, term: int) -> None:
        """Note that the log is on disk up to the entry (index, term), if it still holds that."""
        if self.holds(index, term):
            self.saved_index = max(self.saved_index, index)
