"""The records that a node holds: which of two is right, which lie on an arc, how they travel."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from chord import between, key_id
from messages import Record, Versions, number_parts

DEMOTION = 2**62  # more than any version
MISSING = -(2**63)  # the version of no record
BATCH_BYTES = 1_000_000  # about so much goes into one message, or else one record
PAGE = 50_000  # versions listed in one message
OPERATIONS_KEPT = 100  # numbers stored with a record at most; in general one of each node


class Store:
    """Records by key. It knows the order of their last changes, so that others can ask for them.

    Args:
        generation: drawn once, so that no other store has it; it grows when a record is dropped.
    """

    def __init__(self, generation: int):
        self.generation = generation
        self.records: dict[str, Record] = {}
        self.m = 0
        self.count = 0  # of all changes so far
        self._changes: dict[str, tuple[int, int]] = {}  # key -> its last change, its id; in order

    def put(self, record: Record) -> None:
        """Keep a record if it is newer than the one at hand."""
        key = record.key
        if record.version > version_of(self.records, key):
            self.records[key] = record
            self.count += 1
            self._changes.pop(key, None)
            self._changes[key] = self.count, key_id(key, self.m)

    def replace(self, records: Iterable[Record], m: int) -> None:
        """Have these records instead of all, in a ring of 2**m ids."""
        self.m = m
        self.generation += 1
        self.records, self._changes = {}, {}
        for record in records:
            self.put(record)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget some records; what others know of this store is no longer true."""
        for key in keys:
            self.generation += bool(self.records.pop(key, None))
            self._changes.pop(key, None)

    def on(self, after: int, upto: int) -> dict[str, Record]:
        """Return the records of the keys on an arc."""
        records, changes = self.records, self._changes.items()
        if after < upto:  # `between`, written out: this goes through all that there is
            return {key: records[key] for key, (_, id) in changes if after < id <= upto}
        return {key: records[key] for key, (_, id) in changes if id > after or id <= upto}

    def listing(self, after: int, upto: int, generation: int, since: int) -> Versions:
        """Return what has changed on an arc after a change, the first page of it.

        A caller that knows another generation of this store hears all anew.
        """
        if generation != self.generation:
            since = 0
        recent = []
        for key, (change, id) in reversed(self._changes.items()):
            if change <= since:
                break
            if between(id, after, upto):
                recent.append((key, change))
        recent.reverse()
        more = len(recent) > PAGE
        keys = tuple(key for key, _ in recent[:PAGE])
        versions = tuple(self.records[key].version for key in keys)
        last = recent[PAGE - 1][1] if more else self.count
        return Versions(True, None, keys, versions, self.generation, last, more)


@dataclass
class Listing:
    """What a node knows of another one's store: the versions on an arc, up to some change."""

    after: int
    upto: int
    generation: int = 0
    since: int = 0
    versions: dict[str, int] = field(default_factory=dict)

    def covers(self, after: int, upto: int, m: int) -> bool:
        """Tell whether another arc, with the same end, is part of this one."""
        return upto == self.upto and (upto - after - 1) % 2**m <= (upto - self.after - 1) % 2**m

    def add(self, page: Versions) -> None:
        """Learn one page more."""
        if page.generation != self.generation:
            self.versions.clear()
        self.generation, self.since = page.generation, page.since
        self.versions.update(zip(page.keys, page.versions, strict=True))

    def on(self, after: int, upto: int, m: int) -> dict[str, int]:
        """Return the versions on a part of the arc."""
        if (after, upto) == (self.after, self.upto):
            return self.versions
        return {k: v for k, v in self.versions.items() if between(key_id(k, m), after, upto)}


def remember(operations: tuple[str, ...], number: str) -> tuple[str, ...]:
    """Return the numbers of operations to store with a record, once there is one more.

    A number is `id.born.counter.first`: id and born name the node that carries the operation out,
    and `first` is the first that it has not yet ended on this key. All before can be forgotten.
    """
    *node, _, first = number_parts(number)
    kept = []
    for other in operations:
        *other_node, counter, _ = number_parts(other)
        if other_node != node or counter >= first:
            kept.append(other)
    return (*kept, number)[-OPERATIONS_KEPT:]


def is_over(operations: tuple[str, ...], number: str) -> bool:
    """Tell whether an operation has ended, and this is a message of it that was long under way."""
    *node, counter, _ = number_parts(number)
    known = (number_parts(other) for other in operations)
    return any([id, born] == node and counter < first for id, born, _, first in known)


def version_of(records: dict[str, Record], key: str) -> int:
    """Return the version of a key's record, also if there is none."""
    return records[key].version if key in records else MISSING


def demoted(record: Record) -> Record:
    """Return a record as a node brings it back that was dropped: older than any in the ring.

    It counts only where no holder is left that knows better, as when all nodes hung for a while.
    """
    return record if record.version < 0 else replace(record, version=record.version - DEMOTION)


def batches(records: Iterable[Record]) -> Iterator[tuple[Record, ...]]:
    """Cut records into messages of bounded size."""
    batch: list[Record] = []
    size = 0
    for record in records:
        weight = 100 + len(record.key) + len(record.text or "")
        if batch and size + weight > BATCH_BYTES:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(record)
        size += weight
    if batch:
        yield tuple(batch)
