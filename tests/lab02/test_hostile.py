"""Lab 2's server and bad clients: endless lines, resets, floods, and limits of the system."""

import contextlib
import os
import socket
import time

import pytest

from tests.lab02.clients import PRIME_1000, SERVER, connect, receive, reset
from tests.support.harness import pass_time, wait_until
from tests.support.processes import processor_time, resident


def test_an_endless_line_ends_the_connection_and_stays_out_of_memory(our_server):
    before = resident(our_server.pid)
    with connect(our_server.number) as sock, contextlib.suppress(ConnectionError):
        for _ in range(100):
            sock.sendall(b"1" * 100_000)
        pytest.fail("ten megabytes were taken")
    assert resident(our_server.pid) - before < 4 << 20
    with connect(our_server.number) as sock:
        sock.sendall(b"7\n")
        assert receive(sock) == b"7 is prime\n"


def test_two_hundred_idle_clients_delay_no_other_and_use_no_processor(our_server):
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(our_server.number))
        wait_until(lambda: our_server.out.count(" connected") == 200)
        durations = []
        for _ in range(10):
            begun = time.monotonic()
            with connect(our_server.number) as sock:
                sock.sendall(b"7\n")
                assert receive(sock) == b"7 is prime\n"
            durations.append(time.monotonic() - begun)
        assert min(durations) < 0.1, durations  # each of them with the machine to itself
        wait_until(lambda: our_server.out.count(" disconnected") == 10)
        used = processor_time(our_server.pid)
        pass_time(1.0)
        assert processor_time(our_server.pid) - used < 0.03


def test_huge_numbers_keep_no_worker_from_the_others(spawn):
    server = spawn(SERVER, 0, "--workers", 2)
    port = server.port()
    with contextlib.ExitStack() as stack:
        greedy = [stack.enter_context(connect(port)) for _ in range(30)]
        for sock in greedy:
            sock.sendall((PRIME_1000 + b"\n") * 10)  # a minute of work
        begun = time.monotonic()
        for _ in range(5):
            with connect(port) as sock:
                sock.sendall(b"7\n")
                assert receive(sock) == b"7 is prime\n"
        assert time.monotonic() - begun < 4.0
        server.interrupt()
        assert server.wait(5) == 0
        assert server.err == ""


def test_numbers_that_take_long_come_back_to_the_worker_they_came_from(spawn):
    server = spawn(SERVER, 0, "--workers", 1)
    with connect(server.port()) as sock:
        for _ in range(3):
            sock.sendall(b"9" * 151 + b"\n7\n")
            assert receive(sock, 2) == b"9" * 151 + b" is not prime\n7 is prime\n"
    server.expect("disconnected")
    assert server.err == ""


def test_resets_cost_no_worker(our_server):
    for k in range(200):
        sock = connect(our_server.number)
        if k % 2:
            sock.sendall(b"15492781\n" * 100)
        reset(sock)
    with connect(our_server.number) as sock:
        sock.sendall(b"7\n")
        assert receive(sock) == b"7 is prime\n"
    wait_until(lambda: our_server.out.count(" disconnected") == 201)


def test_a_client_that_does_not_read_its_answers_is_not_read_from_until_it_does(our_server):
    with socket.socket() as deaf:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            deaf.setsockopt(socket.SOL_SOCKET, option, 4096)
        deaf.connect(("127.0.0.1", our_server.number))
        deaf.setblocking(False)
        sent, quiet_since = 0, time.monotonic()
        while time.monotonic() - quiet_since < 0.5:
            with contextlib.suppress(BlockingIOError):
                sent += deaf.send((b"7\n" * 1000)[sent % 2 :])
                quiet_since = time.monotonic()
            assert sent < 8 << 20, "the server takes everything"
        with connect(our_server.number) as sock:
            sock.sendall(b"7\n")
            assert receive(sock) == b"7 is prime\n"
        deaf.settimeout(20)
        assert receive(deaf, sent // 2) == b"7 is prime\n" * (sent // 2)


def test_finished_clients_leave_no_descriptor_and_no_memory(our_server):
    def churn(first, last):
        for _ in range(first, last):
            with connect(our_server.number) as sock:
                sock.sendall(b"7\n")
                assert receive(sock) == b"7 is prime\n"
        wait_until(lambda: our_server.out.count(" disconnected") == last)

    churn(0, 50)
    folder = f"/proc/{our_server.pid}/fd"
    descriptors, memory = len(os.listdir(folder)), resident(our_server.pid)
    churn(50, 550)
    assert len(os.listdir(folder)) == descriptors
    assert resident(our_server.pid) - memory < 1 << 20


def test_running_out_of_descriptors_is_survived(our_server):
    import resource

    resource.prlimit(our_server.pid, resource.RLIMIT_NOFILE, (60, 60))
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(our_server.number))
        wait_until(lambda: our_server.out.count(" connected") > 30)
    with connect(our_server.number) as sock:
        sock.sendall(b"7\n")
        assert receive(sock) == b"7 is prime\n"


def test_a_server_that_is_stopped_and_continued_goes_on(our_server):
    with connect(our_server.number) as sock:
        our_server.pause()
        sock.sendall(b"7\n")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        our_server.resume()
        sock.settimeout(20)
        assert receive(sock) == b"7 is prime\n"
