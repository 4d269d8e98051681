"""Route lines from clients to workers and answers back: python3 server.py 5555 5556 5557 5558

    client REQ ---> REP  client_inputs             worker_inputs  XPUB ---> SUB  worker
    client SUB <--- PUB  client_outputs            worker_outputs  SUB <--- PUB  worker

The two directions do not wait for each other, and no line is looked into: each goes to the workers
that have subscribed to a prefix of it. An XPUB socket hears of the subscriptions, so the
confirmation that a client gets at once can tell it when no worker takes such a line.
"""

import argparse
import os
import select
import signal
import sys
import time

# Held back until main() is ready: some imports swallow an exception that comes upon them.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

import zmq  # noqa: E402

MAX_LINE = 1 << 16  # bytes from a client; a longer message ends its connection
MAX_ANSWER = 1 << 17  # bytes from a worker
TICK = 500  # ms: a signal just before the poller waits would not end the wait
GRACE = 2.0  # s after the start, in which workers may still be on their way
NAMES = ("client_inputs", "client_outputs", "worker_inputs", "worker_outputs")


class Broker:
    """The four sockets and what goes between them.

    Args:
        host, ports: where to bind, the ports in the order of NAMES; raises OSError if that fails.
    """

    def __init__(self, context: zmq.Context, host: str, ports: list[int]):
        self.client_inputs = context.socket(zmq.REP)
        self.client_outputs = context.socket(zmq.PUB)
        self.worker_inputs = context.socket(zmq.XPUB)
        self.worker_outputs = context.socket(zmq.SUB)
        self.client_inputs.maxmsgsize = MAX_LINE
        self.worker_outputs.maxmsgsize = MAX_ANSWER
        self.worker_outputs.subscribe(b"")
        sockets = [getattr(self, name) for name in NAMES]
        self.addresses = [
            bind(socket, host, port) for socket, port in zip(sockets, ports, strict=True)
        ]
        self.topics: set[bytes] = set()  # what the workers have subscribed to
        self.line: bytes | None = None  # from a client who waits for its confirmation
        self.grace_ends = time.monotonic() + GRACE

    def run(self) -> None:
        """Route until KeyboardInterrupt."""
        poller = zmq.Poller()
        for socket in (self.client_inputs, self.worker_inputs, self.worker_outputs):
            poller.register(socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(self.patience()))
            if self.worker_inputs in ready:
                self.note_subscription()
            if self.worker_outputs in ready:
                self.publish(self.worker_outputs.recv())
            if self.client_inputs in ready:
                self.line = b" ".join(self.client_inputs.recv_multipart())
            if self.line is not None:
                self.offer(self.line)

    def patience(self) -> float:
        """Return for how many milliseconds there is nothing to do but wait."""
        if self.line is None:
            return TICK
        return min(TICK, max(0.0, self.grace_ends - time.monotonic()) * 1000)

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
        else:
            self.topics.discard(notice[1:])

    def offer(self, line: bytes) -> None:
        """Pass a line on to the workers and confirm it to its client."""
        if any(line.startswith(topic) for topic in self.topics):
            self.worker_inputs.send(line)
            self.confirm("accepted")
        elif time.monotonic() >= self.grace_ends:
            topics = sorted(topic.decode("utf-8", "replace") for topic in self.topics)
            self.confirm(f"no worker takes such a line; now taken: {', '.join(topics) or 'none'}")

    def confirm(self, text: str) -> None:
        self.client_inputs.send_string(text)
        self.line = None


def bind(socket: zmq.Socket, host: str, port: int) -> str:
    """Bind a socket and return the real "host:port"; raise OSError if it cannot be had."""
    address = f"[{host}]" if ":" in host else host
    try:
        socket.bind(f"tcp://{address}:{port or '*'}")
    except zmq.ZMQError as error:
        raise OSError(f"cannot listen on {address}:{port}: {error}") from error
    return socket.last_endpoint.decode().removeprefix("tcp://")


def say(line: str) -> None:
    """Write a line to stdout, if its reader still reads: we do not stop for one."""
    try:
        if select.select([], [sys.stdout], [], 0)[1]:
            print(line + "\n", end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.default_int_handler)
    context = zmq.Context()
    context.setsockopt(zmq.IPV6, ":" in args.host)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        broker = Broker(context, args.host, [getattr(args, name) for name in NAMES])
        named = map(" ".join, zip(NAMES, broker.addresses, strict=True))
        say("Listening on " + ", ".join(named))
        broker.run()
    except OSError as error:
        print(f"server.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for signum in STOP_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        context.destroy(linger=0)


if __name__ == "__main__":
    sys.exit(main())
