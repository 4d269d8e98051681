"""Route lines from clients to workers and answers back: python3 server.py 5555 5556 5557 5558

    client REQ --> ROUTER client_inputs            worker_inputs  XPUB ---> SUB  worker
    client SUB <--- PUB  client_outputs            worker_outputs  SUB <--- XPUB worker

The server knows no command: each line goes to the workers that have subscribed to a prefix of it.
XPUB reports the subscriptions, so the confirmation that a client gets at once can say that no
worker takes its line. ROUTER works as REP does, but leaves the envelopes to the server: after a
malformed message from a client that has left, REP would lose the next confirmation.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import heapq
import sys
import time
from typing import NoReturn

import descriptors
import sockets
import zmq

START_TIMEOUT = 2.0  # s after the start, in which workers may still be on their way
MAX_WAITING = 1000  # lines, in that time
MAX_NAMED = 20  # keywords in a refusal
MAX_NAME = 50  # bytes of each
BUSY = b"busy: the workers do not keep up, ask again later"
SLOW_TIMEOUT = 1.0  # s, for which answers wait for a client whose queue is full
NAMES = ("client_inputs", "client_outputs", "worker_inputs", "worker_outputs")


class Broker:
    """The four sockets and what goes between them.

    Args:
        host, ports: where to bind, the ports in the order of NAMES; raises OSError if that fails.
    """

    def __init__(self, context: zmq.Context, host: str, ports: list[int]):
        self.client_inputs = context.socket(zmq.ROUTER)
        self.client_outputs = context.socket(zmq.PUB)
        self.client_outputs.setsockopt(zmq.XPUB_NODROP, 1)  # a send waits while a queue is full
        self.client_outputs.sndtimeo = int(SLOW_TIMEOUT * 1000)
        self.worker_inputs = context.socket(zmq.XPUB)
        self.worker_inputs.setsockopt(zmq.XPUB_NODROP, 1)  # says when a worker's queue is full
        self.worker_outputs = context.socket(zmq.SUB)
        self.worker_outputs.subscribe(b"")
        for socket in (self.client_inputs, self.client_outputs, self.worker_inputs):
            socket.maxmsgsize = sockets.MAX_LINE
        bound = [getattr(self, name) for name in NAMES]
        self.addresses = [bind(*each, host) for each in zip(bound, ports, strict=True)]
        descriptors.keep_spare(bound)
        self.topics: set[bytes] = set()  # what the workers have subscribed to
        self.waiting: list[tuple[list[bytes], bytes]] = []  # envelopes and lines to confirm
        self.start_deadline = time.monotonic() + START_TIMEOUT

    def run(self) -> NoReturn:
        """Pass lines and answers on, for ever."""
        poller = zmq.Poller()
        for socket in (self.worker_inputs, self.worker_outputs, self.client_inputs):
            poller.register(socket, zmq.POLLIN)
        while True:
            for socket, _ in poller.poll(self.timeout()):
                if socket is self.worker_inputs:
                    self.note_subscription()
                elif socket is self.worker_outputs:
                    self.publish(socket.recv())
                else:
                    self.receive(socket.recv_multipart())
            if self.waiting and time.monotonic() >= self.start_deadline:
                self.offer_again()

    def timeout(self) -> float | None:
        """Return the milliseconds until lines that wait are refused; None if there are none."""
        if not self.waiting:
            return None
        return max(0.0, self.start_deadline - time.monotonic()) * 1000

    # --- answers ---

    def publish(self, answer: bytes) -> None:
        """Pass an answer on to all clients, also to those that have just connected.

        It waits up to SLOW_TIMEOUT for a client whose queue is full. After that the client misses
        answers until there is room in its queue again.
        """
        cli.log("answer: %s", answer)
        # To read EVENTS makes zmq take in new subscriptions; send() alone may put that off.
        self.client_outputs.get(zmq.EVENTS)
        try:
            self.client_outputs.send(answer)
        except zmq.Again:
            self.client_outputs.setsockopt(zmq.XPUB_NODROP, 0)
            self.client_outputs.send(answer)
            self.client_outputs.setsockopt(zmq.XPUB_NODROP, 1)

    # --- lines ---

    def note_subscription(self) -> None:
        """Add a prefix when its first worker subscribes; remove it when the last one has left.

        A notice names no sender. So a peer that cancels what it has not subscribed to takes the
        prefix away as well; libzmq itself never does that.
        """
        notice = self.worker_inputs.recv()
        if notice[:1] == sockets.SUBSCRIBED:
            self.topics.add(notice[1:])
            cli.log("a worker takes %s", notice[1:])
        elif notice[:1] == sockets.UNSUBSCRIBED:
            self.topics.discard(notice[1:])
            cli.log("no worker takes %s any more", notice[1:])
        else:
            cli.log("not a subscription: %s", notice)
        self.offer_again()

    def receive(self, frames: list[bytes]) -> None:
        """Take the line from a client's message: an envelope, an empty frame, the line."""
        if b"" in frames:
            body = frames.index(b"") + 1
            self.offer(frames[:body], b" ".join(frames[body:]))
        else:
            cli.log("a message without an empty frame: %s", b" ".join(frames))

    def offer_again(self) -> None:
        """Pass on what has waited, if a worker has come or none is to come any more."""
        waiting, self.waiting = self.waiting, []
        for envelope, line in waiting:
            self.offer(envelope, line)

    def offer(self, envelope: list[bytes], line: bytes) -> None:
        """Pass a line on and confirm it to its client, or let it wait for a worker."""
        taken = self.has_worker(line)
        if not taken and self.worker_may_come():
            self.waiting.append((envelope, line))
            return
        try:  # also if it is refused then: a subscription may end within a word
            self.worker_inputs.send(line, zmq.NOBLOCK)
        except zmq.Again:
            confirmation = BUSY
        else:
            confirmation = b"accepted" if taken else self.refusal()
        cli.log("line: %s: %s", line, confirmation)
        self.client_inputs.send_multipart([*envelope, confirmation])

    def has_worker(self, line: bytes) -> bool:
        """Tell whether a worker has subscribed to a prefix of the line, up to the end of a word."""
        first = line.partition(b" ")[0]
        return first in self.topics or any(
            line.startswith(topic)
            and not (topic[-1:].isalnum() and line[len(topic) : len(topic) + 1].strip())
            for topic in self.topics
        )

    def worker_may_come(self) -> bool:
        """Tell whether there is time, and room, to wait for a worker that has yet to start."""
        return time.monotonic() < self.start_deadline and len(self.waiting) < MAX_WAITING

    def refusal(self) -> bytes:
        """Return the refusal of a line; it names the shortest keywords that are taken."""
        named = heapq.nsmallest(MAX_NAMED, self.topics, key=lambda topic: (len(topic), topic))
        text = b", ".join(sorted(topic[:MAX_NAME] for topic in named)).decode("utf-8", "replace")
        more = f" and {len(self.topics) - len(named)} more" if len(self.topics) > len(named) else ""
        return f"no worker takes such a line; now taken: {text or 'none'}{more}".encode()


def bind(socket: zmq.Socket, port: int, host: str) -> str:
    """Bind a socket and return the real "host:port"; raise OSError if it cannot be had."""
    try:
        socket.bind(f"tcp://{cli.join_address(host, port)}")
    except zmq.ZMQError as error:
        raise OSError(cli.cannot_listen(host, port, error)) from error
    return socket.last_endpoint.decode().removeprefix("tcp://")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser(
        "Route lines from clients to workers and answers back.", "5555 5556 5557 5558"
    )
    for name in NAMES:
        parser.add_argument(name, type=cli.parse_port, help="port to listen on; 0 picks a free one")
    parser.add_argument("--host", type=cli.parse_host, default="127.0.0.1", help=cli.HOST_HELP)
    cli.add_verbose(parser, "each line, answer, and kind of worker that comes or goes")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    cli.start_log(args.verbose)
    cli.end_on_signal()
    cli.allow_open_files(descriptors.MAX_OPEN)
    context = sockets.open_context(args.host)
    try:
        broker = Broker(context, args.host, [getattr(args, name) for name in NAMES])
    except OSError as error:
        context.destroy(linger=0)
        return cli.complain(str(error))
    named = map(" ".join, zip(NAMES, broker.addresses, strict=True))
    cli.report_ready("Listening on " + ", ".join(named))
    broker.run()


if __name__ == "__main__":
    sys.exit(main())
