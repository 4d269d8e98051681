"""Faults planted in lab 6: the rules of Raft, and what its driver and its disk promise."""

from tests.mutants.raft import calls, core, server

TESTS = [
    "tests/lab06/test_core.py",
    "tests/lab06/test_replication.py",
    "tests/lab06/test_storage.py",
    "tests/lab06/test_damage.py",
    "tests/lab06/test_snapshots.py",
    "tests/lab06/test_forgetting.py",
    "tests/lab06/test_state_machine.py",
    "tests/lab06/test_log.py",
    "tests/lab06/test_node.py",
    "tests/lab06/test_reads.py",
    "tests/lab06/test_saves.py",
    "tests/lab06/test_watching.py",
    "tests/lab06/test_simulated_servers.py",
    "tests/lab06/test_simulation.py::test_no_seed_violates_a_property_or_loses_what_was_acknowledged",
    "tests/lab06/test_service.py",
    "tests/lab06/test_durability.py",
    "tests/lab06/test_hostile.py",
    "tests/lab06/test_faults.py",
    "tests/lab06/test_client.py",
]

MUTANTS = core.MUTANTS + server.MUTANTS + calls.MUTANTS
