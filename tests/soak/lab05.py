"""Attacks on lab 5: churn under load, a ring of sixty-four, and thousands of simulated rings."""

import contextlib
import random
import time
from collections import Counter, defaultdict

from tests.lab05.ring import Ring, Rpc, assert_all_found, save_some
from tests.sim_chord import messages
from tests.sim_chord.oracle import WRITES, Operation
from tests.sim_chord.scenarios import SCENARIOS, run
from tests.soak import clients
from tests.support.harness import pass_time, wait_until
from tests.support.linearizability import search
from tests.support.processes import spawning

HEALING = 60.0  # s for a ring to be whole again, on a busy machine
KEYS = 12  # in use at a time
KEY_LIFE = 3.0  # s until others are used; then old ones are only read now and then


class Client(clients.Client):
    """Saves, finds, gets and removes common keys through all nodes, without a pause."""

    def __init__(self, rpc, ring, number):
        self.rpc, self.ring = rpc, ring
        self.slowest = 0.0
        super().__init__(number, KEY_LIFE)

    def once(self, count, generation):
        kind = self.chance.choice(list(messages.Kind))
        if self.chance.random() < 0.2:  # what was saved long ago is there still
            generation = self.chance.randrange(generation + 1)
            kind = messages.Kind.GET
        key = f"key {generation} {self.chance.randrange(KEYS)}"
        nodes = [n for n in list(self.ring.nodes) if n.running and n.id is not None]
        if not self.ask(self.chance.choice(nodes), kind, key, f"{self.number} {count}"):
            self.stopping.wait(0.05)

    def ask(self, node, kind, key, text=""):
        """Ask one node; return whether it has answered."""
        operation = Operation(kind, key, text, time.monotonic())
        self.history.append(operation)
        call = getattr(self.rpc.node(node), kind.name.lower())
        is_save = kind is messages.Kind.SAVE
        request = (
            self.rpc.SaveRequest(key=key, text=text) if is_save else self.rpc.KeyRequest(key=key)
        )
        try:
            reply = call(request, timeout=12)
        except self.rpc.error:
            return False
        operation.answer(reply, time.monotonic())
        self.slowest = max(self.slowest, operation.returned - operation.called)
        return True


class Churn:
    """What befalls a ring: one thing after the other, each with time to heal."""

    def __init__(self, rpc, ring, seed):
        self.rpc, self.ring = rpc, ring
        self.chance = random.Random(seed)
        self.counts: Counter = Counter()
        self.slowest = 0.0  # s until the ring was whole again

    def once(self):
        running = self.running()
        options = ["registry", "pause", "pause"]
        options += ["join"] * 3 if len(running) < 9 else []
        options += ["leave", "leave", "kill", "kill two"] if len(running) > 5 else []
        what = self.chance.choice(options)
        self.counts[what] += 1
        begun = time.monotonic()
        getattr(self, what.replace(" ", "_"))()
        wait_until(lambda: self.rpc.is_whole(self.ring), f"a whole ring after {what!r}", HEALING)
        self.slowest = max(self.slowest, time.monotonic() - begun)

    def running(self):
        return [node for node in self.ring.nodes if node.running]

    def join(self):
        self.ring.join()

    def leave(self):
        node = self.chance.choice(self.running())
        node.interrupt()
        assert node.wait() == 0
        assert node.err == "", node.transcript()

    def kill(self, count=1):
        for node in self.chance.sample(self.running(), count):
            node.kill()

    def kill_two(self):
        self.kill(2)

    def pause(self):
        """SIGSTOP one or two, for long enough to be taken for dead or not."""
        nodes = self.chance.sample(self.running(), self.chance.choice([1, 2]))
        for node in nodes:
            node.pause()
        pass_time(self.chance.uniform(0.2, 5))
        for node in nodes:
            node.resume()

    def registry(self):
        self.ring.registry.kill()
        pass_time(self.chance.uniform(0, 5))
        self.ring.start_registry()


def churn(scale):
    with spawning() as spawn, contextlib.closing(Rpc()) as rpc:
        ring = Ring(spawn, 6, m=8)
        churn = Churn(rpc, ring, seed=5)
        eight = [Client(rpc, ring, number) for number in range(8)]
        end = time.monotonic() + 600 * scale
        try:
            while time.monotonic() < end:
                churn.once()
        finally:
            for client in eight:
                client.stop()
        by_key = defaultdict(list)
        for client in eight:
            for operation in client.history:
                by_key[operation.key].append(operation)
        for key in by_key:
            assert eight[0].ask(churn.running()[0], messages.Kind.GET, key), f"{key} is lost"
            by_key[key].append(eight[0].history[-1])
        for node in churn.running():
            assert node.err == "", node.transcript()
    check(by_key)
    total = sum(map(len, by_key.values()))
    silent = sum(o.success is None for operations in by_key.values() for o in operations)
    faults = ", ".join(f"{count} {what}" for what, count in sorted(churn.counts.items()))
    return (
        f"{total} operations on {len(by_key)} keys, {silent} without an answer, 0 wrong; {faults}; "
        f"slowest answer {max(c.slowest for c in eight):.1f} s, whole after {churn.slowest:.1f} s"
    )


def check(by_key):
    """Raise AssertionError for a key about which no dictionary would have answered so."""
    for key, operations in by_key.items():
        told = [o for o in operations if o.success is not None or o.kind in WRITES]
        told.sort(key=lambda operation: operation.called)
        assert search(told, Operation.apply), f"{key}:\n" + "\n".join(map(str, told))


def sixty_four(scale):
    count = max(8, round(64 * scale))
    with spawning() as spawn, contextlib.closing(Rpc()) as rpc:
        ring = Ring(spawn, 0, m=16)
        begun = time.monotonic()
        for _ in range(count):
            ring.start_node()
        wait_until(lambda: rpc.is_whole(ring) and len(rpc.members(ring)) == count, "all", 300)
        joined = time.monotonic() - begun
        keys = save_some(rpc, ring, 500)
        victims = random.Random(64).sample(ring.nodes, 2)
        for node in victims:
            node.kill()
        begun = time.monotonic()
        stub = rpc.node(next(node for node in ring.nodes if node.running))
        for key in keys:
            assert stub.find(rpc.KeyRequest(key=key), timeout=15).success, key
        healed = time.monotonic() - begun
        assert_all_found(rpc, ring, keys[:20])
        for node in ring.nodes:
            assert node.err == "", node.transcript()
    found = f"two killed, {len(keys)} keys found in {healed:.1f} s"
    return f"{count} nodes in after {joined:.1f} s; {found}"


def simulation(scale):
    seeds = range(10_000, 10_000 + max(1, round(500 * scale)))
    runs, failures, beyond = run(list(SCENARIOS), seeds)
    figures = f"{runs} rings, {beyond} of them lost three nodes at once, {failures} failures"
    assert not failures, figures
    return figures


ATTACKS = {"churn": churn, "sixty_four": sixty_four, "simulation": simulation}
