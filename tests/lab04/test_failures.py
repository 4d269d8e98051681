"""Lab 4's client and servers that are away, hang or break a stream, and lines that are cut."""

import threading
import time

import grpc
import pytest

from tests.lab04.scripts import CLIENT, COMMANDS, SERVER
from tests.support.harness import ROOT, load, pass_time, wait_until
from tests.support.ports import free_port
from tests.support.relays import TcpRelay

REPORTED = 7.0  # s: a call may take 5


def test_no_server_is_one_line_for_each_command_and_the_prompt_stays(spawn, server):
    server.kill()
    client = spawn(CLIENT, server.address)
    client.write("reverse a\nsplit a\nisprime 7\nhelp\n")
    client.close_stdin()
    assert client.wait() == 0
    unavailable = f"The server {server.address} is unavailable\n"
    assert client.out == unavailable * 3 + COMMANDS + "\nShutting down\n"


def test_a_session_survives_restarts_of_the_server(spawn):
    port = free_port()
    client = spawn(CLIENT, f"127.0.0.1:{port}")
    for _ in range(3):
        server = spawn(SERVER, port)
        server.port()

        def answered():
            client.send("isprime 7")
            client.expect("7 is prime|unavailable")
            return client.lines[-1] == "7 is prime"

        wait_until(answered, "an answer from the new server")
        server.kill()
        client.send("isprime 7")
        client.expect("unavailable")


def test_a_server_that_hangs_is_one_line(server, spawn):
    client = spawn(CLIENT, server.address)
    client.send("reverse abc")
    client.expect("cba")
    server.pause()
    client.send("reverse abc")
    client.expect(f"The server {server.address} (does not answer|is unavailable)", REPORTED)
    server.resume()
    client.send("reverse xyz")
    client.expect("zyx")


@pytest.mark.parametrize("command", ["reverse abc", "split abc", "isprime 7 9", "isprime 7"])
def test_a_function_that_hangs_is_reported_when_it_has_been_silent_for_5_s(fake, spawn, command):
    """The server's process works, so its connection does."""
    go_on = threading.Event()

    def hang(messages, request, context):
        go_on.wait(20)

    def answer_once(messages, requests, context):
        yield messages.IsPrimeReply(text="the first")
        go_on.wait(20)

    address = fake(reverse=hang, split=hang, isprime=answer_once)
    client = spawn(CLIENT, address)
    begun = time.monotonic()
    client.send(command)
    client.expect(f"The server {address} does not answer", REPORTED)
    assert time.monotonic() - begun >= 5
    go_on.set()


def test_a_stream_may_take_longer_than_one_answer_may(fake, spawn):
    def answer_slowly(messages, requests, context):
        for request in requests:
            pass_time(1.5)
            yield messages.IsPrimeReply(text=f"{request.num} is slow")

    client = spawn(CLIENT, fake(isprime=answer_slowly))
    client.send("isprime 1 2 3 4")
    client.expect("4 is slow", REPORTED)
    assert "does not answer" not in client.out


class TimedStream:
    """A stream of replies, each of which comes after so many seconds."""

    def __init__(self, *seconds: float):
        self.seconds = iter(seconds)
        self.cancelled = threading.Event()

    def __next__(self) -> str:
        if self.cancelled.wait(next(self.seconds)):
            raise ConnectionError("cancelled")
        return "a reply"

    def cancel(self) -> None:
        self.cancelled.set()


def test_a_stream_may_last_as_long_as_its_answers_come(monkeypatch):
    client = load(ROOT / "lab04_grpc/client.py")
    monkeypatch.setattr(client, "CALL_TIMEOUT", 0.5)
    stream = TimedStream(*[0.1] * 10)
    assert len([*client.unless_silent(stream)]) == 10
    with pytest.raises(ConnectionError):
        list(client.unless_silent(TimedStream(0, 20)))


def test_a_reader_that_is_slow_is_no_silence_of_the_server(monkeypatch):
    client = load(ROOT / "lab04_grpc/client.py")
    monkeypatch.setattr(client, "CALL_TIMEOUT", 0.5)
    stream = TimedStream(0, 0)
    for _ in client.unless_silent(stream):
        pass_time(1.0)
    assert not stream.cancelled.is_set()


def test_answers_that_a_broken_connection_took_away_are_asked_for_again(fake, spawn):
    """Each stream breaks after one answer; the third attempt is the last."""
    asked = []

    def answer_once(messages, requests, context):
        asked.append([request.num for request in requests])
        yield messages.IsPrimeReply(text=f"answer to {asked[-1][0]}")
        context.abort(grpc.StatusCode.UNAVAILABLE, "as if the connection had broken")

    address = fake(isprime=answer_once)
    client = spawn(CLIENT, address)
    client.send("isprime 1 2 3 4")
    client.expect(f"The server {address} is unavailable")
    assert asked == [[1, 2, 3, 4], [2, 3, 4], [3, 4]]
    assert client.lines[:3] == ["answer to 1", "answer to 2", "answer to 3"]


def test_a_connection_cut_in_mid_session_is_made_again(server, spawn):
    with TcpRelay(int(server.address.split(":")[1])) as relay:
        client = spawn(CLIENT, f"127.0.0.1:{relay.port}")

        def answered(line, answer):
            client.send(line)
            client.expect(f"{answer}|unavailable")
            return answer in client.out

        wait_until(lambda: answered("reverse abc", "cba"), "an answer through the relay")
        relay.cut()
        wait_until(lambda: answered("reverse xyz", "zyx"), "the connection to be made again")
