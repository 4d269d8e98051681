"""What a client sends, cut into numbers, and the lines that it gets for them.

A number ends at white space; for clients that send none, the server ends it after some silence.
"""

import re
import socket
from selectors import EVENT_READ

from primes import is_prime

READ_SIZE = 1024  # bytes taken from one client before the next has its turn
MAX_DIGITS = 1000
MAX_TOKEN = 4096  # bytes: a client that sends more without a blank is cut off
SLOW_DIGITS = 150  # numbers with more of them take milliseconds
INTEGER = re.compile(rb"[+-]?[0-9]{1,%d}" % MAX_DIGITS)


class Connection:
    """One client: its socket, what it has sent and what it is still owed."""

    def __init__(
        self, fd, address, output=b"", tokens=(), partial=b"", delimited=False, ended=False
    ):
        # With the family given, the socket object asks the system nothing; all else works for IPv6.
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
        self.sock.setblocking(False)
        self.address = address
        self.output = output
        self.tokens = list(tokens)  # what stood between blanks, not yet answered
        self.partial = partial  # the beginning of a token, or all of it
        self.delimited = delimited  # it has sent white space: then nothing else ends a token
        self.ended = ended  # no more is read from it
        self.events = EVENT_READ  # what its worker waits for

    def detach(self) -> tuple:
        """Give the socket up for what `Connection(*state)` needs to go on from here."""
        state = (self.output, self.tokens, self.partial, self.delimited, self.ended)
        return self.sock.detach(), self.address, *state

    def read(self) -> None:
        """Take what the client has sent; raise OSError if it is gone."""
        data = self.sock.recv(READ_SIZE)
        tokens = (self.partial + data).split()
        in_token = bool(tokens) and not data[-1:].isspace()
        self.partial = tokens.pop() if in_token else b""
        self.tokens += tokens
        self.delimited = self.delimited or bool(tokens) or not in_token or data[:1].isspace()
        if not data or len(self.partial) > MAX_TOKEN:
            self.ended = True
            self.end_token()

    def end_token(self) -> None:
        """Take what has come so far for the whole token."""
        self.tokens += filter(None, [self.partial])
        self.partial = b""

    def answer(self) -> None:
        """Answer the tokens in their order, up to the first that takes long."""
        while self.tokens and not takes_long(self.tokens[0]):
            self.answer_next()

    def answer_next(self) -> None:
        self.output += reply_to(self.tokens.pop(0))

    def send(self) -> None:
        """Send as much as the client takes now; raise OSError if it is gone."""
        try:
            sent = self.sock.send(self.output) if self.output else 0
        except BlockingIOError:
            return
        self.output = self.output[sent:]


def takes_long(token: bytes) -> bool:
    return len(token) > SLOW_DIGITS and bool(INTEGER.fullmatch(token))


def reply_to(token: bytes) -> bytes:
    """Return the reply line for a token."""
    if not INTEGER.fullmatch(token):
        shown = token[:40].decode("ascii", "backslashreplace")
        return f"error: not an integer of at most {MAX_DIGITS} digits: {shown!a}\n".encode()
    number = int(token)
    return b"%d is prime\n" % number if is_prime(number) else b"%d is not prime\n" % number
