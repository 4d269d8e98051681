"""Faults planted in lab 6."""

from tests.mutants import Mutant

TESTS = [
    "tests/test_lab06_core.py",
    "tests/test_lab06_snapshots.py",
    "tests/test_lab06_storage.py",
    "tests/test_lab06_node.py",
    "tests/test_lab06_simulation.py",
    "tests/test_lab06_service.py",
]

RAFT = "lab06_raft/raft.py"
LEADER = "lab06_raft/leader.py"
NODE = "lab06_raft/node.py"
STORAGE = "lab06_raft/storage.py"
SERVER = "lab06_raft/server.py"

MUTANTS = [
    Mutant(
        "a save that fails is ignored",
        NODE,
        "        os._exit(1)",
        "        return",
    ),
    Mutant(
        "a commit returns before the disk has it",
        STORAGE,
        "PRAGMA synchronous = FULL;  ",
        "PRAGMA synchronous = OFF;  ",
    ),
    Mutant(
        "a save is no transaction",
        STORAGE,
        '        self.db.execute("BEGIN")\n        if unsaved.installed:',
        "        if unsaved.installed:",
    ),
    Mutant(
        "there is no write-ahead log",
        STORAGE,
        "PRAGMA journal_mode = WAL; ",
        "PRAGMA journal_mode = MEMORY; ",
    ),
]
