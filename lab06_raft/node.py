"""Drives the core from the network, the clock and the disk.

All of it happens in the one thread of asyncio's event loop, a step at a time, so nothing is locked.
The order of a step is: save, announce, send. A save takes a while, in a thread of its own, one at a
time; what follows from a step waits for it, but the loop and a leader's calls do not.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

from protocol import AppendEntriesReply, Call, RequestVoteReply, RequestVoteRequest, Unsaved
from raft import ELECTION_TIMEOUT_RANGE, HEARTBEAT_INTERVAL, Raft, Role
from waiting import Waiting

STALL_TIMEOUT = 0.02  # s: woken so late, this process was not running, and messages wait to be read
MAX_TERM_STEP = 2**32  # more elections than any server can have missed


class Announced(NamedTuple):
    """The part of a server's state that is announced."""

    role: Role | None
    term: int
    voted_for: int | None


class Node:
    """One server without its RPC methods.

    Args:
        raft: the core. peers: the channels to the other servers, by id.
        save: writes a change to the disk. executor: runs it; None if it takes no time.
        announce: is told the state before and after each step that has changed it.
    """

    def __init__(
        self,
        raft: Raft,
        peers: dict,
        save: Callable[[Unsaved], None],
        executor: Executor | None,
        announce: Callable[[Announced, Announced], None],
    ):
        self.loop = asyncio.get_running_loop()
        self.raft = raft
        self.peers = peers
        self.waiting = Waiting(raft, self.step)
        self.suspended = False
        self.watchers: tuple = ()  # see watching.py
        self._save = save
        self._executor = executor
        self._announce = announce
        self._tasks: set[asyncio.Task] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0  # after a stall: no election before this time
        self._excused = 0.0  # the deadline that was put off for a stall; each is only once
        self._is_saving = False
        self._after_save: list[Callable] = []  # what waits for the save under way,
        self._after_next: list[Callable] = []  # and for the one after that

    def start(self) -> None:
        """Announce the first state and let the timer run."""
        state = self._announced()
        self._announce(state._replace(role=None), state)
        self.raft.restart_timer(self.loop.time())
        self._arm_timer()

    def step(self, action: Callable, *args):
        """Let one thing happen to the core; save it, announce it, and let out what follows."""
        before = self._announced()
        result = action(*args)
        self._begin_save()
        if (after := self._announced()) != before:
            self._when_saved(partial(self._announce, before, after))
        for call in self.raft.take_outbox():
            if isinstance(call.request, RequestVoteRequest):
                self._when_saved(partial(self._make, call))
            else:
                self._make(call)
        self.waiting.settle()
        self.raft.compact()
        self._arm_timer()
        for watcher in self.watchers:
            watcher.look()
        return result

    async def answer(self, receive: Callable, request):
        """Return the core's reply to a peer's request, once what it promises is on disk."""
        for watcher in self.watchers:
            watcher.receive_request(request)
        reply = self.step(receive, request, self.loop.time())
        if self._is_saving:
            saved = self.loop.create_future()
            self._when_saved(partial(_release, saved))
            await saved
        for watcher in self.watchers:
            watcher.send_reply(request, reply)
        return reply

    def is_plausible(self, term: int) -> bool:
        """Tell whether elections can have reached a term."""
        return term <= self.raft.current_term + MAX_TERM_STEP

    def _announced(self) -> Announced:
        return Announced(self.raft.role, self.raft.current_term, self.raft.voted_for)

    def _spawn(self, work: Callable[..., Coroutine], *args) -> None:
        task = self.loop.create_task(work(*args))
        self._tasks.add(task)  # the loop holds its tasks weakly
        task.add_done_callback(self._tasks.discard)

    # The disk

    def _begin_save(self) -> None:
        """Save what has changed; if a save is under way, the next one follows it."""
        if self._is_saving or not self.raft.is_unsaved:
            return
        unsaved = self.raft.take_unsaved()
        if self._executor is None:
            self._save(unsaved)
            self.raft.mark_saved(unsaved)
        else:
            self._is_saving = True
            saved = self.loop.run_in_executor(self._executor, self._save, unsaved)
            saved.add_done_callback(partial(self._end_save, unsaved))

    def _end_save(self, unsaved: Unsaved, saved: asyncio.Future) -> None:
        if error := saved.exception():
            self._fail(error)
        self._is_saving = False
        released, self._after_save, self._after_next = self._after_save, self._after_next, []
        self.step(self.raft.mark_saved, unsaved)
        for effect in released:
            effect()

    def _fail(self, error: BaseException) -> None:
        # Memory has the vote or entry already: to go on would be to break a promise.
        print(f"server.py: cannot save: {error}", file=sys.stderr, flush=True)
        os._exit(1)

    def _when_saved(self, effect: Callable) -> None:
        """Do something when all that has happened so far is on disk."""
        if not self._is_saving:
            effect()
        elif self.raft.is_unsaved:
            self._after_next.append(effect)
        else:
            self._after_save.append(effect)

    # Time

    def _due(self) -> float:
        """Return when to act: at the core's deadline, or a little later if it has been put off."""
        deadline = self.raft.deadline
        return deadline if self.raft.leadership else max(deadline, self._not_before)

    def _arm_timer(self) -> None:
        """Look at the core when it is due, and at least every 50 ms."""
        if self._timer and self._timer.when() > self._due():
            self._disarm_timer()
        if not self._timer and not self.suspended:
            soon = self.loop.time() + HEARTBEAT_INTERVAL
            self._timer = self.loop.call_at(min(self._due(), soon), self._on_timer)

    def _disarm_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """Do what is due; notice if this process was stopped, or had no processor.

        The leader's heartbeats may then wait in the sockets: once for each deadline, a follower
        lets them be read first. After a long stop there may be none, because the leader has given
        the connection up and makes a new one first. A leader sends its own heartbeats at once.
        """
        now = self.loop.time()
        late = now - self._timer.when()
        if late > STALL_TIMEOUT and self._excused != self.raft.deadline:
            self._excused = self.raft.deadline
            longest = ELECTION_TIMEOUT_RANGE[1]
            self._not_before = now + (HEARTBEAT_INTERVAL if late < longest else longest)
        self._timer = None
        if now >= self._due():
            self.step(self.raft.tick, now)
        else:
            self._arm_timer()

    def suspend(self, period: float) -> None:
        """Send nothing, take in nothing and let no timer run, for so many seconds."""
        self.suspended = True
        self._disarm_timer()
        self.waiting.give_up()
        self.loop.call_later(period, self._resume)
        for watcher in self.watchers:
            watcher.look()

    def _resume(self) -> None:
        self.suspended = False
        self.raft.restart_timer(self.loop.time())
        self._arm_timer()
        for watcher in self.watchers:
            watcher.look()

    # Calls to the peers: each in a task of its own, so that none waits for another

    def _make(self, call: Call) -> None:
        if self.suspended:
            self.raft.call_lost(call)
        else:
            for watcher in self.watchers:
                watcher.send_request(call)
            self._spawn(self._hear, call, self.peers[call.peer].ask(call.request))

    async def _hear(self, call: Call, answer: Awaitable) -> None:
        """Let the reply to a call happen to the core."""
        reply = await answer
        if reply is None or self.suspended or not self.is_plausible(reply.term):
            self.raft.call_lost(call)
            return
        for watcher in self.watchers:
            watcher.receive_reply(call, reply)
        receive = self.raft.install_snapshot_reply
        if isinstance(reply, RequestVoteReply):
            receive = self.raft.request_vote_reply
        elif isinstance(reply, AppendEntriesReply):
            receive = self.raft.append_entries_reply
        self.step(receive, call, reply, self.loop.time())


def _release(future: asyncio.Future) -> None:
    if not future.done():  # it is if the peer has given its call up
        future.set_result(None)
