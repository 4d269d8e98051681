"""Lab 4, gRPC: through the submission's client, and through its .proto for the rest."""

import contextlib
import queue
import re
import time

import grpc

from tests.grading import primes
from tests.grading.protos import Caller, unfold
from tests.grading.scene import Loss, Program, Scene, check

PORT = 5555
FUNCTIONS = {"reverse": "reverse(text)", "split": "split(text, delim)", "prime": "isprime(num)"}


def start_server(scene: Scene) -> Program:
    server = scene.start("server", scene.port(PORT))
    scene.wait_for_port(server, PORT)
    return server


def start_client(scene: Scene) -> Program:
    client = scene.start("client", f"127.0.0.1:{scene.port(PORT)}")
    time.sleep(0.3)
    return client


def method(scene: Scene, word: str):
    """Return the method that does this; raise Loss if the .proto has none."""
    found = scene.services.find(word)
    names = [m.name for m in scene.services.methods]
    check(
        found,
        f"a function {FUNCTIONS[word]} in the .proto",
        f"the functions {names} {scene.services.complaint}",
    )
    return found


def caller(scene: Scene) -> Caller:
    return scene.enter_context(contextlib.closing(Caller(f"127.0.0.1:{scene.port(PORT)}")))


def call(scene: Scene, server: Program, word: str, *values: str) -> list[object]:
    """Call a unary function; return the reply's values."""
    shown = ", ".join(map(repr, values))
    scene.note_step(f"call {word}({shown})")
    try:
        return caller(scene).call(method(scene, word), *values)
    except grpc.RpcError as error:
        raise Loss(
            f"{word}({shown}) answers", f"{error.code().name}: {error.details()}\n{server.tail()}"
        ) from None


def texts(values: list) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def gate(scene: Scene) -> None:
    """The server listens, and one command of the client or a call is answered."""
    server = start_server(scene)
    client = start_client(scene)
    try:
        client.ask("reverse abcd", "dcba", "dcba, the answer to: reverse abcd", 8)
    except Loss:
        either = "an answer to: reverse abcd, or to: isprime 7"
        try:
            client.ask("isprime 7", primes.pattern(7), either, 8)
        except Loss as loss:
            with contextlib.suppress(Loss):
                if texts(call(scene, server, "reverse", "abcd")) == ["dcba"]:
                    return
            raise loss from None


def client_reverses(scene: Scene) -> None:
    start_server(scene)
    client = start_client(scene)
    client.ask("reverse Hello there!", re.escape("!ereht olleH"), 'message: "!ereht olleH"')
    client.ask("reverse abc", "cba", 'message: "cba"')


def client_splits(scene: Scene) -> None:
    start_server(scene)
    client = start_client(scene)
    output = client.answer("split Hello there you!")
    wanted = [r"\b3\b", "Hello", "there", r"you!"]
    positions = [m.start() if (m := re.search(word, output)) else None for word in wanted]
    check(
        None not in positions and positions[1:] == sorted(positions[1:]),
        'number: 3, then parts: "Hello", "there", "you!"',
        client.tail(),
    )
    check("Hello there" not in output, "the parts one by one", client.tail())


def client_asks_for_primes(scene: Scene) -> None:
    start_server(scene)
    client = start_client(scene)
    numbers = [2, 10, 5555, 14567]
    # Which of them are prime is judged elsewhere.
    inner = r"[\s\S]*?".join(rf"(?<!\d){n}(?!\d)[^\n\d]*[a-z]{{2}}" for n in numbers)
    pattern = f"(?i){inner}"
    client.ask("isprime 2 10 5555 14567", pattern, "; ".join(map(primes.sentence, numbers)))


def client_exits(scene: Scene) -> None:
    start_server(scene)
    client = start_client(scene)
    client.ask("reverse abcd", "dcba", "dcba")
    scene.note_step("type in the client: exit")
    client.type("exit")
    check(client.ends(5), "exit stops the loop and ends the program", client.tail())


def client_takes_command_after_command(scene: Scene) -> None:
    start_server(scene)
    client = start_client(scene)
    for k in range(3):
        client.ask(f"reverse round {k}x", f"x{k} dnuor", f"x{k} dnuor")
        client.ask(f"split a{k} b", rf"a{k}\b[\s\S]*b", f"the parts a{k} and b")
        client.ask(f"isprime {101 + k}", primes.pattern(101 + k), primes.sentence(101 + k))


def server_reverses_any_text(scene: Scene) -> None:
    server = start_server(scene)
    for text in ("a", "Hello there!", "привет", "ab  ba c", ""):
        found = texts(call(scene, server, "reverse", text))
        check(found == [text[::-1]] or text[::-1] in found, f"{text[::-1]!r}", repr(found))


def server_splits_by_the_delimiter(scene: Scene) -> None:
    server = start_server(scene)
    inputs = method(scene, "split").input_type.fields
    check(
        len(inputs) >= 2,
        "split takes a text and a delimiter",
        f"{len(inputs)} field in its request",
    )
    for text, delim in (("a,b,c", ","), ("one two", " "), ("a--b-c--", "--"), ("no", ";")):
        values = call(scene, server, "split", text, delim)
        parts = next((value for value in values if isinstance(value, list)), None)
        number = next((value for value in values if isinstance(value, int)), None)
        wanted = text.split(delim)
        check(
            parts == wanted and number == len(wanted),
            f"{len(wanted)} and {wanted}",
            f"{number} and {parts}",
        )


class Stream:
    """An isprime stream, of which the judge decides when what is sent."""

    def __init__(self, scene: Scene, timeout: float = 10.0):
        self.requests: queue.SimpleQueue = queue.SimpleQueue()
        described = method(scene, "prime")
        check(
            described.client_streaming and described.server_streaming,
            "isprime accepts a stream of numbers and returns a stream of answers",
            "a function without streams",
        )
        self.replies = caller(scene).stream(described, iter(self.requests.get, None), timeout)

    def ask(self, number: int) -> str:
        """Send a number and return its answer; the stream stays open."""
        self.requests.put(number)
        return self.next(number)

    def next(self, number: int) -> str:
        try:
            return " ".join(texts(unfold(next(self.replies))))
        except (grpc.RpcError, StopIteration) as error:
            code = (
                error.code().name if isinstance(error, grpc.RpcError) else "the end of the stream"
            )
            raise Loss(f"an answer to {number} while the stream is open", code) from None

    def end(self) -> None:
        self.requests.put(None)


def answers(number: int, answer: str) -> None:
    """Raise Loss unless it is an answer to the number; whether it is right is judged elsewhere."""
    fits = str(number) in answer or primes.verdict(answer) is not None
    check(fits, primes.sentence(number), repr(answer))


def says(number: int, answer: str) -> None:
    check(
        str(number) in answer
        and primes.verdict(answer.replace(str(number), "")) is primes.is_prime(number),
        primes.sentence(number),
        repr(answer),
    )


def answers_come_while_the_stream_is_open(scene: Scene) -> None:
    start_server(scene)
    scene.note_step("open an isprime stream, send 2, 10, 17 one by one, each after an answer")
    stream = Stream(scene)
    for number in (2, 10, 17):
        answers(number, stream.ask(number))
    stream.end()


def each_number_has_an_answer_in_order(scene: Scene) -> None:
    start_server(scene)
    numbers = [*range(2, 30), 49, 121, 1369, 7919, 7917]
    scene.note_step(f"send {numbers} in one isprime stream")
    stream = Stream(scene)
    for number in numbers:
        stream.requests.put(number)
    stream.end()
    for number in numbers:
        says(number, stream.next(number))
    with contextlib.suppress(grpc.RpcError):
        check(next(stream.replies, None) is None, "no more answers than numbers", "another one")


def one_is_not_prime(scene: Scene) -> None:
    start_server(scene)
    scene.note_step("send 7, then 1 in an isprime stream")
    stream = Stream(scene)
    says(7, stream.ask(7))
    says(1, stream.ask(1))
    stream.end()


def several_clients_at_once(scene: Scene) -> None:
    server = start_server(scene)
    scene.note_step("keep an isprime stream open")
    stream = Stream(scene)
    answers(3, stream.ask(3))
    clients = [start_client(scene) for _ in range(2)]
    for k, client in enumerate(clients):
        client.ask(
            f"reverse client{k}x", f"x{k}tneilc", f"x{k}tneilc, with other clients connected"
        )
    scene.note_step("the first stream goes on")
    answers(4, stream.ask(4))
    stream.end()
    check(server.running, "the server keeps running", server.tail())


def four_streams_at_once(scene: Scene) -> None:
    start_server(scene)
    scene.note_step("open 4 isprime streams, then ask in each of them")
    # The first ones last longer, so that their end is nothing that the last ones could wait for.
    streams = [Stream(scene, timeout=24 - 4 * k) for k in range(4)]
    for k, stream in enumerate(streams):
        answers(11 + k, stream.ask(11 + k))
    for stream in streams:
        stream.end()
