"""Lab 3 under floods: what waits, what is refused as too much, and that no answer is lost."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

from tests.lab03.parts import CLIENT, GREETING, RECOVERY, Hand
from tests.support.harness import ROOT, load, pass_time, wait_until

NO_TEXT = b"\xff" * 60_000  # three times as long if it is decoded with "replace"


def flood(hand, port, lines):
    """Send lines without waiting for confirmations; return those."""
    sender = hand.connect(zmq.DEALER, port, mark=0)
    for line in lines:
        sender.send_multipart([b"", line])
    confirmations = []
    for _ in lines:
        assert sender.poll(20_000), "no confirmation"
        confirmations.append(sender.recv_multipart()[1])
    return confirmations


def test_every_accepted_line_is_answered_however_many_there_are(pipeline):
    """The first take long, so that the others have to wait somewhere."""
    slow = 10**990 + 1_000_003  # without a small factor
    lines = [b"isprime %d" % (slow if k < 10 else 10**990 + 2 * k) for k in range(12_000)]
    with Hand() as hand:
        outputs = hand.connect(zmq.SUB, pipeline.ports[1], mark=0)
        wait_until(lambda: hand.ask(pipeline.ports[0], b"isprime 7") and outputs.poll(200))
        outputs.recv()
        accepted = flood(hand, pipeline.ports[0], lines).count(b"accepted")
        answers = 0
        while answers < accepted:
            assert outputs.poll(20_000), f"{answers} answers to {accepted} accepted lines"
            outputs.recv()
            answers += 1
    assert accepted > 1000


ANSWER = b"x" * 5000
MANY = 4_000  # of these are more than the connection and both queues take


@pytest.fixture
def broker(monkeypatch):
    """(the server's sockets, in this process; a subscriber that does not read its answers yet)."""
    server, sockets = (load(ROOT / f"lab03_zmq/{name}.py") for name in ("server", "sockets"))
    monkeypatch.setattr(server.descriptors, "keep_spare", lambda sockets: None)  # a thread
    with sockets.open_context("127.0.0.1") as context, Hand() as hand:
        broker = server.Broker(context, "127.0.0.1", [0] * 4)
        reader = hand.connect(zmq.SUB, broker.addresses[1].rpartition(":")[2], mark=1)

        def heard():
            broker.publish(b"first")
            return reader.poll(10)

        wait_until(heard)
        while reader.poll(100):
            reader.recv()
        yield broker, reader
        context.destroy(linger=0)


def test_answers_wait_for_a_client_that_was_held_up(broker):
    """As on a busy machine, where the server's own thread for its connections may come too late."""
    broker, reader = broker
    broker.client_outputs.sndtimeo = 20_000
    with ThreadPoolExecutor() as pool:
        publishing = pool.submit(publish, broker)
        pass_time(0.5)
        for _ in range(MANY):
            assert reader.poll(5_000), "an answer is missing"
            assert reader.recv() == ANSWER
        publishing.result()


def publish(broker):
    """Publish many answers; return the longest time that one of them took, in seconds."""
    longest = 0.0
    for _ in range(MANY):
        began = time.monotonic()
        broker.publish(ANSWER)
        longest = max(longest, time.monotonic() - began)
    return longest


def test_answers_wait_once_for_a_client_that_does_not_read_and_again_when_it_has(broker):
    broker, reader = broker
    began = time.monotonic()
    assert publish(broker) >= 1.0
    assert time.monotonic() - began < 3.0  # before its connection counts as dead
    while reader.poll(100):
        reader.recv()
    assert publish(broker) >= 1.0


def test_a_stranger_that_subscribes_and_does_not_read_stops_lines_for_a_moment_only(pipeline):
    """Its queue fills, so lines are refused as too many; then its connection counts as dead."""
    with Hand() as hand:
        hand.connect(zmq.SUB, pipeline.ports[2], b"isprime 1", mark=1)
        line = b"isprime 1" + b"0" * 10_000

        def busy():
            confirmations = set(flood(hand, pipeline.ports[0], [line] * 1000))
            assert all(one == b"accepted" or one.startswith(b"busy") for one in confirmations)
            return confirmations - {b"accepted"}

        wait_until(busy, "a confirmation that says busy")
        assert hand.ask(pipeline.ports[0], b"gcd 4 6") == b"accepted"
        wait_until(
            lambda: hand.ask(pipeline.ports[0], b"isprime 13") == b"accepted", timeout=RECOVERY
        )
    client = pipeline.client()
    client.send("isprime 17")
    client.expect("^17 is prime$")


def test_a_busy_confirmation_is_told_by_the_client(parts):
    with Hand() as hand:
        requests, inputs_port = hand.bind(zmq.REP)
        _, outputs_port = hand.bind(zmq.XPUB)
        client = parts.spawn(CLIENT, inputs_port, outputs_port)
        client.send("isprime 7")
        assert requests.poll(20_000) and requests.recv() == b"isprime 7"
        requests.send(load(ROOT / "lab03_zmq/server.py").BUSY)
        client.expect("^isprime 7: busy: ")


def test_a_worker_with_too_much_to_do_says_so_in_its_answers(pipeline):
    slow = 10**990 + 1_000_003
    lines = [b"isprime %d" % (slow + 2 * k) for k in range(1300)]
    with Hand() as hand:
        outputs = hand.connect(zmq.SUB, pipeline.ports[1])
        outputs.poll(200)
        assert set(flood(hand, pipeline.ports[0], lines)) == {b"accepted"}
        wait_until(lambda: outputs.poll(1000) and b" : isprime is busy" in outputs.recv())


def test_lines_that_are_no_text_cost_no_other_client_its_answer(pipeline):
    client = pipeline.client()
    with Hand() as hand:
        outputs = hand.connect(zmq.SUB, pipeline.ports[1], b"gcd \xff")
        for number in range(20):
            assert hand.ask(pipeline.ports[0], b"gcd " + NO_TEXT) == b"accepted"
            client.send(f"gcd {number} 7")
            client.expect(f"^gcd for {number} 7 is ")
        assert outputs.poll(20_000)
        assert outputs.recv().startswith(b"gcd " + NO_TEXT + b" : expected")
    assert "No answer" not in client.out


def test_the_longest_line_gets_its_answer_which_is_longer(pipeline):
    line = b"gcd " + b"x" * ((1 << 16) - 4)
    with Hand() as hand:
        outputs = hand.connect(zmq.SUB, pipeline.ports[1], b"gcd x")
        wait_until(lambda: hand.ask(pipeline.ports[0], b"gcd x") and outputs.poll(200))
        assert hand.ask(pipeline.ports[0], line) == b"accepted"
        wait_until(lambda: outputs.poll(1000) and outputs.recv().startswith(line))


READY = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB"


def test_a_client_that_has_just_come_misses_no_answer(pipeline):
    """While others are answered: the server then need not look after newcomers to send.

    The newcomer is a bare TCP connection: what it has sent has arrived when its line is sent.
    """
    asker = pipeline.client()
    asker.write("".join(f"gcd 7 {n}\n" for n in range(5_000)))
    with Hand() as hand:
        requests = hand.connect(zmq.REQ, pipeline.ports[0])
        requests.send(b"gcd 5 5")
        assert requests.recv() == b"accepted"
        for number in range(100):
            with socket.create_connection(("127.0.0.1", pipeline.ports[1]), 20) as newcomer:
                newcomer.sendall(GREETING + READY)
                receive_until(newcomer, b"READY")
                topic = b"gcd for 5 "
                newcomer.sendall(bytes([0, 1 + len(topic), 1]) + topic)
                requests.send(b"gcd 5 %d" % number)
                assert requests.recv() == b"accepted"
                receive_until(newcomer, b"gcd for 5 %d is " % number)
    assert "gcd for 7 4999 is" not in asker.out  # it still asked


def receive_until(sock, end):
    """Receive from a connection until these bytes have come, among others such as heartbeats."""
    data, deadline = b"", time.monotonic() + 10
    while end not in data:
        piece = sock.recv(1000)
        assert piece and time.monotonic() < deadline, data[-200:]
        data += piece
