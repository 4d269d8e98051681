"""What must hold for any two servers of a world: the properties of the paper's Figure 3."""

import pickle

from tests.sim_raft_core.properties import Violation


class LogViolation(Violation):
    """A property does not hold; an order of events leads there."""

    def __str__(self):
        return f"{super().__str__()}; to draw it: make sim-picture SEED=log"


class Server:
    """A state of one server, with what the properties are about."""

    def __init__(self, core):
        self.core = core
        self.copy = pickle.dumps(core)  # quicker than deepcopy
        self.log = tuple(core.log.entries)
        self.committed = self.log[: core.commit_index]
        self.leads = bool(core.leadership)
        self.term = core.current_term


def check_pair(one: Server, other: Server) -> None:
    """Raise LogViolation if two servers contradict each other."""
    if one.leads and other.leads and one.term == other.term:
        raise LogViolation(f"Election Safety: two leaders of term {one.term}")
    for index, (a, b) in enumerate(zip(one.log, other.log, strict=False)):
        if a.term == b.term and one.log[: index + 1] != other.log[: index + 1]:
            raise LogViolation(f"Log Matching: {_told(one.log)}, {_told(other.log)}")
    if any(a != b for a, b in zip(one.committed, other.committed, strict=False)):
        raise LogViolation(
            f"State Machine Safety: {_told(one.committed)}, {_told(other.committed)}"
        )
    if one.leads and one.term >= other.term and one.log[: len(other.committed)] != other.committed:
        logs = f"{_told(one.log)} misses some of {_told(other.committed)}"
        raise LogViolation(f"Leader Completeness: {logs}")


def _told(log: tuple) -> list[str]:
    """Return what stands out of each entry."""
    return [f"term {entry.term} {entry.key}".rstrip() for entry in log]
