"""Raft without clock, network, thread or disk: the state of one server and the rules that move it.

A cluster agrees on one log of commands. Time is divided into terms, numbered from 0. A term has at
most one leader, elected by a majority; only the leader adds to the log, and the others copy it.
Section and figure numbers are those of Ongaro and Ousterhout, "In Search of an Understandable
Consensus Algorithm (Extended Version)".

                 timer is up:                  a majority votes for it
                 election of a new term        within the term
    +----------+ -------------> +-----------+ -------------> +--------+
    | FOLLOWER |                | CANDIDATE |                | LEADER |
    +----------+ <------------- +-----------+                +--------+
         ^       timer is up (draws a new timeout), a leader of     |
         |       this term is heard, or a higher term is seen       |
         +----------------------------------------------------------+
                 a higher term is seen

The rules that make it safe:
  * a server votes once per term (`_may_vote`), and only for a log no older than its own
    (`_is_up_to_date`); a vote counts in the election that asked for it (`_vote_counts`);
  * a follower takes entries only where the entry before them matches (`append_entries`);
  * an entry is committed when a majority has it on disk and it is of the leader's own term
    (leader.py); a committed entry is never lost, and all servers apply it in log order.
The timer follows the lab's text: a server keeps one election timeout. Every reset starts it again,
and the server draws a new one only when an election of its own has failed.

How to drive it: call a receiver or `tick`. Make the calls of `take_outbox()` and send the reply.
Calls for votes and all replies wait until the change of `take_unsaved()` is on disk (§5.1, "updated
on stable storage before responding"); then call `mark_saved`. A leader's calls need not wait: its
term was on disk before it asked for votes, and it counts its own entries only after `mark_saved`.
Call `call_lost` for a call without a reply, and `tick` at `deadline`. Times are in seconds.
"""

import enum
from collections.abc import Callable, Collection

from leader import Leadership
from protocol import (
    AppendEntriesReply,
    AppendEntriesRequest,
    Call,
    InstallSnapshotReply,
    InstallSnapshotRequest,
    Place,
    Read,
    RequestVoteReply,
    RequestVoteRequest,
    Saved,
    Unsaved,
)
from replica import DEFAULT_LIMITS, Limits, Replica
from snapshots import Incoming

HEARTBEAT_INTERVAL = 0.050  # s between a leader's AppendEntries
ELECTION_TIMEOUT_RANGE = (0.150, 0.300)  # s: a server draws its election timeout from it


class Role(enum.Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Raft:
    """One server of the cluster.

    Args:
        node_id: its own id. members: the ids of all servers, its own included.
        new_timeout: draws an election timeout, in seconds.
        now: the time at the start. saved: what the disk held. limits: of memory and messages.
    """

    def __init__(
        self,
        node_id: int,
        members: Collection[int],
        new_timeout: Callable[[], float],
        now: float = 0.0,
        saved: Saved | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ):
        saved = saved or Saved()
        self.node_id = node_id
        self.peers = [member for member in members if member != node_id]
        self.quorum = len(members) // 2 + 1
        # Persistent state on all servers (Figure 2).
        self.current_term = saved.current_term
        self.voted_for = saved.voted_for
        self.replica = Replica(saved, limits)
        self.log = self.replica.log
        # Volatile state.
        self.role = Role.FOLLOWER
        self.leader_id: int | None = None
        self.votes: set[int] = set()  # of a candidate
        self.leadership: Leadership | None = None  # of a leader
        self._incoming: Incoming | None = None  # of a follower: the snapshot that is being received
        # For the driver.
        self._outbox: list[Call] = []
        self._taken_state = (self.current_term, self.voted_for)
        # Time.
        self._new_timeout = new_timeout
        self.timeout = new_timeout()
        self.restart_timer(now)

    @property
    def commit_index(self) -> int:
        return self.replica.commit_index

    @property
    def values(self) -> dict[str, str]:
        return self.replica.machine.values

    # The driver's side: what to send, what to save

    def take_outbox(self) -> list[Call]:
        """Return the calls to make now."""
        calls = self._outbox[:]
        self._outbox.clear()
        return calls

    @property
    def is_unsaved(self) -> bool:
        """Tell whether the persistent state has changed since `take_unsaved`."""
        changed = (self.current_term, self.voted_for) != self._taken_state
        return changed or self.replica.is_unsaved

    def take_unsaved(self) -> Unsaved:
        """Return how the persistent state has changed since the last time."""
        self._taken_state = (self.current_term, self.voted_for)
        return Unsaved(*self._taken_state, *self.replica.take_unsaved())

    def mark_saved(self, unsaved: Unsaved) -> None:
        """Note that a change is on disk."""
        if unsaved.entries:
            last_index = unsaved.first_index + len(unsaved.entries) - 1
            self.log.mark_saved(last_index, unsaved.entries[-1].term)
        if self.leadership:
            self.leadership.advance_commit_index()

    # Time

    def tick(self, now: float) -> None:
        """Do what is due: a heartbeat, an election, or the end of one that failed."""
        if now < self.deadline:
            return
        if self.leadership:
            self.leadership.broadcast()
        elif self.role is Role.FOLLOWER:
            self._become_candidate(now)
        else:
            self.timeout = self._new_timeout()
            self._become_follower(now)
        self.restart_timer(now)

    def restart_timer(self, now: float) -> None:
        """Start the election timeout again, or a leader's time to its next heartbeat."""
        self.deadline = now + (HEARTBEAT_INTERVAL if self.leadership else self.timeout)

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
        if not self._follow(request, now):
            return AppendEntriesReply(self.current_term, False)
        prev, prev_term = request.prev_log_index, request.prev_log_term
        if prev > self.commit_index and not self.log.holds(prev, prev_term):
            return AppendEntriesReply(self.current_term, False, self.log.conflict_index(prev))
        if not self.replica.copy(prev, prev_term, request.entries):
            return AppendEntriesReply(self.current_term, False, 1)
        last_new_index = request.prev_log_index + len(request.entries)
        self.replica.commit(min(request.leader_commit, last_new_index))
        return AppendEntriesReply(self.current_term, True)

    def install_snapshot(self, request: InstallSnapshotRequest, now: float) -> InstallSnapshotReply:
        """Follow the leader and take a piece of its snapshot (Figure 13)."""
        if not self._follow(request, now):
            return InstallSnapshotReply(self.current_term, 0)
        if request.last_included_index <= self.commit_index:
            return InstallSnapshotReply(self.current_term, 0, True)
        if not self._incoming or not self._incoming.belongs(request):
            self._incoming = Incoming(request)
        incoming = self._incoming
        incoming.take(request)
        if incoming.is_complete:
            self._incoming = None
            self.replica.install(incoming.snapshot)
        return InstallSnapshotReply(self.current_term, incoming.offset, incoming.is_complete)

    def _follow(self, request: AppendEntriesRequest | InstallSnapshotRequest, now: float) -> bool:
        """Become the sender's follower, unless its term is over."""
        self.observe(request.term, now)
        # A leader hears no other one in its term, unless a server has forgotten its vote.
        if request.term < self.current_term or self.leadership:
            return False
        self._become_follower(now)
        self.leader_id = request.leader_id
        self.restart_timer(now)
        return True

    def observe(self, term: int, now: float) -> None:
        """Adopt a higher term: "if RPC request or response contains term T > currentTerm"."""
        if term > self.current_term:
            self.current_term = term
            self.voted_for = self.leader_id = self._incoming = None
            self._become_follower(now)

    # Receivers of replies: the world may have moved on since the call was made

    def request_vote_reply(self, call: Call, reply: RequestVoteReply, now: float) -> None:
        """Count a vote (§5.2)."""
        self.observe(reply.term, now)
        if reply.result and self.role is Role.CANDIDATE and self._vote_counts(call.request):
            self.votes.add(call.peer)
            self._become_leader_if_elected(now)

    def append_entries_reply(self, call: Call, reply: AppendEntriesReply, now: float) -> None:
        """Pass a follower's reply on to the leadership that has asked, if it lasts (§5.3)."""
        self.observe(reply.term, now)
        if self._leads_in(call.request.term):
            self.leadership.append_entries_reply(call, reply)

    def install_snapshot_reply(self, call: Call, reply: InstallSnapshotReply, now: float) -> None:
        """Pass a follower's reply on to the leadership that has asked, if it lasts (§7)."""
        self.observe(reply.term, now)
        if self._leads_in(call.request.term):
            self.leadership.install_snapshot_reply(call, reply)

    def call_lost(self, call: Call) -> None:
        """Note that a call has got no reply."""
        if self._leads_in(call.request.term):
            self.leadership.end_call(call)

    def _leads_in(self, term: int) -> bool:
        return self.leadership is not None and self.leadership.term == term

    # Clients; commands go to `leadership`

    def start_read(self, now: float) -> Read:
        """Begin a read on the leader, with a round of heartbeats; new entries go with them."""
        read = self.leadership.start_read()
        self.restart_timer(now)
        return read

    def is_confirmed(self, read: Read) -> bool:
        """Tell whether `values` holds all that was committed before the read began (§8)."""
        return self._leads_in(read.term) and self.leadership.is_confirmed(read)

    def known_leader(self) -> int | None:
        """Return the leader's id; before the election has ended, the id this server voted for."""
        return self.voted_for if self.leader_id is None else self.leader_id

    def learn_commit(self, place: Place) -> None:
        """Take a leader's word that the entry of its log at this place is committed."""
        if self.log.holds(*place):
            self.replica.commit(place.index)

    def compact(self) -> None:
        """Shorten a long log (§7). Ask for outcomes before: those of old entries are lost."""
        if self.leadership:
            self.leadership.compact()
        else:
            self.replica.compact(self.commit_index)

    # Transitions

    def _become_follower(self, now: float) -> None:
        was_leader = self.role is Role.LEADER
        self.role, self.leadership = Role.FOLLOWER, None
        if was_leader:  # it had no such timer; the others' goes on
            self.restart_timer(now)

    def _become_candidate(self, now: float) -> None:
        """Start an election (§5.2)."""
        self.role = Role.CANDIDATE
        self.current_term += 1
        self.voted_for, self.leader_id, self._incoming = self.node_id, None, None
        self.votes = {self.node_id}
        self.restart_timer(now)
        request = RequestVoteRequest(
            self.current_term, self.node_id, self.log.last_index, self.log.last_term
        )
        self._outbox += [Call(peer, request) for peer in self.peers]
        self._become_leader_if_elected(now)

    def _become_leader_if_elected(self, now: float) -> None:
        if len(self.votes) < self.quorum:
            return
        self.role, self.leader_id = Role.LEADER, self.node_id
        self.leadership = Leadership(
            self.current_term, self.node_id, self.peers, self.quorum, self.replica, self._outbox
        )
        self.leadership.broadcast()
        self.restart_timer(now)

    # The rules of voting

    def _may_vote(self, request: RequestVoteRequest) -> bool:
        """Once per term (§5.2; the lab's text: "it can vote only once in a single term")."""
        return request.term == self.current_term and self.voted_for is None

    def _is_up_to_date(self, request: RequestVoteRequest) -> bool:
        """The later last term wins, and only within one term the longer log (§5.4.1)."""
        own = (self.log.last_term, self.log.last_index)
        return (request.last_log_term, request.last_log_index) >= own

    def _vote_counts(self, request: RequestVoteRequest) -> bool:
        """A vote that comes late was given for an older term's election."""
        return request.term == self.current_term
