"""Attack on lab 6: every order of events of three servers in four terms; the suite has three."""

from tests.explore_raft import Core, Reduction, explore, raft


def four_terms(scale: float) -> str:
    last_term = 4 if scale >= 1 else 3
    core = Core(raft.Raft, last_term)
    worlds = explore(core, Reduction(core))
    return f"{len(worlds):,} worlds in {last_term} terms, but for messages that change nothing"


ATTACKS = {"four_terms": four_terms}
