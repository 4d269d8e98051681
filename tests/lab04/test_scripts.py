"""Lab 4's scripts as processes: the assignment's behaviour first, then what ours promise beyond."""

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.support.harness import ROOT, free_port, listens, load, wait_until
from tests.support.relays import TcpRelay

SERVER, CLIENT = "lab04_grpc/server.py", "lab04_grpc/client.py"
END = 1.0  # s from a signal to the exit
REPORTED = 7.0  # s: a call may take 5
COMMANDS = "commands: reverse <text>, split <text>, isprime <numbers>, help, exit"


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


@pytest.fixture
def server(spawn):
    script = spawn(SERVER, 0)
    script.address = f"127.0.0.1:{script.port()}"
    return script


@pytest.fixture(scope="module")
def proto():
    """(messages, services) of our service.proto."""
    return load(ROOT / "lab04_grpc/rpc.py").compile_proto("service.proto")


@pytest.fixture
def stub(server, proto):
    with grpc.insecure_channel(server.address) as channel:
        yield proto[1].TextToolsStub(channel)


@pytest.fixture
def fake(proto):
    """Start a server of other functions: fake(reverse=function, ...) returns its address."""
    messages, services = proto
    servers, pool = [], ThreadPoolExecutor(8)

    def start(**functions):
        def method(function):
            return lambda self, request, context: function(messages, request, context)

        methods = {name: method(function) for name, function in functions.items()}
        servers.append(grpc.server(pool))
        servicer = type("Fake", (services.TextToolsServicer,), methods)()
        services.add_TextToolsServicer_to_server(servicer, servers[-1])
        port = servers[-1].add_insecure_port("127.0.0.1:0")
        servers[-1].start()
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()
    pool.shutdown()


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


def test_no_server_is_one_line_for_each_command_and_the_prompt_stays(spawn, server):
    server.kill()
    client = spawn(CLIENT, server.address)
    client.write("reverse a\nsplit a\nisprime 7\nhelp\n")
    client.close_stdin()
    assert client.wait() == 0
    unavailable = f"The server {server.address} is unavailable\n"
    assert client.out == unavailable * 3 + COMMANDS + "\nShutting down\n"


def test_a_session_survives_restarts_of_the_server(spawn):
    port = free_port()
    client = spawn(CLIENT, f"127.0.0.1:{port}")
    for _ in range(3):
        server = spawn(SERVER, port)
        server.port()

        def answered():
            client.send("isprime 7")
            client.expect("7 is prime|unavailable")
            return client.lines[-1] == "7 is prime"

        wait_until(answered, "an answer from the new server")
        server.kill()
        client.send("isprime 7")
        client.expect("unavailable")


def test_a_server_that_hangs_is_one_line(server, spawn):
    client = spawn(CLIENT, server.address)
    client.send("reverse abc")
    client.expect("cba")
    server.pause()
    client.send("reverse abc")
    client.expect(f"The server {server.address} (does not answer|is unavailable)", REPORTED)
    server.resume()
    client.send("reverse xyz")
    client.expect("zyx")


@pytest.mark.parametrize("command", ["reverse abc", "split abc", "isprime 7 9", "isprime 7"])
def test_a_function_that_hangs_is_reported_when_it_has_been_silent_for_5_s(fake, spawn, command):
    """The server's process works, so its connection does."""
    go_on = threading.Event()

    def hang(messages, request, context):
        go_on.wait(20)

    def answer_once(messages, requests, context):
        yield messages.IsPrimeReply(text="the first")
        go_on.wait(20)

    address = fake(reverse=hang, split=hang, isprime=answer_once)
    client = spawn(CLIENT, address)
    begun = time.monotonic()
    client.send(command)
    client.expect(f"The server {address} does not answer", REPORTED)
    assert time.monotonic() - begun >= 5
    go_on.set()


class TimedStream:
    """A stream of replies, each of which comes after so many seconds."""

    def __init__(self, *seconds: float):
        self.seconds = iter(seconds)
        self.cancelled = threading.Event()

    def __next__(self) -> str:
        if self.cancelled.wait(next(self.seconds)):
            raise ConnectionError("cancelled")
        return "a reply"

    def cancel(self) -> None:
        self.cancelled.set()


def test_a_stream_may_last_as_long_as_its_answers_come(monkeypatch):
    client = load(ROOT / "lab04_grpc/client.py")
    monkeypatch.setattr(client, "CALL_TIMEOUT", 0.5)
    stream = TimedStream(*[0.1] * 10)
    assert len([*client.unless_silent(stream)]) == 10
    with pytest.raises(ConnectionError):
        list(client.unless_silent(TimedStream(0, 20)))


def test_a_reader_that_is_slow_is_no_silence_of_the_server(monkeypatch):
    client = load(ROOT / "lab04_grpc/client.py")
    monkeypatch.setattr(client, "CALL_TIMEOUT", 0.5)
    stream = TimedStream(0, 0)
    for _ in client.unless_silent(stream):
        time.sleep(1.0)
    assert not stream.cancelled.is_set()


def test_answers_that_a_broken_connection_took_away_are_asked_for_again(fake, spawn):
    """Each stream breaks after one answer; the third attempt is the last."""
    asked = []

    def answer_once(messages, requests, context):
        asked.append([request.num for request in requests])
        yield messages.IsPrimeReply(text=f"answer to {asked[-1][0]}")
        context.abort(grpc.StatusCode.UNAVAILABLE, "as if the connection had broken")

    address = fake(isprime=answer_once)
    client = spawn(CLIENT, address)
    client.send("isprime 1 2 3 4")
    client.expect(f"The server {address} is unavailable")
    assert asked == [[1, 2, 3, 4], [2, 3, 4], [3, 4]]
    assert client.lines[:3] == ["answer to 1", "answer to 2", "answer to 3"]


def test_a_connection_cut_in_mid_session_is_made_again(server, spawn):
    with TcpRelay(int(server.address.split(":")[1])) as relay:
        client = spawn(CLIENT, f"127.0.0.1:{relay.port}")

        def answered(line, answer):
            client.send(line)
            client.expect(f"{answer}|unavailable")
            return answer in client.out

        wait_until(lambda: answered("reverse abc", "cba"), "an answer through the relay")
        relay.cut()
        wait_until(lambda: answered("reverse xyz", "zyx"), "the connection to be made again")


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
            f"number: 4\n{'parts: ' + chr(34) + 'a' + chr(34) + chr(10)}",
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
    assert client.out.startswith(printed) and client.err == ""


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


# --- Ours: the service ---


def test_an_empty_delimiter_is_an_invalid_argument(stub, proto):
    with pytest.raises(grpc.RpcError) as error:
        stub.split(proto[0].SplitRequest(text="abc", delim=""), timeout=20)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "text, delim, parts",
    [("a,b,,c", ",", ["a", "b", "", "c"]), ("a<>b", "<>", ["a", "b"]), ("", ",", [""])],
)
def test_split_divides_at_every_delimiter(stub, proto, text, delim, parts):
    reply = stub.split(proto[0].SplitRequest(text=text, delim=delim), timeout=20)
    assert (reply.number, list(reply.parts)) == (len(parts), parts)


def test_isprime_answers_each_number_before_the_next_is_sent(stub, proto):
    step = threading.Semaphore(0)

    def numbers():
        for num in (2, 9, 2147483647):
            yield proto[0].IsPrimeRequest(num=num)
            step.acquire(timeout=20)

    replies = stub.isprime(numbers(), timeout=30)
    for expected in ("2 is prime", "9 is not prime", "2147483647 is prime"):
        assert next(replies).text == expected
        step.release()
    assert list(replies) == []


@pytest.fixture
def idle_streams(stub, proto):
    """Open so many streams that have had an answer and then ask nothing; returns the last."""
    done, streams = threading.Event(), []

    def numbers():
        yield proto[0].IsPrimeRequest(num=7)
        done.wait(60)

    def open_streams(count):
        opened = [stub.isprime(numbers(), timeout=60) for _ in range(count)]
        streams.extend(opened)
        assert [next(stream).text for stream in opened] == ["7 is prime"] * count
        return opened[-1]

    yield open_streams
    done.set()
    for stream in streams:
        stream.cancel()


def test_two_thousand_idle_streams_are_the_limit_and_do_not_hold_up_the_end(
    server, stub, proto, idle_streams
):
    last = idle_streams(2000)

    def reverse():
        return stub.reverse(proto[0].ReverseRequest(text="abc"), timeout=20).message

    with pytest.raises(grpc.RpcError) as error:
        reverse()
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    last.cancel()

    def accepted():
        with contextlib.suppress(grpc.RpcError):
            return reverse() == "cba"

    wait_until(accepted, "the place of the stream that has ended")
    server.interrupt()
    assert server.wait(END) == 0


def test_ctrl_c_ends_open_streams_at_once(server, idle_streams):
    stream = idle_streams(1)
    begun = time.monotonic()
    server.interrupt()
    server.interrupt()  # once more: people do
    with pytest.raises(grpc.RpcError):
        next(stream)
    assert time.monotonic() - begun < 0.4
    assert server.wait(END) == 0
    assert server.err == "" and server.lines[-1] == "Shutting down"


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
