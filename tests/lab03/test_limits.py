"""Lab 3's server at its limit of file descriptors."""

import contextlib
import os
import re
import sys
import time
from pathlib import Path

import pytest
import zmq

from tests.lab03.parts import CLIENT, GCD, SERVER, Hand
from tests.support.harness import ROOT, pass_time, wait_until
from tests.support.processes import processor_time


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
        before, began = processor_time(server.pid), time.monotonic()
        while time.monotonic() - began < 3.0:
            client.send("gcd 8 12")
            client.expect("gcd for 8 12 is 4")
            wait_until(lambda: descriptors(server) < 60, "the last ones to be spare again")
            pass_time(0.1)
        assert processor_time(server.pid) - before < 1.0
    late = spawn(CLIENT, *ports[:2])
    late.send("gcd 9 6")
    late.expect("gcd for 9 6 is 3")
