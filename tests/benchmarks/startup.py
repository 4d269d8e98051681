"""How long each script takes from its start until it is ready."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.measure import Goal, Row
from tests.benchmarks.processes import folder, serving
from tests.support.harness import ROOT, wait_until
from tests.support.ports import free_port
from tests.support.processes import Script, running

LIMIT = 0.3  # s
LIBRARIES = {1: "pass", 2: "pass", 3: "import zmq", 4: "import grpc"}  # 5 and 6 as 4
Start = tuple[str, list, str]  # the script, its arguments, what it prints when it is ready


def rows(lab: int) -> Iterator[Row]:
    """Yield a row for each script of a lab."""
    library = LIBRARIES.get(lab, LIBRARIES[4])
    with contextlib.ExitStack() as stack:
        for script, arguments, ready in SCRIPTS[lab](stack):
            yield Row(
                lab,
                f"start of {script}",
                "s",
                "lower",
                {
                    "ours": lambda start=(ROOT / script, arguments, ready): seconds(*start),
                    f'python3 -c "{library}"': lambda: seconds(
                        Path("-c"), [f"{library}; print('Ready')"], "Ready"
                    ),
                    f"{LIMIT:g} s": lambda: LIMIT,
                },
                [Goal(f"{LIMIT:g} s", 1.0)],
            )


def seconds(path: Path, arguments: list, ready: str) -> float:
    """Start a script on a terminal and return how long it takes until it is ready."""
    begun = time.perf_counter()
    script = Script(path, *arguments, tty=True)
    try:
        script.expect(ready)
        taken = time.perf_counter() - begun
        # Python's readline misses a Ctrl-C that comes just before it begins to wait.
        wait_until(lambda: script.interrupt() or not script.running, f"the end of {path}")
    finally:
        script.stop()
    return taken


def lab1(stack: contextlib.ExitStack) -> Iterator[Start]:
    place = stack.enter_context(folder())
    yield "lab01_udp/server.py", [0, "--dir", place], "Listening on"
    port = serving(stack, "lab01_udp/server.py", 0, "--dir", place)
    (place / "empty").touch()
    yield "lab01_udp/client.py", [f"127.0.0.1:{port}", place / "empty", "name"], "Sent"


def lab2(stack: contextlib.ExitStack) -> Iterator[Start]:
    yield "lab02_tcp_threads/server.py", [0], "Listening on"
    port = serving(stack, "lab02_tcp_threads/server.py", 0)
    yield "lab02_tcp_threads/client.py", [f"127.0.0.1:{port}"], "Connected to"


def lab3(stack: contextlib.ExitStack) -> Iterator[Start]:
    yield "lab03_zmq/server.py", [0, 0, 0, 0], "Listening on"
    inputs, outputs, worker_inputs, worker_outputs = (free_port() for _ in range(4))
    ports = inputs, outputs, worker_inputs, worker_outputs
    stack.enter_context(running("lab03_zmq/server.py", *ports)).expect("Listening on")
    yield "lab03_zmq/prime.py", [worker_inputs, worker_outputs], "Ready for"
    yield "lab03_zmq/gcd.py", [worker_inputs, worker_outputs], "Ready for"
    yield "lab03_zmq/client.py", [inputs, outputs], "^> "


def lab4(stack: contextlib.ExitStack) -> Iterator[Start]:
    yield "lab04_grpc/server.py", [0], "Listening on"
    port = serving(stack, "lab04_grpc/server.py", 0)
    yield "lab04_grpc/client.py", [f"127.0.0.1:{port}"], "^> "


def lab5(stack: contextlib.ExitStack) -> Iterator[Start]:
    yield "lab05_chord/Registry.py", ["127.0.0.1:0", 5], "Registry listens on"
    port = serving(stack, "lab05_chord/Registry.py", "127.0.0.1:0", 5)
    yield "lab05_chord/Node.py", [f"127.0.0.1:{port}", "127.0.0.1:0"], "assigned node_id"
    yield "lab05_chord/Client.py", [], "^> "


def lab6(stack: contextlib.ExitStack) -> Iterator[Start]:
    place = stack.enter_context(folder())
    config = place / "config.conf"
    config.write_text(f"0 127.0.0.1 {free_port()}\n")
    yield "lab06_raft/server.py", [0, "--config", config], "The server starts"
    yield "lab06_raft/client.py", [], "^> "


SCRIPTS: dict[int, Callable[[contextlib.ExitStack], Iterator[Start]]] = {
    1: lab1,
    2: lab2,
    3: lab3,
    4: lab4,
    5: lab5,
    6: lab6,
}
