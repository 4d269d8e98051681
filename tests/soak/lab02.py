"""Attacks on lab 2: a crowd with every kind of bad client in it, and Ctrl-C at any moment."""

import asyncio
import contextlib
import random
import socket
import threading
import time

from tests.lab02.clients import ANSWERS, CLIENT, SERVER, connect, receive, reset
from tests.support.harness import ROOT, load, pass_time, wait_until
from tests.support.processes import resident, spawning
from tests.support.relays import TcpRelay

NUMBERS = [line.split()[0].encode() for line in ANSWERS.splitlines()]
MEMORY = 8 << 20  # bytes by which the server may grow


# --- A crowd ---


async def ask(port: int, k: int) -> None:
    """Ask for all numbers in one of four ways and check the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    way = (one_by_one, bare_digits, in_one_segment, byte_by_byte)[k % 4]
    replies = await way(reader, writer)
    assert replies == ANSWERS.encode(), f"{way.__name__}: {replies}"
    writer.close()
    await writer.wait_closed()


async def one_by_one(reader, writer) -> bytes:
    replies = b""
    for number in NUMBERS:
        writer.write(number + b"\n")
        replies += await reader.readline()
    return replies


async def bare_digits(reader, writer) -> bytes:
    replies = b""
    for number in NUMBERS:
        writer.write(number)
        replies += await reader.readline()
    return replies


async def in_one_segment(reader, writer) -> bytes:
    writer.write(b"\n".join(NUMBERS) + b"\n")
    return b"".join([await reader.readline() for _ in NUMBERS])


async def byte_by_byte(reader, writer) -> bytes:
    for byte in b"\n" + b" ".join(NUMBERS) + b"\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    return b"".join([await reader.readline() for _ in NUMBERS])


async def ask_all(port: int, clients: int) -> None:
    await asyncio.gather(*(ask(port, k) for k in range(clients)))


def resets(port: int, count: int) -> None:
    """Connect and reset, in turn at once, after some questions, and in the midst of a number."""
    for k in range(count):
        sock = connect(port)
        if k % 3:
            sock.sendall(b"15492781\n" * 100 if k % 3 == 1 else b"154")
        reset(sock)


def deaf(port: int, ended: threading.Event) -> None:
    """Ask and never read."""
    with connect(port) as sock:
        sock.setblocking(False)
        while not ended.wait(0.001):
            with contextlib.suppress(BlockingIOError):
                sock.send(b"7\n" * 1000)


def endless(port: int) -> None:
    """Send 10 MB without a line end."""
    with connect(port) as sock, contextlib.suppress(ConnectionError):
        for _ in range(100):
            sock.sendall(b"1" * 100_000)
        raise AssertionError("ten megabytes were taken")


def crowd(scale: float) -> str:
    """500 honest clients at once, three times, among all that a client can do wrong."""
    clients, bad = max(4, int(500 * scale)), max(4, int(1000 * scale))
    with spawning() as spawn, contextlib.ExitStack() as stack:
        server = spawn(SERVER, 0)
        port = server.port()
        asyncio.run(ask_all(port, clients))  # so that it has what it needs for so many
        before, ended = resident(server.pid), threading.Event()
        others = [
            threading.Thread(target=resets, args=(port, bad)),
            threading.Thread(target=deaf, args=(port, ended)),
            *(threading.Thread(target=endless, args=(port,)) for _ in range(3)),
        ]
        for thread in others:
            thread.start()
        relay = stack.enter_context(TcpRelay(port, piece=1))
        scripts = [spawn(CLIENT, f"127.0.0.1:{(port, relay.port)[k % 2]}") for k in range(10)]
        begun = time.monotonic()
        try:
            for _ in range(3):
                asyncio.run(ask_all(port, clients))
        finally:
            elapsed = time.monotonic() - begun
            ended.set()
            for thread in others:
                thread.join()
        assert all(s.wait() == 0 and ANSWERS in s.out for s in scripts), "a client.py has failed"
        gone = 4 * clients + bad + 1 + 3 + len(scripts)
        wait_until(lambda: server.out.count(" disconnected\n") == gone, "all clients to be gone")
        grown = resident(server.pid) - before
        assert grown < MEMORY, f"{grown} bytes are kept"
        server.interrupt()
        assert (server.wait(5), server.err) == (0, ""), server.err
    return (
        f"3 times {clients} clients in {elapsed:.1f} s among {bad} resets, a deaf client and 30 MB "
        f"without a line end: every answer right, {grown / 1e6:+.1f} MB"
    )


def idle(scale: float) -> str:
    """5,000 clients that say nothing while another one asks."""
    clients, times = max(10, int(5000 * scale)), []
    load(ROOT / "lab02_tcp_threads/cli.py").allow_open_files(clients + 100)  # here too
    with spawning() as spawn, contextlib.ExitStack() as stack:
        server = spawn(SERVER, 0)
        port = server.port()
        for _ in range(clients):
            stack.enter_context(connect(port))
        wait_until(lambda: server.out.count(" connected\n") == clients, "all to be accepted")
        for _ in range(100):
            begun = time.monotonic()
            with connect(port) as sock:
                sock.sendall(b"15492781\n")
                assert receive(sock) == b"15492781 is prime\n", "a wrong answer"
            times.append(time.monotonic() - begun)
        memory = resident(server.pid) / clients
        begun = time.monotonic()
        server.interrupt()
        assert (server.wait(5), server.lines[-1]) == (0, "Done"), server.err
        ended = time.monotonic() - begun
    assert max(times) < 0.1, f"an answer after {max(times):.2f} s"
    assert ended < 1.0, f"{ended:.2f} s until the end"
    return (
        f"{clients} idle clients: another one is answered within {max(times) * 1000:.1f} ms, "
        f"{memory / 1000:.1f} kB in all for each; Ctrl-C {ended:.2f} s"
    )


# --- Ctrl-C ---


def trouble(port: int, ended: threading.Event, seed: int) -> None:
    """Come, ask something, go or stay, until the end."""
    rng, kept = random.Random(seed), []
    questions = (b"", b"7\n", b"7", b"15492781\n" * 100, b"1" * 150 + b"3\n", b"1" * 1000 + b"\n")
    while not ended.is_set():
        with contextlib.suppress(OSError):
            sock = connect(port)
            kept.append(sock)
            sock.sendall(rng.choice(questions))
            if rng.random() < 0.5:
                sock.settimeout(0.05)
                receive(sock)
        if len(kept) > 30:
            reset(kept.pop(rng.randrange(len(kept))))
    for sock in kept:
        sock.close()


def stop(scale: float) -> str:
    """Ctrl-C, often twice, at random moments under load."""
    stops, rng, times = max(1, int(100 * scale)), random.Random(5), []
    with spawning() as spawn:
        for k in range(stops):
            server = spawn(SERVER, 0)
            port, ended = server.port(), threading.Event()
            clients = [threading.Thread(target=trouble, args=(port, ended, j)) for j in range(4)]
            for thread in clients:
                thread.start()
            pass_time(rng.uniform(0.0, 0.3))
            begun = time.monotonic()
            for _ in range(1 + k % 3):
                server.interrupt()
            try:
                assert (server.wait(5), server.err) == (0, ""), server.transcript()
            finally:
                times.append(time.monotonic() - begun)
                ended.set()
                for thread in clients:
                    thread.join()
            last = server.lines[-1]
            assert last == "Done" and server.lines.count("Shutting down") == 1, server.transcript()
    assert max(times) < 1.0, f"{max(times):.2f} s until the end"
    return (
        f"{stops} times Ctrl-C: Shutting down, Done, exit 0; median "
        f"{sorted(times)[len(times) // 2]:.2f} s, at most {max(times):.2f} s"
    )


ATTACKS = {"crowd": crowd, "idle": idle, "stop": stop}
