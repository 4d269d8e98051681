"""Lab 2, a threaded TCP server. How a number travels is the student's choice: it is learned."""

import ast
import contextlib
import os
import socket
import time

from tests.grading import ports, primes
from tests.grading.lab02_peers import (
    PORT,
    STOP_TIME,
    TWELVE_TIME,
    Wire,
    connect,
    finish,
    is_served,
    record,
    results,
    start_client,
    start_server,
    twelve_time,
)
from tests.grading.scene import Loss, Scene, check
from tests.grading.wire import UP, Recorder


def gate(scene: Scene) -> None:
    """The server listens, and the client prints something that it has from it."""
    start_server(scene)
    client = start_client(scene)
    check(client.ends(TWELVE_TIME), "the client ends when all numbers are answered", client.tail())
    check(is_served(client), "the client prints results", client.tail())


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
