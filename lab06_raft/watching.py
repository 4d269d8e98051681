"""Tells watchers, such as the live page, what a server is and what it sends and receives.

The node tells each of its watchers; while there is none, nothing is recorded. A suspended server
reports too: it is the only RPC that such a server answers.
"""

import asyncio
import time
from collections import deque

from peers import messages
from protocol import (
    AppendEntriesReply,
    Call,
    InstallSnapshotReply,
    RequestVoteReply,
    RequestVoteRequest,
)
from rpc import grpc

REPORT_INTERVAL = 0.1  # s between reports of a server to which nothing happens
SHORTEST_INTERVAL = 0.025  # s: changes that come faster are told together
MAX_RECORDS = 2000  # of each kind, for a watcher that does not read; the oldest are dropped
MAX_WATCHERS = 16


class Watcher:
    """What one watcher has not been told yet."""

    def __init__(self, node):
        self.node = node
        self.is_due = True
        self._states = deque(maxlen=MAX_RECORDS)
        self._traffic = deque(maxlen=MAX_RECORDS)
        self._seen: tuple = ()
        self.look()

    def look(self) -> None:
        """Note what has changed of the server's state."""
        raft, log = self.node.raft, self.node.raft.log
        state = (raft.role, raft.current_term, raft.voted_for, self.node.suspended)
        seen = (state, raft.leader_id, log.last_index, raft.commit_index)
        if seen != self._seen:
            self.is_due = True
            if self._seen and state != self._seen[0]:
                self._states.append(self._state())
            self._seen = seen

    def _state(self):
        node, raft = self.node, self.node.raft
        return messages.State(
            time=time.time(),
            role=raft.role.value,
            term=raft.current_term,
            voted_for=raft.voted_for,
            leader_id=raft.leader_id,
            timer_rest=max(0.0, raft.deadline - node.loop.time()),
            first_index=raft.log.snapshot_index + 1,
            last_index=raft.log.last_index,
            commit_index=raft.commit_index,
            suspended=node.suspended,
        )

    # Requests and replies

    def send_request(self, call: Call) -> None:
        self._note(False, call.request, call.request, self.node.raft.node_id, call.peer)

    def receive_request(self, request) -> None:
        self._note(True, request, request, sender(request), self.node.raft.node_id)

    def send_reply(self, request, reply) -> None:
        self._note(False, reply, request, self.node.raft.node_id, sender(request))

    def receive_reply(self, call: Call, reply) -> None:
        self._note(True, reply, call.request, call.peer, self.node.raft.node_id)

    def _note(self, received: bool, message, request, sender: int, receiver: int) -> None:
        record = messages.Traffic(
            time=time.time(),
            received=received,
            kind=type(message).__name__,
            to=receiver,
            term=message.term,
            entries=len(getattr(request, "entries", ())),
            success=is_success(message),
            **{"from": sender},
        )
        self._traffic.append(record)

    def report(self):
        """Return what has happened since the last report, and what is so now."""
        report = messages.WatchReport(states=[*self._states, self._state()], traffic=self._traffic)
        self._states.clear()
        self._traffic.clear()
        self.is_due = False
        return report


def sender(request) -> int:
    """Return the server that has sent a request."""
    is_vote = isinstance(request, RequestVoteRequest)
    return request.candidate_id if is_vote else request.leader_id


def is_success(message) -> bool:
    """Tell whether a message is a reply that says yes."""
    if isinstance(message, RequestVoteReply):
        return message.result
    if isinstance(message, InstallSnapshotReply):
        return message.installed or message.offset > 0
    return isinstance(message, AppendEntriesReply) and message.success


async def watch(node, context) -> None:
    """Send reports until the watcher goes."""
    if len(node.watchers) >= MAX_WATCHERS:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watch already")
    watcher = Watcher(node)
    node.watchers += (watcher,)
    try:
        while True:
            await context.write(watcher.report())
            next_report = node.loop.time() + REPORT_INTERVAL
            await asyncio.sleep(SHORTEST_INTERVAL)
            while not watcher.is_due and node.loop.time() < next_report:
                await asyncio.sleep(SHORTEST_INTERVAL)
    finally:
        node.watchers = tuple(each for each in node.watchers if each is not watcher)
