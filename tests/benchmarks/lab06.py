"""Lab 6: elections beside theory and etcd; writes beside bare gRPC calls, etcd and PySyncObj."""

import asyncio
import contextlib
import random
import re
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks import elections
from tests.benchmarks.measure import Goal, Row, attempt
from tests.benchmarks.processes import BARE, MEMORY, folder, library, program
from tests.harness import PATIENCE, ROOT, Failure, Script, free_port, load, running, wait_until
from tests.lab06_cluster import Cluster, messages, rpc, services

grpc = rpc.grpc
KILLS = 10  # in a round
FRESH = 6  # clusters in a round
WRITES = 300  # in a round, one after the other
CLIENTS = 16
MANY_WRITES = 3200  # in a round, of all clients together
DISK_WRITES = 100, 800  # the same on disk
IDLE = 3.0  # s in a round
IDLE_LIMIT = 4.0  # % of a core
PAUSE = 0.3  # s of calm before a kill, or during an election
TIMEOUT = 5.0  # s
THEORY = "the timers alone"
CALLS = "bare gRPC, 2 calls"
FAN_OUT = "bare gRPC, a call and 2 at once"  # what a leader cannot do without
ECHO = "bare gRPC, nobody else is called"
ETCD = "etcd"

text_rpc = load(ROOT / "lab04_grpc/rpc.py")
text_messages, text_services = text_rpc.compile_proto("service.proto")


def rows(stack: contextlib.ExitStack) -> Iterator[Row]:
    yield from killing(3, [Goal(THEORY, 1.1), Goal(ETCD, 1.0)])
    yield from killing(5, [Goal(THEORY, 1.1), Goal(ETCD, 1.0)])
    yield killing_fresh(3)
    yield from writing(MEMORY, WRITES, MANY_WRITES)
    yield from writing(None, *DISK_WRITES)
    yield from idling()


# --- Elections ---


def killing(size: int, goals: list[Goal]) -> Iterator[Row]:
    """The leader of one cluster is killed again and again, and started again."""
    theory = statistics.median(elections.one_cluster(size, 5000))
    with contextlib.ExitStack() as stack:
        kills = KILLS if size == 3 else KILLS // 2
        contestants = {
            "ours": partial(kill_again_and_again, ours(stack, size), kills),
            THEORY: lambda: theory,
            ETCD: attempt(lambda: partial(kill_again_and_again, Etcd(stack, size, MEMORY), kills)),
        }
        what = f"from kill -9 of a leader to the next, {size} servers, again and again"
        yield Row(6, what, "ms", "lower", contestants, goals)


def killing_fresh(size: int) -> Row:
    """The leader of a cluster is killed whose servers were started one after the other."""
    between: list[float] = []  # ms from one start to the next

    def theory() -> float:
        gaps = elections.fresh_clusters(size, 2000, statistics.mean(between))
        return statistics.median(gaps)

    what = f"from kill -9 of a leader to the next, {size} servers, all new"
    contestants = {"ours": lambda: kill_fresh(size, between), THEORY: theory}
    return Row(6, what, "ms", "lower", contestants, [Goal(THEORY, 1.1)])


def kill_again_and_again(cluster: "Ours | Etcd", kills: int) -> float:
    """Return the median time until there is another leader, in ms."""
    gaps = []
    for _ in range(kills):
        number, gap = kill_leader(cluster)
        gaps.append(gap)
        cluster.start(number)
        wait_until(partial(cluster.follows, number), "the restarted server to follow")
    return statistics.median(gaps)


def kill_fresh(size: int, between: list[float]) -> float:
    gaps = []
    for _ in range(FRESH):
        with contextlib.ExitStack() as stack:
            begun = time.perf_counter()
            cluster = ours(stack, size)
            between.append((time.perf_counter() - begun) / size * 1e3)
            for number in range(size):
                wait_until(partial(cluster.follows, number), "all to know a leader")
            gaps.append(kill_leader(cluster)[1])
    return statistics.median(gaps)


def kill_leader(cluster: "Ours | Etcd") -> tuple[int, float]:
    """Return which server it was, and how long it took until another says that it leads, in ms."""
    number = cluster.leader()
    calm = time.monotonic() + PAUSE + random.uniform(0, elections.HEARTBEAT / 1e3)
    wait_until(lambda: time.monotonic() > calm)
    others = [server for server in cluster.servers if server is not cluster.servers[number]]
    before = {server: cluster.elected(server) for server in others}
    begun = time.perf_counter()
    cluster.servers[number].signal(signal.SIGKILL)
    while all(cluster.elected(server) == before[server] for server in others):
        if time.perf_counter() - begun > TIMEOUT:
            raise Failure(f"no new leader: {[server.transcript() for server in others]}")
        time.sleep(0.0005)
    gap = time.perf_counter() - begun
    cluster.servers[number].stop()
    return number, gap * 1e3


class Ours(Cluster):
    """Our servers, each started when the one before is ready."""

    def elected(self, server: Script) -> int:
        """Count how often a server has become the leader."""
        return server.out.count("I am a leader")

    def follows(self, number: int) -> bool:
        """Tell whether a server is in the latest term, and somebody leads there."""
        states = self.states()
        return ("leader", states[number][1]) in states


def ours(stack: contextlib.ExitStack, size: int, *options) -> Ours:
    def spawn(script: str, *arguments, **more) -> Script:
        server = stack.enter_context(running(script, *arguments, **more))
        server.expect("The server starts")
        return server

    return Ours(spawn, stack.enter_context(folder()), size, *options)


class Etcd:
    """A cluster of etcd; without a folder in memory it makes sure of every write, on disk."""

    def __init__(self, stack: contextlib.ExitStack, size: int, memory: Path | None):
        self.stack = stack
        self.path = program("etcd")
        self.folder = stack.enter_context(folder(memory))
        self.options = ["--unsafe-no-fsync"] if memory else []
        self.ports = [free_port() for _ in range(size)]
        self.peer_ports = [free_port() for _ in range(size)]
        self.servers: list[Script] = [None] * size
        for number in range(size):
            self.start(number)
        wait_until(lambda: all(map(self.follows, range(size))), "etcd to elect a leader")

    def start(self, number: int) -> None:
        client, peer = (
            f"http://127.0.0.1:{ports[number]}" for ports in (self.ports, self.peer_ports)
        )
        cluster = [f"{n}=http://127.0.0.1:{port}" for n, port in enumerate(self.peer_ports)]
        arguments = [
            *("--name", number, "--data-dir", self.folder / str(number)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", ",".join(cluster)),
            *("--heartbeat-interval", 30, "--election-timeout", 150),
            *("--logger", "zap", "--log-outputs", "stderr", *self.options),
        ]
        server = running(self.path, *arguments, interpreter=(), cwd=self.folder)
        self.servers[number] = self.stack.enter_context(server)

    def leader(self) -> int:
        """Return the number of the server that was elected last."""

        def term(server: Script) -> int:
            return max(map(int, re.findall(r"became leader at term (\d+)", server.err)), default=0)

        running = [n for n, server in enumerate(self.servers) if server.running]
        return max(running, key=lambda n: term(self.servers[n]))

    def elected(self, server: Script) -> int:
        return server.err.count("became leader at term")

    def follows(self, number: int) -> bool:
        err = self.servers[number].err
        return "elected leader" in err and "serving client traffic" in err


# --- Writes ---


class Target(NamedTuple):
    """Where writes go: `writer(channel)` makes of a number a call over a channel of either kind."""

    port: int
    writer: Callable[[Any], Callable[[int], Any]]


def writing(memory: Path | None, one: int, many: int) -> Iterator[Row]:
    """Committed writes of one client, and of many."""
    place = "in memory" if memory else "on disk"
    with contextlib.ExitStack() as stack:
        targets = {
            "ours": ready(our_target(stack, memory)),
            ETCD: attempt(lambda: ready(etcd_target(stack, memory))),
        }
        bare = {}
        if memory:
            bare[CALLS] = ready(bare_target(stack, "grpc-chain", 1))
            bare[FAN_OUT] = ready(bare_target(stack, "grpc-fan-out", 2))
        contestants = {n: lambda t=t: p50(t(), one) for n, t in (targets | bare).items()}
        goals = [Goal(CALLS, 1.2)] if memory else []
        yield Row(6, f"p50 of a committed write, {place}", "ms", "lower", contestants, goals)
        contestants = {n: lambda t=t: rate(t(), many) for n, t in targets.items()}
        if memory:
            echo = bare_target(stack, "grpc-fan-out", 0)
            contestants[ECHO] = lambda: rate(echo, many)
            contestants["PySyncObj"] = attempt(lambda: PySyncObj(stack, many).rate)
        goals = [Goal(ETCD, 0.5)] if memory else []
        what = f"committed writes, {CLIENTS} clients, {place}"
        yield Row(6, what, "1/s", "higher", contestants, goals)


def ready(target: Target) -> Callable[[], Target]:
    return lambda: target


def our_target(stack: contextlib.ExitStack, memory: Path | None) -> Target:
    cluster = ours(stack, 3, *([] if memory else ["--data-dir", "data"]))

    def writer(channel):
        stub = services.RaftStub(channel)

        def write(number: int):
            request = messages.SetValRequest(key=f"key{number % 100}", value=f"{number}")
            return stub.SetVal(request, timeout=TIMEOUT)

        return write

    return Target(cluster.ports[cluster.leader()], writer)


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

    return Target(cluster.ports[cluster.leader()], writer)


def bare_target(stack: contextlib.ExitStack, program: str, followers: int) -> Target:
    """Return a bare server that calls so many others, of the same kind, for each request."""
    servers = [stack.enter_context(running(BARE, program)) for _ in range(1 + followers)]
    first, *others = (server.port() for server in servers)

    def writer(channel):
        stub = text_services.TextToolsStub(channel)
        addresses = " ".join(f"127.0.0.1:{port}" for port in others)
        request = text_messages.ReverseRequest(text=addresses)
        return lambda number: stub.reverse(request, timeout=TIMEOUT)

    return Target(first, writer)


def p50(target: Target, count: int) -> float:
    """Return the median time of a write, in ms."""
    times = []
    with rpc.open_channel(f"127.0.0.1:{target.port}") as channel:
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
        async with grpc.aio.insecure_channel(f"127.0.0.1:{target.port}") as channel:
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


# --- Idleness ---


def idling() -> Iterator[Row]:
    """What a leader costs that has nothing to do but to send heartbeats."""
    with contextlib.ExitStack() as stack:
        contestants = {
            "ours": partial(load_of, ours(stack, 3)),
            ETCD: attempt(lambda: partial(load_of, Etcd(stack, 3, MEMORY))),
            f"{IDLE_LIMIT:g} %": lambda: IDLE_LIMIT,
        }
        goals = [Goal(ETCD, 2.0), Goal(f"{IDLE_LIMIT:g} %", 1.0)]
        yield Row(6, "an idle leader's load of a core", "%", "lower", contestants, goals)


def load_of(cluster: "Ours | Etcd") -> float:
    """Return how much of a core the leader needs, in percent."""
    pid = cluster.servers[cluster.leader()].pid
    end = time.monotonic() + IDLE
    before = processor_time(pid)
    wait_until(lambda: time.monotonic() >= end)
    return (processor_time(pid) - before) / IDLE * 100


def processor_time(pid: int) -> float:
    """Return the seconds that a process has computed, all its threads together."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9
