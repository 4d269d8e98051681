"""Processes in virtual time: an asyncio event loop for each, without sockets, threads or a clock.

    world = World(seed)
    server = Loop(world)            # one process: what it plans, runs in it
    server.call_soon(function)
    server.pause(); server.go_on()  # SIGSTOP, SIGCONT: what is due meanwhile waits
    server.kill()                   # kill -9: what it has planned is forgotten
    world.run(until=2.0)

Between two events no time passes. All that happens depends on the seed alone.
"""

import asyncio
import contextlib
import heapq
import itertools
import random
from collections.abc import Callable
from functools import partial


class Ended(BaseException):
    """A process has ended itself, with os._exit."""


class World:
    """Virtual time in seconds, the events of all processes, and one source of randomness."""

    def __init__(self, seed: int):
        self.now = 0.0
        self.random = random.Random(seed)
        self.errors: list[str] = []  # exceptions that a process did not handle
        self.outside = Loop(self)  # the network, the faults, the clients
        self._events: list[tuple[float, int, asyncio.Handle]] = []
        self._order = itertools.count()  # events of the same instant run as they were planned

    def plan(self, when: float, handle: asyncio.Handle) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._order), handle))

    def after(self, delay: float, action: Callable, *args) -> asyncio.TimerHandle:
        """Plan an event outside of all servers."""
        return self.outside.call_at(self.now + delay, action, *args)

    def run(self, until: float, fact: Callable[[], bool] = lambda: False) -> bool:
        """Run events until an instant, or until `fact()` holds; tell whether it does."""
        while not fact():
            if not self._events or self._events[0][0] > until:
                self.now = until
                return fact()
            self.now, _, handle = heapq.heappop(self._events)
            handle._loop.run_event(handle)
        return True


class Loop(asyncio.AbstractEventLoop):
    """The event loop of one process."""

    def __init__(self, world: World):
        self.world = world
        self.is_dead = False
        self.is_paused = False
        self.paused_at = 0.0  # when its last pause began
        self.went_on = 0.0  # and when it ended
        self._held: list[asyncio.Handle] = []  # due while the process was paused
        self.tasks: dict[asyncio.Task, None] = {}
        self._jobs: list[Callable] = []  # for the disk, in order
        self._disk_free = 0.0  # when the last of them will end

    # The process

    def run_event(self, handle: asyncio.Handle) -> None:
        if self.is_dead or handle.cancelled():
            return
        if self.is_paused:
            self._held.append(handle)
            return
        asyncio._set_running_loop(self)
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)

    def pause(self) -> None:
        self.is_paused, self.paused_at = True, self.world.now

    def go_on(self) -> None:
        """Continue: timers are due, and messages wait for a thread that may be a little slower."""
        if not self.is_paused:
            return
        self.is_paused, self.went_on = False, self.world.now
        held, self._held = self._held, []
        reading = self.world.random.choice((0.0, 0.002, 0.01))
        for handle in held:
            is_timer = isinstance(handle, asyncio.TimerHandle)
            self.world.plan(self.world.now + (0.0 if is_timer else reading), handle)

    def kill(self) -> None:
        """End the process; the disk may still finish the job that it was given."""
        self.is_dead = True
        if self._jobs and self.world.random.random() < 0.5:
            _outcome(self._jobs[0])
        for task in list(self.tasks):
            task._log_destroy_pending = False
            with contextlib.suppress(ValueError, RuntimeError):  # it is the one that runs
                task.get_coro().close()
        self.tasks.clear()

    # What asyncio and the labs ask of a loop

    def time(self) -> float:
        return self.world.now

    def call_soon(self, callback, *args, context=None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.world.plan(self.world.now, handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay, callback, *args, context=None) -> asyncio.TimerHandle:
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.world.plan(when, handle)
        return handle

    def create_future(self) -> asyncio.Future:
        return asyncio.Future(loop=self)

    def create_task(self, coro, *, name=None, context=None) -> asyncio.Task:
        task = asyncio.Task(coro, loop=self, name=name)
        self.tasks[task] = None
        task.add_done_callback(lambda task: self.tasks.pop(task, None))
        return task

    def run_in_executor(self, executor, function, *args) -> asyncio.Future:
        """Give a disk a job; `executor.duration()` is how long it takes (disk.py)."""
        future, job = self.create_future(), partial(function, *args)
        self._jobs.append(job)
        self._disk_free = max(self.world.now, self._disk_free) + executor.duration()
        self.world.outside.call_at(self._disk_free, self._end_job, job, future)
        return future

    def _end_job(self, job: Callable, future: asyncio.Future) -> None:
        if not self.is_dead:
            self._jobs.remove(job)
            self.call_soon(_settle, future, *_outcome(job))

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle) -> None:
        pass

    def call_exception_handler(self, context: dict) -> None:
        error = context.get("exception")
        if not self.is_dead and not isinstance(error, Ended):
            self.world.errors.append(f"{context['message']}: {error!r}")


def _outcome(job: Callable) -> tuple:
    try:
        return job(), None
    except Exception as error:
        return None, error


def _settle(future: asyncio.Future, result, error: Exception | None) -> None:
    if future.done():
        return
    if error:
        future.set_exception(error)
    else:
        future.set_result(result)
