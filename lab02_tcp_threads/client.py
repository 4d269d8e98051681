"""Ask a server which numbers are prime, one after the other: python3 client.py 127.0.0.1:5555

Exit status: 0 all are answered, 1 the server is not there or has gone, 2 wrong arguments,
130 interrupted.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import re
import socket
import sys

NUMBERS = [
    *(15492781, 15492787, 15492803),
    *(15492811, 15492810, 15492833),
    *(15492859, 15502547, 15520301),
    *(15527509, 15522343, 1550784),
]
CONNECT_TIMEOUT = 5.0  # s
REPLY_TIMEOUT = 30.0  # s: a server that divides by every smaller number takes a while
READ_SIZE = 4096  # bytes
MAX_DIGITS = 1000  # of a number
MAX_REPLY = 4096  # bytes: a server that sends more without a line end is no prime server
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


def run(host: str, port: int, numbers: list[int]) -> None:
    """Ask for all numbers; raise ServerGone or OSError if the server is not there to the end."""
    with socket.create_connection((host, port), CONNECT_TIMEOUT) as sock:
        sock.settimeout(REPLY_TIMEOUT)
        cli.show(f"Connected to {sock.getpeername()[:2]}")
        for number in numbers:
            cli.show(ask(sock, number))
        cli.show("Completed")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("Ask a server which numbers are prime.", "127.0.0.1:5555")
    parser.add_argument("server", type=cli.parse_address, help="ip-addr:port-number of the server")
    numbers = parser.add_argument("numbers", type=parse_integer, nargs="*", default=NUMBERS)
    numbers.help = "to ask about (default: the assignment's twelve)"
    return parser.parse_args(argv)


def parse_integer(text: str) -> int:
    """Return an integer of up to MAX_DIGITS digits; raise ArgumentTypeError if it is none."""
    if not re.fullmatch(rf"[+-]?[0-9]{{1,{MAX_DIGITS}}}", text):
        raise cli.wrong_argument(f"an integer of up to {MAX_DIGITS} digits", text)
    return int(text)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    host, port = args.server
    try:
        with cli.interruptible("interrupted"):
            run(host, port, args.numbers)
    except (OSError, UnicodeError, ServerGone) as failure:  # UnicodeError: of a host name
        reason = getattr(failure, "strerror", None) or failure
        return cli.complain(f"{cli.join_address(host, port)}: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
