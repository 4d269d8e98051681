"""Processes, ports and waiting: the one place of the suite (and of demo.py) that knows subprocess.

    server = Script(labs / "lab01_udp/server.py", "0", cwd=tmp_path)
    port = server.port()                      # from its ready line
    client = Script(labs / "lab01_udp/client.py", f"127.0.0.1:{port}", "a.bin", "b.bin")
    assert client.wait() == 0

Every process carries MARK in its environment, by which `leftovers` finds even orphans.
"""

import codecs
import contextlib
import fcntl
import functools
import importlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
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
PYTHON = (sys.executable,)
PATIENCE = 20.0  # s: how long a fact may take on a busy machine before a test gives up on it
LOSSY = "LABS_LOSSY" in os.environ  # `make test-lossy`: loopback loses packets
OWN: set[int] = set()  # processes that serve the whole run
MARK = f"LABS_TEST_RUN={uuid.uuid4().hex}"


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


class Ports:
    """Free ports that no other process takes between our choice and the start of a server.

    The system may give a port that it has just given out to the next process that asks. So these
    ports lie below the range that Linux gives out. For each port, a byte of a common file is
    locked until our process ends, which keeps other runs of the suite away from it.
    """

    RANGE = range(10_000, 32_768)

    def __init__(self):
        path = Path(tempfile.gettempdir()) / f"labs-test-ports-{os.getuid()}"
        self._locks = path.open("ab")  # noqa: SIM115
        self._given: set[int] = set()

    def take(self, kind: socket.SocketKind, count: int) -> int:
        while True:
            first = random.choice(self.RANGE[:-count])
            ports = range(first, first + count)
            if all(p not in self._given and self._lock(p) and self._binds(p, kind) for p in ports):
                self._given.update(ports)
                return first

    def _lock(self, port: int) -> bool:
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        return True

    @staticmethod
    def _binds(port: int, kind: socket.SocketKind) -> bool:
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True


_ports = functools.cache(Ports)  # at the first use: it opens a file for writing


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM, count: int = 1) -> int:
    """Return a free port of 127.0.0.1, or the first of some in a row, for the caller alone."""
    return _ports().take(kind, count)


def listens(port: int) -> bool:
    """Tell whether something accepts TCP connections on this port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Stream:
    """What a process has written to one file descriptor, read by a thread of its own.

    With `head`, reading ends after the first line, and so does the other side's luck in writing.
    """

    limit: int | None = None  # characters that are kept; what follows is read and dropped

    def __init__(self, fd: int, head: bool = False):
        self.text = ""
        self.fd = fd
        self.head = head
        self.closed = False
        self.cursor = 0  # expect() searches from here
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._read, daemon=True)

    def join(self, timeout: float) -> None:
        """Return when the process has closed its side and all of it is read."""
        if self.thread.ident is None:
            self.thread.start()
        self.thread.join(timeout)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with contextlib.suppress(OSError):  # a terminal whose other side has gone gives EIO
            while data := os.read(self.fd, 65536):
                if self.limit and len(self.text) > self.limit:
                    continue
                with self.changed:
                    self.text += decoder.decode(data).replace("\r\n", "\n")
                    self.changed.notify_all()
                if self.head and "\n" in self.text:
                    break
        os.close(self.fd)
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def expect(self, pattern: str, timeout: float, whole_lines: bool) -> re.Match | None:
        """Return the next match of `pattern`, or None if it does not come."""
        regex = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                end = len(self.text)
                if whole_lines and not self.closed:
                    end = self.text.rfind("\n") + 1
                if match := regex.search(self.text, self.cursor, max(end, self.cursor)):
                    self.cursor = match.end()
                    return match
                if self.closed or not self.changed.wait(max(0.0, deadline - time.monotonic())):
                    return None


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
    fork: Callable | None = None  # instead of popen, for a script as it stands

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
        environment["XDG_STATE_HOME"] = str(Path(tempfile.gettempdir()) / "labs-test-state")
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
        """Wait for the next part of stdout that matches; without a terminal in whole lines only."""
        return self._expect(self.out_stream, pattern, timeout)

    def expect_err(self, pattern: str, timeout: float = PATIENCE) -> re.Match:
        """Wait for the next part of stderr that matches."""
        return self._expect(self.err_stream, pattern, timeout)

    def _expect(self, stream: Stream, pattern: str, timeout: float) -> re.Match:
        if match := stream.expect(pattern, timeout, whole_lines=not self.tty):
            return match
        if stream.closed:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it may have closed that alone
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
        return status

    def stop(self) -> None:
        """End it, whatever its state, and give back all that it took."""
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
    scripts: list[Script] = []

    def start(script: str, *args, **options) -> Script:
        scripts.append(Script(labs / script, *args, **options))
        return scripts[-1]

    start.scripts = scripts
    try:
        yield start
    finally:
        for script in reversed(scripts):
            script.stop()


def _take_terminal() -> None:
    """In the child: make the new terminal the one whose Ctrl-C reaches it."""
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def leftovers() -> list[str]:
    """Return the processes, living or orphaned, that a test of this run started and did not end."""
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
