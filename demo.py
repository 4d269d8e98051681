"""Show the labs at work, with real processes on localhost: python3 demo.py, or python3 demo.py 1 3

Prints each command as one would type it and what the processes answer, checks that it is right, and
ends with one line for each lab. Exit status 0 means that everything held.
"""

import argparse
import contextlib
import hashlib
import random
import re
import signal
import sys
import tarfile
import tempfile
import time
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(f"demo.py: needs Python 3.10 or later, this is {sys.version.split()[0]}")

from tests.support.harness import ROOT, Failure, wait_until
from tests.support.ports import free_port
from tests.support.processes import Script
from tests.support.relays import UdpRelay


class Stage:
    """Starts the scripts of one lab, shows what they print and ends them all."""

    def __init__(self, lab: str, folder: Path):
        self.lab = lab
        self.folder = folder  # for the lab's files
        self.scripts: dict[str, Script] = {}
        self.ended: set[str] = set()  # that were told to, by name
        self._shown: dict[tuple[str, str], int] = {}  # lines, by script and stream

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for script in reversed(self.scripts.values()):
            script.stop()

    def start(self, name: str, script: str, *args, cwd: Path | None = None) -> Script:
        """Start a script under a name of its own and print the command."""
        print(f"\n{self.lab}$ python3 {script} {' '.join(map(str, args))}        # {name}")
        self.scripts[name] = Script(ROOT / self.lab / script, *args, cwd=cwd)
        return self.scripts[name]

    def type(self, name: str, line: str) -> None:
        """Type a line for a script, and print it as its prompt would show it."""
        self.show()
        print(f"{name:>10} > {line}")
        self.scripts[name].send(line)

    def expect(self, name: str, pattern: str, timeout: float = 20.0):
        """Wait until a script has printed a line, and show all that is new."""
        try:
            return self.scripts[name].expect(pattern, timeout)
        finally:
            self.show()

    def show(self) -> None:
        """Print the lines that the scripts have printed since the last time."""
        for name, script in self.scripts.items():
            for stream, text in (("out", script.out), ("err", script.err)):
                *lines, _ = text.split("\n")
                for line in lines[self._shown.get((name, stream), 0) :]:
                    print(f"{name:>10} | {line}")
                self._shown[name, stream] = len(lines)

    def wait_until(self, fact, what: str):
        """Return the first truthy value of `fact()`; raise Failure once a script has ended."""

        def look():
            for name, script in self.scripts.items():
                if name not in self.ended and not script.running:
                    raise Failure(f"{name} has ended with exit status {script.wait()}")
            return fact()

        return wait_until(look, what)

    def kill(self, name: str) -> None:
        """kill -9 of a script."""
        self.ended.add(name)
        self.scripts[name].kill()

    def finish(self, name: str, status: int = 0) -> None:
        """Wait for the end of a script and check its exit status."""
        self.ended.add(name)
        found = self.scripts[name].wait()
        self.show()
        check(found == status, f"{name} has ended with exit status {status}")

    def interrupt(self, name: str) -> None:
        """Press Ctrl-C for a script and wait for its end."""
        print(f"{name:>10} > ^C")
        self.scripts[name].interrupt()
        self.finish(name)


def check(fact: bool, claim: str) -> None:
    """Print a claim that holds; raise Failure if it does not."""
    if not fact:
        raise Failure(f"does not hold: {claim}")
    print(f"        ok: {claim}")


def lab1(stage: Stage) -> str:
    """Upload a real file through a network that loses, doubles and reorders."""
    source = stage.folder / "library.tar"
    with tarfile.open(source, "w") as archive:
        for path in sorted(Path(random.__file__).parent.glob("*.py")):
            archive.add(path, path.name)
    size = source.stat().st_size
    arrived = stage.folder / "server"
    arrived.mkdir()
    server = stage.start("server", "server.py", 0, "--dir", arrived, "--buf-size", 32000)
    port = server.port()
    stage.show()
    with UdpRelay(port, loss=0.03, duplicate=0.1, reorder=0.1, seed=1) as relay:
        print(f"\n(between them, on port {relay.port}: 3 % lost, 10 % doubled, 10 % reordered)")
        stage.start("client", "client.py", f"localhost:{relay.port}", source, "copy.tar")
        stage.finish("client")
    hashes = [sha256(source), sha256(arrived / "copy.tar")]
    print(f"    sent     {hashes[0]}\n    received {hashes[1]}")
    check(hashes[0] == hashes[1], f"all {size} bytes have arrived unchanged")
    stage.interrupt("server")
    return f"{size} bytes arrived unchanged through a bad network"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lab2(stage: Stage) -> str:
    """Two clients at once."""
    port = stage.start("server", "server.py", 0).port()
    clients = [stage.start(name, "client.py", f"127.0.0.1:{port}") for name in ("one", "two")]
    for name in ("one", "two"):
        stage.finish(name)
    answers = [client.lines[1:-1] for client in clients]
    check(answers[0] == answers[1] and len(answers[0]) == 12, "both have the same twelve answers")
    check(sum(line.endswith(" is prime") for line in answers[0]) == 9, "nine of them are prime")
    stage.interrupt("server")
    check(stage.scripts["server"].lines[-1] == "Done", "every worker thread has been joined")
    return "two clients at once got twelve right answers each"


def lab3(stage: Stage) -> str:
    """The pipeline with two clients, started back to front."""
    ports = [free_port() for _ in range(4)]
    stage.start("ann", "client.py", *ports[:2])
    stage.start("bob", "client.py", *ports[:2])
    stage.start("prime", "prime.py", *ports[2:])
    stage.start("gcd", "gcd.py", *ports[2:])
    stage.start("server", "server.py", *ports)
    stage.type("ann", "isprime 15492781")
    stage.expect("ann", "15492781 is prime")  # bob may still be on his way
    for name, line, answer in (
        ("bob", "gcd 1071 462", "gcd for 1071 462 is 21"),
        ("ann", "isprime 15492810", "15492810 is not prime"),
        ("bob", "isprime seven", "isprime seven : expected"),
    ):
        stage.type(name, line)
        for client in ("ann", "bob"):
            stage.scripts[client].expect(answer)
    stage.type("ann", "foo bar")
    stage.expect("ann", "foo bar: no worker takes such a line")
    check("foo bar" not in stage.scripts["bob"].out, "both see all answers, but only ann that line")
    for name in ("ann", "bob"):
        stage.scripts[name].close_stdin()
        stage.finish(name)
    for name in ("prime", "gcd", "server"):
        stage.interrupt(name)
    return "nothing was lost although the clients came first and the server last"


def lab4(stage: Stage) -> str:
    """A session."""
    port = stage.start("server", "server.py", 0).port()
    client = stage.start("client", "client.py", f"127.0.0.1:{port}")
    for line, answer in (
        ("reverse Hello there!", '"!ereht olleH"'),
        ("split Hello there!", 'parts: "there!"'),
        ("isprime 2 10 5555 14567", "14567 is not prime"),
        ("isprime 9223372036854775783", "9223372036854775783 is prime"),
    ):
        stage.type("client", line)
        stage.expect("client", answer)
    stage.type("client", "exit")
    stage.finish("client")
    check(client.lines[-1] == "Shutting down", "the client has said good-bye")
    stage.interrupt("server")
    return "unary calls and a stream were answered"


def lab5(stage: Stage) -> str:
    """The assignment's ring of six; a node is killed, and what it stored is found all the same."""
    registry = f"127.0.0.1:{free_port()}"
    stage.start("registry", "Registry.py", registry, 5)
    stage.expect("registry", "Registry listens on")
    ports = {}
    for id in (24, 26, 2, 16, 31, 25):
        port = free_port()
        stage.start(f"node {id}", "Node.py", registry, f"127.0.0.1:{port}")
        stage.expect(f"node {id}", f"assigned node_id={id}, ")
        ports[id] = port
    stage.start("client", "Client.py")
    for line, answer in (
        (f"connect {registry}", "Connected to Registry"),
        ("get_info", f"25: 127.0.0.1:{ports[25]}"),
        (f"connect 127.0.0.1:{ports[2]}", "Connected to Node"),
        ("save Kazan a city on the Volga", "True, Kazan is saved in node 24"),
        ("save Moscow a city on the Moskva", "True, Moscow is saved in node 25"),
        (f"connect 127.0.0.1:{ports[31]}", "Connected to Node"),
        ("find Kazan", "True, Kazan is saved in node 24"),
        ("remove Moscow", "True, Moscow is removed from node 25"),
        ("find Moscow", "False, Moscow does not exist in node 25"),
    ):
        stage.type("client", line)
        stage.expect("client", answer)
    print("\nkill -9 of node 24, which stores Kazan")
    stage.kill("node 24")
    begun = time.monotonic()
    stage.type("client", "find Kazan")
    stage.expect("client", "True, Kazan is saved in node 25")
    seconds = time.monotonic() - begun
    check(seconds < 5, f"Kazan was found {seconds:.1f} s after its node was killed")
    stage.type("client", "get Kazan")
    stage.expect("client", "a city on the Volga")
    stage.type("client", "quit")
    stage.finish("client")
    for id in (26, 2, 16, 31, 25):
        stage.interrupt(f"node {id}")
    stage.interrupt("registry")
    return f"a key was found {seconds:.1f} s after its node was killed"


def lab6(stage: Stage) -> str:
    """Five servers; the leader is killed, and what it took is still there."""
    ports = [free_port() for _ in range(5)]
    config = stage.folder / "config.conf"
    config.write_text("".join(f"{n} 127.0.0.1 {port}\n" for n, port in enumerate(ports)))
    print(f"\n{config}:\n{config.read_text()}", end="")
    for n in range(5):
        folder = stage.folder / f"data{n}"
        stage.start(f"server{n}", "server.py", n, "--config", config, "--data-dir", folder)
    servers = [stage.scripts[f"server{n}"] for n in range(5)]

    def leader() -> list[int]:
        """The server that leads all that run, once they have said so."""
        said = [re.findall(r"I am a (\w+)\. Term: (\d+)", server.out) for server in servers]
        latest = max((int(term) for lines in said for _, term in lines), default=0)
        running = [n for n in range(5) if servers[n].running]
        together = all(said[n] and said[n][-1][1] == str(latest) for n in running)
        return [n for n in running if together and said[n][-1][0] == "leader"]

    def insist(line: str, wanted: str, meanwhile: str) -> None:
        """Type a line until it is answered as wanted: a busy machine may hold an election now."""
        for _ in range(20):
            stage.type("client", line)
            answer = stage.expect("client", f"^({wanted}|{meanwhile})$")[1]
            if re.fullmatch(wanted, answer):
                return
        raise Failure(f"{line}: {answer}")

    follower = (stage.wait_until(leader, "one leader")[0] + 1) % 5
    stage.show()
    stage.start("client", "client.py")
    stage.type("client", f"connect 127.0.0.1:{ports[follower]}")
    insist("getleader", r"\d 127\.0\.0\.1:\d+", "No leader is known")
    insist("setval city Kazan", "True", "False|The server .* is unavailable")

    first = stage.wait_until(leader, "one leader")[0]
    print(f"\n$ kill -9 {servers[first].pid}        # server{first}, the leader")
    begin = time.monotonic()
    stage.kill(f"server{first}")
    second = stage.wait_until(leader, "another leader")[0]
    elapsed = round((time.monotonic() - begin) * 1000)
    stage.show()
    check(second != first, f"server{second} leads after {elapsed} ms")
    stage.type("client", f"connect 127.0.0.1:{ports[second]}")
    insist("getval city", "Kazan", "None|The server .* is unavailable")
    stage.type("client", "quit")
    stage.finish("client")

    folder = stage.folder / f"data{first}"
    stage.start("again", "server.py", first, "--config", config, "--data-dir", folder)
    stage.expect("again", r"I am a follower\. Term: \d+")
    for n in range(5):
        if n != first:
            stage.interrupt(f"server{n}")
    stage.interrupt("again")
    return f"a new leader {elapsed} ms after kill -9 of the old one, and the value still there"


LABS = {
    1: ("lab01_udp", lab1),
    2: ("lab02_tcp_threads", lab2),
    3: ("lab03_zmq", lab3),
    4: ("lab04_grpc", lab4),
    5: ("lab05_chord", lab5),
    6: ("lab06_raft", lab6),
}


def run(number: int) -> tuple[bool, str]:
    """Run one lab; return whether it held and a line about it."""
    lab, play = LABS[number]
    print(f"\n=== Lab {number}: {play.__doc__}")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Stage(lab, Path(folder)) as stage:
        try:
            result = play(stage)
        except Failure as failure:
            stage.show()
            print(f"    FAILED: {failure}")
            return False, str(failure).splitlines()[0]
    return True, f"{result} ({time.monotonic() - begun:.1f} s)"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Show the labs at work, with real processes on localhost.",
        epilog="example: python3 demo.py 1 3",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument("labs", nargs="*", type=int, metavar="lab", help="by default all of them")
    args = parser.parse_args(argv)
    for number in args.labs:
        if number not in LABS:
            parser.error(f"there is no lab {number}, only {', '.join(map(str, LABS))}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.default_int_handler)
    sys.stdout.reconfigure(line_buffering=True)
    results = {}
    with contextlib.suppress(KeyboardInterrupt):
        for number in args.labs or LABS:
            results[number] = run(number)
        print()
        for number, (held, line) in results.items():
            print(f"lab {number}: {'ok' if held else 'FAILED'}: {line}")
        return 0 if all(held for held, _ in results.values()) else 1
    return 130


if __name__ == "__main__":
    sys.exit(main())
