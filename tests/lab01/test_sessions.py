"""Lab 1's sessions at the server: when one ends, what is left of it, and how many there may be."""

import pytest

from tests.lab01.memory import unfinished
from tests.support.harness import ROOT, load

core = load(ROOT / "lab01_udp/stop_and_wait.py")


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
