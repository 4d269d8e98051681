"""Attacks on lab 1 by strangers: garbage, floods, and acks that fit nothing."""

import contextlib
import os
import random
import re
import socket

from tests.lab01.peers import CLIENT, SERVER, RawClient, unfinished
from tests.soak.lab01_uploads import MEMORY, folders, outcome
from tests.support.harness import ROOT, load
from tests.support.processes import resident, spawning

core = load(ROOT / "lab01_udp/stop_and_wait.py")
NUMBERS = (
    *(b"0", b"1", b"2", b"3", b"10") * 4,
    *(b"-1", b"+1", b"1e9", b"9" * 18, b"9" * 19, b"9" * 400, b"", b" 1", b"\xb2"),
)
NAMES = (
    b"x",
    b"y",
    b"a.txt",
    b"../x",
    b"/etc/x",
    b"..",
    b"\0",
    b"caf\xc3\xa9",
    b"a | b",
    b"n" * 255,
    b"n" * 256,
)


def garbage(rng: random.Random) -> bytes:
    """Return a datagram that is nearly right, more or less."""
    number = lambda: rng.choice(NUMBERS)  # noqa: E731
    delimiter = rng.choice((b" | ", b" | ", b" | ", b"|", b" |", b"||"))
    datagram = rng.choice(
        (
            lambda: delimiter.join((b"s", number(), rng.choice(NAMES), number())),
            lambda: delimiter.join((b"d", number(), rng.randbytes(rng.randrange(40)))),
            lambda: delimiter.join((b"a", number(), number())),
            lambda: rng.randbytes(rng.randrange(80)),
        )
    )()
    chance = rng.random()
    if chance < 0.2:
        return datagram[: rng.randrange(len(datagram) + 1)]
    if chance < 0.4 and datagram:
        at = rng.randrange(len(datagram))
        return datagram[:at] + rng.randbytes(1) + datagram[at + 1 :]
    return datagram


class Sink:
    """An Upload that keeps nothing and knows whether it is still open."""

    still_open: set["Sink"] = set()

    def __init__(self, filename: str, total_size: int):
        assert re.fullmatch(r"[ -~]{1,255}", filename), f"the name {filename!r} is taken"
        assert not set(filename) & {"/", "\\"} and filename not in (".", ".."), filename
        self.still_open.add(self)

    def write(self, data: bytes) -> None:
        assert self in self.still_open, "written after the end"

    def discard(self) -> None:
        self.still_open.remove(self)

    save = discard


def fuzz(scale: float) -> str:
    """Garbage for both cores: from a thousand addresses to the server, any ack to the client."""
    datagrams, rng, acked = int(1_000_000 * scale), random.Random(1), 0
    receiver = core.Receiver(Sink, lambda address: 1000)
    sender = core.Sender("a", 100, seqno0=77)
    sender.start(0.0)
    before = 0
    for k in range(datagrams):
        datagram, now = garbage(rng), k * 1e-4
        with contextlib.suppress(core.Refused):
            receiver.receive(datagram, rng.randrange(1000), now)
            acked += 1
        assert not sender.receive(datagram), f"{datagram} is taken for the awaited ack"
        if k % 100 == 0:
            receiver.expire(now)
            open_now = sum(not s.finished for s in receiver.sessions.values())
            assert open_now == len(Sink.still_open) <= core.MAX_SESSIONS, "a file is lost sight of"
            before = before or (k > datagrams // 10 and resident(os.getpid()))
    grown = resident(os.getpid()) - before
    assert grown < MEMORY, f"{grown} bytes are kept"
    receiver.abandon_all()
    assert not Sink.still_open, "a file stays open"
    return f"{datagrams} datagrams: {acked} acknowledged, no crash, {grown / 1e6:+.1f} MB"


def flood(scale: float) -> str:
    """Garbage for the real server from many addresses, while one upload follows the other."""
    datagrams, rng, uploads = int(200_000 * scale), random.Random(2), 0
    with folders() as (here, there), spawning() as spawn, contextlib.ExitStack() as stack:
        server = spawn(SERVER, 0, "--dir", there, deaf=True)
        port = server.port()
        (here / "source").write_bytes(random.Random(1).randbytes(1_000_000))
        strangers = [stack.enter_context(RawClient(port)) for _ in range(50)]
        probe = stack.enter_context(RawClient(port))
        before, honest = 0, None
        for k in range(datagrams):
            with contextlib.suppress(OSError):
                rng.choice(strangers).sock.send(garbage(rng))
            if k % 200 == 0:
                probe.start(b"probe", 0)  # it keeps up
                before = before or (k > datagrams // 10 and resident(server.pid))
                if honest is None or not honest.running:
                    if honest:
                        assert outcome(honest, here / "source", there / "copy"), "kept out"
                        (there / "copy").unlink()
                        uploads += 1
                    honest = spawn(CLIENT, f"127.0.0.1:{port}", here / "source", "copy")
        assert outcome(honest, here / "source", there / "copy"), "an honest upload is kept out"
        grown = resident(server.pid) - before
        assert grown < MEMORY, f"{grown} bytes are kept"
        server.interrupt()
        assert server.wait(5) == 0 and not unfinished(there), "no clean end"
    return (
        f"{datagrams} datagrams: the server runs, {uploads + 1} uploads meanwhile identical, "
        f"{grown / 1e6:+.1f} MB"
    )


def acks(scale: float) -> str:
    """A client under garbage from its server's address and from elsewhere, between true acks."""
    rng, content = random.Random(3), random.Random(1).randbytes(int(20_000 * scale))
    with folders() as (here, _), spawning() as spawn, contextlib.ExitStack() as stack:
        (here / "source").write_bytes(content)
        ours, stranger = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)
        )
        ours.bind(("127.0.0.1", 0))
        ours.settimeout(20)
        client = spawn(CLIENT, f"127.0.0.1:{ours.getsockname()[1]}", here / "source", "copy")
        server = core.Receiver(lambda name, size: received, lambda address: 50)
        received = Collected()
        sent = true = 0
        while not received.whole:
            message, address = ours.recvfrom(65535)
            seqno = int(message.split(b" | ")[1])
            for _ in range(100):  # more than its socket holds would be a network that loses all
                stranger.sendto(b"a | %d | 9" % rng.randrange(seqno + 3), address)
                stale = b"a | %d" % rng.randrange(seqno + 1)
                ours.sendto(rng.choice((garbage(rng), stale)), address)
                sent += 2
            ours.sendto(server.receive(message, address, 0.0), address)
            true += 1
        assert client.wait() == 0 and received.data == content, "a wrong file"
    return f"{sent} datagrams among {true} true acks: the file is identical"


class Collected:
    def __init__(self):
        self.data, self.whole = b"", False

    def write(self, data: bytes) -> None:
        self.data += data

    def save(self) -> None:
        self.whole = True

    def discard(self) -> None:
        raise AssertionError("the client has begun anew")
