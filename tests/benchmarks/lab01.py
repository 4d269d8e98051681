"""Lab 1: uploads, beside a bare ping-pong of datagrams, TFTP, and the optimum under losses."""

import contextlib
import functools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import Contestant, Goal, Row, attempt, one_core
from tests.benchmarks.processes import BARE, MEMORY, duration, folder, serving
from tests.benchmarks.tftp import SIZE, TFTP, rate
from tests.support.harness import ROOT, load
from tests.support.processes import running
from tests.support.relays import UdpRelay

SOURCE = "source"  # the file to upload
TFTP_MAX = 65464  # bytes: the largest block (RFC 2348)
LARGEST = 65507  # bytes: the largest datagram
RETRY_AFTER = 0.5  # s
# Losses in each direction, and how many data messages then take some three seconds.
LOSSES = {0.01: 400, 0.05: 60, 0.20: 12}
SEED = 3
MESSAGES = 20_000
BARE_NAME = "bare datagrams"
FILES_NAME = "bare datagrams, files"
OPTIMUM = "0.5 s for each loss"

stop_and_wait = load(ROOT / "lab01_udp/stop_and_wait.py")


def rows(stack: contextlib.ExitStack) -> Iterator[Row]:
    memory = MEMORY if MEMORY.is_dir() else None
    kind = "tmpfs" if memory else "the disk of temporary files"
    ahead = [Goal(name, 1.0) for name in TFTP]
    with one_core(), contextlib.ExitStack() as servers:
        port = serving(servers, BARE, "udp-server")
        yield Row(
            1,
            "a message of 1024 bytes and its ack, without a socket or a file, one core",
            "us",
            "lower",
            {"ours": protocol_time, BARE_NAME: lambda: bare_time(port)},
        )
    with one_core(), folder(memory) as place:
        goals = [Goal(FILES_NAME, 0.75), Goal("tftpy", 1.0)]
        yield from uploads(place, 1024, 1024, f"buf_size 1024, files on {kind}", goals)
        goals = [Goal(BARE_NAME, 0.3), *ahead]
        yield from uploads(place, LARGEST, TFTP_MAX, f"buf_size {LARGEST}, files on {kind}", goals)
    with one_core(), folder() as place:
        if memory and os.stat(place).st_dev != os.stat(memory).st_dev:
            # No other server waits until the file is on disk.
            what = f"buf_size {LARGEST}, files on disk"
            yield from uploads(place, LARGEST, TFTP_MAX, what, [Goal(BARE_NAME, 0.2)])
        for loss, messages in LOSSES.items():
            yield from lossy(place, loss, messages)


def protocol_time() -> float:
    """Return what Sender and Receiver alone take of the time of a message, in microseconds."""
    data, address = bytes(1000), ("127.0.0.1", 1)
    sender = stop_and_wait.Sender("name", len(data) * MESSAGES)
    receiver = stop_and_wait.Receiver(lambda name, size: Nowhere(), lambda address: 1024)
    begun = time.perf_counter()
    message = sender.start(time.monotonic())
    while sender.receive(receiver.receive(message, address, time.monotonic())):
        if sender.finished:
            break
        message = sender.data(data[: sender.room], time.monotonic())
    return (time.perf_counter() - begun) / MESSAGES * 1e6


class Nowhere:
    """An upload that keeps nothing."""

    def write(self, data) -> None:
        pass

    save = discard = lambda self: None


def bare_time(port: int) -> float:
    """Return the time of a bare datagram and its answer, in microseconds."""
    return duration(BARE, "udp-client", port, MESSAGES, 1024) / MESSAGES * 1e6


def uploads(place: Path, buf_size: int, blksize: int, what: str, goals: list[Goal]):
    """Yield the row of one datagram size."""
    source = place / SOURCE
    source.write_bytes(random.Random(0).randbytes(SIZE))
    with contextlib.ExitStack() as stack:
        peers = {
            name: attempt(functools.partial(peer, stack, place, source, blksize))
            for name, peer in TFTP.items()
        }
        contestants = {
            "ours": ours(stack, place, source, buf_size),
            BARE_NAME: bare(stack, buf_size),
            FILES_NAME: bare_with_files(stack, place, source, buf_size),
            **peers,
        }
        fresh = {name: afresh(place, contestant) for name, contestant in contestants.items()}
        yield Row(1, f"upload of 30 MB, {what}, one core", "MB/s", "higher", fresh, goals)


def afresh(place: Path, contestant: Contestant) -> Contestant:
    """Have the copies of earlier rounds removed first: to replace one takes time."""

    def measured() -> float:
        for file in place.iterdir():
            if file.name != SOURCE:
                file.unlink()
        return contestant()

    return measured


def ours(stack: contextlib.ExitStack, place: Path, source: Path, buf_size: int) -> Contestant:
    arguments = [0, "--dir", place, "--buf-size", buf_size]
    port = serving(stack, "lab01_udp/server.py", *arguments)
    return lambda: upload(port, source)


def upload(port: int, source: Path) -> float:
    """Return the MB/s that our client reports."""
    with running("lab01_udp/client.py", f"127.0.0.1:{port}", source, "ours") as client:
        return float(client.expect(r"([\d.]+) MB/s")[1])


def bare(stack: contextlib.ExitStack, buf_size: int) -> Contestant:
    port = serving(stack, BARE, "udp-server")
    payload = buf_size - len(b"d | 12345 | ")
    return lambda: rate(BARE, "udp-client", port, -(-SIZE // payload), buf_size)


def bare_with_files(stack: contextlib.ExitStack, place: Path, source: Path, buf_size: int):
    """Return what sends the same file in as many datagrams, with nothing else around it."""
    port = serving(stack, BARE, "udp-file-server", place / "bare")
    payload = buf_size - len(b"d | 12345 | ")
    return lambda: rate(BARE, "udp-file-client", port, payload, source)


# --- Losses ---


def lossy(place: Path, loss: float, messages: int) -> Iterator[Row]:
    """Yield the row of one rate of losses."""
    source = place / SOURCE
    source.write_bytes(bytes(messages * 1000))
    lost = 0

    def ours() -> float:
        nonlocal lost
        with LossyRelay(port, loss) as relay:
            arguments = f"127.0.0.1:{relay.port}", source, "lossy"
            seconds = duration("lab01_udp/client.py", *arguments)
        lost = relay.lost
        return seconds

    arguments = [0, "--dir", place, "--buf-size", 1000 + len(b"d | 12345 | ")]
    with running("lab01_udp/server.py", *arguments) as server:
        port = server.port()
        yield Row(
            1,
            f"{messages} messages, {loss:.0%} lost each way",
            "s",
            "lower",
            {"ours": ours, OPTIMUM: lambda: RETRY_AFTER * lost},
            [Goal(OPTIMUM, 1.05)],
        )


class LossyRelay(UdpRelay):
    """Loses datagrams at random, the same ones in every round, and counts them."""

    def __init__(self, server_port: int, loss: float):
        self.chance = random.Random(SEED)
        self.lost = 0
        super().__init__(server_port, fate=lambda *datagram: self.pass_on(loss))

    def pass_on(self, loss: float) -> list[float]:
        if self.chance.random() < loss:
            self.lost += 1
            return []
        return [0.0]
