"""Lab 6's servers in virtual time: clients see one register, whatever befalls servers and disks."""

import subprocess
import sys

import pytest

from tests.harness import ROOT
from tests.sim.faults import run, violation

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
    code = "from tests.test_lab06_driver import history; print(history(3))"
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert there.stdout == f"{history(3)}\n"
