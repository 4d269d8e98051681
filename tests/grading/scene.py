"""What a test does, in a person's words: start programs, type lines, look at ports and output.

    scene.start("server", 12300)
    client = scene.start("client", "127.0.0.1:12300", file, "copy.bin")
    client.expect(r"15 is not prime", "the line: 15 is not prime")

Every step is noted in `scene.tried`, so that a report can say how to try the same by hand. A fact
that does not come true raises Loss, with what was expected and what was seen.
"""

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.grading import ports
from tests.grading.sandbox import Sandbox
from tests.support.harness import Failure
from tests.support.ports import free_port
from tests.support.processes import Script
from tests.support.streams import Stream

START_TIME = 20.0  # s for a program to listen; a busy machine compiles, imports and generates
ANSWER_TIME = 15.0  # s for an answer where the assignment names no time
LAST_WORDS_TIME = 1.0  # s, until what a program wrote before its end has been read
SHOWN_LINES = 15  # of a program's output
Stream.limit = 4_000_000  # characters of a program's output that a judge keeps


class Loss(Exception):
    """A sentence of the assignment that does not hold."""

    def __init__(self, expected: str, seen: str):
        super().__init__(expected)
        self.expected = expected
        self.seen = seen


class Unsafe(Loss):
    """A violation of safety: no chance, and no test of its part holds any more."""


def check(fact: object, expected: str, seen: object) -> None:
    """Raise Loss unless the fact holds."""
    if not fact:
        raise Loss(expected, seen if isinstance(seen, str) else repr(seen))


class Program(Script):
    """A running program of the submission, or of ours."""

    def __init__(self, scene: "Scene", role: str, title: str, path: Path, *args, **options):
        self.scene, self.role, self.title = scene, role, title
        self.popen = scene.sandbox.popen
        super().__init__(path, *args, **options)

    def tail(self) -> str:
        """Return its last lines, for a report."""
        if not self.running:
            for stream in (self.out_stream, self.err_stream):
                stream.join(LAST_WORDS_TIME)  # its children may still have them open
        lines = [line for line in (self.out + self.err).splitlines() if line.strip()]
        state = "still running" if self.running else f"ended with status {self.process.returncode}"
        shown = "\n".join(f"    {line[:200]}" for line in lines[-SHOWN_LINES:])
        return f"{self.title} ({state}) printed:\n{shown or '    nothing'}"

    def expect(self, pattern: str, expected: str = "", timeout: float = ANSWER_TIME) -> re.Match:
        """Return the next match in its output; raise Loss if it does not come."""
        match = self.out_stream.expect(pattern, timeout, whole_lines=False)
        if not match:
            raise Loss(expected or f"output that matches {pattern}", self.tail())
        return match

    def type(self, line: str) -> None:
        """Type a line; a program that has ended shows in what follows."""
        with contextlib.suppress(OSError):
            self.send(line)

    def ask(
        self,
        line: str,
        pattern: str,
        expected: str,
        timeout: float = ANSWER_TIME,
        enter: bool = False,
    ) -> re.Match:
        """Type a line; return the match in what is printed for it.

        Args:
            enter: press Enter until the answer is there, for clients that look only then.
        """
        self.scene.note_step(f"type in the {self.role}: {line}")
        self.out_stream.cursor = len(self.out)
        deadline = time.monotonic() + timeout
        self.type(line)
        while not (match := self.out_stream.expect(pattern, 0.3, whole_lines=False)):
            if time.monotonic() > deadline or not self.running:
                raise Loss(expected, self.tail())
            if enter and self.role == "client":
                self.type("")
        return match

    def answer(self, line: str, quiet: float = 0.2, timeout: float = ANSWER_TIME) -> str:
        """Type a line; return all that is printed until it has been quiet for a while."""
        self.scene.note_step(f"type in the {self.role}: {line}")
        begin = len(self.out)
        deadline = time.monotonic() + timeout
        self.type(line)
        changed, size = time.monotonic(), begin
        while time.monotonic() < deadline and self.running:
            time.sleep(0.02)
            if len(self.out) != size:
                changed, size = time.monotonic(), len(self.out)
            elif self.out[begin:].strip(" >\n") and time.monotonic() - changed > quiet:
                break
        return self.out[begin:]

    def ends(self, timeout: float) -> bool:
        """Tell whether it ends in time."""
        with contextlib.suppress(Failure):
            self.wait(timeout)
        return not self.running

    def press_ctrl_c(self) -> None:
        """As a terminal does: the signal goes to all that the program has started, too."""
        self.scene.note_step(f"press Ctrl-C in the {self.role}")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGINT)


class Scene(contextlib.ExitStack):
    """The stage of one test."""

    def __init__(self, sandbox: Sandbox, job: dict):
        super().__init__()
        self.sandbox = sandbox
        self.folder = sandbox.folder  # of the submission's copy
        self.scripts: dict[str, str] = job["scripts"]  # its programs, by role
        self.ours: dict[str, str] = job.get("ours", {})  # ours, by role
        self.tried: list[str] = []
        self.programs: list[Program] = []
        self.pace: float = job.get("pace", 0.0)  # s that the gate took
        self._ports: dict[int, int] = {}

    def __exit__(self, *exception):
        self.sandbox.close()  # first of all: then nothing keeps any output open
        return super().__exit__(*exception)

    # Steps

    def note_step(self, step: str) -> None:
        """Remember a step for the report."""
        if not self.tried or self.tried[-1] != step:
            self.tried.append(step)

    def port(self, number: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
        """Return the assignment's port, or the one that stands for it where that may be taken."""
        if self.sandbox.isolated:
            return number
        return self._ports.setdefault(number, free_port(kind))

    def start(self, role: str, *args, cwd: Path | None = None, **options) -> Program:
        """Start a program of the submission."""
        if role not in self.scripts:
            raise Loss(f"a program for the {role}", "there is none in the folder")
        script = self.folder / self.scripts[role]
        cwd = cwd or script.parent
        options.setdefault("interpreter", self._interpreter(cwd))
        shown = " ".join(str(arg) for arg in args)
        self.note_step(f"start: python3 {script.name} {shown}".rstrip())
        return self._run(role, f"the {role}, {script.name}", script, args, cwd=cwd, **options)

    def start_ours(self, role: str, *args, cwd: Path | None = None) -> Program:
        """Start a program of the reference, for a submission to talk with."""
        script = Path(self.ours[role])
        self.note_step(f"start the reference {role} with {' '.join(str(arg) for arg in args)}")
        return self._run(role, f"the reference {role}", script, args, cwd=cwd or self.work())

    def _interpreter(self, cwd: Path) -> tuple[str, ...]:
        if self.sandbox.isolated:
            return self.sandbox.in_folder(cwd)
        return self.sandbox.interpreter

    def _run(self, role: str, title: str, script: Path, args: tuple, **options) -> Program:
        unbuffered = {"PYTHONUNBUFFERED": "1"}  # the assignment does not say that output is flushed
        program = Program(self, role, title, script, *args, env=unbuffered, **options)
        self.programs.append(program)
        self.callback(self._stop, program)
        return program

    @staticmethod
    def _stop(program: Program) -> None:
        with contextlib.suppress(Failure, OSError):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(program.pid, signal.SIGKILL)
            program.close_stdin()
            program.wait(1)  # a process that has left its group may keep the output open

    def work(self) -> Path:
        """Return a folder for files of the test, which programs can read and write."""
        path = Path(self.sandbox.home) / "work"
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
        return path

    def last_words(self) -> str:
        """Return what the last programs printed."""
        return "\n".join(program.tail() for program in self.programs[-3:])

    # Facts

    def wait_for_port(self, program: Program, number: int, kind=socket.SOCK_STREAM) -> None:
        """Return when the program listens; raise Loss if it ends before, or never does."""
        state = ports.TCP_LISTEN if kind == socket.SOCK_STREAM else ports.UDP_BOUND
        protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"
        port = self.port(number, kind)
        expected = f"{program.title} listens on {protocol} port {port}"
        self.until(
            lambda: ports.count(port, kind, state) or not program.running,
            expected,
            START_TIME,
            program,
        )
        check(program.running or ports.count(port, kind, state), expected, program.tail())

    def until(
        self,
        fact: Callable[[], object],
        expected: str,
        timeout: float = ANSWER_TIME,
        *show: Program,
        every: float = 0.02,
    ):
        """Return the first truthy value of `fact()`; raise Loss if there is none in time."""
        deadline = time.monotonic() + timeout
        while not (value := fact()):
            if time.monotonic() > deadline:
                raise Loss(expected, "\n".join(program.tail() for program in show) or "it did not")
            time.sleep(every)
        return value
