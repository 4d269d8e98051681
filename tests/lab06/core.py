"""Lab 6's core by itself: servers in a given state, their calls, and the replies to these."""

import itertools

from tests.support.harness import ROOT, load

raft = load(ROOT / "lab06_raft/raft.py")
Role = raft.Role
protocol = load(ROOT / "lab06_raft/protocol.py")
Command, Entry = protocol.Command, protocol.Entry


def server(members=3, log=(), term=0, spans=(0.2, 0.25, 0.3), **limits):
    """A server with the id 0, whose timer takes these spans one after the other."""
    saved = raft.Saved(term, None, log=[Entry(*entry) for entry in log])
    new_timeout = itertools.cycle(spans).__next__
    return raft.Raft(0, range(members), new_timeout, 0.0, saved, raft.Limits(**limits))


def vote(term, candidate=1, last_index=0, last_term=0):
    return raft.RequestVoteRequest(term, candidate, last_index, last_term)


def append(term, prev=(0, 0), entries=(), commit=0, leader=1):
    return raft.AppendEntriesRequest(term, leader, *prev, tuple(entries), commit)


def candidate(**options):
    """A server that has just asked for votes, and its calls."""
    it = server(**options)
    it.tick(it.deadline)
    return it, it.take_outbox()


def leader(**options):
    """A leader and its first calls, elected by the votes it needed."""
    it, calls = candidate(**options)
    for call in calls[: it.quorum - 1]:
        it.request_vote_reply(call, raft.RequestVoteReply(it.current_term, True), 0.2)
    assert it.role is Role.LEADER
    save(it)
    return it, it.take_outbox()


def save(it):
    """Let the disk take what has changed."""
    if it.is_unsaved:
        it.mark_saved(it.take_unsaved())


def propose(it, *keys, value="1"):
    """Give the leader commands that set these keys, and save and send them; return the calls."""
    for key in keys:
        it.leadership.propose(Command(key, value))
    save(it)
    it.leadership.replicate()
    return it.take_outbox()


def match_index(it, peer):
    return it.leadership.followers[peer].match_index


def sizes(calls):
    """How many entries each call carries."""
    return [len(call.request.entries) for call in calls]


def answer(it, call, success=True, conflict=0, now=0.2):
    reply = raft.AppendEntriesReply(it.current_term, success, conflict)
    it.append_entries_reply(call, reply, now)
    return it.take_outbox()


LOG = [Entry(1, "a", "1"), Entry(1, "b", "2"), Entry(2, "c", "3")]
