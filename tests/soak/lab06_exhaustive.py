"""Attacks on lab 6: every order of events of three servers in four terms; the suite has three."""

from tests.lab06.explore_log import Exploration
from tests.lab06.explore_raft import TransitionTable, explore, raft
from tests.lab06.reduction import Reduction


def four_terms(scale: float) -> str:
    last_term = 4 if scale >= 1 else 3
    table = TransitionTable(raft.Raft, last_term)
    worlds = explore(table, Reduction(table))
    return f"{len(worlds):,} worlds in {last_term} terms, but for messages that change nothing"


def reductions(scale: float) -> str:
    """The reduced exploration reaches what the full one does, and nothing else."""
    table = TransitionTable(raft.Raft, last_term=2)
    reduction, full = Reduction(table), explore(table)
    reduced = explore(table, reduction)
    assert {reduction(world) for world in full} == reduced
    return f"{len(full):,} worlds in two terms are {len(reduced):,} but for what no event will show"


def two_commands(scale: float) -> str:
    """What three servers can make of two commands in two terms; the suite gives them one."""
    commands = 2 if scale >= 1 else 1
    worlds = Exploration(last_term=2, commands=commands).run()
    return f"{worlds:,} worlds with {commands} commands in two terms"


ATTACKS = {"two_commands": two_commands, "four_terms": four_terms, "reductions": reductions}
