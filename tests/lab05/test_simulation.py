"""Lab 5 in virtual time: whatever befalls a ring, it answers as one dictionary would."""

import os
import subprocess
import sys

import pytest

from tests.sim_chord import messages, store
from tests.sim_chord.faults import hang, join, leave, nothing
from tests.sim_chord.processes import start
from tests.sim_chord.scenarios import QUIET, play, scenario
from tests.sim_chord.world import World
from tests.support.harness import ROOT

SEEDS = range(10)


@pytest.mark.parametrize("seed", SEEDS)
def test_joins_and_leaves_under_load_lose_and_double_nothing(seed):
    scenario("joins and leaves", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bad_network_loses_nothing(seed):
    scenario("a bad network", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_crashes_of_two_at_once_lose_nothing(seed):
    scenario("two crashes at once", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_nodes_that_hang_and_come_back_never_answer_out_of_date(seed):
    scenario("hanging nodes", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_registry_that_is_killed_and_restarted_finds_its_ring_again(seed):
    scenario("a registry killed and restarted", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_cuts_in_one_direction_lose_nothing(seed):
    scenario("one-way cuts", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_transfers_that_take_long_lose_nothing(seed):
    scenario("slow transfers", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_rings_that_use_each_others_ports_never_mix(seed):
    scenario("two rings", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_at_once_loses_nothing(seed):
    scenario("everything", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_writes_in_doubt_are_decided_once_and_for_all(seed):
    scenario("writes in doubt", seed)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_faults_that_overlap_lose_nothing_as_long_as_two_nodes_at_most_are_away(seed):
    scenario("storm", seed)
    scenario("storm on one key", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_operation_that_is_asked_for_again_is_done_once_whatever_came_in_between(seed):
    scenario("many at one key", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_removed_keys_stay_removed_when_their_tombstones_are_swept_away(seed, monkeypatch):
    monkeypatch.setattr(store, "TOMBSTONE_TIMEOUT", 8.0)  # longer than any node hangs
    world = play(seed, [join, leave, hang], QUIET, peace=40)
    tombstones = [
        record
        for process in world.nodes()
        for record in process.rules.store.records.values()
        if record.text is None
    ]
    assert tombstones == []


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_a_ring_of_one_of_two_and_of_all_ids_works(seed):
    for nodes, m in ((1, 3), (2, 3), (8, 3)):
        play(seed, [nothing], QUIET, nodes=nodes, m=m, length=5)


def settled_ring(seed, nodes):
    world = World(seed, **QUIET)
    for _ in range(nodes):
        world.start_node()
        world.run(world.sim.now + 1)
    world.run(world.sim.now + 5)
    return world


def longest_find(world, entries, gone):
    """Ask every entry for a key of each id that is not owned by `gone`; return the longest time."""
    keys = [key for key in world.key_of.values() if not gone.rules.place.owns(key)]
    times = []

    async def ask(entry):
        for key in keys:
            begun = world.sim.now
            outcome = await entry.rules.operate(messages.Kind.FIND, key)
            assert outcome is not None, f"{key} through {entry.rules.place.id}"
            times.append(world.sim.now - begun)

    questions = [start(ask(entry)) for entry in entries]
    while not all(question.done for question in questions):
        world.run(world.sim.now + 0.01)
    return max(times)


@pytest.mark.parametrize("seed", range(5))
def test_a_hung_node_is_gone_around_after_a_third_of_a_second_and_remembered(seed):
    world = settled_ring(seed, 8)
    gone, *entries = world.nodes()
    gone.paused = True
    assert longest_find(world, entries, gone) < 0.5
    assert longest_find(world, entries, gone) < 0.1
    assert gone.rules.place.id in world.registry.rules.view.by_id  # all of this before the verdict
    world.close()


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_is_heard_again_is_asked_again(seed):
    world = settled_ring(seed, 8)
    gone, *entries = world.nodes()
    gone.paused = True
    world.run(world.sim.now + 0.1)
    assert longest_find(world, entries[:1], gone) < 0.5
    gone.resume()
    world.run(world.sim.now + 2)
    assert not any(entry.rules.lookup.silent for entry in entries)
    world.close()


@pytest.mark.parametrize("end", ["kill", "leave"])
@pytest.mark.parametrize("seed", range(3))
def test_without_a_registry_the_keys_behind_a_dead_node_are_found(seed, end):
    world = settled_ring(seed, 6)
    gone, *entries = world.nodes()
    world.registry.kill()
    world.run(world.sim.now + 1)
    if end == "kill":
        gone.kill()
    else:
        world.stop_node(gone)
    world.run(world.sim.now + 2.5)
    assert longest_find(world, entries, gone) < 0.1
    world.close()


REPLAY = """
from tests.sim_chord.scenarios import scenario
world = scenario("a bad network", 4)
print(world.sim.now, *map(str, world.history))
"""


def test_a_seed_replays_in_every_process():
    """Python draws the hashes of strings anew for each, and with them the order of sets."""
    histories = set()
    for seed in "1", "2":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", REPLAY]
        histories.add(subprocess.check_output(command, cwd=ROOT, env=environment, text=True))
    assert len(histories) == 1
