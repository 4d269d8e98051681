"""Every election that three servers of lab 6 can hold in a few terms, in every order of events.

A message that has been sent may arrive at any time, again, or never, which covers loss, doubling,
delay and reordering alike. So a world is the servers' states and the set of all messages ever sent.
The set also has claims: that a server has voted for another in a term, or led it; two that
contradict each other are a violation. Replication goes as far as elections depend on it: the first
entry of a new leader is sent, taken or refused, but not sent again.

What one event does to one server stands in a table, `TransitionTable`. Most worlds differ only in
what no event can reveal; reduction.py finds these from the table alone, without knowing Raft.
"""

import contextlib
import math
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from tests.lab06.bitsets import bits, union
from tests.lab06.explored import Step, timeout
from tests.sim_raft_core.properties import Violation
from tests.support.harness import ROOT, load

raft = load(ROOT / "lab06_raft/raft.py")
NAMES = ("a", "b", "c")  # of the servers; no other string in states or messages equals one of them
TIMER = -1  # the event that is not a message


class ElectionViolation(Violation):
    """Two servers lead one term, or one server votes twice in it.

    Args:
        claims: those before that the last event contradicts. place, event: that event.
    """

    def __init__(self, claims: list["Claim"], place: int, event: int):
        found = [f"{' '.join(claim.what[:-1])} in term {claim.what[-1]}" for claim in claims]
        super().__init__(f"a second {', a second '.join(found)}")
        self.place, self.event = place, event

    def __str__(self):
        return f"{super().__str__()}; to draw it: make sim-picture SEED=elections"


class Message(NamedTuple):
    target: str
    call: raft.Call
    reply: tuple | None


class Claim(NamedTuple):
    """A fact that a message proves; one `what` must never have two values."""

    what: tuple
    value: str


class TransitionTable:
    """What every event makes of every state of one server, and what the server then sends.

    States and things sent (messages and claims) have numbers; a set of things is an int with their
    bits. The table is closed: any message in it may arrive in any state in it.
    """

    def __init__(self, server_class, last_term: int):
        self.last_term = last_term
        self.servers, self.states = [], {}
        # By state: the server, pickled, which is quicker than deepcopy.
        self.copies: list[bytes] = []
        self.things, self.numbers = [], {}
        self.events = {name: [TIMER] for name in NAMES}
        self.steps: list[dict[int, tuple[int, int]]] = []  # by state: event -> (state after, sent)
        self.first = tuple(self._state(server_class(name, NAMES, timeout)) for name in NAMES)
        while missing := list(self._missing()):
            for state, event in missing:
                self.steps[state][event] = self._step(state, event)
        self.inboxes = [sum(1 << event for event in self.events[name][1:]) for name in NAMES]
        claims = [thing for thing in self.things if isinstance(thing, Claim)]
        self.claims = sum(map(self._bit, claims))
        self.against = {
            self.numbers[one]: sum(self._bit(other) for other in claims if _contradict(one, other))
            for one in claims
        }
        self.contradicted = cache(self.contradicted)

    def _missing(self) -> Iterator[tuple[int, int]]:
        for state, server in enumerate(self.servers):
            for event in self.events[server.node_id]:
                if event not in self.steps[state]:
                    yield state, event

    def _step(self, state: int, event: int) -> tuple[int, int]:
        """Run the core: one server, one event."""
        server = pickle.loads(self.copies[state])
        sent = 0
        if event == TIMER:
            starts = server.role is raft.Role.FOLLOWER and server.current_term < self.last_term
            if starts or server.role is raft.Role.CANDIDATE:
                server.tick(math.inf)
        else:
            sent = self._deliver(server, self.things[event])
        for call in server.take_outbox():
            sent |= self._send(Message(call.peer, call, None))
        return self._state(server), sent

    def _deliver(self, server, message: Message) -> int:
        request, reply = message.call.request, message.reply
        vote = isinstance(request, raft.RequestVoteRequest)
        if reply:
            take = server.request_vote_reply if vote else server.append_entries_reply
            take(message.call, reply, 0)
            return 0
        reply = (server.request_vote if vote else server.append_entries)(request, 0)
        # Replication ends here, and any other refusal tells nothing.
        if (vote and reply.result) or reply.term > request.term:
            return self._send(Message(_source(request), message.call, reply))
        return 0

    def _state(self, server) -> int:
        key = (server.node_id, server.role, server.current_term, server.voted_for)
        key += (server.leader_id, frozenset(server.votes), tuple(server.log.entries))
        if key not in self.states:
            self.states[key] = len(self.servers)
            self.servers.append(server)
            self.copies.append(pickle.dumps(server))
            self.steps.append({})
        return self.states[key]

    def _send(self, message: Message) -> int:
        claim = _claim(message)
        return self._bit(message) | (self._bit(claim) if claim else 0)

    def _bit(self, thing) -> int:
        if thing not in self.numbers:
            self.numbers[thing] = len(self.things)
            self.things.append(thing)
            if isinstance(thing, Message):
                self.events[thing.target].append(self.numbers[thing])
        return 1 << self.numbers[thing]

    def contradicted(self, things: int) -> int:
        """Return all claims that contradict one of these things."""
        return union(self.against[number] for number in bits(things & self.claims))

    def after(self, world: tuple) -> Iterator[tuple[tuple, int, int]]:
        """Yield every world that one event leads to; raise Violation at a bad one.

        With each come the place of the server and the event.
        """
        sent = world[-1]
        for place, state in enumerate(world[:-1]):
            for event in (TIMER, *bits(sent & self.inboxes[place])):
                after, more = self.steps[state][event]
                if contradicted := self.contradicted(more) & (sent | more):
                    claims = [self.things[number] for number in bits(contradicted)]
                    raise ElectionViolation(claims, place, event)
                if after != state or more & ~sent:
                    others = world[:place], world[place + 1 : -1]
                    yield (*others[0], after, *others[1], sent | more), place, event


def _source(request) -> str:
    vote = isinstance(request, raft.RequestVoteRequest)
    return request.candidate_id if vote else request.leader_id


def _claim(message: Message) -> Claim | None:
    """Return what a message proves."""
    (target, call, reply), term = message, message.call.request.term
    if isinstance(call.request, raft.AppendEntriesRequest):
        return None if reply else Claim(("leader", term), call.request.leader_id)
    if reply is None:  # a candidate votes for itself
        target = call.request.candidate_id
        return Claim(("vote of", target, term), target)
    return Claim(("vote of", call.peer, term), target) if reply.result else None


def _contradict(one: Claim, other: Claim) -> bool:
    return one.what == other.what and one.value != other.value


def explore(
    table: TransitionTable, reduction: Callable[[tuple], tuple] = lambda world: world
) -> set[tuple]:
    """Return all worlds that the servers can reach, breadth first; raise Violation at a bad one."""
    frontier = {reduction((*table.first, 0))}
    worlds = set(frontier)
    while frontier:
        after = {after for world in frontier for after, _, _ in table.after(world)}
        frontier = {reduction(world) for world in after} - worlds
        worlds |= frontier
    return worlds


def counterexample(table: TransitionTable, reduction: Callable) -> tuple[list[Step], str]:
    """Return the fewest events that lead to a violation, and its message; ([], "") if none do."""
    with contextlib.suppress(ElectionViolation):
        explore(table, reduction)
        return [], ""
    # A violation exists, so this search ends soon even without the reduction.
    world = (*table.first, 0)
    origins, todo = {world: None}, deque([world])
    while todo:
        world = todo.popleft()
        try:
            for after, place, event in table.after(world):
                if after not in origins:
                    origins[after] = world, place, event
                    todo.append(after)
        except ElectionViolation as violation:
            origin = (world, violation.place, violation.event)
            return _replay(table, _moves(origins, origin)), violation.args[0]
    raise AssertionError("the reduction shows a violation that does not exist without it")


def _moves(origins: dict, origin: tuple | None) -> list:
    """Return the (place, event) that lead somewhere, the first one first."""
    moves = []
    while origin:
        world, *move = origin
        moves.append(move)
        origin = origins[world]
    return moves[::-1]


def _replay(table: TransitionTable, moves: list) -> list[Step]:
    steps, states = [], list(table.first)
    for place, event in moves:
        states[place], sent = table.steps[states[place]][event]
        received = None if event == TIMER else table.things[event]
        things = [table.things[number] for number in bits(sent & ~table.claims)]
        steps.append(Step(place, received, table.servers[states[place]], things))
    return steps
