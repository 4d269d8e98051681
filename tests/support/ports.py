"""Free ports of 127.0.0.1, each for one test of one run alone."""

import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path


class Ports:
    """Free ports that no other process takes between our choice and the start of a server.

    The system may give a port that it has just given out to the next process that asks. So these
    ports lie below the range that Linux gives out. For each port, a byte of a common file is
    locked until our process ends, which keeps other runs of the suite away from it.
    """

    RANGE = range(10_000, 32_768)

    def __init__(self):
        path = Path(tempfile.gettempdir()) / f"labs-test-ports-{os.getuid()}"
        self._locks = path.open("ab")  # noqa: SIM115
        self._given: set[int] = set()

    def take(self, kind: socket.SocketKind, count: int) -> int:
        while True:
            first = random.choice(self.RANGE[:-count])
            ports = range(first, first + count)
            if all(p not in self._given and self._lock(p) and self._binds(p, kind) for p in ports):
                self._given.update(ports)
                return first

    def _lock(self, port: int) -> bool:
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        return True

    @staticmethod
    def _binds(port: int, kind: socket.SocketKind) -> bool:
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True


_ports = functools.cache(Ports)  # at the first use: it opens a file for writing


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM, count: int = 1) -> int:
    """Return a free port of 127.0.0.1, or the first of some in a row, for the caller alone."""
    return _ports().take(kind, count)


def listens(port: int) -> bool:
    """Tell whether something accepts TCP connections on this port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
