"""Every way in which three servers of lab 6 can replicate two commands in two terms.

As in explore_raft.py, a message that has been sent may arrive at any time, again, or never: a world
is the servers' states, the number of commands given so far, and the set of all messages ever sent.
Where more has been sent, all can still happen that could without. So of worlds with equal states
only those count whose sets no other one contains, what changes no state but only sends more is done
at once, and messages that will never do anything any more are dropped. It begins when server 0 has
become the leader of the first term; explore_raft.py has the elections before.

Left out: rounds of reads, snapshots and restarts, which the simulations have; a save takes no time,
and a call counts as lost when it has been made, so that a leader may send again at any time.
"""

import math
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from itertools import permutations

from tests.lab06.bitsets import bits
from tests.lab06.explored import Step, timeout
from tests.lab06.log_properties import LogViolation, Server, check_pair
from tests.support.harness import ROOT, load

raft = load(ROOT / "lab06_raft/raft.py")
protocol = load(ROOT / "lab06_raft/protocol.py")

TIMER, COMMAND = "timer", "command"
METHODS = {"RequestVoteRequest": "request_vote", "AppendEntriesRequest": "append_entries"}


class Exploration:
    """All worlds of three servers.

    Args:
        server_class: the core. last_term: no election of a later one begins. commands: how many.
    """

    def __init__(self, server_class=raft.Raft, last_term=2, commands=2):
        self.last_term, self.commands = last_term, commands
        self.servers: list[Server] = []  # by the number of the state
        self.states: dict[tuple, int] = {}
        self.messages: list[tuple] = []  # by number: (target, call, reply or None)
        self.numbers: dict[tuple, int] = {}
        self.inboxes = [0, 0, 0]  # the set of all messages to a server
        self.steps: dict[tuple, tuple[int, int]] = {}  # (state, event) -> (state after, sent)
        self.effects: dict[tuple[int, int], tuple] = {}  # (state, messages) -> see below
        self.beginning: list[tuple] = []  # the events of the first election, as (place, event)
        self.origins: dict[tuple, tuple] = {}  # world -> (world before, place, event)
        self.world: tuple = ()  # that is visited
        self.first = tuple(
            self._state(server_class(member, range(3), timeout)) for member in range(3)
        )
        self.truncations = 0  # steps that drop entries
        self.worlds: dict[tuple, list[int]] = {}  # states and commands given -> the largest sets

    def run(self) -> int:
        """Visit all worlds; return how many there are, or raise LogViolation."""
        self._visit(deque.pop)  # the latest first, which takes less than half the time
        return sum(map(len, self.worlds.values()))

    def counterexample(self) -> tuple[list[Step], str]:
        """Return few events that lead to a violation, and which; ([], "") if none do."""
        try:
            self._visit(deque.popleft)
        except LogViolation as violation:
            return self._replay(self.world), violation.args[0]
        return [], ""

    def _visit(self, take: Callable) -> None:
        todo = deque([(*self._begin(), None)])
        while todo:
            states, sent, origin = take(todo)
            sent = self._with_answers(states, sent)
            if self._is_new(states, sent):
                self.world = states, sent
                self.origins[self.world] = origin
                self._check(states[:3])
                todo += self._after(states, sent)

    def _begin(self) -> tuple[tuple, int]:
        """Return the world in which server 0 leads the first term, with the vote of server 1."""
        states, sent = list(self.first), 0
        for place in (0, 1, 0):
            for event in [*bits(sent & self.inboxes[place])] or [TIMER]:
                states[place], more = self._step(states[place], event)
                self.beginning.append((place, event))
                sent |= more
        return (*states, 0), sent

    def _is_new(self, states: tuple, sent: int) -> bool:
        known = self.worlds.get(states, [])
        if any(sent | larger == larger for larger in known):
            return False
        self.worlds[states] = [*(less for less in known if less | sent != sent), sent]
        return True

    def _with_answers(self, states: tuple, sent: int) -> int:
        """Add all that the servers can send without a change of their states; drop the dead."""
        before = None
        while sent != before:
            before = sent
            for place, state in enumerate(states[:3]):
                sent |= self._effects(state, sent & self.inboxes[place])[0]
        for place, state in enumerate(states[:3]):
            sent ^= self._effects(state, sent & self.inboxes[place])[2]
        return sent

    def _after(self, states: tuple, sent: int) -> Iterator[tuple]:
        *servers, given = states
        for place, state in enumerate(servers):
            moves = [
                (step, event, given)
                for step, event in self._effects(state, sent & self.inboxes[place])[1].items()
            ]
            if given < self.commands and self.servers[state].leads:
                event = COMMAND, given
                moves.append((self._step(state, event), event, given + 1))
            for (after, more), event, count in moves:
                states_after = *servers[:place], after, *servers[place + 1 :], count
                yield states_after, sent | more, (states, sent, place, event)

    def _effects(self, state: int, inbox: int) -> tuple[int, dict, int]:
        """Return what these messages, and the timer, do to a server.

        First what they let it send without a change of its state, then what they can change, with
        an event for each (state after, sent), and last those of them that are dead.
        """
        if (state, inbox) not in self.effects:
            steps = {event: self._step(state, event) for event in (TIMER, *bits(inbox))}
            answers = 0
            for after, sent in steps.values():
                answers |= sent if after == state else 0
            changes = {step: event for event, step in steps.items() if step[0] != state}
            dead = sum(1 << number for number in bits(inbox) if self._is_dead(state, number))
            self.effects[state, inbox] = answers, changes, dead
        return self.effects[state, inbox]

    def _is_dead(self, state: int, number: int) -> bool:
        """Tell whether a message that has been answered will never do anything any more.

        It does nothing now. A reply counts only in the candidacy or leadership that has asked. In
        the last term a request of an earlier one is refused for good, as is one for a vote that is
        given, and entries that the leader of the term knows to be here stay.
        """
        if self._step(state, number)[0] != state:
            return False
        core, (_, call, reply) = self.servers[state].core, self.messages[number]
        own, term = core.current_term, call.request.term
        is_vote = isinstance(call.request, raft.RequestVoteRequest)
        if reply:
            waits = core.role is raft.Role.CANDIDATE if is_vote else core.leadership
            return reply.term <= own and not (waits and own == term)
        if own < self.last_term:
            return False
        return own > term or (core.voted_for is not None if is_vote else self._has_all(core, call))

    def _has_all(self, core, call) -> bool:
        last = call.request.prev_log_index + len(call.request.entries)
        last_term = (call.request.entries or [None])[-1]
        last_term = last_term.term if last_term else call.request.prev_log_term
        return not core.leadership and core.log.holds(last, last_term)

    # The way to a world

    def _replay(self, world: tuple) -> list[Step]:
        """Return the events that lead to a world, without those that it does not need."""
        moves = []
        while origin := self.origins[world]:
            *world, place, event = origin
            world = tuple(world)
            moves.append((place, event))
        states, sent, taken = list(self.first), 0, []

        def take(place: int, event) -> None:
            nonlocal sent
            before = states[place]
            states[place], more = self._step(before, event)
            taken.append((place, event, before, states[place], more & ~sent))
            sent |= more

        for place, event in [*self.beginning, *moves[::-1]]:
            if len(taken) >= len(self.beginning):
                while any(self._answer(states, sent, take)):
                    pass
            take(place, event)
        return self._steps(taken)

    def _answer(self, states: list[int], sent: int, take: Callable) -> Iterator[bool]:
        """Take one event at a server that only makes it send more, if there is one."""
        for place, state in enumerate(states):
            for event in (TIMER, *bits(sent & self.inboxes[place])):
                after, more = self._step(state, event)
                if after == state and more & ~sent:
                    take(place, event)
                    yield True
                    return

    def _steps(self, taken: list[tuple]) -> list[Step]:
        needed, steps = 0, []
        for place, event, before, after, more in reversed(taken):
            if before != after or more & needed:
                needed |= 1 << event if isinstance(event, int) else 0
                received = self.messages[event] if isinstance(event, int) else None
                sent = [self.messages[number] for number in bits(more)]
                steps.append(Step(place, received, self.servers[after].core, sent))
        return steps[::-1]

    # One server, one event

    def _step(self, state: int, event) -> tuple[int, int]:
        if (state, event) not in self.steps:
            core = pickle.loads(self.servers[state].copy)
            sent = self._act(core, event)
            if core.is_unsaved:
                core.mark_saved(core.take_unsaved())
            for call in core.take_outbox():
                sent |= self._send(call.peer, call._replace(round=0), None)
                core.call_lost(call)
            after = self._state(core)
            before = self.servers[state].log
            self.truncations += self.servers[after].log[: len(before)] != before
            self.steps[state, event] = (after, sent)
        return self.steps[state, event]

    def _act(self, core, event) -> int:
        if event == TIMER:
            starts = core.role is raft.Role.FOLLOWER and core.current_term < self.last_term
            if starts or core.role is not raft.Role.FOLLOWER:
                core.tick(math.inf)
        elif isinstance(event, tuple):
            core.leadership.propose(protocol.Command(f"command {event[1]}", ""))
            core.leadership.replicate()
        else:
            target, call, reply = self.messages[event]
            method = getattr(
                core, METHODS[type(call.request).__name__] + ("_reply" if reply else "")
            )
            if reply:
                method(call, reply, 0)
            else:
                source = getattr(call.request, "candidate_id", None)
                source = call.request.leader_id if source is None else source
                reply = method(call.request, 0)
                return self._send(source, _summary(call, reply), reply)
        return 0

    def _send(self, target: int, call, reply) -> int:
        message = (target, call, reply)
        if message not in self.numbers:
            self.numbers[message] = len(self.messages)
            self.messages.append(message)
            self.inboxes[target] |= 1 << self.numbers[message]
        return 1 << self.numbers[message]

    def _state(self, core) -> int:
        """Return the number of a state; what will never show is the same in all."""
        core.leader_id, core.deadline = None, 0.0
        if core.role is not raft.Role.CANDIDATE:
            core.votes = set()
        followers = ()
        if core.leadership:
            core.leadership.round = 0
            for follower in core.leadership.followers.values():
                follower.answered_round = 0
            followers = tuple(
                (follower.next_index, follower.match_index)
                for follower in core.leadership.followers.values()
            )
        key = (core.node_id, core.role, core.current_term, core.voted_for, frozenset(core.votes))
        key += (tuple(core.log.entries), core.commit_index, followers)
        if key not in self.states:
            self.states[key] = len(self.servers)
            self.servers.append(Server(core))
        return self.states[key]

    # The properties

    def _check(self, states: tuple) -> None:
        for one, other in permutations([self.servers[state] for state in states], 2):
            check_pair(one, other)


def _summary(call, reply):
    """Return the call with what of it matters to the one that gets this reply."""
    request = call.request
    if not isinstance(reply, raft.AppendEntriesReply):
        return call
    match_index = request.prev_log_index + len(request.entries) if reply.success else 0
    return call._replace(
        request=request._replace(
            prev_log_index=match_index, prev_log_term=0, entries=(), leader_commit=0
        )
    )
