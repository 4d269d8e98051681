"""Lab 1's client: the assignment's behaviour first, then what ours promises beyond."""

import contextlib
import os
import re
import signal
import socket
import time

import pytest

from tests.lab01.peers import CLIENT, SERVER, RawServer
from tests.support.harness import LOSSY, ROOT, load, wait_until
from tests.support.ports import free_port


@pytest.fixture
def raw_server():
    with RawServer() as server:
        yield server


@pytest.fixture
def upload(spawn, raw_server, tmp_path):
    """Start clients that send a file "a" to raw_server, which has their start message already."""

    def start(content, **options):
        (tmp_path / "a").write_bytes(content)
        client = spawn(CLIENT, f"127.0.0.1:{raw_server.port}", "a", "a", cwd=tmp_path, **options)
        assert raw_server.receive() == b"s | 0 | a | %d" % len(content)
        return client

    return start


# --- The assignment: the client ---


def test_the_client_sends_start_and_then_data_one_by_one(raw_server, spawn, tmp_path):
    (tmp_path / "local.bin").write_bytes(b"0123456789" * 3)
    client = spawn(CLIENT, f"localhost:{raw_server.port}", "local.bin", "remote.bin", cwd=tmp_path)
    assert raw_server.receive() == b"s | 0 | remote.bin | 30"
    raw_server.answer(b"a | 1 | 28")
    assert raw_server.receive() == b"d | 1 | 01234567890123456789"
    raw_server.answer(b"a | 2")
    assert raw_server.receive() == b"d | 2 | 0123456789"
    raw_server.answer(b"a | 3")
    assert raw_server.end(client) == 0


def test_the_client_gives_up_after_six_datagrams_in_three_seconds(raw_server, spawn, tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    client = spawn(CLIENT, f"127.0.0.1:{raw_server.port}", "a", "a", cwd=tmp_path)
    first = raw_server.receive()
    begun = time.monotonic()
    received = [first, *raw_server.collect(client)]
    assert client.wait() != 0
    assert 2.0 < time.monotonic() - begun < 5.0  # 3 s, if neither is late
    assert received == [b"s | 0 | a | 3"] * (len(received) if LOSSY else 6)


def test_a_lost_data_message_is_sent_again(raw_server, upload):
    client = upload(b"abc")
    raw_server.answer(b"a | 1 | 1024")
    assert [raw_server.receive() for _ in range(3)] == [b"d | 1 | abc"] * 3
    raw_server.answer(b"a | 2")
    assert raw_server.end(client) == 0


# --- Ours: the client ---


def test_the_client_reads_acks_without_blanks(raw_server, upload):
    client = upload(b"abc")
    raw_server.answer(b"a|1|1024")
    assert raw_server.receive() == b"d | 1 | abc"
    raw_server.answer(b"a|2")
    assert raw_server.end(client) == 0


def test_only_the_awaited_ack_from_the_servers_own_address_advances_the_client(raw_server, upload):
    client = upload(b"abcdef")
    with RawServer() as stranger:
        stranger.sock.sendto(b"a | 1 | 1024", raw_server.client)
        raw_server.send(b"a | 2 | 1024")
        raw_server.send(b"nonsense")
        assert raw_server.receive() == b"s | 0 | a | 6"  # only the time-out brings it again
        raw_server.answer(b"a | 1 | 11")
        assert raw_server.receive() == b"d | 1 | abc"
        for _ in range(5):
            raw_server.send(b"a | 1 | 11")
            stranger.sock.sendto(b"a | 2", raw_server.client)
        raw_server.answer(b"a | 2")
        assert raw_server.receive() == b"d | 2 | def"
        raw_server.answer(b"a | 3")
        assert raw_server.end(client) == 0
    assert client.err == ""  # no progress without a terminal, however long it takes


def test_a_report_of_an_earlier_loss_costs_no_datagram(monkeypatch):
    """On a connected socket it comes in place of the next call, which then has sent nothing."""
    module = load(ROOT / "lab01_udp/client.py")
    calls = []

    class Socket(socket.socket):
        def send(self, message):
            calls.append(message)
            if len(calls) == 1:
                raise ConnectionRefusedError

    monkeypatch.setattr(module.socket, "socket", Socket)
    with contextlib.closing(module.Wire("127.0.0.1", 9)) as wire:
        wire.send(b"message")
    assert calls == [b"message"] * 2


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "été", "a\nb", "n" * 256])
def test_a_name_that_no_server_takes_is_one_line_before_anything_is_sent(
    raw_server, spawn, tmp_path, name
):
    (tmp_path / "a").write_bytes(b"abc")
    client = spawn(CLIENT, f"127.0.0.1:{raw_server.port}", "a", name, cwd=tmp_path)
    assert client.wait() == 2
    assert client.err.count("\n") == 1 and "file name" in client.err
    raw_server.sock.settimeout(0)
    with pytest.raises(BlockingIOError):
        raw_server.receive()


def test_stale_acks_do_not_put_off_the_retransmission(raw_server, upload):
    client = upload(b"abc")
    raw_server.sock.settimeout(0.1)
    begun, datagrams = time.monotonic(), 1
    while client.running:
        raw_server.send(b"a | 77")
        with contextlib.suppress(TimeoutError):
            raw_server.receive()
            datagrams += 1
        assert time.monotonic() - begun < 10
    assert client.wait() == 1 and (LOSSY or datagrams == 6)


def test_no_server_is_one_clear_line_after_three_seconds(spawn, tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    begun = time.monotonic()
    port = free_port(socket.SOCK_DGRAM)
    client = spawn(CLIENT, f"127.0.0.1:{port}", "a", "a", cwd=tmp_path)
    assert client.wait() == 1
    assert time.monotonic() - begun > 2.9
    assert client.err.count("\n") == 1 and "malfunctioning" in client.err
    assert client.out == ""


def test_a_server_that_starts_late_is_still_found(spawn, tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    port = free_port(socket.SOCK_DGRAM)
    with RawServer(port) as silent:
        client = spawn(CLIENT, f"127.0.0.1:{port}", "a", "b", cwd=tmp_path)
        silent.receive()
    spawn(SERVER, port, cwd=tmp_path)
    assert client.wait() == 0
    assert (tmp_path / "b").read_bytes() == b"abc"


def test_a_trouble_that_is_over_is_not_reported():
    port = free_port(socket.SOCK_DGRAM)
    with contextlib.closing(load(ROOT / CLIENT).Wire("127.0.0.1", port)) as wire:

        def refused():
            wire.send(b"message")
            wire.receive(lambda now: 0.1)
            return wire.trouble == "Connection refused"

        wait_until(refused)
        with RawServer(port) as server:
            wire.send(b"message")
            server.receive()
            server.send(b"a | 1")
            wait_until(lambda: wire.receive(lambda now: 0.1))
            assert wire.trouble == ""


def test_a_server_killed_in_mid_transfer_is_one_clear_line(raw_server, upload):
    client = upload(b"abcdef")
    raw_server.answer(b"a | 1 | 10")
    raw_server.receive()
    raw_server.close()
    assert client.wait() == 1
    assert client.err.count("\n") == 1 and "malfunctioning" in client.err


@pytest.mark.parametrize("path", ["missing", "folder", "fifo", "/dev/zero"])
def test_a_file_that_cannot_be_sent_is_one_line_before_anything_is_sent(
    raw_server, spawn, tmp_path, path
):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    client = spawn(CLIENT, f"127.0.0.1:{raw_server.port}", path, "name", cwd=tmp_path)
    assert client.wait() == 2
    assert client.err.count("\n") == 1 and path in client.err
    raw_server.sock.settimeout(0)
    with pytest.raises(BlockingIOError):
        raw_server.receive()


def test_a_buf_size_too_small_is_one_line(raw_server, upload):
    client = upload(b"abc")
    raw_server.answer(b"a | 1 | 8")
    assert raw_server.end(client) == 1
    assert client.err == "client.py: the server's buf_size of 8 is too small for data\n"


def test_a_file_that_shrinks_is_one_line(raw_server, upload, tmp_path):
    client = upload(b"x" * 10_000)
    (tmp_path / "a").write_bytes(b"")
    raw_server.answer(b"a | 1 | 100")
    assert raw_server.end(client) == 1
    assert client.err == "client.py: the file has shrunk while it was sent\n"


@pytest.mark.parametrize("change", ["grows", "goes", "is replaced"])
def test_a_file_that_changes_arrives_as_it_was_when_it_was_opened(spawn, tmp_path, change):
    path = tmp_path / "a"
    path.write_bytes(b"abcdef")
    with RawServer() as server:
        client = spawn(CLIENT, f"127.0.0.1:{server.port}", "a", "a", cwd=tmp_path)
        assert server.receive() == b"s | 0 | a | 6"
        if change == "grows":
            path.write_bytes(b"abcdefghi")
        else:
            path.unlink()
        if change == "is replaced":
            path.write_bytes(b"another")
        server.answer(b"a | 1 | 100")
        assert server.receive() == b"d | 1 | abcdef"
        server.answer(b"a | 2")
        assert server.end(client) == 0


def test_a_client_that_is_stopped_and_continued_goes_on(spawn, tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    with RawServer() as server:
        client = spawn(CLIENT, f"127.0.0.1:{server.port}", "a", "a", cwd=tmp_path)
        server.receive()
        client.pause()
        server.answer(b"a | 1 | 100")
        server.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.receive()
        server.sock.settimeout(20)
        client.resume()
        while server.receive() != b"d | 1 | abc":
            pass  # the start message again, if it was late
        server.answer(b"a | 2")
        assert server.end(client) == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_client_with_130_and_one_line(upload, signum):
    client = upload(b"abcdef")
    client.signal(signum)
    assert client.wait(5) == 130
    assert client.err == "client.py: interrupted, the file is not sent\n"


def test_ctrl_c_on_a_terminal_leaves_the_reason_on_a_line_of_its_own(upload):
    client = upload(b"abcdef", tty=True)
    client.write("\x03")
    assert client.wait(5) == 130
    assert "client.py: interrupted, the file is not sent" in client.out.splitlines()


def test_progress_is_shown_on_a_terminal_only(raw_server, upload):
    client = upload(b"x" * 4000, tty=True)
    raw_server.answer(b"a | 1 | 1008")
    for k in range(2, 5):
        raw_server.receive()
        if k == 3:
            raw_server.receive()  # sent again: half a second has passed
        raw_server.answer(b"a | %d" % k)
    client.expect(r"\d+ %  \d+/4000 bytes  [\d.]+ MB/s  \d+ s left")
    raw_server.receive()
    raw_server.answer(b"a | 5")
    assert raw_server.end(client) == 0
    assert re.search("Sent a: 4000 bytes in .* [1-9] retransmissions", client.out)
