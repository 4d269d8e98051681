"""Records and their versions: which of two is right, and how they travel."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from messages import Record, number_parts

DEMOTION = 2**62  # more than any version
MISSING = -(2**63)  # the version of no record
BATCH_BYTES = 1_000_000  # about so much goes into one message, or else one record


OPERATIONS_KEPT = 100  # numbers stored with a record at most; in general one of each node


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


def merge(records: dict[str, Record], record: Record) -> None:
    """Keep the newer of two records of a key."""
    if record.version > version_of(records, record.key):
        records[record.key] = record


def demoted(record: Record) -> Record:
    """Return a record as a node brings it back that was dropped: older than any in the ring.

    It counts only where no holder is left who knows better, as when all nodes hung for a while.
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
