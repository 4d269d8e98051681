"""Send lines to the workers behind a lab 3 server: python3 client.py 5555 5556

The ports are the server's client_inputs and client_outputs. A line goes to client_inputs, which
confirms it; the answer comes on client_outputs, as do the answers to all other clients.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import contextlib
import os
import sys
import threading

import shell
import sockets
import zmq
from zmq.utils.monitor import recv_monitor_message

CONNECT_TIMEOUT = 3.0  # s, at the start
RECONNECT_TIMEOUT = 0.5  # s, for each line while the server is away
CONFIRM_TIMEOUT = 3.0  # s: a server that has just started gives its workers 2 s to arrive
ANSWER_TIMEOUT = 2.0  # s
MAX_LINE = 60_000  # bytes; the server takes 64 KB
REFUSED = ("no worker takes", "busy")  # our server's confirmation, if it has not accepted
ANSWERS = {"isprime": "{} is ", "gcd": "gcd for {} {} is "}  # by the first word of the line


class Answers(threading.Thread):
    """Receives and prints whatever the workers answer, to us and to others.

    Args:
        show: prints one answer.
    """

    def __init__(self, context: zmq.Context, address: str, show):
        super().__init__(daemon=True)
        self.context = context
        self.address = address
        self.show = show
        self.connected = threading.Event()
        self.wrong_type = False  # the socket there is not client_outputs
        self.latest = 0  # the latest event of the monitor
        self.connections = 0  # how often it has connected
        self.answered = threading.Event()
        self.line = ""  # the one whose answer is awaited

    def run(self) -> None:
        socket = self.context.socket(zmq.SUB)
        socket.subscribe(b"")
        monitor = socket.get_monitor_socket(sockets.HANDSHAKES)
        socket.connect(f"tcp://{self.address}")
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        with socket, monitor, contextlib.suppress(zmq.ContextTerminated):
            try:
                while True:
                    ready = dict(poller.poll())
                    if monitor in ready:
                        self.note(recv_monitor_message(monitor)["event"])
                    if socket in ready:
                        self.receive(socket.recv().decode("utf-8", "replace"))
            except OSError as error:  # of our output
                os._exit(cli.report_unwritten(error))

    def note(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.connections += 1
            self.connected.set()
        elif event == zmq.EVENT_DISCONNECTED:
            self.wrong_type = not self.connected.is_set() and sockets.is_wrong_type(
                self.latest, event
            )
            self.connected.clear()
        self.latest = event

    def receive(self, answer: str) -> None:
        self.show(cli.printable(answer))
        if self.line and is_answer(answer, self.line):
            self.answered.set()

    def expect(self, line: str) -> None:
        """Begin to look out for the answer to a line."""
        self.line = line  # first: a late answer to the line before must not count
        self.answered.clear()


def is_answer(answer: str, line: str) -> bool:
    """Tell whether an answer is to this line, and not to what another client has asked.

    A worker that cannot make sense of a line repeats it. Answers of workers that we do not know
    only have to name the arguments, in their order.
    """
    keyword, *arguments = line.split()
    form = ANSWERS.get(keyword)
    if form is None:
        words = iter(answer.split())
        return all(argument in words for argument in arguments)
    if form.count("{}") == len(arguments) and answer.startswith(form.format(*arguments)):
        return True
    rest = answer[len(line) :].lstrip()  # more words would be another client's line
    return answer.startswith(line) and rest[:1] in ("", ":")


class Client(shell.Shell):
    """The prompt: every line that is not one of the shell's own goes to the server."""

    commands = {
        "isprime N": "isprime 15492781",
        "gcd A B": "gcd 1071 462",
        "anything else that a worker takes": "foo bar",
    }

    def __init__(self, context: zmq.Context, host: str, inputs: int, outputs: int, terminal: bool):
        super().__init__(terminal)
        self.context = context
        self.server = cli.join_address(host, inputs)
        self.answers = Answers(context, cli.join_address(host, outputs), self.show)
        self.requests = self.open_requests()

    def names(self) -> list[str]:
        return ["isprime", "gcd", "help", "exit"]

    def open_requests(self) -> zmq.Socket:
        """Return a new socket for lines.

        It is opened when the socket for answers is connected and has subscribed: so no answer comes
        too early.
        """
        self.connection = self.answers.connections
        socket = self.context.socket(zmq.REQ)
        socket.connect(f"tcp://{self.server}")
        return socket

    def reopen(self) -> None:
        self.requests.close()
        self.requests = self.open_requests()

    def run(self, lines: list[str] | None = None) -> int:
        self.answers.start()
        if not self.answers.connected.wait(CONNECT_TIMEOUT):
            self.show(self.unreachable())
        return super().run(lines)

    def unreachable(self) -> str:
        """Return why no answer can come."""
        if self.answers.wrong_type:
            return sockets.not_the_port(self.answers.address, "client_outputs")
        return f"The server {self.answers.address} is not reachable"

    def default(self, line: str) -> None:
        if reason := self.ask(line):
            self.fail(reason)

    def ask(self, line: str) -> str | None:
        """Send a line; return when its answer is printed, or else why there is none."""
        if len(line.encode()) > MAX_LINE:
            return f"The line is longer than {MAX_LINE} bytes"
        if not self.answers.connected.wait(RECONNECT_TIMEOUT):
            return self.unreachable()
        if self.connection != self.answers.connections:
            self.reopen()
        self.answers.expect(line)
        self.requests.send_string(line)
        if not self.requests.poll(CONFIRM_TIMEOUT * 1000):
            self.reopen()  # without the line, which must not arrive when nothing awaits its answer
            return f"The server {self.server} does not confirm: {cli.printable(line)}"
        confirmation = self.requests.recv().decode("utf-8", "replace")
        if confirmation.startswith(REFUSED):
            return cli.printable(f"{line}: {confirmation}")
        if not self.answers.answered.wait(ANSWER_TIMEOUT):
            return f"No answer within {ANSWER_TIMEOUT:g} s to: {cli.printable(line)}"
        return None


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser(
        "Send lines to the workers behind a server and print their answers.", "5555 5556"
    )
    for name in ("client_inputs", "client_outputs"):
        parser.add_argument(name, type=cli.parse_port, help="port of the server")
    parser.add_argument("--host", type=cli.parse_host, default="127.0.0.1", help=sockets.HOST_HELP)
    shell.add_commands(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    context = sockets.open_context(args.host)
    with shell.console() as terminal:
        client = Client(context, args.host, args.client_inputs, args.client_outputs, terminal)
        status = client.run(args.commands)
    client.requests.close()
    context.term()
    return status


if __name__ == "__main__":
    sys.exit(main())
