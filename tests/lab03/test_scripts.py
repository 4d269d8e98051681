"""Lab 3's scripts as processes: the assignment's behaviour first, then how ours start and end."""

import contextlib
import re
import signal

import pytest
import zmq

from tests.lab03.parts import CLIENT, PRIME, SERVER, Hand
from tests.support.harness import Failure, wait_until
from tests.support.ports import free_port


def ask(client, line, answer):
    """Type a line until its answer comes: the first may be lost to a subscription that is late."""

    def answered():
        client.send(line)
        with contextlib.suppress(Failure):
            return client.expect(answer, timeout=1.0)

    wait_until(answered, f"{answer!r} in answer to {line!r}")


# --- The assignment ---


@pytest.mark.parametrize(
    "command, answer",
    [
        ("isprime 7", "7 is prime"),
        ("isprime 15492810", "15492810 is not prime"),
        ("gcd 12 18", "gcd for 12 18 is 6"),
        ("gcd 17 5", "gcd for 17 5 is 1"),
    ],
)
def test_a_command_from_the_terminal_is_answered(pipeline, command, answer):
    ask(pipeline.client(), command, rf"\b{answer}$")


def test_two_clients_work_at_the_same_time(pipeline):
    first, second = pipeline.client(), pipeline.client()
    ask(first, "isprime 101", r"\b101 is prime$")
    ask(second, "gcd 100 75", r"\bgcd for 100 75 is 25$")
    ask(first, "isprime 100", r"\b100 is not prime$")


def test_our_own_sockets_on_the_wire_get_an_answer(pipeline):
    with Hand() as hand:
        outputs = hand.connect(zmq.SUB, pipeline.ports[1])

        def answered():
            hand.ask(pipeline.ports[0], b"isprime 13")
            return outputs.poll(200) and outputs.recv() == b"13 is prime"

        wait_until(answered, "an answer on client_outputs")


def test_a_worker_of_our_own_is_passed_its_lines_and_its_answer_is_published(parts):
    parts.server()
    client = parts.client()
    with Hand() as hand:
        inputs = hand.connect(zmq.SUB, parts.ports[2], b"upper")
        outputs = hand.connect(zmq.PUB, parts.ports[3])

        def passed():
            client.send("upper abc")
            return inputs.poll(300)

        wait_until(passed, "the line to reach the worker")
        assert inputs.recv() == b"upper abc"

        def printed():
            outputs.send(b"upper for abc is ABC")
            return "upper for abc is ABC" in client.out

        wait_until(printed, "the answer to reach the client")


def test_a_client_whose_output_has_no_reader_ends_with_the_next_answer_to_any_client(pipeline):
    client = pipeline.client(shut=True)
    other = pipeline.client()

    def ended():
        other.send("isprime 7")
        other.expect("7 is prime")
        return not client.running

    wait_until(ended, "the end of the client")
    assert client.wait() == 0
    assert client.err == ""


# --- Ours: addresses and input of any kind ---


def test_a_host_that_does_not_resolve_is_one_line_for_each_command(spawn):
    client = spawn(CLIENT, 1, 2, "--host", "no-such-host.invalid")
    worker = spawn(PRIME, 1, 2, "--host", "no-such-host.invalid")
    client.send("isprime 7")
    client.close_stdin()
    assert client.wait() == 0 and client.err == ""
    assert client.out == "The server no-such-host.invalid:2 is not reachable\n" * 2
    worker.expect_err("waiting for a server at no-such-host.invalid:2")
    worker.interrupt()
    assert worker.wait(5) == 0


def test_all_parts_meet_over_ipv6(spawn):
    server = spawn(SERVER, 0, 0, 0, 0, "--host", "::1")
    ports = re.findall(r"\[::1\]:(\d+)", server.expect("^Listening on .*$")[0])
    spawn(PRIME, *ports[2:], "--host", "::1").expect("Ready")
    client = spawn(CLIENT, *ports[:2], "--host", "[::1]")
    client.send("isprime 7")
    client.expect("^7 is prime$")


@pytest.mark.parametrize("taken", range(4))
def test_each_taken_port_is_one_line_naming_it_and_exit_1(parts, taken):
    with Hand() as hand:
        _, parts.ports[taken] = hand.bind(zmq.PULL)
        server = parts.spawn(SERVER, *parts.ports)
        assert server.wait() == 1 and server.out == ""
        assert server.err.count("\n") == 1 and f"127.0.0.1:{parts.ports[taken]}:" in server.err


def test_the_same_port_given_twice_is_one_line_naming_it_and_exit_1(parts):
    server = parts.spawn(SERVER, *parts.ports[:3], parts.ports[0])
    assert server.wait() == 1 and server.out == ""
    assert server.err.count("\n") == 1 and f"127.0.0.1:{parts.ports[0]}:" in server.err


def test_ctrl_c_ends_a_client_that_waits_for_an_answer(pipeline):
    client = pipeline.client(tty=True)
    client.expect("> ")
    client.send("isprime 7")
    client.expect("7 is prime\n> ")
    pipeline.prime_worker.pause()
    client.send("isprime 9")
    client.expect("isprime 9\n")
    client.write("\x03")
    assert client.wait(1.5) == 0
    assert "No answer" not in client.out and "Traceback" not in client.out


# --- Ours: start and end ---


def test_port_0_picks_free_ports_and_the_ready_line_names_them(spawn):
    server = spawn(SERVER, 0, 0, 0, 0)
    ports = server.expect(
        r"^Listening on client_inputs 127\.0\.0\.1:(\d+), client_outputs 127\.0\.0\.1:(\d+), "
        r"worker_inputs 127\.0\.0\.1:(\d+), worker_outputs 127\.0\.0\.1:(\d+)$"
    ).groups()
    spawn(PRIME, *ports[2:]).expect("Ready for isprime N")
    client = spawn(CLIENT, *ports[:2])
    client.send("isprime 7")
    client.expect("7 is prime")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_every_part_stops_cleanly_while_the_others_run(pipeline, signum):
    client = pipeline.client()
    client.send("isprime 7")
    client.expect("7 is prime")
    for script in (client, pipeline.prime_worker, pipeline.broker, pipeline.gcd_worker):
        script.signal(signum)
        assert script.wait(5) == 0
        assert script.err == ""


def test_workers_stop_while_they_wait_for_a_server(parts):
    worker = parts.prime()
    worker.expect_err("waiting for a server at 127.0.0.1")
    worker.interrupt()
    assert worker.wait(5) == 0


def test_the_client_stops_while_it_waits_for_a_server(parts):
    client = parts.client(tty=True)
    with contextlib.suppress(AssertionError):
        client.expect("not reachable", timeout=1.0)
    client.write("\x03")
    assert client.wait(5) == 0
    assert "Traceback" not in client.out


@pytest.mark.parametrize("script", ["prime.py", "gcd.py", "client.py"])
def test_swapped_ports_are_reported(spawn, script):
    server = spawn("lab03_zmq/server.py", 0, 0, 0, 0)
    ports = re.findall(r":(\d+)", server.expect("^Listening .*$")[0])
    name, (first, second) = "worker", ports[2:]
    if script == "client.py":
        name, (first, second) = "client", ports[:2]
    part = spawn(f"lab03_zmq/{script}", second, first)
    expect = part.expect if script == "client.py" else part.expect_err
    expect(f"127.0.0.1:{first} is not the server's {name}_outputs: are the ports in")


def test_a_worker_names_the_first_port_if_it_is_not_the_servers(spawn):
    server = spawn("lab03_zmq/server.py", 0, 0, 0, 0)
    lines, _, _, outputs = re.findall(r":(\d+)", server.expect("^Listening .*$")[0])
    worker = spawn("lab03_zmq/prime.py", lines, outputs)
    worker.expect_err(f"127.0.0.1:{lines} is not the server's worker_inputs: are the ports in")
    nothing = free_port()
    worker = spawn("lab03_zmq/prime.py", nothing, outputs)
    worker.expect_err(f"waiting for a server at 127.0.0.1:{nothing}")
    worker.interrupt()
    assert worker.wait(5) == 0


def test_a_client_names_the_port_where_no_server_is(parts):
    parts.server()
    nothing = free_port()
    client = parts.spawn(CLIENT, parts.ports[0], nothing)
    client.expect(f"The server 127.0.0.1:{nothing} is not reachable")
