"""Lab 3 against any text: what workers, client and server make of lines of any content."""

import math
import re
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.harness import ROOT, load

prime, gcd, client, server = (
    load(ROOT / f"lab03_zmq/{name}.py") for name in ("prime", "gcd", "client", "server")
)
worker = gcd.worker
# White space, quotes, what ends or controls things, digits that are none, and more than one plane.
ALPHABET = " \t\r\x0b\0\x1b\x7f\x85\u2003\u200b\"'\\%{}[]:+-_.#!?azAZ019é日٣\ufffd\U0001f600"
few = settings(max_examples=100, derandomize=True, deadline=None, database=None)
numbers = st.integers(-(10**30), 10**30)
words = st.one_of(
    numbers.map(str), st.text(ALPHABET, max_size=8), st.sampled_from(["+7", "1_0", "٣", "-", "\0"])
)
lines = st.lists(st.one_of(words, st.sampled_from(["isprime", "gcd"])), max_size=4).map(" ".join)
isprime_task = worker.Task("isprime", prime.answer, "isprime N")
gcd_task = worker.Task("gcd", gcd.answer, "gcd A B")


@few
@given(lines.map(str.strip))
def test_each_worker_answers_its_own_lines_only_and_always_in_one_line(line):
    for task in (isprime_task, gcd_task):
        assert task.takes(line) == (line.split()[:1] == [task.keyword])
        if task.takes(line):
            assert client.is_answer(task.reply_to(line), line)


@few
@given(numbers, numbers)
def test_gcd_divides_both_and_is_the_largest(a, b):
    *_, divisor = gcd_task.reply_to(f"gcd {a} {b}").split()
    assert int(divisor) == math.gcd(a, b) >= 0


@few
@given(numbers, st.sampled_from(["\t", "  ", "\r", "\x0b", "\u2003"]))
def test_isprime_answers_an_integer_whatever_white_space_is_around_it(number, space):
    reply = isprime_task.reply_to(f"isprime{space}{number}{space}")
    assert reply in (f"{number} is prime", f"{number} is not prime")


@few
@given(st.binary(max_size=40))
def test_what_the_client_prints_is_printable_whatever_the_bytes(data):
    assert client.cli.printable(data.decode("utf-8", "replace")).isprintable()


@few
@given(lines.filter(str.strip), lines)
def test_the_client_tells_without_an_exception_whether_an_answer_is_its_own(line, answer):
    assert client.is_answer(answer, line) in (True, False)


@few
@given(st.binary(max_size=40))
def test_a_worker_repeats_what_it_cannot_make_sense_of_byte_for_byte(data):
    one = object.__new__(worker.Worker)
    one.task, one.backlog, sent = gcd_task, worker.deque(), []
    one.wait_for_server, one.outputs = (lambda: None), Sent()
    one.receive(b"gcd " + data)
    for line in one.backlog:
        one.send(f"{line} : expected")
        sent.append(b"gcd " + data + b" : expected")
    assert one.outputs == sent


class Sent(list):
    """A socket that keeps what is sent."""

    def send(self, message, flags=0):
        self.append(message)

    send_multipart = send


def new_broker(start_deadline):
    """Return a broker without a network."""
    broker = object.__new__(server.Broker)
    broker.topics, broker.waiting = set(), []
    broker.worker_inputs, broker.client_inputs = Sent(), Sent()
    broker.start_deadline = start_deadline
    return broker


def test_what_waits_for_a_worker_at_the_start_is_bounded():
    broker = new_broker(math.inf)
    for _ in range(1500):
        broker.receive([b"client", b"", b"foo"])
    assert len(broker.waiting) == 1000
    assert [sent[-1][:9] for sent in broker.client_inputs] == [b"no worker"] * 500
    broker.worker_inputs.recv = lambda: b"\x01foo"
    broker.note_subscription()
    assert [sent[-1] for sent in broker.client_inputs[500:]] == [b"accepted"] * 1000


def test_a_server_sleeps_until_a_worker_comes_or_is_too_late():
    broker = new_broker(time.monotonic() + 2)
    assert broker.timeout() is None
    broker.receive([b"client", b"", b"foo"])
    assert 1000 < broker.timeout() <= 2000  # ms


def test_a_refusal_is_short_however_long_the_keywords_are():
    broker = new_broker(0)
    broker.topics = {b"x" * 4000, b"gcd"}
    assert broker.refusal().startswith(b"no worker takes such a line; now taken: gcd, xxx")
    assert len(broker.refusal()) < 200


@few
@given(
    st.lists(st.binary(max_size=10), max_size=5),
    st.lists(st.binary(max_size=10), max_size=5),
    st.booleans(),
)
def test_the_server_confirms_every_message_that_has_an_envelope(frames, notices, start):
    broker = new_broker(math.inf if start else 0)
    for notice in notices:
        broker.worker_inputs.recv = lambda notice=notice: notice
        broker.note_subscription()
    broker.receive([b"client", *frames])
    if b"" not in frames:
        assert broker.waiting == broker.worker_inputs == broker.client_inputs == []
        return
    body = frames.index(b"") + 1
    line = b" ".join(frames[body:])
    taken = any(re.match(re.escape(topic) + rb"(?<![0-9A-Za-z])|" + re.escape(topic)
                         + rb"(?![0-9A-Za-z])", line) for topic in broker.topics)  # fmt: skip
    done = taken or not start
    assert broker.waiting == [([b"client", *frames[:body]], line)] * (not done)
    assert broker.worker_inputs == [line] * done  # any line goes to the workers
    confirmations = [sent[-1] == b"accepted" for sent in broker.client_inputs]
    assert confirmations == [taken] * done
    envelope = [b"client", *frames[:body]]
    assert [sent[: body + 1] for sent in broker.client_inputs] == [envelope] * done
