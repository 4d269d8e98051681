"""Call the text and prime functions of a gRPC server: python3 client.py 127.0.0.1:5555

Commands: reverse <text>, split <text>, isprime <numbers>, help, exit.
"""

import argparse
import cmd
import contextlib
import re
import signal
import sys

# Held back until main() is ready: some imports swallow an exception that comes upon them.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

import rpc  # noqa: E402
from google.protobuf import text_format  # noqa: E402
from rpc import grpc  # noqa: E402

with contextlib.suppress(ImportError):  # line editing and history, where the system has it
    import readline  # noqa: F401

messages, services = rpc.compile_proto("service.proto")

CALL_TIMEOUT = 5.0  # s
STREAM_TIMEOUT = 60.0  # s
INT64 = range(-(2**63), 2**63)
INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
COMMANDS = "commands: reverse <text>, split <text>, isprime <numbers>, help, exit"


class Client(cmd.Cmd):
    """The prompt."""

    def __init__(self, address: str, channel: grpc.Channel):
        super().__init__()
        self.address = address
        self.stub = services.TextToolsStub(channel)
        self.prompt = "> " if sys.stdin.isatty() and sys.stdout.isatty() else ""

    def onecmd(self, line: str) -> bool:
        try:
            return bool(super().onecmd(line.strip()))
        except grpc.RpcError as error:
            say(describe(error, self.address))
        return False

    def do_reverse(self, text: str) -> None:
        reply = self.stub.reverse(messages.ReverseRequest(text=text), timeout=CALL_TIMEOUT)
        say(format_reply(reply))

    def do_split(self, text: str) -> None:
        words = " ".join(text.split())  # any white space divides, and only once
        request = messages.SplitRequest(text=words, delim=" ")
        say(format_reply(self.stub.split(request, timeout=CALL_TIMEOUT)))

    def do_isprime(self, text: str) -> None:
        for word in text.split():
            if not INTEGER.fullmatch(word) or int(word) not in INT64:
                return say(f"Not a 64-bit integer: {word}")
        requests = (messages.IsPrimeRequest(num=int(word)) for word in text.split())
        for reply in self.stub.isprime(requests, timeout=STREAM_TIMEOUT):
            say(reply.text)

    def do_exit(self, text: str) -> bool:
        return True

    def do_EOF(self, text: str) -> bool:  # the name that cmd gives to the end of the input
        self.leave_prompt()
        return True

    def leave_prompt(self) -> None:
        """Go to the next line of a terminal: nobody has pressed Enter."""
        if self.prompt:
            say("")

    def do_help(self, text: str) -> None:
        say(COMMANDS)

    def default(self, line: str) -> None:
        say(f"Unknown command; {COMMANDS}")

    def emptyline(self) -> None:
        pass

    def completenames(self, text: str, *ignored) -> list[str]:
        names = ("reverse ", "split ", "isprime ", "help", "exit")
        return [name for name in names if name.startswith(text)]


def format_reply(reply) -> str:
    """Return a message as protobuf's text format has it, with non-ASCII text left readable."""
    return text_format.MessageToString(reply, as_utf8=True)


def describe(error: grpc.RpcError, address: str) -> str:
    """Return what went wrong with a call, in one line."""
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return f"The server {address} is unavailable"
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"The server {address} does not answer"
    return f"{error.code().name}: {' '.join(error.details().split())}"


def say(text: str) -> None:
    """Write a line to stdout at once."""
    print(text, flush=True)


def stop(signum, frame) -> None:
    """Raise KeyboardInterrupt, once: what then ends us is not to be interrupted again."""
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


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
    for signum in STOP_SIGNALS:
        signal.signal(signum, stop)
    sys.stdin.reconfigure(errors="replace")
    address = rpc.join_address(*args.server)
    with contextlib.suppress(BrokenPipeError), rpc.open_channel(address) as channel:
        client = Client(address, channel)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            client.cmdloop()
        except KeyboardInterrupt:
            client.leave_prompt()
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        say("Shutting down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
