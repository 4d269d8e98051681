"""How long elections must take by the rules of lab 6 alone: no network, no computing, only timers.

The rules are written down here once more, straight from the assignment, and are not those of
lab06_raft/raft.py: that is what they are compared with.
"""

import random

HEARTBEAT = 50.0  # ms
SPANS = (150.0, 300.0)  # ms


class Server:
    def __init__(self, now: float):
        self.leads = self.stands = False
        self.term, self.voted_in = 0, 0
        self.span = random.uniform(*SPANS)
        self.due = now + self.span

    def reset(self, now: float) -> None:
        self.due = now + self.span

    def observe(self, term: int) -> None:
        if term > self.term:
            self.term, self.leads, self.stands = term, False, False


class Cluster:
    """Servers whose messages take no time. `at` is now, in ms."""

    def __init__(self, size: int):
        self.at = 0.0
        self.size = size
        self.up: dict[int, Server] = {}

    def start(self, number: int) -> None:
        self.up[number] = Server(self.at)

    def leader(self) -> int | None:
        latest = max(server.term for server in self.up.values())
        leading = [n for n, one in self.up.items() if one.leads and one.term == latest]
        return leading[0] if leading else None

    def run(self, until: float) -> None:
        """Let so much time pass."""
        while min(server.due for server in self.up.values()) <= until:
            self.step()
        self.at = until

    def step(self) -> None:
        """Let the next timer run out."""
        one = min(self.up.values(), key=lambda server: server.due)
        self.at = one.due
        others = [server for server in self.up.values() if server is not one]
        if one.leads:
            one.due += HEARTBEAT
            self.tell(one, others)
        elif one.stands:
            one.stands, one.span = False, random.uniform(*SPANS)
            one.reset(self.at)
        else:
            self.stand(one, others)

    def tell(self, one: Server, others: list[Server]) -> None:
        """Heartbeats."""
        for other in others:
            one.observe(other.term)
            if one.leads:
                other.observe(one.term)
                other.stands = False
                other.reset(self.at)

    def stand(self, one: Server, others: list[Server]) -> None:
        one.stands = True
        one.term += 1
        one.voted_in = one.term
        one.reset(self.at)
        votes = 1
        for other in others:
            other.observe(one.term)
            if other.term == one.term and other.voted_in < one.term:
                other.voted_in = one.term
                other.reset(self.at)
                votes += 1
        for other in others:
            one.observe(other.term)
        if one.stands and votes > self.size // 2:
            one.stands, one.leads = False, True
            one.due = self.at + HEARTBEAT
            self.tell(one, others)

    def elect(self) -> float:
        """Return how long it takes until there is a leader."""
        begun = self.at
        while self.leader() is None:
            self.step()
        return self.at - begun

    def kill_leader(self) -> tuple[int, float]:
        """Return the number of the leader, and how long the others were without one."""
        number = self.leader()
        del self.up[number]
        return number, self.elect()


def one_cluster(size: int, kills: int, absent: float = 500.0) -> list[float]:
    """Kill the leader again and again; each comes back with a new span, the others keep theirs."""
    cluster = Cluster(size)
    for number in range(size):
        cluster.start(number)
    cluster.elect()
    gaps = []
    for _ in range(kills):
        cluster.run(cluster.at + 1000 + random.uniform(0, HEARTBEAT))
        number, gap = cluster.kill_leader()
        gaps.append(gap)
        cluster.run(cluster.at + absent)
        cluster.start(number)
    return gaps


def fresh_clusters(size: int, kills: int, between: float) -> list[float]:
    """Start servers one after the other, `between` ms apart, and kill the leader once."""
    gaps = []
    for _ in range(kills):
        cluster = Cluster(size)
        cluster.start(0)
        for number in range(1, size):
            cluster.run(cluster.at + between)
            cluster.start(number)
        cluster.elect()
        cluster.run(cluster.at + 1000 + random.uniform(0, HEARTBEAT))
        gaps.append(cluster.kill_leader()[1])
    return gaps
