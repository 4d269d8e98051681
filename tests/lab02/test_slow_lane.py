"""Lab 2's slow lane by itself: the order of numbers that take long, and how one is given up."""

import contextlib
import socket
import threading
import time
import types

import pytest

from tests.lab02.clients import (
    PRIME_150,
    PRIME_1000,
    connect,
    reset,
)
from tests.support.harness import ROOT, load


@pytest.fixture
def lane():
    """A slow lane that runs, and a connection for it with its client."""
    module = load(ROOT / "lab02_tcp_threads/slow_lane.py")
    queue = contextlib.nullcontext()
    queue.put = lambda element: None
    lane = module.SlowLane(queue)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = connect(listener.getsockname()[1])
        connection = module.Connection(listener.accept()[0].detach(), ("host", 1))
    connection.tokens.append(PRIME_1000)
    lane.daemon = True  # should it not end
    lane.start()
    yield lane, connection, theirs
    lane.stop()
    lane.join(20)
    theirs.close()
    connection.sock.close()


@pytest.fixture
def endless(lane):
    """The same while it tests a number without end; with an event for when it gives that up."""
    lane, connection, theirs = lane
    begun = threading.Event()

    given_up = threading.Event()

    def answer_next(pause):
        try:
            while True:
                pause()
                begun.set()
        finally:
            given_up.set()

    connection.answer_next = answer_next
    lane.put(connection)
    assert begun.wait(20)
    return lane, connection, theirs, given_up


def test_a_test_is_given_up_when_its_client_goes(endless):
    lane, connection, theirs, given_up = endless
    reset(theirs)
    assert given_up.wait(20)
    assert list(lane._returning.values()) == [connection]
    assert connection.ended and not connection.tokens


def test_a_test_is_given_up_when_the_server_stops(endless):
    lane, connection, _, given_up = endless
    lane.stop()
    assert given_up.wait(20)
    lane.join(20)
    lane.close_connections()
    assert connection.sock.fileno() == -1


def test_the_slow_lane_serves_what_is_cheap_first_but_nothing_last(monkeypatch):
    module = load(ROOT / "lab02_tcp_threads/slow_lane.py")
    lane = module.SlowLane(None)
    came = [(0, "old", 1000), (1, "big", 1000), (5, "small", 200), (11, "new", 9)]
    for now, name, digits in came:
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        lane._queue_up(types.SimpleNamespace(name=name, tokens=[b"1" * digits]))
    served = [module.heapq.heappop(lane._order)[2].name for _ in came]
    assert served == ["small", "old", "big", "new"]


def test_a_client_has_one_number_that_takes_long_tested_at_a_time():
    module = load(ROOT / "lab02_tcp_threads/slow_lane.py")
    lane = module.SlowLane(None)
    ours, theirs = socket.socketpair()
    with theirs:
        connection = module.Connection(ours.detach(), ("host", 1))
        connection.tokens.extend([PRIME_150.strip()] * 3)
        lane.put(connection)
        lane.put(None)
        lane._take_arrivals()
        lane._serve(lane._order.pop()[2])
        assert theirs.recv(1000) == PRIME_150.strip() + b" is prime\n"
        assert len(connection.tokens) == 2
        assert [waiting for *_, waiting in lane._order] == [connection]
        connection.sock.close()
