"""The client of a Raft cluster: an interactive shell that asks one server at a time.

usage: client.py [-h]

    python3 client.py
    > connect 127.0.0.1 50000
    > getleader
    0 127.0.0.1:50000
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import secrets
import sys
import time

import rpc
import shell
from rpc import grpc

messages, services = rpc.compile_proto("raft.proto")

ANSWER_TIMEOUT = 2.0  # s for a server to answer
SETVAL_TIMEOUT = 4.0  # s; a server gives up on a majority after 2.4


class Client(shell.Shell):
    """Each `do_` method is a command; what it prints is the assignment's."""

    commands = {
        "connect ADDRESS PORT": "connect 127.0.0.1 50000",
        "getleader": "getleader",
        "suspend SECONDS": "suspend 2",
        "setval KEY VALUE": "setval city Kazan",
        "getval KEY": "getval city",
    }

    def __init__(self, terminal: bool):
        super().__init__(terminal)
        self.target: str | None = None
        # The session: a command that is sent twice is done once.
        self.client_id = secrets.randbits(62) + 1
        self.sequence = 0

    def do_connect(self, line: str) -> None:
        try:
            host, port = cli.parse_address(":".join(line.split()))
            self.target = cli.join_address(host, port)
        except argparse.ArgumentTypeError:
            self.fail("usage: connect ADDRESS PORT")

    def do_getleader(self, line: str) -> None:
        if reply := self.call("GetLeader", messages.GetLeaderRequest()):
            known = f"{reply.leader_id} {reply.address}"
            if reply.address:
                self.show(cli.printable(known))
            else:
                self.fail("No leader is known")

    def do_suspend(self, line: str) -> None:
        words = line.split()
        if len(words) == 1 and words[0].isascii() and words[0].isdigit() and len(words[0]) < 10:
            self.call("Suspend", messages.SuspendRequest(period=int(words[0])))
        else:
            self.fail("usage: suspend SECONDS")

    def do_setval(self, line: str) -> None:
        words = line.split()
        if len(words) != 2:
            self.fail("usage: setval KEY VALUE")
            return
        self.sequence += 1
        request = messages.SetValRequest(
            key=words[0], value=words[1], client_id=self.client_id, sequence=self.sequence
        )
        if reply := self.call("SetVal", request, SETVAL_TIMEOUT):
            self.show("True") if reply.success else self.fail("False")

    def do_getval(self, line: str) -> None:
        words = line.split()
        if len(words) != 1:
            self.fail("usage: getval KEY")
        elif reply := self.call("GetVal", messages.GetValRequest(key=words[0])):
            self.show(cli.printable(reply.value) if reply.success else "None")

    def call(self, method: str, request, timeout: float = ANSWER_TIMEOUT):
        """Return the reply, or None after a line that says why there is none.

        A call whose connection broke is made once more: no command is done twice by that.
        """
        if self.target is None:
            self.fail("Not connected: connect ADDRESS PORT comes first")
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
            self.fail(cli.printable(error.details()) if refused else away)
            return None

    def attempt(self, method: str, request, deadline: float):
        """Make a call on a channel of its own, which knows nothing of earlier failures.

        So a server that has just come back is found at once.
        """
        with rpc.open_channel(self.target) as channel:
            call = getattr(services.RaftStub(channel), method)
            return rpc.insist(call, request, deadline - time.monotonic())


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("Ask the servers of a Raft cluster; `help` lists the commands.", "")
    shell.add_commands(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with shell.console("The client ends") as terminal:
        print("The client starts")
        return Client(terminal).run(args.commands)


if __name__ == "__main__":
    sys.exit(main())
