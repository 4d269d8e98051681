"""What is measured: a Row of contestants, ours first, that take turns round by round.

A contestant does one round of its work and returns one figure. Since all of them run within the
same seconds, what slows the machine for a while slows them all, and the ratio of the figures of one
round hardly moves; of the rounds' ratios the median counts.
"""

import contextlib
import os
import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

Contestant = Callable[[], float]
OPERATORS = {"lower": "<=", "higher": ">="}


class Missing(Exception):
    """A peer that cannot be measured here; the message says why."""


class Goal(NamedTuple):
    """Ours divided by the figure beside it is at most (if lower is better) or at least `ratio`."""

    beside: str
    ratio: float


class Row(NamedTuple):
    lab: int
    what: str
    unit: str
    better: str  # "lower" or "higher"
    contestants: dict[str, Contestant]  # the first is ours
    goals: list[Goal] = []


class Result(NamedTuple):
    row: Row
    figures: dict[str, list[float]]  # one for each round, of every contestant that is there
    missing: dict[str, str]  # why the others are not

    @property
    def ours(self) -> str:
        return next(iter(self.row.contestants))

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])

    def ratio(self, name: str) -> float:
        """Return ours divided by theirs."""
        pairs = zip(self.figures[self.ours], self.figures[name], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def goal(self, name: str) -> Goal | None:
        return next((goal for goal in self.row.goals if goal.beside == name), None)

    def met(self, goal: Goal) -> bool | None:
        """Tell whether a goal is met; None if its peer is missing."""
        if goal.beside in self.missing:
            return None
        ratio = self.ratio(goal.beside)
        return ratio <= goal.ratio if self.row.better == "lower" else ratio >= goal.ratio


def measure(row: Row, rounds: int) -> Result:
    """Let the contestants take turns for some rounds."""
    figures: dict[str, list[float]] = {name: [] for name in row.contestants}
    missing: dict[str, str] = {}
    for _ in range(rounds):
        for name, contestant in row.contestants.items():
            if name not in missing:
                try:
                    figures[name].append(contestant())
                except Missing as reason:
                    missing[name] = str(reason)
                    del figures[name]
    return Result(row, figures, missing)


def attempt(start: Callable[[], Contestant]) -> Contestant:
    """Return what `start` sets up, or a contestant that is missing if that cannot be had."""
    try:
        return start()
    except Missing as reason:
        message = str(reason)

    def absent() -> float:
        raise Missing(message)

    return absent


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and the processes and threads it starts meanwhile, on one core.

    Two processes that take turns on one core have steady figures; across two cores the time until
    the other one wakes up is most of what is measured, and depends on the machine's mood.
    """
    if not hasattr(os, "sched_setaffinity"):  # not on this system
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
