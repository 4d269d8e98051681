"""Start a Chord ring, a Raft cluster, or both with their pages: make ring, cluster or watch

Each line of a child is shown with the child's name in front. Ctrl-C ends all children in good
order; a second Ctrl-C is passed on to them. A child that ends by itself is named; the others go on,
unless it was still starting. Exit status 0 means that Ctrl-C has ended the children, each with 0.
"""

import argparse
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parent.parent
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
READY = re.compile(rb"Registry listens|assigned node_id|The server starts|Open http")
LARGEST_M = 32  # bits of an id in the ring
DEFAULT_PORTS = {"ring": 5000, "cluster": 50000, "watch": 5000}
PAGES = 8005  # the port of the ring's page; the cluster's has the next one
WATCHED_SERVERS = 3
Command = tuple[str, str, list]  # a name, a script and its arguments


class Child:
    """A script of a lab. It puts itself into `events` when it is ready, and when it has ended."""

    def __init__(self, command: Command, events: queue.SimpleQueue):
        self.name, script, arguments = command
        self.events = events
        self.is_ready = False
        self.status: int | None = None  # after its end
        self.is_told = False  # to end
        self.process = subprocess.Popen(
            [sys.executable, ROOT / script, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches it from here only, when it is its turn
        )
        words = (f"process {self.process.pid}: python3", script, *map(str, arguments))
        show(self.name, " ".join(words))  # what to kill, and how to start it again
        threading.Thread(target=self._watch).start()

    def _watch(self) -> None:
        for line in self.process.stdout:
            show(self.name, line.decode(errors="replace").rstrip("\n"))
            if not self.is_ready and READY.match(line):
                self.is_ready = True
                self.events.put(self)
        self.status = self.process.wait()
        if self.status or not self.is_told:
            show(self.name, f"ended with exit status {self.status}")
        self.events.put(self)

    def interrupt(self) -> None:
        if self.process.poll() is None:  # else it has ended by itself
            self.is_told = True
            self.process.send_signal(signal.SIGINT)


def show(name: str, line: str) -> None:
    """Print a line of a child. When nothing reads it any more, all is to end."""
    try:
        print(f"{name:>10} | {line}\n", end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        os.kill(os.getpid(), signal.SIGTERM)


def run(commands: list[Command]) -> int:
    """Start the children one after another and wait for a stop signal; return the exit status."""
    events: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # the scripts wait for them too
    threading.Thread(target=report_signals, args=[events], daemon=True).start()
    children = [Child(commands[0], events)]
    while child := events.get():
        all_ended = all(each.status is not None for each in children)
        if all_ended or (child.status is not None and not child.is_ready):
            break
        if child.status is None and len(children) < len(commands):
            children.append(Child(commands[len(children)], events))
    asked = child is None
    # The registry last: nodes cannot leave the ring without it.
    end([each for each in children if each.name != "registry"], events)
    end([each for each in children if each.name == "registry"], events)
    show("all", "ended")
    return int(not asked or any(each.is_told and each.status for each in children))


def report_signals(events: queue.SimpleQueue) -> None:
    """Put None into `events` for each stop signal."""
    while True:
        signal.sigwait(STOP_SIGNALS)
        events.put(None)


def end(children: list[Child], events: queue.SimpleQueue) -> None:
    """End these children, and wait for their end; pass further signals on."""
    interrupted = False
    while running := [child for child in children if child.status is None]:
        if not interrupted or events.get() is None:
            interrupted = True
            for child in running:
                child.interrupt()


def ring(port: int, count: int, m: int) -> list[Command]:
    """Return the commands of a registry and its nodes."""
    registry, *nodes = (f"127.0.0.1:{port + n}" for n in range(count + 1))
    return [
        ("registry", "lab05_chord/Registry.py", [registry, m]),
        *(
            (f"node {address[10:]}", "lab05_chord/Node.py", [registry, address])
            for address in nodes
        ),
    ]


def cluster(port: int, count: int, config: Path) -> list[Command]:
    """Write a config.conf; return the commands of its servers."""
    config.write_text("".join(f"{n} 127.0.0.1 {port + n}\n" for n in range(count)))
    script = "lab06_raft/server.py"
    return [(f"server {n}", script, [n, "--config", config]) for n in range(count)]


def commands(args: argparse.Namespace, folder: Path) -> list[Command]:
    """Return the commands of what is to be started; a file for them goes into the folder."""
    port, config = args.port or DEFAULT_PORTS[args.what], folder / "config.conf"
    if args.what == "ring":
        return ring(port, args.n, args.m)
    if args.what == "cluster":
        return cluster(port, args.n, config)
    servers, pages = DEFAULT_PORTS["cluster"], PAGES
    if args.port:
        servers = port + args.n + 1
        pages = servers + WATCHED_SERVERS
    return [
        *ring(port, args.n, args.m),
        *cluster(servers, WATCHED_SERVERS, config),
        ("ring page", "lab05_chord/watch.py", [f"127.0.0.1:{port}", "--port", pages]),
        ("raft page", "lab06_raft/watch.py", ["--config", config, "--port", pages + 1]),
    ]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Start a Chord ring, a Raft cluster, or both with their live pages, in one "
        "terminal; Ctrl-C ends it.",
        epilog="example: python3 tests/start.py ring -n 6 -m 5",
    )
    parser.add_argument("what", choices=DEFAULT_PORTS, help="lab 5, lab 6, or both and their pages")
    parser.add_argument("-n", type=int, help="nodes or servers (default: 6 nodes, 3 servers)")
    parser.add_argument(
        "-m", type=int, default=5, help="bits of a node's id (default: %(default)s)"
    )
    parser.add_argument(
        "--port",
        type=int,
        help="of the registry or server 0; the others follow (default: 5000 or 50000; "
        f"of the pages: {PAGES} and {PAGES + 1})",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    args = parser.parse_args(argv)
    is_ring = args.what != "cluster"
    args.n = (6 if is_ring else 3) if args.n is None else args.n
    if not 1 <= args.m <= LARGEST_M:
        parser.error(f"-m: from 1 to {LARGEST_M}, not {args.m}")
    if args.n < 1 or (is_ring and args.n > 2**args.m):
        parser.error(f"-n: {args.n} are too {'few' if args.n < 1 else 'many for -m'}")
    highest = 65535 - args.n - (WATCHED_SERVERS + 2 if args.what == "watch" else 0)
    if args.port is not None and not 1 <= args.port <= highest:
        parser.error(f"--port: from 1 to {highest}, not {args.port}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        return run(commands(args, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
