"""What can go wrong around lab 6's servers, and one run: faults, then a calm in which all agree.

In the end one leader must have emerged, every server must take a command, and the answers that the
clients got must be those of one register.
"""

from collections.abc import Callable
from functools import partial

from tests.sim_raft_core.properties import Violation
from tests.sim_raft_servers.clients import KEYS
from tests.sim_raft_servers.cluster import Cluster
from tests.sim_raft_servers.network import Line, grpc, messages
from tests.sim_raft_servers.server import Process

FAULTY = 4.0  # s of virtual time with faults
LATE = 0.5  # s in which what is under way may still arrive
CALM = 5.0  # s without faults, at most, until all must agree
QUIET = 1.0  # s in which nothing may happen then
BEYOND_REASON = 2**62  # a term


class Faults:
    """Lets things go wrong for a cluster, up to the instant FAULTY."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.world, self.random, self.pick = cluster.world, cluster.random, cluster.pick
        self.network, self.addresses = cluster.network, cluster.addresses
        self.network.line = Line(
            loss=self.pick(0, 0, 0.05, 0.2),
            doubled=self.pick(0, 0.3),
            delay=(0.0005, self.pick(0.001, 0.03, 0.3)),
            bandwidth=self.pick(1e9, 1e9, 1e6, 2e5),
        )
        cluster.saves_apart = self.pick(True, True, True, False)
        self.slowest = self.pick(0.0, 0.002, 0.02, 0.1, 0.25)  # s that a save takes at most
        for disk in cluster.disks.values():
            disk.slowest = self.slowest
        self.short_lived = self.pick(0, 0.7)  # probability of a new leader to die at once
        cluster.on_elected = self._elected
        self.pause = self.pick(0.15, 0.3, 0.6, 1.2)
        self._again()

    def _again(self) -> None:
        self.world.after(self.random.uniform(0, 2 * self.pause), self._fault)

    def _fault(self) -> None:
        """Let one thing go wrong, and plan the next."""
        if self.world.now >= FAULTY:
            return
        member = self.pick(*self.addresses)
        leading = [m for m, process in self.cluster.processes.items() if process.leads]
        if leading and self.random.random() < 0.5:
            member = self.pick(*leading)
        kinds = [self._crash] * 3 + [self._stop, self._isolate] * 2
        kinds += [self._suspend, self._part, self._cut, self._slow_down, self._break_disk]
        self.pick(*kinds, self._intrude)(member)
        self._again()

    def _elected(self, member: int) -> None:
        """Ask a new leader at once; perhaps it dies soon, as the paper's Figure 8 needs it."""
        if self.world.now >= FAULTY:
            return
        client = self.pick(*self.cluster.clients)
        for key in KEYS:
            self.world.outside.create_task(client.read(client.stubs[member], key, 1.0))
        if self.random.random() < self.short_lived:
            delay = self.random.uniform(0, self.pick(1, 8) * self.network.line.delay[1])
            self.world.after(delay, self._crash, member)

    def _crash(self, member: int) -> None:
        """Kill -9, and a start a moment later."""
        if self.world.now >= FAULTY:  # planned at an election before
            return
        self.cluster.kill(member)
        self.world.after(self.random.uniform(0, 0.5), self.cluster.start, member)

    def _stop(self, member: int) -> None:
        """SIGSTOP and, later, SIGCONT."""
        if process := self.cluster.processes.get(member):
            process.loop.pause()
            self.world.after(self.random.uniform(0, self.pick(0.2, 1.5)), process.loop.go_on)

    def _suspend(self, member: int) -> None:
        request = messages.SuspendRequest(period=self.pick(0, 1))
        self.world.outside.create_task(self.cluster.clients[0].ask(member, "Suspend", request))

    def _part(self, member: int) -> None:
        addresses = list(self.addresses.values())
        group = set(self.random.sample(addresses, self.random.randrange(1, len(addresses))))
        pairs = [(a, b) for a in addresses for b in addresses if (a in group) != (b in group)]
        self._lose(pairs)

    def _isolate(self, member: int) -> None:
        """Cut a server from all others, but not from the clients."""
        own = self.addresses[member]
        others = [address for address in self.addresses.values() if address != own]
        self._lose([pair for other in others for pair in ((own, other), (other, own))])

    def _cut(self, member: int) -> None:
        """Cut one direction only."""
        self._lose([(self.addresses[member], self.addresses[self.pick(*self.addresses)])])

    def _lose(self, pairs: list) -> None:
        self.network.cut.update(pairs)
        heal = partial(self.network.cut.difference_update, pairs)
        self.world.after(self.random.uniform(0, 1.5), heal)

    def _slow_down(self, member: int) -> None:
        self.cluster.disks[member].slowest = 0.5
        self.world.after(self.random.uniform(0, 1.5), self._speed_up, member)

    def _speed_up(self, member: int) -> None:
        disk = self.cluster.disks[member]
        disk.slowest = min(disk.slowest, self.slowest)  # perhaps the faults have ended meanwhile

    def _break_disk(self, member: int) -> None:
        if self.cluster.saves_apart and (process := self.cluster.processes.get(member)):
            process.disk.fails = True
            self.world.after(0.5, self._mend_disk, process)

    def _mend_disk(self, process: Process) -> None:
        disk, loop = process.disk, process.loop
        if disk.has_failed and not (loop.is_dead or loop.is_paused):
            self.world.errors.append(f"server {process.member} goes on after a save that failed")
        disk.fails = disk.has_failed = False

    def _intrude(self, member: int) -> None:
        """Ask for a vote as a server that is not in config.conf, or with an absurd term."""
        process = self.cluster.processes.get(member)
        term = process.raft.current_term + 5 if process and process.is_started else 5
        sender, term = self.pick((77, term), (self.pick(*self.addresses), BEYOND_REASON))
        request = messages.RequestVoteRequest(
            term=term, candidate_id=sender, last_log_index=BEYOND_REASON, last_log_term=term
        )
        self.world.outside.create_task(self._refused(member, request))

    async def _refused(self, member: int, request) -> None:
        try:
            await self.cluster.clients[0].stubs[member].RequestVote(request, timeout=1.0)
        except grpc.aio.AioRpcError:
            return
        self.world.errors.append(f"a stranger's vote request was answered: {request}")


def run(seed: int, look: Callable[[Cluster], None] = lambda cluster: None) -> Cluster:
    """Run one seed; raise Violation if a property fails, or if in the end there is no recovery.

    `look` is given the cluster before it starts.
    """
    cluster = Cluster(seed)
    look(cluster)
    with cluster.simulated():
        cluster.begin(cluster.pick(2, 4, 6), FAULTY)
        Faults(cluster)
        cluster.advance(FAULTY)
        cluster.calm()
        cluster.advance(LATE)
        cluster.wait(
            cluster.agreed, CALM, "no leader, or no agreement, after the faults have ended"
        )
        finished = cluster.world.outside.create_task(_use_all_servers(cluster))
        leaders = dict(cluster.leaders)
        cluster.advance(QUIET)
        if cluster.leaders != leaders:
            raise Violation("Liveness: an election without a fault")
        if not finished.done():
            raise Violation("Liveness: a write or read after all faults takes too long")
        cluster.wait(cluster.is_idle, CALM, "a request waits although all clients have gone")
        cluster.wait(cluster.agreed, QUIET, "no agreement without a fault")
    cluster.check_answers()
    return cluster


async def _use_all_servers(cluster: Cluster) -> None:
    """Set a key through every server and read it there, then all keys at the leader.

    That key is set by no other client: what those have sent may still wait, and come now.
    """
    client = cluster.clients[0]
    for stub in client.stubs:
        value = await client.write("own", 3.0, stub)
        reply = await client.read(stub, "own", 1.0)
        if value is None or not reply or reply.value != value:
            cluster.world.errors.append("a write after all faults is not there")
    (leader,) = (member for member, process in cluster.processes.items() if process.leads)
    for key in KEYS:
        reply = await client.read(client.stubs[leader], key, 1.0)
        if not (reply and reply.confirmed):
            cluster.world.errors.append("a read after all faults is not confirmed")


def violation(seed: int) -> str | None:
    """Run one seed; return what went wrong, if anything, and how to see it again."""
    try:
        run(seed)
    except Violation as error:
        again = f"python -m tests.sim_raft_servers 1 --first {seed}"
        return f"{error}: {again}; make sim-picture SEED={seed}"
    return None
