"""What the workers prime.py and gcd.py share: the command line, the sockets, the loop.

A worker subscribes to its keyword only when the server is subscribed to its answers. A PUB socket
drops messages that have no subscriber, so a worker that starts too early would lose its first
answers. An XPUB socket receives the server's subscription, and also its end when the server goes
away; the next answer then waits until the server is back.

A worker moves its lines to a backlog of its own before it answers them. Left in the queue of zmq
they would fill it; heartbeats would wait behind them, and the connection would soon count as dead.
"""

import argparse
import re
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import cli
import sockets
import zmq
from zmq.utils.monitor import recv_monitor_message

INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")  # longer ones would keep all other clients waiting
ALONE = 1.0  # s without a connection, after which the worker says so
MAX_BACKLOG = 1000  # lines to be answered; further ones are told that the worker is busy


class Task(NamedTuple):
    """What a worker does.

    Args:
        keyword: the first word of the lines to take.
        answer: returns the answer to the arguments, or None if they are not what it expects.
        usage: what it expects, as the answer to all other arguments.
    """

    keyword: str
    answer: Callable[[list[str]], str | None]
    usage: str

    def takes(self, line: str) -> bool:
        """Tell whether the line is for this worker: a subscription is but a prefix."""
        return line.split(maxsplit=1)[:1] == [self.keyword]

    def reply_to(self, line: str) -> str:
        """Return what to answer to a line that this worker takes."""
        return self.answer(line.split()[1:]) or f"{line} : expected {self.usage}"


class Worker:
    """The two sockets of a worker, and the loop.

    Args:
        host, inputs, outputs: where the server is.
    """

    def __init__(self, task: Task, context: zmq.Context, host: str, inputs: int, outputs: int):
        self.task = task
        self.outputs = context.socket(zmq.XPUB)
        self.outputs.setsockopt(zmq.XPUB_NODROP, 1)  # a send waits at the high-water mark
        self.outputs_address = cli.join_address(host, outputs)
        self.subscribed = False  # the server, to our answers
        self.inputs = context.socket(zmq.SUB)
        self.inputs_address = cli.join_address(host, inputs)
        self.backlog: deque[str] = deque()

    def connect(self) -> None:
        """Return when the server hears us and we hear the server, however long that takes."""
        connect(self.outputs, self.outputs_address, "worker_outputs")
        self.wait_for_server()
        self.inputs.subscribe(self.task.keyword)
        connect(self.inputs, self.inputs_address, "worker_inputs", zmq.EVENT_HANDSHAKE_SUCCEEDED)

    def wait_for_server(self) -> None:
        """Return when the server is subscribed to our answers."""
        while not self.subscribed or self.outputs.get(zmq.EVENTS) & zmq.POLLIN:
            self.subscribed = self.outputs.recv()[:1] == sockets.SUBSCRIBED
            cli.log("the server %s", "is there" if self.subscribed else "has gone")

    def run(self) -> NoReturn:
        """Answer lines, one after the other."""
        while True:
            while not self.backlog or self.inputs.get(zmq.EVENTS) & zmq.POLLIN:
                self.receive(self.inputs.recv())
            self.send(self.task.reply_to(self.backlog.popleft()))

    def receive(self, data: bytes) -> None:
        """Put a line among those to be answered."""
        # A line of any bytes comes back unchanged: decoded with "replace" it would grow.
        line = data.decode("utf-8", "surrogateescape")
        if not self.task.takes(line):
            return
        if len(self.backlog) < MAX_BACKLOG:
            self.backlog.append(line)
        else:
            self.send(f"{line} : {self.task.keyword} is busy, ask again later")

    def send(self, answer: str) -> None:
        self.wait_for_server()
        data = answer.encode("utf-8", "surrogateescape")
        cli.log("answer: %s", data)
        self.outputs.send(data)


def connect(socket: zmq.Socket, address: str, name: str, enough: int | None = None) -> None:
    """Connect a socket to one of the server's, and wait until it has received something.

    After ALONE, one line says why that takes so long. `name` is the server's socket. `enough` is an
    event of the socket's monitor that ends the wait too.
    """
    monitor = socket.get_monitor_socket(sockets.HANDSHAKES)
    socket.connect(f"tcp://{address}")
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    problem, told = f"waiting for a server at {address}", False
    deadline, before = time.monotonic() + ALONE, None
    while before is None or before != enough:
        left = None if told else max(0, int((deadline - time.monotonic()) * 1000))  # ms
        ready = dict(poller.poll(left))
        if socket in ready:
            break
        if monitor in ready:
            event = recv_monitor_message(monitor)["event"]
            if sockets.is_wrong_type(before, event):
                problem = sockets.not_the_port(address, name)
            before = event
        elif not told:
            cli.complain(problem)
            told = True
    socket.disable_monitor()


def parse_args(argv: list[str] | None, usage: str) -> argparse.Namespace:
    parser = cli.parser(f"Answer lines of the form: {usage}", "5557 5558")
    for name in ("worker_inputs", "worker_outputs"):
        parser.add_argument(name, type=cli.parse_port, help="port of the server")
    parser.add_argument("--host", type=cli.parse_host, default="127.0.0.1", help=sockets.HOST_HELP)
    cli.add_verbose(parser, "each line, and each time that the server comes or goes")
    return parser.parse_args(argv)


def main(task: Task, argv: list[str] | None) -> NoReturn:
    args = parse_args(argv, task.usage)
    cli.start_log(args.verbose)
    cli.end_on_signal()
    context = sockets.open_context(args.host)
    worker = Worker(task, context, args.host, args.worker_inputs, args.worker_outputs)
    worker.connect()
    cli.report_ready(f"Ready for {task.usage}")
    worker.run()
