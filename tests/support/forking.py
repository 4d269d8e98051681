"""Scripts that start without the time that their imports take: the client of fork_server.py.

    Script.fork = staticmethod(forking.popen)

Each worker of pytest has a server of its own. A script is a real child of the worker: it is waited
for, and signalled, by its process id.
"""

import ctypes
import functools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import MARK, OWN

AVAILABLE = sys.platform == "linux" and "LABS_EXEC" not in os.environ
MAX_REQUEST = 100_000  # bytes: what a packet of the socket takes without question
SERVER = Path(__file__).with_name("fork_server.py")
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Process:
    """A started script, with the part of subprocess.Popen's interface that the suite uses."""

    def __init__(self, args: Sequence[str], pid: int, files: Sequence):
        self.args = args
        self.pid = pid
        self.stdin, self.stdout, self.stderr = files
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        """Return the exit status; raise TimeoutExpired if it still runs after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)


class ForkServer:
    """The server's process, as its one client sees it."""

    def __init__(self):
        # A script is a child of the server's child, which ends at once: this process inherits it.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._socket, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            self._process = subprocess.Popen(
                [sys.executable, str(SERVER), str(far.fileno())],
                pass_fds=[far.fileno()],
                env={**os.environ, **dict([MARK.split("=")])},
                start_new_session=True,  # Ctrl-C ends pytest, and pytest ends this
            )
        OWN.add(self._process.pid)
        self._lock = threading.Lock()

    def start(self, request: bytes, files: Sequence[int]) -> int:
        """Start a script with these three standard streams; return its process id."""
        with self._lock:
            socket.send_fds(self._socket, [request], files)
            pid = int(self._socket.recv(100))
            self._socket.recv(100)  # its parent has ended: it is our child now
        return pid

    def stop(self) -> None:
        self._socket.close()
        self._process.wait()
        OWN.discard(self._process.pid)


_server = functools.cache(ForkServer)  # at the first use


def popen(args, *, cwd, env, preexec_fn, stdin, stdout, stderr, **options):
    """Start a process as subprocess.Popen does, through the fork server where that can be.

    `preexec_fn` is only looked at for being given: the script then controls its terminal.
    """
    request = json.dumps([args[1:], str(cwd), dict(env), preexec_fn is not None]).encode()
    if len(request) > MAX_REQUEST:
        files = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return subprocess.Popen(args, cwd=cwd, env=env, preexec_fn=preexec_fn, **files, **options)
    ours, theirs = [], []
    for file, mode in ((stdin, "wb"), (stdout, "rb"), (stderr, "rb")):
        if file == subprocess.PIPE:
            ends = os.pipe()
            ours.append(open(ends[mode == "wb"], mode, buffering=0))  # noqa: SIM115
            theirs.append(ends[mode != "wb"])
        else:
            ours.append(None)
            theirs.append(os.dup(file))
    try:
        pid = _server().start(request, theirs)
    finally:
        for fd in theirs:
            os.close(fd)
    return Process(args, pid, ours)


def stop() -> None:
    """End the server, if one was started."""
    if _server.cache_info().currsize:
        _server().stop()
        _server.cache_clear()
