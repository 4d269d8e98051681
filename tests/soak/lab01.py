"""Attacks on lab 1: bad networks, crowds, garbage, kill -9 and Ctrl-C at any moment."""

import contextlib
import os
import random
import socket
import threading
import time
from pathlib import Path

from tests.lab01.peers import CLIENT, SERVER, RawClient, saved, unfinished
from tests.lab01.simulation import transfer
from tests.soak.lab01_garbage import acks, flood, fuzz
from tests.soak.lab01_uploads import MEMORY, folders, outcome
from tests.support.harness import ROOT, load, pass_time, wait_until
from tests.support.processes import Script, resident, spawning
from tests.support.relays import UdpRelay

core = load(ROOT / "lab01_udp/stop_and_wait.py")
INTERRUPTED = "client.py: interrupted, the file is not sent\n"


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
    assert 2 * succeeded > uploads, f"only {succeeded} of {uploads} uploads have succeeded"
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
        assert all([outcome(*client) for client in clients]), "an upload has failed"
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
        assert outcome(client, source, copy), "an honest upload is kept out"
        wait_until(lambda: not unfinished(there), "the sessions to expire")
        assert os.listdir(there) == [copy.name], "files that no client has sent"
        refused = server.err.count("refused: more than 500 sessions")
        grown = resident(server.pid) - before
    assert opened < 1000 or refused > 0, "no session is refused"
    assert most <= core.MAX_SESSIONS, f"{most} sessions at once"
    assert grown < MEMORY, f"{grown} bytes are kept"
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
            assert not unfinished(there), "an unfinished file has outlived the next start"
            copy = there / f"copy{k}"
            clients.append((spawn(CLIENT, f"127.0.0.1:{port}", source, copy.name), source, copy))
            wait_until(lambda copy=copy: unfinished(there) or copy.exists())
            pass_time(rng.uniform(0.0, 0.1))
            server.kill()
            whole += copy.exists()
            left += len(unfinished(there))
            assert saved(copy) in (None, source.read_bytes()), "a partial file"
            if len(clients) > 10:
                finish(*clients.pop(0))
        for client in clients:
            finish(*client)
        spawn(SERVER, 0, "--dir", there).port()
        assert not unfinished(there), "an unfinished file has outlived the next start"
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
            pass_time(rng.uniform(0.0, 0.3))
            begun = time.monotonic()
            for _ in range(1 + k % 3):
                server.interrupt()
            try:
                assert server.wait(5) == 0, server.transcript()
            finally:
                ended.set()
                opener.join()
            slowest = max(slowest, time.monotonic() - begun)
            assert "Traceback" not in server.err, server.err
            assert not unfinished(there), "an unfinished file stays"
            client.interrupt()
            assert client.wait(5) in (0, 130) and client.err in ("", INTERRUPTED), (
                client.transcript()
            )
            copy.unlink(missing_ok=True)
    assert slowest < 1.0, f"{slowest:.2f} s until the end"
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
