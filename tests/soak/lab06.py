"""Attacks on lab 6: chaos under eight writers, idle minutes on a busy machine, many seeds."""

import contextlib
import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from tests.lab06.cluster import TROUBLED, Cluster
from tests.sim_raft_core.cluster import violation
from tests.soak.clients import Client
from tests.support.harness import pass_time, wait_until
from tests.support.linearizability import FOREVER, Operation, is_linearizable
from tests.support.processes import spawning
from tests.support.relays import TcpRelay

CALL_TIMEOUT = 1.0  # s for an answer; the outcome of a write is open then
KEYS = 4  # in use at a time
KEY_LIFE = 2.0  # s until others are used


class Writer(Client):
    """Writes and reads common keys at any server, and notes what it saw and when."""

    def __init__(self, cluster, number):
        self.cluster = cluster
        super().__init__(number, KEY_LIFE)

    def once(self, count, generation):
        key = f"{generation} {self.chance.randrange(KEYS)}"
        server = self.chance.randrange(len(self.cluster.ports))
        if self.chance.random() < 0.5:
            self.write(server, key, f"{self.number}-{count}")
        else:
            self.read(server, key)
        self.stopping.wait(0.01)

    def write(self, server, key, value):
        called = time.monotonic()
        done = self.cluster.setval(server, key, value, CALL_TIMEOUT)
        returned = time.monotonic() if done else FOREVER
        self.history.append(Operation("write", key, value, called, returned))

    def read(self, server, key):
        """Read; only what a leader has confirmed is never out of date."""
        called = time.monotonic()
        reply = self.cluster.getval(server, key, CALL_TIMEOUT)
        if not reply or not reply.confirmed:
            return False
        value = reply.value if reply.success else None
        self.history.append(Operation("read", key, value, called, time.monotonic()))
        return True


class Chaos:
    """What befalls a cluster: one thing after the other, never to a majority for long."""

    def __init__(self, cluster, seed):
        self.cluster = cluster
        self.chance = random.Random(seed)
        self.counts: Counter = Counter()
        self.slowest = 0.0  # s until a majority had a leader again

    def once(self):
        faults = ["kill", "kill", "stop", "suspend", "part", "kill all", "slow disk"]
        what = self.chance.choice(faults)
        self.counts[what] += 1
        victim = self.chance.randrange(len(self.cluster.servers))
        if self.chance.random() < 0.6:
            victim = self.cluster.leader(timeout=60)
        if what == "part":
            self.cluster.isolate(victim)
            mend = lambda: self.cluster.heal(self.chance.random() < 0.5)  # noqa: E731
        elif what == "slow disk":
            sync = self.cluster.folders[victim] / "sync"
            sync.write_text(str(self.chance.uniform(0.05, 0.4)))
            mend, victim = sync.unlink, None
        elif what == "kill all":
            for server in self.cluster.servers:
                server.kill()
            for n in range(len(self.cluster.servers)):
                self.cluster.start(n)
            mend, victim = (lambda: None), None
        else:
            mend = self.cluster.break_down(victim, what)
        begun = time.monotonic()
        wait_until(lambda: self.is_led(other_than=victim), f"a leader after {what!r}", 60)
        self.slowest = max(self.slowest, time.monotonic() - begun)
        pass_time(self.chance.uniform(0, 2))
        mend()
        pass_time(self.chance.uniform(0, 1))

    def is_led(self, other_than):
        """Tell whether one of the others leads them, whatever term a cut-off server is in."""
        states = [state for n, state in enumerate(self.cluster.states()) if n != other_than]
        return ("leader", max(term for _, term in states)) in states


def leaders_by_term(scripts) -> dict[int, set[str]]:
    """Return by term the servers that have said that they lead, of all that have ever run."""
    found = defaultdict(set)
    for script in scripts:
        for line in script.lines:
            if line.startswith("I am a leader. Term: "):
                found[int(line.rpartition(" ")[2])].add(script.name)
    return found


def chaos(scale):
    with contextlib.ExitStack() as stack:
        spawn = stack.enter_context(spawning())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def relay(port):
            return stack.enter_context(TcpRelay(port))

        cluster = Cluster(spawn, folder, 3, "--data-dir", "data", relay=relay, script=TROUBLED)
        cluster.leader()
        chaos = Chaos(cluster, seed=6)
        writers = [Writer(cluster, number) for number in range(8)]
        end = time.monotonic() + 600 * scale
        try:
            while time.monotonic() < end:
                chaos.once()
        finally:
            for writer in writers:
                writer.stop()
        cluster.followers()
        by_key = defaultdict(list)
        for operation in itertools.chain(*(writer.history for writer in writers)):
            by_key[operation.key].append(operation)
        reader = writers[0]
        for key in list(by_key):  # all that was acknowledged is there
            wait_until(lambda key=key: reader.read(cluster.leader(), key), f"an answer about {key}")
            by_key[key].append(reader.history[-1])
        leaders = leaders_by_term(spawn.scripts)
        assert all(len(names) == 1 for names in leaders.values()), leaders
        for script in spawn.scripts:
            assert script.err == "", script.transcript()
    for key, history in by_key.items():
        shown = "\n".join(map(str, sorted(history, key=lambda operation: operation.called)))
        assert is_linearizable(history), f"{key}:\n{shown}"
    history = list(itertools.chain(*by_key.values()))
    done = sum(op.kind == "write" and op.returned < FOREVER for op in history)
    undecided = sum(op.returned == FOREVER for op in history)
    faults = ", ".join(f"{count} {what}" for what, count in sorted(chaos.counts.items()))
    return (
        f"{done} writes acknowledged and {undecided} not, {len(history) - done - undecided} reads, "
        f"0 lost or wrong; {len(leaders)} terms with one leader each; {faults}; "
        f"a leader again after {chaos.slowest:.1f} s at most"
    )


def idle(scale):
    """Count the needless elections while other processes keep both processors busy."""
    with contextlib.ExitStack() as stack:
        spawn = stack.enter_context(spawning())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = Cluster(spawn, folder, 3)
        cluster.followers()
        before = sum(server.out.count("I am a candidate") for server in cluster.servers)
        for _ in range(2):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        end = time.monotonic() + 600 * scale
        while time.monotonic() < end:
            assert all(server.running for server in cluster.servers)
            pass_time(1)
        elections = sum(server.out.count("I am a candidate") for server in cluster.servers)
        term = max(term for _, term in cluster.states())
        cluster.leader()
        assert all(len(names) == 1 for names in leaders_by_term(spawn.scripts).values())
    return f"{elections - before} needless elections in {600 * scale:.0f} s, now in term {term}"


def kills(scale):
    seeds = range(200_000, 200_000 + max(1, round(100_000 * scale)))
    found = [text for seed in seeds if (text := violation(seed))]
    assert not found, "\n".join(found)
    return f"{len(seeds)} simulated clusters, 0 violations"


def growth(scale):
    """A million commands over 100 keys leave little in memory and on disk, and a quick start."""
    count = round(1_000_000 * scale)
    with tempfile.TemporaryDirectory() as name:
        script = [sys.executable, "-m", "tests.soak.lab06_growth", name, str(count)]
        figures = subprocess.run(script, check=True, capture_output=True, text=True).stdout.split()
        memory, disk, seconds = map(float, figures)
    assert memory < 9, f"{memory} MB of memory"  # a server that has just started needs 51
    assert disk < 5, f"{disk} MB on disk"
    assert seconds < 1, f"{seconds} s to start again"
    return f"{count} commands: {memory:.1f} MB more, {disk:.1f} MB on disk, start {seconds:.2f} s"


ATTACKS = {"chaos": chaos, "idle": idle, "kills": kills, "growth": growth}
