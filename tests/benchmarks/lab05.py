"""Lab 5: finds and saves in a ring, beside as many bare gRPC calls, and beside kademlia."""

import contextlib
import itertools
import math
import random
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator

from tests.benchmarks import rings
from tests.benchmarks.measure import Goal, Row, attempt
from tests.benchmarks.processes import BARE_GRPC, library
from tests.support.harness import ROOT, load, wait_until
from tests.support.ports import free_port
from tests.support.processes import running

FINDS = 200  # in a round
SAVES = 100  # in a round
CLIENTS = 16
OPERATIONS = 640  # in a round, of all clients together
TIMEOUT = 10.0  # s
CALLS = "bare gRPC, as many calls"
KADEMLIA = "kademlia, k = 3"

wire = load(ROOT / "lab05_chord/wire.py")
REPLICAS = wire.chord.REPLICAS
messages, services = wire.messages, wire.services
text_rpc = load(ROOT / "lab04_grpc/rpc.py")
text_messages, text_services = text_rpc.compile_proto("service.proto")
DONE = 0  # the status of an outcome
numbers = itertools.count()


def rows(stack: contextlib.ExitStack) -> Iterator[Row]:
    with contextlib.ExitStack() as servers:
        ring, bare = Ring(servers, 16, 6), Bare(servers, 16)
        yield p50(ring, bare)
        yield hops(ring)
        what = f"p50 of a save, {len(ring.stubs)} nodes"
        contestants = {"ours": lambda: saves(ring), CALLS: lambda: saves(ring, bare)}
        yield Row(5, what, "ms", "lower", contestants)
    with contextlib.ExitStack() as servers:
        ring, bare = Ring(servers, 16, 6), Bare(servers, 16)
        kademlia = attempt(lambda: Kademlia(servers, 16).rate)
        for clients in (1, CLIENTS):
            yield rate("sets", "save", ring, bare, kademlia, clients)
            yield rate("gets", "get", ring, bare, kademlia, clients)
    with contextlib.ExitStack() as servers:
        ring = Ring(servers, 64, 8)
        yield p50(ring)
        yield hops(ring)
    yield from rings.rows()


def p50(ring: "Ring", bare: "Bare | None" = None) -> Row:
    contestants = {"ours": ring.finds}
    if bare:
        contestants[CALLS] = lambda: bare.calls(path for _, path in ring.work)
    what = f"p50 of a find, {len(ring.stubs)} nodes"
    return Row(5, what, "ms", "lower", contestants, [Goal(CALLS, 1.1)] if bare else [])


def hops(ring: "Ring") -> Row:
    most = math.log2(len(ring.stubs)) / 2 + 1
    mean = statistics.mean(len(path) - 1 for _, path in ring.work)
    contestants = {"ours": lambda: mean, "log2(n) / 2 + 1": lambda: most}
    what = f"mean hops of a find, {len(ring.stubs)} nodes"
    return Row(5, what, "hops", "lower", contestants, [Goal("log2(n) / 2 + 1", 1.0)])


def rate(
    what: str, method: str, ring: "Ring", bare: "Bare", kademlia: Callable, clients: int
) -> Row:
    """Clients at as many nodes set keys, or get those that were set."""
    copies = REPLICAS if method == "save" else 0
    contestants = {
        "ours": lambda: ring.rate(method, clients),
        CALLS: lambda: bare.rate([path for _, path in ring.work], copies, clients),
        KADEMLIA: lambda: kademlia(method, clients),
    }
    what = f"{what}, {len(ring.stubs)} nodes, {clients} client{'s' if clients > 1 else ''}"
    goals = [Goal(CALLS, 1.0), Goal(KADEMLIA, 0.6)] if clients > 1 else [Goal(KADEMLIA, 1.0)]
    return Row(5, what, "1/s", "higher", contestants, goals)


class Ring:
    """Our nodes. `work` is a list of keys that are there, and the nodes on the way to each."""

    def __init__(self, stack: contextlib.ExitStack, count: int, m: int):
        registry = stack.enter_context(running("lab05_chord/Registry.py", "127.0.0.1:0", m))
        registry = f"127.0.0.1:{registry.port()}"
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(count)]
        nodes = [
            stack.enter_context(running("lab05_chord/Node.py", registry, address))
            for address in addresses
        ]
        for node in nodes:
            node.expect("assigned node_id", timeout=60)
        channels = [stack.enter_context(text_rpc.open_channel(address)) for address in addresses]
        self.stubs = [services.NodeServiceStub(channel) for channel in channels]
        self.numbers = {address: number for number, address in enumerate(addresses)}
        self.saved = 0
        wait_until(self.is_settled, "all nodes to agree")
        channel = stack.enter_context(text_rpc.open_channel(registry))
        ask = services.RegistryServiceStub(channel).populate_finger_table
        self.identity = ask(messages.Heartbeat(id=-1), timeout=TIMEOUT).view.ring
        self.work = [(key, self.path(key)) for key in new_keys(FINDS)]
        for key, path in self.work:
            self.save(path[0], key)

    def is_settled(self) -> bool:
        """Tell whether a client finds the same owner of a key wherever it asks."""
        asked = [stub.find(messages.KeyRequest(key="key"), timeout=TIMEOUT) for stub in self.stubs]
        return len({reply.node_id for reply in asked}) == 1

    def path(self, key: str) -> list[int]:
        """Return the nodes that a find asks, from one taken at random to the owner."""
        path = [random.randrange(len(self.stubs))]
        operation = messages.Operation(kind=0, key=key, ring=self.identity)
        while True:
            outcome = self.stubs[path[-1]].route(operation, timeout=TIMEOUT)
            if outcome.status == DONE:
                return path
            path.append(self.numbers[outcome.node.address])

    def save(self, entry: int, key: str) -> None:
        reply = self.stubs[entry].save(messages.SaveRequest(key=key, text="x"), timeout=TIMEOUT)
        assert reply.success, reply.message

    def get(self, entry: int, key: str) -> None:
        reply = self.stubs[entry].get(messages.KeyRequest(key=key), timeout=TIMEOUT)
        assert reply.text == "x", reply.message

    def find(self, entry: int, key: str) -> None:
        reply = self.stubs[entry].find(messages.KeyRequest(key=key), timeout=TIMEOUT)
        assert reply.success, reply.message

    def finds(self) -> float:
        """Return the median time of a find, in ms."""
        return median_time(lambda key, path: self.find(path[0], key), self.work)

    def rate(self, method: str, clients: int) -> float:
        """Return the operations per second of clients, each at a node of its own."""
        if method == "save":
            self.saved += OPERATIONS
        first = self.saved - OPERATIONS
        keys = [f"set {i}" for i in range(first, first + OPERATIONS)]
        return rate_of(lambda number, key: getattr(self, method)(number, key), keys, clients)


class Bare:
    """As many servers that do nothing but call each other, as in the ring."""

    def __init__(self, stack: contextlib.ExitStack, count: int):
        servers = [stack.enter_context(running(BARE_GRPC, "grpc-chain")) for _ in range(count)]
        self.addresses = [f"127.0.0.1:{server.port()}" for server in servers]
        channels = [stack.enter_context(text_rpc.open_channel(a)) for a in self.addresses]
        self.stubs = [text_services.TextToolsStub(channel) for channel in channels]
        for number in range(count):  # every client connects to every node
            self.call(list(range(number, count)))

    def call(self, path: list[int]) -> None:
        """Call the first, which calls all the others, one after the other."""
        text = " ".join(self.addresses[number] for number in path[1:])
        self.stubs[path[0]].reverse(text_messages.ReverseRequest(text=text), timeout=TIMEOUT)

    def calls(self, paths) -> float:
        """Return the median time that the calls of a find take, in ms."""
        return median_time(self.call, [(path,) for path in paths])

    def rate(self, paths: list[list[int]], copies: int, clients: int) -> float:
        """Return how often per second clients have the calls of a find, and of copies, made."""
        all_nodes = range(len(self.stubs))
        others = [[number for number in all_nodes if number not in path] for path in paths]
        calls = [path + other[:copies] for path, other in zip(paths, others, strict=True)]
        work = list(itertools.islice(itertools.cycle(calls), OPERATIONS))
        return rate_of(lambda number, path: self.call(path), work, clients)


class Kademlia:
    """Nodes of the kademlia package; a client is in the process of each, as its users do it."""

    def __init__(self, stack: contextlib.ExitStack, count: int):
        peers = library("kademlia")
        ports = [free_port(socket.SOCK_DGRAM) for _ in range(count)]
        self.nodes = [
            stack.enter_context(
                running(peers, "kademlia-node", port, *(other for other in ports if other != port))
            )
            for port in ports
        ]
        for node in self.nodes:
            node.expect("Listening")
        for node in self.nodes:
            node.send("join")
            node.expect("joined")
        self.saved = 0

    def rate(self, method: str, clients: int) -> float:
        """Return the operations per second of the clients together."""
        if method == "save":
            self.saved += OPERATIONS
        share = OPERATIONS // clients
        begun = time.perf_counter()
        for number, node in enumerate(self.nodes[:clients]):
            node.send(f"{method} {self.saved - OPERATIONS + number * share} {share}")
        for node in self.nodes[:clients]:
            node.expect("done", timeout=60)
        return OPERATIONS / (time.perf_counter() - begun)


def rate_of(operation: Callable, work: list, clients: int) -> float:
    """Let clients, numbered from 0, do their shares of the work; return how much per second."""

    def client(number: int) -> None:
        for one in work[number::clients]:
            operation(number, one)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(work) / (time.perf_counter() - begun)


def saves(ring: Ring, bare: Bare | None = None) -> float:
    """Return the median time of a save, or of its calls, in ms; the copies go out at once."""
    work = [(key, ring.path(key)) for key in new_keys(SAVES)]
    if not bare:
        return median_time(lambda key, path: ring.save(path[0], key), work)
    others = [next(n for n in range(len(bare.stubs)) if n not in path) for _, path in work]
    return bare.calls([*path, other] for (_, path), other in zip(work, others, strict=True))


def new_keys(count: int) -> list[str]:
    return [f"key {next(numbers)}" for _ in range(count)]


def median_time(operation: Callable, work: list[tuple]) -> float:
    """Return the median time of an operation on each, in ms."""
    times = []
    for arguments in work:
        begun = time.perf_counter()
        operation(*arguments)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3
