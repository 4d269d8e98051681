"""What a client sends, cut into numbers, and the lines that it gets for them.

A number ends at white space; for clients that send none, the server ends it after some silence.
"""

import codecs
import re
import socket
import time
from collections import deque
from selectors import EVENT_READ

import cli
from primes import Pause, is_prime

READ_SIZE = 1024  # bytes taken from one client before the next has its turn
TURN = 0.001  # s for which one client is served before the next has its turn
MAX_DIGITS = 1000
MAX_TOKEN = 4096  # bytes: a client that sends more without white space is cut off
SLOW_DIGITS = 50  # numbers with more of them take a good part of a turn, or many turns
BYTE_ORDER_MARK = codecs.BOM_UTF8  # some editors begin a file with it, which may be sent as it is
INTEGER = re.compile(rb"[+-]?[0-9]{1,%d}" % MAX_DIGITS)


class Connection:
    """One client: its socket, what it has sent and what it is still owed."""

    def __init__(self, fd: int, address: tuple):
        # A given family saves the system calls that find it; an IPv6 socket works all the same.
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
        self.sock.setblocking(False)
        self.address = address
        self.output = b""
        self.tokens: deque[bytes] = deque()  # not yet answered
        self.partial = b""  # a token that has not ended yet
        self.delimited = False  # it has sent white space: then nothing else ends a token
        self.ended = False  # no more is read from it
        self.events = EVENT_READ  # what its worker waits for

    def read(self) -> None:
        """Take what the client has sent; raise OSError if it is gone."""
        data = self.sock.recv(READ_SIZE)
        text = (self.partial + data).replace(BYTE_ORDER_MARK, b"")
        tokens, self.partial = split(text)
        if len(first := (tokens or [self.partial])[0]) > MAX_TOKEN:
            tokens, self.partial, data = [first], b"", b""  # whether its end has come or not
        self.tokens += tokens
        self.delimited = self.delimited or self.partial != text
        if not data:
            self.ended = True
            self.end_token()

    def end_token(self) -> None:
        """Treat the partial token as complete."""
        if self.partial:
            self.tokens.append(self.partial)
            self.partial = b""

    def answer(self) -> None:
        """Answer the tokens in their order for one TURN, up to the first that takes long."""
        ends = time.monotonic() + TURN
        while self.tokens and not takes_long(self.tokens[0]) and time.monotonic() < ends:
            self.answer_next()

    def answer_next(self, pause: Pause = lambda: None) -> None:
        """Answer one token, however long it takes; see is_prime for `pause`."""
        cli.log("%s asks for %s", self.address, self.tokens[0])
        self.output += reply_to(self.tokens[0], pause)
        self.tokens.popleft()

    def send(self) -> None:
        """Send as much as the client takes now; raise OSError if it is gone."""
        try:
            sent = self.sock.send(self.output) if self.output else 0
        except BlockingIOError:
            return
        self.output = self.output[sent:]

    def give_up(self) -> None:
        """Forget what was asked and what is owed: the client is gone."""
        self.tokens.clear()
        self.partial = self.output = b""
        self.ended = True

    def close(self) -> None:
        self.sock.close()
        cli.say(f"{self.address} disconnected")
        cli.log("%s disconnected", self.address)


def split(text: bytes) -> tuple[list[bytes], bytes]:
    """Return the tokens in a text, and the beginning of one that may go on."""
    tokens = text.split()
    in_token = bool(tokens) and not text[-1:].isspace()
    return tokens, tokens.pop() if in_token else b""


def takes_long(token: bytes) -> bool:
    return len(token) > SLOW_DIGITS and bool(INTEGER.fullmatch(token))


def reply_to(token: bytes, pause: Pause = lambda: None) -> bytes:
    """Return the reply line for a token."""
    if not INTEGER.fullmatch(token):
        shown = token[:40].decode("ascii", "backslashreplace")
        return f"error: not an integer of at most {MAX_DIGITS} digits: {shown!a}\n".encode()
    number = int(token)
    return b"%d is prime\n" % number if is_prime(number, pause) else b"%d is not prime\n" % number
