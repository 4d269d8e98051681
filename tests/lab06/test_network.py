"""Lab 6 on a network of several hosts: slow links, machines that vanish, forgotten connections."""

import re
import time

import pytest

from tests.lab06.cluster import CLIENT, Cluster
from tests.support.harness import pass_time, wait_until

PORT = 50000


class Distributed(Cluster):
    """A cluster with a host for each server."""

    def __init__(self, spawn, folder, network, size=3):
        self.hosts = [network.host() for _ in range(size)]
        super().__init__(spawn, folder, size)

    def _config(self, n, relay):
        return "".join(f"{i} {host.address} {PORT}\n" for i, host in enumerate(self.hosts))

    def address(self, n):
        return self.hosts[n].address, PORT

    def client(self, n):
        return self.spawn(CLIENT, interpreter=self.hosts[n].python)

    def start(self, n):
        self.servers[n] = self.spawn(
            self.script, n, cwd=self.folders[n], interpreter=self.hosts[n].python
        )
        return self.servers[n]


@pytest.fixture
def cluster(spawn, tmp_path, network):
    return Distributed(spawn, tmp_path, network)


def write(cluster, n, key, value):
    return cluster.ask(n, f"setval {key} {value}") == ["True"]


def test_a_large_value_crosses_a_slow_link_once(cluster):
    for host in cluster.hosts:
        limit = "tbf rate 16mbit burst 16kb latency 400ms"
        host.run("tc", "qdisc", "add", "dev", "eth0", "root", *limit.split())

    def sent(host):
        return int(re.search(r"TX:.*\n\s*(\d+)", host.ip("-s link show eth0"))[1])

    def is_quiet(host):
        before = sent(host)
        pass_time(0.3)
        return sent(host) - before < 20_000  # heartbeats only

    def scene():
        leader = cluster.leader()
        # A try that an election has ended may have left a value that a follower has yet to get.
        wait_until(lambda: is_quiet(cluster.hosts[leader]), "the values of before to be there")
        before = sent(cluster.hosts[leader])
        assert write(cluster, leader, "large", "x" * 900_000)
        assert sent(cluster.hosts[leader]) - before < 2_500_000  # two copies are 1,800,000

    cluster.settled(scene)


def test_a_leader_whose_machine_vanishes_is_replaced_and_follows_when_it_is_back(cluster):
    cluster.followers()
    old = cluster.leader()
    cluster.hosts[old].vanish()
    begin = time.monotonic()
    new = cluster.leader(other_than=old)
    assert time.monotonic() - begin < 3  # 0.3 s when nothing else runs
    wait_until(lambda: write(cluster, new, "k", "1"), "a write without it")
    cluster.hosts[old].reappear()
    begin = time.monotonic()
    wait_until(lambda: cluster.ask(old, "getval k") == ["1"], "the value there")
    assert time.monotonic() - begin < 5  # 0.5 s when nothing else runs


def test_connections_that_a_firewall_has_forgotten_are_made_anew(cluster, network):
    cluster.followers()
    wait_until(lambda: write(cluster, cluster.leader(), "k", "1"), "a write before")
    network.forget_connections()
    begin = time.monotonic()
    wait_until(lambda: write(cluster, cluster.leader(), "k", "2"), "a write after", 10)
    assert time.monotonic() - begin < 5  # 1 s when nothing else runs
    for n in range(3):
        wait_until(lambda n=n: cluster.ask(n, "getval k") == ["2"], "the value everywhere")
