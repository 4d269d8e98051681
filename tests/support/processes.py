"""Scripts as processes: how the tests and demo.py start the labs' scripts.

    server = Script(labs / "lab01_udp/server.py", "0", cwd=tmp_path)
    port = server.port()                      # from its ready line
    client = Script(labs / "lab01_udp/client.py", f"127.0.0.1:{port}", "a.bin", "b.bin")
    assert client.wait() == 0

Every process carries MARK in its environment, by which `leftovers` finds even orphans.
"""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import termios
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.support.harness import PATIENCE, ROOT, Failure, wait_until
from tests.support.streams import Stream

PYTHON = (sys.executable,)
OWN: set[int] = set()  # processes that serve the whole run
MARK = f"LABS_TEST_RUN={uuid.uuid4().hex}"
STATE = Path(tempfile.gettempdir()) / MARK  # where clients keep their history


class Script:
    """A lab's script, running as a process of its own.

    Args:
        path: the script. args: its command line, each turned into a string.
        cwd: its working directory; by default the script's folder, as a student would run it.
        tty: give it a terminal (its output is then all in `out`) instead of three pipes.
        env: variables beside the inherited ones.
        deaf: read its stderr only after its end, as careless callers do.
        head: close its stdout after the first line, as `| head -1` does.
        shut: close its stdout before it writes anything, as `| true` does.
        interpreter: what runs the script; () if it is a program of its own. By default it is
            this Python, which a fork server may have started already.
    """

    popen = staticmethod(subprocess.Popen)
    fork: Callable | None = None  # replaces popen if neither interpreter nor env is given

    def __init__(
        self,
        path: Path,
        *args,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        tty: bool = False,
        deaf: bool = False,
        head: bool = False,
        shut: bool = False,
        interpreter: Sequence[str] | None = None,
    ):
        self.command = [*(PYTHON if interpreter is None else interpreter), str(path)]
        self.command += map(str, args)
        name = f"{path.parent.name}/{path.name} {' '.join(map(str, args))}".strip()
        self.name = name.encode("utf-8", "backslashreplace").decode()  # fit to be reported
        self.tty = tty
        key, _, value = MARK.partition("=")
        environment = {**os.environ, key: value}
        environment.pop("PYTHONUNBUFFERED", None)  # would hide that a script does not flush
        environment["XDG_STATE_HOME"] = str(STATE)
        environment |= env or {}
        if tty:
            master, slave = os.openpty()
            files = {"stdin": slave, "stdout": slave, "stderr": slave}
        else:
            pipe = subprocess.PIPE
            files = {"stdin": pipe, "stdout": pipe, "stderr": pipe}
        popen = self.fork if self.fork and interpreter is None and env is None else self.popen
        self.process = popen(
            self.command,
            cwd=cwd or path.parent,
            env=environment,
            start_new_session=True,
            preexec_fn=_take_terminal if tty else None,
            **files,
        )
        self.pid = self.process.pid
        if tty:
            os.close(slave)
            self._stdin = os.dup(master)
            self.out_stream = self.err_stream = Stream(master)
        else:
            self._stdin = os.dup(self.process.stdin.fileno())
            self.process.stdin.close()
            self.out_stream = Stream(self._adopt(self.process.stdout), head)
            self.err_stream = Stream(self._adopt(self.process.stderr))
        if shut:
            os.close(self.out_stream.fd)
            self.out_stream.fd = os.open(os.devnull, os.O_RDONLY)
        self.out_stream.thread.start()
        if not tty and not deaf:
            self.err_stream.thread.start()

    @staticmethod
    def _adopt(pipe) -> int:
        fd = os.dup(pipe.fileno())
        pipe.close()
        return fd

    @property
    def out(self) -> str:
        """All that has come on stdout so far."""
        return self.out_stream.text

    @property
    def err(self) -> str:
        """All that has come on stderr so far."""
        return self.err_stream.text

    @property
    def lines(self) -> list[str]:
        """The lines of stdout so far."""
        return self.out.splitlines()

    def expect(self, pattern: str, timeout: float = PATIENCE) -> re.Match:
        """Wait for the next part of stdout that matches; from a pipe, only in whole lines."""
        return self._expect(self.out_stream, pattern, timeout)

    def expect_err(self, pattern: str, timeout: float = PATIENCE) -> re.Match:
        """Wait for the next part of stderr that matches."""
        return self._expect(self.err_stream, pattern, timeout)

    def _expect(self, stream: Stream, pattern: str, timeout: float) -> re.Match:
        if match := stream.expect(pattern, timeout, whole_lines=not self.tty):
            return match
        if stream.closed:
            with contextlib.suppress(subprocess.TimeoutExpired):  # only this stream is closed
                self.process.wait(1)
        if not self.running:
            status = self.process.returncode
            raise Failure(f"ended with exit status {status}: {self.transcript()}")
        raise Failure(f"{pattern!r} did not come within {timeout:g} s from {self.transcript()}")

    def port(self) -> int:
        """Return the port that the ready line names: the first after a "host:"."""
        return int(self.expect(r"[\w\]]:(\d+)\b")[1])

    def send(self, line: str) -> None:
        """Type a line."""
        self.write(line + "\n")

    def write(self, text: str) -> None:
        """Type text that need not be a line; control characters work on a terminal."""
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(self._stdin, data) :]

    def close_stdin(self) -> None:
        """Give it the end of its input."""
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def signal(self, signum: int) -> None:
        """Send a signal to this very process, if it still runs."""
        self.process.send_signal(signum)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.signal(signal.SIGINT)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: it hangs, with all of its threads."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: self._thread_states() <= {"T"}, "all threads to stop")

    def _thread_states(self) -> set[str]:
        """Return the states of its threads as Linux has them; elsewhere none."""
        states = set()
        for stat in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):  # a thread that has ended
                states.add(stat.read_text().rpartition(")")[2].split()[0])
        return states

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit status, with all output read; raise Failure if it goes on running."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"still running after {timeout:g} s: {self.transcript()}") from None
        for stream in (self.out_stream, self.err_stream):
            stream.join(timeout)
            if not stream.closed:
                raise Failure(f"its output is still open: {self.transcript()}")
        return status

    def stop(self) -> None:
        """Kill it if it still runs, and release its streams."""
        if self.running:
            self.kill()
        self.close_stdin()
        self.wait()

    def transcript(self) -> str:
        """Return the command and what it printed, for a person."""
        parts = [f"$ {self.name}   [{'running' if self.running else self.process.returncode}]"]
        parts += [f"  {line}" for line in self.out.splitlines()]
        if self.err_stream is not self.out_stream:
            parts += [f"! {line}" for line in self.err.splitlines()]
        return "\n".join(parts)


@contextlib.contextmanager
def running(script: str | Path, *args, **options) -> Iterator[Script]:
    """Start a script, of a lab if it is named by a string, for the time of a with statement."""
    process = Script(ROOT / script, *args, **options)
    try:
        yield process
    finally:
        process.stop()


@contextlib.contextmanager
def spawning(labs: Path = ROOT):
    """Start scripts: `spawn("lab01_udp/server.py", 0)`. All of them end with the block."""
    with contextlib.ExitStack() as stack:

        def start(script: str, *args, **options) -> Script:
            start.scripts.append(Script(labs / script, *args, **options))
            stack.callback(start.scripts[-1].stop)
            return start.scripts[-1]

        start.scripts = []
        yield start


def _take_terminal() -> None:
    """In the child: make the new terminal its controlling terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def leftovers() -> list[str]:
    """Return the commands of processes, also orphans, that this run started and did not end."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            marked = MARK.encode() in (entry / "environ").read_bytes().split(b"\0")
            if marked and int(entry.name) not in {os.getpid(), *OWN}:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def resident(pid: int) -> int:
    """Return the memory of a process, in bytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def processor_time(pid: int) -> float:
    """Return the processor time of all threads of a process, also those that ended, in seconds."""
    return time.clock_gettime(~pid << 3 | 2)  # the process's clock, as Linux numbers clocks
