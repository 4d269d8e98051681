"""Lab 3 on networks that fail, under floods and beside strangers: real scripts, real sockets."""

import contextlib
import os
import re
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import zmq

from tests.lab03.parts import CLIENT, GCD, PRIME, SERVER, Hand, Parts
from tests.support.harness import ROOT, load, wait_until

PORTS = [5555, 5556, 5557, 5558]
RECOVERY = 10.0  # s
NO_TEXT = b"\xff" * 60_000  # three times as long if it is decoded with "replace"


@pytest.fixture
def parts(spawn):
    return Parts(spawn)


@pytest.fixture
def pipeline(parts):
    return parts.start_all()


def processor_time(script):
    """Return for how many seconds a process has used a processor."""
    fields = Path(f"/proc/{script.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- Connections that die without a word ---


@pytest.fixture
def hosts(network, spawn):
    """(server's host, worker's host, the client): each on a machine of its own, and working."""
    far, work, near = network.host(), network.host(), network.host()
    spawn(SERVER, *PORTS, "--host", "0.0.0.0", interpreter=far.python).expect("Listening")
    at = ("--host", far.address)
    spawn(PRIME, *PORTS[2:], *at, interpreter=work.python).expect("Ready")
    client = spawn(CLIENT, *PORTS[:2], *at, interpreter=near.python)
    client.send("isprime 2")
    client.expect("^2 is prime$")
    return far, work, client


def recovers(client):
    """Tell whether commands are answered again within RECOVERY."""
    began, numbers = time.monotonic(), iter(range(3, 10_000))

    def answered():
        number = next(numbers)
        client.send(f"isprime {number}")
        return client.expect(rf"^{number} is|isprime {number}\b|not reachable")[0].endswith("is")

    wait_until(answered, "an answer over new connections")
    return time.monotonic() - began < RECOVERY


def test_all_parts_leave_connections_that_have_died(network, hosts):
    network.forget_connections()
    assert recovers(hosts[2])


def test_a_server_whose_machine_vanished_and_came_back_is_found_again(network, hosts):
    far, _, client = hosts
    far.vanish()
    client.send("isprime 7")
    client.expect("does not confirm|not reachable")
    wait_until(lambda: "not reachable" in client.out or client.send("isprime 7"))
    network.forget_connections()
    far.reappear()
    assert recovers(client)


def test_a_worker_that_has_vanished_is_no_worker_any_more(hosts):
    _, work, client = hosts
    work.vanish()

    def told():
        client.send("isprime 7")
        return "no worker" in client.expect("no worker|No answer|does not confirm")[0]

    wait_until(told, "the server to notice", RECOVERY)


# --- Floods ---


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
    lines = [b"isprime %d" % (slow if k < 10 else 10**990 + 2 * k) for k in range(9_000)]
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
        wait([publishing], timeout=0.5)
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


GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL".ljust(64, b"\0")  # ZMTP 3.0
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
    assert asker.running


def receive_until(sock, end):
    """Receive from a connection until these bytes have come, among others such as heartbeats."""
    data, deadline = b"", time.monotonic() + 10
    while end not in data:
        piece = sock.recv(1000)
        assert piece and time.monotonic() < deadline, data[-200:]
        data += piece


# --- Lines that nothing takes, and answers to others ---


@pytest.mark.parametrize(
    "line, answer, own",
    [
        ("isprime", "7 is prime", False),
        ("isprime", "isprime abc : expected isprime N", False),
        ("isprime", "isprime : expected isprime N", True),
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
    assert other.running


@pytest.mark.parametrize(
    "topic, line, taken",
    [
        (b"upper", b"upper abc", True),
        (b"upper", b"upper", True),
        (b"upper", b"upper\tabc", True),
        (b"upper ", b"upper abc", True),
        (b"upper", b"uppercase abc", False),
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
        known = topic if topic[-1:] == b"!" else topic + b"!"
        wait_until(lambda: hand.ask(parts.ports[0], known) == b"accepted")
        assert (hand.ask(parts.ports[0], line) == b"accepted") == taken
        received = []
        while worker.poll(500):
            received.append(worker.recv())
        assert (line in received) == line.startswith(topic)


def test_a_refusal_names_twenty_keywords_however_many_there_are(pipeline):
    with Hand() as hand:
        stranger = hand.connect(zmq.XSUB, pipeline.ports[2], mark=0)
        for number in range(30_000):
            stranger.send(b"\x01stranger%d" % number)
        stranger.send(b"\x01" + b"long" * 1000)

        def refusal():
            text = hand.ask(pipeline.ports[0], b"foo")
            return text if b" and 29983 more" in text else None

        text = wait_until(refusal, "the server to hear of all")
        assert len(text) < 1000
        assert text.startswith(b"no worker takes such a line; now taken: gcd, isprime, stranger")
        began = time.monotonic()
        assert hand.ask(pipeline.ports[0], b"isprime 7") == b"accepted"
        assert time.monotonic() - began < 1.0


# --- Limits of the server ---


@contextlib.contextmanager
def crowd(port, count):
    """Have so many subscribers at a port, each with a connection of its own."""
    with Hand() as hand:
        for _ in range(count):
            hand.connect(zmq.SUB, port)
        yield


def descriptors(script):
    """Return how many file descriptors a process has open."""
    return len(os.listdir(f"/proc/{script.pid}/fd"))


@pytest.fixture
def limited(spawn):
    """Start a server under a `ulimit`; returns it with its ports."""

    def start(limit):
        command = f'ulimit {limit}; exec "$0" "$@" 0 0 0 0'
        python = (sys.executable, ROOT / SERVER)
        server = spawn(Path("/bin/sh"), "-c", command, *python, interpreter=())
        line = server.expect("^Listening on .*$")[0]
        return server, [int(port) for port in re.findall(r":(\d+)", line)]

    return start


def test_a_server_asks_for_more_descriptors_than_it_is_given_at_first(limited):
    server, ports = limited("-Sn 64")
    with crowd(ports[1], 104):
        wait_until(lambda: descriptors(server) > 104, "all to be let in")


def test_without_a_descriptor_for_a_newcomer_the_server_rests_and_goes_on(spawn, limited):
    server, ports = limited("-n 64")
    spawn(GCD, *ports[2:]).expect("Ready")
    client = spawn(CLIENT, *ports[:2])
    client.send("gcd 4 6")
    client.expect("gcd for 4 6 is 2")
    with crowd(ports[1], 104):
        wait_until(lambda: descriptors(server) >= 46, "the last descriptors but some to be used")
        before, began = processor_time(server), time.monotonic()
        while time.monotonic() - began < 3.0:
            client.send("gcd 8 12")
            client.expect("gcd for 8 12 is 4")
            wait_until(lambda: descriptors(server) < 60, "the last ones to be spare again")
            time.sleep(0.1)
        assert processor_time(server) - before < 1.0
    late = spawn(CLIENT, *ports[:2])
    late.send("gcd 9 6")
    late.expect("gcd for 9 6 is 3")


def test_a_client_ends_although_its_last_line_found_no_way(parts):
    """The answers' port is there, the one for lines is not."""
    with Hand() as hand:
        _, outputs_port = hand.bind(zmq.XPUB)
        client = parts.spawn(CLIENT, parts.ports[0], outputs_port)
        client.send("isprime 7")
        client.expect("does not confirm: isprime 7")
        client.close_stdin()
        assert client.wait(2) == 0
