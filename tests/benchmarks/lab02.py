"""Lab 2: requests and connections, beside an echo server with a thread for each connection, and
primality beside other libraries."""

import contextlib
import itertools
import math
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

from tests.benchmarks.measure import Contestant, Goal, Missing, Row, attempt, one_core
from tests.benchmarks.processes import BARE, serving
from tests.support.harness import ROOT, load

REQUEST = b"15492781\n"
COUNT = 5000  # requests in a round
CONNECTIONS = 500  # in a round
DIVISIONS = 1_000_000  # in a round
OURS = "lab02_tcp_threads/server.py"
NUMBERS = load(ROOT / "lab02_tcp_threads/client.py").NUMBERS
BARE_NAME = "a thread for each, echoing"
P50 = [Goal(BARE_NAME, 1.3)]
RATE = [Goal(BARE_NAME, 0.75)]


def rows(stack: contextlib.ExitStack) -> Iterator[Row]:
    for cores in ("one core", "all cores"):
        with contextlib.ExitStack() as pinned:
            if cores == "one core":
                pinned.enter_context(one_core())
            start = partial(serving, pinned)
            ports = {
                "ours": start(OURS, 0),
                BARE_NAME: start(BARE, "tcp-echo"),
                "ours with one worker": start(OURS, 0, "--workers", 1),
                "8 threads behind a queue, echoing": start(BARE, "tcp-queue-echo"),
            }

            def row(what: str, unit: str, measured: Callable, goals, cores=cores, ports=ports):
                better = "lower" if unit == "us" else "higher"
                contestants = {name: lambda p=port: measured(p) for name, port in ports.items()}
                return Row(2, f"{what}, {cores}", unit, better, contestants, goals)

            yield row("1 connection, p50 of a request", "us", lambda p: p50(p, 1), P50)
            yield row("8 connections, p50 of a request", "us", lambda p: p50(p, 8), P50)
            yield row("1 connection, requests", "1/s", lambda p: rate(p, 1), RATE)
            yield row("8 connections, requests", "1/s", lambda p: rate(p, 8), RATE)
            yield row("a connection for each request, requests", "1/s", connect_rate, RATE)
    yield from primality()


# --- Requests ---


def p50(port: int, connections: int) -> float:
    """Return the median time of a request, in microseconds."""
    return statistics.median(round_trips(port, connections)[0]) * 1e6


def rate(port: int, connections: int) -> float:
    """Return the requests per second."""
    times, elapsed = round_trips(port, connections)
    return len(times) / elapsed


def round_trips(port: int, connections: int) -> tuple[list[float], float]:
    """Keep one request under way on each connection; return the seconds of each, and of all."""
    times = []
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(connect(port)) for _ in range(connections)]
        begun = time.perf_counter()
        sent = dict.fromkeys(sockets, begun)
        for sock in sockets:
            sock.send(REQUEST)
        for sock in itertools.islice(itertools.cycle(sockets), COUNT):
            sock.recv(4096)
            now = time.perf_counter()
            times.append(now - sent[sock])
            sent[sock] = now
            sock.send(REQUEST)
        return times, time.perf_counter() - begun


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def connect_rate(port: int) -> float:
    """Return the connections per second, with one request in each."""
    begun = time.perf_counter()
    for _ in range(CONNECTIONS):
        with connect(port) as sock:
            sock.send(REQUEST)
            sock.recv(4096)
    return CONNECTIONS / (time.perf_counter() - begun)


# --- Primality ---


def primality() -> Iterator[Row]:
    chance = random.Random(0)
    is_prime = load(ROOT / "lab02_tcp_threads/primes.py").is_prime
    large = []
    while len(large) < 20:
        if is_prime(n := chance.randrange(2**63, 2**64)):
            large.append(n)
    yield Row(
        2,
        "primality of the 12 numbers, mean",
        "us",
        "lower",
        {
            "ours": test(is_prime, NUMBERS),
            "sympy": attempt(lambda: test(sympy(), NUMBERS)),
            "gmpy2": attempt(lambda: test(gmpy2(), NUMBERS)),
            "division up to n": divided,
        },
        [Goal("division up to n", 1e-4), Goal("sympy", 1.0)],
    )
    yield Row(
        2,
        "primality of 20 primes of 64 bits, mean",
        "us",
        "lower",
        {
            "ours": test(is_prime, large),
            "sympy": attempt(lambda: test(sympy(), large)),
            "gmpy2": attempt(lambda: test(gmpy2(), large)),
        },
    )


def sympy() -> Callable[[int], bool]:
    try:
        from sympy import isprime
    except ImportError:
        raise Missing("sympy is not installed") from None
    return isprime


def gmpy2() -> Callable[[int], bool]:
    try:
        from gmpy2 import is_prime
    except ImportError:
        raise Missing("gmpy2 is not installed") from None
    return is_prime


def test(is_prime: Callable[[int], bool], numbers: list[int]) -> Contestant:
    """Return what measures the microseconds for one of the numbers."""

    def measured(repetitions: int = 1000) -> float:
        begun = time.perf_counter()
        for _ in range(repetitions):
            for n in numbers:
                is_prime(n)
        return (time.perf_counter() - begun) / repetitions / len(numbers) * 1e6

    return measured


def divided() -> float:
    """Return the microseconds for one of NUMBERS of dividing by all up to n, as the course does.

    A part of the divisions is done, from which the time of all is computed.
    """
    needed = sum(smallest_divisor(n) - 1 for n in NUMBERS)
    begun = time.perf_counter()
    divides_up_to(DIVISIONS, NUMBERS[0])
    return (time.perf_counter() - begun) * needed / DIVISIONS / len(NUMBERS) * 1e6


def divides_up_to(end: int, n: int) -> bool:
    for divisor in range(2, end):  # noqa: SIM110
        if n % divisor == 0:
            return True
    return False


def smallest_divisor(n: int) -> int:
    return next((d for d in range(2, math.isqrt(n) + 1) if n % d == 0), n)
