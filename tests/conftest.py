"""Fixtures of the whole suite, and the proof that it leaves nothing behind (on Linux)."""

import collections
import random
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest

from tests.support import forking, namespaces
from tests.support.harness import LABS, ROOT, wait_until
from tests.support.processes import STATE, Script, leftovers, spawning

# The files whose tests take long, mostly by waiting.
LONG = (
    "all_labs/test_demo.py",
    "lab01/test_client.py",
    "lab01/test_disk.py",
    "lab01/test_files.py",
    "lab01/test_hostile.py",
    "lab01/test_network.py",
    "lab01/test_scripts.py",
    "lab02/test_crowds.py",
    "lab05/test_clients.py",
    "lab05/test_faults.py",
    "lab05/test_leaving.py",
    "lab05/test_scripts.py",
    "lab06/test_client.py",
    "lab06/test_durability.py",
    "lab06/test_faults.py",
    "lab06/test_hostile.py",
    "lab06/test_linearizability.py",
    "lab06/test_network.py",
    "lab06/test_page.py",
    "lab06/test_scripts.py",
    "lab06/test_service.py",
    "lab06/test_watch.py",
)


def pytest_collection_modifyitems(config, items):
    # xdist gives each worker one contiguous piece. Mix tests that wait with tests that compute,
    # and put no long test at the end.
    if workers := getattr(config, "workerinput", {}).get("workercount"):
        chance = random.Random(0).random
        moments = collections.defaultdict(
            chance
        )  # tests of a file that share a ring or browser run together

        def moment(item):
            path = item.path.as_posix()
            shared = path.endswith(("watch.py", "page.py"))
            return (moments[path] if shared else chance()) * (0.6 if path.endswith(LONG) else 1)

        items.sort(key=moment)
        items[:] = [item for first in range(workers) for item in items[first::workers]]


@pytest.fixture(scope="session")
def labs() -> Path:
    """Return the folder that holds the six lab folders."""
    return ROOT


@pytest.fixture
def spawn(request, labs):
    """Start scripts: `spawn("lab01_udp/server.py", 0)`. All of them end with the test."""
    with spawning(labs) as start:
        request.node.scripts = start.scripts
        yield start


@pytest.fixture
def patched(tmp_path_factory):
    """Return the environment of a script that runs some code before its own."""

    def environment(code):
        # In a new folder: an edit within the same second would not be compiled anew.
        folder = tmp_path_factory.mktemp("patch")
        (folder / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": str(folder)}

    return environment


@pytest.fixture
def spawn_after(spawn, tmp_path_factory):
    """Start scripts whose process runs some code first: `spawn_after("os.close(1)", script)`."""

    def start(code, script, *arguments, **options):
        first = tmp_path_factory.mktemp("first") / "first.py"
        first.write_text(f"import os, sys\n{code}\nos.execv(sys.executable, sys.argv[1:])\n")
        return spawn(first, sys.executable, ROOT / script, *arguments, **options)

    return start


@pytest.fixture
def network(spawn):
    """A network of several hosts, see namespaces.py; its scripts end before it does."""
    try:
        network = namespaces.Network()
    except namespaces.Unavailable as reason:
        pytest.skip(str(reason))
    with network:
        yield network


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for script in getattr(item, "scripts", []):
            report.sections.append(("process", script.transcript()))
    return report


if forking.AVAILABLE:
    Script.fork = staticmethod(forking.popen)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind():
    """After the last test: no process of ours, thread, file in a lab's folder or blocked signal."""
    threads = set(threading.enumerate())
    files = set(_lab_files())
    yield
    forking.stop()
    shutil.rmtree(STATE, ignore_errors=True)
    assert leftovers() == []
    held_back = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # scripts inherit it
    assert not held_back & {signal.SIGINT, signal.SIGTERM}
    wait_until(lambda: set(threading.enumerate()) <= threads, "threads to end", 5)
    assert set(_lab_files()) <= files


def _lab_files() -> list[Path]:
    found = [file for lab in LABS for file in (ROOT / lab).rglob("*")]
    return [file for file in found if "__pycache__" not in file.parts]
