"""Which worlds of the elections are equivalent: no series of events tells them apart.

A transition is what one event, the timer or the arrival of a message, makes of one state of one
server: the state afterwards, and the things that the server then sends. A thing is a message, or a
claim that a message proves. The table has a row of transitions for each state; states and things
are numbers there, and a set of things is one integer with their bits. A world is the states of the
three servers and the set of all things ever sent.
"""

import itertools
from functools import cache

from tests.lab06.bitsets import bits, union
from tests.lab06.explore_raft import NAMES, TIMER, TransitionTable


class Reduction:
    """Maps each world to the one that stands for all that are equivalent to it.

    * States of a server that do the same in every series of events are one: it does not matter
      which server a follower takes for the leader.
    * Messages that do the same to their receiver from now on, whatever else arrives, are one; if
      they do nothing, they are dropped. So is a claim that no server can contradict any more.
    * An event that changes no state and only sends messages happens at once: a larger set of sent
      messages permits all that a smaller one does.
    * All servers have the same rules: worlds that differ only by a renaming of the servers count as
      one, the least.
    """

    def __init__(self, table: TransitionTable):
        self.table = table
        self.alike = self._alike()
        self.matters = [self._matters(state) for state in range(len(table.steps))]
        self.visible = [union(group for group, _ in groups) for groups in self.matters]
        self.renamings = [Renaming(table, order) for order in itertools.permutations(range(3))]
        self._answers, self._least, self._part = map(
            cache, (self._answers, self._least, self._part)
        )

    def __call__(self, world: tuple) -> tuple:
        states = tuple(self.alike[state] for state in world[:-1])
        sent = self._with_answers(states, world[-1])
        return min(self._renamed(renaming, states, sent) for renaming in self._least(states))

    def _with_answers(self, states: tuple, sent: int) -> int:
        before = None
        while sent != before:
            before = sent
            for state, inbox in zip(states, self.table.inboxes, strict=True):
                sent |= self._answers(state, sent & inbox)
        return sent

    def _answers(self, state: int, arrived: int) -> int:
        """Return the messages that these let a server send without a change of its state."""
        steps = [self.table.steps[state][event] for event in bits(arrived)]
        answers = [sent for after, sent in steps if self.alike[after] == state]
        return union(sent for sent in answers if not sent & self.table.claims)

    def _least(self, states: tuple) -> list["Renaming"]:
        """Return the renamings that make these states the least; what was sent decides then."""
        named = [tuple(self._name(r, states[old]) for old in r.order) for r in self.renamings]
        return [r for r, those in zip(self.renamings, named, strict=True) if those == min(named)]

    def _renamed(self, renaming: "Renaming", states: tuple, sent: int) -> tuple:
        olds = [states[place] for place in renaming.order]
        parts = [self._part(renaming, old, sent & self.visible[old]) for old in olds]
        return (*(state for state, _ in parts), union(things for _, things in parts))

    def _part(self, renaming: "Renaming", state: int, sent: int) -> tuple[int, int]:
        """Return a server's state under its new name, and what of a set matters to it."""
        state, sent = self._name(renaming, state), renaming.of_set(sent)
        return state, union(first for group, first in self.matters[state] if group & sent)

    def _name(self, renaming: "Renaming", state: int) -> int:
        return self.alike[renaming.states[state]]

    # What the table says

    def _alike(self) -> list[int]:
        """Return for each state the first that does the same in every series of events."""
        finer, alike = [0] * len(self.table.steps), None
        while finer != alike:
            alike, first = finer, {}
            rows = [
                frozenset((event, alike[after], sent) for event, (after, sent) in row.items())
                for row in self.table.steps
            ]
            finer = [first.setdefault(row, state) for state, row in enumerate(rows)]
        return alike

    def _future(self, state: int) -> list[int]:
        """Return the states that a server can come to from this one."""
        found, todo = {state}, [state]
        while todo:
            after = {
                self.alike[after] for after, _ in self.table.steps[todo.pop()].values()
            } - found
            todo += after
            found |= after
        return sorted(found)

    def _matters(self, state: int) -> list[tuple[int, int]]:
        """Return the groups of equivalent things that can still have an effect, and one of each."""
        future, steps = self._future(state), self.table.steps
        alike, contradicted = {}, 0
        for event in self.table.events[self.table.servers[state].node_id]:
            effects = [(self.alike[steps[s][event][0]], steps[s][event][1]) for s in future]
            contradicted |= union(self.table.contradicted(sent) for _, sent in effects)
            if event != TIMER and effects != [(s, 0) for s in future]:
                alike.setdefault(tuple(effects), []).append(1 << event)
        claims = [1 << number for number in bits(contradicted)]
        return [(sum(group), group[0]) for group in [*alike.values(), *([c] for c in claims)]]


class Renaming:
    """What states and sets become when the servers change places."""

    def __init__(self, table: TransitionTable, order: tuple[int, ...]):
        self.order = order  # order[new place] = old place
        names = {NAMES[old]: NAMES[new] for new, old in enumerate(order)}
        self.states = [table.states[_rename(key, names)] for key in table.states]
        self.bits = [1 << table.numbers[_rename(thing, names)] for thing in table.things]
        self.of_set = cache(self.of_set)

    def of_set(self, things: int) -> int:
        return union(self.bits[number] for number in bits(things))


def _rename(thing, names: dict[str, str]):
    if isinstance(thing, tuple | frozenset):
        kind = tuple if isinstance(thing, tuple) else frozenset  # a named tuple equals a plain one
        return kind(_rename(part, names) for part in thing)
    return names.get(thing, thing) if isinstance(thing, str) else thing
