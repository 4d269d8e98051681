"""Lab 1's messages: what is read, what is refused, and any datagram at either side."""

import contextlib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.lab01.memory import Uploads, unfinished
from tests.support.harness import ROOT, load

core = load(ROOT / "lab01_udp/stop_and_wait.py")
messages = load(ROOT / "lab01_udp/messages.py")
DERANDOMIZED = settings(derandomize=True, database=None, deadline=None, max_examples=100)


@pytest.mark.parametrize(
    "datagram, expected",
    [
        (b"s | 0 | a.txt | 5", (0, "a.txt", 5, b" | ")),
        (b"s|0|a.txt|5", (0, "a.txt", 5, b"|")),
        (b"s | 41 | a.txt | 0", (41, "a.txt", 0, b" | ")),
        (b"s | 0 | this | that | 5", (0, "this | that", 5, b" | ")),
        (b"s|0|this | that|5", (0, "this | that", 5, b"|")),
        (b"s | 0 | " + b"n" * 255 + b" | 5", (0, "n" * 255, 5, b" | ")),
        (b"s | 0 | ..a | 5", (0, "..a", 5, b" | ")),
    ],
)
def test_a_start_message_is_cut_from_both_ends(datagram, expected):
    start = messages.decode_start(datagram)
    assert (start.seqno0, start.filename, start.total_size, start.delimiter) == expected
    assert start.encode() == datagram


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"s",
        b"x | 0 | a | 5",
        b"s | 0 | a",
        b"s | 0 | 5",
        b"s | 0 |  | 5",
        b"s | 0 | . | 5",
        b"s | 0 | .. | 5",
        b"s | 0 | ../a | 5",
        b"s | 0 | /etc/passwd | 5",
        b"s | 0 | a\\b | 5",
        b"s | 0 | a\0b | 5",
        b"s | 0 | a\nb | 5",
        b"s | 0 | " + b"n" * 256 + b" | 5",
        b"s | 0 | caf\xc3\xa9 | 5",
        b"s | 0 | a | -1",
        b"s | 0 | a | 5.0",
        b"s | 0 | a | +5",
        b"s | 0 | a | 5 ",
        b"s | -1 | a | 5",
        b"s | x | a | 5",
        b"s | \xb2 | a | 5",
        b"s | 0 | a | " + b"9" * 19,
        b"s |0| a | 5",
    ],
)
def test_a_malformed_or_dangerous_start_message_is_refused(receiver, uploads, datagram):
    with pytest.raises(core.Refused):
        receiver.receive(datagram, "client", 0.0)
    assert not receiver.sessions and not uploads.open


@DERANDOMIZED
@given(
    st.integers(0, 10**18 - 1),
    st.text(st.sampled_from('a| ."~'), min_size=1, max_size=12) | st.just("n" * 255),
    st.integers(0, 10**18 - 1),
    st.sampled_from(messages.DELIMITERS),
)
def test_every_start_message_is_read_as_it_was_written(seqno0, filename, total_size, delimiter):
    assume(filename not in (".", ".."))
    start = messages.Start(seqno0, filename, total_size, delimiter)
    assert messages.decode_start(start.encode()) == start


NUMBERS = st.sampled_from([b"0", b"1", b"2", b"9", b"-1", b"9" * 19, b"\xb2", b""])
FIELDS = st.sampled_from([b"x", b"y", b"../x", b"|", b"data"]) | NUMBERS
DATAGRAMS = st.binary(max_size=40) | st.builds(
    lambda delimiter, kind, number, fields: delimiter.join([kind, number, *fields]),
    st.sampled_from([b" | ", b" | ", b" | ", b"|", b" |"]),
    st.sampled_from([b"s", b"d", b"a", b"x"]),
    NUMBERS,
    st.lists(FIELDS, max_size=3),
)


@DERANDOMIZED
@given(st.lists(DATAGRAMS, max_size=20))
def test_any_datagram_is_answered_or_refused_and_every_file_accounted_for(datagrams):
    uploads = Uploads()
    receiver = core.Receiver(uploads.create, lambda address: 100)
    for k, datagram in enumerate(datagrams):
        with contextlib.suppress(core.Refused):
            assert messages.decode_ack(receiver.receive(datagram, k % 2, 0.1 * k))
        assert len(uploads.open) == len(unfinished(receiver))
        assert not [name for name in uploads if "/" in name]
    receiver.abandon_all()
    assert not uploads.open


@DERANDOMIZED
@given(st.lists(DATAGRAMS, max_size=20))
def test_any_datagram_is_the_awaited_ack_or_changes_nothing_at_the_client(datagrams):
    sender = core.Sender("a", 10, seqno0=7)
    sender.start(0.0)
    for datagram in datagrams:
        assert not sender.receive(datagram)
    assert sender.seqno == 7 and sender.sent == 0 and sender.buf_size is None
    assert sender.receive(b"a | 8 | 100")


@pytest.mark.parametrize("delimiter", [b" | ", b"|"])
@pytest.mark.parametrize("data", [b"", b" ", b" | ", b"|||", b" x ", bytes(range(256))])
def test_data_may_contain_anything(delimiter, data):
    seqno, found = messages.decode_data(b"d%b7%b%b" % (delimiter, delimiter, data), delimiter)
    assert (seqno, bytes(found)) == (7, data)


@pytest.mark.parametrize(
    "datagram",
    [b"d", b"d | 1", b"d | x | ", b"d |1 | a", b"d---1 | a", b"d | -1 | a", b"d | " + b"1" * 99],
)
def test_a_malformed_data_message_is_refused_without_harm(receiver, uploads, datagram):
    receiver.receive(b"s | 0 | a | 3", "client", 0.0)
    with pytest.raises(core.Refused):
        receiver.receive(datagram, "client", 0.0)
    receiver.receive(b"d | 1 | abc", "client", 0.0)
    assert uploads == {"a": b"abc"}


@pytest.mark.parametrize(
    "datagram, expected",
    [
        (b"a | 1 | 1024", (1, 1024)),
        (b"a|1|1024", (1, 1024)),
        (b"a | 7", (7, None)),
        (b"a|7", (7, None)),
        (b"a | 7\n", (7, None)),
    ],
)
def test_an_ack_is_read_in_either_form(datagram, expected):
    assert messages.decode_ack(datagram) == expected


@pytest.mark.parametrize("datagram", [b"", b"a", b"a | ", b"a | x", b"a | 1 | 2 | 3", b"b | 1"])
def test_what_is_no_ack_does_not_advance_the_client(datagram):
    sender = core.Sender("a", 3)
    sender.start(0.0)
    assert not sender.receive(datagram)
    sender.receive(b"a | 1 | 20")
    sender.data(b"abc", 0.0)
    assert not sender.receive(datagram)
