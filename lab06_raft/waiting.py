"""Clients' requests that wait: writes for their entry to be committed, reads to be confirmed.

A command is appended to the leader's log at once; only the calls to the followers are delayed.
While a call with entries is under way, new commands collect. When it has been answered, its clients
send their next requests. All of these go out together: as soon as as many have come in as are
expected, or none has come for GATHER_INTERVAL, or GATHER_TIMEOUT has passed since the first.
Reads that wait share one round of heartbeats, and new entries travel with it.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from protocol import Command, Place, Read
from raft import Raft

COMMIT_TIMEOUT = 2.4  # s for a command until a majority has it; a forwarding follower waits as long
READ_TIMEOUT = 1.0  # s for a read until a majority has answered
GATHER_INTERVAL = 0.004  # s from one request to the next
GATHER_TIMEOUT = 0.015  # s from the first


class Waiting:
    """All requests of clients at one server.

    Args:
        raft: the core. step: lets one thing happen to it, see node.py.
    """

    def __init__(self, raft: Raft, step: Callable):
        self.loop = asyncio.get_running_loop()
        self.raft = raft
        self.step = step
        self._writes: deque[tuple[Place, asyncio.Future]] = deque()  # in the order of the log
        self._reads: list[tuple[Read, list[asyncio.Future]]] = []  # under way
        self._new_reads: list[asyncio.Future] = []
        self._facts: dict[asyncio.Future, Callable[[], bool]] = {}
        self._expected = 0  # how many requests to wait for before they go out together
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flush_deadline = 0.0

    async def commit(self, command: Command) -> Place | None:
        """Append a command at the leader; return its place once it is done, or None.

        None is for a command that is lost, that takes too long, or for which there is no room.
        """
        leadership = self.raft.leadership
        place = leadership.propose(command) if leadership else None
        if not place:
            return None
        future = self.loop.create_future()
        self._writes.append((place, future))
        self._gather()
        return place if await self._within(future, COMMIT_TIMEOUT) else None

    async def confirm_read(self) -> bool:
        """Wait until a majority has followed this leader after the read came in (§8)."""
        future = self.loop.create_future()
        self._new_reads.append(future)
        self._gather()
        return bool(await self._within(future, READ_TIMEOUT))

    async def until(self, fact: Callable[[], bool], timeout: float) -> bool:
        """Wait until a step makes the fact true; return False if none does, or at `give_up`."""
        if not fact():
            future = self.loop.create_future()
            self._facts[future] = fact
            try:
                return bool(await self._within(future, timeout))
            finally:
                del self._facts[future]
        return True

    def settle(self) -> None:
        """After a step: answer what is decided, and plan what goes out next."""
        decided = self._settle_writes() + self._settle_reads()
        if decided:
            self._expected = decided + self._new
        for future, fact in self._facts.items():
            if not future.done() and fact():
                _settle(future, True)
        self._plan_flush()

    def give_up(self) -> None:
        """Answer all requests with None: this server is suspended."""
        reads = [future for _, futures in self._reads for future in futures]
        writes = [future for _, future in self._writes]
        for future in (*writes, *reads, *self._new_reads, *self._facts):
            _settle(future, None)
        self._writes.clear()
        self._reads, self._new_reads = [], []

    @property
    def _new(self) -> int:
        """How many requests have not gone out."""
        leadership = self.raft.leadership
        writes = self.raft.log.last_index - leadership.released_index if leadership else 0
        return writes + len(self._new_reads)

    @property
    def _is_under_way(self) -> bool:
        first = self._writes[0][0].index if self._writes else None
        writes = first is not None and first <= self.raft.leadership.released_index
        return writes or bool(self._reads)

    def _settle_writes(self) -> int:
        """Answer the writes that are applied, oldest first, and then the lost, newest first."""
        writes, before = self._writes, len(self._writes)
        while writes and writes[0][0].index <= self.raft.commit_index:
            place, future = writes.popleft()
            _settle(future, self.raft.replica.outcome(place))
        while writes and not self.raft.log.holds(*writes[-1][0]):
            _settle(writes.pop()[1], False)
        return before - len(writes)

    def _settle_reads(self) -> int:
        """Answer the reads that are confirmed, and those that an earlier leadership has begun."""
        left, decided = [], 0
        for read, futures in self._reads:
            confirmed = self.raft.is_confirmed(read)
            if confirmed or read.term != self.raft.current_term:
                decided += len(futures)
                for future in futures:
                    _settle(future, confirmed)
            else:
                left.append((read, futures))
        self._reads = left
        return decided

    def _gather(self) -> None:
        """Plan the sending after a new request: GATHER_INTERVAL begins again."""
        if self._flush_timer:
            self._flush_timer.cancel()
            self._flush_timer = None
        else:
            self._flush_deadline = self.loop.time() + GATHER_TIMEOUT
        self._plan_flush()

    def _plan_flush(self) -> None:
        """Let new requests out: at once, but together once requests are under way."""
        if not self.raft.leadership:
            self._flush()
        elif self._new and not self._is_under_way and not self._flush_timer:
            now = self.loop.time()
            is_all = self._new >= self._expected
            when = now if is_all else min(now + GATHER_INTERVAL, self._flush_deadline)
            self._flush_timer = self.loop.call_at(when, self._on_flush_timer)

    def _on_flush_timer(self) -> None:
        self._flush_timer = None
        self._flush()

    def _flush(self) -> None:
        reads, self._new_reads = self._new_reads, []
        if not self.raft.leadership:
            for future in reads:
                _settle(future, False)
        elif reads:
            read = self.step(self.raft.start_read, self.loop.time())
            self._reads.append((read, reads))
            self.settle()
        else:
            self.step(self.raft.leadership.replicate)

    async def _within(self, future: asyncio.Future, timeout: float):
        """Return the future's result, or None after the timeout (cheaper than asyncio.wait)."""
        timer = self.loop.call_later(timeout, _settle, future, None)
        try:
            return await future
        finally:
            timer.cancel()


def _settle(future: asyncio.Future, result: bool | None) -> None:
    if not future.done():  # it is if its time was up, or if the client has gone away
        future.set_result(result)
