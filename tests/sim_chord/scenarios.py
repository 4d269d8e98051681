"""What befalls a ring, and in which mixture."""

import traceback

from tests.sim_chord import chord
from tests.sim_chord.world import World

KEYS = ["Kazan", "Moscow", "Minsk", "Innopolis", "", "key 6"]
QUIET = {"delay": (0.001, 0.005)}
BAD = {"delay": (0.001, 0.2), "loss": 0.01}
WORST = {"delay": (0.001, 0.3), "loss": 0.06}


def play(
    seed,
    faults,
    network,
    nodes=6,
    m=5,
    length=30.0,
    every=1.0,
    clients=4,
    keys=KEYS,
    pause=0.3,
    rings=1,
    look=lambda world: None,
):
    """Run rings under clients, with a random one of `faults` every so often; then check all.

    `look` is given the first ring before anything happens.
    """
    world = World(seed, m, **network)
    look(world)
    for _ in range(1, rings):
        World(seed, m, beside=world)
    try:
        for ring in world.rings:
            for _ in range(nodes):
                ring.start_node()
        world.run(10)
        for ring in world.rings:
            for _ in range(clients):
                ring.client(keys, pause, until=10 + length)
        while world.sim.now < 10 + length:
            world.run(world.sim.now + world.random.uniform(0, 2 * every))
            ring = world.random.choice(world.rings) if rings > 1 else world
            world.random.choice(faults)(ring)
        world.calm_down()
        for ring in world.rings:
            ring.check_ring()
            if not ring.beyond:
                ring.check_history(keys)
    finally:
        for ring in world.rings:
            ring.close()
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


def cut(world):
    """Lose what a process of the ring sends to the others, or what it is sent, or both."""
    processes = [world.registry, *world.nodes(paused=True)]
    if len(processes) > 4:
        chosen, *others = world.random.sample(processes, world.random.choice([2, len(processes)]))
        pairs = [(chosen.address, other.address) for other in others]
        back = [pair[::-1] for pair in pairs]
        pairs = world.random.choice([pairs, back, pairs + back])
        for pair in pairs:
            world.net.cut(*pair)
        world.run(world.sim.now + world.random.choice([0.3, 2, 8]) * world.random.random())
        for pair in pairs:
            world.net.mend(*pair)
        world.run(world.sim.now + world.random.choice([0, 8]))


def cut_off_registry(world):
    """Lose what the registry is sent by all nodes of now, or by some in a row, or all both ways.

    Newcomers reach it all the same. In the meantime nodes leave, or are killed, even all of them.
    """
    nodes = sorted(world.nodes(paused=True), key=lambda process: process.rules.place.id)
    if world.copies_lost or not nodes:
        return
    count = world.random.choice([len(nodes), world.random.randint(1, len(nodes))])
    first = world.random.randrange(len(nodes))
    nodes = (nodes + nodes)[first : first + count]
    pairs = [(process.address, world.registry.address) for process in nodes]
    pairs += world.random.choice([[], [pair[::-1] for pair in pairs]])
    for pair in pairs:
        world.net.cut(*pair)
    for _ in range(world.random.randint(1, 4)):
        world.run(world.sim.now + world.random.uniform(0, 5))
        world.random.choice([join, leave, nothing])(world)
    if world.random.random() < 0.03:
        for process in world.nodes(paused=True):
            process.kill()
    world.run(world.sim.now + world.random.choice([0, 8]) * world.random.random())
    for pair in pairs:
        world.net.mend(*pair)
    world.run(world.sim.now + world.random.choice([0, 8]))


def take_over_a_port(world):
    """Start a node on the port of a node of another ring that was killed."""
    others = [ring for ring in world.rings if ring is not world]
    addresses = [process.address for ring in others for process in ring.started_nodes]
    dead = [address for address in addresses if not world.processes[address].alive]
    if dead:
        world.start_node(world.random.choice(dead))


def kill_and_take_over(world):
    """Kill a node, and start one of another ring on its port before it is missed."""
    crash_soon(world)
    world.run(world.sim.now + world.random.uniform(0, 3))
    take_over_a_port(world.random.choice([ring for ring in world.rings if ring is not world]))
    world.run(world.sim.now + 8)


def crash_soon(world):
    if len(nodes := world.nodes()) > 3:
        world.random.choice(nodes).kill()


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


# name -> the faults and the arguments of `play`
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
    "one-way cuts": ([cut, cut, join, leave], {"network": QUIET, "nodes": 7, "every": 0.6}),
    "a registry cut off": ([cut_off_registry, join, leave], {"network": QUIET, "length": 40}),
    "slow transfers": (
        [join, leave, crash_two, hang],
        {"network": {**QUIET, "delay_of_each": 0.1}, "nodes": 7, "every": 0.6},
    ),
    "two rings": (
        [kill_and_take_over, take_over_a_port, join, leave],
        {"network": QUIET, "nodes": 5, "rings": 2, "clients": 3},
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
                drawn = f'make sim-picture LAB=5 SEED={seed} SCENARIO="{name}"'
                print(f"{name}, seed {seed}: {found}: {drawn}", flush=True)
                failures += 1
    return len(seeds) * len(names), failures, beyond
