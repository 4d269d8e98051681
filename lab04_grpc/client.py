"""Call the text and prime functions of a gRPC server: python3 client.py 127.0.0.1:5555

Commands: reverse <text>, split <text>, isprime <numbers>, help, exit.
"""

import argparse
import cmd
import contextlib
import re
import sys

import process  # before all other packages

# isort: split
import rpc
from google.protobuf import text_format
from rpc import grpc

with contextlib.suppress(ImportError):  # line editing and history, where the system has it
    import readline  # noqa: F401

messages, services = rpc.compile_proto("service.proto")

CALL_TIMEOUT = 5.0  # s
SLOWEST_LINK = 100_000  # bytes/s, for which a call with a long text has additional time
STREAM_TIMEOUT = 60.0  # s
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
        request = messages.ReverseRequest(text=text)
        print(format_reply(self.stub.reverse(request, timeout=call_timeout(request))))

    def do_split(self, text: str) -> None:
        words = " ".join(text.split())  # any white space divides, and only once
        request = messages.SplitRequest(text=words, delim=" ")
        print(format_reply(self.stub.split(request, timeout=call_timeout(request))))

    def do_isprime(self, text: str) -> None:
        for word in text.split():
            if not INTEGER.fullmatch(word) or int(word) not in INT64:
                return print(f"Not a 64-bit integer: {word}")
        requests = (messages.IsPrimeRequest(num=int(word)) for word in text.split())
        for reply in self.stub.isprime(requests, timeout=STREAM_TIMEOUT):
            print(reply.text)

    def do_exit(self, text: str) -> bool:
        return True

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


def call_timeout(request) -> float:
    """Return for how many seconds a call may last; the reply is about as long as the request."""
    return CALL_TIMEOUT + 2 * request.ByteSize() / SLOWEST_LINK


def format_reply(reply) -> str:
    """Return a message as protobuf's text format has it, with non-ASCII text left readable."""
    return text_format.MessageToString(reply, as_utf8=True)


def describe(error: grpc.RpcError, address: str) -> str:
    """Return what went wrong with a call, in one line."""
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return f"The server {address} is unavailable"
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"The server {address} does not answer"
    if "larger than max" in error.details():
        return "Too long: a text and its answer may have 4 MB each"
    return f"{error.code().name}: {' '.join(error.details().split())}"


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
