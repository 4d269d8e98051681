"""The thread that tests the numbers which take long."""

import contextlib
import heapq
import itertools
import select
import time
import traceback
from queue import Empty, SimpleQueue
from threading import Thread

import cli
from connection import MAX_DIGITS, Connection, takes_long

# s for which a number of MAX_DIGITS lets cheaper ones pass that come later; its test takes a third
# of a second. A test takes time with the third power of the digits, so a shorter number waits less.
COURTESY = 10.0


class GivenUp(Exception):
    """The result of the test that runs is not wanted any more."""


class SlowLane(Thread):
    """Serves one connection after the other for a turn, or for one number that takes long.

    The next is the one with the earliest deadline: its arrival, plus a share of COURTESY that grows
    with the length of the number. So a cheap number does not wait for many expensive ones, nor an
    expensive one for ever. A connection that is reset loses its place at once, even while its
    number is tested. One that is closed looks like one half closed, whose client still reads; it
    loses its place when an answer has been sent in vain.
    """

    def __init__(self, queue):
        super().__init__(name="slow lane")
        self.queue = queue  # to the workers
        self._returning: dict[int, Connection] = {}  # handed back, by file descriptor
        self.stopping = False
        self._arrivals: SimpleQueue[Connection | None] = SimpleQueue()
        self._here: dict[int, Connection] = {}  # by file descriptor
        self._order: list[tuple[float, int, Connection]] = []  # a heap of (deadline, tie, ...)
        self._ties = itertools.count()
        self._hangups = select.poll()

    # --- For the other threads ---

    def put(self, connection: Connection) -> None:
        """Take a connection over; it comes back through the queue."""
        self._arrivals.put(connection)

    def claim(self, fd: int, address: tuple) -> Connection:
        """Return the connection for an element of the queue: one that comes back, or a new one."""
        return self._returning.pop(fd, None) or Connection(fd, address)

    def stop(self) -> None:
        self.stopping = True
        self._arrivals.put(None)

    def close_connections(self) -> None:
        """Close all that are here, when neither this thread nor another one runs any more."""
        while not self._arrivals.empty():
            if connection := self._arrivals.get():
                connection.close()
        for connection in self._here.values():
            connection.close()

    # --- For its own thread ---

    def run(self) -> None:
        while not self.stopping:
            self._take_arrivals()
            if self._order:
                self._serve(heapq.heappop(self._order)[2])

    def _take_arrivals(self) -> None:
        """Take all that has arrived; wait for it if there is nothing else to do."""
        with contextlib.suppress(Empty):
            while connection := self._arrivals.get(block=not self._order):
                fd = connection.sock.fileno()
                self._here[fd] = connection
                self._hangups.register(fd, 0)  # 0: nothing but its end
                self._queue_up(connection)

    def _queue_up(self, connection: Connection) -> None:
        share = min(1.0, len(connection.tokens[0]) / MAX_DIGITS)
        deadline = time.monotonic() + COURTESY * share**3
        heapq.heappush(self._order, (deadline, next(self._ties), connection))

    def _drop_broken(self) -> None:
        for fd, _ in self._hangups.poll(0):
            self._here[fd].give_up()
            self._hand_back(fd)

    def _hand_back(self, fd: int) -> None:
        self._hangups.unregister(fd)
        connection = self._returning[fd] = self._here.pop(fd)
        self.queue.put((fd, connection.address))

    def _serve(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        if self._here.get(fd) is not connection:
            return  # it has broken while it waited
        try:
            if takes_long(connection.tokens[0]):
                connection.answer_next(pause=lambda: self._check_still_wanted(fd))
            else:
                connection.answer()
            connection.send()
        except GivenUp:
            return
        except OSError:
            connection.give_up()
        except Exception:  # a fault of ours: this client loses its connection, the others do not
            cli.say(f"{connection.address}: {traceback.format_exc()}", "stderr")
            connection.give_up()
        if connection.tokens and not connection.output:
            self._queue_up(connection)
        else:
            self._hand_back(fd)

    def _check_still_wanted(self, fd: int) -> None:
        """Raise GivenUp if the server stops, or the client whose number is tested has gone."""
        self._drop_broken()
        if self.stopping or fd not in self._here:
            raise GivenUp
