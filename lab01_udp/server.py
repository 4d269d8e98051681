"""Receive files over UDP, reliably: python3 server.py 12300

Each file appears in the current directory (or --dir) under the name that its client gave it, and
only when it is complete and on disk: files.py. The protocol is in stop_and_wait.py, its messages
are in messages.py.
"""

import argparse
import contextlib
import os
import resource
import select
import signal
import sys
import time
from typing import TextIO

from endpoint import Endpoint, path_buf_size
from files import Folder
from messages import MAX_DATAGRAM, Refused
from stop_and_wait import MAX_SESSIONS, Receiver

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
TICK = 0.1  # s: how late a session may be found to have expired


class ListeningClock:
    """Tells for how many seconds the server has listened.

    While it waits for a slow disk, or is suspended, it hears no client, and they are not to blame.
    So the time between two looks counts as one TICK at most.
    """

    def __init__(self):
        self.listened = 0.0  # s, at the last look
        self._looked_at = time.monotonic()

    def now(self) -> float:
        now = time.monotonic()
        self.listened += min(now - self._looked_at, TICK)
        self._looked_at = now
        return self.listened


def say(line: str, file: TextIO | None = None) -> None:
    """Write a line to stdout or `file` if it can be written at once: no client waits for it."""
    file = file or sys.stdout
    with contextlib.suppress(OSError):
        if select.select([], [file], [], 0)[1]:
            os.write(file.fileno(), f"{line}\n".encode())


def serve(endpoint: Endpoint, receiver: Receiver, signals: list[int]) -> None:
    """Answer datagrams until there is something in `signals`."""
    clock = ListeningClock()
    expired_at = 0.0  # when that was last looked into
    while not signals:
        try:
            datagram, client, asked = endpoint.receive(receiver.largest + 1)
            endpoint.send(receiver.receive(datagram, client, clock.now()), client, asked)
        except BlockingIOError:
            clock.now()  # nothing came for TICK seconds
        except Refused as reason:
            say(f"{client[0]}:{client[1]}: refused: {reason}", sys.stderr)
        except OSError as error:  # of the answer: a client that cannot be reached
            say(f"cannot answer: {error}", sys.stderr)
        if clock.listened - expired_at >= TICK:
            expired_at = clock.listened
            # A TICK less: that much of the time may have gone into a save.
            for session in receiver.expire(clock.listened - TICK):
                say(f"{session.start.filename}: abandoned, the client is silent", sys.stderr)


def allow_open_files(count: int) -> None:
    """Ask for so many file descriptors, where a process gets fewer (macOS: 256)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def parse_port(text: str) -> int:
    """Return the port number in `text`, 0 to 65535; raise ArgumentTypeError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port number, not {text!r}")
    return int(text)


def parse_buf_size(text: str) -> int:
    """Return a datagram size in bytes; raise ArgumentTypeError if no datagram has it."""
    if not (
        text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MAX_DATAGRAM
    ):
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_DATAGRAM}, not {text!r}")
    return int(text)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Receive files over UDP, reliably.",
        epilog="example: python3 server.py 12300",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument("port", type=parse_port, help="to listen on; 0 picks a free one")
    parser.add_argument("--dir", default=".", help="where the files go")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in")
    parser.add_argument("--buf-size", type=parse_buf_size, help="datagram size in bytes")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    for name in ("stdout", "stderr"):  # None if they were closed before the start
        setattr(sys, name, getattr(sys, name) or open(os.devnull, "w"))  # noqa: SIM115
    args = parse_args(argv)
    signals = []  # an exception instead could come between a file and its session

    def stop(signum, frame) -> None:
        signals.append(signum)
        for other in STOP_SIGNALS:  # each further one would have recvfrom wait anew
            signal.signal(other, signal.SIG_IGN)

    for signum in STOP_SIGNALS:
        signal.signal(signum, stop)
    allow_open_files(MAX_SESSIONS + 100)
    try:
        folder = Folder(args.dir, lambda name, size: say(f"Saved {name}: {size} bytes"))
    except (OSError, ValueError) as error:  # ValueError: no path has such characters
        reason = getattr(error, "strerror", error)
        print(f"server.py: cannot use the folder {args.dir!r}: {reason}", file=sys.stderr)
        return 2
    host = f"[{args.host}]" if ":" in args.host else args.host
    try:
        endpoint = Endpoint(args.host, args.port, TICK)
    except (OSError, UnicodeError) as error:  # UnicodeError: of a host name
        print(f"server.py: cannot listen on {host}:{args.port}: {error}", file=sys.stderr)
        return 1
    fixed = args.buf_size
    receiver = Receiver(folder.create, (lambda client: fixed) if fixed else path_buf_size)
    with contextlib.closing(endpoint):
        say(f"Listening on {host}:{endpoint.port}")
        serve(endpoint, receiver, signals)
    receiver.abandon_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
