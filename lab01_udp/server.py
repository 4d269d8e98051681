"""Receive files over UDP, reliably: python3 server.py 12300

Each file appears in the current directory (or --dir) under the name that its client gave it, and
only when it is complete and on disk: files.py. The protocol is in stop_and_wait.py, its messages
are in messages.py.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Callable

from endpoint import Endpoint, path_buf_size
from files import Folder
from messages import MAX_DATAGRAM, Refused
from stop_and_wait import MAX_SESSIONS, Receiver

TICK = 0.1  # s: how late a session may be found to have expired


class ListeningClock:
    """Tells for how many seconds the server has listened.

    While it waits for a slow disk, or is suspended, it receives nothing, and no session may expire
    for that. So the time between two calls of now() counts as one TICK at most.
    """

    def __init__(self):
        self.listened = 0.0  # s, at the last call of now()
        self._called_at = time.monotonic()

    def now(self) -> float:
        now = time.monotonic()
        self.listened += min(now - self._called_at, TICK)
        self._called_at = now
        return self.listened


def serve(endpoint: Endpoint, receiver: Receiver, stopped: Callable[[], bool]) -> None:
    """Answer datagrams until the server is to stop."""
    clock = ListeningClock()
    expired_at = 0.0  # `listened` at the last call of expire()
    while not stopped():
        try:
            datagram, client, pktinfo = endpoint.receive(receiver.largest + 1)
            endpoint.send(receiver.receive(datagram, client, clock.now()), client, pktinfo)
        except BlockingIOError:
            clock.now()  # nothing came for TICK seconds
        except Refused as reason:
            cli.say(f"{cli.join_address(*client[:2])}: refused: {reason}", "stderr")
        except OSError as error:  # of the answer: a client that cannot be reached
            cli.say(f"cannot answer: {error}", "stderr")
        if clock.listened - expired_at >= TICK:
            expired_at = clock.listened
            # A TICK less: that much of the time may have gone into a save.
            for session in receiver.expire(clock.listened - TICK):
                cli.say(f"{session.start.filename}: abandoned, the client is silent", "stderr")


def tell_saved(name: str, size: int) -> None:
    cli.say(f"Saved {name}: {size} bytes")
    cli.log("saved %s, %d bytes", name, size)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("Receive files over UDP, reliably.", "12300")
    parser.add_argument("port", type=cli.parse_port, help="to listen on; 0 picks a free one")
    parser.add_argument("--dir", default=".", help="where the files go (default: here)")
    parser.add_argument("--host", type=cli.parse_host, default="127.0.0.1", help=cli.HOST_HELP)
    parser.add_argument(
        "--buf-size",
        type=cli.number(1, MAX_DATAGRAM, "a number of bytes"),
        help="bytes of a datagram (default: what the path to the client carries unfragmented)",
    )
    cli.add_verbose(parser, "each upload that begins or is saved")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    cli.start_log(args.verbose)
    stopping = threading.Event()
    cli.on_signal(stopping.set)
    cli.allow_open_files(MAX_SESSIONS + 100)
    try:
        folder = Folder(args.dir, tell_saved)
    except (OSError, ValueError) as error:  # ValueError: no path has such characters
        reason = getattr(error, "strerror", error)
        return cli.complain(f"cannot use the folder {args.dir!r}: {reason}", 2)
    try:
        endpoint = Endpoint(args.host, args.port, TICK)
    except (OSError, UnicodeError) as error:
        return cli.complain(cli.cannot_listen(args.host, args.port, error))

    def buf_size(client: tuple) -> int:
        size = args.buf_size or path_buf_size(client)
        cli.log(
            "%s begins an upload, in datagrams of %d bytes", cli.join_address(*client[:2]), size
        )
        return size

    receiver = Receiver(folder.create, buf_size)
    with contextlib.closing(endpoint):
        cli.report_ready(f"Listening on {cli.join_address(args.host, endpoint.port)}")
        serve(endpoint, receiver, stopping.is_set)
    receiver.abandon_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
