"""One server in virtual time: what `serve` in server.py puts together, on a loop of its own."""

from tests.sim_raft_core.properties import History, Properties, Violation, state
from tests.sim_raft_servers.loop import Loop
from tests.sim_raft_servers.network import server


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

    def __init__(self, cluster, member: int):
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
        """Stand in for Printer.announce."""
        if after.role is server.Role.LEADER is not before.role:
            self.cluster.elected(self, after.term)

    def print(self, *lines: str) -> None:
        """Stand in for Printer.print: print nothing."""

    @property
    def is_started(self) -> bool:
        return hasattr(self, "node")

    @property
    def leads(self) -> bool:
        return self.is_started and bool(self.raft.leadership) and not self.loop.is_paused
