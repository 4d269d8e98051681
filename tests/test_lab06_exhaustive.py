"""Lab 6: every election that three servers can hold in two terms, in every order of events."""

import copy
import math

import pytest

from tests.harness import ROOT, load

pytestmark = pytest.mark.ours

raft = load(ROOT / "lab06_raft/raft.py")
MEMBERS = (0, 1, 2)
TIMER = -1  # the event that is not a message


class Violation(AssertionError):
    """Two servers lead one term, or one server votes twice in it."""


class Explorer:
    """Visits breadth first every state that the servers can reach together.

    A world is the servers' states and the set of all messages ever sent. Each of those may arrive
    at any time, again, or never, which covers loss, duplication, delay and reordering alike. The
    core is a function of state and event, so each server state and message is stored once, by
    number; a set of messages is an int with their bits.
    """

    def __init__(self, server_class, last_term: int):
        self.last_term = last_term
        self.servers, self.server_numbers = [], {}
        self.messages, self.message_numbers = [], {}
        self.conflicts: list[int] = []  # by message: the set of those that contradict it
        self.steps: dict[tuple, tuple] = {}  # (server, event) -> (server after it, messages sent)
        self.first = tuple(
            self._number(server_class(member, MEMBERS, lambda: 0.2)) for member in MEMBERS
        )

    def explore(self) -> int:
        """Return the number of worlds; raise Violation at the first bad one."""
        start = (*self.first, 0)
        seen, frontier = {start}, [start]
        while frontier:
            frontier = list({after for world in frontier for after in self._after(world)} - seen)
            seen.update(frontier)
        return len(seen)

    def _after(self, world):
        """Yield every world that one event makes of this one."""
        sent = world[3]
        events = [(member, TIMER) for member in MEMBERS]
        events += [(m[0], i) for i, m in enumerate(self.messages) if sent >> i & 1]
        for member, event in events:
            key = (world[member], event)
            server, more = self.steps.get(key) or self._step(key)
            if more & ~sent:
                self._check(sent | more, more & ~sent)
            yield (*world[:member], server, *world[member + 1 : 3], sent | more)

    def _step(self, key):
        """Run the core: one server, one event."""
        server = copy.copy(self.servers[key[0]])
        server.log, server.votes = list(server.log), set(server.votes)
        server.take_outbox()  # empty, but until now the original's
        sent = 0
        if key[1] == TIMER:
            starts = server.role is raft.Role.FOLLOWER and server.current_term < self.last_term
            if starts or server.role is raft.Role.CANDIDATE:
                server.tick(math.inf)
        else:
            sent = self._deliver(server, *self.messages[key[1]])
        for call in server.take_outbox():
            sent |= self._bit(call.peer, call, None)
        self.steps[key] = (self._number(server), sent)
        return self.steps[key]

    def _deliver(self, server, target, call, reply) -> int:
        request = call.request
        source = request[1]  # candidate_id or leader_id
        if reply:
            server.request_vote_reply(call, reply, 0)
        elif isinstance(request, raft.AppendEntriesRequest):
            server.append_entries(request, 0)  # replication goes no further: no reply
        else:
            reply = server.request_vote(request, 0)
            if reply.result or reply.term > request.term:  # any other refusal tells nothing
                return self._bit(source, call, reply)
        return 0

    def _number(self, server) -> int:
        state = (server.node_id, server.role, server.current_term, server.voted_for)
        state += (server.leader_id, frozenset(server.votes), tuple(server.log))
        if state not in self.server_numbers:
            self.server_numbers[state] = len(self.servers)
            self.servers.append(server)
        return self.server_numbers[state]

    def _bit(self, *message) -> int:
        if message not in self.message_numbers:
            number = self.message_numbers[message] = len(self.messages)
            others = [i for i, other in enumerate(self.messages) if _contradict(message, other)]
            self.conflicts.append(sum(1 << i for i in others))
            for other in others:
                self.conflicts[other] |= 1 << number
            self.messages.append(message)
        return 1 << self.message_numbers[message]

    def _check(self, sent: int, new: int) -> None:
        while new:
            number = new.bit_length() - 1
            if self.conflicts[number] & sent:
                raise Violation(f"{self.messages[number]} was sent, and a message against it")
            new ^= 1 << number


def _contradict(one, other) -> bool:
    """Tell whether two messages prove two leaders of a term, or two votes of a server in it."""
    claims = [_claim(*message) for message in (one, other)]
    return None not in claims and claims[0][0] == claims[1][0] and claims[0][1] != claims[1][1]


def _claim(target, call, reply):
    """Return what a message proves: (what, value), and no two values of one `what` may be."""
    request = call.request
    if isinstance(request, raft.AppendEntriesRequest):
        return ("leader of", request.term), request.leader_id
    if reply is None:  # a candidate votes for itself
        return ("vote of", request.candidate_id, request.term), request.candidate_id
    return (("vote of", call.peer, request.term), request.candidate_id) if reply.result else None


class DoubleVote(raft.Raft):
    def _may_vote(self, request):
        return request.term == self.current_term and self.role is raft.Role.FOLLOWER


class LateVote(raft.Raft):
    def _vote_counts(self, request):
        return True


class OneVoteIsEnough(raft.Raft):
    quorum = property(lambda self: 1, lambda self, value: None)


def test_no_order_of_events_gives_one_term_two_leaders_or_one_server_two_votes():
    assert Explorer(raft.Raft, last_term=2).explore() > 50_000


@pytest.mark.parametrize("mutant", [DoubleVote, LateVote, OneVoteIsEnough])
def test_the_exploration_finds_the_order_that_breaks_a_mutant(mutant):
    with pytest.raises(Violation):
        Explorer(mutant, last_term=2).explore()
