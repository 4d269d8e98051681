"""Command line, standard files and signals of every script; the standard library only.

Every lab folder has a copy of this file, so that each folder runs alone; a test keeps the copies
identical. A script calls start() before its other imports: they take long, and Ctrl-C during them
would print a traceback. For the same reason slow modules are imported inside functions here, and
the signal functions come from the built-in module _signal. Importing this file has no effect.
"""

from __future__ import annotations  # an older Python gets as far as start()

import _signal as signal
import os
import sys

LONGEST_LOG_LINE = 1000  # characters of up to 4 bytes: a pipe that is writable has 4096 bytes free
_log_lock = None  # a Lock if --verbose was given

TYPE_CHECKING = False  # typing itself takes long
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

OLDEST_PYTHON = (3, 10)
PACKAGES = {"zmq": "pyzmq", "grpc": "grpcio", "grpc_tools": "grpcio-tools", "google": "protobuf"}
HOST_HELP = "0.0.0.0 lets other machines in (default: %(default)s)"
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as it is under nohup
    STOP_SIGNALS.add(signal.SIGHUP)


# --- The start ---


def start() -> None:
    """Hold the stop signals back, open closed standard files, explain a missing package.

    The signals stay blocked in every thread, and one place waits for them: an exception out of a
    handler would be lost in some imports, and inside readline until the next key.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    if sys.version_info < OLDEST_PYTHON:
        oldest, found = (".".join(map(str, v[:2])) for v in (OLDEST_PYTHON, sys.version_info))
        sys.exit(f"{script()}: needs Python {oldest} or later, not {found} ({sys.executable})")
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    sys.stdout.reconfigure(errors="replace", line_buffering=True)
    sys.excepthook = explain


def script() -> str:
    """Return the name of the running script."""
    return os.path.basename(sys.argv[0])


def explain(kind: type, error: BaseException, traceback) -> None:
    """Say in one line that a package is missing; leave any other exception to Python."""
    package = PACKAGES.get((getattr(error, "name", None) or "").partition(".")[0])
    if not (package and issubclass(kind, ModuleNotFoundError)):
        return sys.__excepthook__(kind, error, traceback)
    complain(
        f"the Python package {package} is missing: `make venv` in the project's folder and "
        f"`. .venv/bin/activate`, or in a virtual environment `python3 -m pip install {package}`"
    )


# --- Arguments ---


def parser(description: str, example: str):
    """Return an ArgumentParser with one-line errors; `example` is an example of the arguments."""
    import argparse

    made = argparse.ArgumentParser(
        description=description, epilog=f"example: python3 {script()} {example}".rstrip()
    )
    made.print_help = lambda file=None: show(made.format_help().rstrip())
    made.error = lambda message: made.exit(2, f"{made.prog}: {message}\n")
    return made


def wrong_argument(expected: str, text: str):
    """Return the exception that tells argparse what an argument has to be."""
    import argparse

    return argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")


def number(lowest: int, highest: int, what: str = "a number") -> Callable[[str], int]:
    """Return a function that reads an integer of a range, or raises ArgumentTypeError."""

    def parse(text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) <= len(str(highest))
        if digits and lowest <= int(text) <= highest:
            return int(text)
        raise wrong_argument(f"{what} from {lowest} to {highest}", text)

    return parse


parse_port = number(0, 65535, "a port number")


def parse_host(text: str) -> str:
    """Return a host without the brackets of "[::1]"; raise ArgumentTypeError if it is none."""
    import re

    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not re.fullmatch(r"[\w.:%-]+", host, re.ASCII):
        raise wrong_argument("a host such as 127.0.0.1, localhost or ::1", text)
    return host


def parse_address(text: str) -> tuple[str, int]:
    """Split "host:port" ("[::1]:port" for IPv6); raise ArgumentTypeError if it is not that."""
    host, _, port = text.rpartition(":")
    if not host or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise wrong_argument("host:port, such as 127.0.0.1:5000 or [::1]:5000", text)
    return parse_host(host), parse_port(port)


def join_address(host: str, port: int) -> str:
    """Return "host:port", with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# --- Files and output ---


def allow_open_files(count: int) -> None:
    """Raise the limit of open files to `count`, or to the hard limit if that is lower."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def say(line: str, stream: str = "stdout") -> None:
    """Write a line to sys.stdout or sys.stderr, if its reader takes it now; else drop it."""
    import contextlib

    with contextlib.suppress(OSError):
        _write(line, stream)


def report_ready(line: str) -> None:
    """Write the line that says that a server serves now; end the process if the disk is full.

    No client depends on the server yet. Later some do, so a line for which there is no room is
    dropped then: see say().
    """
    try:
        _write(line, "stdout")
    except OSError as error:
        if status := report_unwritten(error):
            os._exit(status)


def _write(line: str, stream: str) -> None:
    import contextlib
    import select

    with contextlib.suppress(BlockingIOError, ValueError):  # ValueError: it has no descriptor
        file = getattr(sys, stream)
        if select.select([], [file], [], 0)[1]:
            os.write(file.fileno(), f"{line}\n".encode(errors="backslashreplace"))


def complain(reason: str, status: int = 1) -> int:
    """Write "<script>: <reason>" to stderr; return the exit status."""
    say(f"{script()}: {reason}", "stderr")
    return status


def add_verbose(parser, events: str) -> None:
    """Add the option --verbose to a server's arguments; start_log() gets its value."""
    help = f"write a line with the time to stderr for {events} (default: no such lines)"
    parser.add_argument("--verbose", action="store_true", help=help)


def start_log(verbose: bool) -> None:
    """Let log() write from now on, or not."""
    import threading

    global _log_lock
    _log_lock = threading.Lock() if verbose else None


def log(text: str, *values) -> None:
    """Write a line with the time to stderr, if --verbose was given; drop it if it had to wait.

    The text is formatted only if it is written; values that are callable are called first.
    """
    if not _log_lock:
        return
    import datetime

    found = [value() if callable(value) else value for value in values]
    shown = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in found]
    line = f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S.%f}"[:-3] + " " + text % tuple(shown)
    with _log_lock:  # one thread looks for room and writes, then the next
        say(printable(line)[:LONGEST_LOG_LINE], "stderr")


def cannot_listen(host: str, port: int, error: OSError | UnicodeError) -> str:
    """Return one line that says why an address cannot be bound; UnicodeError: a bad host name."""
    import errno
    import socket

    code = getattr(error, "errno", None)
    reason = getattr(error, "strerror", error)
    # The system's text is short, and the same for all packages. A resolver has codes of its own.
    if code in errno.errorcode and not isinstance(error, socket.gaierror):
        reason = os.strerror(code)
    hint = " (stop what listens there, or choose another)" if code == errno.EADDRINUSE else ""
    return f"cannot listen on {join_address(host, port)}: {reason or error}{hint}"


def printable(text: str) -> str:
    """Return one line of text with all characters escaped that could control a terminal.

    For whatever a peer has sent.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def output() -> AbstractContextManager:
    """A context for writing results: dropped without a reader; a full disk ends it with exit 1."""
    import contextlib

    return contextlib.contextmanager(_output)()


def _output() -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is buffered goes there
        if status := report_unwritten(error):
            sys.exit(status)


def show(line: str) -> None:
    """Write a line to stdout and wait for its reader, unlike say(); see output()."""
    with output():
        print(line)


def report_unwritten(error: OSError) -> int:
    """Say why output cannot be written; return the exit status: 0 if only its reader has gone."""
    if isinstance(error, BrokenPipeError):
        return 0
    return complain(f"cannot write: {error.strerror}")


# --- Signals ---


def on_signal(act: Callable[[], object]) -> None:
    """Have a thread call `act` when the first stop signal comes; later ones change nothing."""
    import threading

    def wait() -> None:
        signal.sigwait(STOP_SIGNALS)
        act()

    threading.Thread(target=wait, daemon=True).start()


def end_on_signal(*last_words: str, tidy: Callable[[], object] = bool) -> None:
    """From here on a stop signal ends this process at once, with exit status 0.

    Only for processes without state to save: no thread is waited for. `tidy` is called first.
    """

    def end() -> None:
        try:
            tidy()
            for line in last_words:
                say(line)
        finally:
            os._exit(0)

    on_signal(end)


def interruptible(reason: str) -> AbstractContextManager:
    """A context in which a stop signal ends the process at once: `reason` on stderr, exit 130."""
    import contextlib

    return contextlib.contextmanager(_interruptible)(reason)


def _interruptible(reason: str) -> Iterator[None]:
    import threading

    ending = threading.Lock()  # the first to hold it ends the context: a signal, or its last line

    def end() -> None:
        with ending:
            if sys.stderr.isatty():
                say("", "stderr")  # a progress line may be there, and "^C"
            complain(reason)
            os._exit(130)

    if signal.sigpending() & STOP_SIGNALS:
        end()
    on_signal(end)
    try:
        yield
    finally:
        ending.acquire()
