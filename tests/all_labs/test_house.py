"""The folders of the labs: each runs alone, imports what it may, and has true copies."""

import ast
import shutil
import sys

import pytest

from tests.all_labs.scripts import SERVERS
from tests.support.harness import LABS, ROOT

CORES = [
    "lab01_udp/messages.py",
    "lab01_udp/stop_and_wait.py",
    "lab05_chord/chord.py",
    "lab05_chord/lookup.py",
    "lab05_chord/member.py",
    "lab05_chord/membership.py",
    "lab05_chord/messages.py",
    "lab05_chord/place.py",
    "lab05_chord/replication.py",
    "lab05_chord/store.py",
    "lab05_chord/sync.py",
    "lab05_chord/transfer.py",
    "lab06_raft/leader.py",
    "lab06_raft/log.py",
    "lab06_raft/protocol.py",
    "lab06_raft/raft.py",
    "lab06_raft/replica.py",
    "lab06_raft/snapshots.py",
    "lab06_raft/state_machine.py",
    "lab06_raft/timeline.py",
]
PURE = {
    *("bisect", "collections", "dataclasses", "enum", "functools", "itertools", "math", "typing"),
    *("abc", "contextlib", "heapq", "operator", "re", "zlib"),
}


# --- Each folder by itself ---


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_copy_of_the_folder_elsewhere_runs_from_anywhere(spawn, script, arguments, tmp_path):
    folder, name = script.split("/")
    copy = shutil.copytree(ROOT / folder, tmp_path / "ailleurs é" / folder)
    process = spawn(copy / name, *arguments, cwd=tmp_path)
    process.port()


@pytest.mark.parametrize("lab", LABS)
def test_no_script_imports_from_outside_its_folder(lab):
    allowed = {
        "lab01_udp": set(),
        "lab02_tcp_threads": set(),
        "lab03_zmq": {"zmq"},
    }.get(lab, {"grpc", "grpc_tools", "google"})
    allowed |= {path.stem for path in (ROOT / lab).glob("*.py")}
    for path in (ROOT / lab).glob("*.py"):
        assert imports(path) - set(sys.stdlib_module_names) <= allowed, path


def imports(path):
    """Return the top-level modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("core", CORES)
def test_a_core_knows_no_socket_thread_clock_chance_or_output(core):
    beside = {path.stem for path in (ROOT / core).parent.glob("*.py")} & {
        path.split("/")[1][:-3] for path in CORES
    }
    assert imports(ROOT / core) <= PURE | beside
    names = {node.id for node in ast.walk(ast.parse((ROOT / core).read_text()))
             if isinstance(node, ast.Name)}  # fmt: skip
    assert not names & {"print", "open", "input", "exec", "eval"}


def test_no_generated_stub_is_kept():
    assert not list(ROOT.glob("lab0*/*_pb2*"))


# --- Deliberate copies ---


@pytest.mark.parametrize(
    "name, labs",
    [("primes.py", 3), ("rpc.py", 3), ("shell.py", 4), ("cli.py", 6), ("web.py", 2)],
)
def test_files_that_stand_in_several_labs_are_identical(name, labs):
    copies = list(ROOT.glob(f"lab0*/{name}"))
    assert len(copies) == labs
    assert len({copy.read_text() for copy in copies}) == 1
