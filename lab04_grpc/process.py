"""What the scripts need of their process: an end on Ctrl-C, and standard files to rely on.

This file stands in lab03_zmq, lab04_grpc, lab05_chord and lab06_raft alike, so that each folder
runs alone; a test keeps the copies identical. It goes before all other packages: see STOP_SIGNALS.
"""

import contextlib
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Iterator

# Held back from here on, in every thread, and waited for at one place. An exception out of a signal
# handler would be lost on some imports, and on readline until the next key.
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def end_on_signal(*last_words: str) -> None:
    """From here on Ctrl-C and SIGTERM end this process with 0, whatever it is at.

    For processes that keep nothing: no one of their threads is asked.
    """
    mode = termios.tcgetattr(0) if sys.stdin and sys.stdin.isatty() else None

    def wait() -> None:
        signal.sigwait(STOP_SIGNALS)
        try:
            if mode and os.tcgetpgrp(0) == os.getpgrp():  # the terminal is ours to set
                termios.tcsetattr(0, termios.TCSANOW, mode)
            for line in last_words:
                say(line)
        finally:
            os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def say(line: str, stream: str = "stdout") -> None:
    """Write a line to sys.stdout or sys.stderr, if a reader takes it now; else drop it."""
    file = getattr(sys, stream)  # None if it is closed
    with contextlib.suppress(OSError):
        if file and select.select([], [file], [], 0)[1]:
            os.write(file.fileno(), f"{line}\n".encode(errors="backslashreplace"))


def printable(text: str) -> str:
    """Return one line of text with all characters escaped that could control a terminal.

    For whatever a peer has sent.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextlib.contextmanager
def console(goodbye: str = "") -> Iterator[bool]:
    """Run an interactive client in it; yields whether a person sits at a terminal.

    A standard file that is closed is as good as /dev/null, no character is an error in any
    encoding, and the client ends, with a last line, when it is told to or when nobody reads it.
    """
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    encoding = sys.stdin.encoding
    if encoding.lower() == "utf-8" and not sys.stdin.isatty():
        encoding = "utf-8-sig"  # some editors put a byte order mark before the first line
    sys.stdin.reconfigure(encoding=encoding, errors="replace")
    sys.stdout.reconfigure(errors="replace", line_buffering=True)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    end_on_signal(*[""] * terminal, *[goodbye] * bool(goodbye))  # after a line that is begun
    try:
        yield terminal
        if goodbye:
            print(goodbye)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
