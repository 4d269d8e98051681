"""Lab 6: elections beside theory and etcd; writes beside bare gRPC calls, etcd and PySyncObj."""

import contextlib
import random
import signal
import statistics
import time
from collections.abc import Iterator
from functools import partial

from tests.benchmarks import elections, writes
from tests.benchmarks.clusters import ETCD, Etcd, Ours, ours
from tests.benchmarks.measure import Goal, Row, attempt
from tests.benchmarks.processes import MEMORY
from tests.support.harness import Failure, pass_time, wait_until
from tests.support.processes import processor_time

KILLS = 10  # in a round
FRESH = 6  # clusters in a round
IDLE = 3.0  # s in a round
IDLE_LIMIT = 4.0  # % of a core
PAUSE = 0.3  # s of calm before a kill
TIMEOUT = 5.0  # s
THEORY = "the timers alone"


def rows(stack: contextlib.ExitStack) -> Iterator[Row]:
    yield from killing(3, [Goal(THEORY, 1.1), Goal(ETCD, 1.0)])
    yield from killing(5, [Goal(THEORY, 1.1), Goal(ETCD, 1.0)])
    yield killing_fresh(3)
    yield from writes.rows()
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


def kill_again_and_again(cluster: Ours | Etcd, kills: int) -> float:
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


def kill_leader(cluster: Ours | Etcd) -> tuple[int, float]:
    """Return which server it was, and how long it took until another says that it leads, in ms."""
    number = cluster.leader()
    pass_time(PAUSE + random.uniform(0, elections.HEARTBEAT / 1e3))
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


def load_of(cluster: Ours | Etcd) -> float:
    """Return how much of a core the leader needs, in percent."""
    pid = cluster.servers[cluster.leader()].pid
    before = processor_time(pid)
    pass_time(IDLE)
    return (processor_time(pid) - before) / IDLE * 100
