"""The programs of a benchmark, and where their files are."""

import contextlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import Missing
from tests.support.harness import Failure
from tests.support.processes import Script, running

BARE = Path(__file__).parent / "bare.py"
BARE_GRPC = BARE.with_name("bare_grpc.py")
PEERS = Path(__file__).parent / "peers.py"
MEMORY = Path("/dev/shm")  # Linux's tmpfs


def program(name: str) -> Path:
    """Return the path of an installed program; raise Missing if there is none."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Missing(f"{name} is not installed")
    return Path(path)


def library(name: str) -> Path:
    """Return the script that runs an installed library; raise Missing if there is none."""
    if importlib.util.find_spec(name) is None:
        raise Missing(f"{name} is not installed")
    return PEERS


def serving(stack: contextlib.ExitStack, *command) -> int:
    """Run a server for as long as the stack is open; return the port in its ready line."""
    return stack.enter_context(running(*command)).port()


@contextlib.contextmanager
def folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder for the time of a with statement."""
    with tempfile.TemporaryDirectory(prefix="labs-bench-", dir=parent) as name:
        yield Path(name)


def duration(client: Path | str, *arguments, **options) -> float:
    """Run a client to its end; return the seconds that it prints."""
    with running(client, *arguments, **options) as process:
        seconds = float(process.expect(r"in ([\d.]+) s")[1])
        succeed(process)
        return seconds


def succeed(process: Script) -> None:
    """Wait until a process has ended well; raise Failure if it does not."""
    if process.wait() != 0:
        raise Failure(process.transcript())
