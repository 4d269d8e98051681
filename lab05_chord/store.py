"""The records of one node: which of two is newer, which lie on an arc, what changed since when.

Versions
    Every record has a version, the epoch of its writing and then a counter. The higher one wins.
    A removed key leaves a *tombstone*, a record without text: a copy that slept through the removal
    loses to it. A tombstone is dropped when the ring was in sync at two sweeps TOMBSTONE_TIMEOUT
    apart. A node that was away for longer comes back with an empty store; one that was away for
    less brings its records *demoted*, older than any other: they count only where no other node
    has a record of the key, as when all that had it hung one after the other.

Request ids
    A record keeps the ids of the requests that made it. A node that gets no answer asks again under
    the same id, whatever node owns the key by then, and the operation is done once. A request whose
    counter is below the `oldest` of a later one has ended: its id is dropped.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from chord import between, key_id
from messages import Digest, Record, RequestId

TOMBSTONE_TIMEOUT = 300.0  # s
DEMOTION = 2**62  # more than any version
MISSING = -(2**63)  # the version of no record
BATCH_BYTES = 1_000_000  # about so much goes into one message, or else one record
PAGE = 50_000  # versions listed in one message
REQUESTS_KEPT = 100  # ids kept with a record at most; in general one of each node


class Store:
    """Records by key. It knows the order of their last changes, so that others can ask for them.

    Args:
        generation: drawn once, so that no other store has it; it grows when a record is dropped.
        now: the time in seconds, from which the first sweep is counted.
    """

    def __init__(self, generation: int, now: float = 0.0):
        self.generation = generation
        self.records: dict[str, Record] = {}
        self.m = 0
        self.count = 0  # of all changes so far
        self._changes: dict[str, tuple[int, int]] = {}  # key -> its last change, its id; in order
        self._swept, self._old_tombstones = now, set()

    def put(self, record: Record) -> None:
        """Keep a record if it is newer than the one at hand."""
        key = record.key
        if record.version > version_of(self.records, key):
            self.records[key] = record
            self.count += 1
            self._changes.pop(key, None)
            self._changes[key] = self.count, key_id(key, self.m)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget some records; what others know of this store is no longer true."""
        for key in keys:
            self.generation += bool(self.records.pop(key, None))
            self._changes.pop(key, None)

    def rejoin(self, absence: float, copied: "Store") -> None:
        """Take the records to a new place, for which others were copied, after so many seconds."""
        kept = () if absence > TOMBSTONE_TIMEOUT else map(demoted, self.records.values())
        self.m, self.count = copied.m, copied.count
        self.generation += 1
        self.records, self._changes = copied.records, copied._changes
        for record in kept:
            self.put(record)

    def sweep_tombstones(self, now: float) -> None:
        """Drop the tombstones that the last sweep has seen already."""
        if now - self._swept > TOMBSTONE_TIMEOUT:
            self._swept = now
            tombstones = {r for r in self.records.values() if r.text is None}
            self.drop(record.key for record in tombstones & self._old_tombstones)
            self._old_tombstones = tombstones - self._old_tombstones

    def on(self, after: int, upto: int) -> dict[str, Record]:
        """Return the records of the keys on the arc (after, upto]."""
        records, changes = self.records, self._changes.items()
        if after < upto:  # `between`, written out: this goes through all that there is
            return {key: records[key] for key, (_, id) in changes if after < id <= upto}
        return {key: records[key] for key, (_, id) in changes if id > after or id <= upto}

    def digest(self, after: int, upto: int, generation: int, since: int) -> Digest:
        """Return the first page of what has changed on an arc after change number `since`.

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
        return Digest(True, None, keys, versions, self.generation, last, more)


@dataclass
class RemoteVersions:
    """What a node knows of another one's store: the versions on an arc, up to some change."""

    after: int
    upto: int
    generation: int = 0
    since: int = 0
    versions: dict[str, int] = field(default_factory=dict)

    def covers(self, after: int, upto: int, m: int) -> bool:
        """Tell whether another arc, with the same end, is part of this one."""
        return upto == self.upto and (upto - after - 1) % 2**m <= (upto - self.after - 1) % 2**m

    def add(self, page: Digest) -> None:
        """Learn one page more."""
        if page.generation != self.generation:
            self.versions.clear()
        self.generation, self.since = page.generation, page.since
        self.versions.update(zip(page.keys, page.versions, strict=True))

    def on(self, after: int, upto: int, m: int) -> dict[str, int]:
        """Return the versions on a part of the arc."""
        if (after, upto) == (self.after, self.upto):
            return self.versions
        return versions_on(self.versions, after, upto, m)


def versions_on(versions: dict[str, int], after: int, upto: int, m: int) -> dict[str, int]:
    """Return those of the keys on an arc."""
    return {k: v for k, v in versions.items() if between(key_id(k, m), after, upto)}


def remember(done: tuple[RequestId, ...], new: RequestId) -> tuple[RequestId, ...]:
    """Return the request ids to keep with a record that the new request makes."""
    kept = [old for old in done if old.process != new.process or old.counter >= new.oldest]
    return (*kept, new)[-REQUESTS_KEPT:]


def is_over(done: tuple[RequestId, ...], request: RequestId) -> bool:
    """Tell whether a request has ended, and this is a message of it that was long under way."""
    return any(old.process == request.process and request.counter < old.oldest for old in done)


def version_of(records: dict[str, Record], key: str) -> int:
    """Return the version of a key's record, also if there is none."""
    return records[key].version if key in records else MISSING


def demoted(record: Record) -> Record:
    """Return a record as a node that was dropped brings it back."""
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
