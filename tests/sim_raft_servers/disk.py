"""A model of a server's disk: it takes time, it fails, and a crash may find a save half-way."""

import copy
import random
import sqlite3

from tests.sim_raft_core.disk import protocol, write


class Disk:
    """What has been saved; a save that has not returned by a crash is there whole, or not at all.

    Args:
        chance: the source of randomness. slowest: s that a save takes at most.
    """

    def __init__(self, chance: random.Random, slowest: float):
        self.chance = chance
        self.slowest = slowest
        self.fails = self.has_failed = False
        self._saved = protocol.Saved()

    def load(self) -> protocol.Saved:
        return copy.deepcopy(self._saved)

    def duration(self) -> float:
        """Return how long the next save takes."""
        return self.chance.uniform(0, self.slowest)

    def save(self, unsaved) -> None:
        if self.fails:
            self.has_failed = True
            raise sqlite3.OperationalError("disk I/O error")
        write(self._saved, unsaved)
