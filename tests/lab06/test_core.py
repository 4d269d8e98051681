"""Lab 6, the core: roles, terms and votes, each rule of the lab and of Figure 2 by itself."""

import pytest

from tests.lab06.core import Entry, Role, append, candidate, leader, raft, server, vote


def test_it_starts_as_a_follower_in_term_0_that_knows_no_leader():
    it = server()
    assert (it.role, it.current_term, it.known_leader()) == (Role.FOLLOWER, 0, None)


def test_a_reset_starts_the_same_span_again():
    it = server()
    for now in (0.1, 0.15, 0.3):
        it.append_entries(append(1), now)
        assert it.deadline == now + 0.2


def test_a_failed_candidate_becomes_a_follower_with_a_new_span():
    it = server()
    it.tick(0.19)
    assert it.role is Role.FOLLOWER
    it.tick(0.2)
    assert (it.role, it.current_term, it.voted_for, it.deadline) == (Role.CANDIDATE, 1, 0, 0.4)
    it.tick(0.4)
    assert (it.role, it.current_term, it.deadline) == (Role.FOLLOWER, 1, 0.65)
    it.tick(0.65)
    assert (it.role, it.current_term, it.deadline) == (Role.CANDIDATE, 2, 0.9)


@pytest.mark.parametrize(("members", "needed"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_a_strict_majority_of_all_members_elects(members, needed):
    it, calls = candidate(members=members)
    for count, call in enumerate(calls):
        assert (it.role is Role.LEADER) == (count >= needed)
        it.request_vote_reply(call, raft.RequestVoteReply(1, True), 0.21)
    assert it.role is Role.LEADER


def test_a_vote_that_comes_twice_counts_once():
    it, calls = candidate(members=5)
    for _ in range(3):
        it.request_vote_reply(calls[0], raft.RequestVoteReply(1, True), 0.21)
    assert it.role is Role.CANDIDATE


def test_a_vote_of_an_earlier_election_does_not_count():
    it, old = candidate()
    it.tick(0.4)
    it.tick(0.65)
    it.request_vote_reply(old[0], raft.RequestVoteReply(2, True), 0.66)
    assert (it.role, it.current_term) == (Role.CANDIDATE, 2)


def test_a_vote_after_the_election_has_failed_does_not_count():
    it, calls = candidate()
    it.tick(0.4)
    it.request_vote_reply(calls[0], raft.RequestVoteReply(1, True), 0.41)
    assert it.role is Role.FOLLOWER


def test_a_server_votes_once_per_term():
    it = server()
    asked = [(1, 1), (1, 2), (1, 1), (0, 2), (2, 2), (2, 1)]
    replies = [it.request_vote(vote(*election), 0.0) for election in asked]
    assert replies == [(1, True), (1, False), (1, False), (1, False), (2, True), (2, False)]


def test_no_vote_is_given_for_an_earlier_term():
    assert server(term=3).request_vote(vote(2), 0.1) == raft.RequestVoteReply(3, False)


def test_granting_a_vote_resets_the_timer_and_refusing_does_not():
    it = server(log=[(1, "a", "1")], term=1)
    it.request_vote(vote(2, last_index=0), 0.1)
    assert it.deadline == 0.2
    it.request_vote(vote(3, last_index=1, last_term=1), 0.1)
    assert it.deadline == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("last_term", "last_index", "granted"),
    [(2, 2, True), (2, 3, True), (3, 1, True), (2, 1, False), (1, 9, False), (0, 0, False)],
)
def test_only_a_log_as_up_to_date_gets_the_vote(last_term, last_index, granted):
    it = server(log=[(1, "a", "1"), (2, "a", "2")], term=2)
    assert it.request_vote(vote(3, 1, last_index, last_term), 0.0) == (3, granted)


@pytest.mark.parametrize("make", [lambda: (server(), candidate()[1]), candidate, leader])
def test_any_message_with_a_higher_term_makes_a_follower_of_it(make):
    receivers = [
        lambda it, call: it.request_vote(vote(9), 0.3),
        lambda it, call: it.append_entries(append(9), 0.3),
        lambda it, call: it.request_vote_reply(call, raft.RequestVoteReply(9, False), 0.3),
        lambda it, call: it.append_entries_reply(call, raft.AppendEntriesReply(9, False), 0.3),
    ]
    for receive in receivers:
        it, calls = make()
        receive(it, calls[0])
        assert (it.role, it.current_term) == (Role.FOLLOWER, 9)


def test_a_leader_that_steps_down_starts_its_timer():
    it, _ = leader()
    it.observe(2, 0.5)
    assert it.deadline == pytest.approx(0.7)


def test_a_leader_of_the_same_term_ends_the_candidacy():
    it, _ = candidate()
    assert it.append_entries(append(1, leader=2), 0.25) == (1, True, 0)
    assert (it.role, it.known_leader()) == (Role.FOLLOWER, 2)


def test_an_older_leader_is_refused_and_resets_nothing():
    it = server(term=5)
    assert it.append_entries(append(4), 0.1) == (5, False, 0)
    assert (it.deadline, it.known_leader()) == (0.2, None)


def test_a_leader_does_not_touch_its_log_for_another_one_of_its_term():
    it, _ = leader()
    assert not it.append_entries(append(1, entries=[Entry(1, "x", "y")]), 0.3).success
    assert (it.role, it.log.entries) == (Role.LEADER, [Entry(1)])


def test_a_leader_sends_a_heartbeat_to_every_other_server_each_50_ms():
    it, calls = leader()
    assert [call.peer for call in calls] == [1, 2]
    it.tick(0.249)
    assert it.take_outbox() == []
    it.tick(0.25)
    assert [call.peer for call in it.take_outbox()] == [1, 2]
    assert it.deadline == pytest.approx(0.3)


def test_the_known_leader_is_the_one_voted_for_until_the_election_has_ended():
    it = server()
    it.request_vote(vote(1, 2), 0.0)
    assert it.known_leader() == 2
    it.append_entries(append(1, leader=1), 0.0)
    assert it.known_leader() == 1
    it.observe(2, 0.0)
    assert it.known_leader() is None
