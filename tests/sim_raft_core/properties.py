"""The five properties of the Raft paper's Figure 3, checked over all that has ever happened."""


class Violation(AssertionError):
    """A property of the paper's Figure 3, or another promise, does not hold."""


class Properties:
    """The paper's Figure 3, over everything that has ever happened, not only the present state."""

    def __init__(self):
        self.leaders: dict[int, int] = {}  # term -> id
        self.elected: dict[int, History] = {}  # term -> the leader's log when elected
        self.entries: dict[tuple, tuple] = {}  # (index, term) -> (entry, term of the one before)
        self.committed: dict[int, tuple] = {}  # index -> (entry, term in which it was committed)
        self.applied: dict[int, object] = {}  # index -> entry
        self.states = [({}, {})]  # by index: values and sessions after that entry

    def check(self, server, before: "History") -> None:
        """Check what a step of this server may have broken."""
        after = History(server)
        if after.leads:
            self._check_leader(server, before, after)
        if after.entries != before.entries:
            self._check_log_matching(after, before)
        if after.commit_index != before.commit_index:
            self._check_commit(server, before.commit_index)

    def _check_leader(self, leader, before, after) -> None:
        if self.leaders.setdefault(leader.current_term, leader.node_id) != leader.node_id:
            raise Violation(f"Election Safety: two leaders in term {leader.current_term}")
        if not before.leads:
            self.elected[leader.current_term] = after
            self._check_completeness([leader.current_term], self.committed)
        elif any(after.get(i, entry) != entry for i, entry in before.entries.items()):
            raise Violation(f"Leader Append-Only: leader {leader.node_id} changed its own log")
        elif before.entries and max(after.entries, default=0) < max(before.entries):
            raise Violation(f"Leader Append-Only: leader {leader.node_id} cut its own log")

    def _check_log_matching(self, after, before) -> None:
        for index, entry in after.entries.items():
            if before.entries.get(index) == entry or index - 1 not in after.terms:
                continue
            known = (entry, after.terms[index - 1])
            if self.entries.setdefault((index, entry.term), known) != known:
                raise Violation(f"Log Matching: two entries or histories at index {index}")

    def _check_commit(self, server, before: int) -> None:
        """Compare what is applied with what others have applied, and with a second dictionary."""
        new = []
        for index in range(max(before, server.log.snapshot_index) + 1, server.commit_index + 1):
            entry = server.log[index]
            if self.applied.setdefault(index, entry) != entry:
                raise Violation(f"State Machine Safety: two entries applied at index {index}")
            if index == len(self.states):
                self.states.append(_after(*self.states[-1], entry))
            if index not in self.committed and server.leadership:
                self.committed[index] = (entry, server.current_term)
                new.append(index)
        machine = server.replica.machine
        if (machine.values, machine.sessions) != self.states[server.commit_index]:
            raise Violation(f"State Machine Safety: another state after {server.commit_index}")
        self._check_completeness(self.elected, new)

    def _check_completeness(self, terms, indices) -> None:
        for index in indices:
            entry, committed_in = self.committed[index]
            for term in terms:
                if term > committed_in and self.elected[term].get(index, entry) != entry:
                    raise Violation(f"Leader Completeness: leader of {term} misses index {index}")


def _after(values: dict, sessions: dict, entry) -> tuple[dict, dict]:
    """Return values and sessions after one more entry; a number of a session counts once."""
    if entry.client_id and sessions.get(entry.client_id, 0) >= entry.sequence:
        return values, sessions
    if entry.client_id:
        sessions = sessions | {entry.client_id: entry.sequence}
    return (values | {entry.key: entry.value} if entry.key else values), sessions


def state(server) -> tuple:
    """Return what differs when a step has changed something that `Properties` looks at."""
    log = server.log
    ends = (log.snapshot_index, log.last_index, log.last_term, server.commit_index)
    return (server.current_term, bool(server.leadership), *ends)


class History:
    """What `Properties` knows of a server at one instant."""

    def __init__(self, server):
        log = server.log
        self.state = state(server)
        self.leads = bool(server.leadership)
        self.commit_index = server.commit_index
        self.start = log.snapshot_index
        self.entries = dict(enumerate(log.entries, log.snapshot_index + 1))
        self.terms = {i: entry.term for i, entry in self.entries.items()}
        self.terms[log.snapshot_index] = log.snapshot_term

    def get(self, index: int, compacted=None):
        """Return an entry; `compacted` if it is in the snapshot, None if it is beyond the end."""
        return compacted if index <= self.start else self.entries.get(index)
