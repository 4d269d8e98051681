"""Lab 5 as a whole: starting many nodes, 100,000 keys that move, a node that hangs, idle nodes."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from tests.benchmarks.measure import Goal, Row
from tests.lab05.ring import Ring, Rpc
from tests.support.harness import pass_time, wait_until
from tests.support.processes import processor_time, spawning

KEYS = 100_000
IN_FLIGHT = 16  # saves at a time while the ring is filled
PROBES = 100  # keys that are looked for meanwhile
NODES = 3  # of the ring that another joins
IDLE = 10.0  # s
HANG = 2.0  # s, less than it takes the registry to drop a node that hangs
TIMEOUT = 60.0  # s


def rows() -> Iterator[Row]:
    with scene(0, m=8) as ring:
        yield row("start of 64 nodes", "s", ring.start_many, 10.0)
        yield row("an idle node's load of a core, 64 nodes", "%", ring.load_of_a_node, 0.5)
    with scene(8) as ring:
        yield row("longest find while another node hangs, 8 nodes", "s", ring.hang, 0.4)
    with scene(1) as ring:
        what = f"{KEYS:,} keys, {NODES} nodes"
        yield row(f"a join, {what}", "s", lambda: ring.join_and_leave().join, 2.0)
        yield row(f"a leave, {what}", "s", lambda: ring.join_and_leave().leave, 2.0)
        yield row(f"longest find meanwhile, {what}", "s", lambda: ring.join_and_leave().find, 0.3)


def row(what: str, unit: str, ours: Callable[[], float], limit: float) -> Row:
    name = f"{limit:g} {unit}"
    contestants = {"ours": ours, name: lambda: limit}
    return Row(5, what, unit, "lower", contestants, [Goal(name, 1.0)])


@contextlib.contextmanager
def scene(nodes: int, m: int = 6) -> Iterator["Scene"]:
    with spawning() as spawn, contextlib.closing(Rpc()) as rpc:
        yield Scene(spawn, rpc, nodes, m)


class Moved:
    """The seconds that a node took to join and to leave, and the longest find meanwhile."""

    def __init__(self, join: float, leave: float, find: float):
        self.join, self.leave, self.find = join, leave, find


class Scene:
    """A ring of ours and what may happen to it."""

    def __init__(self, spawn, rpc: Rpc, nodes: int, m: int):
        self.spawn, self.rpc, self.m = spawn, rpc, m
        self.ring = Ring(spawn, nodes, m)
        self.saved = 0
        if nodes:
            self.wait_until_whole()

    def wait_until_whole(self) -> None:
        wait_until(lambda: self.rpc.is_whole(self.ring), "the ring to be whole", TIMEOUT)

    def start_many(self) -> float:
        """Return how long it takes until 64 nodes, started at once, all have their place."""
        for node in self.ring.nodes:  # those of the round before
            node.kill()
        self.ring = Ring(self.spawn, 0, self.m)
        begun = time.perf_counter()
        nodes = [self.ring.start_node() for _ in range(64)]
        for node in nodes:
            node.expect("assigned node_id", timeout=TIMEOUT)
        taken = time.perf_counter() - begun
        self.wait_until_whole()
        return taken

    def load_of_a_node(self) -> float:
        """Return how much of a core a node needs when there are no requests, in percent."""
        if not self.ring.nodes:
            self.start_many()
        pids = [node.process.pid for node in self.ring.nodes]
        before = sum(map(processor_time, pids))
        pass_time(IDLE)
        return (sum(map(processor_time, pids)) - before) / len(pids) / IDLE * 100

    def fill(self, count: int) -> None:
        """Save keys through all nodes, if that has not been done."""
        stubs = [self.rpc.node(node) for node in self.ring.nodes]
        room = threading.Semaphore(IN_FLIGHT)
        calls = []
        for number in range(self.saved, count):
            room.acquire()
            request = self.rpc.SaveRequest(key=f"key {number}", text=f"text {number}")
            calls.append(stubs[number % len(stubs)].save.future(request, timeout=TIMEOUT))
            calls[-1].add_done_callback(lambda call: room.release())
        assert all(call.result().success for call in calls)
        self.saved = count

    def owner(self, number: int) -> int:
        request = self.rpc.KeyRequest(key=f"key {number}")
        return self.rpc.node(self.ring.nodes[0]).find(request, timeout=TIMEOUT).node_id

    def join_and_leave(self) -> Moved:
        """Let a node join and leave again, while all others are asked for keys."""
        self.fill(KEYS)
        while len(self.ring.nodes) < NODES:  # only now: alone, a node saves the faster
            self.ring.join()
            self.wait_until_whole()
        with Finder(self.rpc, self.ring.nodes[:], range(0, KEYS, KEYS // PROBES)) as finder:
            begun = time.perf_counter()
            node = self.ring.join()
            self.wait_until_whole()
            joined = time.perf_counter()
            self.ring.nodes.remove(node)
            node.interrupt()
            assert node.wait(TIMEOUT) == 0, node.transcript()
            left = time.perf_counter()
            self.wait_until_whole()
        return Moved(joined - begun, left - joined, finder.longest)

    def hang(self) -> float:
        """Return the longest find of a key of another node than the one that hangs."""
        self.fill(PROBES)
        hung, *others = self.ring.nodes
        numbers = [number for number in range(PROBES) if self.owner(number) != hung.id]
        hung.pause()
        with Finder(self.rpc, others, numbers) as finder:
            pass_time(HANG)
        hung.resume()
        self.wait_until_whole()
        return finder.longest


class Finder(threading.Thread):
    """Looks for keys that are there, through one node after the other, without a pause."""

    def __init__(self, rpc: Rpc, nodes: list, numbers):
        super().__init__()
        self.stubs = [rpc.node(node) for node in nodes]
        self.keys = [rpc.KeyRequest(key=f"key {number}") for number in numbers]
        self.stopping = threading.Event()
        self.longest = 0.0
        self.problem: Exception | None = None

    def run(self) -> None:
        try:
            while True:
                for stub in self.stubs:
                    for key in self.keys:
                        if self.stopping.is_set():
                            return
                        begun = time.perf_counter()
                        assert stub.find(key, timeout=TIMEOUT).success, key
                        self.longest = max(self.longest, time.perf_counter() - begun)
        except Exception as problem:
            self.problem = problem

    def __enter__(self) -> "Finder":
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stopping.set()
        self.join()
        if self.problem and not any(exception):
            raise self.problem
