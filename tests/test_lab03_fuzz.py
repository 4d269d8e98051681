"""Lab 3 against any text: what workers, client and server make of lines of any content."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import ROOT, load

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
isprime_worker = worker.Worker("isprime", prime.answer, "isprime N")
gcd_worker = worker.Worker("gcd", gcd.answer, "gcd A B")


@few
@given(lines)
def test_each_worker_answers_its_own_lines_only_and_always_in_one_line(line):
    for one in (isprime_worker, gcd_worker):
        reply = one.reply_to(line)
        assert (reply is None) == (line.split()[:1] != [one.keyword])
        assert reply is None or client.is_answer(reply, line)


@few
@given(numbers, numbers)
def test_gcd_divides_both_and_is_the_largest(a, b):
    *_, divisor = gcd_worker.reply_to(f"gcd {a} {b}").split()
    assert int(divisor) == math.gcd(a, b) >= 0


@few
@given(numbers, st.sampled_from(["\t", "  ", "\r", "\x0b", "\u2003"]))
def test_isprime_answers_an_integer_whatever_white_space_is_around_it(number, space):
    reply = isprime_worker.reply_to(f"isprime{space}{number}{space}")
    assert reply in (f"{number} is prime", f"{number} is not prime")


@few
@given(st.binary(max_size=40))
def test_what_the_client_prints_is_printable_whatever_the_bytes(data):
    assert client.process.printable(data.decode("utf-8", "replace")).isprintable()


@few
@given(lines.filter(str.strip), lines)
def test_the_client_tells_without_an_exception_whether_an_answer_is_its_own(line, answer):
    assert client.is_answer(answer, line) in (True, False)


class Sent(list):
    """A socket that keeps what is sent."""

    send = send_multipart = list.append


@few
@given(
    st.lists(st.binary(max_size=10), max_size=5),
    st.lists(st.binary(max_size=10), max_size=5),
    st.booleans(),
)
def test_the_server_confirms_every_message_that_has_an_envelope(frames, notices, grace):
    broker = object.__new__(server.Broker)
    broker.topics, broker.waiting = set(), []
    broker.worker_inputs, broker.client_inputs = Sent(), Sent()
    broker.grace_ends = math.inf if grace else 0
    for notice in notices:
        broker.worker_inputs.recv = lambda notice=notice: notice
        broker.note_subscription()
    broker.receive([b"client", *frames])
    taken = [broker.offer(*one) for one in broker.waiting]
    if b"" not in frames:
        assert taken == []
        return
    body = frames.index(b"") + 1
    line = b" ".join(frames[body:])
    wanted = any(line.startswith(topic) for topic in broker.topics)
    assert taken == [wanted or not grace]
    assert broker.worker_inputs == [line] * wanted
    assert [sent[: body + 1] for sent in broker.client_inputs] == [
        [b"client", *frames[:body]]
    ] * taken[0]


@few
@given(st.text(ALPHABET, max_size=8))
def test_a_port_is_a_number_up_to_65535_or_an_argument_error(text):
    for module in (worker, server, client):
        try:
            port = module.parse_port(text)
        except module.argparse.ArgumentTypeError:
            continue
        assert 0 <= port <= 65535 and int(text) == port
