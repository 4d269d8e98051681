"""--verbose: what a server tells on stderr, with the time; without it nothing."""

import re
import sys

import pytest
import zmq

from tests.support.harness import wait_until
from tests.support.ports import free_port

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} "


@pytest.fixture
def config(tmp_path):
    ports = [free_port() for _ in range(3)]
    (tmp_path / "config.conf").write_text(
        "".join(f"{n} 127.0.0.1 {port}\n" for n, port in enumerate(ports))
    )
    return ["--config", tmp_path / "config.conf"], ports


def all_have_the_time(server):
    assert all(re.match(STAMP, line) for line in server.err.splitlines()), server.err


@pytest.mark.parametrize("verbose", [["--verbose"], []])
def test_lab_1_tells_of_each_upload(spawn, tmp_path, verbose):
    (tmp_path / "file").write_bytes(b"x" * 5000)
    server = spawn("lab01_udp/server.py", 0, "--dir", tmp_path, *verbose)
    address = f"127.0.0.1:{server.port()}"
    client = spawn("lab01_udp/client.py", address, tmp_path / "file", "copy")
    assert client.wait() == 0
    server.interrupt()
    assert server.wait() == 0
    assert server.lines == [f"Listening on {address}", "Saved copy: 5000 bytes"]
    begins, saved = (
        r"127.0.0.1:\d+ begins an upload, in datagrams of \d+ bytes\n",
        "saved copy, 5000",
    )
    expected = f"{STAMP}{begins}{STAMP}{saved} bytes\n" if verbose else ""
    assert re.fullmatch(expected, server.err)


@pytest.mark.parametrize("verbose", [["--verbose"], []])
def test_lab_2_tells_of_each_client_and_number(spawn, verbose):
    server = spawn("lab02_tcp_threads/server.py", 0, *verbose)
    client = spawn("lab02_tcp_threads/client.py", f"127.0.0.1:{server.port()}", 7, 8)
    assert client.wait() == 0
    server.expect("disconnected")
    server.interrupt()
    assert server.wait() == 0
    told = ["connected", "asks for 7", "asks for 8", "disconnected"] if verbose else []
    peer = r"\('127.0.0.1', \d+\) "
    assert re.fullmatch("".join(f"{STAMP}{peer}{each}\n" for each in told), server.err)
    assert [line.split(")")[-1] for line in server.lines[1:]] == [
        *(" connected", " disconnected", "Shutting down", "Done")
    ]


def test_lab_3_tells_of_each_line_and_worker(spawn):
    ports = [free_port() for _ in range(4)]
    server = spawn("lab03_zmq/server.py", *ports, "--verbose")
    worker = spawn("lab03_zmq/prime.py", *ports[2:], "--verbose")
    worker.expect("Ready")
    client = spawn("lab03_zmq/client.py", *ports[:2], "-c", "isprime 7")
    assert client.wait() == 0
    for line in ("a worker takes isprime", "line: isprime 7: accepted", "answer: 7 is prime"):
        server.expect_err(f"^{STAMP}{line}$")
    worker.expect_err(f"^{STAMP}the server is there$")
    worker.expect_err(f"^{STAMP}answer: 7 is prime$")
    worker.interrupt()
    server.expect_err(f"^{STAMP}no worker takes isprime any more$")
    with zmq.Context() as context, context.socket(zmq.DEALER) as bare:
        bare.connect(f"tcp://127.0.0.1:{ports[0]}")
        bare.send(b"isprime 7")
        server.expect_err(f"^{STAMP}a message without an empty frame: .*isprime 7$")
    all_have_the_time(server)
    assert len(server.lines) == 1


def test_lab_4_tells_of_each_call(spawn):
    server = spawn("lab04_grpc/server.py", 0, "--verbose")
    address = f"127.0.0.1:{server.port()}"
    commands = ("reverse a\x1b[31mb", "split a b", "isprime 7")
    client = spawn("lab04_grpc/client.py", address, *(f"-c{each}" for each in commands))
    assert client.wait() == 0
    for line in (r"reverse a\\x1b\[31mb", "split a b", "isprime begins", "isprime ends"):
        server.expect_err(rf"^{STAMP}ipv4:127.0.0.1:\d+: {line}$")
    client = spawn("lab04_grpc/client.py", address)
    client.write("isprime " + "7 " * 200_000 + "\n")
    server.expect_err("isprime begins$")
    client.kill()
    server.expect_err("isprime ends$")
    all_have_the_time(server)
    assert len(server.lines) == 1


def test_lab_6_tells_of_elections_commands_and_peers(spawn, config):
    options, ports = config
    servers = [spawn("lab06_raft/server.py", n, *options, "--verbose") for n in range(3)]
    wait_until(lambda: any("I am a leader" in server.out for server in servers))
    leader = next(server for server in servers if "I am a leader" in server.out)
    leader.expect_err(rf"^{STAMP}leader, term \d+, voted for \d$")
    number = servers.index(leader)
    client = spawn(
        *("lab06_raft/client.py", "-c", f"connect 127.0.0.1:{ports[number]}"),
        *("-c", "setval a b", "-c", "getval a"),
    )
    client.wait()
    leader.expect_err(rf"^{STAMP}\S+: setval a: True$")
    leader.expect_err(rf"^{STAMP}\S+: getval a$")
    lost = (number + 1) % 3
    servers[lost].kill()
    leader.expect_err(f"^{STAMP}127.0.0.1:{ports[lost]} does not answer$")
    spawn("lab06_raft/server.py", lost, *options)
    leader.expect_err(f"^{STAMP}127.0.0.1:{ports[lost]} answers$")
    all_have_the_time(leader)


SHUT = ["sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable]


@pytest.mark.parametrize("options", [{"deaf": True}, {"interpreter": SHUT}], ids=["full", "gone"])
def test_a_stderr_that_is_full_or_gone_stops_no_server(spawn, options):
    server = spawn("lab02_tcp_threads/server.py", 0, "--verbose", **options)
    client = spawn("lab02_tcp_threads/client.py", f"127.0.0.1:{server.port()}", *range(20_000))
    assert client.wait(60) == 0
    server.interrupt()
    assert server.wait() == 0


def test_lab_5_tells_of_nodes_and_commands(spawn):
    registry = spawn("lab05_chord/Registry.py", "127.0.0.1:0", 5, "--verbose")
    address = f"127.0.0.1:{registry.port()}"
    nodes = [free_port(), free_port()]
    first = spawn("lab05_chord/Node.py", address, f"127.0.0.1:{nodes[0]}", "--verbose")
    first.expect("assigned")
    second = spawn("lab05_chord/Node.py", address, f"127.0.0.1:{nodes[1]}", "--verbose")
    second.expect("assigned")
    registry.expect_err(f"^{STAMP}node 24 joins, epoch 1$")
    registry.expect_err(f"^{STAMP}node 26 joins, epoch 2$")
    commands = (f"connect 127.0.0.1:{nodes[0]}", "save key text", "find key", "find none")
    spawn("lab05_chord/Client.py", *(f"-c{each}" for each in commands)).wait()
    for told in ("save key: True", "find key: True", "find none: False"):
        first.expect_err(rf"^{STAMP}\S+: {told}$")
    second.interrupt()
    assert second.wait() == 0
    registry.expect_err(rf"^{STAMP}node 26 asks to leave: node 26 has left$")
