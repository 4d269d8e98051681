"""Addresses at every script: ports that are taken, hosts that are not there, and their form."""

import argparse
import re
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.all_labs.scripts import SERVERS
from tests.support.harness import ROOT, load


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_taken_port_is_one_line_naming_it_and_exit_1(spawn, script, arguments):
    kind = socket.SOCK_DGRAM if "udp" in script else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        port = holder.getsockname()[1]
        process = spawn(script, port, *arguments[1:])
        assert process.wait() == 1
    assert process.out == ""
    assert process.err.count("\n") == 1 and f"127.0.0.1:{port}" in process.err


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_second_server_on_the_same_port_is_an_error(spawn, script, arguments):
    first = spawn(script, *arguments)
    port = first.port()
    second = spawn(script, port, *arguments[1:])
    assert second.wait() == 1
    assert second.err.count("\n") == 1
    assert first.running


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_server_told_only_a_port_listens_on_loopback_and_host_opens_it(spawn, script, arguments):
    assert "127.0.0.1:" in spawn(script, *arguments).expect("^Listening on .*$")[0]
    assert "0.0.0.0:" in spawn(script, *arguments, "--host", "0.0.0.0").expect("^Listening .*$")[0]


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_ipv6_works_when_asked_for(spawn, script, arguments):
    assert "[::1]:" in spawn(script, *arguments, "--host", "::1").expect("^Listening .*$")[0]


NO_HOSTS = ["no-such-host.invalid", "no..name"]


@pytest.mark.parametrize("script, arguments", SERVERS)
@pytest.mark.parametrize("host", NO_HOSTS)
def test_a_host_that_does_not_exist_is_one_line_and_exit_1(spawn, script, arguments, host):
    process = spawn(script, *arguments, "--host", host)
    assert process.wait() == 1
    assert process.err.count("\n") == 1


@pytest.mark.parametrize(
    "script, more",
    [("lab01_udp/client.py", ["/dev/null", "name"]), ("lab02_tcp_threads/client.py", [])],
)
@pytest.mark.parametrize("host", NO_HOSTS)
def test_a_server_name_that_does_not_resolve_is_one_line(spawn, script, more, tmp_path, host):
    (tmp_path / "file").touch()
    more = [str(tmp_path / "file"), *more[1:]] if more else []
    process = spawn(script, f"{host}:5555", *more)
    assert process.wait() == 1
    assert process.err.count("\n") == 1 and host in process.err


@pytest.mark.parametrize(
    "text, expected",
    [
        ("127.0.0.1:5555", ("127.0.0.1", 5555)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(text, expected):
    assert load(ROOT / "lab01_udp/cli.py").parse_address(text) == expected


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(st.text(st.sampled_from("a.:[]1-\0 é\udcff"), max_size=8), st.integers(-1, 70_000))
def test_any_address_is_read_or_refused(host, port):
    parse = load(ROOT / "lab01_udp/cli.py").parse_address
    for text in (host, f"{host}:{port}", f"[{host}]:{port}"):
        try:
            found, number = parse(text)
        except argparse.ArgumentTypeError:
            continue
        assert found in text and text.endswith(f":{number}") and 0 <= number <= 65535
    if re.fullmatch("[a.1-]+", host) and 0 <= port <= 65535:
        assert parse(f"{host}:{port}") == (host, port)
