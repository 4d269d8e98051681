"""Lab 3's parts start in any order, hang, are killed, and come back."""

import itertools
import re
import time

import pytest
import zmq

from tests.lab03.parts import PRIME, SERVER, Hand, Parts
from tests.support.harness import wait_until


@pytest.mark.parametrize(
    "order",
    [
        order
        for order in itertools.permutations(["server", "prime", "gcd", "client"])
        if order.index("gcd") == order.index("prime") + 1  # one program but for the keyword
    ],
)
def test_the_first_commands_are_answered_whatever_the_order_of_starting(spawn, order):
    parts = Parts(spawn)
    started = {}
    for name in order:
        if name == "server":
            started[name] = spawn(SERVER, *parts.ports)
        else:
            started[name] = getattr(parts, name)()
    client = started["client"]
    client.write("gcd 12 18\nisprime 7\n")
    client.close_stdin()
    assert client.wait() == 0
    assert client.out == "gcd for 12 18 is 6\n7 is prime\n"


def test_a_worker_takes_no_work_before_its_answers_are_subscribed_to(parts):
    with Hand() as hand:
        inputs, inputs_port = hand.bind(zmq.XPUB)
        outputs, outputs_port = hand.bind(zmq.SUB)
        worker = parts.spawn(PRIME, inputs_port, outputs_port)
        worker.expect_err("waiting for a server")  # there is no subscription
        assert not inputs.poll(100)
        outputs.subscribe(b"")
        outputs.poll(0)  # the library does its work while it is called
        assert inputs.poll(20_000) and inputs.recv() == b"\x01isprime"
        inputs.send(b"isprime 7")
        assert outputs.poll(20_000) and outputs.recv() == b"7 is prime"


def test_a_worker_is_ready_only_when_it_hears_the_server_as_well(parts):
    with Hand() as hand:
        outputs, outputs_port = hand.bind(zmq.SUB)
        outputs.subscribe(b"")
        worker = parts.spawn(PRIME, parts.ports[2], outputs_port)
        worker.expect_err("waiting for a server")
        assert not outputs.poll(500) and worker.lines == []
        inputs = hand.context.socket(zmq.XPUB)
        inputs.bind(f"tcp://127.0.0.1:{parts.ports[2]}")
        wait_until(lambda: outputs.poll(10) or "Ready" in worker.out)


def test_an_answer_waits_until_the_server_is_subscribed_again(parts):
    with Hand() as hand:
        inputs, inputs_port = hand.bind(zmq.XPUB)
        outputs, outputs_port = hand.bind(zmq.SUB)
        outputs.subscribe(b"")
        parts.spawn(PRIME, inputs_port, outputs_port)
        wait_until(lambda: outputs.poll(10) or inputs.poll(10), "the worker to subscribe")
        assert inputs.recv() == b"\x01isprime"
        outputs.unsubscribe(b"")
        for _ in range(20):  # some of the first come before the worker knows
            outputs.poll(10)
            inputs.send(b"isprime 4")
        inputs.send(b"isprime 7")
        outputs.poll(200)
        outputs.subscribe(b"")

        def arrived():
            return outputs.poll(0) and outputs.recv() == b"7 is prime"

        wait_until(arrived, "the answer that has waited")


def test_a_missing_worker_is_reported_at_once(parts):
    parts.server()
    parts.prime()
    client = parts.client()
    client.send("isprime 7")
    client.expect("7 is prime")
    client.send("gcd 1 2")
    client.expect("gcd 1 2: no worker takes such a line; now taken: isprime$")


def test_a_line_that_waits_for_its_worker_holds_up_no_other_client(parts):
    begun = time.monotonic()
    parts.server()
    parts.prime().expect("Ready")
    with Hand() as hand:
        early = hand.connect(zmq.REQ, parts.ports[0])
        early.send(b"gcd 4 6")
        asked = time.monotonic()
        assert hand.ask(parts.ports[0], b"isprime 7") == b"accepted"
        if asked - begun < 1.0:  # the server gives the other worker a second more at least
            assert not early.poll(0)
        parts.gcd()
        assert early.poll(20_000)
        if asked - begun < 1.0:
            assert early.recv() == b"accepted"


def test_a_killed_worker_is_reported_and_its_successor_answers(pipeline):
    client = pipeline.client()
    client.send("isprime 3")
    client.expect("3 is prime")
    pipeline.prime_worker.kill()

    def told():
        client.send("isprime 5")
        client.expect(r"no worker|No answer")
        return "no worker takes such a line; now taken: gcd" in client.out

    wait_until(told, "the server to notice")
    pipeline.prime().expect("Ready")
    client.send("isprime 7")
    client.expect("7 is prime")


def test_a_hanging_worker_is_reported_after_two_seconds(pipeline):
    client = pipeline.client()
    pipeline.prime_worker.pause()
    client.send("isprime 3")
    client.expect("No answer within 2 s to: isprime 3")
    client.send("gcd 4 6")
    client.expect("gcd for 4 6 is 2")
    pipeline.prime_worker.resume()
    client.expect("3 is prime")  # late, but not lost


def test_a_restarted_server_is_found_again_by_all(spawn, parts):
    server = parts.server()
    parts.prime()
    client = parts.client()
    client.send("isprime 3")
    client.expect("3 is prime")
    server.kill()

    def told():
        client.send("isprime 5")
        client.expect(r"is not reachable|does not confirm|No answer|no worker")
        return "is not reachable" in client.out

    wait_until(told, "the client to notice")
    parts.server()

    def answered():
        client.send("isprime 11")
        client.expect(r"is not reachable|does not confirm|No answer|no worker|11 is prime")
        return "11 is prime" in client.out

    wait_until(answered, "an answer through the new server")
    client.send("isprime 13")
    client.expect("13 is prime")


def test_a_worker_killed_under_load_loses_no_command_silently(pipeline):
    client = pipeline.client()
    client.write("".join(f"isprime {n}\n" for n in range(1000, 1030)))
    client.expect("1005 is not prime")
    pipeline.prime_worker.kill()
    pipeline.prime()
    client.close_stdin()
    assert client.wait(60) == 0
    for n in range(1000, 1030):
        assert f"{n} is" in client.out or f"isprime {n}" in client.out


def test_a_server_killed_under_load_loses_no_command_silently(pipeline):
    client = pipeline.client()
    client.write("".join(f"isprime {n}\n" for n in range(1000, 1030)))
    client.expect("1005 is not prime")
    pipeline.broker.kill()
    pipeline.server()
    client.close_stdin()
    assert client.wait(60) == 0
    silent = [
        n
        for n in range(1000, 1030)
        if not re.search(rf"^{n} is|isprime {n}\b", client.out, re.MULTILINE)
    ]
    assert len(silent) <= client.out.count("is not reachable")


def test_no_server_is_one_line_for_each_command_and_the_client_goes_on(parts):
    client = parts.client()
    client.write("isprime 7\nhelp\n")
    client.close_stdin()
    assert client.wait() == 0
    unreachable = f"The server 127.0.0.1:{parts.ports[1]} is not reachable\n"
    assert client.out.startswith(unreachable * 2 + "commands: ")


def test_the_confirmation_says_whether_a_worker_takes_the_line(pipeline):
    with Hand() as hand:
        assert hand.ask(pipeline.ports[0], b"isprime 7") == b"accepted"

        def refused():
            return hand.ask(pipeline.ports[0], b"foo") == (
                b"no worker takes such a line; now taken: gcd, isprime"
            )

        wait_until(refused)
