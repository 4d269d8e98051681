"""Attacks on lab 3: starts in any order, kill -9 of every part under load, junk on every socket."""

import contextlib
import random
import re
import socket
import struct
import time

import zmq

from tests.lab03.parts import GREETING
from tests.support.harness import ROOT, pass_time, wait_until
from tests.support.ports import free_port, listens
from tests.support.processes import Script, resident

LAB = ROOT / "lab03_zmq"
FIRST = {
    "client1": {"gcd 12 18": "gcd for 12 18 is 6", "isprime 7": "7 is prime"},
    "client2": {"isprime 9": "9 is not prime", "gcd 4 6": "gcd for 4 6 is 2"},
}
BATCH = 25  # commands of each client around each kill
VICTIMS = [["server"], ["prime"], ["gcd"], ["prime", "gcd"], ["server", "gcd"]]
JUNK_KINDS = [
    *(zmq.REQ, zmq.REP, zmq.DEALER, zmq.ROUTER, zmq.PUB, zmq.SUB, zmq.XPUB, zmq.XSUB),
    *(zmq.PUSH, zmq.PULL, zmq.PAIR),
]
HUGE = 4 << 20  # bytes
FLAT = 32 << 20  # bytes: buffers of the last messages, and what the allocator keeps


class Parts:
    """The parts of one pipeline by name; each can be killed and started again."""

    def __init__(self):
        self.ports = [free_port() for _ in range(4)]
        self.scripts: dict[str, Script] = {}

    def start(self, name: str) -> Script:
        part = name.rstrip("0123456789")
        ports = {"server": self.ports, "client": self.ports[:2]}.get(part, self.ports[2:])
        self.scripts[name] = Script(LAB / f"{part}.py", *ports)
        return self.scripts[name]

    def start_all(self, clients: int) -> list[Script]:
        """Start everything and return the clients, each of which has had an answer."""
        self.start("server")
        wait_until(lambda: all(map(listens, self.ports)), "the server to listen")
        for name in ("prime", "gcd"):
            self.start(name).expect("Ready")
        started = [self.start(f"client{k}") for k in range(clients)]
        for client in started:
            client.send("isprime 2")
            client.expect("^2 is prime$")
        return started

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for script in self.scripts.values():
            script.stop()


# --- Starting ---


def orders(scale: float) -> str:
    """All parts start at once, in a random order; each first command is answered."""
    chance, rounds, slowest = random.Random(3), max(1, round(100 * scale)), 0.0
    for _ in range(rounds):
        names = ["server", "prime", "gcd", *FIRST]
        chance.shuffle(names)
        begun = time.monotonic()
        with Parts() as parts:
            for name in names:
                parts.start(name)
                pass_time(chance.choice([0, 0, 0, 0.1]))
            for name, commands in FIRST.items():
                parts.scripts[name].write("\n".join(commands))
                parts.scripts[name].close_stdin()
            for name, commands in FIRST.items():
                client = parts.scripts[name]
                assert client.wait() == 0 and set(commands.values()) <= set(client.lines), (
                    f"{names}: {client.transcript()}"
                )
        slowest = max(slowest, time.monotonic() - begun)
    return f"{rounds} orders, all {4 * rounds} first commands answered, each in {slowest:.1f} s"


# --- Killing ---


class Asker:
    """A client, the commands it was given, and what became of each."""

    def __init__(self, number: int, client: Script):
        self.number = number
        self.client = client
        self.commands: list[str] = []

    def send(self, count: int) -> None:
        """Send commands that no other client sends, and none twice."""
        begin = 10_000 * self.number + len(self.commands)
        batch = [f"gcd {n} 6" if n % 2 else f"isprime {n}" for n in range(begin, begin + count)]
        self.commands += batch
        self.client.write("".join(f"{line}\n" for line in batch))

    def outcomes(self) -> tuple[list[str], list[str], int]:
        """Return the commands that were answered, those reported, and how many without a name."""
        lines = self.client.lines
        words = [line.split() for line in lines]
        found = {f"isprime {line[0]}" for line in words if line[-1:] == ["prime"]}
        found |= {f"gcd {line[2]} {line[3]}" for line in words if line[0] == "gcd" and "is" in line}
        answered = [command for command in self.commands if command in found]
        told = re.findall(
            r"^(.*): no worker takes|(?:No answer.* to|confirm): (.*)$", self.client.out, re.M
        )
        named = ["".join(match) for match in told]
        assert len(set(named)) == len(named), "a command is reported twice"
        reported = [command for command in named if command not in found]
        return answered, reported, sum(line.endswith("is not reachable") for line in lines)

    def settled(self) -> bool:
        """Tell whether each command has its answer or its line."""
        answered, reported, nameless = self.outcomes()
        return len(answered) + len(reported) + nameless == len(self.commands)

    def usable(self) -> bool:
        """Tell whether one more command is answered."""
        self.send(1)
        wait_until(self.settled, "the end of a single command")
        return self.commands[-1] in self.outcomes()[0]


def kills(scale: float) -> str:
    """Server and workers die under load; each command is answered, or reported in one line."""
    chance, rounds, slowest = random.Random(4), max(1, round(40 * scale)), 0.0
    with Parts() as parts:
        askers = [Asker(k, client) for k, client in enumerate(parts.start_all(clients=4), 1)]
        for _ in range(rounds):
            for asker in askers:
                asker.send(BATCH)
            pass_time(chance.uniform(0, 0.02))
            victims = chance.choice(VICTIMS)
            for name in victims:
                parts.scripts[name].kill()
            pass_time(chance.choice([0, 0.1, 0.5]))
            for name in victims:
                parts.scripts[name].stop()
                parts.start(name)
            for asker in askers:
                wait_until(asker.settled, f"each command of {asker.client.transcript()}", 120)
            begun = time.monotonic()
            for asker in askers:
                wait_until(asker.usable, f"a client that is usable: {asker.client.transcript()}")
            slowest = max(slowest, time.monotonic() - begun)
        sent = sum(len(asker.commands) for asker in askers)
        answered = sum(len(asker.outcomes()[0]) for asker in askers)
    return (
        f"{rounds} kills under 4 clients: of {sent} commands {answered} answered, "
        f"{sent - answered} reported, 0 lost; all usable again after {slowest:.1f} s at most"
    )


# --- Junk ---


def junk(scale: float) -> str:
    """Strangers on all four ports: wrong sockets, raw bytes, messages of any shape and size."""
    chance, rounds = random.Random(5), max(10, round(1000 * scale))
    slowest, sizes = 0.0, []
    with Parts() as parts, zmq.Context() as context:
        (honest,) = parts.start_all(clients=1)
        pids = [parts.scripts[name].pid for name in ("server", "prime", "gcd", "client0")]
        for number in range(rounds):
            for port in parts.ports:
                shout(context, port, chance)
                spill(port, chance)
            begun = time.monotonic()
            honest.send(f"isprime {3 * number + 4_000}\ngcd {number} {number}")
            honest.expect(rf"^{3 * number + 4_000} is .*prime$", 10)
            honest.expect(rf"^gcd for {number} {number} is {number}$", 10)
            slowest = max(slowest, time.monotonic() - begun)
            if number in (rounds // 2, rounds - 1):
                sizes.append([resident(pid) for pid in pids])
        for name, script in parts.scripts.items():
            assert script.running and not script.err, f"{name}: {script.transcript()[:2000]}"
    growth = [after - before for before, after in zip(*sizes, strict=True)]
    assert max(growth) < FLAT, f"growth of {growth} bytes"
    return (
        f"{rounds} rounds of junk on each of 4 ports, honest commands answered in {slowest:.2f} s "
        f"at most; server {sizes[1][0] >> 20} MB, grown by {max(growth) / 2**20:.1f} MB in the "
        f"second half"
    )


def shout(context: zmq.Context, port: int, chance: random.Random) -> None:
    """Send messages through a socket of any kind."""
    with context.socket(chance.choice(JUNK_KINDS)) as sock:
        sock.linger, sock.sndtimeo = 0, 20
        with contextlib.suppress(zmq.ZMQError):  # some kinds subscribe, the others send
            sock.subscribe(chance.randbytes(5))
        sock.connect(f"tcp://127.0.0.1:{port}")
        for _ in range(chance.randrange(4)):
            with contextlib.suppress(zmq.ZMQError):
                sock.send_multipart([some_bytes(chance) for _ in range(chance.randrange(1, 4))])
        # Not as one of several parts: libzmq aborts, here, when a socket is closed in between.
        with contextlib.suppress(zmq.ZMQError):
            sock.send(huge_or_nothing(chance))
        sock.poll(5)


def spill(port: int, chance: random.Random) -> None:
    """Send raw bytes over TCP, perhaps after a greeting that is in order, and go or reset."""
    with socket.create_connection(("127.0.0.1", port)) as sock, contextlib.suppress(OSError):
        if chance.random() < 0.5:
            sock.sendall(GREETING)
        sock.settimeout(0.1)
        sock.sendall(some_bytes(chance) + huge_or_nothing(chance))
        if chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def some_bytes(chance: random.Random) -> bytes:
    """Return a few bytes, mostly not UTF-8, some like a command."""
    words = [b"isprime ", b"gcd ", b"\0isprime", b"\1", b"\0", b"\xff\xfe", b"9" * 100, b" "]
    return b"".join(
        chance.choice([*words, chance.randbytes(20)]) for _ in range(chance.randrange(5))
    )


def huge_or_nothing(chance: random.Random) -> bytes:
    """Return, now and then, far too many bytes."""
    return bytes(HUGE) if chance.random() < 0.02 else b""


ATTACKS = {"orders": orders, "kills": kills, "junk": junk}
