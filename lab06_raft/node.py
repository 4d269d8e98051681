"""Drives the core from the network, the clock and the disk.

All of it happens in the one thread of asyncio's event loop, a step at a time, so nothing is locked.
"""

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Callable, Coroutine
from typing import NamedTuple

import protocol
import rpc
from raft import TIMEOUT_RANGE, Raft, Role
from rpc import grpc  # not `import grpc`: rpc first silences its log
from storage import Disk, Memory

messages, services = rpc.compile_proto("raft.proto")

# Whatever waits, waits longer than what it waits for.
VOTE_DEADLINE = 0.14  # s; the shortest election lasts 0.15
APPEND_DEADLINE = 0.5  # s; a command waits for two of them
COMMIT_DEADLINE = 2.4  # s for a command until a majority has it
FORWARD_DEADLINE = 3.0  # s: a follower waits for the leader
READ_DEADLINE = 1.0  # s for a read until a majority has answered
GATHER = 0.003  # s that those who have just been answered have to join the next batch
STALL = 0.1  # s: woken so late, it was this process that stood still, and not the leader
MAX_TERM = 2**62  # leaves room to count on, and SQLite can hold it

SILENCE = 1.0  # s without any answer after which a connection is given up
PEER_OPTIONS = [
    *rpc.CHANNEL_OPTIONS,
    ("grpc.use_local_subchannel_pool", 1),  # a new channel makes a new connection
]


class View(NamedTuple):
    """What of a server's state is announced."""

    role: Role | None
    term: int
    voted_for: int | None


class Place(NamedTuple):
    """Where the log has a client's command."""

    index: int
    term: int


class Peer:
    """The way to another server; a new one when nothing comes through the old one any more.

    After a power cut nobody says that a connection is dead: TCP itself would try for minutes.
    """

    def __init__(self, address: str):
        self.loop = asyncio.get_running_loop()
        self.address = address
        self._open()

    def _open(self) -> None:
        self.heard = self.loop.time()
        self.channel = grpc.aio.insecure_channel(self.address, options=PEER_OPTIONS)
        self.stub = services.RaftStub(self.channel)

    async def ask(self, method: str, message, timeout: float):
        """Return the reply, or None if none has come in time."""
        try:
            reply = await getattr(self.stub, method)(message, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if late and self.loop.time() - self.heard > SILENCE:
                old = self.channel
                self._open()
                await old.close(grace=FORWARD_DEADLINE)  # other calls may be under way there
            return None
        self.heard = self.loop.time()
        return reply


class Node:
    """One server without its RPC methods.

    Args:
        node_id: its id. addresses: "host:port" of every server by id.
        store: where it keeps what it must not forget.
        announce: is told the state before and after each step that has changed it.
    """

    def __init__(
        self,
        node_id: int,
        addresses: dict[int, str],
        store: Memory | Disk,
        announce: Callable[[View, View], None],
    ):
        self.loop = asyncio.get_running_loop()
        self.raft = Raft(node_id, addresses, _new_timeout, self.loop.time(), store.load())
        self.peers = {peer: Peer(addresses[peer]) for peer in self.raft.peers}
        self.suspended = False
        self._store = store
        self._announce = announce
        self._tasks: set[asyncio.Task] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[asyncio.Future, Callable[[], bool]] = {}
        # Who waits for a command, or for a read (None): first until it is begun, then for its end.
        self._requests: dict[asyncio.Future, tuple[str, str] | None] = {}
        self._begun: dict[asyncio.Future, Place | protocol.Read] = {}
        self._expected = 0  # requests that may soon be there for the next flush
        self._flush_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Announce the first state and let the timer run."""
        state = self._view()
        self._announce(state._replace(role=None), state)
        self.raft.restart_timer(self.loop.time())
        self._arm_timer()

    def step(self, action: Callable, *args):
        """Let one thing happen; save it, announce it, and only then let anything out."""
        before = self._view()
        result = action(*args)
        self._save()
        if (after := self._view()) != before:
            self._announce(before, after)
        for call in self.raft.take_outbox():
            self._spawn(self._call(call))
        self._wake_waiting()
        self._answer_decided()
        self._plan_flush()
        self._arm_timer()
        return result

    def _view(self) -> View:
        return View(self.raft.role, self.raft.current_term, self.raft.voted_for)

    def _save(self) -> None:
        if unsaved := self.raft.take_unsaved():
            try:
                self._store.save(unsaved)
            except sqlite3.Error as error:
                # Memory has the vote or entry already: to go on would be to break a promise.
                print(f"server.py: cannot save: {error}", file=sys.stderr, flush=True)
                os._exit(1)

    def _spawn(self, work: Coroutine) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)  # the loop holds its tasks weakly
        task.add_done_callback(self._tasks.discard)

    # Time

    def _arm_timer(self) -> None:
        """See to it that the core is looked at when it wants to be, or a little earlier."""
        if self._timer and self._timer.when() > self.raft.deadline:
            self._disarm_timer()
        if not self._timer and not self.suspended:
            self._timer = self.loop.call_at(self.raft.deadline, self._on_timer)

    def _disarm_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        now = self.loop.time()
        if now - self.raft.deadline > STALL:
            self.raft.restart_timer(now)
        self.step(self.raft.tick, now)

    def suspend(self, period: float) -> None:
        """Send nothing, take in nothing and let no timer run, for so many seconds."""
        self.suspended = True
        self._disarm_timer()
        self._wake_waiting()
        for future in (*self._requests, *self._begun):
            _settle(future)
        self.loop.call_later(period, self._resume)

    def _resume(self) -> None:
        self.suspended = False
        self.raft.restart_timer(self.loop.time())
        self._arm_timer()

    # Calls to the peers: each in a task of its own, so that none waits for another

    async def _call(self, call: protocol.Call) -> None:
        if self.suspended:
            return
        peer, request = self.peers[call.peer], call.request
        if isinstance(request, protocol.RequestVoteRequest):
            message = messages.RequestVoteRequest(**request._asdict())
            answer = await peer.ask("RequestVote", message, VOTE_DEADLINE)
            reply = answer and protocol.RequestVoteReply(answer.term, answer.result)
            receive = self.raft.request_vote_reply
        else:
            answer = await peer.ask("AppendEntries", _to_message(request), APPEND_DEADLINE)
            fields = answer and (answer.term, answer.success, answer.conflict_index)
            reply = answer and protocol.AppendEntriesReply(*fields)
            receive = self.raft.append_entries_reply
        # Without a reply the next heartbeat or election is the retry.
        if reply and reply.term <= MAX_TERM and not self.suspended:
            self.step(receive, call, reply, self.loop.time())

    # Clients' commands and reads

    async def commit(self, key: str, value: str) -> Place | None:
        """Have a majority hold a command; return None if it is lost, or takes too long."""
        place = await self._request((key, value), COMMIT_DEADLINE)
        return place if place and self.raft.holds(*place) else None

    async def confirm_read(self) -> bool:
        """Wait until a majority has followed this leader after the read came in (§8)."""
        read = await self._request(None, READ_DEADLINE)
        return bool(read) and self.raft.is_confirmed(read)

    async def _request(self, command: tuple[str, str] | None, timeout: float):
        """Return the Place of a command, or a Read, once that is decided; or None."""
        future = self.loop.create_future()
        self._requests[future] = command
        self._plan_flush()
        try:
            return await self._within(future, timeout)
        finally:  # nobody waits for it any more
            self._requests.pop(future, None)
            self._begun.pop(future, None)

    def _plan_flush(self) -> None:
        """Begin with what clients want: at once, but together once requests are under way.

        So while one write to the disk and one call per peer last, the next ones fill. Those who
        are then answered often have another request: it goes with the next ones, if it is quick.
        """
        under_way = self._begun and self.raft.role is Role.LEADER
        if under_way or not self._requests:
            return
        all_there = len(self._requests) >= self._expected
        when = self.loop.time() + (0.0 if all_there else GATHER)
        if self._flush_timer and self._flush_timer.when() > when:
            self._flush_timer.cancel()
            self._flush_timer = None
        if not self._flush_timer:
            self._flush_timer = self.loop.call_at(when, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        requests, self._requests = self._requests, {}
        if self.raft.role is not Role.LEADER or self.suspended:
            for future in requests:
                _settle(future)
            return
        writes = [future for future, command in requests.items() if command]
        reads = [future for future, command in requests.items() if not command]
        if reads:
            read = self.step(self.raft.start_read, self.loop.time())
            self._begun |= dict.fromkeys(reads, read)
        if writes:
            last = self.step(self.raft.propose, [requests[future] for future in writes])
            for index, future in enumerate(writes, last - len(writes) + 1):
                self._begun[future] = Place(index, self.raft.current_term)
        self._answer_decided()

    def _answer_decided(self) -> None:
        """Let those go on whose command is committed, or whose read is confirmed, or lost."""
        decided = [future for future, begun in self._begun.items() if self._is_decided(begun)]
        for future in decided:
            _settle(future, self._begun.pop(future))
        if decided:
            self._expected = len(decided) + len(self._requests)

    def _is_decided(self, begun: Place | protocol.Read) -> bool:
        """Tell whether it can be said by now what has become of a command or a read."""
        if isinstance(begun, protocol.Read):
            return begun.term != self.raft.current_term or self.raft.is_confirmed(begun)
        return self.raft.commit_index >= begun.index or not self.raft.holds(*begun)

    async def until(self, fact: Callable[[], bool], timeout: float) -> bool:
        """Wait until a step makes the fact true; return False if none does, or at a suspension."""
        if not fact() and not self.suspended:
            changed = self.loop.create_future()
            self._waiting[changed] = fact
            try:
                await self._within(changed, timeout)
            finally:
                del self._waiting[changed]
        return fact() and not self.suspended

    def _wake_waiting(self) -> None:
        for changed, fact in self._waiting.items():
            if self.suspended or fact():
                _settle(changed)

    async def _within(self, future: asyncio.Future, timeout: float):
        """Return the future's result, or None after the timeout (cheaper than asyncio.wait)."""
        timer = self.loop.call_later(timeout, _settle, future)
        try:
            return await future
        finally:
            timer.cancel()


def _settle(future: asyncio.Future, result=None) -> None:
    if not future.done():  # it is if its time was up, or if the client has gone away
        future.set_result(result)


def _new_timeout() -> float:
    return random.uniform(*TIMEOUT_RANGE)


def _to_message(request: protocol.AppendEntriesRequest):
    entries = [messages.Entry(**entry._asdict()) for entry in request.entries]
    return messages.AppendEntriesRequest(**request._replace(entries=entries)._asdict())
