"""Lab 2 on the wire: which bytes are a number, when it ends, and what is answered."""

import re
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab02.clients import PRIME_1000, connect, receive
from tests.support.harness import ROOT, load
from tests.support.relays import TcpRelay


@pytest.mark.parametrize(
    "sent, replies",
    [
        (b"7\n", b"7 is prime\n"),
        (b"7\r\n", b"7 is prime\n"),
        (b"0 1 -7 +7 007\n", b"0 is not prime\n1 is not prime\n-7 is not prime\n"
         b"7 is prime\n7 is prime\n"),
        (b" \n\n7\t9 \n", b"7 is prime\n9 is not prime\n"),
        (PRIME_1000 + b"\n", PRIME_1000 + b" is prime\n"),
        (b"9 " + PRIME_1000 + b" 7 " + PRIME_1000 + b" 9\n", b"9 is not prime\n" + PRIME_1000
         + b" is prime\n7 is prime\n" + PRIME_1000 + b" is prime\n9 is not prime\n"),
    ],
)  # fmt: skip
def test_every_number_is_answered_in_order(our_server, sent, replies):
    with connect(our_server.number) as sock:
        sock.sendall(sent)
        assert receive(sock, replies.count(b"\n")) == replies


@pytest.mark.parametrize(
    "bad", [b"abc", b"1.5", b"1_000", b"0x11", b"--7", b"\xd9\xa3", b"\xff\x00", b"1" * 1001]
)
def test_what_is_no_integer_gets_an_error_and_the_connection_stays_usable(our_server, bad):
    with connect(our_server.number) as sock:
        sock.sendall(bad + b"\n7\n")
        error, answer = receive(sock, 2).splitlines()
        assert error.startswith(b"error: ")
        assert answer == b"7 is prime"


def test_bare_digits_are_answered_when_the_sender_falls_silent(our_server):
    with connect(our_server.number) as sock:
        for _ in range(3):
            sock.sendall(b"7")
            assert receive(sock) == b"7 is prime\n"


def test_digits_that_arrive_one_by_one_are_one_number(our_server):
    with TcpRelay(our_server.number, piece=1) as relay, connect(relay.port) as sock:
        sock.sendall(b"\n15492781\n15492787\n15492810 ")
        expected = b"15492781 is prime\n15492787 is prime\n15492810 is not prime\n"
        assert receive(sock, 3) == expected


@pytest.mark.parametrize("sent, reply", [(b"7\n154", b"7 is prime\n"), (b"\n154", b"")])
def test_once_a_client_has_sent_a_blank_silence_ends_no_number(our_server, sent, reply):
    with connect(our_server.number) as sock:
        sock.sendall(sent)
        assert receive(sock, reply.count(b"\n")) == reply
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        sock.settimeout(20)
        sock.sendall(b"92781\n")
        assert receive(sock) == b"15492781 is prime\n"


def test_the_end_of_the_input_ends_a_number_and_then_the_connection(our_server):
    with connect(our_server.number) as sock:
        sock.sendall(b"9 " + PRIME_1000 + b" 7")
        sock.shutdown(socket.SHUT_WR)
        expected = b"9 is not prime\n" + PRIME_1000 + b" is prime\n7 is prime\n"
        assert receive(sock, 9) == expected  # and then the end, at once


def test_the_end_after_a_whole_line_asks_for_nothing_more(our_server):
    with connect(our_server.number) as sock:
        sock.sendall(b"7\n")
        sock.shutdown(socket.SHUT_WR)
        assert receive(sock, 9) == b"7 is prime\n"


def test_a_thousand_numbers_in_one_go_are_answered_in_order(our_server):
    with connect(our_server.number) as sock:
        sock.sendall(b"".join(b"%d\n" % n for n in range(1000)))
        replies = receive(sock, 1000).splitlines()
        assert [int(reply.split()[0]) for reply in replies] == list(range(1000))


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.binary(max_size=4000))
def test_every_token_gets_one_line_and_the_right_one(token):
    reply = load(ROOT / "lab02_tcp_threads/connection.py").reply_to(token)
    assert reply.count(b"\n") == 1 and reply.endswith(b"\n") and reply.isascii()
    assert reply.startswith(b"error: ") or re.fullmatch(rb"[+-]?[0-9]{1,1000}", token)


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.lists(st.text("0123456789 \n\r\t-x\0", max_size=20).map(str.encode), max_size=8))
def test_the_answers_do_not_depend_on_the_segments(segments):
    module = load(ROOT / "lab02_tcp_threads/connection.py")
    ours, theirs = socket.socketpair()
    connection = module.Connection(ours.detach(), ("host", 1))
    with connection.sock, theirs:
        for segment in filter(None, segments):
            theirs.sendall(segment)
            connection.read()
        theirs.shutdown(socket.SHUT_WR)
        connection.read()
        while connection.tokens:
            connection.answer_next()
    tokens = re.findall(rb"[^ \n\r\t]+", b"".join(segments))
    assert connection.ended and connection.output == b"".join(map(module.reply_to, tokens))
