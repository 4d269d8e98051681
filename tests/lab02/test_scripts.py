"""Lab 2's scripts as processes: the assignment's behaviour first, then what ours promise beyond."""

import contextlib
import multiprocessing
import os
import re
import selectors
import socket
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.harness import ROOT, free_port, listens, load, resident, wait_until
from tests.support.relays import TcpRelay

SERVER, CLIENT = "lab02_tcp_threads/server.py", "lab02_tcp_threads/client.py"
# Factored by hand; the client's list, in its order.
ANSWERS = """\
15492781 is prime
15492787 is prime
15492803 is prime
15492811 is prime
15492810 is not prime
15492833 is prime
15492859 is prime
15502547 is prime
15520301 is prime
15527509 is prime
15522343 is not prime
1550784 is not prime
"""
PRIME_1000 = b"1" + b"0" * 998 + b"7"  # the least prime of 1000 digits


@pytest.fixture
def server(spawn):
    """A running server with its port, started as the assignment has it."""
    port = free_port()
    script = spawn(SERVER, port)
    wait_until(lambda: listens(port), "the server to listen")
    script.number = port
    return script


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def receive(sock, lines=1):
    """Return so many lines, or what comes before the end of the connection."""
    text = b""
    while text.count(b"\n") < lines and (data := sock.recv(65536)):
        text += data
    return text


def reset(sock):
    """Close with a reset instead of a farewell."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


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


# --- Ours: the wire ---


@pytest.fixture
def our_server(spawn):
    script = spawn(SERVER, 0)
    script.number = script.port()
    yield script
    assert script.err == ""  # as from a thread that has died


@pytest.mark.parametrize(
    "sent, replies",
    [
        (b"7\n", b"7 is prime\n"),
        (b"7\r\n", b"7 is prime\n"),
        (b"0 1 -7 +7 007\n", b"0 is not prime\n1 is not prime\n-7 is not prime\n"
         b"7 is prime\n7 is prime\n"),
        (b" \n\n7\t9 \n", b"7 is prime\n9 is not prime\n"),
        (PRIME_1000 + b"\n", PRIME_1000 + b" is prime\n"),
        (b"9 " + PRIME_1000 + b" 7 " + PRIME_1000 + b" 9\n", b"9 is not prime\n" + PRIME_1000
         + b" is prime\n7 is prime\n" + PRIME_1000 + b" is prime\n9 is not prime\n"),
    ],
)  # fmt: skip
def test_every_number_is_answered_in_order(our_server, sent, replies):
    with connect(our_server.number) as sock:
        sock.sendall(sent)
        assert receive(sock, replies.count(b"\n")) == replies


@pytest.mark.parametrize(
    "bad", [b"abc", b"1.5", b"1_000", b"0x11", b"--7", b"\xd9\xa3", b"\xff\x00", b"1" * 1001]
)
def test_what_is_no_integer_gets_an_error_and_the_connection_stays_usable(our_server, bad):
    with connect(our_server.number) as sock:
        sock.sendall(bad + b"\n7\n")
        error, answer = receive(sock, 2).splitlines()
        assert error.startswith(b"error: ")
        assert answer == b"7 is prime"


def test_bare_digits_are_answered_when_the_sender_falls_silent(our_server):
    with connect(our_server.number) as sock:
        for _ in range(3):
            sock.sendall(b"7")
            assert receive(sock) == b"7 is prime\n"


def test_digits_that_arrive_one_by_one_are_one_number(our_server):
    with TcpRelay(our_server.number, piece=1) as relay, connect(relay.port) as sock:
        sock.sendall(b"\n15492781\n15492787\n15492810 ")
        expected = b"15492781 is prime\n15492787 is prime\n15492810 is not prime\n"
        assert receive(sock, 3) == expected


@pytest.mark.parametrize("sent, reply", [(b"7\n154", b"7 is prime\n"), (b"\n154", b"")])
def test_once_a_client_has_sent_a_blank_silence_ends_no_number(our_server, sent, reply):
    with connect(our_server.number) as sock:
        sock.sendall(sent)
        assert receive(sock, reply.count(b"\n")) == reply
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        sock.settimeout(20)
        sock.sendall(b"92781\n")
        assert receive(sock) == b"15492781 is prime\n"


def test_the_end_of_the_input_ends_a_number_and_then_the_connection(our_server):
    with connect(our_server.number) as sock:
        sock.sendall(b"9 " + PRIME_1000 + b" 7")
        sock.shutdown(socket.SHUT_WR)
        expected = b"9 is not prime\n" + PRIME_1000 + b" is prime\n7 is prime\n"
        assert receive(sock, 9) == expected  # and then the end, at once


def test_the_end_after_a_whole_line_asks_for_nothing_more(our_server):
    with connect(our_server.number) as sock:
        sock.sendall(b"7\n")
        sock.shutdown(socket.SHUT_WR)
        assert receive(sock, 9) == b"7 is prime\n"


def test_a_thousand_numbers_in_one_go_are_answered_in_order(our_server):
    with connect(our_server.number) as sock:
        sock.sendall(b"".join(b"%d\n" % n for n in range(1000)))
        replies = receive(sock, 1000).splitlines()
        assert [int(reply.split()[0]) for reply in replies] == list(range(1000))


# --- Ours: bad clients ---


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


def processor_time(pid):
    """Return the seconds of processor time that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
        ends = time.monotonic() + 1.0
        wait_until(lambda: time.monotonic() > ends)
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
    assert worker.patience() is None  # no busy polling
    for _ in range(3):
        theirs.sendall(b"1")
        worker.serve(connection, selectors.EVENT_READ)
        assert worker.patience() == pytest.approx(0.05)
        now += 0.04
        assert worker.patience() == pytest.approx(0.01)
        worker.end_quiet_tokens()
    now += 0.02
    assert worker.patience() == 0.0
    worker.end_quiet_tokens()
    assert theirs.recv(100) == b"111 is not prime\n"
    assert worker.patience() is None


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


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.binary(max_size=4000))
def test_every_token_gets_one_line_and_the_right_one(token):
    reply = load(ROOT / "lab02_tcp_threads/connection.py").reply_to(token)
    assert reply.count(b"\n") == 1 and reply.endswith(b"\n") and reply.isascii()
    assert reply.startswith(b"error: ") or re.fullmatch(rb"[+-]?[0-9]{1,1000}", token)


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.lists(st.text("0123456789 \n\r\t-x\0", max_size=20).map(str.encode), max_size=8))
def test_the_answers_do_not_depend_on_the_segments(segments):
    module = load(ROOT / "lab02_tcp_threads/connection.py")
    ours, theirs = socket.socketpair()
    connection = module.Connection(ours.detach(), ("host", 1))
    with connection.sock, theirs:
        for segment in filter(None, segments):
            theirs.sendall(segment)
            connection.read()
        theirs.shutdown(socket.SHUT_WR)
        connection.read()
        while connection.tokens:
            connection.answer_next()
    tokens = re.findall(rb"[^ \n\r\t]+", b"".join(segments))
    assert connection.ended and connection.output == b"".join(map(module.reply_to, tokens))


# --- Ours: start and end ---


def test_ctrl_c_while_the_threads_start_is_not_lost(spawn, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
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
    server = spawn(SERVER, 0, env={"PYTHONPATH": str(tmp_path)})
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


def test_the_queue_brings_no_helper_process_with_any_default_of_python(spawn, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import multiprocessing; multiprocessing.set_start_method('forkserver')"
    )
    server = spawn(SERVER, 0, env={"PYTHONPATH": str(tmp_path)})
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
