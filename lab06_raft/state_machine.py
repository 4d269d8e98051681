"""The replicated state: the values by key, and sessions, so that a retry is not done twice.

A client that retries cannot know whether its first attempt is in the log. So a client with a
session has an id and numbers its commands; an entry whose number is not above the last one of its
session changes nothing (§8; §6.3 of Ongaro's dissertation). All servers apply the same log, so
they agree on it.
"""

from collections.abc import Sequence

from protocol import Entry

MAX_SESSIONS = 10_000  # of more clients, the one whose last command is the oldest is forgotten


class StateMachine:
    """The values after some entry of the log.

    Args:
        values: the state to begin with.
        sessions: the last sequence number by client id, least recently used first.
    """

    def __init__(self, values: dict[str, str], sessions: dict[int, int]):
        self.restore(values, sessions)

    def restore(self, values: dict[str, str], sessions: dict[int, int]) -> None:
        """Take over another state."""
        self.values = values
        self.sessions = sessions
        self._skipped: set[int] = set()  # indices of entries that have changed nothing

    def apply(self, index: int, entry: Entry) -> None:
        """Carry out the entry at `index`, unless its session has seen that number already."""
        if entry.client_id:
            if entry.sequence <= self.sessions.get(entry.client_id, 0):
                self._skipped.add(index)
                return
            self.sessions.pop(entry.client_id, None)  # so that it comes last
            self.sessions[entry.client_id] = entry.sequence
            if len(self.sessions) > MAX_SESSIONS:
                del self.sessions[next(iter(self.sessions))]
        if entry.key:
            self.values[entry.key] = entry.value

    def has_done(self, index: int, entry: Entry) -> bool:
        """Tell whether an applied entry was carried out: by itself, or as an equal one before."""
        return index not in self._skipped or self.sessions.get(entry.client_id) == entry.sequence

    def take_changes(
        self, first: int, entries: Sequence[Entry]
    ) -> tuple[dict[str, str], dict[int, int]]:
        """Return the values and sessions that applied entries have set, `first` being their index.

        Of each session the last use comes last. The entries leave the log: forget about them.
        """
        values, sessions = {}, {}
        for index, entry in enumerate(entries, first):
            if index in self._skipped:
                self._skipped.remove(index)
                continue
            if entry.client_id:
                sessions.pop(entry.client_id, None)
                sessions[entry.client_id] = entry.sequence
            if entry.key:
                values[entry.key] = entry.value
        return values, sessions
