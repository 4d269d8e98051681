"""Cores of lab 6 that each break one rule; the explorations and the simulation must find them."""

from tests.support.harness import ROOT, load

raft = load(ROOT / "lab06_raft/raft.py")


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


class ShorterLogGetsVotes(raft.Raft):
    def _is_up_to_date(self, request):
        return True


class ComparesIndexFirst(raft.Raft):
    def _is_up_to_date(self, request):
        own = (self.log.last_index, self.log.last_term)
        return (request.last_log_index, request.last_log_term) >= own


class KeepsWhatDiffers(raft.Raft):
    """A follower keeps its own entries where the leader's differ."""

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


class ReadsWithoutAsking(raft.Raft):
    def is_confirmed(self, read):
        return True


ELECTIONS = [DoubleVote, LateVote, OneVoteIsEnough, ForgottenVote]
LOGS = [  # each with the properties, one of which must fail
    (ShorterLogGetsVotes, "Leader Completeness"),
    (KeepsWhatDiffers, "Log Matching|State Machine Safety|Leader Completeness"),
    (CommitsBeforeTheMajority, "State Machine Safety|Leader Completeness"),
]
