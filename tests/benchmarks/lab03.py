"""Lab 3: commands, beside a minimal broker of the same topology, zmq.proxy and a REQ/REP echo."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import zmq

from tests.benchmarks.measure import Goal, Row, one_core
from tests.benchmarks.processes import BARE, serving
from tests.support.harness import wait_until
from tests.support.ports import free_port
from tests.support.processes import running

LINE = b"gcd 1071 462"
COUNT = 2000  # commands in a round
CLIENTS = 10
WINDOW = 200  # commands under way, of all clients: far fewer than a queue of zmq holds
PAUSE = 50  # ms
MINIMAL = "minimal broker"


class Client:
    """A client: its line goes out on REQ; the answer comes on SUB, or else on REQ."""

    def __init__(self, context: zmq.Context, inputs: int, outputs: int | None):
        self.requests = context.socket(zmq.REQ)
        self.requests.connect(f"tcp://127.0.0.1:{inputs}")
        self.answers = None
        if outputs:
            self.answers = context.socket(zmq.SUB)
            self.answers.subscribe(b"")
            self.answers.connect(f"tcp://127.0.0.1:{outputs}")

    def ask(self) -> None:
        """Return when a line is confirmed and answered."""
        self.requests.send(LINE)
        self.requests.recv()
        if self.answers:
            self.answers.recv()

    def is_heard(self) -> bool:
        """Try whether the way to the worker and back is open; take all that comes back."""
        self.requests.send(LINE)
        self.requests.recv()
        heard = not self.answers
        while self.answers and self.answers.poll(PAUSE):
            heard = bool(self.answers.recv())
        return heard

    def close(self) -> None:
        self.requests.close(linger=0)
        if self.answers:
            self.answers.close()


def rows(stack: contextlib.ExitStack) -> Iterator[Row]:
    for cores in ("one core", "all cores"):
        with contextlib.ExitStack() as servers:
            if cores == "one core":
                servers.enter_context(one_core())
            context = servers.enter_context(zmq.Context())  # with a thread, on these cores
            brokers = {
                "ours": pipeline(servers, our_broker, our_worker),
                MINIMAL: pipeline(servers, bare_broker, bare_worker),
                "minimal broker, our worker": pipeline(servers, bare_broker, our_worker),
                "our broker, echoing worker": pipeline(servers, our_broker, bare_worker),
                "zmq.proxy, REQ/REP": (serving(servers, BARE, "zmq-proxy", free_port()), None),
                "REQ/REP echo": (serving(servers, BARE, "zmq-echo"), None),
            }

            def contestants(measured: Callable, brokers=brokers, context=context) -> dict:
                return {
                    name: lambda ports=ports: measured(context, *ports)
                    for name, ports in brokers.items()
                }

            goals = [Goal(MINIMAL, 1.1)]
            yield Row(3, f"p50 of a command, {cores}", "us", "lower", contestants(p50), goals)
            what = f"{CLIENTS} clients, commands without waiting, {cores}"
            yield Row(3, what, "1/s", "higher", contestants(rate), [Goal(MINIMAL, 0.75)])


def pipeline(stack: contextlib.ExitStack, broker: Callable, worker: Callable) -> tuple[int, int]:
    """Start broker and worker, and return the ports of the clients."""
    ports = [free_port() for _ in range(4)]
    broker(stack, *ports)
    worker(stack, *ports[2:])
    return ports[0], ports[1]


def our_broker(stack: contextlib.ExitStack, *ports: int) -> None:
    stack.enter_context(running("lab03_zmq/server.py", *ports)).expect("Listening on")


def our_worker(stack: contextlib.ExitStack, *ports: int) -> None:
    stack.enter_context(running("lab03_zmq/gcd.py", *ports)).expect("Ready for")


def bare_broker(stack: contextlib.ExitStack, *ports: int) -> None:
    serving(stack, BARE, "zmq-broker", *ports)


def bare_worker(stack: contextlib.ExitStack, *ports: int) -> None:
    serving(stack, BARE, "zmq-worker", *ports)


@contextlib.contextmanager
def connected(context: zmq.Context, count: int, *ports: int | None) -> Iterator[list[Client]]:
    """So many clients, whose lines are answered from now on."""
    clients = [Client(context, *ports) for _ in range(count)]
    try:
        for client in clients:
            wait_until(client.is_heard)
        for client in clients:
            while client.answers and client.answers.poll(PAUSE):
                client.answers.recv()
        yield clients
    finally:
        for client in clients:
            client.close()


def p50(context: zmq.Context, *ports: int | None) -> float:
    """Return the median time of a command, in microseconds."""
    times = []
    with connected(context, 1, *ports) as (client,):
        for _ in range(COUNT):
            begun = time.perf_counter()
            client.ask()
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def rate(context: zmq.Context, *ports: int | None) -> float:
    """Return the commands per second of clients that send the next when one is confirmed."""
    with connected(context, CLIENTS, *ports) as clients:
        poller = zmq.Poller()
        for client in clients:
            for socket in filter(None, (client.requests, client.answers)):
                poller.register(socket, zmq.POLLIN)
        idle = [client.requests for client in clients]
        sent = heard = 0
        begun = time.perf_counter()
        while heard < COUNT * CLIENTS:
            while idle and sent < COUNT and sent - heard // CLIENTS < WINDOW:
                idle.pop().send(LINE)
                sent += 1
            for socket, _ in poller.poll():
                socket.recv()
                if socket.socket_type == zmq.REQ:
                    idle.append(socket)
                if socket.socket_type == zmq.SUB:
                    heard += 1  # every client hears every answer
                elif not ports[1]:
                    heard += CLIENTS
        return COUNT / (time.perf_counter() - begun)
