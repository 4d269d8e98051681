"""Lab 2, a threaded TCP server. How a number travels is the student's choice: it is learned."""

import ast
import contextlib
import os
import re
import socket
import struct
import time

from tests.grading import ports, primes
from tests.grading.scene import Loss, Program, Scene, check
from tests.grading.wire import UP, Recorder

PORT = 5555
TWELVE_TIME = 120.0  # s for twelve numbers; dividing by every smaller one takes a second each
LEAST_TIME = 10.0  # s
STOP_TIME = 5.0  # s
ADDRESS = re.compile(r"\('[^']*', \d+\)|(?:\d+\.){3}\d+(?::\d+)?|localhost(?::\d+)?")


def start_server(scene: Scene) -> Program:
    server = scene.start("server", scene.port(PORT))
    scene.wait_for_port(server, PORT)
    return server


def start_client(scene: Scene, port: int | None = None) -> Program:
    return scene.start("client", f"127.0.0.1:{port or scene.port(PORT)}")


def twelve_time(scene: Scene) -> float:
    """Return the seconds that twelve numbers may take: several times what the gate took."""
    return min(TWELVE_TIME, LEAST_TIME + 6 * scene.pace) if scene.pace else TWELVE_TIME


def finish(client: Program) -> str:
    """Wait for the client's end; return its output."""
    check(
        client.ends(twelve_time(client.scene)),
        "the client ends when all numbers are answered",
        client.tail(),
    )
    return client.out


def connect(scene: Scene) -> socket.socket:
    """Open a connection that says nothing."""
    sock = socket.create_connection(("127.0.0.1", scene.port(PORT)), 10)
    return scene.enter_context(contextlib.closing(sock))


def record(scene: Scene) -> Recorder:
    """Let client and server talk through a relay; return what it has recorded."""
    recorder = Recorder(scene, scene.port(PORT))
    scene.note_step("look at what the client sends and what the server answers")
    finish(start_client(scene, recorder.port))
    return recorder


def gate(scene: Scene) -> None:
    """The server listens, and the client prints something that it has from it."""
    start_server(scene)
    client = start_client(scene)
    check(client.ends(TWELVE_TIME), "the client ends when all numbers are answered", client.tail())
    check(is_served(client), "the client prints results", client.tail())


def results(output: str) -> list[bool | None]:
    """Return the client's verdicts on the twelve numbers, in whatever form it prints them."""
    found = primes.verdicts(output, primes.TWELVE)
    if any(verdict is not None for verdict in found):
        return found
    text = ADDRESS.sub("", output)
    lines = [v for line in text.splitlines() if (v := primes.verdict(line)) is not None]
    tokens = [t.lower() in ("true", "1") for t in re.findall(r"\b(true|false|0|1)\b", text, re.I)]
    found = max(lines, tokens, key=len)  # a list of them may stand in one line
    return found[-12:] if len(found) >= 12 else [None] * 12


def is_served(client: Program) -> bool:
    """Tell whether the client has printed most results: what it lacks costs another test."""
    return results(client.out).count(None) < 6


def client_prints_all_results(scene: Scene) -> None:
    server = start_server(scene)
    client = start_client(scene)
    output = finish(client)
    found = results(output)
    wanted = [primes.is_prime(number) for number in primes.TWELVE]
    wrong = [n for n, x, y in zip(primes.TWELVE, found, wanted, strict=True) if x != y]
    check(
        not wrong,
        "the right result for each of the twelve numbers",
        f"wrong or missing for {wrong or 'all'}\n{client.tail()}\n{server.tail()}",
    )


def numbers_go_one_by_one(scene: Scene) -> None:
    start_server(scene)
    exchanges = record(scene).exchanges()
    check(
        len(exchanges) >= 12,
        "twelve numbers, each sent after the answer to the one before",
        f"{len(exchanges)} exchanges, the first: {exchanges[0] if exchanges else 'none'}",
    )


class Wire:
    """How this submission writes a number and a verdict, learned from its own client and server."""

    def __init__(self, scene: Scene):
        recorder = record(scene)
        exchanges = recorder.exchanges()
        numbers = primes.TWELVE
        self.connects_anew = recorder.connections >= len(numbers)
        check(
            len(exchanges) >= 12,
            "an exchange for each number, so that others can be asked",
            f"{len(exchanges)} exchanges",
        )
        turns = [(n, *turn) for n, turn in zip(numbers, exchanges[-12:], strict=True)]
        self.encode = next((f for f in map(self._encoder, turns) if f), None)
        self.replies = {self._shape(n, down): primes.is_prime(n) for n, _, down in turns}
        self.scene = scene

    @staticmethod
    def _encoder(turn: tuple[int, bytes, bytes]):
        number, up, _ = turn
        digits = str(number).encode()
        if digits in up:
            before, after = up.split(digits, 1)
            return lambda n: before + str(n).encode() + after
        for form in (">I", "<I", ">Q", "<Q", ">i", "<i", ">q", "<q"):
            if up == struct.pack(form, number):
                return lambda n: struct.pack(form, n)
        return None

    @staticmethod
    def _shape(number: int, reply: bytes) -> bytes:
        return reply.replace(str(number).encode(), b"N").strip()

    def ask(self, numbers: list[int]) -> dict[int, object]:
        """Ask for other numbers as the client would; return the verdicts."""
        check(
            self.encode, "numbers that can be told from the client's messages", "another encoding"
        )
        found = {}
        sock = connect(self.scene)
        for number in numbers:
            self.scene.note_step(f"ask for {number} as the client asks")
            if found and self.connects_anew:
                sock.close()
                sock = connect(self.scene)
            with contextlib.suppress(OSError):
                sock.sendall(self.encode(number))
                reply = self._shape(number, self._receive(sock, number))
                known = self.replies.get(reply)
                found[number] = (
                    known if known is not None else primes.verdict(reply.decode("latin-1"))
                )
        return found

    def _receive(self, sock: socket.socket, number: int) -> bytes:
        """Return a reply: all that comes until it is one known, or it is quiet."""
        reply = b""
        sock.settimeout(10)
        while data := sock.recv(4096):
            reply += data
            if self._shape(number, reply) in self.replies:
                break
            sock.settimeout(0.3)
        return reply


def ask_others(scene: Scene, numbers: list[int]) -> None:
    server = start_server(scene)
    found = Wire(scene).ask(numbers)
    wrong = [n for n in numbers if found.get(n) != primes.is_prime(n)]
    check(
        not wrong,
        "; ".join(primes.sentence(n) for n in numbers),
        f"a wrong answer or none for {wrong}\n{server.tail()}",
    )


def other_numbers_are_right(scene: Scene) -> None:
    ask_others(scene, [2, 3, 4, 5, 9, 15, 25, 49, 97, 91, 1369, 7919, 7917])


def one_is_not_prime(scene: Scene) -> None:
    ask_others(scene, [7, 1])


def two_clients_at_the_same_time(scene: Scene) -> None:
    server = start_server(scene)
    scene.note_step("connect a client that says nothing and stays")
    with connect(scene):
        time.sleep(0.3)
        client = start_client(scene)
        check(
            client.ends(twelve_time(scene)) and is_served(client),
            "a second client is served while the first is connected",
            f"{client.tail()}\n{server.tail()}",
        )


def two_working_clients(scene: Scene) -> None:
    server = start_server(scene)
    clients = [start_client(scene) for _ in range(2)]
    for client in clients:
        check(
            client.ends(twelve_time(scene)), "both clients end", f"{client.tail()}\n{server.tail()}"
        )
    first, second = (results(client.out) for client in clients)
    check(
        first == second and is_served(clients[0]),
        "two clients at the same time get the same results",
        "\n".join(client.tail() for client in clients),
    )


def workers_go_on_to_the_next_client(scene: Scene) -> None:
    server = start_server(scene)
    scene.note_step("connect and disconnect, 20 times in a row")
    for _ in range(20):
        with connect(scene):
            time.sleep(0.02)
    client = start_client(scene)
    check(
        client.ends(twelve_time(scene)) and is_served(client),
        "the next client is served",
        f"{client.tail()}\n{server.tail()}",
    )


def workers_stand_ready(scene: Scene) -> None:
    server = start_server(scene)
    time.sleep(0.5)
    tasks = f"/proc/{server.pid}/task"
    if os.path.isdir(tasks):
        count = len(os.listdir(tasks)) + len(_children(server.pid))
        check(
            count >= 3,
            "several worker threads before the first client comes",
            f"{count - 1} beside the main thread",
        )


def _children(pid: int) -> list[str]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()
    return []


def _names(scene: Scene) -> set[str]:
    """Return what the server's source imports and uses, as dotted names."""
    names = set()
    with contextlib.suppress(SyntaxError, OSError):
        for path in (scene.folder / scene.scripts["server"]).parent.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(errors="replace"))):
                if isinstance(node, ast.ImportFrom):
                    names |= {f"{node.module}.{alias.name}" for alias in node.names}
                elif isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.Attribute):
                    names.add(node.attr)
    return names


def thread_and_queue_are_the_assigned_ones(scene: Scene) -> None:
    scene.note_step("read what server.py imports")
    names = _names(scene)
    thread = any(name.startswith("threading") for name in names)
    queue = any(name.startswith("multiprocessing") for name in names)
    check(
        thread and queue,
        "Thread from threading and Queue from multiprocessing",
        "no "
        + " and no ".join(["Thread"] * (not thread) + ["multiprocessing.Queue"] * (not queue)),
    )


def ctrl_c_stops_the_server(scene: Scene) -> None:
    server = start_server(scene)
    time.sleep(0.3)
    server.press_ctrl_c()
    check(server.ends(STOP_TIME), f"the server ends within {STOP_TIME:g} s", server.tail())
    scene.until(
        lambda: not ports.count(scene.port(PORT), socket.SOCK_STREAM, ports.TCP_LISTEN),
        "nothing listens any more",
        1,
    )


def ctrl_c_stops_the_workers(scene: Scene) -> None:
    server = start_server(scene)
    finish(start_client(scene))
    scene.note_step("connect a client that says nothing and stays")
    with connect(scene):
        time.sleep(0.5)
        server.press_ctrl_c()
        check(
            server.ends(STOP_TIME),
            "the server and all its worker threads end, also with a client connected",
            server.tail(),
        )


def client_ends_without_a_server(scene: Scene) -> None:
    client = start_client(scene)
    check(client.ends(10), "the client ends: there is no server", client.tail())


def client_ends_when_the_server_goes(scene: Scene) -> None:
    start_server(scene)
    recorder = Recorder(scene, scene.port(PORT), cut_after=3)
    client = start_client(scene, recorder.port)
    scene.note_step("cut the connection after three answers")
    check(
        client.ends(twelve_time(scene)), "the client ends when the server has gone", client.tail()
    )
    asked = [up for way, up in recorder.pieces if way == UP]
    if not asked:
        raise Loss("the client sends numbers", client.tail())
    last = primes.verdicts(client.out, primes.TWELVE[-1:])[0]
    check(last is None, "no result for a number that was never answered", client.tail())
