"""Where the labs are, how to load a file of one, and how to wait for a fact or let time pass."""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
LABS = [
    "lab01_udp",
    "lab02_tcp_threads",
    "lab03_zmq",
    "lab04_grpc",
    "lab05_chord",
    "lab06_raft",
]
PATIENCE = 20.0  # s: how long a fact may take on a busy machine before a test gives up on it
LOSSY = "LABS_LOSSY" in os.environ  # `make test-lossy`: loopback loses packets


class Failure(AssertionError):
    """A fact did not come true; the message shows what the process printed."""


def wait_until(fact: Callable[[], object], what: str = "", timeout: float = PATIENCE):
    """Return the first truthy value of `fact()`; raise Failure after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := fact()):
        if time.monotonic() > deadline:
            raise Failure(f"not within {timeout:g} s: {what or fact}")
        time.sleep(0.01)
    return value


def pass_time(seconds: float) -> None:
    """Let time pass in a scene whose length is the point; never use it to wait for a fact."""
    time.sleep(seconds)


_loaded: dict[Path, dict[str, ModuleType]] = {}  # by folder and name


def load(path: Path) -> ModuleType:
    """Import a file of a lab by its path, and its neighbours as its folder sees them, each once."""
    folder, name = path.parent, path.stem
    loaded = _loaded.setdefault(folder, {})
    if name not in loaded:
        for file in folder.glob("*.py"):  # another lab may have files of the same name
            sys.modules.pop(file.stem, None)
        sys.modules.update(loaded)
        sys.path.insert(0, str(folder))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # scripts hold back what ends them
        try:
            importlib.import_module(name)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            sys.path.remove(str(folder))
        names = {file.stem for file in folder.glob("*.py")} & sys.modules.keys()
        loaded.update({other: sys.modules[other] for other in names})
    return loaded[name]
