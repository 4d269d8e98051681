"""A leader makes the followers' logs like its own (§5.3), and tells whether it still leads (§8).

To each follower at most one call with entries, or with a piece of a snapshot, is under way; what
comes meanwhile goes with the next one. Heartbeats are sent all the same, without entries then.
"""

from dataclasses import dataclass

from protocol import (
    AppendEntriesReply,
    AppendEntriesRequest,
    Call,
    Command,
    Entry,
    InstallSnapshotReply,
    InstallSnapshotRequest,
    Place,
    Read,
)
from replica import Replica
from snapshots import Outgoing


@dataclass
class Follower:
    """What the leader knows of one of the others (Figure 2, volatile state on leaders)."""

    # Of the next entry to send; below match_index if the follower has forgotten its log.
    next_index: int
    match_index: int = 0  # of the last entry known to be on its disk
    answered_round: int = 0  # the last round of heartbeats that it has answered
    under_way: Call | None = None  # the call with entries or a piece
    outgoing: Outgoing | None = None  # the snapshot that it is being sent


class Leadership:
    """One server's time as the leader of a term.

    Args:
        term: its term. node_id: its id. peers: the ids of the others.
        quorum: the number of servers that is a majority.
        replica: its log. outbox: the list that takes the calls to make.
    """

    def __init__(
        self,
        term: int,
        node_id: int,
        peers: list[int],
        quorum: int,
        replica: Replica,
        outbox: list[Call],
    ):
        self.term = term
        self.node_id = node_id
        self.quorum = quorum
        self.replica = replica
        self.log = replica.log
        self.limits = replica.limits
        self.outbox = outbox
        self.followers = {peer: Follower(self.log.last_index + 1) for peer in peers}
        self.round = 0
        # A no-op of its own commits, by counting, what earlier terms have left (§8).
        self.log.append([Entry(term)])
        self.start_index = self.log.last_index
        self.released_index = self.log.last_index  # later entries wait for `replicate`

    # Clients

    def propose(self, command: Command) -> Place | None:
        """Append a command to the log; return None if too many wait there already.

        It goes out with `replicate` or `broadcast`.
        """
        first, last = self.replica.commit_index + 1, self.log.last_index
        waiting, limits = last - first + 1, self.limits
        if waiting >= limits.waiting_entries or self.log.size(first, last) >= limits.waiting_size:
            return None
        self.log.append([Entry(self.term, *command)])
        return Place(self.log.last_index, self.term)

    def start_read(self) -> Read:
        """Begin a read (ReadIndex): note the commit index, then ask a majority (§8)."""
        self.broadcast()
        return Read(self.term, self.round, max(self.replica.commit_index, self.start_index))

    def is_confirmed(self, read: Read) -> bool:
        """Tell whether the values hold all that was committed before a read of this term (§8)."""
        answered = sum(peer.answered_round >= read.round for peer in self.followers.values())
        return answered + 1 >= self.quorum and self.replica.commit_index >= read.index

    # Calls

    def broadcast(self) -> None:
        """Send AppendEntries to all: the heartbeat, with whatever each follower still misses."""
        self.round += 1
        self.released_index = self.log.last_index
        for peer in self.followers:
            if not self._send_missing(peer):
                self._send_entries(peer, ())

    def replicate(self) -> None:
        """Send new entries; to a follower that has some under way, when it has answered."""
        self.released_index = self.log.last_index
        for peer in self.followers:
            self._send_missing(peer)

    def _send_missing(self, peer: int) -> bool:
        """Send what a follower misses, unless something is under way; tell whether it was sent."""
        follower = self.followers[peer]
        if follower.under_way or follower.next_index > self.released_index:
            return False
        if follower.next_index > self.log.snapshot_index:
            entries = self.log.batch(
                follower.next_index,
                self.released_index,
                self.limits.batch_entries,
                self.limits.batch_size,
            )
            follower.under_way = self._send_entries(peer, entries)
        else:
            follower.under_way = self._send_piece(peer)
        return True

    def _send_entries(self, peer: int, entries: tuple[Entry, ...]) -> Call:
        prev = max(self.followers[peer].next_index - 1, self.log.snapshot_index)
        prev_term, commit_index = self.log.term(prev), self.replica.commit_index
        return self._send(
            peer,
            AppendEntriesRequest(self.term, self.node_id, prev, prev_term, entries, commit_index),
        )

    def _send_piece(self, peer: int) -> Call:
        """Send the next piece of a snapshot (§7); the log must still hold what follows it."""
        follower = self.followers[peer]
        if not follower.outgoing or follower.outgoing.snapshot.index < self.log.snapshot_index:
            follower.outgoing = Outgoing(self.replica.snapshot(), self.limits.batch_size)
        return self._send(peer, follower.outgoing.piece(self.term, self.node_id))

    def _send(self, peer: int, request: AppendEntriesRequest | InstallSnapshotRequest) -> Call:
        call = Call(peer, request, self.round)
        self.outbox.append(call)
        return call

    # Replies

    def end_call(self, call: Call) -> None:
        """Note that a call has ended. If it had no reply, the next heartbeat repeats it."""
        follower = self.followers[call.peer]
        if follower.under_way is call:
            follower.under_way = None

    def append_entries_reply(self, call: Call, reply: AppendEntriesReply) -> None:
        """Note what the follower holds, and send what it still misses (§5.3)."""
        follower, request = self._answered(call), call.request
        next_index = follower.next_index
        if reply.success:
            self._matches(follower, request.prev_log_index + len(request.entries))
        elif reply.conflict_index and not follower.outgoing:
            follower.next_index = max(1, min(next_index, reply.conflict_index))
        if follower.next_index != next_index:
            self._send_missing(call.peer)

    def install_snapshot_reply(self, call: Call, reply: InstallSnapshotReply) -> None:
        """Send the next piece, or the entries that follow the snapshot (§7)."""
        follower = self._answered(call)
        outgoing, index = follower.outgoing, call.request.last_included_index
        if not outgoing or outgoing.snapshot.index != index:
            return
        if reply.installed:
            self._matches(follower, index)
        else:
            outgoing.go_on(reply.offset)
        self._send_missing(call.peer)

    def _answered(self, call: Call) -> Follower:
        self.end_call(call)
        follower = self.followers[call.peer]
        follower.answered_round = max(follower.answered_round, call.round)
        return follower

    def _matches(self, follower: Follower, index: int) -> None:
        follower.match_index = max(follower.match_index, index)
        follower.next_index = max(follower.next_index, index + 1)
        if follower.outgoing and follower.next_index > follower.outgoing.snapshot.index:
            follower.outgoing = None  # it is there, though its last reply may be lost
        self.advance_commit_index()

    def advance_commit_index(self) -> None:
        """Commit what a majority has on disk (Figure 2, Rules for Servers: Leaders)."""
        matches = (follower.match_index for follower in self.followers.values())
        index = sorted([self.log.saved_index, *matches], reverse=True)[self.quorum - 1]
        if index > self.replica.commit_index and self._may_commit(index):
            self.replica.commit(index)

    def _may_commit(self, index: int) -> bool:
        """Only entries of the own term are committed by counting (§5.4.2, Figure 8)."""
        return self.log.term(index) == self.term

    def compact(self) -> None:
        """Compact the log, but not what follows a snapshot that is being sent, up to a limit."""
        last, start = self.replica.commit_index, self.log.snapshot_index
        if last - start < 10 * self.limits.snapshot_after:
            sent = (f.outgoing.snapshot.index for f in self.followers.values() if f.outgoing)
            last = min([last, *(index for index in sent if index >= start)])
        self.replica.compact(last)
