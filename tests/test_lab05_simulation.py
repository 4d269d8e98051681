"""Lab 5 in virtual time: whatever befalls a ring, it answers as one dictionary would."""

import pytest

from tests.sim_chord import QUIET, hang, holder, join, leave, nothing, play, scenario

SEEDS = range(20)


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
def test_everything_at_once_loses_nothing(seed):
    scenario("everything", seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_writes_in_doubt_are_decided_once_and_for_all(seed):
    scenario("writes in doubt", seed)


@pytest.mark.parametrize("seed", SEEDS[:6])
def test_faults_that_overlap_lose_nothing_as_long_as_two_nodes_at_most_are_away(seed):
    scenario("storm", seed)
    scenario("storm on one key", seed)


@pytest.mark.parametrize("seed", SEEDS[:10])
def test_an_operation_that_is_asked_for_again_is_done_once_whatever_came_in_between(seed):
    scenario("many at one key", seed)


@pytest.mark.parametrize("seed", SEEDS)
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


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ring_of_one_of_two_and_of_all_ids_works(seed):
    for nodes, m in ((1, 3), (2, 3), (8, 3)):
        play(seed, [nothing], QUIET, nodes=nodes, m=m, length=5)
