"""Ask a server which numbers are prime, one after the other: python3 client.py 127.0.0.1:5555

Exit status: 0 all are answered, 1 the server is not there or has gone, 2 wrong arguments,
130 interrupted.
"""

import argparse
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

NUMBERS = [
    *(15492781, 15492787, 15492803),
    *(15492811, 15492810, 15492833),
    *(15492859, 15502547, 15520301),
    *(15527509, 15522343, 1550784),
]
CONNECT_TIMEOUT = 5.0  # s
REPLY_TIMEOUT = 30.0  # s: a server that divides by every smaller number takes a while
READ_SIZE = 4096  # bytes
MAX_REPLY = 4096  # bytes: a server that sends more without a line end is no prime server
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A reply ends with its line; some servers send none but stop after the word.
REPLY = re.compile(rb"\s*(\S[^\n]*?)(?:\n|(?<=prime)$)")


class ServerGone(Exception):
    """The server does not answer any more, or not so; the message says how that shows."""


def ask(sock: socket.socket, number: int) -> str:
    """Send one number and return the reply line; raise ServerGone or OSError if there is none."""
    sock.sendall(b"%d\n" % number)
    reply = b""
    while not (match := REPLY.match(reply)):
        data = sock.recv(READ_SIZE)
        if not data:
            raise ServerGone("the server has closed the connection")
        reply += data
        if len(reply) > MAX_REPLY:
            raise ServerGone("the server answers with an endless line")
    # Escaped, so that no reply controls the terminal.
    return match[1].rstrip().decode("latin-1").encode("unicode_escape").decode()


def say(line: str) -> None:
    """Write a line to stdout; exit 1 if that fails, unless its reader has gone."""
    try:
        print(line, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            sys.exit(f"client.py: cannot write: {error.strerror}")


def interruptible(function: Callable, *arguments):
    """Return function(*arguments) from another thread, so that Ctrl-C need not wait for it.

    For what looks up host names: no signal interrupts that, and it may take half a minute.
    """
    outcome = SimpleQueue()

    def call() -> None:
        try:
            outcome.put((function(*arguments), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    result, error = outcome.get()
    if error:
        raise error
    return result


def run(host: str, port: int) -> None:
    """Ask for all numbers; raise ServerGone or OSError if the server is not there to the end."""
    with interruptible(socket.create_connection, (host, port), CONNECT_TIMEOUT) as sock:
        sock.settimeout(REPLY_TIMEOUT)
        say(f"Connected to {sock.getpeername()[:2]}")
        for number in NUMBERS:
            say(ask(sock, number))
        say("Completed")


def parse_address(text: str) -> tuple[str, int]:
    """Split "host:port" ("[::1]:port" for IPv6); raise ArgumentTypeError if it is not that."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not bracketed):
        raise argparse.ArgumentTypeError(f"expected host:port, not {text!r}")
    return host.strip("[]"), parse_port(port)


def parse_port(text: str) -> int:
    """Return the port number in `text`, 0 to 65535; raise ArgumentTypeError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port number, not {text!r}")
    return int(text)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Ask a server which numbers are prime.",
        epilog="example: python3 client.py 127.0.0.1:5555",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument("server", type=parse_address, help="ip-addr:port-number of the server")
    return parser.parse_args(argv)


def ignore_signals() -> None:
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def stop(signum, frame) -> None:
    """Raise KeyboardInterrupt, once: what then ends the client is not to be interrupted again."""
    ignore_signals()
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    # Without a stderr, print() would take stdout instead.
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for signum in STOP_SIGNALS:
        signal.signal(signum, stop)
    try:
        host, port = parse_args(argv).server
        try:
            run(host, port)
            failure = None
        except (OSError, UnicodeError, ServerGone) as error:  # UnicodeError: of a host name
            failure = error
        ignore_signals()  # it is too late for them
    except KeyboardInterrupt:
        print("client.py: interrupted", file=sys.stderr)
        return 130
    if failure:
        reason = getattr(failure, "strerror", None) or failure
        print(f"client.py: {host}:{port}: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
