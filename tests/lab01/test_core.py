"""Lab 1's protocol core: the client's rules, the server's rules; no socket, no clock."""

import pytest

from tests.support.harness import ROOT, load

core = load(ROOT / "lab01_udp/stop_and_wait.py")


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
    assert sender.tick(11.29) is None and sender.timeout(11.0) == pytest.approx(0.3)
    assert sender.tick(11.3) == message
    assert sender.timeout(12.0) == 0.0


def test_every_message_has_its_own_five_retries():
    sender = core.Sender("a", 3)
    sender.start(0.0)
    for k in range(1, 5):
        sender.tick(0.5 * k)
    sender.receive(b"a | 1 | 100")
    message = sender.data(b"abc", 2.0)
    assert [sender.tick(2.0 + 0.5 * k) for k in range(1, 6)] == [message] * 5


def test_between_two_messages_no_ack_counts_and_nothing_is_sent_again():
    sender = core.Sender("a", 3)
    sender.start(0.0)
    assert sender.receive(b"a | 1 | 100")
    assert not sender.receive(b"a | 1 | 100")
    assert sender.tick(9.0) is None
    sender.data(b"abc", 9.0)
    assert sender.receive(b"a | 2")
    assert not sender.receive(b"a | 2")
    assert sender.tick(99.0) is None and sender.sent == 3


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
