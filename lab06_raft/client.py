"""The client of a Raft cluster: an interactive shell that asks one server at a time.

usage: client.py [-h]

    python3 client.py
    > connect 127.0.0.1 50000
    > getleader
    0 127.0.0.1:50000
"""

import argparse
import cmd
import contextlib
import secrets
import sys
import time

import process
import rpc
from process import printable
from rpc import grpc

with contextlib.suppress(ImportError):
    import readline  # noqa: F401  (line editing and history for cmd)

messages, services = rpc.compile_proto("raft.proto")

ANSWER_TIMEOUT = 2.0  # s for a server to answer
SETVAL_TIMEOUT = 4.0  # s; a server gives up on a majority after 2.4


class Client(cmd.Cmd):
    """Each `do_` method is a command; what it prints is the assignment's."""

    def __init__(self, interactive: bool):
        super().__init__()
        self.prompt = "> " if interactive else ""
        self.use_rawinput = interactive
        self.target: str | None = None
        # The session: a command that is sent twice is done once.
        self.client_id = secrets.randbits(62) + 1
        self.sequence = 0

    def do_connect(self, line: str) -> None:
        """connect 127.0.0.1 50000"""
        try:
            host, port = rpc.parse_address(":".join(line.split()))
            self.target = rpc.join_address(host, port)
        except argparse.ArgumentTypeError:
            print("usage: connect ADDRESS PORT")

    def do_getleader(self, line: str) -> None:
        """getleader"""
        if reply := self.call("GetLeader", messages.GetLeaderRequest()):
            known = f"{reply.leader_id} {reply.address}"
            print(printable(known) if reply.address else "No leader is known")

    def do_suspend(self, line: str) -> None:
        """suspend SECONDS"""
        words = line.split()
        if len(words) == 1 and words[0].isascii() and words[0].isdigit() and len(words[0]) < 10:
            self.call("Suspend", messages.SuspendRequest(period=int(words[0])))
        else:
            print("usage: suspend SECONDS")

    def do_setval(self, line: str) -> None:
        """setval KEY VALUE"""
        words = line.split()
        if len(words) != 2:
            print("usage: setval KEY VALUE")
            return
        self.sequence += 1
        request = messages.SetValRequest(
            key=words[0], value=words[1], client_id=self.client_id, sequence=self.sequence
        )
        if reply := self.call("SetVal", request, SETVAL_TIMEOUT):
            print(reply.success)

    def do_getval(self, line: str) -> None:
        """getval KEY"""
        words = line.split()
        if len(words) != 1:
            print("usage: getval KEY")
        elif reply := self.call("GetVal", messages.GetValRequest(key=words[0])):
            print(printable(reply.value) if reply.success else None)

    def do_quit(self, line: str) -> bool:
        """quit"""
        return True

    do_exit = do_quit

    def do_EOF(self, line: str) -> bool:  # noqa: N802  (what cmd makes of Ctrl-D)
        if self.prompt:
            print()  # so that the next line begins at the left
        return True

    def do_help(self, line: str) -> None:
        print("commands: connect ADDRESS PORT, getleader, suspend SECONDS,", end=" ")
        print("setval KEY VALUE, getval KEY, quit")

    def default(self, line: str) -> None:
        self.do_help(line)

    def emptyline(self) -> None:
        pass

    def completenames(self, text: str, *ignored) -> list[str]:
        return [name for name in super().completenames(text) if name != "EOF"]

    def call(self, method: str, request, timeout: float = ANSWER_TIMEOUT):
        """Return the reply, or None after a line that says why there is none.

        A call whose connection broke is made once more: no command is done twice by that.
        """
        if self.target is None:
            print("Not connected: connect ADDRESS PORT comes first")
            return None
        deadline = time.monotonic() + timeout
        try:
            try:
                return self.attempt(method, request, deadline)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            return self.attempt(method, request, deadline)
        except grpc.RpcError as error:
            refused = error.code() is grpc.StatusCode.INVALID_ARGUMENT
            away = f"The server {self.target} is unavailable"
            print(printable(error.details()) if refused else away)
            return None

    def attempt(self, method: str, request, deadline: float):
        """Make a call on a channel of its own, which knows nothing of earlier failures.

        So a server that has just come back is found at once.
        """
        with rpc.open_channel(self.target) as channel:
            left = max(deadline - time.monotonic(), 0)
            return getattr(services.RaftStub(channel), method)(request, timeout=left)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="client.py",
        description="Ask the servers of a Raft cluster; `help` lists the commands.",
        epilog="example: python3 client.py",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    parse_args(argv)
    with process.console("The client ends") as terminal:
        print("The client starts")
        Client(terminal).cmdloop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
