"""Raft without clock, network, thread or disk: the state of one server and the rules that move it.

A cluster agrees on one log of commands. Time is cut into terms, numbered from 0; each term has at
most one leader, whom a majority has elected; the leader alone adds to the log and the others copy
it. Section and figure numbers are those of Ongaro and Ousterhout, "In Search of an Understandable
Consensus Algorithm (Extended Version)".

                 timer is up:                  a majority votes for it
                 election of a new term        within the term
    +----------+ -------------> +-----------+ -------------> +--------+
    | FOLLOWER |                | CANDIDATE |                | LEADER |
    +----------+ <------------- +-----------+                +--------+
         ^       timer is up (draws a new span), a leader of        |
         |       this term is heard, or a higher term is seen       |
         +----------------------------------------------------------+
                 a higher term is seen

The rules that make it safe, each a short method below:
  * a server votes once per term (`_may_vote`), and only for a log no older than its own
    (`_is_up_to_date`); a vote counts in the election that asked for it (`_vote_counts`);
  * a follower takes entries only where the entry before them matches (`append_entries`);
  * an entry is committed when a majority holds it and it is of the leader's own term
    (`_may_commit`); what is committed is never lost, and is applied everywhere in log order.
The timer follows the lab's text: one span is kept, every reset starts that same span again, and
a new one is drawn only when an election of one's own has failed.

How to drive it: call a receiver or `tick`, then save `take_unsaved()`, then send `take_outbox()`
and the reply. Nothing may leave before it is saved (§5.1, "updated on stable storage before
responding"). All times are seconds on one clock; `deadline` is when `tick` wants to be called.
"""

import enum
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate

from protocol import (
    AppendEntriesReply,
    AppendEntriesRequest,
    Call,
    Entry,
    Read,
    RequestVoteReply,
    RequestVoteRequest,
    Saved,
    Unsaved,
)

HEARTBEAT = 0.050  # s between a leader's AppendEntries
TIMEOUT_RANGE = (0.150, 0.300)  # s: the spans from which a follower's timer is drawn
BATCH_ENTRIES = 1000  # in one AppendEntries at most
BATCH_LENGTH = 250_000  # characters after which an AppendEntries takes no further entry


class Role(enum.Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Raft:
    """One server of the cluster.

    Args:
        node_id: its own id. members: the ids of all servers, its own included.
        new_timeout: draws the span of a timer, in seconds.
        now: the time at the start. saved: what the disk held.
    """

    batch_entries = BATCH_ENTRIES

    def __init__(
        self,
        node_id: int,
        members: Collection[int],
        new_timeout: Callable[[], float],
        now: float = 0.0,
        saved: Saved | None = None,
    ):
        saved = saved or Saved()
        self.node_id = node_id
        self.peers = [member for member in members if member != node_id]
        self.quorum = len(members) // 2 + 1
        # Persistent state on all servers (Figure 2).
        self.current_term = saved.current_term
        self.voted_for = saved.voted_for
        self.log = [Entry(0), *saved.log]  # so that log[1] is the first entry
        # Volatile state on all servers. What is committed is applied at once: one index for both.
        self.role = Role.FOLLOWER
        self.leader_id: int | None = None
        self.commit_index = 0
        self.values: dict[str, str] = {}
        # Volatile state on candidates and leaders, set anew by each election.
        self.votes: set[int] = set()
        self.next_index: dict[int, int] = {}
        self.match_index: dict[int, int] = {}
        self.round = 0
        self.answered_round: dict[int, int] = {}
        self._busy: set[int] = set()  # peers that have entries under way
        # For whoever drives.
        self._outbox: list[Call] = []
        self._saved = (self.current_term, self.voted_for)
        self._first_unsaved = len(self.log)
        # Time.
        self._new_timeout = new_timeout
        self.timeout = new_timeout()
        self.restart_timer(now)

    @property
    def last_index(self) -> int:
        return len(self.log) - 1

    def take_outbox(self) -> list[Call]:
        """Return the calls to make now."""
        calls, self._outbox = self._outbox, []
        return calls

    def take_unsaved(self) -> Unsaved | None:
        """Return what has changed of the persistent state since the last time, if anything."""
        state, index = (self.current_term, self.voted_for), self._first_unsaved
        if state == self._saved and index == len(self.log):
            return None
        self._saved, self._first_unsaved = state, len(self.log)
        return Unsaved(*state, index, self.log[index:])

    # Time

    def tick(self, now: float) -> None:
        """Do what is due: a heartbeat, an election, or the end of one that failed."""
        if now < self.deadline:
            return
        if self.role is Role.LEADER:
            self.broadcast(now)
        elif self.role is Role.FOLLOWER:
            self._become_candidate(now)
        else:
            self.timeout = self._new_timeout()
            self._become_follower(now)
            self.restart_timer(now)

    def restart_timer(self, now: float) -> None:
        """Count from the beginning: the same span as before, or up to the next heartbeat."""
        self.deadline = now + (HEARTBEAT if self.role is Role.LEADER else self.timeout)

    # Receivers of requests

    def request_vote(self, request: RequestVoteRequest, now: float) -> RequestVoteReply:
        """Vote for the candidate or not (Figure 2, RequestVote RPC; §5.2, §5.4.1)."""
        self.observe(request.term, now)
        granted = self._may_vote(request) and self._is_up_to_date(request)
        if granted:
            self.voted_for = request.candidate_id
            self.restart_timer(now)
        return RequestVoteReply(self.current_term, granted)

    def append_entries(self, request: AppendEntriesRequest, now: float) -> AppendEntriesReply:
        """Follow the leader of this term and copy its log (Figure 2, AppendEntries RPC; §5.3)."""
        self.observe(request.term, now)
        # A leader hears no other one in its term, unless a server has forgotten its vote.
        if request.term < self.current_term or self.role is Role.LEADER:
            return AppendEntriesReply(self.current_term, False)
        self._become_follower(now)
        self.leader_id = request.leader_id
        self.restart_timer(now)
        if not self.holds(request.prev_log_index, request.prev_log_term):
            conflict_index = self._conflict_index(request.prev_log_index)
            return AppendEntriesReply(self.current_term, False, conflict_index)
        self._copy(request.prev_log_index + 1, request.entries)
        last_new_index = request.prev_log_index + len(request.entries)
        self._commit(min(request.leader_commit, last_new_index))
        return AppendEntriesReply(self.current_term, True)

    # Receivers of replies: the world may have moved on since the call was made

    def request_vote_reply(self, call: Call, reply: RequestVoteReply, now: float) -> None:
        """Count a vote (§5.2)."""
        self.observe(reply.term, now)
        if reply.result and self.role is Role.CANDIDATE and self._vote_counts(call.request):
            self.votes.add(call.peer)
            self._become_leader_if_elected(now)

    def append_entries_reply(self, call: Call, reply: AppendEntriesReply, now: float) -> None:
        """Note what the peer holds, and send what it still misses (§5.3)."""
        self.observe(reply.term, now)
        peer, request = call.peer, call.request
        if self.role is not Role.LEADER or request.term != self.current_term:
            return
        self.answered_round[peer] = max(self.answered_round[peer], call.round)
        next_index = self.next_index[peer]
        if reply.success:
            match_index = request.prev_log_index + len(request.entries)
            self.match_index[peer] = max(self.match_index[peer], match_index)
            self.next_index[peer] = max(next_index, match_index + 1)
            self._advance_commit_index()
        elif reply.conflict_index:
            self.next_index[peer] = max(1, min(next_index, reply.conflict_index))
        if self.next_index[peer] != next_index:
            self._busy.discard(peer)
            self._send_missing(peer)

    def observe(self, term: int, now: float) -> None:
        """Adopt a higher term: "if RPC request or response contains term T > currentTerm"."""
        if term > self.current_term:
            self.current_term = term
            self.voted_for = self.leader_id = None
            self._become_follower(now)

    # Clients

    def propose(self, commands: Collection[tuple[str, str]]) -> int:
        """Append (key, value) commands to the leader's log and send them; return the last index.

        They are committed once `holds(index, term)` and `commit_index >= index`, with the
        `current_term` of now; they are lost once another entry stands there.
        """
        if self.role is not Role.LEADER:
            raise ValueError("only a leader takes commands")
        self._append([Entry(self.current_term, key, value) for key, value in commands])
        for peer in self.peers:
            self._send_missing(peer)
        self._advance_commit_index()
        return self.last_index

    def start_read(self, now: float) -> Read:
        """Begin a read on the leader: it is not enough to have been one a moment ago (§8)."""
        if self.role is not Role.LEADER:
            raise ValueError("only a leader can confirm a read")
        self.broadcast(now)
        first_of_term = bisect_left(self.log, self.current_term, key=lambda entry: entry.term)
        return Read(self.current_term, self.round, max(self.commit_index, first_of_term))

    def is_confirmed(self, read: Read) -> bool:
        """Tell whether `values` holds all that was committed before the read began (§8)."""
        followers = sum(answered >= read.round for answered in self.answered_round.values())
        is_leader = self.role is Role.LEADER and self.current_term == read.term
        return is_leader and followers + 1 >= self.quorum and self.commit_index >= read.index

    def known_leader(self) -> int | None:
        """Return the leader's id; before the election has ended, whom this server voted for."""
        return self.voted_for if self.leader_id is None else self.leader_id

    def holds(self, index: int, term: int) -> bool:
        """Tell whether the entry (index, term) is in the log; so are then all before it (§5.3)."""
        return index <= self.last_index and self.log[index].term == term

    def learn_commit(self, index: int, term: int) -> None:
        """Take a leader's word that its entry (index, term) is committed."""
        if self.holds(index, term):
            self._commit(index)

    # Transitions

    def _become_follower(self, now: float) -> None:
        was_leader = self.role is Role.LEADER
        self.role = Role.FOLLOWER
        if was_leader:  # it had no such timer; the others' goes on
            self.restart_timer(now)

    def _become_candidate(self, now: float) -> None:
        """Start an election (§5.2)."""
        self.role = Role.CANDIDATE
        self.current_term += 1
        self.voted_for, self.leader_id = self.node_id, None
        self.votes = {self.node_id}
        self.restart_timer(now)
        last_log_term = self.log[-1].term
        request = RequestVoteRequest(
            self.current_term, self.node_id, self.last_index, last_log_term
        )
        self._outbox += [Call(peer, request) for peer in self.peers]
        self._become_leader_if_elected(now)

    def _become_leader_if_elected(self, now: float) -> None:
        if len(self.votes) < self.quorum:
            return
        self.role = Role.LEADER
        self.leader_id = self.node_id
        self.next_index = dict.fromkeys(self.peers, self.last_index + 1)
        self.match_index = dict.fromkeys(self.peers, 0)
        self.answered_round = dict.fromkeys(self.peers, 0)
        self._busy = set()
        # A no-op of its own commits, by counting, what earlier terms have left (§8).
        self._append([Entry(self.current_term)])
        self.broadcast(now)
        self._advance_commit_index()

    # Replication by the leader

    def broadcast(self, now: float) -> None:
        """Send AppendEntries to all: the heartbeat, with whatever each peer still misses."""
        self.round += 1
        for peer in self.peers:
            self._send(peer)
        self.restart_timer(now)

    def _send_missing(self, peer: int) -> None:
        """Send new entries at once, or, if some are under way, together when those are answered.

        Nothing waits for a lost call: the next heartbeat sends the entries again.
        """
        if peer not in self._busy and self.next_index[peer] <= self.last_index:
            self._send(peer)

    def _send(self, peer: int) -> None:
        start = self.next_index[peer]
        prev = start - 1
        entries = tuple(_first_batch(self.log[start : start + self.batch_entries]))
        if entries:
            self._busy.add(peer)
        request = AppendEntriesRequest(
            self.current_term, self.node_id, prev, self.log[prev].term, entries, self.commit_index
        )
        self._outbox.append(Call(peer, request, self.round))

    def _advance_commit_index(self) -> None:
        """Commit what a majority holds (Figure 2, Rules for Servers: Leaders)."""
        held = sorted([self.last_index, *self.match_index.values()], reverse=True)
        index = held[self.quorum - 1]
        if self._may_commit(index):
            self._commit(index)

    # The safety rules

    def _may_vote(self, request: RequestVoteRequest) -> bool:
        """Once per term (§5.2; the lab's text: "it can vote only once in a single term")."""
        return request.term == self.current_term and self.voted_for is None

    def _is_up_to_date(self, request: RequestVoteRequest) -> bool:
        """The later last term wins, and only within one term the longer log (§5.4.1)."""
        own = (self.log[-1].term, self.last_index)
        return (request.last_log_term, request.last_log_index) >= own

    def _vote_counts(self, request: RequestVoteRequest) -> bool:
        """A vote that comes late was given for an older term's election."""
        return request.term == self.current_term

    def _may_commit(self, index: int) -> bool:
        """Only entries of the own term are committed by counting (§5.4.2, Figure 8)."""
        return self.log[index].term == self.current_term

    # The log

    def _append(self, entries: Sequence[Entry]) -> None:
        self.log += entries  # _first_unsaved stays: the new ones lie behind it

    def _copy(self, index: int, entries: Sequence[Entry]) -> None:
        """Take over entries from `index` on; what is there already, even more of it, stays."""
        for offset, entry in enumerate(entries):
            if not self.holds(index + offset, entry.term):
                self._truncate(index + offset)
                self._append(entries[offset:])
                return

    def _truncate(self, index: int) -> None:
        """Drop the log from `index` on."""
        del self.log[index:]
        self._first_unsaved = min(self._first_unsaved, index)
        # Committed entries go only if a majority forgot them (no --data-dir): then follow it.
        if self.commit_index >= index:
            self.commit_index, self.values = 0, {}
            self._commit(index - 1)

    def _conflict_index(self, prev_log_index: int) -> int:
        """Return where to try next: our end, or the start of the term that differs (§5.3)."""
        if prev_log_index > self.last_index:
            return self.last_index + 1
        term = self.log[prev_log_index].term
        return bisect_left(self.log, term, key=lambda entry: entry.term)

    def _commit(self, index: int) -> None:
        """Advance the commit index and apply what it has passed (§5.3)."""
        for entry in self.log[self.commit_index + 1 : index + 1]:
            if entry.key:
                self.values[entry.key] = entry.value
        self.commit_index = max(self.commit_index, index)


def _first_batch(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Cut the entries so that they fit one message; at least one stays."""
    lengths = accumulate(len(entry.key) + len(entry.value) for entry in entries)
    count = sum(length < BATCH_LENGTH for length in lengths)
    return entries[: count + 1]
