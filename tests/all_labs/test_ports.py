"""The ports that tests take: each once, and by one process only."""

import socket
import subprocess
import sys

from tests.support.harness import ROOT
from tests.support.ports import free_port


def test_free_port_gives_each_port_once_and_to_one_process_only():
    ports = [free_port() for _ in range(500)]
    assert len(set(ports)) == 500
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", ports[0]))
    again = f"print([p for p in {ports} if _ports()._lock(p)])"
    assert python("-c", f"from tests.support.ports import _ports; {again}") == "[]\n"


def python(*arguments):
    """Return the output of another Python, run in the project's root."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
