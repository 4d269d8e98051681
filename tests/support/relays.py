"""Bad networks: a relay for datagrams and one for TCP connections, to stand between two processes.

    with UdpRelay(server_port, loss=0.1, duplicate=0.1, reorder=0.1, seed=1) as relay:
        ...                                    # the client talks to relay.port

Both pass everything on unchanged until they are told otherwise; nothing in the labs knows of them.
"""

import asyncio
import contextlib
import heapq
import itertools
import random
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable

HOST = "127.0.0.1"
UP, DOWN = "up", "down"  # towards the server, towards the client


class UdpRelay:
    """Carries datagrams between any number of clients and one server.

    Args:
        loss, duplicate, reorder: probabilities for each datagram, in both directions; a reordered
            one is held back by a few milliseconds, so that later ones overtake it.
        delay: s, for every datagram.
        fate: if given, decides instead: `fate(direction, k, datagram)` with k counting from 1 in
            each direction returns the delays, in seconds, of the copies to deliver; [] drops it.
    """

    def __init__(
        self,
        server_port: int,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        delay: float = 0.0,
        seed: int = 0,
        fate: Callable[[str, int, bytes], list[float]] | None = None,
    ):
        self.loss, self.duplicate, self.reorder, self.delay = loss, duplicate, reorder, delay
        self.random = random.Random(seed)
        self.fate = fate or self._chance
        self.server = (HOST, server_port)
        self.seen: list[tuple[str, bytes]] = []  # the beginning of each datagram that arrived here
        self.front = self._socket()
        self.port = self.front.getsockname()[1]
        self._counts = {UP: itertools.count(1), DOWN: itertools.count(1)}
        self._backs: dict[tuple, socket.socket] = {}  # by client address
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.front, selectors.EVENT_READ, None)
        self._held: list = []
        self._order = itertools.count()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @staticmethod
    def _socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((HOST, 0))
        return sock

    def _chance(self, direction: str, k: int, datagram: bytes) -> list[float]:
        if self.random.random() < self.loss:
            return []
        copies = 2 if self.random.random() < self.duplicate else 1
        late = [self.random.random() < self.reorder for _ in range(copies)]
        return [self.delay + (self.random.uniform(0.001, 0.01) if x else 0.0) for x in late]

    def _run(self) -> None:
        while not self._closing:
            wait = max(0.0, self._held[0][0] - time.monotonic()) if self._held else 0.05
            for key, _ in self._selector.select(min(wait, 0.05)):
                self._receive(key.fileobj, key.data)
            while self._held and self._held[0][0] <= time.monotonic():
                self._deliver(*heapq.heappop(self._held)[2:])

    def _receive(self, sock: socket.socket, client: tuple | None) -> None:
        try:
            datagram, source = sock.recvfrom(65535)
        except ConnectionRefusedError:
            return
        if client is None:
            direction, client = UP, source
            if client not in self._backs:
                back = self._backs[client] = self._socket()
                back.connect(self.server)
                self._selector.register(back, selectors.EVENT_READ, client)
        else:
            direction = DOWN
        self.seen.append((direction, datagram[:64]))
        for delay in self.fate(direction, next(self._counts[direction]), datagram):
            if delay <= 0:
                self._deliver(direction, client, datagram)
            else:
                entry = (time.monotonic() + delay, next(self._order), direction, client, datagram)
                heapq.heappush(self._held, entry)

    def _deliver(self, direction: str, client: tuple, datagram: bytes) -> None:
        with contextlib.suppress(OSError):
            if direction == UP:
                self._backs[client].send(datagram)
            else:
                self.front.sendto(datagram, client)

    def close(self) -> None:
        """Stop and free everything."""
        self._closing = True
        self._thread.join()
        self._selector.close()
        for sock in (self.front, *self._backs.values()):
            sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class TcpRelay:
    """Carries TCP connections to one server, their ends and resets included.

    Args:
        piece: the most bytes to pass on at a time; 0 means as they come.
    """

    def __init__(self, server_port: int, piece: int = 0):
        self.server = (HOST, server_port)
        self.piece = piece
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self._passing = asyncio.Event()  # for the connections made since the last release
        self._passing.set()
        self._answering = asyncio.Event()
        self._answering.set()
        self._carriers: set[asyncio.Task] = set()
        self._loop = asyncio.new_event_loop()
        self._loop.add_reader(self.listener, self._accept)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        near, _ = self.listener.accept()
        carrier = self._loop.create_task(self._carry(near, self._passing))
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)

    async def _carry(self, near: socket.socket, passing: asyncio.Event) -> None:
        """Carry one connection; when cancelled, reset it."""
        pumps = []
        with near, socket.socket() as far:
            try:
                for sock in (near, far):
                    sock.setblocking(False)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await passing.wait()
                await self._loop.sock_connect(far, self.server)
                ways = [(near, far, [passing]), (far, near, [passing, self._answering])]
                pumps += [self._loop.create_task(self._pump(*way)) for way in ways]
                await asyncio.gather(*pumps)
            except (OSError, asyncio.CancelledError):
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                for sock in (near, far):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _pump(self, source, target, gates: list[asyncio.Event]) -> None:
        while data := await self._loop.sock_recv(source, 65536):
            size = self.piece or len(data)
            for begin in range(0, len(data), size):
                for gate in gates:
                    await gate.wait()
                await self._loop.sock_sendall(target, data[begin : begin + size])
        for gate in gates:
            await gate.wait()
        target.shutdown(socket.SHUT_WR)

    @property
    def connections(self) -> int:
        """Return how many connections there are."""
        return len(self._carriers)

    def hold(self) -> None:
        """Pass nothing on from here on; connections, also new ones, look alive and are silent."""
        self._passing.clear()

    def deafen(self) -> None:
        """Pass nothing on from the server to its clients: they can send, but hear nothing."""
        self._answering.clear()

    def release(self, old_connections: bool = True) -> None:
        """Pass everything on again, what has waited first; or leave old connections silent."""
        if not old_connections and not self._passing.is_set():  # if it held any
            self._passing = asyncio.Event()
        self._loop.call_soon_threadsafe(self._passing.set)
        self._loop.call_soon_threadsafe(self._answering.set)

    def cut(self) -> None:
        """Reset every connection there is."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    async def _cut(self) -> None:
        await asyncio.sleep(0)  # so that all carriers have begun, and close what they have
        for carrier in self._carriers:
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)  # some are at their end

    def close(self) -> None:
        """Stop and free everything."""
        self._loop.call_soon_threadsafe(self._loop.remove_reader, self.listener)
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
