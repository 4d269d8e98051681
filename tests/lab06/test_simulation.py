"""Lab 6 in virtual time: no fault breaks Figure 3, and every broken rule is found out."""

import pytest

from tests.lab06 import broken
from tests.sim_raft_core.cluster import Cluster, raft, violation

SEEDS = 100
ENOUGH = 5000  # seeds within which a mutant must be found; most take a few dozen


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_no_seed_violates_a_property_or_loses_what_was_acknowledged(first):
    assert [found for seed in range(first, first + 50) if (found := violation(seed))] == []


def test_the_seeds_do_see_elections_and_commits():
    leaders = acknowledged = 0
    for seed in range(20):
        cluster = Cluster(seed)
        cluster.run()
        leaders += len(cluster.properties.leaders)
        acknowledged += len(cluster.acknowledged)
    assert leaders > 40
    assert acknowledged > 200


def test_a_seed_replays_to_the_last_event():
    def history(seed):
        cluster = Cluster(seed)
        cluster.run()
        return cluster.sim.now, cluster.properties.entries, cluster.disks

    assert history(7) == history(7)


def test_two_servers_cut_from_each_other_may_take_turns_and_agree_when_the_cut_is_mended():
    """The rules of the assignment have no PreVote: each of the two may depose the other."""
    clusters = [it for it in map(Cluster, range(40)) if len(it.members) == 3]
    terms = []
    for cluster in clusters:
        cluster.net.calm()
        cluster.sync = cluster.short_lived = 0
        assert cluster.sim.run_until(cluster._agreed, 5)
        before = len(cluster.properties.leaders)
        cluster.net.cut(0, 1)
        cluster.net.cut(1, 0)
        cluster.sim.run(cluster.sim.now + 10)
        terms.append(len(cluster.properties.leaders) - before)
        cluster.net.heal()
        assert cluster.sim.run_until(cluster._agreed, cluster.sim.now + 5)
    assert 8 <= max(terms) <= 20
    assert sorted(terms)[len(terms) // 2] <= 4  # mostly the one in between leads soon


def first_violation(server_class, property_broken="", amnesia=False):
    found = (violation(seed, server_class, amnesia) for seed in range(ENOUGH))
    return next((text for text in found if text and property_broken in text), None)


@pytest.mark.parametrize(
    ("mutant", "property_broken"),
    [
        (broken.DoubleVote, "Election Safety"),
        (broken.ComparesIndexFirst, "Leader Completeness"),
        (broken.ReadsWithoutAsking, "Linearizability"),
    ],
)
def test_the_simulation_finds_a_server_that(mutant, property_broken):
    assert first_violation(mutant, property_broken)


def test_the_simulation_finds_a_server_that_trusts_every_log_position(monkeypatch):
    log = type(Cluster(0).servers[0].log)
    monkeypatch.setattr(log, "holds", lambda log, index, term: index <= log.last_index)
    assert first_violation(raft.Raft, "Log Matching")


def test_the_simulation_finds_that_a_restart_without_disk_can_vote_twice():
    assert first_violation(raft.Raft, "Election Safety", amnesia=True)
