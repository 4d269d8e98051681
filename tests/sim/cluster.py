"""Lab 6's servers as they run, `Node` and the servicer's methods, in virtual time.

Around them everything is simulated: the event loops (loop.py), gRPC (network.py), the disks
(disk.py), clients (clients.py), and here the faults. After every step of a server the properties of
the paper's Figure 3 are checked, and in the end whether the clients' answers are linearizable. Then
the faults have ceased: one leader must emerge, and every server must take a command.
"""

import contextlib
import io
import os
from collections.abc import Callable
from functools import partial
from unittest import mock

from tests.linearizability import is_linearizable
from tests.sim.clients import KEYS, Client
from tests.sim.disk import Disk
from tests.sim.loop import Ended, Loop, World
from tests.sim.network import Line, Network, grpc, messages, server
from tests.sim_raft import History, Properties, Violation, state

FAULTY = 4.0  # s of virtual time with faults
CALM = 5.0  # s without, at most, until all must agree
LATE = 0.5  # s in which what is under way may still arrive
QUIET = 1.0  # s in which nothing may happen then
BEYOND_REASON = 2**62  # a term


class Watched(server.Raft):
    """The core; `compact`, the end of each step of a node, is where its state is looked at."""

    def observe_with(self, properties: Properties, errors: list[str]) -> None:
        self._properties, self._errors = properties, errors
        self._before = History(self)

    def compact(self) -> None:
        if state(self) != self._before.state:
            try:
                self._properties.check(self, self._before)
            except Violation as error:
                self._errors.append(str(error))
        super().compact()
        if state(self) != self._before.state:
            self._before = History(self)


class Process:
    """One running server: its loop, and in it what `serve` in server.py puts together."""

    def __init__(self, cluster: "Cluster", member: int):
        self.cluster, self.member = cluster, member
        self.disk = cluster.disks[member]
        self.loop = Loop(cluster.world)
        self.loop.call_soon(self._serve)

    def _serve(self) -> None:
        cluster, addresses = self.cluster, self.cluster.addresses
        chance = cluster.world.random
        new_timeout = lambda: chance.uniform(*server.ELECTION_TIMEOUT_RANGE)  # noqa: E731
        saved, limits = self.disk.load(), cluster.limits
        address = addresses[self.member]
        cluster.network.names[self.loop] = address
        now = self.loop.time()
        self.raft = Watched(self.member, addresses, new_timeout, now, saved, limits)
        self.raft.observe_with(cluster.properties, cluster.world.errors)
        others = {peer: server.Peer(addresses[peer]) for peer in self.raft.peers}
        executor = self.disk if cluster.saves_apart else None
        self.node = server.Node(self.raft, others, self.disk.save, executor, self.announce)
        servicer = server.RaftServicer(self.node, addresses, self)
        cluster.network.listen(address, self.loop, servicer)
        self.node.start()

    def announce(self, before, after) -> None:
        """Part of the printer."""
        if after.role is server.Role.LEADER is not before.role:
            self.cluster.elected(self, after.term)

    def print(self, *lines: str) -> None:
        """The other part."""

    @property
    def is_started(self) -> bool:
        return hasattr(self, "node")

    @property
    def leads(self) -> bool:
        return self.is_started and bool(self.raft.leadership) and not self.loop.is_paused


class Cluster:
    """Servers, their disks and clients, and the faults that befall them.

    Args:
        seed: decides everything. faults: whether there are any; scenes have their own.
    """

    def __init__(self, seed: int, faults=True):
        self.world = World(seed)
        self.random = self.world.random
        self.network = Network(self.world, self._line() if faults else Line())
        self.addresses = {member: f"server-{member}" for member in range(self._pick(3, 3, 5))}
        self.limits = server_limits()._replace(
            batch_entries=self._pick(1, 3, 1000),
            batch_size=self._pick(4, 1000, 250_000),
            waiting_entries=self._pick(3, 100),
            snapshot_after=self._pick(1, 3, 10, 100),
        )
        self.slowest = self._pick(0.0, 0.002, 0.02, 0.1, 0.25) if faults else 0.002  # s to save
        self.saves_apart = not faults or self._pick(True, True, True, False)
        self.disks = {member: Disk(self.random, self.slowest) for member in self.addresses}
        self.short_lived = self._pick(0, 0.7) if faults else 0  # probability of a new leader to die
        self.properties = Properties()
        self.leaders: dict[int, int] = {}  # by term, as announced
        self.processes: dict[int, Process] = {}
        self.clients: list[Client] = []

    def _pick(self, *options):
        return self.random.choice(options)

    def _line(self) -> Line:
        return Line(
            loss=self._pick(0, 0, 0.05, 0.2),
            doubled=self._pick(0, 0.3),
            delay=(0.0005, self._pick(0.001, 0.03, 0.3)),
            bandwidth=self._pick(1e9, 1e9, 1e6, 2e5),
        )

    # A server's life

    def start(self, member: int) -> None:
        if member not in self.processes:
            self.processes[member] = Process(self, member)

    def kill(self, member: int) -> None:
        if process := self.processes.pop(member, None):
            process.loop.kill()
            self.network.leave(self.addresses[member])

    def _exit(self, status: int) -> None:
        """Stand in the place of os._exit."""
        loop = server.asyncio.get_running_loop()
        for member, process in list(self.processes.items()):
            if process.loop is loop:
                self.kill(member)
        raise Ended(status)

    def elected(self, process: Process, term: int) -> None:
        if self.leaders.setdefault(term, process.member) != process.member:
            self.world.errors.append(f"two servers announce that they lead term {term}")
        if self.random.random() < self.short_lived:  # for the paper's Figure 8
            delay = self.random.uniform(0, self._pick(1, 8) * self.network.line.delay[1])
            self.world.after(delay, self._crash, process.member)

    # Faults

    def _fault(self) -> None:
        """Let one thing go wrong."""
        member = self._pick(*self.addresses)
        leading = [m for m, process in self.processes.items() if process.leads]
        if leading and self.random.random() < 0.5:
            member = self._pick(*leading)
        kinds = [self._crash] * 3 + [self._stop] * 2 + [self._suspend, self._part, self._cut]
        self._pick(*kinds, self._slow_down, self._break_disk, self._intrude)(member)

    def _crash(self, member: int) -> None:
        """Kill -9, and a start a moment later."""
        if self.world.now >= FAULTY:  # planned at an election before
            return
        self.kill(member)
        self.world.after(self.random.uniform(0, 0.5), self.start, member)

    def _stop(self, member: int) -> None:
        """SIGSTOP and, later, SIGCONT."""
        if process := self.processes.get(member):
            process.loop.pause()
            self.world.after(self.random.uniform(0, self._pick(0.2, 1.5)), process.loop.go_on)

    def _suspend(self, member: int) -> None:
        request = messages.SuspendRequest(period=self._pick(0, 1))
        self.world.outside.create_task(self.clients[0].ask(member, "Suspend", request))

    def _part(self, member: int) -> None:
        addresses = list(self.addresses.values())
        group = set(self.random.sample(addresses, self.random.randrange(1, len(addresses))))
        pairs = [(a, b) for a in addresses for b in addresses if (a in group) != (b in group)]
        self._lose(pairs)

    def _cut(self, member: int) -> None:
        """Cut one direction only."""
        self._lose([(self.addresses[member], self.addresses[self._pick(*self.addresses)])])

    def _lose(self, pairs: list) -> None:
        self.network.cut.update(pairs)
        heal = partial(self.network.cut.difference_update, pairs)
        self.world.after(self.random.uniform(0, 1.5), heal)

    def _slow_down(self, member: int) -> None:
        self.disks[member].slowest = 0.5
        self.world.after(self.random.uniform(0, 1.5), self._speed_up, member)

    def _speed_up(self, member: int) -> None:
        self.disks[member].slowest = self.slowest

    def _break_disk(self, member: int) -> None:
        if self.saves_apart and (process := self.processes.get(member)):
            process.disk.fails = True
            self.world.after(0.5, self._mend_disk, process)

    def _mend_disk(self, process: Process) -> None:
        disk, loop = process.disk, process.loop
        if disk.has_failed and not (loop.is_dead or loop.is_paused):
            self.world.errors.append(f"server {process.member} goes on after a save that failed")
        disk.fails = disk.has_failed = False
        self.start(process.member)

    def _intrude(self, member: int) -> None:
        """Ask for a vote as a server that is not in config.conf, or with an absurd term."""
        process = self.processes.get(member)
        term = process.raft.current_term + 5 if process and process.is_started else 5
        sender, term = self._pick((77, term), (self._pick(*self.addresses), BEYOND_REASON))
        request = messages.RequestVoteRequest(
            term=term, candidate_id=sender, last_log_index=BEYOND_REASON, last_log_term=term
        )
        self.world.outside.create_task(self._refused(member, request))

    async def _refused(self, member: int, request) -> None:
        try:
            await self.clients[0].stubs[member].RequestVote(request, timeout=1.0)
        except grpc.aio.AioRpcError:
            return
        self.world.errors.append(f"a stranger's vote request was answered: {request}")

    # The whole run

    def run(self) -> None:
        """Raise Violation if a property fails, or if in the end the cluster does not recover."""
        with self.simulated():
            self.begin()
            self._again(self._fault, self._pick(0.15, 0.3, 0.6, 1.2))
            self.advance(FAULTY)
            self.calm()
            self.advance(LATE)
            self.wait(self.agreed, CALM, "no leader, or no agreement, after the faults have ended")
            self.world.outside.create_task(self._finish())
            leaders = dict(self.leaders)
            self.advance(QUIET)
            if self.leaders != leaders or not self.agreed():
                raise Violation("Liveness: an election without a fault")
            self._check_ends()
        self.check_answers()

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

    def begin(self, clients: int | None = None) -> None:
        """Start servers and clients."""
        for member in self.addresses:
            self.start(member)
        self.world.outside.call_soon(self._begin_clients, clients or self._pick(2, 4, 6))

    def _begin_clients(self, count: int) -> None:
        for number in range(1, count + 1):
            client = Client(self.network, [*self.addresses.values()], number, number % 3 > 0)
            self.clients.append(client)
            self.world.outside.create_task(client.run(FAULTY))

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

    def _again(self, action: Callable[[], None], pause: float) -> None:
        """Do it now and then while the faults last."""

        def once() -> None:
            if self.world.now < FAULTY:
                action()
                self.world.after(self.random.uniform(0, 2 * pause), once)

        self.world.after(self.random.uniform(0, 2 * pause), once)

    def calm(self) -> None:
        """End every fault."""
        self.network.line = Line()
        self.network.cut.clear()
        self.short_lived, self.slowest = 0, 0.002
        for member, disk in self.disks.items():
            disk.slowest, disk.fails = self.slowest, False
            if member in self.processes:
                self.processes[member].loop.go_on()
            self.start(member)

    def agreed(self) -> bool:
        """One leader whom all follow, all logs alike, all committed and applied."""
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

    async def _finish(self) -> None:
        """Set a key through every server and read it there, then all keys at the leader."""
        client = self.clients[0]
        for stub in client.stubs:
            value = await client.write("a", 3.0, stub)
            reply = await client.read(stub, "a", 1.0)
            if value is None or not reply or reply.value != value:
                self.world.errors.append("a write after all faults is not there")
        (leader,) = (member for member, process in self.processes.items() if process.leads)
        for key in KEYS:
            reply = await client.read(client.stubs[leader], key, 1.0)
            if not (reply and reply.confirmed):
                self.world.errors.append("a read after all faults is not confirmed")
        self.is_finished = True

    def _check_ends(self) -> None:
        """Nothing may be left that waits for something that is over."""
        if not hasattr(self, "is_finished"):
            raise Violation("Liveness: a write or read after all faults takes too long")
        for process in self.processes.values():
            if len(process.loop._tasks) > 2 * len(self.addresses):
                raise Violation(f"server {process.member} has tasks left: {process.loop._tasks}")

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
                    raise Violation(f"{value} was read as {key}, but never committed")
        if not is_linearizable(history):
            raise Violation("Linearizability: no order explains what the clients saw")


def server_limits():
    """Return the limits that servers have without a simulation."""
    return server.Raft.__init__.__defaults__[-1]


def violation(seed: int) -> str | None:
    """Run one seed; return what went wrong, if anything, and how to see it again."""
    try:
        Cluster(seed).run()
    except Violation as error:
        return f"{error}: python -m tests.sim 1 --first {seed}"
    return None
