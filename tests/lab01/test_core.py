"""Lab 1's protocol core: messages, the client's rules, the server's rules; no socket, no clock."""

import contextlib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.harness import ROOT, load

core = load(ROOT / "lab01_udp/stop_and_wait.py")
messages = load(ROOT / "lab01_udp/messages.py")
DERANDOMIZED = settings(derandomize=True, database=None, deadline=None, max_examples=100)


class Uploads(dict):
    """Storage in memory: what has been saved, by name; `open` are the unfinished ones."""

    def __init__(self):
        self.open = []
        self.full = False  # now
        self.fills_up = False  # before the file is on disk

    def create(self, filename, total_size):
        upload = MemoryUpload(self, filename)
        self.open.append(upload)
        return upload


class MemoryUpload:
    def __init__(self, uploads, filename):
        self.uploads, self.filename, self.data = uploads, filename, b""

    def write(self, data):
        if self.uploads.full:
            raise OSError(28, "No space left on device")
        self.data += data

    def save(self):
        if self.uploads.fills_up:
            raise OSError(28, "No space left on device")
        self.uploads[self.filename] = self.data
        self.uploads.open.remove(self)

    def discard(self):
        self.uploads.open.remove(self)


@pytest.fixture
def uploads():
    return Uploads()


@pytest.fixture
def receiver(uploads):
    return core.Receiver(uploads.create, lambda address: 100)


def unfinished(receiver):
    return [address for address, s in receiver.sessions.items() if not s.finished]


# --- Messages ---


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


# --- The client's rules ---


def test_the_client_sends_start_then_numbered_data_that_fills_the_buffer():
    sender = core.Sender("a.txt", 10, seqno0=8)
    assert sender.start(0.0) == b"s | 8 | a.txt | 10"
    assert sender.receive(b"a | 9 | 14")
    assert sender.room == 6
    assert sender.data(b"012345", 0.0) == b"d | 9 | 012345"
    assert sender.receive(b"a | 10")
    assert sender.room == 4  # what is left of the file
    assert sender.data(b"6789", 0.0) == b"d | 10 | 6789"
    assert not sender.finished
    assert sender.receive(b"a | 11")
    assert sender.finished and sender.sent == 10
    sender.receive(b"a | 11")
    assert sender.finished and sender.sent == 10


@pytest.mark.parametrize("seqno0", [0, 7, 8, 9, 98, 99, 10**9 - 2])
def test_every_data_message_but_the_last_fills_the_buffer(seqno0):
    sender = core.Sender("a", 1000, seqno0)
    sender.start(0.0)
    sender.receive(b"a | %d | 20" % (seqno0 + 1))
    for k in range(1, 50):
        assert len(sender.data(bytes(sender.room), 0.0)) == 20
        assert sender.receive(b"a | %d" % (seqno0 + k + 1))


def test_a_buf_size_that_a_longer_seqno_fills_fails_the_transfer():
    sender = core.Sender("a", 100, seqno0=8)
    sender.start(0.0)
    sender.receive(b"a | 9 | 9")
    sender.data(b"x", 0.0)
    with pytest.raises(core.TransferFailed, match="too small"):
        sender.receive(b"a | 10")


def test_only_the_ack_to_start_names_the_buf_size():
    sender = core.Sender("a", 100)
    sender.start(0.0)
    sender.receive(b"a | 1 | 20")
    sender.data(bytes(sender.room), 0.0)
    assert sender.receive(b"a | 2 | 15")
    assert sender.buf_size == 20 and sender.room == 12


def test_an_empty_file_is_finished_with_the_ack_to_start():
    sender = core.Sender("a", 0)
    sender.start(0.0)
    assert not sender.finished
    assert sender.receive(b"a | 1 | 1024")
    assert sender.finished


def test_a_start_is_acknowledged_only_with_a_buf_size():
    sender = core.Sender("a", 3)
    sender.start(0.0)
    assert not sender.receive(b"a | 1")
    assert sender.receive(b"a | 1 | 1024")


@pytest.mark.parametrize("buf_size", [0, 1, 8])
def test_a_buf_size_without_room_for_data_fails_the_transfer(buf_size):
    sender = core.Sender("a", 3)
    sender.start(0.0)
    with pytest.raises(core.TransferFailed, match="too small"):
        sender.receive(b"a | 1 | %d" % buf_size)


def test_no_datagram_is_longer_than_udp_carries_whatever_the_server_offers():
    sender = core.Sender("a", 10**6)
    sender.start(0.0)
    sender.receive(b"a | 1 | 999999")
    assert len(sender.data(b"x" * sender.room, 0.0)) == 65507


def test_stale_and_duplicate_acks_cause_no_sending():
    """RFC 1123 §4.2.3.1, the sorcerer's apprentice."""
    sender = core.Sender("a", 100)
    sender.start(0.0)
    sender.receive(b"a | 1 | 20")
    sender.data(b"x" * sender.room, 0.1)
    for stale in (b"a | 1 | 20", b"a | 1", b"a | 3", b"a | 0"):
        assert not sender.receive(stale)
        assert sender.tick(0.2) is None


def test_a_message_is_sent_again_after_half_a_second_five_times_and_no_more():
    sender = core.Sender("a", 3)
    message = sender.start(10.0)
    for k in range(5):
        assert sender.tick(10.0 + 0.5 * k + 0.49) is None
        assert sender.tick(10.0 + 0.5 * (k + 1)) == message
    assert sender.tick(12.99) is None
    with pytest.raises(core.TransferFailed, match="malfunctioning"):
        sender.tick(13.0)
    assert sender.retransmissions == 5


def test_each_retry_waits_half_a_second_from_the_one_before_however_late_that_was():
    sender = core.Sender("a", 3)
    message = sender.start(10.0)
    assert sender.tick(10.8) == message
    assert sender.tick(11.29) is None and sender.patience(11.0) == pytest.approx(0.3)
    assert sender.tick(11.3) == message
    assert sender.patience(12.0) == 0.0


def test_every_message_has_its_own_five_retries():
    sender = core.Sender("a", 3)
    sender.start(0.0)
    for k in range(1, 5):
        sender.tick(0.5 * k)
    sender.receive(b"a | 1 | 100")
    message = sender.data(b"abc", 2.0)
    assert [sender.tick(2.0 + 0.5 * k) for k in range(1, 6)] == [message] * 5


# --- The server's rules ---


def test_start_and_data_are_acked_with_the_next_seqno(receiver, uploads):
    assert receiver.receive(b"s | 5 | a | 6", "client", 0.0) == b"a | 6 | 100"
    assert receiver.receive(b"d | 6 | abc", "client", 0.0) == b"a | 7"
    assert uploads == {}
    assert receiver.receive(b"d | 7 | def", "client", 0.0) == b"a | 8"
    assert uploads == {"a": b"abcdef"}


def test_a_session_is_acked_with_the_delimiter_of_its_start(receiver, uploads):
    assert receiver.receive(b"s|0|a|4", "client", 0.0) == b"a|1|100"
    assert receiver.receive(b"d|1| b |", "client", 0.0) == b"a|2"
    assert uploads == {"a": b" b |"}
    assert receiver.receive(b"s | 0 | b | 2", "other", 0.0) == b"a | 1 | 100"
    with pytest.raises(core.Refused):
        receiver.receive(b"d|1|ab", "other", 0.0)


def test_duplicates_are_acked_again_and_change_nothing(receiver, uploads):
    for _ in range(3):
        assert receiver.receive(b"s | 0 | a | 6", "client", 0.0) == b"a | 1 | 100"
    for _ in range(3):
        assert receiver.receive(b"d | 1 | abc", "client", 0.0) == b"a | 2"
    assert receiver.receive(b"s | 0 | a | 6", "client", 0.0) == b"a | 1 | 100"
    receiver.receive(b"d | 2 | def", "client", 0.0)
    assert uploads == {"a": b"abcdef"}


def test_a_message_from_the_future_is_answered_with_the_awaited_seqno(receiver, uploads):
    receiver.receive(b"s | 0 | a | 6", "client", 0.0)
    assert receiver.receive(b"d | 2 | def", "client", 0.0) == b"a | 1"
    receiver.receive(b"d | 1 | abc", "client", 0.0)
    receiver.receive(b"d | 2 | def", "client", 0.0)
    assert uploads == {"a": b"abcdef"}


def test_sessions_of_different_addresses_are_separate(receiver, uploads):
    receiver.receive(b"s | 0 | a | 3", "one", 0.0)
    receiver.receive(b"s | 0 | b | 3", "two", 0.0)
    receiver.receive(b"d | 1 | abc", "two", 0.0)
    receiver.receive(b"d | 1 | xyz", "one", 0.0)
    assert uploads == {"a": b"xyz", "b": b"abc"}


def test_another_start_from_the_same_address_begins_anew(receiver, uploads):
    receiver.receive(b"s | 0 | a | 6", "client", 0.0)
    receiver.receive(b"d | 1 | abc", "client", 0.0)
    assert receiver.receive(b"s | 7 | b | 2", "client", 0.0) == b"a | 8 | 100"
    receiver.receive(b"d | 8 | xy", "client", 0.0)
    assert uploads == {"b": b"xy"}
    assert not uploads.open


def test_an_empty_file_is_complete_at_start(receiver, uploads):
    assert receiver.receive(b"s | 0 | a | 0", "client", 0.0) == b"a | 1 | 100"
    assert uploads == {"a": b""}
    assert receiver.receive(b"s | 0 | a | 0", "client", 0.5) == b"a | 1 | 100"


def test_more_bytes_than_announced_abandon_the_session(receiver, uploads):
    receiver.receive(b"s | 0 | a | 3", "client", 0.0)
    with pytest.raises(core.Refused, match="more bytes"):
        receiver.receive(b"d | 1 | abcd", "client", 0.0)
    with pytest.raises(core.Refused, match="without a session"):
        receiver.receive(b"d | 1 | abc", "client", 0.0)
    assert uploads == {} and not uploads.open


def test_a_datagram_beyond_the_buf_size_is_refused(receiver, uploads):
    receiver.receive(b"s | 0 | a | 200", "client", 0.0)
    with pytest.raises(core.Refused, match="buf_size"):
        receiver.receive(b"d | 1 | " + b"x" * 93, "client", 0.0)
    assert receiver.receive(b"d | 1 | " + b"x" * 92, "client", 0.0) == b"a | 2"


def test_three_seconds_of_silence_end_a_session_and_remove_its_file(receiver, uploads):
    receiver.receive(b"s | 0 | a | 6", "client", 0.0)
    receiver.receive(b"d | 1 | abc", "client", 2.0)
    assert receiver.expire(5.0) == [] and uploads.open
    assert [s.start.filename for s in receiver.expire(5.01)] == ["a"]
    assert not uploads.open and not receiver.sessions
    with pytest.raises(core.Refused, match="without a session"):
        receiver.receive(b"d | 2 | def", "client", 5.02)


def test_only_the_silent_sessions_expire(receiver):
    for k in range(10):
        receiver.receive(b"s | 0 | f%d | 6" % k, k, 0.0)
    receiver.receive(b"d | 1 | abc", 3, 2.0)
    assert len(receiver.expire(3.5)) == 9
    assert list(receiver.sessions) == [3]


@pytest.mark.parametrize("sign", [b"s | 0 | a | 6", b"d | 1 | abc", b"d | 9 | xyz"])
def test_duplicates_and_messages_from_the_future_are_signs_of_life(receiver, uploads, sign):
    receiver.receive(b"s | 0 | a | 6", "client", 0.0)
    receiver.receive(b"d | 1 | abc", "client", 1.0)
    receiver.receive(sign, "client", 3.0)
    assert receiver.expire(5.9) == []
    assert receiver.receive(b"d | 2 | def", "client", 5.9) == b"a | 3"


def test_a_finished_session_goes_before_an_unfinished_one_that_is_silent_for_longer(receiver):
    receiver.receive(b"s | 0 | a | 6", "unfinished", 0.0)
    receiver.receive(b"s | 0 | b | 0", "finished", 0.5)
    receiver.receive(b"s | 0 | c | 0", "finished later", 1.5)
    assert receiver.expire(2.0) == []
    assert list(receiver.sessions) == ["unfinished", "finished later"]


def test_a_duplicate_keeps_a_finished_session_for_another_second(receiver):
    receiver.receive(b"s | 0 | a | 3", "client", 0.0)
    receiver.receive(b"d | 1 | abc", "client", 0.0)
    receiver.receive(b"d | 1 | abc", "client", 0.9)
    receiver.expire(1.8)
    assert receiver.receive(b"s | 0 | a | 3", "client", 1.8) == b"a | 1 | 100"
    receiver.expire(2.7)
    assert receiver.receive(b"d | 1 | abc", "client", 2.7) == b"a | 2"


def test_a_finished_session_answers_duplicates_for_one_second(receiver):
    receiver.receive(b"s | 0 | a | 3", "client", 0.0)
    receiver.receive(b"d | 1 | abc", "client", 1.0)
    receiver.expire(1.9)
    assert receiver.receive(b"d | 1 | abc", "client", 1.9) == b"a | 2"
    receiver.expire(2.91)
    assert not receiver.sessions
    with pytest.raises(core.Refused):
        receiver.receive(b"d | 1 | abc", "client", 2.92)


def test_a_finished_session_appends_nothing(receiver, uploads):
    receiver.receive(b"s | 0 | a | 3", "client", 0.0)
    receiver.receive(b"d | 1 | abc", "client", 0.0)
    assert receiver.receive(b"d | 2 | more", "client", 0.1) == b"a | 2"
    assert uploads == {"a": b"abc"}


def test_a_late_duplicate_of_the_start_opens_no_second_session(receiver, uploads):
    receiver.receive(b"s | 0 | a | 3", "client", 0.0)
    receiver.receive(b"d | 1 | abc", "client", 0.0)
    assert receiver.receive(b"s | 0 | a | 3", "client", 0.1) == b"a | 1 | 100"
    assert not uploads.open and not unfinished(receiver)


def test_a_finished_session_ends_when_its_client_begins_another(receiver):
    receiver.receive(b"s | 0 | a | 3", "client", 0.0)
    receiver.receive(b"d | 1 | abc", "client", 0.0)
    receiver.receive(b"s | 0 | b | 1", "client", 0.1)
    with pytest.raises(core.Refused, match="more bytes"):
        receiver.receive(b"d | 1 | xyz", "client", 0.1)
    with pytest.raises(core.Refused, match="without a session"):
        receiver.receive(b"d | 1 | abc", "client", 0.1)


@pytest.mark.parametrize("when", ["full", "fills_up"])
def test_a_full_disk_abandons_the_session_without_an_ack(receiver, uploads, when):
    receiver.receive(b"s | 0 | a | 3", "client", 0.0)
    setattr(uploads, when, True)
    with pytest.raises(core.Refused, match="No space"):
        receiver.receive(b"d | 1 | abc", "client", 0.0)
    assert uploads == {} and not uploads.open and not receiver.sessions


def test_a_client_to_which_there_is_no_way_is_refused_and_leaves_no_file(uploads):
    def no_way(address):
        raise OSError(101, "Network is unreachable")

    receiver = core.Receiver(uploads.create, no_way)
    with pytest.raises(core.Refused, match="unreachable"):
        receiver.receive(b"s | 0 | a | 3", "client", 0.0)
    assert not uploads.open and not receiver.sessions


def test_sessions_beyond_the_cap_are_refused_until_one_is_silent_for_a_second(receiver):
    for k in range(core.MAX_SESSIONS):
        receiver.receive(b"s | 0 | f | 3", k, 0.001 * k)
    with pytest.raises(core.Refused, match="sessions"):
        receiver.receive(b"s | 0 | f | 3", "honest", 0.9)
    receiver.receive(b"d | 1 | a", 0, 0.9)  # the first is not silent any more
    assert receiver.receive(b"s | 0 | f | 3", "honest", 1.01) == b"a | 1 | 100"
    assert 0 in receiver.sessions and 1 not in receiver.sessions
    assert len(receiver.sessions) == core.MAX_SESSIONS


def test_stopping_removes_every_unfinished_file(receiver, uploads):
    for k in range(5):
        receiver.receive(b"s | 0 | f%d | 3" % k, k, 0.0)
    receiver.receive(b"d | 1 | abc", 2, 0.0)
    receiver.abandon_all()
    assert not uploads.open and uploads == {"f2": b"abc"}
    assert not receiver.sessions
