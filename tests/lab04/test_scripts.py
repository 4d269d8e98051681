"""Lab 4's scripts as processes: the assignment's behaviour first, then what ours promise beyond."""

import shutil
import subprocess
import sys
import threading

import pytest

from tests.lab04.scripts import CLIENT, COMMANDS, SERVER
from tests.support.harness import wait_until
from tests.support.ports import free_port, listens


@pytest.fixture
def port(spawn):
    """The port of a server started as the assignment has it."""
    port = free_port()
    spawn(SERVER, port)
    wait_until(lambda: listens(port), "the server to listen")
    return port


# --- The assignment ---


def test_a_session_of_the_assignment(port, spawn):
    client = spawn(CLIENT, f"127.0.0.1:{port}")
    client.write("reverse Hello there!\nsplit Hello there!\nisprime 2 5 9\nexit\n")
    assert client.wait() == 0
    lines = [line.removeprefix("> ").strip() for line in client.lines]
    assert [line for line in lines if line] == [
        'message: "!ereht olleH"',
        "number: 2",
        'parts: "Hello"',
        'parts: "there!"',
        "2 is prime",
        "5 is prime",
        "9 is not prime",
        "Shutting down",
    ]


def test_clients_are_served_at_the_same_time(port, spawn):
    clients = [spawn(CLIENT, f"127.0.0.1:{port}") for _ in range(3)]
    for client in clients:
        client.send("isprime 2 10 5555 14567")
    for client in clients:
        client.expect("2 is prime")
        client.expect("10 is not prime")
        client.expect("5555 is not prime")
        client.expect("14567 is not prime")  # 7 * 2081


def test_an_idle_client_does_not_stop_another(port, spawn):
    idle = spawn(CLIENT, f"127.0.0.1:{port}")
    idle.send("reverse abc")
    idle.expect("cba")
    other = spawn(CLIENT, f"127.0.0.1:{port}")
    other.send("reverse xyz")
    other.expect("zyx")


# --- Ours: the session ---


def test_the_output_has_a_blank_line_after_reverse_and_split_only(server, spawn):
    client = spawn(CLIENT, server.address)
    client.write("reverse Hello there!\nsplit Hello there!\nisprime 2 5 9\nexit\n")
    assert client.wait() == 0
    assert client.out == (
        'message: "!ereht olleH"\n\nnumber: 2\nparts: "Hello"\nparts: "there!"\n\n'
        "2 is prime\n5 is prime\n9 is not prime\nShutting down\n"
    )


OUTPUTS = [
    ("reverse", 'message: ""\n\n'),
    ("reverse été 日本", 'message: "本日 été"\n\n'),
    ('reverse "\\', 'message: "\\\\\\""\n\n'),
    ("reverse a\tb", 'message: "b\\ta"\n\n'),
    ("reverse \udcff\udcfe", 'message: "��"\n\n'),
    ("split", 'number: 1\nparts: ""\n\n'),
    ("split  a   b\tc ", 'number: 3\nparts: "a"\nparts: "b"\nparts: "c"\n\n'),
    ("isprime", ""),
    ("isprime 0 1 -7", "0 is not prime\n1 is not prime\n-7 is not prime\n"),
    ("isprime 9223372036854775783", "9223372036854775783 is prime\n"),
    ("isprime -9223372036854775808", "-9223372036854775808 is not prime\n"),
    ("isprime +9223372036854775807", "9223372036854775807 is not prime\n"),
    ("isprime 7 9223372036854775808", "Not a 64-bit integer: 9223372036854775808\n"),
    ("isprime -9223372036854775809", "Not a 64-bit integer: -9223372036854775809\n"),
    ("isprime 7 abc 9", "Not a 64-bit integer: abc\n"),
    ("isprime 1.0", "Not a 64-bit integer: 1.0\n"),
    ("isprime 1_0", "Not a 64-bit integer: 1_0\n"),
    ("isprime " + "1" * 5000, "Not a 64-bit integer: " + "1" * 5000 + "\n"),
    ("", ""),
    ("   ", ""),
    ("help", COMMANDS + "\n"),
    ("reverze abc", f"Unknown command: reverze; {COMMANDS}\n"),
    ("!ls", f"Unknown command: !ls; {COMMANDS}\n"),
]


def test_every_command_prints_exactly_this(server, spawn):
    client = spawn(CLIENT, server.address)
    for command, _ in OUTPUTS:
        client.send(command)
    client.close_stdin()
    assert client.wait() == 0
    assert client.out == "".join(output for _, output in OUTPUTS) + "Shutting down\n"
    assert client.err == ""


def test_an_answer_of_isprime_is_printed_before_the_next_has_come(fake, spawn):
    go_on = threading.Event()

    def answer_slowly(messages, requests, context):
        assert [request.num for request in requests] == [7, 9]  # all in one stream
        yield messages.IsPrimeReply(text="the first")
        go_on.wait(20)
        yield messages.IsPrimeReply(text="the second")

    client = spawn(CLIENT, fake(isprime=answer_slowly))
    client.send("isprime 7 9")
    client.expect("^the first$")
    go_on.set()
    client.expect("^the second$")


def test_the_prompt_is_there_on_a_terminal_with_history_and_completion(server, spawn):
    client = spawn(CLIENT, server.address, tty=True, env={"TERM": "dumb"})
    client.expect("> ")
    client.send("reverse abc")
    client.expect('message: "cba"')
    client.write("\x10\n")  # Ctrl-P: the line before
    client.expect('message: "cba"')
    client.write("isp\t7\n")
    client.expect("7 is prime\n> ")
    client.write("\x04")
    assert client.wait(5) == 0


def test_a_text_over_the_message_limit_is_one_line(server, spawn):
    client = spawn(CLIENT, server.address)
    client.send("reverse " + "x" * (5 << 20))
    client.expect("^Too long: a text and its answer may have 4 MB each$")
    client.send("reverse abc")
    client.expect("cba")


@pytest.mark.parametrize(
    "typed, printed",
    [
        ("reverse abc\r\nisprime\t7\r\n", 'message: "cba"\n\n7 is prime\n'),
        ("reverse a\0b\x1b\n", 'message: "\\033b\\000a"\n\n'),
        (
            f"split {'a ' * 3}{'x' * 1_000_000}",
            "number: 4\n" + 'parts: "a"\n' * 3 + f'parts: "{"x" * 1_000_000}"\n\n',
        ),
        ("\n" * 1000 + "isprime 7", "7 is prime\n"),
    ],
    ids=["CRLF and tabs", "NUL and escape", "1 MB", "empty lines"],
)
def test_input_of_any_kind_from_a_pipe_is_answered(server, spawn, typed, printed):
    client = spawn(CLIENT, server.address, env={"LANG": "C", "TERM": "dumb"})
    client.write(typed)
    client.close_stdin()
    assert client.wait() == 0
    assert (client.out, client.err) == (printed + "Shutting down\n", "")


def test_what_an_encoding_does_not_have_is_replaced(server, spawn):
    client = spawn(CLIENT, server.address, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    client.write("reverse 日本\nreverse abc\n")
    client.close_stdin()
    assert client.wait() == 0
    assert client.err == "" and 'message: "cba"' in client.out


def test_ctrl_c_ends_a_client_that_waits_for_an_answer(server, spawn):
    client = spawn(CLIENT, server.address, tty=True)
    client.expect("> ")
    server.pause()
    client.send("reverse abc")
    client.expect("reverse abc\n")
    client.write("\x03")
    assert client.wait(1.5) == 0
    assert client.lines[-1] == "Shutting down" and "does not answer" not in client.out


def test_ipv6_and_a_host_that_does_not_resolve(spawn):
    server = spawn(SERVER, 0, "--host", "::1")
    client = spawn(CLIENT, f"[::1]:{server.port()}")
    client.send("reverse abc")
    client.expect("cba")
    nowhere = spawn(CLIENT, "no-such-host.invalid:1")
    nowhere.send("reverse abc")
    nowhere.expect("^The server no-such-host.invalid:1 is unavailable$")


def test_proxies_in_the_environment_are_not_used(server, spawn):
    proxy = f"http://127.0.0.1:{free_port()}"
    client = spawn(CLIENT, server.address, env={"http_proxy": proxy, "https_proxy": proxy})
    client.send("reverse abc")
    client.expect("cba")


def test_generated_stubs_can_be_made_in_the_folder_and_are_not_used(spawn, tmp_path, labs):
    folder = shutil.copytree(labs / "lab04_grpc", tmp_path / "dossier é")
    made = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=."]
        + ["service.proto"],
        cwd=folder,
        check=False,
    )
    assert made.returncode == 0 and (folder / "service_pb2_grpc.py").exists()
    for stub in folder.glob("*_pb2*.py"):
        stub.write_text("raise SystemExit('a stale stub was imported')")
    server = spawn(folder / "server.py", 0)
    client = spawn(folder / "client.py", f"127.0.0.1:{server.port()}")
    client.send("reverse abc")
    client.expect("cba")
