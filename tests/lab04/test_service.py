"""Lab 4's service, called by hand: replies, errors, open streams and the end."""

import contextlib
import threading
import time

import grpc
import pytest

from tests.support.harness import wait_until

END = 1.0  # s from a signal to the exit


def test_an_empty_delimiter_is_an_invalid_argument(stub, proto):
    with pytest.raises(grpc.RpcError) as error:
        stub.split(proto[0].SplitRequest(text="abc", delim=""), timeout=20)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "text, delim, parts",
    [("a,b,,c", ",", ["a", "b", "", "c"]), ("a<>b", "<>", ["a", "b"]), ("", ",", [""])],
)
def test_split_divides_at_every_delimiter(stub, proto, text, delim, parts):
    reply = stub.split(proto[0].SplitRequest(text=text, delim=delim), timeout=20)
    assert (reply.number, list(reply.parts)) == (len(parts), parts)


def test_isprime_answers_each_number_before_the_next_is_sent(stub, proto):
    step = threading.Semaphore(0)

    def numbers():
        for num in (2, 9, 2147483647):
            yield proto[0].IsPrimeRequest(num=num)
            step.acquire(timeout=20)

    replies = stub.isprime(numbers(), timeout=30)
    for expected in ("2 is prime", "9 is not prime", "2147483647 is prime"):
        assert next(replies).text == expected
        step.release()
    assert list(replies) == []


@pytest.fixture
def idle_streams(stub, proto):
    """Open so many streams that have had an answer and then ask nothing; returns the last."""
    done, streams = threading.Event(), []

    def numbers():
        yield proto[0].IsPrimeRequest(num=7)
        done.wait(60)

    def open_streams(count):
        opened = [stub.isprime(numbers(), timeout=60) for _ in range(count)]
        streams.extend(opened)
        assert [next(stream).text for stream in opened] == ["7 is prime"] * count
        return opened[-1]

    yield open_streams
    done.set()
    for stream in streams:
        stream.cancel()


def test_two_thousand_idle_streams_are_the_limit_and_do_not_hold_up_the_end(
    server, stub, proto, idle_streams
):
    last = idle_streams(2000)

    def reverse():
        return stub.reverse(proto[0].ReverseRequest(text="abc"), timeout=20).message

    with pytest.raises(grpc.RpcError) as error:
        reverse()
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    last.cancel()

    def accepted():
        with contextlib.suppress(grpc.RpcError):
            return reverse() == "cba"

    wait_until(accepted, "the place of the stream that has ended")
    server.interrupt()
    assert server.wait(END) == 0


def test_ctrl_c_ends_open_streams_at_once(server, idle_streams):
    stream = idle_streams(1)
    begun = time.monotonic()
    server.interrupt()
    server.interrupt()  # once more: people do
    with pytest.raises(grpc.RpcError):
        next(stream)
    assert time.monotonic() - begun < 0.4
    assert server.wait(END) == 0
    assert server.err == "" and server.lines[-1] == "Shutting down"
