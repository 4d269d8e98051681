"""Lab 6: what three servers can do in a few terms, in every order of events."""

import pytest

from tests.lab06.explore_log import Exploration
from tests.lab06.explore_log import Violation as LogViolation
from tests.lab06.explore_raft import Core, Violation, explore, raft
from tests.lab06.reduction import Reduction


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


class ShorterLogGetsVotes(raft.Raft):
    def _is_up_to_date(self, request):
        return True


class KeepsWhatDiffers(raft.Raft):
    def append_entries(self, request, now):
        prev = request.prev_log_index
        kept = min(max(self.log.last_index - prev, 0), len(request.entries))
        if kept:
            prev += kept
            request = request._replace(
                prev_log_index=prev,
                prev_log_term=self.log.term(prev),
                entries=request.entries[kept:],
            )
        return super().append_entries(request, now)


class CommitsBeforeTheMajority(raft.Raft):
    def mark_saved(self, unsaved):
        super().mark_saved(unsaved)
        if self.leadership:
            self.replica.commit(self.log.last_index)


def test_no_order_of_events_loses_a_committed_command_or_lets_logs_differ():
    exploration = Exploration(last_term=2, commands=1)
    assert exploration.run() > 20_000
    assert exploration.truncations > 10


LOG_MUTANTS = [
    (ShorterLogGetsVotes, "Leader Completeness"),
    (KeepsWhatDiffers, "Log Matching|State Machine Safety|Leader Completeness"),
    (CommitsBeforeTheMajority, "State Machine Safety|Leader Completeness"),
]


@pytest.mark.parametrize(("mutant", "broken"), LOG_MUTANTS)
def test_the_exploration_finds_the_order_that_breaks_a_log(mutant, broken):
    with pytest.raises(LogViolation, match=broken):
        Exploration(mutant, last_term=2, commands=1).run()
