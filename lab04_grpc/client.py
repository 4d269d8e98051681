"""Call the text and prime functions of a gRPC server: python3 client.py 127.0.0.1:5555

Commands: reverse <text>, split <text>, isprime <numbers>, help, exit.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import math
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import rpc
import shell
from google.protobuf import text_format
from rpc import grpc

messages, services = rpc.compile_proto("service.proto")

CALL_TIMEOUT = 5.0  # s; in a stream for each answer
SLOWEST_LINK = 100_000  # bytes/s: a call has that much more time for a long text
WATCH_INTERVAL = 0.1  # s
# A call is repeated if its connection was dead, or no server answered: a SYN may have been lost.
# That is safe, as the calls change nothing on the server.
ATTEMPTS = 3
RETRY_INTERVAL = 0.1  # s
INT64 = range(-(2**63), 2**63)
INTEGER = re.compile(r"[+-]?[0-9]{1,30}")


class Client(shell.Shell):
    """The prompt."""

    commands = {
        "reverse <text>": "reverse Hello there!",
        "split <text>": "split Hello there!",
        "isprime <numbers>": "isprime 2 10 5555 14567",
    }

    def __init__(self, address: str, channel: grpc.Channel, terminal: bool):
        super().__init__(terminal)
        self.address = address
        self.stub = services.TextToolsStub(channel)

    def obey(self, line: str) -> bool:
        try:
            return super().obey(line)
        except grpc.RpcError as error:
            self.fail(describe(error, self.address))
        return False

    def do_reverse(self, text: str) -> None:
        self.call(self.stub.reverse, messages.ReverseRequest(text=text))

    def do_split(self, text: str) -> None:
        words = " ".join(text.split())  # any white space divides, and only once
        self.call(self.stub.split, messages.SplitRequest(text=words, delim=" "))

    def call(self, method: Callable, request) -> None:
        """Call a function and print the reply."""
        # The reply is about as long as the request.
        timeout = CALL_TIMEOUT + 2 * request.ByteSize() / SLOWEST_LINK
        self.show(format_reply(persist(lambda: method(request, timeout=timeout))))

    def do_isprime(self, text: str) -> None:
        words = text.split()
        for word in words:
            if not INTEGER.fullmatch(word) or int(word) not in INT64:
                return self.fail(f"Not a 64-bit integer: {cli.printable(word)}")
        unanswered = deque(map(int, words))
        persist(lambda: self.ask(unanswered))

    def ask(self, unanswered: deque[int]) -> None:
        """Ask about numbers in one stream; take each away as soon as its answer is printed."""
        numbers = list(unanswered)  # which shrinks while gRPC's thread still sends these
        requests = (messages.IsPrimeRequest(num=num) for num in numbers)
        longest = CALL_TIMEOUT * (len(numbers) + 1)  # if each answer takes all its time
        for reply in unless_silent(self.stub.isprime(requests, timeout=longest)):
            self.show(cli.printable(reply.text))
            if unanswered:
                unanswered.popleft()


def persist(call: Callable):
    """Return the result of `call`; try up to ATTEMPTS times while the server is UNAVAILABLE."""
    for _ in range(ATTEMPTS - 1):
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
        time.sleep(RETRY_INTERVAL)
    return call()


def unless_silent(stream) -> Iterator:
    """Yield the replies of a stream; cancel it when the next takes longer than CALL_TIMEOUT.

    Time that passes between two replies because of us, such as for printing, does not count.
    """
    deadline = math.inf
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_INTERVAL):
            if time.monotonic() > deadline:
                stream.cancel()

    threading.Thread(target=watch, daemon=True).start()
    try:
        while True:
            deadline = time.monotonic() + CALL_TIMEOUT
            reply = next(stream, None)
            deadline = math.inf
            if reply is None:
                return
            yield reply
    finally:
        ended.set()


def format_reply(reply) -> str:
    """Return a message as protobuf's text format has it, with non-ASCII text left readable.

    The format itself escapes control characters of ASCII only; here the others are, its own way.
    """
    text = text_format.MessageToString(reply, as_utf8=True)
    return "".join(c if c.isprintable() or c == "\n" else octal(c) for c in text)


def octal(text: str) -> str:
    """Return the UTF-8 bytes of a text as the text format escapes them: "\\302\\205"."""
    return "".join(f"\\{byte:03o}" for byte in text.encode())


def describe(error: grpc.RpcError, address: str) -> str:
    """Return what went wrong with a call, in one line."""
    details = error.details() or ""
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return f"The server {address} is unavailable"
    if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return f"The server {address} does not answer"
    if "larger than max" in details:
        return "Too long: a text and its answer may have 4 MB each"
    return cli.printable(f"{error.code().name}: {' '.join(details.split())}")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("Call the text and prime functions of a gRPC server.", "127.0.0.1:5555")
    parser.add_argument("server", type=cli.parse_address, help="host:port of the server")
    shell.add_commands(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    address = cli.join_address(*args.server)
    with shell.console("Shutting down") as terminal, rpc.open_channel(address) as channel:
        return Client(address, channel, terminal).run(args.commands)


if __name__ == "__main__":
    sys.exit(main())
