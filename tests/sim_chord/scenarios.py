"""Rings with a mixture of faults each, and how they are played and checked."""

import contextlib
import traceback
from unittest import mock

from tests.sim_chord import store, transfer
from tests.sim_chord.faults import (
    crash_two,
    cut,
    cut_off_registry,
    hang,
    hang_owner,
    join,
    join_and_leave,
    kill_and_take_over,
    kill_registry,
    leave,
    leave_and_crash,
    leave_together,
    nothing,
    storm,
    take_over_a_port,
)
from tests.sim_chord.world import World

KEYS = ["Kazan", "Moscow", "Minsk", "Innopolis", "", "key 6"]
QUIET = {"delay": (0.001, 0.005)}
BAD = {"delay": (0.001, 0.2), "loss": 0.01}
WORST = {"delay": (0.001, 0.3), "loss": 0.06}


@contextlib.contextmanager
def few_records_are_many():
    """Let a few records take as many messages and steps as a million do in a real ring."""
    with (
        mock.patch.multiple(store, PAGE=2, BATCH_BYTES=250),
        mock.patch.multiple(transfer, SLICE=2, FETCHED=2),
    ):
        yield


@few_records_are_many()
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
    peace=5.0,
    look=lambda world: None,
):
    """Run rings under clients, with a random one of `faults` every so often; then check all.

    `look` is given the first ring before anything happens. `peace` is the time in seconds in which
    each node does what its heartbeats ask of it, before the checks.
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
        world.calm_down(peace)
        for ring in world.rings:
            ring.check_ring()
            if not ring.beyond:
                ring.check_history(keys)
    finally:
        for ring in world.rings:
            ring.close()
    return world


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
