"""What a dictionary would answer: the judge of a ring's answers."""

import math

from tests.sim_chord import messages
from tests.support.linearizability import IMPOSSIBLE

WRITES = (messages.Kind.SAVE, messages.Kind.REMOVE)


class Operation:
    """One operation as its client saw it."""

    def __init__(self, kind, key, text, called):
        self.kind, self.key, self.text, self.called = kind, key, text, called
        self.returned, self.success, self.got = math.inf, None, None

    def answer(self, outcome, now):
        self.returned, self.success, self.got = now, outcome.success, outcome.text

    def __str__(self):
        result = "no answer" if self.success is None else f"{self.success} {self.got}"
        return f"{self.called:8.3f} {self.returned:8.3f} {self.kind.name} {self.text}: {result}"

    def apply(self, state):
        """Return the state of the key afterwards, if a dictionary would have answered so."""
        kind, present = self.kind, state is not None
        success = not present if kind is messages.Kind.SAVE else present
        if self.success is not None and self.success != success:
            return IMPOSSIBLE
        if kind is messages.Kind.GET and success and self.got != state:
            return IMPOSSIBLE
        if not success or kind not in WRITES:
            return state
        return self.text if kind is messages.Kind.SAVE else None
