"""Is a history of reads and writes linearizable? The search of Wing and Gong (1993).

A history is linearizable if every operation can be given one instant between its call and its
return, so that a single register would have answered as seen. A write without a known result may
have taken effect at any time after its call, or never. Keys are independent of each other, so each
is searched by itself (Herlihy and Wing, locality).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

FOREVER = float("inf")
IMPOSSIBLE = object()


class Operation(NamedTuple):
    """One operation of a client: `value` is what it wrote, or what it read (None: nothing)."""

    kind: str  # "write" or "read"
    key: str
    value: str | None
    called: float
    returned: float = FOREVER  # a write whose result is not known


def is_linearizable(history: Iterable[Operation]) -> bool:
    """Tell whether some order explains all that was seen; every key begins as None."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    return all(_one_register(operations) for operations in by_key.values())


def _one_register(history: list[Operation]) -> bool:
    read = {operation.value for operation in history if operation.kind == "read"}
    return search((op for op in history if op.returned < FOREVER or op.value in read), _register)


def _register(operation: Operation, value: str | None):
    possible = operation.kind == "write" or operation.value == value
    return operation.value if possible else IMPOSSIBLE


def search(history: Iterable, apply: Callable) -> bool:
    """Tell whether one order explains a history; the state before all of it is None.

    Try each operation that may come next; never the same remainder and state twice.

    Args:
        history: operations with the times `called` and `returned`, FOREVER if there was no answer.
        apply: `apply(operation, state)` returns the state after it, or IMPOSSIBLE if it would
            then have been answered otherwise.
    """
    history = sorted(history, key=lambda operation: operation.called)
    certain = sum(1 << i for i, operation in enumerate(history) if operation.returned < FOREVER)
    start = ((1 << len(history)) - 1, None)
    seen, todo = {start}, [start]
    while todo:
        left, state = todo.pop()
        if not left & certain:
            return True
        for i in _may_be_next(history, left):
            after = apply(history[i], state)
            following = (left ^ 1 << i, after)
            if after is not IMPOSSIBLE and following not in seen:
                seen.add(following)
                todo.append(following)
    return False


def _may_be_next(history: list, left: int) -> list[int]:
    """Return those left that were called before any of those left had returned."""
    found, first_return = [], FOREVER
    while left:
        i = (left & -left).bit_length() - 1
        if history[i].called > first_return:
            break
        first_return = min(first_return, history[i].returned)
        found.append(i)
        left &= left - 1
    return found
