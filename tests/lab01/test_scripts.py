"""Lab 1's server, and whole uploads: the assignment's behaviour first, then what ours promise."""

import contextlib
import re
import socket

import pytest

from tests.lab01.peers import CLIENT, CONTENT, SERVER, RawClient, saved, unfinished
from tests.support.harness import LOSSY, ROOT, load, pass_time, wait_until
from tests.support.ports import free_port
from tests.support.relays import UP, UdpRelay


@pytest.fixture
def port(spawn, tmp_path):
    """The port of a server that stores into tmp_path."""
    port = free_port(socket.SOCK_DGRAM)
    spawn(SERVER, port, cwd=tmp_path)
    return port


def test_a_file_arrives_in_the_servers_current_directory(port, tmp_path):
    with RawClient(port) as client:
        client.start(b"hello.txt", 11)
        assert client.ask(b"d | 1 | hello ") == b"a | 2"
        assert client.ask(b"d | 2 | world") == b"a | 3"
    assert wait_until(lambda: saved(tmp_path / "hello.txt")) == b"hello world"


def test_numbering_goes_on_from_seqno0(port, tmp_path):
    with RawClient(port) as client:
        client.start(b"a", 2, seqno0=41)
        assert client.ask(b"d | 42 | x") == b"a | 43"
        assert client.ask(b"d | 43 | y") == b"a | 44"
    assert wait_until(lambda: saved(tmp_path / "a")) == b"xy"


def test_duplicates_are_acked_and_not_appended(port, tmp_path):
    with RawClient(port) as client:
        buf_size = client.start(b"a", 4)
        assert client.ask(b"s | 0 | a | 4") == b"a | 1 | %d" % buf_size
        assert client.ask(b"d | 1 | ab") == b"a | 2"
        assert client.ask(b"d | 1 | ab") == b"a | 2"
        assert client.ask(b"s | 0 | a | 4").startswith(b"a | ")  # late; the session goes on
        assert client.ask(b"d | 2 | cd") == b"a | 3"
        assert client.ask(b"d | 2 | cd") == b"a | 3"  # within 1 s of the end
    assert wait_until(lambda: saved(tmp_path / "a")) == b"abcd"


def test_a_silent_session_is_abandoned_after_three_seconds(port, tmp_path):
    with RawClient(port) as client:
        client.start(b"a", 4)
        client.ask(b"d | 1 | ab")
        pass_time(3.7)
        client.ask(b"d | 2 | cd", timeout=0.5)
    assert not (tmp_path / "a").exists()
    assert not unfinished(tmp_path)


def test_a_session_that_pauses_for_less_than_three_seconds_goes_on(port, tmp_path):
    with RawClient(port) as client:
        client.start(b"a", 4)
        client.ask(b"d | 1 | ab")
        pass_time(2.5)
        assert client.ask(b"d | 2 | cd") == b"a | 3"


def test_clients_at_the_same_time_get_each_their_own_file(port, tmp_path):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(port)) for _ in range(5)]
        for k, client in enumerate(clients):
            client.start(b"file%d" % k, 20)
        for seqno in range(1, 11):
            for k, client in enumerate(clients):
                assert client.ask(b"d | %d | %d%d" % (seqno, k, seqno % 10)) == b"a | %d" % (
                    seqno + 1
                )
    for k in range(5):
        expected = b"".join(b"%d%d" % (k, seqno % 10) for seqno in range(1, 11))
        assert wait_until(lambda k=k: saved(tmp_path / f"file{k}")) == expected


def test_a_file_survives_a_network_that_loses_doubles_and_reorders(port, spawn, tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    with (
        RawClient(port) as probe,
        UdpRelay(port, loss=0.02, duplicate=0.1, reorder=0.2, seed=7) as relay,
    ):
        probe.start(b"probe", 0)  # the server is up
        client = spawn(CLIENT, f"127.0.0.1:{relay.port}", "source", "copy", cwd=tmp_path)
        assert client.wait(60) == 0, client.transcript()
    assert wait_until(lambda: saved(tmp_path / "copy")) == CONTENT


@pytest.mark.parametrize("size", [0, 1, 991, 992, 993, 2 * 992, 100_000])
def test_files_of_any_size_arrive(server, spawn, tmp_path, size):
    (tmp_path / "source").write_bytes(CONTENT[:size])
    client = spawn(CLIENT, f"localhost:{server.port()}", "source", "copy", cwd=tmp_path)
    assert client.wait() == 0
    assert (tmp_path / "copy").read_bytes() == CONTENT[:size]
    retransmissions = r"\d+" if LOSSY else "0"
    summary = rf"Sent copy: {size} bytes in [\d.]+ s, [\d.]+ MB/s, {retransmissions} retrans.*"
    assert re.fullmatch(summary, client.out.rstrip("\n"))
    server.expect(rf"^Saved copy: {size} bytes$")


def test_the_offer_on_loopback_is_the_largest_datagram(spawn, tmp_path):
    port = spawn(SERVER, 0, cwd=tmp_path).port()
    with RawClient(port) as client:
        assert client.start(b"a", 5) == 65507


def test_no_datagram_is_longer_than_the_buf_size_and_all_but_the_last_fill_it(
    server, spawn, tmp_path
):
    (tmp_path / "source").write_bytes(CONTENT)
    sizes = {}  # by what a message begins with, its number included

    def fate(direction, k, datagram):
        if direction == UP:
            sizes[datagram[:16]] = len(datagram)
        return [0.0]

    with UdpRelay(server.port(), fate=fate) as relay:
        client = spawn(CLIENT, f"127.0.0.1:{relay.port}", "source", "copy", cwd=tmp_path)
        assert client.wait() == 0
    _, *full, last = sizes.values()
    assert set(full) == {1000} and last <= 1000


@pytest.mark.parametrize(
    "address, level, option, mtu, offer",
    [  # the numbers are from ip(7) and ipv6(7), which Python does not name
        (("192.0.2.1", 9), socket.IPPROTO_IP, 14, 1500, 1472),
        (("192.0.2.1", 9), socket.IPPROTO_IP, 14, 9000, 8972),
        (("192.0.2.1", 9), socket.IPPROTO_IP, 14, 65536, 65507),
        (("2001:db8::1", 9, 0, 0), socket.IPPROTO_IPV6, 24, 1500, 1452),
    ],
)
def test_the_offer_is_what_the_path_carries_unfragmented(
    monkeypatch, address, level, option, mtu, offer
):
    module = load(ROOT / "lab01_udp/endpoint.py")
    asked = []

    class Probe(socket.socket):
        def connect(self, address):
            asked.append(address)

        def getsockopt(self, *what):
            assert what == (level, option)
            return mtu

    monkeypatch.setattr(module.socket, "socket", Probe)
    assert module.path_buf_size(address) == offer
    assert asked == [address]
    monkeypatch.setattr(module.sys, "platform", "somewhere else")
    assert module.path_buf_size(address) in (1472, 1452)  # not to be known there


def test_a_server_that_is_stopped_and_continued_goes_on(server, tmp_path):
    with RawClient(server.port()) as client:
        client.start(b"a", 4)
        server.pause()
        assert client.ask(b"d | 1 | ab", timeout=0.3) is None
        server.resume()
        wait_until(lambda: client.ask(b"d | 2 | cd") == b"a | 3")  # perhaps after another a | 2


def test_sixteen_uploads_at_once_are_all_identical(server, spawn, tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    target = f"127.0.0.1:{server.port()}"
    clients = [spawn(CLIENT, target, "source", f"copy{k}", cwd=tmp_path) for k in range(16)]
    assert [client.wait() for client in clients] == [0] * 16
    assert all((tmp_path / f"copy{k}").read_bytes() == CONTENT for k in range(16))


def test_ipv6_works_when_asked_for(spawn, tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    server = spawn(SERVER, 0, "--host", "::1", "--dir", tmp_path)
    port = server.port()
    assert spawn(CLIENT, f"[::1]:{port}", "source", "copy", cwd=tmp_path).wait() == 0
    assert (tmp_path / "copy").read_bytes() == CONTENT
