"""Committed writes of lab 6, of one client and of many, beside bare gRPC, etcd and PySyncObj."""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.clusters import ETCD, Etcd, Ours, ours
from tests.benchmarks.measure import Goal, Row, attempt
from tests.benchmarks.processes import BARE_GRPC, MEMORY, library
from tests.lab06.cluster import messages, rpc, services
from tests.support.harness import PATIENCE, ROOT, load, wait_until
from tests.support.ports import free_port
from tests.support.processes import running

grpc = rpc.grpc
CLIENTS = 16
WRITES = 300, 3200  # in a round: of one client, and of all clients together
DISK_WRITES = 100, 800
PAUSE = 0.3  # s during an election
TIMEOUT = 5.0  # s
CALLS = "bare gRPC, 2 calls"
FAN_OUT = "bare gRPC, a call and 2 at once"  # what a leader cannot do without
ECHO = "bare gRPC, no other is called"
BATCHES = f"bare gRPC, 2 at once for {CLIENTS} calls"  # the same of a leader that batches
PLAIN = "ours without either"
UNSAVED = "ours, with saves that write nothing"
SNAPSHOT_AFTER = 500  # entries
SERVER = Path(__file__).parent / "raft_server.py"

text_rpc = load(ROOT / "lab04_grpc/rpc.py")
text_messages, text_services = text_rpc.compile_proto("service.proto")


def rows() -> Iterator[Row]:
    yield from writing(MEMORY, *WRITES)
    yield from writing(None, *DISK_WRITES)
    yield from with_snapshots()


def writing(memory: Path | None, one: int, many: int) -> Iterator[Row]:
    """Committed writes of one client, and of many."""
    place = "in memory" if memory else "on disk"
    with contextlib.ExitStack() as stack:
        options = [] if memory else ["--data-dir", "data"]
        targets: dict[str, Callable[[], Target]] = {
            "ours": ready(our_target(ours(stack, 3, *options))),
            ETCD: attempt(lambda: ready(etcd_target(stack, memory))),
        }
        alone, together = dict(targets), dict(targets)
        together[BATCHES] = ready(bare_target(stack, 2, "grpc-fan-out", CLIENTS))
        if memory:
            alone[CALLS] = ready(bare_target(stack, 1, "grpc-chain"))
            alone[FAN_OUT] = ready(bare_target(stack, 2, "grpc-fan-out", 1))
            together[ECHO] = ready(bare_target(stack, 0, "grpc-fan-out", 1))
        else:
            unsaved = ours(stack, 3, 0, *options, script=SERVER)
            together[UNSAVED] = ready(our_target(unsaved))
        contestants = {n: lambda t=t: p50(t(), one) for n, t in alone.items()}
        goals = [Goal(FAN_OUT, 1.15)] if memory else []
        yield Row(6, f"p50 of a committed write, {place}", "ms", "lower", contestants, goals)
        contestants = {n: lambda t=t: rate(t(), many) for n, t in together.items()}
        if memory:
            contestants["PySyncObj"] = attempt(lambda: PySyncObj(stack, many).rate)
        goals = [Goal(ECHO, 0.9), Goal(ETCD, 0.5)] if memory else [Goal(ETCD, 0.7)]
        what = f"committed writes, {CLIENTS} clients, {place}"
        yield Row(6, what, "1/s", "higher", contestants, goals)


def with_snapshots() -> Iterator[Row]:
    """What it costs that clients number their commands and that the log is compacted often."""
    with contextlib.ExitStack() as stack:
        cluster = ours(stack, 3, SNAPSHOT_AFTER, script=SERVER)
        plain = ours(stack, 3, 10**9, script=SERVER)
        targets = {"ours": our_target(cluster, sessions=True), PLAIN: our_target(plain)}
        contestants = {n: lambda t=t: rate(t, WRITES[1]) for n, t in targets.items()}
        what = f"committed writes with sessions, a snapshot each {SNAPSHOT_AFTER} entries"
        yield Row(6, what, "1/s", "higher", contestants, [Goal(PLAIN, 0.97)])


class Target(NamedTuple):
    """Where writes go: `writer(channel)` makes of a number a call over a channel of either kind."""

    port: Callable[[], int]  # of the server that leads now
    writer: Callable[[Any], Callable[[int], Any]]


def ready(target: Target) -> Callable[[], Target]:
    return lambda: target


def our_target(cluster: Ours, sessions: bool = False) -> Target:
    ids = itertools.count(1)

    def writer(channel):
        stub = services.RaftStub(channel)
        clients = [next(ids) for _ in range(CLIENTS)]
        numbers = itertools.count(1)

        def write(number: int):
            request = messages.SetValRequest(key=f"key{number % 100}", value=f"{number}")
            if sessions:
                request.client_id = clients[number % CLIENTS]
                request.sequence = next(numbers)
            return stub.SetVal(request, timeout=TIMEOUT)

        return write

    return Target(lambda: cluster.ports[cluster.leader()], writer)


def etcd_target(stack: contextlib.ExitStack, memory: Path | None) -> Target:
    cluster = Etcd(stack, 3, memory)

    def writer(channel):
        put = channel.unary_unary("/etcdserverpb.KV/Put")

        def write(number: int):
            key, value = f"key{number % 100}".encode(), f"{number}".encode()
            # The fields 1 and 2, each with its length.
            request = b"\n%c%b\x12%c%b" % (len(key), key, len(value), value)
            return put(request, timeout=TIMEOUT)

        return write

    return Target(lambda: cluster.ports[cluster.leader()], writer)


def bare_target(stack: contextlib.ExitStack, followers: int, *program) -> Target:
    """Return a bare server that calls so many others, of the same kind."""
    servers = [stack.enter_context(running(BARE_GRPC, *program)) for _ in range(1 + followers)]
    first, *others = (server.port() for server in servers)

    def writer(channel):
        stub = text_services.TextToolsStub(channel)
        addresses = " ".join(f"127.0.0.1:{port}" for port in others)
        request = text_messages.ReverseRequest(text=addresses)
        return lambda number: stub.reverse(request, timeout=TIMEOUT)

    return Target(lambda: first, writer)


def p50(target: Target, count: int) -> float:
    """Return the median time of a write, in ms."""
    times = []
    with rpc.open_channel(f"127.0.0.1:{target.port()}") as channel:
        write = target.writer(channel)
        for number in range(count):
            begun = time.perf_counter()
            while not is_committed(write(number)):
                time.sleep(PAUSE)
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


def rate(target: Target, count: int) -> float:
    """Return the writes per second of clients that each wait for their own."""

    async def client(write: Callable, first: int) -> None:
        for number in range(first, count, CLIENTS):
            while not is_committed(await write(number)):
                await asyncio.sleep(PAUSE)

    async def clients() -> float:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{target.port()}") as channel:
            write = target.writer(channel)
            await client(write, count - 1)  # connects
            begun = time.perf_counter()
            await asyncio.gather(*(client(write, first) for first in range(CLIENTS)))
            return count / (time.perf_counter() - begun)

    return asyncio.run(asyncio.wait_for(clients(), PATIENCE))


def is_committed(reply) -> bool:
    """Tell what one of our servers says; etcd and the bare ones raise what goes wrong."""
    return getattr(reply, "success", True)


class PySyncObj:
    """A cluster of PySyncObj; the clients are threads of the leader's process."""

    def __init__(self, stack: contextlib.ExitStack, count: int):
        peers = library("pysyncobj")
        self.count = count
        ports = [free_port() for _ in range(3)]
        self.nodes = [
            stack.enter_context(
                running(peers, "pysyncobj-node", port, *(other for other in ports if other != port))
            )
            for port in ports
        ]
        wait_until(lambda: self.write(1), "PySyncObj to elect a leader")

    def write(self, count: int) -> float | None:
        """Let the leader write so often; return the seconds it took, None if there is none."""
        for node in self.nodes:
            node.send(f"{count} {CLIENTS}")
        answers = [node.expect(r"^(not the leader|in (\S+) s)$") for node in self.nodes]
        return next((float(answer[2]) for answer in answers if answer[2]), None)

    def rate(self) -> float:
        """Return the writes per second."""
        return self.count / self.write(self.count)
