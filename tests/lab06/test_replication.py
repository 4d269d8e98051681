"""Lab 6, the core: how entries go out, are taken, committed and saved, and reads confirmed."""

import pytest

from tests.lab06.core import (
    LOG,
    Command,
    Entry,
    Role,
    answer,
    append,
    leader,
    match_index,
    propose,
    raft,
    save,
    server,
    sizes,
    vote,
)


def test_what_replaces_entries_on_disk_is_not_on_disk_before_it_is_saved():
    it = server(log=LOG, term=2)
    it.append_entries(append(3, (1, 1), [Entry(3, "x"), Entry(3, "y")]), 0.1)
    assert (it.log.saved_index, it.log.last_index) == (1, 3)
    save(it)
    assert it.log.saved_index == 3


@pytest.mark.parametrize(
    ("prev", "entries", "log", "conflict"),
    [
        ((3, 2), [Entry(2, "d", "4")], [*LOG, Entry(2, "d", "4")], None),
        ((1, 1), [LOG[1]], LOG, None),  # late: what follows stays
        ((1, 1), [Entry(3, "x")], [LOG[0], Entry(3, "x")], None),  # conflict: what follows goes
        ((0, 0), [], LOG, None),
        ((4, 2), [], LOG, 4),  # beyond the end: there it is
        ((3, 3), [], LOG, 3),  # another term: where it begins
        ((2, 2), [], LOG, 1),
    ],
)
def test_entries_are_taken_where_the_one_before_matches(prev, entries, log, conflict):
    it = server(log=LOG, term=3)
    reply = it.append_entries(append(3, prev, entries), 0.0)
    assert (reply.success, it.log.entries) == (conflict is None, log)
    assert conflict is None or reply.conflict_index == conflict


def test_a_follower_commits_only_as_far_as_it_has_been_told_what_stands_there():
    it = server(log=LOG, term=3)
    it.append_entries(append(3, (1, 1), commit=3), 0.0)
    assert (it.commit_index, it.values) == (1, {"a": "1"})
    it.append_entries(append(3, (3, 2), commit=2), 0.0)
    assert (it.commit_index, it.values) == (2, {"a": "1", "b": "2"})


def test_a_leader_commits_what_a_majority_holds():
    it, calls = leader(members=5)
    answer(it, calls[0])
    assert it.commit_index == 0
    answer(it, calls[0])  # the same peer again
    assert it.commit_index == 0
    answer(it, calls[1])
    assert it.commit_index == 1


def test_an_entry_of_an_older_term_is_not_committed_by_counting():
    it, calls = leader(log=LOG, term=2)
    (older,) = answer(it, calls[0], success=False, conflict=3)
    up_to_3 = older._replace(request=older.request._replace(entries=older.request.entries[:1]))
    answer(it, up_to_3)
    assert (match_index(it, 1), it.commit_index) == (3, 0)
    answer(it, calls[1])
    assert it.commit_index == 4


def test_a_new_leader_adds_an_entry_that_sets_nothing():
    it, calls = leader(log=LOG, term=2)
    assert it.log.entries[-1] == Entry(3)
    answer(it, calls[0])
    assert it.values == {"a": "1", "b": "2", "c": "3"}


def test_commands_go_out_at_once_and_those_that_come_meanwhile_go_together():
    it, calls = leader()
    more = [call for call in calls for call in answer(it, call)]
    assert more == []
    first = propose(it, "a")
    assert sizes(first) == [1, 1]
    assert propose(it, "b", "c") == []
    assert sizes(answer(it, first[0])) == [2]


def test_a_command_is_in_the_log_at_once_and_goes_out_with_the_next_heartbeat():
    it, calls = leader()
    for call in calls:
        answer(it, call)
    place = it.leadership.propose(Command("a", "1"))
    assert (it.log.entries[-1], place) == (Entry(1, "a", "1"), (2, 1))
    assert it.take_outbox() == []
    it.tick(it.deadline)
    assert sizes(it.take_outbox()) == [1, 1]


def test_a_heartbeat_does_not_carry_what_is_under_way():
    it, calls = leader()
    it.tick(it.deadline)
    assert sizes(it.take_outbox()) == [0, 0]
    answer(it, calls[0])
    assert [(call.peer, *sizes([call])) for call in propose(it, "a")] == [(1, 1)]
    it.tick(it.deadline)
    assert sizes(it.take_outbox()) == [0, 0]


def test_a_lost_call_is_made_again_by_the_heartbeat():
    it, calls = leader()
    it.call_lost(calls[0])
    assert it.take_outbox() == []
    it.tick(it.deadline)
    assert sizes(it.take_outbox()) == [1, 0]


def test_the_loss_of_an_older_call_says_nothing_about_the_one_under_way():
    it, calls = leader()
    it.call_lost(calls[0])
    it.tick(it.deadline)
    it.take_outbox()
    it.call_lost(calls[0])
    it.tick(it.deadline)
    assert sizes(it.take_outbox()) == [0, 0]


def test_a_follower_that_lags_is_brought_up_batch_by_batch_without_waiting():
    it, calls = leader(log=[(1, "k", str(n)) for n in range(2500)], term=1)
    found = []
    (call,) = answer(it, calls[0], success=False, conflict=1)
    while call:
        found += sizes([call])
        (call,) = answer(it, call) or [None]
    assert found == [1000, 1000, 501]


def test_a_batch_of_large_values_stays_below_what_one_message_holds():
    it, calls = leader(log=[(1, "k", "x" * 200_000)] * 5, term=1)
    (call,) = answer(it, calls[0], success=False, conflict=1)
    assert sizes([call]) == [1]


def test_a_refusal_that_tells_nothing_new_is_not_answered_in_a_hot_loop():
    it, calls = leader(log=LOG, term=2)
    assert answer(it, calls[0], success=False, conflict=1) != []
    assert answer(it, calls[0], success=False, conflict=1) == []
    assert answer(it, calls[0], success=False, conflict=0) == []


def test_a_reply_to_an_earlier_leadership_says_nothing_about_this_one():
    it, calls = leader()
    it.observe(2, 0.3)
    it.tick(it.deadline)
    for call in it.take_outbox():
        it.request_vote_reply(call, raft.RequestVoteReply(3, True), 0.6)
    assert (it.role, it.current_term) == (Role.LEADER, 3)
    answer(it, calls[0])
    assert match_index(it, 1) == 0


def test_a_read_is_confirmed_by_replies_to_what_was_sent_after_it_began():
    it, calls = leader()
    answer(it, calls[0])
    read = it.start_read(0.2)
    later = it.take_outbox()
    answer(it, calls[1])
    assert not it.is_confirmed(read)
    answer(it, later[0])
    assert it.is_confirmed(read)
    it.observe(9, 0.3)
    assert not it.is_confirmed(read)


def test_a_new_leader_confirms_no_read_before_it_has_committed_in_its_term():
    it, calls = leader(log=LOG, term=2)
    read = it.start_read(0.2)
    refused = it.take_outbox()[0]
    answer(it, refused, success=False, conflict=3)
    assert not it.is_confirmed(read)
    answer(it, calls[0])
    assert it.is_confirmed(read)


def test_a_cluster_of_one_leads_and_commits_alone():
    it, calls = leader(members=1)
    propose(it, "a")
    assert (calls, it.values, it.current_term) == ([], {"a": "1"}, 1)
    assert it.is_confirmed(it.start_read(0.3))


def test_a_forwarded_command_is_applied_only_if_that_very_entry_is_here():
    it = server(log=LOG, term=3)
    it.learn_commit(raft.Place(3, 3))
    it.learn_commit(raft.Place(4, 2))
    assert it.commit_index == 0
    it.learn_commit(raft.Place(3, 2))
    assert it.commit_index == 3


def test_what_has_to_be_saved_is_told_once():
    it = server(log=LOG, term=2)
    assert not it.is_unsaved
    it.request_vote(vote(3, 2, 9, 9), 0.0)
    assert it.take_unsaved() == (3, 2, None, 4, [], None)
    it.append_entries(append(3, (1, 1), [Entry(3, "x", "y")]), 0.0)
    assert it.is_unsaved
    assert it.take_unsaved() == (3, 2, None, 2, [Entry(3, "x", "y")], None)
    it.append_entries(append(3, (2, 3)), 0.0)
    assert not it.is_unsaved


def test_a_leader_counts_an_entry_of_its_own_only_when_it_is_on_disk():
    it, calls = leader(members=5)
    for call in calls[:2]:
        answer(it, call)
    assert it.commit_index == 1
    it.leadership.propose(Command("a", "1"))
    it.leadership.replicate()
    calls = it.take_outbox()
    unsaved = it.take_unsaved()
    for call in calls:
        answer(it, call)
    assert it.commit_index == 1
    it.mark_saved(unsaved)
    assert it.commit_index == 2


def test_a_majority_of_followers_commits_what_the_slow_disk_of_the_leader_has_not():
    it, calls = leader()
    for call in calls:
        answer(it, call)
    it.leadership.propose(Command("a", "1"))
    it.leadership.replicate()
    calls = it.take_outbox()
    for call in calls:
        answer(it, call)
    assert (it.commit_index, it.log.saved_index) == (2, 1)


def test_a_save_of_entries_that_have_been_replaced_meanwhile_counts_for_nothing():
    it = server(log=LOG, term=3)
    it.append_entries(append(3, (3, 2), [Entry(3, "d", "4")]), 0.0)
    older = it.take_unsaved()
    it.append_entries(append(4, (3, 2), [Entry(4, "e", "5")]), 0.0)
    it.mark_saved(older)
    assert it.log.saved_index == 3
    it.mark_saved(it.take_unsaved())
    assert it.log.saved_index == 4


@pytest.mark.parametrize(
    ("limits", "size", "room"),
    [
        ({"waiting_entries": 3}, 2, 2),  # the no-op waits, too
        ({"waiting_size": 10}, 6, 2),
        ({}, 2, 9_999),
        ({}, 1_000_000, 64),
    ],
)
def test_commands_that_wait_are_bounded_in_number_and_size(limits, size, room):
    it, _ = leader(**limits)
    command = Command("k", "v" * (size - 1))
    taken = [bool(it.leadership.propose(command)) for _ in range(room + 2)]
    assert taken == [True] * room + [False] * 2


def test_the_outcome_of_a_command_is_open_then_done_or_lost():
    it, calls = leader()
    answer(it, calls[0])
    place = it.leadership.propose(Command("a", "1"))
    assert it.replica.outcome(place) is None
    assert it.replica.outcome(place._replace(term=7)) is False
    it.leadership.replicate()
    answer(it, it.take_outbox()[0])
    assert it.replica.outcome(place) is None  # a majority has it, but one of them in memory only
    save(it)
    assert it.replica.outcome(place) is True
    assert it.replica.outcome(place._replace(term=7)) is False
