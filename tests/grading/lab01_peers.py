"""Lab 1's other side, played by the judge: a client and a server that can do what networks do."""

import contextlib
import random
import re
import socket
import time

from tests.grading.scene import Loss, Program, Scene, check

PORT = 12300
REPLY_TIME = 3.0  # s; the client of the assignment waits as long in all
ACK = re.compile(rb"\s*a\s*\|\s*(\d+)\s*(?:\|\s*(\d+)\s*)?")


def content(size: int, seed: int = 1) -> bytes:
    """Return random bytes: every value, also those of the delimiter."""
    return random.Random(seed).randbytes(size)


START = re.compile(rb"s\s*\|\s*(\d+)\s*\|\s*(.+?)\s*\|\s*(\d+)\s*", re.S)
DATA = re.compile(rb"d\s*\|\s*(\d+)\s*\| ?(.*)", re.S)


class RawClient:
    """A client of the assignment that can also do what a network does: repeat, hold back, stop."""

    def __init__(self, scene: Scene, server: Program):
        self.scene, self.server = scene, server
        self.sock = scene.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.sock.bind(("127.0.0.1", 0))
        self.buf_size = 0

    def send(self, message: bytes) -> None:
        """Send a datagram."""
        address = ("127.0.0.1", self.scene.port(PORT, socket.SOCK_DGRAM))
        with contextlib.suppress(OSError):  # what a dead server's machine reports
            self.sock.sendto(message, address)

    def replies(self, seconds: float) -> list[bytes]:
        """Return all datagrams that come within this time."""
        found, deadline = [], time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(left)
            with contextlib.suppress(OSError):
                found.append(self.sock.recv(65535))
        return found

    def exchange(self, message: bytes, next_seqno: int, shown: str) -> tuple[int, int | None]:
        """Send a message, and again after 0.5 s as a client does; return its ack."""
        self.scene.note_step(f"send: {shown}")
        expected = f"the ack `a | {next_seqno}` to {shown}"
        seen = b""
        for _ in range(6):
            self.send(message)
            self.sock.settimeout(0.5)
            with contextlib.suppress(OSError):
                while True:
                    seen = self.sock.recv(65535)
                    if (ack := ACK.fullmatch(seen)) and int(ack[1]) == next_seqno:
                        return int(ack[1]), int(ack[2]) if ack[2] else None
        raise Loss(expected, f"{seen!r}\n{self.server.tail()}" if seen else self.server.tail())

    def once(self, message: bytes, shown: str) -> bytes | None:
        """Send a message once; return the first reply, if any."""
        self.scene.note_step(f"send: {shown}")
        self.send(message)
        self.sock.settimeout(REPLY_TIME)
        with contextlib.suppress(OSError):
            return self.sock.recv(65535)
        return None

    def begin(self, name: str, size: int, seqno0: int = 0) -> None:
        """Send a start message and learn the buf_size."""
        message = f"s | {seqno0} | {name} | {size}"
        _, self.buf_size = self.exchange(message.encode(), seqno0 + 1, f"`{message}`")
        check(self.buf_size, f"the ack to the start message carries a buf_size: {message}", "none")

    def pieces(self, data: bytes, seqno0: int = 0, most: int = 65507) -> list[bytes]:
        """Cut a file into the data messages that fill a buf_size."""
        messages, size = [], min(self.buf_size, most)
        while data:
            header = f"d | {seqno0 + 1 + len(messages)} | ".encode()
            room = size - len(header)
            check(room > 0, "a buf_size with room for a header and data", f"buf_size {size}")
            messages.append(header + data[:room])
            data = data[room:]
        return messages

    def transfer(self, name: str, data: bytes, seqno0: int = 0, most: int = 65507) -> list[bytes]:
        """Send a file, one message after the other; return its data messages."""
        self.begin(name, len(data), seqno0)
        messages = self.pieces(data, seqno0, most)
        for k, message in enumerate(messages, seqno0 + 1):
            self.exchange(message, k + 1, f"`d | {k} | ...` with {len(message)} bytes")
        return messages


class RawServer:
    """A server of the assignment that can lose and delay what it likes."""

    def __init__(self, scene: Scene):
        self.scene = scene
        self.sock = scene.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.sock.bind(("127.0.0.1", scene.port(PORT, socket.SOCK_DGRAM)))
        self.program: Program | None = None
        self.address = None

    def client(self, name: str, data: bytes) -> Program:
        """Start the submission's client with a file."""
        path = self.scene.work() / f"local-{name}"
        path.write_bytes(data)
        address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.program = self.scene.start("client", address, path, name)
        return self.program

    def receive(self, form: re.Pattern, seconds: float = 10.0) -> re.Match:
        """Return the next datagram, which is to have this form."""
        kind = (
            "start message `s | seqno0 | filename | total_size`"
            if form is START
            else "data message"
        )
        datagram = self._next(seconds)
        check(datagram, f"the client sends a {kind}", self.program.tail())
        match = form.fullmatch(datagram)
        check(match, f"the client sends a {kind}", f"{datagram[:60]!r}\n{self.program.tail()}")
        return match

    def _next(self, seconds: float) -> bytes:
        """Return the next datagram; nothing if none comes in time, or the client has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            running = self.program.running
            self.sock.settimeout(0.2)
            with contextlib.suppress(OSError):
                datagram, self.address = self.sock.recvfrom(65535)
                return datagram
            if not running:
                break
        return b""

    def ack(self, *numbers: int) -> None:
        """Acknowledge."""
        self.sock.sendto(" | ".join(["a", *map(str, numbers)]).encode(), self.address)

    def quiet(self, seconds: float) -> bytes | None:
        """Return the next datagram if one comes within this time."""
        self.sock.settimeout(seconds)
        with contextlib.suppress(OSError):
            return self.sock.recv(65535)
        return None

    def open(self, name: str, data: bytes, buf_size: int) -> int:
        """Start a client and acknowledge its start message; return its seqno0."""
        self.client(name, data)
        start = self.receive(START)
        self.ack(int(start[1]) + 1, buf_size)
        return int(start[1])

    def collect(self, seqno0: int, size: int) -> bytes:
        """Acknowledge data messages until the file is whole; return it."""
        found, awaited = b"", seqno0 + 1
        while len(found) < size:
            message = self.receive(DATA)
            if int(message[1]) == awaited:
                found, awaited = found + message[2], awaited + 1
            check(
                int(message[1]) in (awaited - 1, awaited - 2) or START.match(message[0]),
                f"data messages are numbered one by one: {awaited} comes next",
                repr(message[0][:40]),
            )
            self.ack(int(message[1]) + 1)
        return found


def start_server(scene: Scene) -> Program:
    server = scene.start("server", scene.port(PORT, socket.SOCK_DGRAM))
    scene.wait_for_port(server, PORT, socket.SOCK_DGRAM)
    return server


def saved(scene: Scene, name: str) -> bytes | None:
    """Return the content of a saved file, wherever in its folder the server keeps files."""
    for path in scene.folder.parent.rglob(name):
        if path.is_file():
            return path.read_bytes()
    return None


def check_saved(scene: Scene, server: Program, name: str, data: bytes) -> None:
    """Wait until the file is there, whole: a server may write it a little after its last ack."""
    with contextlib.suppress(Loss):
        scene.until(lambda: saved(scene, name) == data, "", 4)
    found = saved(scene, name)
    if found == data:
        return
    seen = "no such file" if found is None else f"{len(found)} bytes that differ from what was sent"
    raise Loss(
        f"the server has saved {name} with the {len(data)} bytes sent", f"{seen}\n{server.tail()}"
    )
