"""Lab 5 in virtual time: whole rings, run by the very rules that Node.py and Registry.py run, with
nodes that join, leave, crash and hang, a registry that is killed, a bad network and clients.

The oracle is a plain dictionary: for every key there must be an order of all operations on it,
each within its own begin and end, in which a dictionary would have given the same answers. An
operation that got no answer may stand anywhere after its beginning, or nowhere.
"""

import functools
import inspect
import math
import sys

import pytest

from tests import harness
from tests.simnet import Network, Simulation

pytestmark = pytest.mark.ours

member = harness.load(harness.ROOT / "lab05_chord/member.py")
chord, messages, membership, holder = (
    sys.modules[name] for name in ("chord", "messages", "membership", "holder")
)


# --- coroutines in virtual time ---


class Future:
    """A result to come; `await` it."""

    def __init__(self):
        self.done, self.value, self.error, self.then = False, None, None, []

    def __await__(self):
        if not self.done:
            yield self
        if self.error:
            raise self.error
        return self.value

    def finish(self, value=None, error=None):
        if not self.done:
            self.done, self.value, self.error = True, value, error
            for action in self.then:
                action()


def start(coroutine) -> Future:
    """Run a coroutine until it awaits something, and on whenever that comes."""
    outer = Future()

    def advance():
        try:
            awaited = coroutine.send(None)
        except StopIteration as stop:
            outer.finish(stop.value)
        except messages.Unreachable as error:
            outer.finish(error=error)
        else:
            awaited.then.append(advance)

    advance()
    return outer


class Process:
    """A process of the simulated world, and the Host of what runs in it."""

    def __init__(self, world, address):
        self.world, self.address = world, address
        self.alive, self.paused, self.held = True, False, []
        self.serial, self.calls = 0, {}
        self.rules = None
        world.processes[address] = self
        world.net.attach(address, lambda source, message: self.run(self.receive, message))

    def run(self, action, *args):
        """Do something now, or when the process is no longer paused, or never if it is dead."""
        if self.paused:
            self.held.append((action, *args))
        elif self.alive:
            self.world.at_work = self
            action(*args)

    def resume(self):
        self.paused, held = False, self.held
        self.held = []
        for action, *args in held:
            self.run(action, *args)

    def kill(self):
        self.alive = False
        self.world.net.detach(self.address)
        for other in self.world.processes.values():
            for number, (target, _) in list(other.calls.items()):
                if target == self.address:
                    self.world.sim.after(0.001, functools.partial(other.run, other.fail, number))

    def arc(self):
        """Return what decides which keys this process may serve, or None for no node's."""
        if self.alive and isinstance(self.rules, member.Member) and self.rules.is_member():
            return self.rules.id, self.rules.served_after
        return None

    # what the rules ask for

    def now(self):
        return self.world.sim.now

    def draw(self, low, high):
        return self.world.sim.random.randint(low, high)

    def sleep(self, seconds):
        future = Future()
        self.world.sim.after(seconds, lambda: self.run(future.finish))
        return future

    def call(self, address, method, request, timeout):
        self.serial += 1
        number, future = self.serial, Future()
        self.calls[number] = address, future
        target = self.world.processes.get(address)
        if target is None or not target.alive:
            fail = functools.partial(self.fail, number, messages.Refused())
            self.world.sim.after(0.001, lambda: self.run(fail))
        else:
            message = ("request", self.address, number, method, request)
            self.world.net.send(self.address, address, message)
            self.world.sim.after(timeout, lambda: self.run(self.fail, number))
        return future

    def fail(self, number, error=None):
        if number in self.calls:
            self.calls.pop(number)[1].finish(error=error or messages.Unreachable())

    async def gather(self, *awaitables):
        async def wait(awaitable):
            return await awaitable

        return [await future for future in [start(wait(a)) for a in awaitables]]

    def spawn(self, awaitable):
        self.world.spawned.append(awaitable)
        self.world.sim.after(0, lambda: self.run(start, awaitable))

    def joined(self, id, view):
        pass

    # the wire

    def receive(self, message):
        what, *rest = message
        if what == "reply":
            number, value = rest
            if number in self.calls:
                self.calls.pop(number)[1].finish(value)
        else:
            start(self.answer(*rest))

    async def answer(self, source, number, method, request):
        value = getattr(self.rules, method)(*(request if method == "operate" else (request,)))
        if inspect.isawaitable(value):
            value = await value
        self.world.net.send(self.address, source, ("reply", number, value))


class World:
    """A registry, nodes and clients; `history` holds what the clients saw."""

    def __init__(self, seed, m=5, **network):
        self.seed = seed
        self.sim = Simulation(seed)
        self.random = self.sim.random
        self.net = Network(self.sim, **network)
        self.processes: dict[str, Process] = {}
        self.started_nodes: list[Process] = []
        self.history: list[Operation] = []
        self.spawned = []
        self.at_work: Process | None = None
        self.m = m
        self.key_of = {chord.key_id(str(i), m): str(i) for i in range(500)}  # one key for each id
        self.ports = 0
        self.start_registry()

    def start_registry(self):
        self.registry = Process(self, "registry")
        rules = self.registry.rules = membership.Membership(self.registry, self.m)

        async def run():
            while True:
                await self.registry.sleep(0.1)
                rules.tick()

        start(run())

    def start_node(self):
        self.ports += 1
        process = Process(self, f"node:{self.ports}")
        process.rules = member.Member(process, "node", self.ports, "registry")
        self.started_nodes.append(process)

        async def run():
            while True:
                try:
                    if (await process.rules.join()).id >= 0:
                        break
                except messages.Unreachable:
                    pass
                await process.sleep(0.5)
            await process.rules.run()

        start(run())
        return process

    def stop_node(self, process):
        async def leave():
            await process.rules.leave()
            process.kill()

        start(leave())

    def nodes(self, paused=False):
        """The nodes that live, are in the ring as far as they know, and do not leave."""
        living = (p for p in self.started_nodes if p.alive and p.paused <= paused)
        return [p for p in living if p.rules.is_member()]

    def client(self, keys, pause, until):
        """Run a client that does one random thing after the other."""
        process = Process(self, f"client:{len(self.processes)}")
        self.ports += 1

        async def run():
            while self.sim.now < until:
                await process.sleep(self.random.uniform(0, pause))
                kind = self.random.choice(list(messages.Kind))
                await self.operate(process, kind, self.random.choice(keys))

        start(run())

    async def operate(self, process, kind, key):
        nodes = self.nodes()
        if not nodes:
            return
        entry = self.random.choice(nodes)
        self.ports += 1
        operation = Operation(kind, key, f"text {self.ports}", self.sim.now)
        self.history.append(operation)
        try:
            request = (kind, key, operation.text)
            outcome = await process.call(entry.address, "operate", request, 10)
        except messages.Unreachable:
            return
        if outcome is not None:
            operation.answer(outcome, self.sim.now)

    def run(self, until):
        """Let time pass, checking after every event that no key has two owners."""
        arcs = None
        while self.sim._events and self.sim._events[0][0] <= until:
            self.at_work = None
            self.sim.step()
            if arcs is None:
                arcs = {process: process.arc() for process in self.started_nodes}
                self.check_owners()
            elif self.at_work and arcs.get(self.at_work) != (arc := self.at_work.arc()):
                arcs[self.at_work] = arc  # no event changes another process than the one at work
                self.check_owners()
        self.sim.now = max(self.sim.now, until)

    def check_owners(self):
        members = [p.rules for p in self.nodes(paused=True)]
        for k in self.key_of:
            owners = [r.id for r in members if r.serves(self.key_of[k])]
            assert len(owners) <= 1, f"seed {self.seed}: {owners} all own {k} at {self.sim.now}"

    def close(self):
        """Give up what was spawned and has not begun, as at the death of its process."""
        for coroutine in self.spawned:
            coroutine.close()
        self.spawned.clear()

    def calm_down(self):
        """End all faults and wait until the ring is whole again."""
        self.net.calm()
        for process in self.processes.values():
            if process.paused:
                process.resume()
        if not self.registry.alive:
            self.start_registry()
        self.run(self.sim.now + 40)  # a lost answer to "register" is missed after 15 s

    def check_ring(self):
        """In peace: one view, all settled, every record with its holders and nobody else."""
        where = f"seed {self.seed}"
        view = self.registry.rules.view
        members = [p.rules for p in self.nodes()]
        assert {r.id for r in members} == set(view.ids), where
        assert self.registry.rules.all_settled(), where
        for rules in members:
            assert rules.view == view, where
            for k, key in self.key_of.items():
                assert rules.serves(key) == (view.successor(k).id == rules.id), where
            for key, record in rules.records.items():
                holders = [node.id for node in view.holders(chord.key_id(key, self.m))]
                assert rules.id in holders, f"{where}: {key} is also on {rules.id}"
                for other in members:
                    if other.id in holders:
                        assert other.records.get(key) == record, f"{where}: {key} on {other.id}"

    def check_history(self, keys):
        """Ask for every key through every node, then compare all with a dictionary."""
        process = Process(self, "checker")

        async def ask():
            for key in keys:
                for _ in range(3):
                    before = len(self.history)
                    await self.operate(process, messages.Kind.GET, key)
                    assert self.history[before].end < math.inf, f"seed {self.seed}: no answer"

        done = start(ask())
        self.run(self.sim.now + 30)
        assert done.done, f"seed {self.seed}: the last questions were not answered"
        for key in keys:
            operations = [o for o in self.history if o.key == key]
            assert linearizable(operations), (
                f"seed {self.seed}: no dictionary would answer so about {key}:\n"
                + "\n".join(map(str, operations))
            )


# --- the oracle ---


class Operation:
    """One operation as its client saw it."""

    def __init__(self, kind, key, text, begin):
        self.kind, self.key, self.text, self.begin = kind, key, text, begin
        self.end, self.success, self.got = math.inf, None, None

    def answer(self, outcome, now):
        self.end, self.success, self.got = now, outcome.success, outcome.text

    def __str__(self):
        result = "no answer" if self.success is None else f"{self.success} {self.got}"
        return f"{self.begin:8.3f} {self.end:8.3f} {self.kind.name} {self.text}: {result}"

    def apply(self, state):
        """Return the state of the key afterwards, or `...` if it would have been answered other."""
        kind, present = self.kind, state is not None
        success = not present if kind is messages.Kind.SAVE else present
        if self.success is not None and self.success != success:
            return ...
        if kind is messages.Kind.GET and success and self.got != state:
            return ...
        if not success or kind in (messages.Kind.FIND, messages.Kind.GET):
            return state
        return self.text if kind is messages.Kind.SAVE else None


def linearizable(operations) -> bool:
    """Search for an order that explains all answers (Wing and Gong; states seen are not redone)."""
    reads = (messages.Kind.FIND, messages.Kind.GET)
    operations = [o for o in operations if o.success is not None or o.kind not in reads]
    seen = set()
    todo = [(frozenset(range(len(operations))), None)]
    while todo:
        left, state = todo.pop()
        if (left, state) in seen:
            continue
        seen.add((left, state))
        if all(operations[i].success is None for i in left):
            return True
        earliest_end = min(operations[i].end for i in left)
        for i in left:
            if operations[i].begin <= earliest_end:
                after = operations[i].apply(state)
                if after is not ...:
                    todo.append((left - {i}, after))
    return False


# --- the tests ---

KEYS = ["Kazan", "Moscow", "Minsk", "Innopolis", "", "key 6"]
QUIET = {"delay": (0.001, 0.005)}
BAD = {"delay": (0.001, 0.2), "loss": 0.01}


def play(seed, faults, network, nodes=6, m=5, length=30.0, every=1.0, clients=4, keys=KEYS):
    """Run a ring under clients, with a random one of `faults` every so often; then check all."""
    world = World(seed, m, **network)
    for _ in range(nodes):
        world.start_node()
    world.run(10)
    for _ in range(clients):
        world.client(keys, pause=0.3, until=10 + length)
    while world.sim.now < 10 + length:
        world.run(world.sim.now + world.random.uniform(0, 2 * every))
        world.random.choice(faults)(world)
    world.calm_down()
    world.check_ring()
    world.check_history(keys)
    world.close()
    return world


def join(world):
    if len(world.nodes()) < 2**world.m:
        world.start_node()


def leave(world):
    nodes = world.nodes()
    if len(nodes) > 2:
        world.stop_node(world.random.choice(nodes))


def nothing(world):
    pass


def crash(world, at_most=1):
    """kill -9 one node or two, and give the ring time to heal."""
    nodes = world.nodes(paused=True)
    for process in world.random.sample(
        nodes, min(len(nodes) - 3, world.random.randint(1, at_most))
    ):
        process.kill()
    world.run(world.sim.now + 8)


def crash_two(world):
    if len(world.nodes()) > 4:
        crash(world, at_most=2)


def hang(world):
    """SIGSTOP a node, for long enough to be taken for dead or not."""
    nodes = world.nodes()
    if len(nodes) > 3:
        process = world.random.choice(nodes)
        process.paused = True
        world.sim.after(world.random.uniform(0.5, 6), process.resume)
        world.run(world.sim.now + 8)


def kill_registry(world):
    if world.registry.alive:
        world.registry.kill()
        world.sim.after(world.random.uniform(0.1, 8), world.start_registry)
        world.run(world.sim.now + 9)


SEEDS = range(25)


@pytest.mark.parametrize("seed", SEEDS)
def test_joins_and_leaves_under_load_lose_and_double_nothing(seed):
    play(seed, [join, leave], QUIET, every=0.3, length=15)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bad_network_loses_nothing(seed):
    play(seed, [join, leave, nothing], BAD)


@pytest.mark.parametrize("seed", SEEDS)
def test_crashes_of_two_at_once_lose_nothing(seed):
    play(seed, [crash_two, join, join, leave], QUIET, nodes=8, length=40)


@pytest.mark.parametrize("seed", SEEDS)
def test_nodes_that_hang_and_come_back_never_answer_out_of_date(seed):
    play(seed, [hang, join, leave], BAD)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_registry_that_is_killed_and_restarted_finds_its_ring_again(seed):
    play(seed, [kill_registry, join, leave], QUIET)


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_at_once_loses_nothing(seed):
    play(seed, [join, leave, crash_two, hang, kill_registry], BAD, nodes=8, length=60, m=4)


@pytest.mark.parametrize("seed", SEEDS)
def test_writes_in_doubt_are_decided_once_and_for_all(seed):
    worst = {"delay": (0.001, 0.3), "loss": 0.06}
    play(seed, [join, leave, hang], worst, every=0.5, clients=6, keys=["Kazan", "Minsk"])


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_removed_keys_stay_removed_when_their_tombstones_are_swept_away(seed, monkeypatch):
    monkeypatch.setattr(holder, "TOMBSTONE_LIFE", 8.0)  # longer than any node hangs
    world = play(seed, [join, leave, hang], QUIET)
    world.run(world.sim.now + 30)
    tombstones = [
        record
        for process in world.nodes()
        for record in process.rules.records.values()
        if record.text is None
    ]
    assert tombstones == []


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_a_ring_of_one_of_two_and_of_all_ids_works(seed):
    for nodes, m in ((1, 3), (2, 3), (8, 3)):
        play(seed, [nothing], QUIET, nodes=nodes, m=m, length=5)
