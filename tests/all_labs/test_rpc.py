"""What rpc.py promises labs 4, 5 and 6: connections that die are replaced, a bound port is ours."""

import contextlib
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.support.harness import ROOT, load, pass_time, wait_until
from tests.support.ports import free_port
from tests.support.relays import TcpRelay

rpc = load(ROOT / "lab04_grpc/rpc.py")
SERVER, CLIENT = "lab04_grpc/server.py", "lab04_grpc/client.py"
RECOVERY = 5.0  # s
PORT = 5555

# --- Connections that die without a word ---


@pytest.fixture
def hosts(network):
    """(client's host, server's host)."""
    return network.host(), network.host()


def connections(host):
    """Return the TCP connections that a host has from or to PORT."""
    ports = f"sport = :{PORT} or dport = :{PORT}"
    return host.run("ss", "-Htn", "state", "established", ports).splitlines()


def connected_client(near, far, spawn):
    """Start a server on one host and a client on another; return the client once it is answered."""
    spawn(SERVER, PORT, "--host", "0.0.0.0", interpreter=far.python).port()
    client = spawn(CLIENT, f"{far.address}:{PORT}", interpreter=near.python)
    client.send("isprime 7")
    client.expect("7 is prime")
    return client


@pytest.mark.parametrize("idle", [False, True], ids=["in use", "idle"])
def test_a_command_over_a_dead_connection_is_answered_over_a_new_one(network, hosts, spawn, idle):
    near, far = hosts
    client = connected_client(near, far, spawn)
    network.forget_connections()
    began = time.monotonic()
    if idle:
        wait_until(lambda: not connections(near), "the dead connection to be closed")
    client.send("isprime 11")
    assert client.expect("11 is prime|unavailable|not answer")[0] == "11 is prime"
    assert time.monotonic() - began < RECOVERY


def test_a_machine_that_vanished_and_came_back_is_found_again(network, hosts, spawn):
    near, far = hosts
    client = connected_client(near, far, spawn)
    far.vanish()
    client.send("isprime 11")
    client.expect("unavailable|not answer")
    network.forget_connections()
    began = time.monotonic()
    far.reappear()

    def answered():
        client.send("isprime 13")
        return client.expect("13 is prime|unavailable|not answer")[0] == "13 is prime"

    wait_until(answered, "an answer over a new connection")
    assert time.monotonic() - began < RECOVERY


def test_a_server_closes_the_connections_of_a_client_that_has_vanished(hosts, spawn):
    near, far = hosts
    connected_client(near, far, spawn)
    near.vanish()
    wait_until(lambda: not connections(far), "the connection to be closed", RECOVERY)


@contextlib.contextmanager
def echo_server(port=0):
    """Run a server in this process with the options of the labs'; yields its port."""
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    handlers = grpc.method_handlers_generic_handler("test.Echo", {"echo": handler})
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=rpc.SERVER_OPTIONS)
        server.add_generic_rpc_handlers((handlers,))
        bound = rpc.bind(server, "127.0.0.1", port)
        server.start()
        yield bound
        server.stop(None).wait()


def test_pings_over_an_idle_connection_are_not_taken_for_abuse():
    states = []
    with echo_server() as port, rpc.open_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary("/test.Echo/echo")(b"", timeout=20)
        channel.subscribe(states.append)
        wait_until(lambda: grpc.ChannelConnectivity.READY in states)
        pass_time(4.5 * rpc.KEEPALIVE_INTERVAL / 1000)
        assert states[-1] is grpc.ChannelConnectivity.READY


def test_a_large_message_on_a_slow_link_is_no_silence(hosts, spawn):
    near, far = hosts
    for command in (
        "qdisc add dev eth0 root handle 1: htb default 1",
        "class add dev eth0 parent 1: classid 1:1 htb rate 1mbit quantum 65536",
    ):
        for host in hosts:
            host.run("tc", *command.split())
    spawn(SERVER, PORT, "--host", "0.0.0.0", interpreter=far.python).port()
    client = spawn(CLIENT, f"{far.address}:{PORT}", interpreter=near.python)
    began = time.monotonic()
    client.send("reverse " + "ab" * 500_000)
    client.expect('^message: "(ba)+"$', timeout=60)
    assert time.monotonic() - began > 2 * (rpc.KEEPALIVE_INTERVAL + rpc.KEEPALIVE_TIMEOUT) / 1000


@pytest.mark.parametrize("absence", [0.0, 4.5], ids=["for a moment", "for long"])
def test_a_server_that_comes_back_is_found_at_once(absence):
    """In the second case a back-off that grows would have come to more than a second."""
    port = free_port()
    with rpc.open_channel(f"127.0.0.1:{port}") as channel:
        echo = channel.unary_unary("/test.Echo/echo")
        deadline = time.monotonic() + absence
        while True:
            with pytest.raises(grpc.RpcError):
                echo(b"", timeout=20)
            if time.monotonic() >= deadline:
                break
            pass_time(0.05)
        began = time.monotonic()
        with echo_server(port):
            assert echo(b"here", timeout=20, wait_for_ready=True) == b"here"
            assert time.monotonic() - began < 0.7


@pytest.mark.parametrize("silence, answered", [(1.2, True), (3.0, False)])
def test_failed_attempts_to_connect_are_repeated_within_the_timeout(silence, answered):
    """An attempt takes 0.5 s; the call has 2 s."""
    with (
        echo_server() as port,
        TcpRelay(port) as relay,
        rpc.open_channel(f"127.0.0.1:{relay.port}") as channel,
    ):
        relay.hold()
        end_of_silence = threading.Timer(silence, relay.release)
        end_of_silence.start()
        echo = channel.unary_unary("/test.Echo/echo")
        if answered:
            assert rpc.insist(echo, b"here", 2) == b"here"
        else:
            with pytest.raises(grpc.RpcError):
                rpc.insist(echo, b"here", 2)
        end_of_silence.cancel()


def test_a_call_to_a_port_where_no_process_listens_fails_at_once():
    began = time.monotonic()
    with rpc.open_channel(f"127.0.0.1:{free_port()}") as channel, pytest.raises(grpc.RpcError):
        rpc.insist(channel.unary_unary("/test.Echo/echo"), b"here", 20)
    assert time.monotonic() - began < 10


# --- Addresses ---

LISTENERS = ["lab04_grpc/server.py", "lab05_chord/Registry.py", "lab06_raft/server.py"]


@pytest.fixture
def two_localhosts(network, tmp_path):
    """(a host, the interpreter of scripts there): localhost is ::1 and 127.0.0.1."""
    host = network.host()
    names = tmp_path / "hosts"
    names.write_text("127.0.0.1 localhost\n::1 localhost\n")
    mount = f'mount --bind {names} /etc/hosts && exec "$0" "$@"'
    return host, (*host.enter, "unshare", "--mount", "sh", "-c", mount, sys.executable)


def listen_on_localhost(spawn, labs, tmp_path, script, interpreter):
    """Start a script that is to listen on localhost:5555."""
    config = tmp_path / "config.conf"
    config.write_text(f"0 localhost {PORT}\n")
    arguments = {
        "lab04_grpc/server.py": [PORT, "--host", "localhost"],
        "lab05_chord/Registry.py": [f"localhost:{PORT}", 5],
        "lab06_raft/server.py": [0, "--config", config],
    }[script]
    return spawn(script, *arguments, interpreter=interpreter)


@pytest.mark.parametrize("script", LISTENERS)
@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
def test_one_address_of_two_is_a_taken_port(two_localhosts, spawn, labs, tmp_path, script, taken):
    host, interpreter = two_localhosts
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with host.call(lambda: socket.create_server((taken, PORT), family=family)):
        server = listen_on_localhost(spawn, labs, tmp_path, script, interpreter)
        assert server.wait() == 1
    name = script.rpartition("/")[2]
    problem = f"{name}: cannot listen on localhost:{PORT}: Address already in use"
    assert server.err.startswith(problem) and server.err.count("\n") == 1
    assert server.out == ""


@pytest.mark.parametrize("script", LISTENERS)
def test_a_server_on_localhost_listens_on_all_its_addresses(
    two_localhosts, spawn, labs, tmp_path, script
):
    host, interpreter = two_localhosts
    listen_on_localhost(spawn, labs, tmp_path, script, interpreter).port()
    for address in ("127.0.0.1", "::1"):
        host.call(lambda a=address: socket.create_connection((a, PORT), timeout=20)).close()


def test_an_address_that_this_machine_lacks_is_no_obstacle(two_localhosts, spawn):
    host, interpreter = two_localhosts
    off = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
    host.call(lambda: off.write_text("1"))
    spawn(SERVER, PORT, "--host", "localhost", interpreter=interpreter).port()
    client = spawn(CLIENT, f"localhost:{PORT}", interpreter=interpreter)
    client.send("reverse abc")
    client.expect("cba")
