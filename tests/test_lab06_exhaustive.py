"""Lab 6: every election that three servers can hold in three terms, in every order of events."""

import pytest

from tests.explore_raft import Core, Reduction, Violation, explore, raft


class DoubleVote(raft.Raft):
    def _may_vote(self, request):
        return request.term == self.current_term and self.role is raft.Role.FOLLOWER


class LateVote(raft.Raft):
    def _vote_counts(self, request):
        return True


class OneVoteIsEnough(raft.Raft):
    quorum = property(lambda self: 1, lambda self, value: None)


class ForgottenVote(raft.Raft):
    def _become_follower(self, now):
        if self.role is raft.Role.CANDIDATE:
            self.voted_for = None
        super()._become_follower(now)


MUTANTS = [DoubleVote, LateVote, OneVoteIsEnough, ForgottenVote]


def test_no_order_of_events_gives_one_term_two_leaders_or_one_server_two_votes():
    core = Core(raft.Raft, last_term=3)
    assert len(explore(core, Reduction(core))) > 9_000


@pytest.mark.parametrize("reduction", [Reduction, lambda core: lambda world: world])
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_exploration_finds_the_order_that_breaks_a_mutant(mutant, reduction):
    core = Core(mutant, last_term=2)
    with pytest.raises(Violation):
        explore(core, reduction(core))
