"""Lab 4 against any text: command lines, the quoting of answers, addresses."""

import argparse
import contextlib
import io
from types import SimpleNamespace

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.harness import ROOT, load

client, server = load(ROOT / "lab04_grpc/client.py"), load(ROOT / "lab04_grpc/server.py")
cli, messages = client.cli, client.messages
# White space, quotes, what ends or controls things, digits that are none, and more than one plane.
ALPHABET = " \t\r\x0b\0\x1b\x7f\x85\u2003\u200b\"'\\%{}[]:+-_.#!?azAZ019é日٣\ufffd\U0001f600"
few = settings(max_examples=100, derandomize=True, deadline=None, database=None)
texts = st.text(ALPHABET, max_size=20)
CALL = SimpleNamespace(peer=lambda: "")  # what a function sees of its call


class Stub:
    """The server's functions, called without a network."""

    def __init__(self, channel):
        self.service = server.TextTools()

    def reverse(self, request, timeout):
        assert timeout
        return self.service.reverse(server.messages.ReverseRequest(text=request.text), CALL)

    def split(self, request, timeout):
        assert timeout
        request = server.messages.SplitRequest(text=request.text, delim=request.delim)
        return self.service.split(request, CALL)

    def isprime(self, requests, timeout):
        assert timeout
        return self.service.isprime(requests, CALL)


def run(line):
    """Return what the client prints for a line, and whether it ends."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(client.services, "TextToolsStub", Stub)
        ended = client.Client("server", None, terminal=False).obey(line)
    return out.getvalue(), ended


keywords = st.sampled_from(
    ["reverse", "split", "isprime", "help", "exit", "quit", "EOF", "?", "!", ""]
)
words = st.one_of(texts, st.integers(-(2**65), 2**65).map(str))


@few
@given(keywords, st.sampled_from([" ", "\t", ""]), st.lists(words, max_size=4).map(" ".join))
def test_every_line_is_answered_and_only_exit_and_the_end_of_input_end(keyword, space, rest):
    line = f"{keyword}{space}{rest}"
    out, ended = run(line)
    assert ended == (line.strip() in ("exit", "quit"))
    if ended:
        assert out == ""
    elif line.strip() and line.split() != ["isprime"]:
        assert out.endswith("\n")


@few
@given(texts)
def test_what_reverse_prints_is_read_back_by_protobuf_as_the_reversed_text(text):
    out, _ = run(f"reverse {text}")
    assert out.endswith("\n\n") and out.count("\n") == 2
    assert text_format.Parse(out, messages.ReverseReply()).message == text.strip()[::-1]


@few
@given(texts)
def test_what_split_prints_is_read_back_by_protobuf_as_the_words(text):
    reply = text_format.Parse(run(f"split {text}")[0], messages.SplitReply())
    assert (reply.number, list(reply.parts)) == (len(text.split()) or 1, text.split() or [""])


@few
@given(st.one_of(texts, st.tuples(texts, st.integers(-10, 70_000)).map("{0[0]}:{0[1]}".format)))
def test_an_address_is_a_host_and_a_port_or_an_argument_error(text):
    try:
        host, port = cli.parse_address(text)
    except argparse.ArgumentTypeError:
        return
    assert 0 <= port <= 65535
    assert cli.parse_address(cli.join_address(host, port)) == (host, port)


@few
@given(st.one_of(texts, st.integers(-10, 70_000).map(str)))
def test_a_port_is_a_number_up_to_65535_or_an_argument_error(text):
    try:
        port = cli.parse_port(text)
    except argparse.ArgumentTypeError:
        return
    assert 0 <= port <= 65535 and text.lstrip("0") == str(port).lstrip("0")
