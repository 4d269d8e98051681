"""A script that the fork server starts cannot tell it from one with an interpreter of its own."""

import json
import os
import signal

import pytest

from tests.support import forking
from tests.support.processes import PYTHON

pytestmark = pytest.mark.skipif(not forking.AVAILABLE, reason="without the fork server")

PROBE = r"""
import atexit, json, os, signal, sys, threading

def stream(file):
    return [file.fileno(), file.isatty(), file.encoding, file.errors, file.line_buffering]

def descriptors():
    return [fd for fd in range(100) if os.path.exists(f"/proc/self/fd/{fd}")]

seen = {
    "name": __name__, "file": __file__, "argv": sys.argv,
    "path": [entry for entry in sys.path if "grpc_tools" not in entry],  # it adds itself
    "cwd": os.getcwd(),
    "main": vars(sys.modules["__main__"]) is globals(),
    "environment": {k: v for k, v in os.environ.items() if k != "_"},
    "session": os.getsid(0) == os.getpid(), "group": os.getpgrp() == os.getpid(),
    "foreground": os.isatty(0) and os.tcgetpgrp(0) == os.getpid(),
    "streams": [stream(s) for s in (sys.stdin, sys.stdout, sys.stderr)],
    "same": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__],
    "descriptors": descriptors(),
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "handlers": [str(signal.getsignal(s))[:20] for s in (2, 1, 15, 13, 17)],
    "umask": os.umask(0o22), "threads": threading.active_count(), "flags": list(sys.flags),
}
print(json.dumps(seen), flush=True)
atexit.register(print, "the end")
threading.Thread(target=lambda: print(sys.stdin.readline())).start()
end = sys.argv[1]
if end == "raise":
    raise ValueError(end)
sys.exit(end if end == "message" else 3)
"""


def story(spawn, path, interpreter, tty: bool, end: str) -> tuple:
    """Return what a script saw, what it printed then, and how it ended."""
    script = spawn(path, end, "é", "", cwd=path.parent, tty=tty, interpreter=interpreter)
    seen = json.loads(script.expect(r"^\{.*\}$")[0])
    script.send("a line")
    status = script.wait()
    printed = [line for line in script.lines if line in ("a line", "the end")]
    return seen, printed, status, (script.err or script.out).splitlines()[-1]


@pytest.mark.parametrize("end", ["exit", "message", "raise"])
@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
def test_a_script_sees_the_same_whether_it_is_forked_or_not(spawn, tmp_path, tty, end):
    path = tmp_path / "probe.py"
    path.write_text(PROBE)
    assert story(spawn, path, None, tty, end) == story(spawn, path, PYTHON, tty, end)


def test_a_forked_script_is_a_child_that_can_be_signalled_and_waited_for(spawn, tmp_path):
    path = tmp_path / "probe.py"
    path.write_text("import time\nprint('here')\ntime.sleep(100)\n")
    script = spawn(path)
    with open(f"/proc/{script.pid}/stat") as file:
        assert int(file.read().rpartition(")")[2].split()[1]) == os.getpid()
    script.signal(signal.SIGTERM)
    assert script.wait() == -signal.SIGTERM
