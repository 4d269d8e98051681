"""Route lines from clients to workers and answers back: python3 server.py 5555 5556 5557 5558

    client REQ --> ROUTER client_inputs            worker_inputs  XPUB ---> SUB  worker
    client SUB <--- PUB  client_outputs            worker_outputs  SUB <--- PUB  worker

The two directions do not wait for each other, and no line is looked into: each goes to the workers
that have subscribed to a prefix of it. An XPUB socket hears of the subscriptions, so the
confirmation that a client gets at once can tell it when no worker takes such a line. ROUTER is REP
with the envelopes in our own hands: after a malformed message from a client that has left, REP
would lose the next confirmation.
"""

import argparse
import sys
import time
from typing import NoReturn

import process  # before all other packages

# isort: split
import zmq

MAX_LINE = 1 << 16  # bytes, also of a subscription; a longer message ends its connection
MAX_ANSWER = 1 << 17  # bytes from a worker
GRACE = 2.0  # s after the start, in which workers may still be on their way
MAX_WAITING = 1000  # lines, in that time
NAMES = ("client_inputs", "client_outputs", "worker_inputs", "worker_outputs")


class Broker:
    """The four sockets and what goes between them.

    Args:
        host, ports: where to bind, the ports in the order of NAMES; raises OSError if that fails.
    """

    def __init__(self, context: zmq.Context, host: str, ports: list[int]):
        self.client_inputs = context.socket(zmq.ROUTER)
        self.client_outputs = context.socket(zmq.PUB)
        self.worker_inputs = context.socket(zmq.XPUB)
        self.worker_outputs = context.socket(zmq.SUB)
        self.worker_outputs.subscribe(b"")
        sockets = [getattr(self, name) for name in NAMES]
        for socket in sockets:
            socket.maxmsgsize = MAX_ANSWER if socket is self.worker_outputs else MAX_LINE
        self.addresses = [
            bind(socket, host, port) for socket, port in zip(sockets, ports, strict=True)
        ]
        self.topics: set[bytes] = set()  # what the workers have subscribed to
        self.waiting: list[tuple[list[bytes], bytes]] = []  # envelopes and lines to confirm
        self.grace_ends = time.monotonic() + GRACE

    def run(self) -> NoReturn:
        """Route."""
        poller = zmq.Poller()
        for socket in (self.worker_inputs, self.worker_outputs, self.client_inputs):
            poller.register(socket, zmq.POLLIN)
        while True:
            for socket, _ in poller.poll(self.patience()):
                if socket is self.worker_inputs:
                    self.note_subscription()
                elif socket is self.worker_outputs:
                    self.publish(socket.recv())
                else:
                    self.receive(socket.recv_multipart())
            if self.waiting:
                self.waiting = [one for one in self.waiting if not self.offer(*one)]

    def patience(self) -> float | None:
        """Return for how many milliseconds there is nothing to do but wait; None: for ever."""
        if not self.waiting:
            return None
        return max(0.0, self.grace_ends - time.monotonic()) * 1000

    def publish(self, answer: bytes) -> None:
        """Pass an answer on to all clients, those included who have just come."""
        # Asking lets them in; to save time, a mere send may put that off.
        self.client_outputs.get(zmq.EVENTS)
        self.client_outputs.send(answer)

    def note_subscription(self) -> None:
        """Take notice of a prefix that the first worker wants, or the last one no longer does."""
        notice = self.worker_inputs.recv()
        if notice[:1] == b"\x01":
            self.topics.add(notice[1:])
        elif notice[:1] == b"\x00":
            self.topics.discard(notice[1:])

    def receive(self, frames: list[bytes]) -> None:
        """Take the line from a client's message: an envelope, an empty frame, the line."""
        if b"" in frames:
            body = frames.index(b"") + 1
            self.waiting.append((frames[:body], b" ".join(frames[body:])))

    def offer(self, envelope: list[bytes], line: bytes) -> bool:
        """Pass a line on and confirm it to its client; return False if a worker may still come."""
        if line.startswith(tuple(self.topics)):
            self.worker_inputs.send(line)
            confirmation = "accepted"
        elif time.monotonic() < self.grace_ends and len(self.waiting) < MAX_WAITING:
            return False
        else:
            topics = sorted(topic.decode("utf-8", "replace") for topic in self.topics)
            confirmation = f"no worker takes such a line; now taken: {', '.join(topics) or 'none'}"
        self.client_inputs.send_multipart([*envelope, confirmation.encode()])
        return True


def bind(socket: zmq.Socket, host: str, port: int) -> str:
    """Bind a socket and return the real "host:port"; raise OSError if it cannot be had."""
    address = f"[{host}]" if ":" in host else host
    try:
        socket.bind(f"tcp://{address}:{port or '*'}")
    except zmq.ZMQError as error:
        raise OSError(f"cannot listen on {address}:{port}: {error}") from error
    return socket.last_endpoint.decode().removeprefix("tcp://")


def parse_port(text: str) -> int:
    """Return the port number in `text`, 0 to 65535; raise ArgumentTypeError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port number, not {text!r}")
    return int(text)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Route lines from clients to workers and answers back.",
        epilog="example: python3 server.py 5555 5556 5557 5558",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    for name in NAMES:
        parser.add_argument(name, type=parse_port, help="port; 0 picks a free one")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    process.end_on_signal()
    context = zmq.Context()
    context.setsockopt(zmq.IPV6, ":" in args.host)
    try:
        broker = Broker(context, args.host, [getattr(args, name) for name in NAMES])
    except OSError as error:
        print(f"server.py: {error}", file=sys.stderr)
        context.destroy(linger=0)
        return 1
    named = map(" ".join, zip(NAMES, broker.addresses, strict=True))
    process.say("Listening on " + ", ".join(named))
    broker.run()


if __name__ == "__main__":
    sys.exit(main())
