"""What the attacks on lab 1 share: folders, and uploads with their outcome."""

import contextlib
import os
import re
import tempfile
from pathlib import Path

from tests.lab01.peers import saved
from tests.support.processes import Script

MALFUNCTIONING = r"client\.py: \S+: the server is malfunctioning: it does not acknowledge\b.*\n"
MEMORY = 8 << 20  # bytes by which a process under attack may grow


@contextlib.contextmanager
def folders():
    """Yield a folder for the clients and one for the server, which alone stands in a third one."""
    with tempfile.TemporaryDirectory() as clients, tempfile.TemporaryDirectory() as outside:
        folder = Path(outside) / "folder"
        folder.mkdir()
        yield Path(clients), folder
        assert os.listdir(outside) == ["folder"], "a file outside the server's folder"


def outcome(client: Script, source: Path, copy: Path) -> bool:
    """Wait for an upload; return whether it has succeeded, raise if it is neither right nor not."""
    status = client.wait(120)
    assert saved(copy) in (None, source.read_bytes()), f"a wrong file: {client.transcript()}"
    if status == 0:
        assert copy.exists(), f"acknowledged and not saved: {client.transcript()}"
    else:
        clear = status == 1 and re.fullmatch(MALFUNCTIONING, client.err)
        assert clear, f"no clear end: {client.transcript()}"
    return status == 0
