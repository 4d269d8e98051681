"""Clusters of three or five servers that agree by Raft: ours, and etcd."""

import contextlib
import re
from pathlib import Path

from tests.benchmarks.processes import folder, program
from tests.lab06.cluster import Cluster
from tests.support.harness import wait_until
from tests.support.ports import free_port
from tests.support.processes import Script, running

ETCD = "etcd"


class Ours(Cluster):
    """Our servers, each started when the one before is ready."""

    def elected(self, server: Script) -> int:
        """Count how often a server has become the leader."""
        return server.out.count("I am a leader")

    def follows(self, number: int) -> bool:
        """Tell whether a server is in the latest term, and that term has a leader."""
        states = self.states()
        return ("leader", states[number][1]) in states


def ours(stack: contextlib.ExitStack, size: int, *options, **more) -> Ours:
    """Start our servers, which run as long as the stack is open; see Cluster for the rest."""

    def spawn(script: str, *arguments, **more) -> Script:
        server = stack.enter_context(running(script, *arguments, **more))
        server.expect("The server starts")
        return server

    return Ours(spawn, stack.enter_context(folder()), size, *options, **more)


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
