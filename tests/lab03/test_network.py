"""Lab 3 on networks that fail: real scripts, real sockets."""

import time

import pytest
import zmq

from tests.lab03.parts import CLIENT, PRIME, RECOVERY, SERVER, Hand
from tests.support.harness import wait_until

PORTS = [5555, 5556, 5557, 5558]


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

    def is_reported():
        client.send("isprime 7")
        return client.expect("does not confirm|not reachable")[0] == "not reachable"

    wait_until(is_reported)
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


def test_a_client_ends_although_its_last_line_found_no_way(parts):
    """The answers' port is there, the one for lines is not."""
    with Hand() as hand:
        _, outputs_port = hand.bind(zmq.XPUB)
        client = parts.spawn(CLIENT, parts.ports[0], outputs_port)
        client.send("isprime 7")
        client.expect("does not confirm: isprime 7")
        client.close_stdin()
        assert client.wait(2) == 0
