"""Lab 3's scripts as processes: the assignment's behaviour first, then what ours promise beyond."""

import contextlib
import itertools
import random
import re
import signal
import time

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from tests.lab03.parts import CLIENT, PRIME, SERVER, Hand, Parts
from tests.support.harness import Failure, wait_until


def ask(client, line, answer):
    """Type a line until its answer comes: the first may be lost to a subscription that is late."""

    def answered():
        client.send(line)
        with contextlib.suppress(Failure):
            return client.expect(answer, timeout=1.0)

    wait_until(answered, f"{answer!r} in answer to {line!r}")


@pytest.fixture
def parts(spawn):
    return Parts(spawn)


@pytest.fixture
def pipeline(parts):
    """The parts, with a server and both workers running and ready."""
    return parts.start_all()


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


# --- Ours: answers ---


ANSWERS = [
    ("isprime 0", "0 is not prime"),
    ("isprime -7", "-7 is not prime"),
    ("gcd -12 18", "gcd for -12 18 is 6"),
    ("gcd 0 0", "gcd for 0 0 is 0"),
    ("gcd 0 -5", "gcd for 0 -5 is 5"),
    ("isprime abc", "isprime abc : expected isprime N, an integer of at most 1000 digits"),
    ("isprime", "isprime : expected isprime N, an integer of at most 1000 digits"),
    ("isprime 1 2", "isprime 1 2 : expected isprime N, an integer of at most 1000 digits"),
    ("gcd 1", "gcd 1 : expected gcd A B, two integers of at most 1000 digits"),
    ("gcd \udcff", "gcd � : expected gcd A B, two integers of at most 1000 digits"),
    ("gcd 1 2 3", "gcd 1 2 3 : expected gcd A B, two integers of at most 1000 digits"),
    ("gcd 1 x", "gcd 1 x : expected gcd A B, two integers of at most 1000 digits"),
    (
        f"isprime {10**1000}",
        f"isprime {10**1000} : expected isprime N, an integer of at most 1000 digits",
    ),
    ("isprime 1_3", "isprime 1_3 : expected isprime N, an integer of at most 1000 digits"),
    (f"isprime {2**89 - 1}", f"{2**89 - 1} is prime"),
    ("foo bar", "foo bar: no worker takes such a line; now taken: gcd, isprime"),
    ("isprimes 7", "isprimes 7: no worker takes such a line; now taken: gcd, isprime"),
    ("help", "commands: isprime N, gcd A B, anything else that a worker takes, help, exit"),
]


def test_every_line_gets_exactly_one_line(pipeline):
    client = pipeline.client()
    for command, _ in ANSWERS:
        client.send("")
        client.send(command)
    client.close_stdin()
    assert client.wait() == 0
    assert client.out.splitlines() == [answer for _, answer in ANSWERS]
    assert client.err == ""


def test_from_a_pipe_every_line_is_answered_before_the_next_and_none_is_missing(pipeline):
    lines = [f"isprime {n}" for n in range(100)] + [f"gcd {n} 12" for n in range(100)]
    client = pipeline.client()
    client.write("\n".join(lines))  # the last without a line end
    client.close_stdin()
    assert client.wait() == 0
    assert len(client.lines) == 200
    assert [line.split()[0] for line in client.lines[:100]] == [str(n) for n in range(100)]
    assert [line.split()[2] for line in client.lines[100:]] == [str(n) for n in range(100)]


@pytest.mark.parametrize(
    "line, other", [("isprime 7", "gcd for 14 7 is 7"), ("gcd 3 5", "gcd for 1 3 is 5 and more")]
)
def test_the_answer_to_another_client_is_not_taken_for_ones_own(parts, line, other):
    with Hand() as hand:
        requests, inputs_port = hand.bind(zmq.REP)
        outputs, outputs_port = hand.bind(zmq.XPUB)
        client = parts.spawn(CLIENT, inputs_port, outputs_port)
        client.write(f"{line}\nnext 1\nlast 2")
        client.close_stdin()
        assert requests.poll(20_000) and requests.recv() == line.encode()
        requests.send(b"ok")
        assert outputs.poll(20_000) and outputs.recv() == b"\x01"  # it is subscribed
        outputs.send(other.encode())
        client.expect(other)
        assert not requests.poll(200)  # it still waits
        own = "7 is prime" if line == "isprime 7" else "gcd for 3 5 is 1"
        outputs.send(own.encode())
        assert requests.poll(1000) and requests.recv() == b"next 1"
        requests.send(b"ok")
        outputs.send(b"2 is no answer")
        client.expect("no answer")
        assert not requests.poll(200)
        outputs.send(b"1 was next")
        assert requests.poll(1000) and requests.recv() == b"last 2"
        requests.send(b"ok")
        outputs.send(b"2 was last")
        assert client.wait() == 0
    assert client.lines == [other, own, "2 is no answer", "1 was next", "2 was last"]


def test_what_others_ask_is_printed_while_the_client_waits(pipeline):
    waiting = pipeline.client()
    waiting.send("isprime 3")
    waiting.expect("3 is prime")
    other = pipeline.client()
    other.send("isprime 1000003")
    waiting.expect("1000003 is prime")


def test_what_others_ask_leaves_the_line_being_typed_on_the_screen(pipeline):
    typing = pipeline.client(tty=True)
    typing.expect("> ")
    typing.write("isprime 1")
    typing.expect("isprime 1")
    other = pipeline.client()
    other.send("gcd 8 12")
    typing.expect(r"gcd for 8 12 is 4\n\s*> isprime 1")
    typing.write("3\n")
    typing.expect("13 is prime")


def test_control_characters_in_an_answer_do_not_reach_the_terminal(pipeline):
    client = pipeline.client()
    client.send("gcd \x1b[2J 1")
    client.expect(r"gcd \\x1b\[2J 1 : expected")
    assert "\x1b" not in client.out


def test_many_clients_get_every_answer_they_asked_for(pipeline):
    clients = [pipeline.client() for _ in range(6)]
    for k, client in enumerate(clients):
        client.write("".join(f"gcd {k} {n}\n" for n in range(50)))
        client.close_stdin()
    for k, client in enumerate(clients):
        assert client.wait() == 0
        assert "No answer" not in client.out
        assert all(f"gcd for {k} {n} is " in client.out for n in range(50))


def test_a_line_longer_than_the_server_takes_is_refused_by_the_client(pipeline):
    client = pipeline.client()
    client.send("isprime " + "1" * 70_000)
    client.expect("The line is longer than 60000 bytes")
    client.send("isprime 7")
    client.expect("^7 is prime")


def test_garbage_on_every_socket_does_not_stop_the_pipeline(pipeline):
    noise = random.Random(5)
    with Hand() as hand:
        answers = hand.connect(zmq.PUB, pipeline.ports[3])
        for _ in range(100):
            hand.ask(pipeline.ports[0], noise.randbytes(noise.randrange(40)))
            answers.send(noise.randbytes(noise.randrange(40)))
        with hand.connect(zmq.REQ, pipeline.ports[0]) as requests:
            requests.send_multipart([b"isprime", b"7"])
            assert requests.recv() == b"accepted"
        with hand.connect(zmq.REQ, pipeline.ports[0]) as requests:
            requests.send(b"isprime " + b"1" * 100_000)  # too long: the connection ends
            assert not requests.poll(200)
    client = pipeline.client()
    client.send("isprime 7")
    client.expect("7 is prime")


def test_a_malformed_message_of_a_client_that_left_costs_no_other_a_confirmation(pipeline):
    """libzmq's REP would lose the next one, if it came to read the message only then."""
    with Hand() as hand, hand.connect(zmq.REQ, pipeline.ports[0]) as honest:
        for _ in range(10):
            with hand.connect(zmq.DEALER, pipeline.ports[0]) as stranger:
                for each, message in ((honest, [b"isprime 7"]), (stranger, [b"", b"isprime 7"])):
                    each.send_multipart(message)
                    assert each.poll(20_000) and each.recv_multipart()[-1] == b"accepted"
                pipeline.broker.pause()
                stranger.linger = 1000
                stranger.send_multipart([b"no", b"empty", b"frame"])
            honest.send(b"isprime 7")
            pipeline.broker.resume()
            assert honest.poll(2000) and honest.recv() == b"accepted"


def test_what_is_no_subscription_takes_no_worker_out(pipeline):
    with Hand() as hand:
        stranger = hand.connect(zmq.XSUB, pipeline.ports[2])
        stranger.send(b"xisprime")
        stranger.send(b"\x01seen")

        def seen():
            return b"seen" in hand.ask(pipeline.ports[0], b"foo")

        wait_until(seen, "the server to hear the stranger")
        assert hand.ask(pipeline.ports[0], b"isprime 7") == b"accepted"


@pytest.mark.parametrize("index, kind", [*enumerate([zmq.REQ, zmq.XSUB, zmq.XSUB, zmq.PUB])])
def test_a_message_too_large_ends_its_connection_on_every_socket(parts, index, kind):
    parts.server()
    with Hand() as hand:
        stranger = hand.context.socket(kind)
        monitor = stranger.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        stranger.connect(f"tcp://127.0.0.1:{parts.ports[index]}")
        assert (
            monitor.poll(20_000)
            and recv_monitor_message(monitor)["event"] != zmq.EVENT_DISCONNECTED
        )

        def dropped():
            with contextlib.suppress(zmq.ZMQError):  # a REQ sends only once
                stranger.send(b"x" * 200_000, zmq.NOBLOCK)
            return monitor.poll(20)

        wait_until(dropped, "the connection to be dropped")
        assert recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED
        stranger.disable_monitor()


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


# --- Ours: starting in any order, going away and coming back ---


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


def test_a_worker_that_is_not_running_is_told_at_once(parts):
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


def test_a_killed_worker_is_told_and_its_successor_answers(pipeline):
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


def test_a_worker_that_hangs_is_told_after_two_seconds(pipeline):
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
    for n in range(1000, 1030):
        told = re.search(rf"^{n} is|isprime {n}\b", client.out, re.MULTILINE)
        assert told or "is not reachable" in client.out


def test_no_server_is_one_line_for_each_command_and_the_client_goes_on(parts):
    client = parts.client()
    client.write("isprime 7\nhelp\n")
    client.close_stdin()
    assert client.wait() == 0
    unreachable = f"The server 127.0.0.1:{parts.ports[0]} is not reachable\n"
    assert client.out.startswith(unreachable * 2 + "commands: ")


def test_the_confirmation_says_whether_a_worker_takes_the_line(pipeline):
    with Hand() as hand:
        assert hand.ask(pipeline.ports[0], b"isprime 7") == b"accepted"

        def refused():
            return hand.ask(pipeline.ports[0], b"foo") == (
                b"no worker takes such a line; now taken: gcd, isprime"
            )

        wait_until(refused)


# --- Ours: addresses and input of any kind ---


def test_a_host_that_does_not_resolve_is_one_line_for_each_command(spawn):
    client = spawn(CLIENT, 1, 2, "--host", "no-such-host.invalid")
    worker = spawn(PRIME, 1, 2, "--host", "no-such-host.invalid")
    client.send("isprime 7")
    client.close_stdin()
    assert client.wait() == 0 and client.err == ""
    assert client.out == "The server no-such-host.invalid:1 is not reachable\n" * 2
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


@pytest.mark.parametrize(
    "typed, printed",
    [
        ("isprime 7\r\ngcd\t4  6\r\n", "7 is prime\ngcd for 4 6 is 2\n"),
        ("isprime \0\n", "isprime \\x00 : expected isprime N, an integer of at most 1000 digits\n"),
        ("x" * 1_000_000 + "\nisprime 7", "The line is longer than 60000 bytes\n7 is prime\n"),
        ("\n" * 1000 + "isprime 7", "7 is prime\n"),
    ],
    ids=["CRLF and tabs", "NUL", "1 MB", "empty lines"],
)
def test_input_of_any_kind_from_a_pipe_is_answered(pipeline, typed, printed):
    client = pipeline.client(env={"LANG": "C", "TERM": "dumb", "http_proxy": "http://127.0.0.1:1"})
    client.write(typed)
    client.close_stdin()
    assert client.wait() == 0
    assert (client.out, client.err) == (printed, "")


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
def test_swapped_ports_are_told(spawn, script):
    server = spawn("lab03_zmq/server.py", 0, 0, 0, 0)
    ports = re.findall(r":(\d+)", server.expect("^Listening .*$")[0])
    name, (first, second) = "worker", ports[2:]
    if script == "client.py":
        name, (first, second) = "client", ports[:2]
    part = spawn(f"lab03_zmq/{script}", second, first)
    expect = part.expect if script == "client.py" else part.expect_err
    expect(f"127.0.0.1:{first} is not the server's {name}_outputs: are the ports in")
