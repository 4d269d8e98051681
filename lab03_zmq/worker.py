"""What the workers prime.py and gcd.py share: the command line, the sockets, the loop.

A worker subscribes to its keyword only when the server is subscribed to its answers: PUB sockets
send to nobody who is not there yet, so a worker in a hurry would lose its first answers. An XPUB
socket hears of the server's subscription; when the server goes away it hears of that as well, and
the next answer waits until it is back.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import NoReturn

import process  # before all other packages

# isort: split
import zmq

INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")  # longer ones would keep all other clients waiting
PATIENCE = 1000  # ms until it is worth telling that the server is not there


class Worker:
    """The two sockets of a worker.

    Args:
        keyword: the first word of the lines to take.
        answer: returns the answer to the arguments, or None if they are not what it expects.
        usage: what it expects, as the answer to all other arguments.
    """

    def __init__(self, keyword: str, answer: Callable[[list[str]], str | None], usage: str):
        self.keyword = keyword
        self.answer = answer
        self.usage = usage
        self.subscribed = False  # the server, to our answers

    def connect(self, context: zmq.Context, host: str, inputs: int, outputs: int) -> None:
        """Return when the server hears us and we hear the server, however long that takes."""
        address = f"[{host}]" if ":" in host else host
        self.outputs = context.socket(zmq.XPUB)
        self.outputs.connect(f"tcp://{address}:{outputs}")
        if not self.outputs.poll(PATIENCE):
            print(f"waiting for a server at {address}:{outputs}", file=sys.stderr, flush=True)
        self.wait_for_server()
        self.inputs = context.socket(zmq.SUB)
        self.inputs.subscribe(self.keyword)
        monitor = self.inputs.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.inputs.connect(f"tcp://{address}:{inputs}")
        monitor.poll()
        self.inputs.disable_monitor()

    def wait_for_server(self) -> None:
        """Return when the server is subscribed to our answers."""
        while not self.subscribed or self.outputs.get(zmq.EVENTS) & zmq.POLLIN:
            self.subscribed = self.outputs.recv()[:1] == b"\x01"

    def run(self) -> NoReturn:
        """Answer lines."""
        while True:
            reply = self.reply_to(self.inputs.recv().decode("utf-8", "replace"))
            if reply is not None:
                self.wait_for_server()
                self.outputs.send_string(reply)

    def reply_to(self, line: str) -> str | None:
        """Return what to answer to a line, or None if it is not for us."""
        keyword, *arguments = line.split() or [""]
        if keyword != self.keyword:
            return None
        return self.answer(arguments) or f"{line} : expected {self.usage}"


def parse_port(text: str) -> int:
    """Return the port number in `text`, 0 to 65535; raise ArgumentTypeError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port number, not {text!r}")
    return int(text)


def parse_host(text: str) -> str:
    """Return the host, "[::1]" without brackets; raise ArgumentTypeError if it cannot be one."""
    host = text.removeprefix("[").removesuffix("]")
    if not re.fullmatch(r"[\w.:%-]+", host, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected a host, not {text!r}")
    return host


def parse_args(argv: list[str] | None, usage: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=f"Answer lines of the form: {usage}",
        epilog=f"example: python3 {os.path.basename(sys.argv[0])} 5557 5558",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument("worker_inputs", type=parse_port, help="port of the server")
    parser.add_argument("worker_outputs", type=parse_port, help="port of the server")
    parser.add_argument("--host", type=parse_host, default="127.0.0.1", help="where the server is")
    return parser.parse_args(argv)


def main(worker: Worker, argv: list[str] | None) -> NoReturn:
    args = parse_args(argv, worker.usage)
    process.end_on_signal()
    context = zmq.Context()
    context.setsockopt(zmq.IPV6, ":" in args.host)
    worker.connect(context, args.host, args.worker_inputs, args.worker_outputs)
    process.say(f"Ready for {worker.usage}")
    worker.run()
