"""Tell TCP clients which numbers are prime: python3 server.py 5555

The main thread accepts connections and puts them into a queue. Worker threads take them from there.
Each waits for all of its connections and the queue at once, and for the queue alone while it has no
connection: so a handful of threads serves any number of clients, and an idle client costs none.

A worker serves a client for one turn, about a millisecond. A client that then still has numbers to
be tested, or has sent one that takes long, goes to one more thread, the slow lane, and comes back
through the queue. So clients that keep the processor busy wait for each other only.

    main ---queue---> worker, worker, ... ---slow lane---+
               ^                                         |
               +-----------------------------------------+

The queue carries a file descriptor and an address. It pickles what it carries, and a pickled socket
would become a second descriptor: slow to hand over, and the client would not see the end of the
connection before both are closed.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import contextlib
import selectors
import socket
import sys
import time
import traceback
from multiprocessing import get_context
from queue import Empty
from threading import Thread

from connection import Connection
from slow_lane import SlowLane

WORKERS = 8
MAX_WORKERS = 256  # each takes a file descriptor
MAX_OPEN_FILES = 10_000  # one for each client
BACKLOG = 1024  # connections that the system may hold until they are accepted
QUIET = 0.05  # s of silence that end a number, for clients that send no white space
ACCEPT_PAUSE = 0.05  # s to wait for a file descriptor when there is none left
# With these options the system ends a connection 30 s after the client's machine has vanished: an
# idle one after three probes without an answer, one with unacknowledged data by TCP_USER_TIMEOUT.
KEEPALIVE = {
    "TCP_KEEPIDLE": 15,  # s
    "TCP_KEEPALIVE": 15,  # s: its name on macOS
    "TCP_KEEPINTVL": 5,  # s
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 30_000,  # ms; Linux only
}
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Worker(Thread):
    """Serves the connections that it takes from the queue, all at once."""

    def __init__(self, queue, slow_lane: SlowLane, number: int = 0):
        super().__init__(name=f"worker {number}")
        self.queue = queue
        self.reader = queue._reader  # its pipe, for the selector; concurrent.futures does the same
        self.slow_lane = slow_lane
        self.stopping = False
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.reader, READ)
        self.quiet_at: dict[Connection, float] = {}  # when a partial token becomes a whole one

    def run(self) -> None:
        watched = self.selector.get_map()
        while not self.stopping:
            if (
                len(watched) == 1
            ):  # the queue alone: in get() a new element wakes one worker, not all
                self.begin(self.queue.get())
                continue
            for key, events in self.selector.select(self.timeout()):
                if self.stopping:
                    break
                if key.data is None:
                    self.take()
                else:
                    self.serve(key.data, events)
            if self.quiet_at:
                self.end_quiet_tokens()
        for key in list(watched.values()):
            if key.data is not None:
                self.close(key.data)
        self.selector.close()

    def timeout(self) -> float | None:
        """Return the seconds until the first partial token is due; None if there is none."""
        for at in self.quiet_at.values():  # the first is the earliest
            return max(0.0, at - time.monotonic())
        return None

    def take(self) -> None:
        """Take one connection from the queue, unless another worker is faster."""
        with contextlib.suppress(Empty):
            self.begin(self.queue.get(block=False))

    def begin(self, element: tuple[int, tuple] | None) -> None:
        """Serve the connection in an element of the queue; None means stop."""
        if element is None:
            return
        connection = self.slow_lane.claim(*element)
        self.selector.register(connection.sock, READ, connection)
        connection.events = READ
        self.serve(connection)

    def serve(self, connection: Connection, events: int = 0) -> None:
        """Read if there is something, answer, and choose which event comes next."""
        try:
            if events & READ:
                self.quiet_at.pop(connection, None)
                connection.read()
            connection.answer()
            connection.send()
        except OSError:
            self.close(connection)
            return
        except Exception:  # a fault of ours: this client loses its connection, the others do not
            cli.say(f"{connection.address}: {traceback.format_exc()}", "stderr")
            self.close(connection)
            return
        if connection.output:
            self.wait_for(connection, WRITE)  # a client that does not take answers may not ask
        elif connection.tokens:
            self.selector.unregister(connection.sock)
            self.slow_lane.put(connection)
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
        self.selector.unregister(connection.sock)
        connection.close()


def accept_clients(listener: socket.socket, queue, wake: socket.socket) -> None:
    """Accept connections and put them into the queue, until there is something in `wake`."""
    listener.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, READ)
        selector.register(wake, READ)
        while all(key.fileobj is listener for key, _ in selector.select()):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):  # that client has gone
                continue
            except OSError:  # no file descriptor is left: some client will go
                time.sleep(ACCEPT_PAUSE)
                continue
            cli.say(f"{address[:2]} connected")
            cli.log("%s connected", address[:2])
            queue.put((sock.detach(), address[:2]))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; raise OSError if the address cannot be had.

    The connections inherit its options.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found.sort(key=lambda info: info[0] != socket.AF_INET)  # "localhost" is 127.0.0.1, as printed
    family, _, _, _, address = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        enable_keepalive(listener)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def enable_keepalive(sock: socket.socket) -> None:
    """Let the system end a connection whose other side does not answer any more."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def end_threads(queue, slow_lane: SlowLane, workers: list[Worker]) -> None:
    """End the threads, whatever they are doing, and the connections with them."""
    for worker in workers:
        worker.stopping = True
    for _ in workers:
        queue.put(None)  # wakes one worker
    slow_lane.stop()
    for thread in (slow_lane, *workers):
        thread.join()
    slow_lane.close_connections()
    queue.put(())  # marks the end of what is in the queue
    for element in iter(queue.get, ()):
        if element:  # a connection that no worker has taken
            slow_lane.claim(*element).close()
    queue.close()
    queue.join_thread()


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("Tell TCP clients which numbers are prime.", "5555")
    parser.add_argument("port", type=cli.parse_port, help="to listen on; 0 picks a free one")
    parser.add_argument("--host", type=cli.parse_host, default="127.0.0.1", help=cli.HOST_HELP)
    parser.add_argument(
        "--workers",
        type=cli.number(1, MAX_WORKERS),
        default=WORKERS,
        help="worker threads (default: %(default)s)",
    )
    cli.add_verbose(parser, "each client that comes or goes, and each number")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    cli.start_log(args.verbose)
    wake, waker = socket.socketpair()
    cli.on_signal(waker.close)
    cli.allow_open_files(MAX_OPEN_FILES)
    try:
        listener = listen(args.host, args.port)
    except (OSError, UnicodeError) as error:
        return cli.complain(cli.cannot_listen(args.host, args.port, error))
    # With the other start methods, the default on macOS and since Python 3.14, a queue comes with a
    # helper process; nothing is ever forked here.
    queue = get_context("fork").Queue()
    slow_lane = SlowLane(queue)
    workers = [Worker(queue, slow_lane, number) for number in range(args.workers)]
    with listener:
        for thread in (slow_lane, *workers):
            thread.start()
        cli.report_ready(f"Listening on {cli.join_address(args.host, listener.getsockname()[1])}")
        accept_clients(listener, queue, wake)
    cli.say("Shutting down")
    end_threads(queue, slow_lane, workers)
    cli.say("Done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
