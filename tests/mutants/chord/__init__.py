"""Faults planted in lab 5: the rules by which a ring loses nothing, and its lookup."""

from tests.mutants.chord import keys, registry, ring

TESTS = [
    "tests/lab05/test_core.py",
    "tests/lab05/test_registry.py",
    "tests/lab05/test_registry_restarts.py",
    "tests/lab05/test_place.py",
    "tests/lab05/test_rules.py",
    "tests/lab05/test_node.py",
    "tests/lab05/test_joining.py",
    "tests/lab05/test_simulation.py",
]

MUTANTS = ring.MUTANTS + keys.MUTANTS + registry.MUTANTS
