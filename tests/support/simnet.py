"""A network in virtual time: seeded loss, duplication, reordering, delay and partitions.

    sim = Simulation(seed)
    net = Network(sim, loss=0.3, duplicate=0.2, delay=(0.001, 0.1))
    net.attach("server", lambda source, message: ...)
    net.send("client", "server", b"hello")
    sim.run_until(lambda: done, limit=60.0)

Nothing here reads a clock or starts a thread, so a seed replays to the last event.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Hashable

Address = Hashable


class Simulation:
    """Virtual time in seconds, a queue of events, and one source of randomness."""

    def __init__(self, seed: int):
        self.now = 0.0
        self.random = random.Random(seed)
        self._events: list = []
        self._order = itertools.count()  # events of the same instant run as they were planned

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Plan `action` for an instant, at the earliest now."""
        heapq.heappush(self._events, (max(time, self.now), next(self._order), action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Plan `action` for `delay` seconds from now."""
        self.at(self.now + delay, action)

    def step(self) -> bool:
        """Run the next event; return False if there is none."""
        if not self._events:
            return False
        self.now, _, action = heapq.heappop(self._events)
        action()
        return True

    def run_until(self, fact: Callable[[], bool], limit: float) -> bool:
        """Run events until `fact()` holds; return False if `limit` (absolute, s) comes first."""
        while not fact():
            if not self._events or self._events[0][0] > limit:
                return False
            self.step()
        return True

    def run(self, until: float) -> None:
        """Run all events up to an instant and leave the clock there."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, action = heapq.heappop(events)
            action()
        self.now = max(self.now, until)


class Network:
    """Carries messages between addresses, as badly as it is told to.

    Args:
        loss, duplicate: probabilities for each message.
        delay: the range, in seconds, from which each copy's delay is drawn; a range reorders.
    """

    def __init__(self, sim: Simulation, loss=0.0, duplicate=0.0, delay=(0.001, 0.001)):
        self.sim = sim
        self.loss = loss
        self.duplicate = duplicate
        self.delay = delay
        self._receivers: dict[Address, Callable[[Address, object], None]] = {}
        self._cut: set[tuple[Address, Address]] = set()

    def attach(self, address: Address, receive: Callable[[Address, object], None]) -> None:
        """Deliver what is sent to `address` as `receive(source, message)`."""
        self._receivers[address] = receive

    def detach(self, address: Address) -> None:
        """Lose what is sent to `address`, what is under way included."""
        self._receivers.pop(address, None)

    def send(self, source: Address, target: Address, message: object, extra: float = 0.0) -> None:
        """Send one message; it may arrive never, once or twice, sooner or later.

        extra: s that it takes beyond what all messages take.
        """
        chance = self.sim.random.random
        copies = 0 if chance() < self.loss else 2 if chance() < self.duplicate else 1
        for _ in range(copies):
            delay = self.sim.random.uniform(*self.delay)
            self.sim.after(delay + extra, lambda: self._deliver(source, target, message))

    def _deliver(self, source: Address, target: Address, message: object) -> None:
        if (source, target) not in self._cut and target in self._receivers:
            self._receivers[target](source, message)

    def cut(self, source: Address, target: Address) -> None:
        """Lose all that arrives from `source` at `target`: one direction only."""
        self._cut.add((source, target))

    def connects(self, one: Address, other: Address) -> bool:
        """Tell whether neither direction between two addresses is cut."""
        return self._cut.isdisjoint({(one, other), (other, one)})

    def mend(self, source: Address, target: Address) -> None:
        """End a cut."""
        self._cut.discard((source, target))

    def partition(self, *groups: set[Address]) -> None:
        """Let addresses reach those of their own group only."""
        group = {address: index for index, group in enumerate(groups) for address in group}
        self._cut = {(a, b) for a in group for b in group if group[a] != group[b]}

    def heal(self) -> None:
        """End every partition and cut."""
        self._cut.clear()

    def calm(self) -> None:
        """End all faults: nothing is lost, doubled or reordered from here on."""
        self.heal()
        self.loss = self.duplicate = 0.0
        self.delay = (0.001, 0.001)
