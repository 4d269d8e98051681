"""Attacks on lab 1: bad networks, crowds, garbage, kill -9 and Ctrl-C at any moment."""

import contextlib
import os
import random
import re
import socket
import tempfile
import threading
import time
from pathlib import Path

from tests.lab01.peers import CLIENT, SERVER, RawClient, saved, unfinished
from tests.lab01.simulation import transfer
from tests.support.harness import ROOT, load, wait_until
from tests.support.processes import Script, resident, spawning
from tests.support.relays import UdpRelay

core = load(ROOT / "lab01_udp/stop_and_wait.py")
MALFUNCTIONING = "client.py: the server is malfunctioning: it does not acknowledge\n"
INTERRUPTED = "client.py: interrupted, the file is not sent\n"
MEMORY = 8 << 20  # bytes by which a process under attack may grow


def check(fact: object, what: str) -> None:
    if not fact:
        raise AssertionError(what)


@contextlib.contextmanager
def folders():
    """Yield a folder for the clients and one for the server, which alone stands in a third one."""
    with tempfile.TemporaryDirectory() as clients, tempfile.TemporaryDirectory() as outside:
        folder = Path(outside) / "folder"
        folder.mkdir()
        yield Path(clients), folder
        check(os.listdir(outside) == ["folder"], "a file outside the server's folder")


def outcome(client: Script, source: Path, copy: Path) -> bool:
    """Wait for an upload; return whether it has succeeded, raise if it is neither right nor not."""
    status = client.wait(120)
    check(saved(copy) in (None, source.read_bytes()), f"a wrong file: {client.transcript()}")
    if status == 0:
        check(copy.exists(), f"acknowledged and not saved: {client.transcript()}")
    else:
        check((status, client.err) == (1, MALFUNCTIONING), f"no clear end: {client.transcript()}")
    return status == 0


# --- Bad networks ---


def simulated(scale: float) -> str:
    """Both cores, 30 % loss, 20 % duplication, reordering and delay each way, in virtual time."""
    uploads, succeeded, retransmissions = int(1000 * scale), 0, 0
    for seed in range(10_000, 10_000 + uploads):
        (client,), _ = transfer(seed, loss=0.3, duplicate=0.2, delay=(0.001, 0.3))
        succeeded += client.result
        retransmissions += client.sender.retransmissions
    return (
        f"{uploads} uploads: {succeeded} identical, {uploads - succeeded} clear failures, "
        f"0 wrong; {retransmissions} retransmissions"
    )


def relay(scale: float) -> str:
    """The same faults, the real scripts."""
    uploads, succeeded = max(1, int(100 * scale)), 0
    with folders() as (here, there), spawning() as spawn:
        port = spawn(SERVER, 0, "--dir", there, "--buf-size", 2000).port()
        for first in range(0, uploads, 20):
            faults = {"loss": 0.3, "duplicate": 0.2, "reorder": 0.3, "delay": 0.001}
            with UdpRelay(port, **faults, seed=first) as network:
                clients = []
                for k in range(first, min(first + 20, uploads)):
                    source = here / f"f{k}"
                    source.write_bytes(random.Random(k).randbytes(k * 400))
                    target = f"127.0.0.1:{network.port}"
                    clients.append(
                        (spawn(CLIENT, target, source, f"f{k}"), source, there / f"f{k}")
                    )
                succeeded += sum(outcome(*client) for client in clients)
        wait_until(lambda: not unfinished(there), "the unfinished files to go")
    # Six lost messages or acks in a row are one in 56: of 20 messages, two uploads in three pass.
    check(2 * succeeded > uploads, f"only {succeeded} of {uploads} uploads have succeeded")
    return (
        f"{uploads} uploads, 30 % lost and 20 % doubled each way: {succeeded} identical, "
        f"{uploads - succeeded} clear failures, 0 wrong"
    )


# --- Crowds ---


def crowd(scale: float) -> str:
    """64 uploads at once."""
    uploads = max(2, int(64 * scale))
    with folders() as (here, there), spawning() as spawn:
        target = f"127.0.0.1:{spawn(SERVER, 0, '--dir', there, '--buf-size', 1472).port()}"
        clients = []
        for k in range(uploads):
            source = here / f"f{k}"
            source.write_bytes(random.Random(k).randbytes(1_000_000 + k))
            clients.append((spawn(CLIENT, target, source, f"f{k}"), source, there / f"f{k}"))
        check(all([outcome(*client) for client in clients]), "an upload has failed")
    return f"{uploads} uploads of 1 MB at once: all identical"


def sessions(scale: float) -> str:
    """Sessions that are opened from everywhere and say nothing more, before and in an upload."""
    opened = int(10_000 * scale)
    with folders() as (here, there), spawning() as spawn:
        server = spawn(SERVER, 0, "--dir", there, "--buf-size", 1472)
        port = server.port()
        source, copy = here / "source", there / "copy"
        source.write_bytes(random.Random(1).randbytes(30_000_000))
        before = resident(server.pid)
        most = open_sessions(port, there, range(opened))
        client = spawn(CLIENT, f"127.0.0.1:{port}", source, copy.name)
        wait_until(lambda: copy.exists() or received(there) > 1_000_000, "the upload to be let in")
        most = max(most, open_sessions(port, there, range(opened, opened + opened // 5)))
        check(outcome(client, source, copy), "an honest upload is kept out")
        wait_until(lambda: not unfinished(there), "the sessions to expire")
        check(os.listdir(there) == [copy.name], "files that no client has sent")
        refused = server.err.count("refused: more than 500 sessions")
        grown = resident(server.pid) - before
    check(opened < 1000 or refused > 0, "no session is refused")
    check(most <= core.MAX_SESSIONS, f"{most} sessions at once")
    check(grown < MEMORY, f"{grown} bytes are kept")
    return (
        f"{opened + opened // 5} sessions from as many addresses: at most {most} at once, "
        f"{refused} refused, an upload of 30 MB among them identical, {grown / 1e6:+.1f} MB"
    )


def open_sessions(port: int, there: Path, numbers: range) -> int:
    """Open sessions from an address of 127/8 each; return how many there were at most at a time."""
    most = 0
    with RawClient(port) as probe:
        for k in numbers:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((f"127.{1 + k // 65536}.{k // 256 % 256}.{k % 256}", 0))
                sock.sendto(b"s | 0 | x%d | 5" % k, ("127.0.0.1", port))
            if k % 50 == 0:
                probe.start(b"probe", 5)  # the server has kept up so far
                most = max(most, len(unfinished(there)))
    return most


def received(folder: Path) -> int:
    """Return how much there is of all unfinished files."""
    sizes = 0
    for name in unfinished(folder):
        with contextlib.suppress(FileNotFoundError):
            sizes += (folder / name).stat().st_size
    return sizes


# --- Garbage ---

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
        check(re.fullmatch(r"[ -~]{1,255}", filename), f"the name {filename!r} is taken")
        check(not set(filename) & {"/", "\\"} and filename not in (".", ".."), filename)
        self.still_open.add(self)

    def write(self, data: bytes) -> None:
        check(self in self.still_open, "written after the end")

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
        check(not sender.receive(datagram), f"{datagram} is taken for the awaited ack")
        if k % 100 == 0:
            receiver.expire(now)
            open_now = sum(not s.finished for s in receiver.sessions.values())
            check(open_now == len(Sink.still_open) <= core.MAX_SESSIONS, "a file is lost sight of")
            before = before or (k > datagrams // 10 and resident(os.getpid()))
    grown = resident(os.getpid()) - before
    check(grown < MEMORY, f"{grown} bytes are kept")
    receiver.abandon_all()
    check(not Sink.still_open, "a file stays open")
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
                        check(outcome(honest, here / "source", there / "copy"), "kept out")
                        (there / "copy").unlink()
                        uploads += 1
                    honest = spawn(CLIENT, f"127.0.0.1:{port}", here / "source", "copy")
        check(outcome(honest, here / "source", there / "copy"), "an honest upload is kept out")
        grown = resident(server.pid) - before
        check(grown < MEMORY, f"{grown} bytes are kept")
        server.interrupt()
        check(server.wait(5) == 0 and not unfinished(there), "no clean end")
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
        check(client.wait() == 0 and received.data == content, "a wrong file")
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


# --- Sudden ends ---


def kill(scale: float) -> str:
    """kill -9 of the server at random moments of uploads; the next start cleans up."""
    kills, rng, whole, left = max(1, int(100 * scale)), random.Random(4), 0, 0
    with folders() as (here, there), spawning() as spawn:
        source = here / "source"
        source.write_bytes(random.Random(1).randbytes(5_000_000))
        clients = []
        for k in range(kills):
            server = spawn(SERVER, 0, "--dir", there, "--buf-size", 8972)
            port = server.port()
            check(not unfinished(there), "an unfinished file has outlived the next start")
            copy = there / f"copy{k}"
            clients.append((spawn(CLIENT, f"127.0.0.1:{port}", source, copy.name), source, copy))
            wait_until(lambda copy=copy: unfinished(there) or copy.exists())
            time.sleep(rng.uniform(0.0, 0.1))  # a moment of chance, not a fact to wait for
            server.kill()
            whole += copy.exists()
            left += len(unfinished(there))
            check(saved(copy) in (None, source.read_bytes()), "a partial file")
            if len(clients) > 10:
                finish(*clients.pop(0))
        for client in clients:
            finish(*client)
        spawn(SERVER, 0, "--dir", there).port()
        check(not unfinished(there), "an unfinished file has outlived the next start")
    return (
        f"{kills} kills: {whole} times the whole file, {kills - whole} times none; {left} "
        f"unfinished files were left, 0 after the next start"
    )


def finish(client: Script, source: Path, copy: Path) -> None:
    outcome(client, source, copy)
    copy.unlink(missing_ok=True)


def stop(scale: float) -> str:
    """Ctrl-C of the server, often twice, at random moments of uploads and of new sessions."""
    stops, rng, slowest = max(1, int(100 * scale)), random.Random(5), 0.0
    with folders() as (here, there), spawning() as spawn:
        (here / "source").write_bytes(random.Random(1).randbytes(20_000_000))
        for k in range(stops):
            server = spawn(SERVER, 0, "--dir", there, "--buf-size", 8972)
            port = server.port()
            ended = threading.Event()
            opener = threading.Thread(target=begin_again, args=(port, ended))
            opener.start()
            client = spawn(CLIENT, f"127.0.0.1:{port}", here / "source", "copy")
            copy = there / "copy"
            wait_until(lambda copy=copy: copy.exists() or received(there), "the upload to go on")
            time.sleep(rng.uniform(0.0, 0.3))  # a moment of chance, not a fact to wait for
            begun = time.monotonic()
            for _ in range(1 + k % 3):
                server.interrupt()
            try:
                check(server.wait(5) == 0, server.transcript())
            finally:
                ended.set()
                opener.join()
            slowest = max(slowest, time.monotonic() - begun)
            check("Traceback" not in server.err, server.err)
            check(not unfinished(there), "an unfinished file stays")
            client.interrupt()
            check(
                client.wait(5) in (0, 130) and client.err in ("", INTERRUPTED), client.transcript()
            )
            copy.unlink(missing_ok=True)
    check(slowest < 1.0, f"{slowest:.2f} s until the end")
    return f"{stops} times Ctrl-C: exit 0, no unfinished file, at most {slowest:.2f} s"


def begin_again(port: int, ended: threading.Event) -> None:
    """Begin upload after upload of one address; each start ends the one before."""
    with RawClient(port) as client:
        k = 0
        while not ended.is_set():
            k += 1
            client.ask(b"s | 0 | x%d | 5" % k, timeout=0.01)


ATTACKS = {
    "simulated": simulated,
    "relay": relay,
    "crowd": crowd,
    "sessions": sessions,
    "fuzz": fuzz,
    "flood": flood,
    "acks": acks,
    "kill": kill,
    "stop": stop,
}
