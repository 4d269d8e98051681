"""Tell TCP clients which numbers are prime: python3 server.py 5555

The main thread accepts connections and puts them into a queue. Worker threads take them from there;
each waits for all of its connections and the queue at once, and for the queue alone while it has no
connection, so that a handful of threads serves any number of clients and an idle client costs none
of them.

A number that takes long to test goes with its connection through one more thread, the slow lane,
and back through the queue of the new connections: so it keeps no worker, and clients who ask for
such numbers wait for each other only.

    main ---queue---> worker, worker, ... ---slow---> slow lane
               ^                                          |
               +------------------------------------------+

What travels is the connection's file descriptor and the little that is known of it. The queue
pickles what it carries, and a pickled socket would become a second descriptor: slow to hand over,
and the client would not see the end of the connection before both are closed.
"""

import argparse
import contextlib
import os
import resource
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from queue import Empty, SimpleQueue
from threading import Thread

from connection import Connection

WORKERS = 8
MAX_WORKERS = 256  # each takes a file descriptor
MAX_OPEN_FILES = 10_000  # one for each client
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
BACKLOG = 1024  # connections that the system may hold until they are accepted
QUIET = 0.05  # s of silence that end a number, for clients which send no line ends
SWITCH_INTERVAL = 0.001  # s: how long a thread that computes may keep another one waiting
TICK = 0.5  # s: a signal just before accept() waits would not end the wait
ACCEPT_PAUSE = 0.05  # s to wait for a file descriptor when there is none left
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Worker(Thread):
    """Serves the connections that it takes from the queue, all at once."""

    def __init__(self, queue, slow: SimpleQueue):
        super().__init__()
        self.queue = queue
        self.reader = queue._reader  # its pipe's end; concurrent.futures waits for it in this way
        self.slow = slow
        self.stopping = False
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.reader, READ)
        self.quiet_at: dict[Connection, float] = {}  # when a partial token becomes a whole one

    def run(self) -> None:
        watched = self.selector.get_map()
        while not self.stopping:
            if len(watched) == 1:  # only the queue: of those who wait for it alone, one wakes
                self.begin(self.queue.get())
                continue
            for key, events in self.selector.select(self.patience()):
                if key.data is None:
                    self.take()
                else:
                    self.serve(key.data, events)
            if self.quiet_at:
                self.end_quiet_tokens()
        for key in list(self.selector.get_map().values()):
            if key.data is not None:
                self.close(key.data)
        self.selector.close()

    def patience(self) -> float | None:
        """Return for how many seconds there is nothing to do but wait; None is for ever."""
        for at in self.quiet_at.values():  # the first is the earliest
            return max(0.0, at - time.monotonic())
        return None

    def take(self) -> None:
        """Take one connection from the queue, unless another worker is faster."""
        with contextlib.suppress(Empty):
            self.begin(self.queue.get(block=False))

    def begin(self, state: tuple | None) -> None:
        if state is None:
            self.stopping = True
        else:
            connection = Connection(*state)
            self.selector.register(connection.sock, READ, connection)
            self.serve(connection)

    def serve(self, connection: Connection, events: int = 0) -> None:
        """Read if there is something, answer, and wait for what has to come next."""
        try:
            if events & READ:
                self.quiet_at.pop(connection, None)
                connection.read()
            connection.answer()
            connection.send()
        except OSError:
            self.close(connection)
            return
        if connection.output:
            self.wait_for(connection, WRITE)  # who does not take answers may not ask
        elif connection.tokens:
            self.selector.unregister(connection.sock)
            self.slow.put(connection.detach())
        elif connection.ended:
            self.close(connection)
        else:
            self.wait_for(connection, READ)
            if connection.partial and not connection.delimited:
                self.quiet_at.setdefault(connection, time.monotonic() + QUIET)

    def wait_for(self, connection: Connection, events: int) -> None:
        if connection.events != events:
            connection.events = events
            self.selector.modify(connection.sock, events, connection)

    def end_quiet_tokens(self) -> None:
        now = time.monotonic()
        for connection in [c for c, at in self.quiet_at.items() if at <= now]:
            del self.quiet_at[connection]
            connection.end_token()
            self.serve(connection)

    def close(self, connection: Connection) -> None:
        self.quiet_at.pop(connection, None)
        self.selector.unregister(connection.sock)
        connection.sock.close()
        say(f"{connection.address} disconnected")


class SlowLane(Thread):
    """Answers one number that takes long after the other."""

    def __init__(self, queue, slow: SimpleQueue):
        super().__init__()
        self.queue = queue
        self.slow = slow
        self.stopping = False

    def run(self) -> None:
        while (state := self.slow.get()) is not None and not self.stopping:
            connection = Connection(*state)
            connection.answer_next()
            self.queue.put(connection.detach())


def say(line: str) -> None:
    """Write a line to stdout, if that takes it now: we do not stop for one."""
    with contextlib.suppress(OSError):
        if select.select([], [sys.stdout], [], 0)[1]:
            os.write(sys.stdout.fileno(), f"{line}\n".encode())


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let KeyboardInterrupt come here, and in the main thread nowhere else."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def serve(listener: socket.socket, queue) -> None:
    """Accept connections and put them into the queue until KeyboardInterrupt."""
    listener.settimeout(TICK)
    while True:
        try:
            with interruptible():
                sock, address = listener.accept()
        except TimeoutError:
            continue
        except OSError:  # no file descriptor is left: some client will go
            time.sleep(ACCEPT_PAUSE)
            continue
        say(f"{address[:2]} connected")
        queue.put((sock.detach(), address[:2]))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; raise OSError if the address cannot be had."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its connections inherit it
    return listener


def allow_open_files(count: int) -> None:
    """Ask for so many file descriptors, where a process gets fewer (macOS: 256)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def parse_port(text: str) -> int:
    """Return the port number in `text`, 0 to 65535; raise ArgumentTypeError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port number, not {text!r}")
    return int(text)


def parse_workers(text: str) -> int:
    """Return a number of threads; raise ArgumentTypeError if it is none or absurd."""
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_WORKERS):
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_WORKERS}, not {text!r}")
    return int(text)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Tell TCP clients which numbers are prime.",
        epilog="example: python3 server.py 5555",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument("port", type=parse_port, help="to listen on; 0 picks a free one")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in")
    parser.add_argument("--workers", type=parse_workers, default=WORKERS, help="worker threads")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    for name in ("stdout", "stderr"):  # closed by who has started us
        setattr(sys, name, getattr(sys, name) or open(os.devnull, "w"))  # noqa: SIM115
    args = parse_args(argv)
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # in the threads for good
    sys.setswitchinterval(SWITCH_INTERVAL)
    allow_open_files(MAX_OPEN_FILES)
    host = f"[{args.host}]" if ":" in args.host else args.host
    try:
        listener = listen(args.host, args.port)
    except (OSError, UnicodeError) as error:  # UnicodeError: of a host name
        print(f"server.py: cannot listen on {host}:{args.port}: {error}", file=sys.stderr)
        return 1
    # With the other start methods, the default on macOS and since Python 3.14, a queue comes with a
    # helper process; nothing is ever forked here.
    queue, slow = get_context("fork").Queue(), SimpleQueue()
    slow_lane = SlowLane(queue, slow)
    workers = [Worker(queue, slow) for _ in range(args.workers)]
    with contextlib.suppress(KeyboardInterrupt), listener:
        for thread in (slow_lane, *workers):
            thread.start()
        say(f"Listening on {host}:{listener.getsockname()[1]}")
        serve(listener, queue)
    say("Shutting down")
    slow_lane.stopping = True
    slow.put(None)
    for _ in workers:
        queue.put(None)  # each worker takes one and ends
    for thread in (slow_lane, *workers):
        thread.join()
    queue.close()
    queue.join_thread()
    say("Done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
