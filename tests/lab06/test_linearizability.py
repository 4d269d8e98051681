"""Lab 6: what clients see under faults is what one register would have answered."""

import random
import threading
import time

import pytest

from tests.lab06.cluster import Cluster
from tests.support.harness import wait_until
from tests.support.linearizability import Operation, is_linearizable

CALL_TIMEOUT = 0.4  # s for an answer; the outcome of a write is open then


def write(value, called, returned=float("inf")):
    return Operation("write", "x", value, called, returned)


def read(value, called, returned):
    return Operation("read", "x", value, called, returned)


@pytest.mark.parametrize(
    ("history", "verdict"),
    [
        ([], True),
        ([read(None, 0, 1)], True),
        ([read("1", 0, 1)], False),
        ([write("1", 0, 1), read("1", 2, 3)], True),
        ([write("1", 0, 1), read(None, 2, 3)], False),  # stale
        ([write("1", 0, 3), read(None, 1, 2)], True),  # at the same time
        ([write("1", 0, 3), read("1", 1, 2)], True),
        ([write("1", 0, 9), read("1", 1, 2), read(None, 3, 4)], False),  # back again
        ([write("1", 0, 1), write("2", 2, 3), read("1", 4, 5)], False),
        ([write("1", 0, 4), write("2", 0, 4), read("1", 5, 6), read("2", 7, 8)], False),
        ([write("1", 0), read("1", 5, 6)], True),  # its result was never known
        ([write("1", 0), read(None, 5, 6), read("1", 7, 8)], True),
        ([write("1", 0), read("1", 5, 6), read(None, 7, 8)], False),
        ([write("1", 5), read("1", 1, 2)], False),  # before it was called
    ],
)
def test_the_checker_knows_histories_that_are_linearizable_and_that_are_not(history, verdict):
    assert is_linearizable(history) is verdict
    for key in ("other", "x"):  # a key more changes nothing
        assert is_linearizable([*history, Operation("write", "z" + key, "0", 0, 1)]) is verdict


class Clients:
    """Threads that write and read two keys at any server, and note what they saw and when."""

    def __init__(self, cluster, count):
        self.cluster = cluster
        self.history: list[Operation] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def _run(self, number):
        chance = random.Random(number)
        for count in range(100_000):
            if self.stopped.is_set():
                return
            node, key = chance.randrange(len(self.cluster.ports)), chance.choice("ab")
            called = time.monotonic()
            if chance.random() < 0.5:
                value = f"{number}-{count}"
                done = self.cluster.setval(node, key, value, CALL_TIMEOUT)
                returned = time.monotonic() if done else float("inf")
                self.history.append(Operation("write", key, value, called, returned))
            elif reply := self.cluster.getval(node, key, CALL_TIMEOUT):
                value = reply.value if reply.success else None
                if reply.confirmed:
                    self.history.append(Operation("read", key, value, called, time.monotonic()))
            self.stopped.wait(0.005)

    def seen(self, kind):
        return sum(op.kind == kind and op.returned < float("inf") for op in self.history)


@pytest.mark.parametrize("fault", ["kill", "stop", "suspend"])
def test_histories_of_real_servers_are_linearizable_when_leaders(fault, spawn, tmp_path):
    cluster = Cluster(spawn, tmp_path, 3, "--data-dir", "data")
    cluster.leader()
    clients = Clients(cluster, 5)
    try:
        for _ in range(2):
            before = clients.seen("write"), clients.seen("read")
            wait_until(lambda b=before: clients.seen("write") > b[0] + 15)
            wait_until(lambda b=before: clients.seen("read") > b[1] + 5)
            old = cluster.leader()
            recover = cluster.break_down(old, fault)
            cluster.leader(other_than=old)
            written = clients.seen("write")
            wait_until(lambda w=written: clients.seen("write") > w + 10)
            recover()
        read_before = clients.seen("read")
        wait_until(lambda: clients.seen("read") > read_before + 5)
    finally:
        clients.stop()
    assert is_linearizable(clients.history)
