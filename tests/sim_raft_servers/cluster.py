"""Lab 6's servers as they run, `Node` and the servicer's methods, in virtual time.

Around them everything is simulated: the event loops (loop.py), gRPC (network.py), the disks
(disk.py) and clients (clients.py). After every step of a server the properties of the paper's
Figure 3 are checked. faults.py has what goes wrong.

    cluster = Cluster(seed)
    with cluster.simulated():
        cluster.begin(clients=4, until=5.0)
        cluster.wait(cluster.agreed, 2.0, "no leader")
    cluster.check_answers()
"""

import contextlib
import io
import os
from collections.abc import Callable
from unittest import mock

from tests.sim_raft_core.properties import Properties, Violation
from tests.sim_raft_servers.clients import Client
from tests.sim_raft_servers.disk import Disk
from tests.sim_raft_servers.loop import Ended, World
from tests.sim_raft_servers.network import Line, Network, grpc, server
from tests.sim_raft_servers.server import Process
from tests.support.harness import ROOT, load
from tests.support.linearizability import is_linearizable

replica = load(ROOT / "lab06_raft/replica.py")
SYNC_TIME = 0.002  # s that a save takes at most on a good disk


class Cluster:
    """Servers, their disks and their clients; all is well with them, unless a fault is planned.

    Args:
        seed: decides everything.
    """

    def __init__(self, seed: int):
        self.world = World(seed)
        self.random = self.world.random
        self.network = Network(self.world, Line())
        self.addresses = {member: f"server-{member}" for member in range(self.pick(3, 3, 5))}
        self.limits = replica.Limits(
            batch_entries=self.pick(1, 3, 1000),
            batch_size=self.pick(4, 1000, 250_000),
            waiting_entries=self.pick(3, 100),
            snapshot_after=self.pick(1, 3, 10, 100),
        )
        self.saves_apart = True  # in a thread of their own, as with --data-dir
        self.disks = {member: Disk(self.random, SYNC_TIME) for member in self.addresses}
        self.properties = Properties()
        self.leaders: dict[int, int] = {}  # by term, as announced
        self.processes: dict[int, Process] = {}
        self.clients: list[Client] = []
        self.on_elected: Callable[[int], None] = lambda member: None

    def pick(self, *options):
        return self.random.choice(options)

    # A server's life

    def start(self, member: int) -> None:
        if member not in self.processes:
            self.processes[member] = Process(self, member)

    def kill(self, member: int) -> None:
        if process := self.processes.pop(member, None):
            process.loop.kill()
            self.network.leave(self.addresses[member])

    def _exit(self, status: int) -> None:
        """Replace os._exit: the server dies, and starts again 0.3 s later."""
        loop = server.asyncio.get_running_loop()
        for member, process in list(self.processes.items()):
            if process.loop is loop:
                self.kill(member)
                self.world.after(0.3, self.start, member)
        raise Ended(status)

    def elected(self, process: Process, term: int) -> None:
        if self.leaders.setdefault(term, process.member) != process.member:
            self.world.errors.append(f"two servers announce that they lead term {term}")
        self.on_elected(process.member)

    @contextlib.contextmanager
    def simulated(self):
        """Put the simulation in the place of the system; in the end every process is dead."""
        with (
            mock.patch.object(grpc.aio, "insecure_channel", self.network.channel),
            mock.patch.object(os, "_exit", self._exit),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            try:
                yield
            finally:
                for member in list(self.processes):
                    self.kill(member)
                self.world.outside.kill()

    def begin(self, clients: int, until: float) -> None:
        """Start all servers, and so many clients, which go on until a time."""
        for member in self.addresses:
            self.start(member)
        self.world.outside.call_soon(self._begin_clients, clients, until)

    def _begin_clients(self, count: int, until: float) -> None:
        for number in range(1, count + 1):
            client = Client(self.network, [*self.addresses.values()], number, number % 3 > 0)
            self.clients.append(client)
            self.world.outside.create_task(client.run(until))

    def advance(self, duration: float) -> None:
        """Let virtual time pass; raise Violation for what a check has found."""
        self.wait(lambda: False, duration)

    def wait(self, fact: Callable[[], bool], timeout: float, otherwise="") -> None:
        """Let time pass until a fact holds; raise Violation for what a check has found."""
        errors = self.world.errors
        self.world.run(self.world.now + timeout, lambda: bool(errors) or fact())
        if errors:
            raise Violation(errors[0])
        if otherwise and not fact():
            raise Violation(f"Liveness: {otherwise}")

    def calm(self) -> None:
        """End every fault."""
        self.network.line = Line()
        self.network.cut.clear()
        for member, disk in self.disks.items():
            disk.slowest, disk.fails = SYNC_TIME, False
            if member in self.processes:
                self.processes[member].loop.go_on()
            self.start(member)

    def agreed(self) -> bool:
        """Tell whether all follow one leader, and all logs are alike, committed and applied."""
        processes = list(self.processes.values())
        if not all(process.is_started for process in processes):
            return False
        rafts = [process.raft for process in processes]
        states = {
            (raft.current_term, raft.log.last_index, raft.log.last_term, raft.commit_index)
            for raft in rafts
        }
        first = rafts[0]
        return (
            len(processes) == len(self.addresses)
            and not any(process.node.suspended for process in processes)
            and sum(process.leads for process in processes) == 1
            and len(states) == 1
            and first.commit_index == first.log.last_index
            and all(raft.values == first.values for raft in rafts)
        )

    def is_idle(self) -> bool:
        """Tell whether no server has more tasks than a call to and an answer for each server."""
        tasks = [len(process.loop.tasks) for process in self.processes.values()]
        return max(tasks) <= 2 * len(self.addresses)

    def check_answers(self) -> None:
        """Compare what clients were told with what one register says, and with what was applied."""
        applied = {(entry.key, entry.value) for entry in self.properties.applied.values()}
        history = [operation for client in self.clients for operation in client.history]
        for operation in history:
            done = operation.kind == "write" and operation.returned < float("inf")
            if done and (operation.key, operation.value) not in applied:
                raise Violation(f"an acknowledged write is lost: {operation}")
        for client in self.clients:
            for key, value in client.unconfirmed:
                if value is not None and (key, value) not in applied:
                    raise Violation(f"{key}: {value} was read, which was never committed")
        if not is_linearizable(history):
            raise Violation("Linearizability: no order explains what the clients saw")
