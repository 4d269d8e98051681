"""Bad networks: a relay for datagrams and one for TCP connections, to stand between two processes.

    with UdpRelay(server_port, loss=0.1, duplicate=0.1, reorder=0.1, seed=1) as relay:
        ...                                    # the client talks to relay.port

Both pass everything on unchanged until they are told otherwise; nothing in the labs knows of them.
"""

import contextlib
import heapq
import itertools
import random
import select
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
    """Carries TCP connections to one server.

    Attributes:
        piece: the most bytes to pass on at a time; 0 means as they come.
        stalled: while set, what arrives stays here; connections look alive and are silent.
    """

    def __init__(self, server_port: int, piece: int = 0):
        self.server = (HOST, server_port)
        self.piece = piece
        self.stalled = False
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._waker, self._wake = socket.socketpair()
        self._cut = self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            watched = [self._waker] if self.stalled else [self._waker, self.listener, *self._pairs]
            for sock in select.select(watched, [], [])[0]:
                if sock is self._waker:
                    self._waker.recv(64)
                elif sock is self.listener:
                    self._accept()
                elif sock in self._pairs:
                    self._pass_on(sock)
            if self._cut or self._closing:
                self._cut = False
                for sock in list(self._pairs):
                    self._drop(sock)

    def _accept(self) -> None:
        client, _ = self.listener.accept()
        try:
            server = socket.create_connection(self.server)
        except OSError:
            client.close()
            return
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs |= {client: server, server: client}

    def _pass_on(self, source: socket.socket) -> None:
        try:
            data = source.recv(65536)
            size = self.piece or len(data)
            for begin in range(0, len(data), max(1, size)):
                self._pairs[source].sendall(data[begin : begin + size])
        except OSError:
            data = b""
        if not data:
            self._drop(source, reset=False)

    def _drop(self, sock: socket.socket, reset: bool = True) -> None:
        """Close both ends; with a reset, as if a machine had vanished and come back."""
        if sock not in self._pairs:
            return
        other = self._pairs.pop(sock)
        del self._pairs[other]
        for end in (sock, other):
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()

    def stall(self) -> None:
        """Pass nothing on and accept nothing from here on."""
        self.stalled = True
        self._wake.send(b"!")

    def resume(self) -> None:
        """Pass everything on again, what has waited first."""
        self.stalled = False
        self._wake.send(b"!")

    def cut(self) -> None:
        """Reset every connection there is."""
        self._cut = True
        self._wake.send(b"!")

    def close(self) -> None:
        """Stop and free everything."""
        self._closing = True
        self._wake.send(b"!")
        self._thread.join()
        for sock in (self.listener, self._waker, self._wake):
            sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
