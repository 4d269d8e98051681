"""Sets of numbers as one integer: bit n says whether n is in it."""

from collections.abc import Iterable, Iterator


def bits(things: int) -> Iterator[int]:
    """Yield the numbers in a set, the largest first."""
    while things:
        number = things.bit_length() - 1
        yield number
        things ^= 1 << number


def union(sets: Iterable[int]) -> int:
    """Return the numbers that are in any of these sets."""
    found = 0
    for things in sets:
        found |= things
    return found
