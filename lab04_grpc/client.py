"""Call the text and prime functions of a gRPC server: python3 client.py 127.0.0.1:5555

Commands: reverse <text>, split <text>, isprime <numbers>, help, exit.
"""

import argparse
import cmd
import contextlib
import math
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import process  # before all other packages

# isort: split
import rpc
from google.protobuf import text_format
from process import printable
from rpc import grpc

with contextlib.suppress(ImportError):  # line editing and history, where the system has it
    import readline  # noqa: F401

messages, services = rpc.compile_proto("service.proto")

CALL_TIMEOUT = 5.0  # s; in a stream for each answer
SLOWEST_LINK = 100_000  # bytes/s, for which a call with a long text has additional time
WATCH_INTERVAL = 0.1  # s
# A call whose connection turns out to be dead is made again, as is one that meets no server: the
# packet that was to make the connection may be lost. Ours may be repeated: they change nothing.
ATTEMPTS = 3
RETRY_INTERVAL = 0.1  # s
INT64 = range(-(2**63), 2**63)
INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
COMMANDS = "commands: reverse <text>, split <text>, isprime <numbers>, help, exit"


class Client(cmd.Cmd):
    """The prompt."""

    def __init__(self, address: str, channel: grpc.Channel, terminal: bool):
        super().__init__()
        self.address = address
        self.stub = services.TextToolsStub(channel)
        self.prompt = "> " if terminal else ""

    def onecmd(self, line: str) -> bool:
        try:
            return bool(super().onecmd(line.strip()))
        except grpc.RpcError as error:
            print(describe(error, self.address))
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
        print(format_reply(persist(lambda: method(request, timeout=timeout))))

    def do_isprime(self, text: str) -> None:
        words = text.split()
        for word in words:
            if not INTEGER.fullmatch(word) or int(word) not in INT64:
                return print(f"Not a 64-bit integer: {word}")
        unanswered = deque(map(int, words))
        persist(lambda: self.ask(unanswered))

    def ask(self, unanswered: deque[int]) -> None:
        """Ask about numbers in one stream; take each away as soon as its answer is printed."""
        requests = [messages.IsPrimeRequest(num=num) for num in unanswered]
        longest = CALL_TIMEOUT * (len(requests) + 1)  # if each answer takes all its time
        for reply in unless_silent(self.stub.isprime(iter(requests), timeout=longest)):
            print(printable(reply.text))
            if unanswered:
                unanswered.popleft()

    def do_exit(self, text: str) -> bool:
        return True

    do_quit = do_exit

    def do_EOF(self, text: str) -> bool:  # the name that cmd gives to the end of the input
        if self.prompt:
            print()  # nobody has pressed Enter
        return True

    def do_help(self, text: str) -> None:
        print(COMMANDS)

    def default(self, line: str) -> None:
        print(f"Unknown command; {COMMANDS}")

    def emptyline(self) -> None:
        pass

    def completenames(self, text: str, *ignored) -> list[str]:
        names = ("reverse ", "split ", "isprime ", "help", "exit")
        return [name for name in names if name.startswith(text)]


def persist(call: Callable):
    """Return what a call returns; repeat it if it finds no server."""
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
    return printable(f"{error.code().name}: {' '.join(details.split())}")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Call the text and prime functions of a gRPC server.",
        epilog="example: python3 client.py 127.0.0.1:5555",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument("server", type=rpc.parse_address, help="host:port of the server")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    address = rpc.join_address(*args.server)
    with process.console("Shutting down") as terminal, rpc.open_channel(address) as channel:
        Client(address, channel, terminal).cmdloop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
