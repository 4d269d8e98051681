"""Lab 6: what three servers can do in a few terms, in every order of events."""

import pytest

from tests.lab06 import broken
from tests.lab06.explore_log import Exploration
from tests.lab06.explore_raft import TransitionTable, explore, raft
from tests.lab06.reduction import Reduction
from tests.sim_raft_core.properties import Violation


def test_no_order_of_events_gives_one_term_two_leaders_or_one_server_two_votes():
    table = TransitionTable(raft.Raft, last_term=3)
    assert len(explore(table, Reduction(table))) > 9_000


@pytest.mark.parametrize("reduction", [Reduction, lambda table: lambda world: world])
@pytest.mark.parametrize("mutant", broken.ELECTIONS)
def test_the_exploration_finds_the_order_that_breaks_a_mutant(mutant, reduction):
    table = TransitionTable(mutant, last_term=2)
    with pytest.raises(Violation):
        explore(table, reduction(table))


def test_no_order_of_events_loses_a_committed_command_or_lets_logs_differ():
    exploration = Exploration(last_term=2, commands=1)
    assert exploration.run() > 20_000
    assert exploration.truncations > 10


@pytest.mark.parametrize("mutant, properties", broken.LOGS)
def test_the_exploration_finds_the_order_that_breaks_a_log(mutant, properties):
    with pytest.raises(Violation, match=properties):
        Exploration(mutant, last_term=2, commands=1).run()
