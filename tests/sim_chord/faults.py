"""What befalls a ring, one thing at a time."""

from tests.sim_chord import chord


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
