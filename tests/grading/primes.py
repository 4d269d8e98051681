"""Which numbers are prime, and how a program's lines say so."""

import re
from collections.abc import Iterable

# Lab 2's numbers, each with what trial division says of it.
TWELVE = [
    *(15492781, 15492787, 15492803, 15492811, 15492810, 15492833),
    *(15492859, 15502547, 15520301, 15527509, 15522343, 1550784),
]


def is_prime(number: int) -> bool:
    """Decide by trial division, for numbers of a few digits."""
    if number < 2:
        return False
    return all(number % d for d in range(2, int(number**0.5) + 1))


def verdict(text: str) -> bool | None:
    """Read a verdict: True for prime, False for not, None if the text has none."""
    text = text.lower()
    if re.search(r"\b(not|isn'?t|composite|false|no)\b|notprime|not_prime", text):
        return False
    return True if re.search(r"prime|\btrue\b|\byes\b", text) else None


def verdicts(output: str, numbers: Iterable[int]) -> list[bool | None]:
    """Return the verdict on each number in turn, from the lines that name it."""
    lines = output.splitlines()
    found = []
    for number in numbers:
        named = [line for line in lines if re.search(rf"(?<!\d){number}(?!\d)", line)]
        spoken = [v for line in named if (v := verdict(line.replace(str(number), ""))) is not None]
        found.append(spoken[-1] if spoken else None)
    return found


def pattern(number: int) -> str:
    """Return a pattern for a verdict on a number, in whatever words."""
    before, after = rf"(?i)(?<![\d-]){number}(?!\d)", r"\b(?:not|isn'?t|composite|nonprime)\b"
    if is_prime(number):
        return rf"{before}(?![^\n\d]*{after})[^\n\d]*\bprime"
    return rf"{before}[^\n\d]*{after}"


def sentence(number: int) -> str:
    """Return the line of labs 3 and 4."""
    return f"{number} is prime" if is_prime(number) else f"{number} is not prime"
