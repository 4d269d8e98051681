"""Lab 2's worker by itself: what it waits for, when a turn ends, and how it stops."""

import multiprocessing
import selectors
import socket
import time

import pytest

from tests.support.harness import ROOT, load


@pytest.fixture
def worker():
    """A worker that does not run, with a connection to serve: (worker, connection, its client)."""
    module = load(ROOT / "lab02_tcp_threads/server.py")
    queue = multiprocessing.Queue()
    worker = module.Worker(queue, module.SlowLane(queue))
    ours, theirs = socket.socketpair()
    connection = module.Connection(ours.detach(), ("host", 1))
    worker.selector.register(connection.sock, module.READ, connection)
    with theirs, worker.selector, connection.sock:
        yield worker, connection, theirs
    queue.close()


def test_a_worker_waits_for_a_client_to_read_or_to_write(worker):
    worker, connection, theirs = worker
    connection.output = b"x" * (1 << 22)
    worker.serve(connection)
    assert worker.selector.get_key(connection.sock).events == selectors.EVENT_WRITE
    while connection.output:
        theirs.recv(1 << 20)
        worker.serve(connection, selectors.EVENT_WRITE)
    assert worker.selector.get_key(connection.sock).events == selectors.EVENT_READ


def test_silence_ends_a_number_when_it_has_lasted_since_the_last_digit(worker, monkeypatch):
    worker, connection, theirs = worker
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert worker.timeout() is None  # no busy polling
    for _ in range(3):
        theirs.sendall(b"1")
        worker.serve(connection, selectors.EVENT_READ)
        assert worker.timeout() == pytest.approx(0.05)
        now += 0.04
        assert worker.timeout() == pytest.approx(0.01)
        worker.end_quiet_tokens()
    now += 0.02
    assert worker.timeout() == 0.0
    worker.end_quiet_tokens()
    assert theirs.recv(100) == b"111 is not prime\n"
    assert worker.timeout() is None


def test_a_worker_that_is_to_stop_begins_no_further_turn(worker, monkeypatch):
    worker, connection, _ = worker
    served = []

    def serve(*args):
        served.append(args)
        worker.stopping = True

    ready = [(worker.selector.get_key(connection.sock), selectors.EVENT_READ)] * 10
    monkeypatch.setattr(worker, "serve", serve)
    monkeypatch.setattr(worker.selector, "select", lambda timeout: ready)
    worker.run()
    assert len(served) == 1


def test_a_connection_that_no_worker_has_taken_is_closed_at_the_stop():
    module = load(ROOT / "lab02_tcp_threads/server.py")
    queue = multiprocessing.Queue()
    lane = module.SlowLane(queue)
    lane.start()
    ours, theirs = socket.socketpair()
    with theirs:
        queue.put((ours.detach(), ("host", 1)))
        module.end_threads(queue, lane, [])
        theirs.settimeout(20)
        assert theirs.recv(100) == b""


@pytest.mark.parametrize("much", [b"15492781\n" * 100, b"9" * 24 + b"\n" + b"9" * 51 + b"\n"])
def test_a_turn_ends_when_its_time_is_up_or_a_number_takes_long(worker, monkeypatch, much):
    worker, connection, theirs = worker
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: 0.0004 * next(clock))
    theirs.sendall(much)
    worker.serve(connection, selectors.EVENT_READ)
    answered = theirs.recv(1000).count(b"\n")
    assert 1 <= answered <= 3 and len(connection.tokens) == much.count(b"\n") - answered
    assert connection.sock not in worker.selector.get_map()  # the slow lane has it
