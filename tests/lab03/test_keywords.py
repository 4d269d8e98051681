"""Lab 3's keywords: which worker takes a line, and which answer belongs to it."""

import time

import pytest
import zmq

from tests.lab03.parts import Hand
from tests.support.harness import ROOT, load, wait_until


@pytest.mark.parametrize(
    "line, answer, own",
    [
        ("isprime", "7 is prime", False),
        ("isprime", "isprime abc : expected isprime N", False),
        ("isprime", "isprime : expected isprime N", True),
        ("isprime", 'isprime "7" : expected isprime N', False),
        ("isprime", "isprime ? : expected isprime N", False),
        ("gcd 1", "gcd for 1 2 is 1", False),
        ("gcd 1", "gcd 1 x : expected gcd A B", False),
        ("gcd 1", "gcd 1: two numbers, please", True),
        ("gcd 1", "gcd 12 : expected gcd A B", False),
        ("isprime 7", "7 is not prime", True),
        ("isprime 7", "77 is not prime", False),
        ("isprime 7", "isprime 7 : isprime is busy", True),
        ("upper abc", "ABC was abc", True),
        ("upper", "anything", True),
    ],
)
def test_an_answer_is_known_by_what_it_repeats(line, answer, own):
    assert load(ROOT / "lab03_zmq/client.py").is_answer(answer, line) == own


def test_at_the_end_of_a_pipe_no_answer_is_missing_while_others_ask(pipeline):
    """The answers to another client are not taken for the one to `isprime` without a number."""
    other = pipeline.client()
    other.write("".join(f"isprime {n}\n" for n in range(5_000)))
    for _ in range(4):
        client = pipeline.client()
        client.write("isprime\n")
        client.close_stdin()
        assert client.wait() == 0
        assert "isprime : expected isprime N" in client.out
    assert "4999 is" not in other.out  # it still asked


@pytest.mark.parametrize(
    "topic, line, taken",
    [
        (b"upper", b"upper abc", True),
        (b"upper", b"upper", True),
        (b"upper", b"upper\tabc", True),
        (b"upper ", b"upper abc", True),
        (b"upper", b"uppercase abc", False),
        (b"upper", b"upper_case abc", False),
        (b"upper", b"upper-case abc", False),
        (b"upper", "upperé abc".encode(), False),
        (b"upper", b"lower abc", False),
        (b"upper a", b"upper abc", False),
        (b"", b"upper abc", True),
        (b"!", b"!!", True),
    ],
)
def test_a_line_is_taken_if_a_subscription_ends_where_a_word_does(parts, topic, line, taken):
    """It reaches even those who have subscribed to a part of its first word."""
    parts.server()
    with Hand() as hand:
        worker = hand.connect(zmq.SUB, parts.ports[2], topic)
        known = topic if topic[-1:] == b"!" else topic + b" !"
        wait_until(lambda: hand.ask(parts.ports[0], known) == b"accepted")
        assert (hand.ask(parts.ports[0], line) == b"accepted") == taken
        received = []
        while worker.poll(500):
            received.append(worker.recv())
        assert (line in received) == line.startswith(topic)


def test_a_refusal_names_twenty_keywords_however_many_there_are(pipeline):
    with Hand() as hand:
        stranger = hand.connect(zmq.XSUB, pipeline.ports[2], mark=0)
        for number in range(100_000):
            stranger.send(b"\x01stranger%d" % number)
        stranger.send(b"\x01" + b"long" * 1000)

        def refusal():
            text = hand.ask(pipeline.ports[0], b"foo")
            return text if b" and 99983 more" in text else None

        text = wait_until(refusal, "the server to hear of all")
        assert len(text) < 1000
        assert text.startswith(b"no worker takes such a line; now taken: gcd, isprime, stranger")
        began = time.monotonic()
        assert hand.ask(pipeline.ports[0], b"isprime 7") == b"accepted"
        assert time.monotonic() - began < 1.0
