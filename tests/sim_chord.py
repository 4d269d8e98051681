"""Lab 5 in virtual time: whole rings, run by the very rules that Node.py and Registry.py run, with
nodes that join, leave, crash and hang, a registry that is killed, a bad network and clients.

    python -m tests.sim_chord 2000               seeds 0 to 1999 of every scenario
    python -m tests.sim_chord 1 --first 4711     seed 4711 again

The oracle is a plain dictionary: for every key there must be an order of all operations on it,
each within its own begin and end, in which a dictionary would have given the same answers. An
operation that got no answer may stand anywhere after its beginning, or nowhere.
"""

import argparse
import functools
import inspect
import math
import sys
import time
import traceback

from tests import harness
from tests.linearizability import IMPOSSIBLE, search
from tests.simnet import Network, Simulation

chord, member, membership, messages, store, transfer = (
    harness.load(harness.ROOT / f"lab05_chord/{name}.py")
    for name in ("chord", "member", "membership", "messages", "store", "transfer")
)
# A few records are as many to these rings as a million are to a real one.
AMOUNTS = {
    (store, "PAGE"): 2,
    (transfer, "SLICE"): 2,
    (transfer, "FETCHED"): 2,
    (store, "BATCH_BYTES"): 250,
}
for (module, name), amount in AMOUNTS.items():
    setattr(module, name, amount)


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
        self.world.lost(self)
        self.world.net.detach(self.address)
        for other in self.world.processes.values():
            for number, (target, _) in list(other.calls.items()):
                if target == self.address:
                    self.world.sim.after(0.001, functools.partial(other.run, other.fail, number))

    def claim(self):
        """Return what decides which keys this process may serve, or None for no node's."""
        rules = self.rules
        is_node = self.alive and isinstance(rules, member.Member)
        if is_node and rules.place.is_member() and not rules.place.leaving:
            return rules.place.id, rules.place.served_after, rules.place.lease_start
        return None

    # what the rules ask for

    def now(self):
        return self.world.sim.now

    def draw(self, low, high):
        return self.world.sim.random.randint(low, high)

    def draw_identity(self):
        return 1 + self.world.sim.random.getrandbits(62)

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
        elif what == "refusal":
            self.fail(*rest)
        else:
            start(self.answer(*rest))

    async def answer(self, source, number, method, request):
        try:
            value = getattr(self.rules, method)(*(request if method == "operate" else (request,)))
            if inspect.isawaitable(value):
                value = await value
        except messages.WrongRing:
            return self.world.net.send(self.address, source, ("refusal", number))
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
        self.told_to_leave: set[Process] = set()
        self.history: list[Operation] = []
        self.spawned = []
        self.at_work: Process | None = None
        self.copies_lost: set[str] = set()  # nodes gone since the ring was last whole
        self.beyond = False  # more of them than the ring promises to bear
        self.members = ()
        self.m = m
        self.key_of = {chord.key_id(str(i), m): str(i) for i in range(500)}  # one key for each id
        self.arcs: dict[tuple, int] = {}
        self.ports = 0
        self.registry = None
        self.start_registry()

    def start_registry(self):
        """Start the registry, for the first time or again, if there is none."""
        if self.registry and self.registry.alive:
            return
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
        """Press Ctrl-C at a node, for the first time."""
        if process in self.told_to_leave:
            return
        self.told_to_leave.add(process)

        async def leave():
            if not await process.rules.leave():  # no other node is left: the records go with it
                members = process.rules.place.view.members
                others = [node for node in members if node.address != process.address]
                living = [node.id for node in others if self.processes[node.address].alive]
                assert not living, f"seed {self.seed}: it left as the last one, before {living}"
                self.beyond = True
            process.kill()

        start(leave())

    def nodes(self, paused=False):
        """The nodes that live, are in the ring as far as they know, and do not leave."""
        living = (p for p in self.started_nodes if p.alive and p.paused <= paused)
        return [p for p in living if p.rules.place.is_member() and not p.rules.place.leaving]

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
        claims = None
        while self.sim._events and self.sim._events[0][0] <= until:
            self.at_work = None
            self.sim.step()
            self.watch_members()
            if claims is None:
                claims = {process: process.claim() for process in self.started_nodes}
                self.check_owners()
            elif self.at_work and claims.get(self.at_work) != (claim := self.at_work.claim()):
                claims[self.at_work] = claim  # no event changes another than the one at work
                self.check_owners()
        self.sim.now = max(self.sim.now, until)

    # what the ring promises to bear: that two nodes are gone before it is whole again

    def watch_members(self):
        """Count the nodes that are dropped, and see whether the ring is whole again."""
        rules = self.registry.rules
        if not (self.registry.alive and rules.open):
            return
        if rules.view.members != self.members:
            for node in set(self.members) - set(rules.view.members):
                self.lost(self.processes[node.address])
            self.members = rules.view.members
        if self.copies_lost and rules.all_in_sync():
            processes = [self.processes[node.address] for node in self.members]
            if all(process.alive and not process.paused for process in processes):
                self.copies_lost.clear()

    def lost(self, process):
        """Take note that a process, if it is a node, is gone with all its copies."""
        if any(node.address == process.address for node in self.members):
            if not self.handed_over(process.rules):
                self.copies_lost.add(process.address)
            self.beyond |= len(self.copies_lost) > chord.REPLICAS

    def handed_over(self, leaver):
        """Tell whether a node that leaves has given all it had to three others."""
        living = (p.rules for p in self.started_nodes if p.alive and p.rules is not leaver)
        others = [rules for rules in living if rules.place.is_member()]
        enough = min(len(others), chord.REPLICAS + 1)
        return leaver.place.leaving and all(
            sum(store.version_of(o.store.records, key) >= record.version for o in others) >= enough
            for key, record in leaver.store.records.items()
            if leaver.place.holds(key)
        )

    def check_owners(self):
        owned = 0
        for place in (p.rules.place for p in self.nodes(paused=True)):
            if place.serves(self.key_of[place.id]):  # on its arc in any case
                arc = self.owned_by(place)
                assert not owned & arc, (
                    f"seed {self.seed}: two own {owned & arc:b} at {self.sim.now}"
                )
                owned |= arc

    def owned_by(self, place):
        """Return the ids of all keys that a node owns, as the bits of an integer."""
        state = place.id, place.served_after
        if state not in self.arcs:
            self.arcs[state] = sum(1 << k for k, key in self.key_of.items() if place.owns(key))
        return self.arcs[state]

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
        self.start_registry()
        self.run(self.sim.now + 40)  # a lost answer to "register" is missed after 15 s

    def check_ring(self):
        """In peace: one view, all in sync, and every record with its replica set alone."""
        where = f"seed {self.seed}"
        view = self.registry.rules.view
        members = [p.rules for p in self.nodes()]
        assert {r.place.id for r in members} == set(view.ids), where
        assert self.registry.rules.all_in_sync(), where
        for rules in members:
            place = rules.place
            assert place.view == view, where
            for k, key in self.key_of.items():
                assert place.serves(key) == (view.successor(k).id == place.id), where
            for key, record in rules.store.records.items():
                nodes = [node.id for node in view.replica_set(chord.key_id(key, self.m))]
                assert place.id in nodes, f"{where}: {key} is also on {place.id}"
                for other in members:
                    if (id := other.place.id) in nodes:
                        assert other.store.records.get(key) == record, f"{where}: {key} on {id}"

    def check_history(self, keys):
        """Ask for every key through every node, then compare all with a dictionary."""
        process = Process(self, "checker")

        async def ask():
            for key in keys:
                for _ in range(3):
                    before = len(self.history)
                    await self.operate(process, messages.Kind.GET, key)
                    assert self.history[before].returned < math.inf, f"seed {self.seed}: no answer"

        done = start(ask())
        self.run(self.sim.now + 30)
        assert done.done, f"seed {self.seed}: the last questions were not answered"
        for key in keys:
            operations = [o for o in self.history if o.key == key]
            # A question without an answer says nothing.
            told = [o for o in operations if o.success is not None or o.kind in WRITES]
            assert search(told, Operation.apply), (
                f"seed {self.seed}: no dictionary would answer so about {key}:\n"
                + "\n".join(map(str, operations))
            )


# --- the oracle ---


WRITES = (messages.Kind.SAVE, messages.Kind.REMOVE)


class Operation:
    """One operation as its client saw it."""

    def __init__(self, kind, key, text, called):
        self.kind, self.key, self.text, self.called = kind, key, text, called
        self.returned, self.success, self.got = math.inf, None, None

    def answer(self, outcome, now):
        self.returned, self.success, self.got = now, outcome.success, outcome.text

    def __str__(self):
        result = "no answer" if self.success is None else f"{self.success} {self.got}"
        return f"{self.called:8.3f} {self.returned:8.3f} {self.kind.name} {self.text}: {result}"

    def apply(self, state):
        """Return the state of the key afterwards, if a dictionary would have answered so."""
        kind, present = self.kind, state is not None
        success = not present if kind is messages.Kind.SAVE else present
        if self.success is not None and self.success != success:
            return IMPOSSIBLE
        if kind is messages.Kind.GET and success and self.got != state:
            return IMPOSSIBLE
        if not success or kind not in WRITES:
            return state
        return self.text if kind is messages.Kind.SAVE else None


# --- scenarios ---

KEYS = ["Kazan", "Moscow", "Minsk", "Innopolis", "", "key 6"]
QUIET = {"delay": (0.001, 0.005)}
BAD = {"delay": (0.001, 0.2), "loss": 0.01}
WORST = {"delay": (0.001, 0.3), "loss": 0.06}


def play(
    seed, faults, network, nodes=6, m=5, length=30.0, every=1.0, clients=4, keys=KEYS, pause=0.3
):
    """Run a ring under clients, with a random one of `faults` every so often; then check all."""
    world = World(seed, m, **network)
    try:
        for _ in range(nodes):
            world.start_node()
        world.run(10)
        for _ in range(clients):
            world.client(keys, pause, until=10 + length)
        while world.sim.now < 10 + length:
            world.run(world.sim.now + world.random.uniform(0, 2 * every))
            world.random.choice(faults)(world)
        world.calm_down()
        world.check_ring()
        if not world.beyond:
            world.check_history(keys)
    finally:
        world.close()
    return world


def join(world):
    if sum(p.alive for p in world.started_nodes) < 2**world.m:  # a node that comes back has a place
        world.start_node()


def leave(world):
    nodes = world.nodes()
    if len(nodes) > 2:
        world.stop_node(world.random.choice(nodes))


def leave_together(world):
    """Ctrl-C at neighbours in one moment, down to a single node that stays."""
    nodes = sorted(world.nodes(), key=lambda process: process.rules.place.id)
    if len(nodes) > 1:
        first, count = world.random.randrange(len(nodes)), world.random.randint(1, len(nodes) - 1)
        for process in (nodes + nodes)[first : first + count]:
            delay = world.random.choice([0, 0.01, 0.1]) * world.random.random()
            world.sim.after(delay, lambda it=process: world.stop_node(it))


def join_and_leave(world):
    """Ctrl-C at a node in the moment in which another one joins."""
    newcomer, nodes = world.start_node(), world.nodes()
    until = world.sim.now + 5
    while world.sim.now < until and newcomer.rules.place.id < 0:
        world.run(world.sim.now + 0.002)
    if nodes and newcomer.rules.place.id >= 0:
        world.stop_node(world.random.choice(nodes))


def leave_and_crash(world):
    """Kill -9 in the middle of leaving."""
    if len(nodes := world.nodes()) > 3:
        process = world.random.choice(nodes)
        world.stop_node(process)
        world.run(world.sim.now + world.random.uniform(0, 0.1))
        if process.alive:
            process.kill()
        world.run(world.sim.now + 8)


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


# name -> the faults and the arguments of `play`
def storm(world):
    """Let something go wrong whatever else is going on, as long as two nodes at most are away."""
    faults = [join, join, storm_registry]
    living = [process for process in world.started_nodes if process.alive]
    away = {p.address for p in living if p.paused or p.rules.place.leaving}
    if len(away | world.copies_lost) < chord.REPLICAS and len(world.nodes()) > 3:
        faults += [leave, leave, storm_crash, storm_hang, storm_hang]
    world.random.choice(faults)(world)


def hang_owner(world):
    """SIGSTOP the owner of the one key, but not for so long that it is taken for dead."""
    for process in world.nodes():
        if process.rules.place.owns("Kazan"):
            process.paused = True
            world.sim.after(world.random.uniform(1.5, 2.9), process.resume)
            world.run(world.sim.now + 3.5)
            return


def storm_crash(world):
    world.random.choice(world.nodes(paused=True)).kill()


def storm_hang(world):
    process = world.random.choice(world.nodes())
    process.paused = True
    world.sim.after(world.random.choice([0.5, 2, 6]) * world.random.random(), process.resume)


def storm_registry(world):
    process = world.registry
    if not process.alive or process.paused:
        return
    if world.random.random() < 0.5:
        process.paused = True
        world.sim.after(world.random.uniform(0, 4), process.resume)
    else:
        process.kill()
        world.sim.after(world.random.uniform(0, 6), world.start_registry)


SCENARIOS: dict[str, tuple[list, dict]] = {
    "joins and leaves": ([join, leave], {"network": QUIET, "every": 0.3, "length": 15}),
    "leaving together": (
        [join, join, leave_together],
        {"network": QUIET, "nodes": 8, "every": 0.5},
    ),
    "leaving while another joins": ([join_and_leave], {"network": QUIET, "nodes": 1, "every": 0.5}),
    "killed while leaving": (
        [join, leave_and_crash, leave],
        {"network": {"delay": (0.001, 0.05)}, "nodes": 7},
    ),
    "a bad network": ([join, leave, nothing], {"network": BAD}),
    "two crashes at once": (
        [crash_two, join, join, leave],
        {"network": QUIET, "nodes": 8, "length": 40},
    ),
    "hanging nodes": ([hang, join, leave], {"network": BAD}),
    "a registry killed and restarted": ([kill_registry, join, leave], {"network": QUIET}),
    "everything": (
        [join, leave, crash_two, hang, kill_registry],
        {"network": BAD, "nodes": 8, "length": 60, "m": 4},
    ),
    "writes in doubt": (
        [join, leave, hang],
        {"network": WORST, "every": 0.5, "clients": 6, "keys": ["Kazan", "Minsk"]},
    ),
    "storm": ([storm], {"network": QUIET, "nodes": 8, "every": 0.6, "length": 40, "m": 4}),
    "many at one key": (
        [hang_owner],
        {
            "network": {"delay": (0.001, 0.02), "loss": 0.02},
            "nodes": 5,
            "clients": 12,
            "keys": ["Kazan"],
            "pause": 0.05,
            "length": 12,
            "m": 4,
        },
    ),
    "storm on one key": (
        [storm],
        {"network": QUIET, "clients": 5, "keys": ["Kazan"], "pause": 0.2, "length": 20, "m": 4},
    ),
}


def scenario(name: str, seed: int) -> World:
    """Play one seed of a scenario; raise AssertionError, naming the seed, if a claim breaks."""
    faults, options = SCENARIOS[name]
    return play(seed, faults, **options)


def run(names: list[str], seeds: range) -> tuple[int, int, int]:
    """Play scenarios, print each failure; return how many runs, failures, and runs beyond."""
    failures = beyond = 0
    for seed in seeds:
        for name in names:
            try:
                beyond += scenario(name, seed).beyond
            except Exception as error:  # rules that raise are a finding too
                where = traceback.extract_tb(error.__traceback__)[-1]
                found = error if isinstance(error, AssertionError) else f"{error!r} in {where}"
                print(f"{name}, seed {seed}: {found}", flush=True)
                failures += 1
    return len(seeds) * len(names), failures, beyond


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="sim_chord", description=__doc__.splitlines()[0])
    parser.add_argument("seeds", type=int, help="how many of each scenario")
    parser.add_argument("--first", type=int, default=0, help="the first one (default 0)")
    parser.add_argument("--only", metavar="WORD", default="", help="scenarios with it in the name")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    names = [name for name in SCENARIOS if args.only in name]
    runs, failures, beyond = run(names, range(args.first, args.first + args.seeds))
    elapsed = time.perf_counter() - start
    print(f"{runs} runs, {failures} failures, {beyond} lost three nodes at once, {elapsed:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
