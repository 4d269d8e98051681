"""Lab 4: calls and streams, beside a bare gRPC server that sends back what comes."""

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator

from tests.benchmarks.measure import Goal, Row
from tests.benchmarks.processes import BARE_GRPC, serving
from tests.support.harness import ROOT, load

COUNT = 1000  # calls in a round
MESSAGES = 5000  # in a round's streams
CLIENTS = 8
TIMEOUT = 60.0  # s
BARE_NAME = "grpc, echoing"

rpc = load(ROOT / "lab04_grpc/rpc.py")
messages, services = rpc.compile_proto("service.proto")


def rows(stack: contextlib.ExitStack) -> Iterator[Row]:
    servers = {
        "ours": serving(stack, "lab04_grpc/server.py", 0),
        BARE_NAME: serving(stack, BARE_GRPC, "grpc-server"),
        "grpc.aio, echoing": serving(stack, BARE_GRPC, "grpc-aio-server"),
    }

    def row(what: str, unit: str, measured: Callable, clients: int, goals: list[Goal]) -> Row:
        contestants = {name: lambda p=port: measured(p, clients) for name, port in servers.items()}
        better = "lower" if unit == "us" else "higher"
        what = f"{what}, {clients} client{'s' if clients > 1 else ''}"
        return Row(4, what, unit, better, contestants, goals)

    for clients in (1, CLIENTS):
        yield row("p50 of a call", "us", p50, clients, [Goal(BARE_NAME, 1.1)])
        yield row("calls", "1/s", rate, clients, [])
        yield row("messages in streams", "1/s", stream_rate, clients, [Goal(BARE_NAME, 0.85)])


def p50(port: int, clients: int) -> float:
    """Return the median time of a call, in microseconds."""
    times, _ = at_once(port, clients, call)
    return statistics.median(times) * 1e6


def rate(port: int, clients: int) -> float:
    """Return the calls per second."""
    times, elapsed = at_once(port, clients, call)
    return len(times) / elapsed


def stream_rate(port: int, clients: int) -> float:
    """Return the messages per second, each answered."""
    answers, elapsed = at_once(port, clients, stream)
    return len(answers) / elapsed


def at_once(port: int, clients: int, work: Callable) -> tuple[list, float]:
    """Let each client, with a channel of its own, do its work; return all of it, and the time."""
    done: list = []
    with contextlib.ExitStack() as stack:
        stubs = []
        for _ in range(clients):
            channel = stack.enter_context(rpc.open_channel(f"127.0.0.1:{port}"))
            stubs.append(services.TextToolsStub(channel))
            call_once(stubs[-1])
        threads = [
            threading.Thread(target=lambda s=stub: done.extend(work(s, clients))) for stub in stubs
        ]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return done, time.perf_counter() - begun


def call(stub, clients: int) -> list[float]:
    """Do the calls of one client; return the seconds of each."""
    times = []
    for _ in range(COUNT // clients):
        begun = time.perf_counter()
        call_once(stub)
        times.append(time.perf_counter() - begun)
    return times


def call_once(stub) -> None:
    stub.reverse(messages.ReverseRequest(text="Hello there!"), timeout=TIMEOUT)


def stream(stub, clients: int) -> list[str]:
    """Send the messages of one client; return the answers."""
    requests = (messages.IsPrimeRequest(num=17) for _ in range(MESSAGES // clients))
    return [reply.text for reply in stub.isprime(requests, timeout=TIMEOUT)]
