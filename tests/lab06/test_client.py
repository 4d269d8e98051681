"""Lab 6's client, line by line, and the configuration that client and servers read."""

import contextlib
import io
import re
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab06.cluster import CLIENT, messages, rpc
from tests.support.harness import ROOT, load, wait_until
from tests.support.ports import listens

read_config = load(ROOT / "lab06_raft/config.py").read_config


def test_the_client_answers_every_line_with_one(spawn):
    client = spawn(CLIENT)
    client.write("\n  \nfoo\nhelp\ngetleader\nconnect\nconnect x y\nsuspend\nsuspend -1\n")
    client.write("setval a\ngetval\nconnect 127.0.0.1 0x1\n\udcff\n")
    client.close_stdin()
    assert client.wait() == 0
    commands = "commands: connect ADDRESS PORT, getleader, suspend SECONDS, "
    commands += "setval KEY VALUE, getval KEY, help, exit"
    assert client.lines == [
        "The client starts",
        f"Unknown command: foo; {commands}",
        commands,
        "Not connected: connect ADDRESS PORT comes first",
        "usage: connect ADDRESS PORT",
        "usage: connect ADDRESS PORT",
        "usage: suspend SECONDS",
        "usage: suspend SECONDS",
        "usage: setval KEY VALUE",
        "usage: getval KEY",
        "usage: connect ADDRESS PORT",
        f"Unknown command: \N{REPLACEMENT CHARACTER}; {commands}",
        "The client ends",
    ]
    assert client.err == ""


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_ctrl_c_and_ctrl_d_end_the_client_on_a_terminal(key, spawn):
    client = spawn(CLIENT, tty=True)
    client.expect("> ")

    # readline misses a Ctrl-C in the very moment in which it begins to wait. A second one that
    # comes at once would take the last line with it: the terminal drops what is not read yet.
    def has_ended():
        with contextlib.suppress(OSError):
            client.write(key)
        return client.out_stream.expect("\nThe client ends\n", 5.0, whole_lines=False)

    wait_until(has_ended, "the end of the client")
    assert client.wait() == 0


def test_sigterm_ends_client_and_server(spawn, start):
    client, server = spawn(CLIENT), start(1).servers[0]
    client.expect("starts")
    server.expect("starts")
    for script in (client, server):
        script.signal(signal.SIGTERM)
        assert (script.wait(), script.err) == (0, "")


def test_no_leader_is_known_before_the_first_election(spawn, start):
    cluster = start(2)
    cluster.servers[1].kill()
    wait_until(lambda: listens(cluster.ports[0]))
    client = spawn(CLIENT)
    client.send(f"connect 127.0.0.1 {cluster.ports[0]}")

    def answer(line: str) -> str:
        client.send(line)
        return client.expect(r"^(False|No leader is known|0 127\.0\.0\.1:\d+|.* is unavailable)$")[
            1
        ]

    wait_until(lambda: answer("setval a 1") == "False", "an answer")
    known = f"0 127.0.0.1:{cluster.ports[0]}"
    wait_until(lambda: answer("getleader") in ("No leader is known", known), "an answer")


@given(st.binary(max_size=60) | st.text(alphabet="01 .:#[]a\n\r\t\ufeff", max_size=60))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_configuration_is_read_or_the_bad_line_named(content):
    data = content if isinstance(content, bytes) else content.encode()
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        try:
            members = read_config(Path(file.name))
        except ValueError as error:
            assert re.match(rf"{file.name}:\d+: ", str(error))
        else:
            assert all(id >= 0 and 0 <= port < 2**16 for id, (_, port) in members.items())


@pytest.mark.parametrize(
    "written", ["0 h 1\r\n1\th\t2\r\n", "\ufeff0 h 1\n1 h 2", "0 [h] 1\n\n1 h 2 # x"]
)
def test_a_configuration_may_come_from_any_editor(written, tmp_path):
    (tmp_path / "c").write_bytes(written.encode())
    assert read_config(tmp_path / "c") == {0: ("h", 1), 1: ("h", 2)}


@given(
    st.text(max_size=30)
    | st.sampled_from(["connect", "suspend", "setval", "getval"]).flatmap(
        lambda word: st.text(max_size=20).map(lambda rest: f"{word} {rest}")
    )
)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_the_client_survives_every_line(line):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        shell = load(ROOT / "lab06_raft/client.py").Client(terminal=False)
        shell.call = lambda *request: shell.target  # as if there were no answer
        shell.obey(line)
        assert len(out.getvalue().splitlines()) <= 1


class Unavailable(rpc.grpc.RpcError):
    def code(self):
        return rpc.grpc.StatusCode.UNAVAILABLE


def connected(failures):
    """Return our client, and the list of its calls; the first of them fail."""
    client, requests = load(ROOT / "lab06_raft/client.py").Client(terminal=False), []

    def attempt(method, request, deadline):
        requests.append(request)
        if len(requests) <= failures:
            raise Unavailable
        return messages.SetValReply(success=True)

    client.target, client.attempt = "127.0.0.1:1", attempt
    return client, requests


def test_a_retry_carries_the_number_of_its_command_and_the_next_command_another_one(capsys):
    client, requests = connected(failures=1)
    client.obey("setval a 1")
    client.obey("setval a 2")
    assert capsys.readouterr().out == "True\nTrue\n"
    first, again, second = requests
    assert (first, first.sequence, second.sequence) == (again, 1, 2)
    assert 0 < first.client_id == second.client_id


def test_a_call_whose_connection_broke_is_made_once_more_and_not_without_end(capsys):
    client, requests = connected(failures=2)
    client.obey("setval a 1")
    assert capsys.readouterr().out == "The server 127.0.0.1:1 is unavailable\n"
    assert len(requests) == 2
