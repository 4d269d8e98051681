"""Lab 2's scripts among clients that are greedy, gone, or far away."""

import contextlib
import re
import socket
import threading
import time

import pytest

from tests.lab02.clients import (
    ANSWERS,
    CLIENT,
    PRIME_24,
    PRIME_150,
    PRIME_200,
    PRIME_1000,
    SERVER,
    connect,
    receive,
    reset,
)
from tests.support.harness import ROOT, load, wait_until
from tests.support.patches import FEW_DESCRIPTORS, LOCALHOST_IS_BOTH


@pytest.fixture
def server(our_server):
    return our_server


def time_to_answer(port, question=b"7\n"):
    """Return the seconds that a new client waits for its answer."""
    begun = time.monotonic()
    with connect(port) as sock:
        sock.sendall(question)
        assert receive(sock).startswith(question.strip() + b" is ")
    return time.monotonic() - begun


@contextlib.contextmanager
def pipelining(port, clients, question):
    """Keep clients that always have asked for more than the server has answered."""
    ended = threading.Event()
    sockets = [connect(port) for _ in range(clients)]
    for sock in sockets:
        sock.setblocking(False)

    def ask():
        while not ended.wait(0.005):
            for sock in sockets:
                with contextlib.suppress(OSError):
                    sock.send(question * (4096 // len(question)))
                with contextlib.suppress(OSError):
                    sock.recv(65536)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for sock in sockets:
            sock.close()


# --- Greedy clients ---


@pytest.mark.parametrize("clients, question", [(50, PRIME_150), (200, PRIME_24)])
def test_a_new_client_does_not_wait_for_a_crowd_that_pipelines(server, clients, question):
    with pipelining(server.number, clients, question):
        wait_until(lambda: server.out.count(" connected") == clients)
        assert min(time_to_answer(server.number) for _ in range(10)) < 0.1
        begun = time.monotonic()
        server.interrupt()
        assert server.wait(10) == 0
        assert time.monotonic() - begun < 1.0
    assert server.out.count(" disconnected") >= clients


@pytest.mark.parametrize("farewell", [reset, socket.socket.close])
def test_the_numbers_of_clients_that_have_gone_delay_no_other(server, farewell):
    gone = [connect(server.number) for _ in range(60)]
    for sock in gone:
        sock.sendall((PRIME_1000 + b"\n") * 3)  # 60 s of work
    wait_until(lambda: server.out.count(" connected") == 60)
    for sock in gone:
        farewell(sock)
    assert time_to_answer(server.number, PRIME_200) < 5.0
    if farewell is reset:  # the other could still be reading
        wait_until(lambda: server.out.count(" disconnected") == 61, timeout=5)


# --- Clients that are gone ---


def test_a_client_whose_machine_vanishes_is_given_up_after_30_s(network, spawn):
    far, host = network.host(), network.host()
    server = spawn(SERVER, 5555, "--host", "0.0.0.0", interpreter=host.python)
    server.port()
    sockets = [far.call(lambda: socket.create_connection((host.address, 5555))) for _ in range(10)]
    with contextlib.ExitStack() as stack:
        for sock in sockets:
            stack.enter_context(sock)
        sockets[0].sendall(PRIME_1000 + b"\n")  # its answer will not be acknowledged
        wait_until(lambda: server.out.count(" connected") == 10)
        far.vanish()
        begun = time.monotonic()
        near = network.host()  # others are served meanwhile
        with near.call(lambda: socket.create_connection((host.address, 5555))) as sock:
            sock.sendall(b"7\n")
            assert receive(sock) == b"7 is prime\n"
        wait_until(lambda: server.out.count(" disconnected") == 11, timeout=60)
        assert 10 < time.monotonic() - begun < 40


def test_a_server_whose_machine_vanishes_ends_the_client_after_30_s(network, spawn):
    near, far = network.host(), network.host()
    with far.call(lambda: socket.create_server(("", 5555))) as listener:
        client = spawn(CLIENT, f"{far.address}:5555", interpreter=near.python)
        client.expect("Connected")
        with listener.accept()[0]:
            far.vanish()
            begun = time.monotonic()
            assert client.wait(60) == 1
            assert 10 < time.monotonic() - begun < 40
    assert client.err == f"client.py: {far.address}:5555: timed out\n"


def test_no_way_to_the_server_ends_the_client_within_seconds(network, spawn):
    client, server = network.host(), network.host()
    server.vanish()
    script = spawn(CLIENT, f"{server.address}:5555", interpreter=client.python)
    assert script.wait(10) == 1
    assert script.out == "" and script.err.count("\n") == 1


def test_connections_inherit_what_ends_them_and_speeds_them_up():
    module = load(ROOT / "lab02_tcp_threads/server.py")
    with (
        module.listen("127.0.0.1", 0) as listener,
        connect(listener.getsockname()[1]),
        listener.accept()[0] as sock,
    ):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_bare_digits_and_then_a_reset_leave_nothing(server):
    for _ in range(100):
        sock = connect(server.number)
        sock.sendall(b"154")
        reset(sock)
    wait_until(lambda: server.out.count(" disconnected") == 100)
    with connect(server.number) as sock:
        sock.sendall(b"7")
        assert receive(sock) == b"7 is prime\n"


def test_at_the_stop_every_client_is_disconnected(server):
    with contextlib.ExitStack() as stack:
        for question in (b"", b"154", b"7\n", (PRIME_1000 + b"\n") * 9, PRIME_200 * 9):
            stack.enter_context(connect(server.number)).sendall(question)
        wait_until(lambda: server.out.count(" connected") == 5)
        server.interrupt()
        assert server.wait(5) == 0
    names = re.findall(r"^(\(.*\)) connected$", server.out, re.MULTILINE)
    assert sorted(re.findall(r"^(\(.*\)) disconnected$", server.out, re.MULTILINE)) == sorted(names)
    assert server.lines[-1] == "Done"


# --- Limits ---


@pytest.mark.parametrize("length, usable", [(4096, True), (4097, False)])
def test_a_token_may_have_4096_bytes_before_its_end_comes(server, length, usable):
    with connect(server.number) as sock:
        sock.sendall(b"\n")  # so that silence ends nothing
        sock.sendall(b"x" * length)
        sock.settimeout(20)
        if usable:
            sock.sendall(b"\n7\n")
            assert receive(sock, 2).endswith(b"\n7 is prime\n")
        else:  # at once, without an end
            assert sock.recv(100).startswith(b"error: ")
            assert sock.recv(100) == b""


def test_a_longer_token_is_the_last_one_although_its_end_comes_with_it(server):
    with connect(server.number) as sock:
        sock.sendall(b"3 " + b"1" * 5000 + b"\n7\n")  # the end comes in the read that is too much
        sock.settimeout(20)
        received = b""
        while data := sock.recv(1000):
            received += data
        assert received.startswith(b"3 is prime\nerror: ") and received.count(b"\n") == 2


@pytest.mark.parametrize("last", [PRIME_1000, b"9" * 51, b"7"])
def test_a_number_without_an_end_is_ended_by_the_end_of_the_input(server, last):
    with connect(server.number) as sock:
        sock.sendall(b"4 " + last)
        sock.shutdown(socket.SHUT_WR)
        verdict = b" is not prime\n" if last[:1] == b"9" else b" is prime\n"
        assert receive(sock, 9) == b"4 is not prime\n" + last + verdict


@pytest.mark.parametrize("pieces", [[b"\xef\xbb\xbf7\r\n9\r\n"], [b"\xef\xbb", b"\xbf7\n9\n"]])
def test_a_byte_order_mark_is_no_part_of_a_number(server, pieces):
    with connect(server.number) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        assert receive(sock, 2) == b"7 is prime\n9 is not prime\n"


def test_a_low_limit_of_file_descriptors_keeps_no_client_out(spawn_after):
    server = spawn_after(FEW_DESCRIPTORS, SERVER, 0)
    port = server.port()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(port))
        wait_until(lambda: server.out.count(" connected") == 100)


# --- Addresses ---


def test_localhost_is_the_address_that_the_client_prints(spawn, patched):
    environment = patched(LOCALHOST_IS_BOTH)
    port = spawn(SERVER, 0, "--host", "localhost", env=environment).port()
    client = spawn(CLIENT, f"127.0.0.1:{port}")
    assert client.wait() == 0
    client = spawn(CLIENT, f"localhost:{port}", env=environment)
    assert client.wait() == 0 and client.lines[0] == f"Connected to ('127.0.0.1', {port})"


def test_a_link_local_address_keeps_its_interface(network, spawn):
    client, server = network.host(), network.router
    address = server.link_local("port1")
    assert client.link_local("eth0")
    spawn(SERVER, 5555, "--host", f"{address}%port1", interpreter=server.python).port()
    script = spawn(CLIENT, f"[{address}%eth0]:5555", interpreter=client.python)
    assert script.wait() == 0 and ANSWERS in script.out, script.transcript()
