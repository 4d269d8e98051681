"""Lab 3's client: every line gets its answer, from the right worker, whatever other clients ask."""

import pytest
import zmq

from tests.lab03.parts import CLIENT, Hand

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
        assert requests.poll(20_000) and requests.recv() == b"next 1"
        requests.send(b"ok")
        outputs.send(b"2 is no answer")
        client.expect("no answer")
        assert not requests.poll(200)
        outputs.send(b"1 was next")
        assert requests.poll(20_000) and requests.recv() == b"last 2"
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
