"""Lab 2's scripts as processes: the assignment's behaviour first, then how ours start and end."""

import contextlib
import os
import re
import socket

import pytest

from tests.lab02.clients import ANSWERS, CLIENT, SERVER, connect, receive
from tests.support.harness import wait_until
from tests.support.ports import free_port, listens
from tests.support.relays import TcpRelay


@pytest.fixture
def server(spawn):
    """A running server with its port, started as the assignment has it."""
    port = free_port()
    script = spawn(SERVER, port)
    wait_until(lambda: listens(port), "the server to listen")
    script.number = port
    return script


# --- The assignment ---


def test_the_client_prints_every_number_in_the_lists_order(server, spawn):
    client = spawn(CLIENT, f"127.0.0.1:{server.number}")
    assert client.wait() == 0
    lines = client.out.splitlines(keepends=True)
    assert lines[0] == f"Connected to ('127.0.0.1', {server.number})\n"
    assert "".join(lines[1:-1]) == ANSWERS
    assert lines[-1] == "Completed\n"


def test_the_server_prints_each_connection_and_its_end(server):
    with connect(server.number) as sock:
        name = re.escape(str(sock.getsockname()))
        server.expect(f"^{name} connected$")
    server.expect(f"^{name} disconnected$")


def test_a_client_is_served_while_others_are_connected(server, spawn):
    with connect(server.number), connect(server.number) as second:
        second.sendall(b"15492781")
        assert second.recv(100).strip() == b"15492781 is prime"
        assert spawn(CLIENT, f"127.0.0.1:{server.number}").wait() == 0


def test_clients_at_the_same_time_all_complete(server, spawn):
    clients = [spawn(CLIENT, f"127.0.0.1:{server.number}") for _ in range(4)]
    assert [client.wait() for client in clients] == [0] * 4
    assert all(ANSWERS in client.out for client in clients)


def test_ctrl_c_stops_the_server_with_clients_connected(server):
    with connect(server.number) as sock:
        sock.sendall(b"15492781")
        assert b"15492781 is prime" in sock.recv(100)
        server.interrupt()
        assert server.wait(5) == 0
        assert sock.recv(100) == b""
    assert server.lines[-1] == "Done" and "Shutting down" in server.lines


def test_the_client_sends_the_next_number_only_after_the_reply(spawn):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = spawn(CLIENT, f"127.0.0.1:{listener.getsockname()[1]}")
        listener.settimeout(20)
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(20)
            assert int(sock.recv(100)) == 15492781
            sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                sock.recv(100)
            sock.sendall(b"15492781 is prime\n")
            sock.settimeout(20)
            assert int(sock.recv(100)) == 15492787
        client.wait()


def test_no_server_ends_the_client(spawn):
    client = spawn(CLIENT, f"127.0.0.1:{free_port()}")
    assert client.wait() != 0
    assert "Completed" not in client.out


def test_a_server_that_goes_away_ends_the_client(spawn):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        client = spawn(CLIENT, f"127.0.0.1:{listener.getsockname()[1]}")
        sock, _ = listener.accept()
        with sock:
            sock.recv(100)
            sock.sendall(b"15492781 is prime\n")
            sock.recv(100)
    assert client.wait() != 0
    assert "15492781 is prime" in client.out and "Completed" not in client.out


# --- Ours: start and end ---


def test_a_fault_of_the_server_itself_costs_one_client_its_connection(spawn):
    """Here: an environment in which Python converts no number of more than 640 digits."""
    server = spawn(SERVER, 0, env={"PYTHONINTMAXSTRDIGITS": "640"})
    port = server.port()
    for digits in (641, 999):  # the second one needs the same threads
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            sock.sendall(b"9" * digits + b"\n")
            assert sock.recv(100) == b""
    server.expect_err("ValueError: Exceeds the limit")
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(b"9" * 600 + b"\n7\n")
        assert receive(sock, 2).endswith(b" is not prime\n7 is prime\n")
    server.interrupt()
    assert server.wait(5) == 0


def test_ctrl_c_while_the_threads_start_is_not_lost(spawn, patched):
    environment = patched(
        """
import os, signal, threading
begin = threading.Thread.start
def start(thread):
    os.kill(os.getpid(), signal.SIGINT)
    begin(thread)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread.start = start
"""
    )
    server = spawn(SERVER, 0, env=environment)
    assert server.wait(5) == 0
    assert server.lines[1:] == ["Shutting down", "Done"] and server.err == ""


def test_the_server_restarts_on_its_port_at_once(spawn):
    port = free_port()
    for _ in range(2):
        server = spawn(SERVER, port)
        server.port()
        with connect(port) as sock:
            sock.sendall(b"7\n")
            assert receive(sock) == b"7 is prime\n"
            server.interrupt()
            assert server.wait(5) == 0


@pytest.mark.parametrize("options, workers", [([], 8), (["--workers", 3], 3)])
def test_there_are_as_many_worker_threads_as_asked_for(spawn, options, workers):
    server = spawn(SERVER, 0, *options)
    server.port()
    # Beside the main thread, the slow lane and the one that waits for signals; the queue's own
    # starts with its first use.
    assert len(os.listdir(f"/proc/{server.pid}/task")) == 3 + workers


def test_the_queue_brings_no_helper_process_with_any_default_of_python(spawn, patched):
    environment = patched("import multiprocessing; multiprocessing.set_start_method('forkserver')")
    server = spawn(SERVER, 0, env=environment)
    server.port()
    with open(f"/proc/{server.pid}/task/{server.pid}/children") as children:
        assert children.read() == ""


def test_a_server_that_hangs_up_in_mid_line_is_one_clear_line(spawn):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        client = spawn(CLIENT, address)
        sock, _ = listener.accept()
        with sock:
            sock.recv(100)
            sock.sendall(b"15492781 is")
    assert client.wait() == 1
    assert client.err == f"client.py: {address}: the server has closed the connection\n"


@pytest.fixture
def replying(spawn):
    """Start a client whose server sends `reply` to its first number; return the client."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        listener.settimeout(20)

        def start(reply):
            client = spawn(CLIENT, f"127.0.0.1:{listener.getsockname()[1]}")
            sock, _ = listener.accept()
            stack.enter_context(sock)
            sock.recv(100)
            with contextlib.suppress(ConnectionError):
                sock.sendall(reply)
            return client

        yield start


def test_an_endless_reply_is_one_line_and_exit_1(replying):
    client = replying(b"x" * 10_000_000)
    assert client.wait() == 1
    assert client.err.count("\n") == 1 and "endless" in client.err


def test_a_reply_does_not_command_the_terminal(replying):
    client = replying(b"\x1b]0;mine\x07\xff\xd9\xa3 is prime\r\n")
    assert client.expect(".* is prime")[0] == r"\x1b]0;mine\x07\xff\xd9\xa3 is prime"


def test_ipv6_works_for_both(spawn):
    port = spawn(SERVER, 0, "--host", "::1").port()
    client = spawn(CLIENT, f"[::1]:{port}")
    assert client.wait() == 0
    assert client.lines[0] == f"Connected to ('::1', {port})" and ANSWERS in client.out


def test_no_server_is_one_line_and_exit_1(spawn):
    client = spawn(CLIENT, f"127.0.0.1:{free_port()}")
    assert client.wait() == 1
    assert client.out == "" and client.err.count("\n") == 1 and "refused" in client.err


def test_a_killed_server_is_one_line_and_exit_1(our_server, spawn):
    with TcpRelay(our_server.number) as relay:
        relay.hold()
        client = spawn(CLIENT, f"127.0.0.1:{relay.port}")
        client.expect("Connected")
        our_server.kill()
        relay.release()
        assert client.wait() == 1
    assert client.err.count("\n") == 1


def test_the_client_understands_servers_that_send_no_line_ends(spawn):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        client = spawn(CLIENT, f"127.0.0.1:{listener.getsockname()[1]}")
        sock, _ = listener.accept()
        with sock:
            while data := sock.recv(100):
                number = data.strip()
                verdict = (
                    b"is prime" if number + b" is prime" in ANSWERS.encode() else b"is not prime"
                )
                sock.sendall(number + b" " + verdict)
        assert client.wait() == 0
    assert ANSWERS in client.out


def test_ctrl_c_ends_the_client_with_130_and_one_line(spawn):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = spawn(CLIENT, f"127.0.0.1:{listener.getsockname()[1]}")
        client.expect("Connected")
        client.interrupt()
        assert client.wait(5) == 130
    assert client.err == "client.py: interrupted\n"
