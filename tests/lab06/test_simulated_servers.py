"""Lab 6's servers in virtual time: clients see one register, whatever befalls servers and disks."""

import contextlib
import subprocess
import sys

import pytest

from tests.sim_raft_servers.cluster import Cluster
from tests.sim_raft_servers.faults import run, violation
from tests.support.harness import ROOT

SEEDS = 100


def history(seed: int) -> list:
    return [operation for client in run(seed).clients for operation in client.history]


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_no_seed_violates_a_property_or_answers_unlike_one_register(first):
    assert [found for seed in range(first, first + 25) if (found := violation(seed))] == []


def test_the_seeds_do_see_elections_snapshots_writes_and_confirmed_reads():
    leaders = compacted = writes = reads = 0
    for seed in range(20):
        cluster = run(seed)
        leaders += len(cluster.leaders)
        compacted += any(disk.load().snapshot.index for disk in cluster.disks.values())
        answers = [operation for client in cluster.clients for operation in client.history]
        writes += sum(op.kind == "write" and op.returned < float("inf") for op in answers)
        reads += sum(op.kind == "read" for op in answers)
    assert (leaders > 40, compacted > 8, writes > 200, reads > 80) == (True,) * 4


def test_a_seed_replays_to_the_last_answer_in_another_process():
    code = "from tests.lab06.test_simulated_servers import history; print(history(3))"
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert there.stdout == f"{history(3)}\n"


# Scenes: one fault at a time


@contextlib.contextmanager
def led(seed: int, **limits):
    """Yield a cluster with a leader that all follow, and the leader's id."""
    cluster = Cluster(seed)
    cluster.limits = cluster.limits._replace(waiting_entries=100, **limits)
    with cluster.simulated():
        cluster.begin(clients=6, until=0.0)
        cluster.wait(cluster.agreed, 3.0, "no leader")
        (leader,) = (member for member, process in cluster.processes.items() if process.leads)
        yield cluster, leader


def followers(cluster: Cluster, leader: int) -> list:
    return [process for member, process in cluster.processes.items() if member != leader]


def writes(cluster: Cluster, member: int, keys: str) -> list:
    """Let one client for each key set it at a server; return the tasks."""
    return [
        cluster.world.outside.create_task(client.write(key, 5.0, client.stubs[member]))
        for client, key in zip(cluster.clients, keys, strict=False)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_a_follower_that_stood_still_starts_no_election(seed):
    with led(seed) as (cluster, leader):
        for _ in range(4):
            follower = cluster.pick(*followers(cluster, leader))
            follower.loop.pause()
            cluster.advance(cluster.random.uniform(0.17, 0.33))
            follower.loop.go_on()
            cluster.advance(0.4)
        assert list(cluster.leaders.values()) == [leader]


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_that_stood_still_sends_its_heartbeats_at_once(seed):
    with led(seed) as (cluster, leader):
        cluster.processes[leader].loop.pause()
        cluster.advance(0.09)  # its timer is late, but no follower's has run out
        before = [follower.raft.deadline for follower in followers(cluster, leader)]
        cluster.processes[leader].loop.go_on()
        cluster.advance(0.002)  # a heartbeat takes 1 ms
        after = [follower.raft.deadline for follower in followers(cluster, leader)]
        assert all(new > old for old, new in zip(before, after, strict=True))
        assert list(cluster.leaders.values()) == [leader]


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_whose_disk_is_slow_goes_on_leading(seed):
    with led(seed) as (cluster, leader):
        cluster.disks[leader].slowest = 0.5
        for _ in range(5):
            tasks = writes(cluster, leader, "abc")
            cluster.wait(lambda tasks=tasks: all(task.done() for task in tasks), 3.0, "no answer")
        assert list(cluster.leaders.values()) == [leader]


@pytest.mark.parametrize("seed", range(5))
def test_commands_at_a_leader_without_followers_are_done_when_a_majority_is_back(seed):
    with led(seed) as (cluster, leader):
        for follower in followers(cluster, leader):
            follower.loop.pause()
        writes(cluster, leader, "abcd")
        cluster.advance(3.0)  # longer than the leader lets them wait
        for follower in followers(cluster, leader):
            follower.loop.go_on()
        values = lambda: [process.raft.values for process in cluster.processes.values()]  # noqa: E731
        everywhere = lambda: all(set("abcd") <= set(held) for held in values())  # noqa: E731
        cluster.wait(everywhere, 0.3, "a command is lost")


@pytest.mark.parametrize("seed", range(5))
def test_a_command_passed_on_to_a_leader_that_hangs_goes_to_the_next_one(seed):
    with led(seed) as (cluster, leader):
        cluster.processes[leader].loop.pause()
        begun = cluster.world.now
        member = followers(cluster, leader)[0].member
        (task,) = writes(cluster, member, "a")  # of a client with a session
        cluster.wait(task.done, 2.5, "no answer")
        assert task.result() is not None
        assert cluster.world.now - begun < 1.5


@pytest.mark.parametrize("seed", range(10))
def test_a_follower_keeps_no_half_of_a_snapshot_whose_leader_dies_while_it_sends_it(seed):
    with led(seed, batch_size=1, snapshot_after=3) as (cluster, leader):  # each piece is one value
        member = followers(cluster, leader)[0].member
        cluster.kill(member)
        for _ in range(3):
            tasks = writes(cluster, leader, "abcdef")
            cluster.wait(lambda tasks=tasks: all(task.done() for task in tasks), 3.0, "no answer")
        cluster.start(member)
        cluster.wait(lambda: cluster.processes[member].is_started, 0.1, "no start")
        behind = cluster.processes[member].raft
        half = lambda: behind._incoming and behind._incoming.offset == 3  # noqa: E731
        cluster.wait(half, 3.0, "no piece of a snapshot")
        values, term = dict(cluster.processes[leader].raft.values), behind.current_term
        cluster.kill(leader)
        cluster.wait(lambda: behind.current_term > term, 3.0, "no election")
        assert (behind._incoming, behind.values) == (None, {})
        saved = lambda: cluster.disks[member].load().snapshot.values  # noqa: E731
        cluster.wait(saved, 3.0, "no snapshot of the next leader")
        assert saved() == behind.values == values
