"""What goes wrong in a simulated cluster of lab 6's core: crashes, stops, suspensions, cuts."""

from collections.abc import Callable


class Faults:
    """The faults of one cluster; each ends by itself some time later."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.random, self.pick = cluster.random, cluster.pick

    def begin_one(self) -> None:
        """Let one thing go wrong, or right again."""
        member = self.pick(*self.cluster.members)
        if (leaders := self.cluster.leaders()) and self.random.random() < 0.5:
            member = self.pick(*leaders).node_id
        faults = [self.crash_or_restart] * 3 + [self._stop, self._suspend, self._part, self._cut]
        self.pick(*faults)(member)

    def _later(self, action: Callable[[], object], latest: float = 1.0) -> None:
        self.cluster.sim.after(self.random.uniform(0, latest), action)

    def crash_or_restart(self, member: int) -> None:
        if member in self.cluster.servers:
            self.cluster.crash(member)
            self._later(lambda: self.restart(member), latest=0.5)

    def restart(self, member: int) -> None:
        if member not in self.cluster.servers:
            self.cluster.start(member)

    def _stop(self, member: int) -> None:
        """SIGSTOP and, later, SIGCONT: what has come meanwhile is then read."""
        if self._hold(member):
            self._later(lambda: self.resume(member))

    def resume(self, member: int) -> None:
        for source, message in self._release(member):
            self.cluster.receive(member, source, message)

    def _suspend(self, member: int) -> None:
        """The lab's Suspend: what comes meanwhile is lost, and the timer starts again after."""
        if self._hold(member):
            self._later(lambda: self._awake(member))

    def _awake(self, member: int) -> None:
        if member in self.cluster.held:
            self._release(member)
            self.cluster.servers[member].restart_timer(self.cluster.sim.now)

    def _hold(self, member: int) -> bool:
        """Keep all messages to a server from it; tell whether it runs and was not held before."""
        if member not in self.cluster.servers or member in self.cluster.held:
            return False
        self.cluster.held[member] = []
        return True

    def _release(self, member: int) -> list:
        """Watch the timer again; return what has waited meanwhile."""
        if member in self.cluster.asleep:
            self.cluster.asleep.remove(member)
            server = self.cluster.servers[member]
            self.cluster.sim.after(0.001, lambda: self.cluster.wake(server))
        return self.cluster.held.pop(member, [])

    def _part(self, member: int) -> None:
        members = self.cluster.members
        group = set(self.random.sample(members, self.random.randrange(1, len(members))))
        self.cluster.net.partition(group, set(members) - group)
        self._later(self.cluster.net.heal)

    def _cut(self, member: int) -> None:
        self.cluster.net.cut(member, self.pick(*self.cluster.members))  # one way only
        self._later(self.cluster.net.heal)
