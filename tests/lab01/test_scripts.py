"""Lab 1's server, and whole uploads: the assignment's behaviour first, then what ours promise."""

import contextlib
import os
import random
import re
import signal
import socket
import sys
import time

import pytest

from tests.lab01.peers import CLIENT, SERVER, RawClient, saved, unfinished
from tests.support.harness import LOSSY, ROOT, free_port, load, resident, wait_until
from tests.support.relays import UP, UdpRelay

CONTENT = random.Random(1).randbytes(300_000)


@pytest.fixture
def port(spawn, tmp_path):
    """The port of a server that stores into tmp_path."""
    port = free_port(socket.SOCK_DGRAM)
    spawn(SERVER, port, cwd=tmp_path)
    return port


# --- The assignment: the server ---


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
        ends = time.monotonic() + 3.7
        wait_until(lambda: time.monotonic() > ends)
        client.ask(b"d | 2 | cd", timeout=0.5)
    assert not (tmp_path / "a").exists()
    assert not unfinished(tmp_path)


def test_a_session_that_pauses_for_less_than_three_seconds_goes_on(port, tmp_path):
    with RawClient(port) as client:
        client.start(b"a", 4)
        client.ask(b"d | 1 | ab")
        ends = time.monotonic() + 2.5
        wait_until(lambda: time.monotonic() > ends)
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


# --- Ours: the server ---


@pytest.fixture
def server(spawn, tmp_path):
    """A server that stores into tmp_path and offers a buf_size of 1000."""
    return spawn(SERVER, 0, "--dir", tmp_path, "--buf-size", 1000)


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


def test_the_file_appears_only_when_it_is_complete(server, tmp_path):
    with RawClient(server.port()) as client:
        client.start(b"a", 4)
        client.ask(b"d | 1 | ab")
        assert not (tmp_path / "a").exists() and len(unfinished(tmp_path)) == 1
        client.ask(b"d | 2 | cd")
        assert (tmp_path / "a").read_bytes() == b"abcd" and not unfinished(tmp_path)


def test_the_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    module = load(ROOT / "lab01_udp/files.py")
    done, saved = [], []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*args, name=name, real=real, **options):
            done.append(name)
            return real(*args, **options)

        monkeypatch.setattr(os, name, noted)
    upload = module.Folder(tmp_path, lambda *file: saved.append(file)).create("a", 5 << 20)
    for _ in range(5):
        upload.write(bytes(1 << 20))
    assert set(done) == {"fsync"}  # so that little is left to do before the last ack
    assert not saved
    done.clear()
    upload.save()
    assert done == ["fsync", "replace", "fsync"]  # the file, its name, the folder it is in
    assert saved == [("a", 5 << 20)]


def test_a_saved_file_replaces_an_older_one_and_has_ordinary_permissions(server, tmp_path):
    (tmp_path / "a").write_bytes(b"older and longer")
    with RawClient(server.port()) as client:
        client.start(b"a", 2)
        client.ask(b"d | 1 | ab")
    assert (tmp_path / "a").read_bytes() == b"ab"
    (tmp_path / "reference").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "reference").stat().st_mode


@pytest.mark.parametrize("after", [0.0, 0.002, 0.01, 0.03, 0.1])
def test_kill_at_any_moment_leaves_no_file_or_the_whole_file(spawn, tmp_path, after):
    (tmp_path / "source").write_bytes(CONTENT * 10)
    folder = tmp_path / "there"
    folder.mkdir()
    server = spawn(SERVER, 0, "--dir", folder)
    client = spawn(CLIENT, f"127.0.0.1:{server.port()}", "source", "copy", cwd=tmp_path)
    wait_until(lambda: unfinished(folder) or (folder / "copy").exists())
    ends = time.monotonic() + after
    wait_until(lambda: time.monotonic() >= ends)
    server.kill()
    status = client.wait()
    assert saved(folder / "copy") in (None, CONTENT * 10)
    assert status == 1 or (folder / "copy").exists(), "acknowledged but not saved"
    spawn(SERVER, 0, "--dir", folder).port()
    assert not unfinished(folder)


def test_a_second_server_in_the_folder_leaves_the_firsts_unfinished_files_alone(
    server, spawn, tmp_path
):
    with RawClient(server.port()) as client:
        client.start(b"a", 4)
        client.ask(b"d | 1 | ab")
        spawn(SERVER, 0, "--dir", tmp_path).port()
        assert client.ask(b"d | 2 | cd") == b"a | 3"
    assert (tmp_path / "a").read_bytes() == b"abcd"


def test_ctrl_c_in_mid_transfer_removes_what_is_unfinished(server, tmp_path):
    with RawClient(server.port()) as client:
        client.start(b"a", 4)
        client.ask(b"d | 1 | ab")
        server.interrupt()
        assert server.wait(5) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_gets_a_log_line_and_no_ack(server, tmp_path):
    (tmp_path / "folder").mkdir()
    with RawClient(server.port()) as client:
        for message, reason in [
            (b"s | 0 | ../a | 5", "not a plain file name"),
            (b"s | 0 | a | -5", "not a number"),
            (b"\xff\xfe", "neither a start nor a data message"),
            (b"d | 1 | abc", "without a session"),
            (b"s | 0 | folder | 5", "folder: Is a directory"),
            (b"s | 0 | .upload-x | 5", "reserved"),
            (b"s | 0 | big | 99999999999999999", "No space left"),
        ]:
            assert client.is_refused(message, server, reason)
        client.start(b"good", 1)
        assert client.ask(b"d | 1 | x") == b"a | 2"


def test_a_client_that_cannot_be_answered_does_not_stop_the_server():
    module = load(ROOT / "lab01_udp/server.py")
    datagrams = [(b"s | 0 | a | 3", ("one", 1), b""), (b"s | 0 | b | 3", ("two", 2), b"")]
    sent = []

    class Endpoint:
        def receive(self, size):
            return datagrams.pop(0)

        def send(self, datagram, client, asked):
            if client == ("one", 1):
                raise OSError(22, "Invalid argument")
            sent.append((datagram, client))

    receiver = module.Receiver(lambda name, size: None, lambda address: 1000)
    module.serve(Endpoint(), receiver, lambda: not datagrams)
    assert sent == [(b"a | 1 | 1000", ("two", 2))]


def test_a_folder_that_is_renamed_in_mid_transfer_gets_its_files_all_the_same(spawn, tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    server = spawn(SERVER, 0, "--dir", folder)
    with RawClient(server.port()) as client:
        client.start(b"a", 2)
        folder.rename(tmp_path / "moved")
        folder.write_text("another")
        assert client.ask(b"d | 1 | ab") == b"a | 2"
    assert (tmp_path / "moved/a").read_bytes() == b"ab" and folder.read_text() == "another"


def test_a_folder_that_is_removed_in_mid_transfer_stops_no_server(spawn, tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    server = spawn(SERVER, 0, "--dir", folder)
    with RawClient(server.port()) as client:
        client.start(b"a", 4)
        (folder / unfinished(folder)[0]).unlink()
        folder.rmdir()
        server.expect_err("a: abandoned, the client is silent")
        assert client.is_refused(b"s | 0 | b | 4", server, "b: No such file or directory")


def test_a_current_directory_that_is_gone_is_a_refusal_and_no_traceback(spawn, tmp_path):
    (tmp_path / "start.py").write_text(
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); "
        "os.execv(sys.executable, sys.argv[1:])"
    )
    server = spawn(tmp_path / "start.py", sys.executable, ROOT / SERVER, 0, cwd=tmp_path)
    with RawClient(server.port()) as client:
        assert client.ask(b"s | 0 | a | 4", timeout=0.1) is None
        server.expect_err("refused: a: No such file or directory")


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


def test_garbage_neither_stops_the_server_nor_stays_in_its_memory(server, tmp_path):
    port = server.port()
    garbage = random.Random(3)
    with RawClient(port) as client:
        client.start(b"warm", 0)
        before = resident(server.pid)
        for _ in range(40):
            for _ in range(500):
                head = garbage.choice([b"", b"s | 0 | ", b"d | ", b"s|", b"a | 1", b"s | 0 | x | "])
                with contextlib.suppress(ConnectionRefusedError):
                    client.sock.send(head + garbage.randbytes(garbage.randrange(80)))
            client.start(b"good", 0)  # it keeps up
        assert resident(server.pid) - before < 8 << 20
    assert {path.name for path in tmp_path.iterdir()} == {"warm", "good"}


def test_a_log_without_a_reader_does_not_stop_the_server(spawn, tmp_path):
    with RawClient(spawn(SERVER, 0, "--dir", tmp_path, deaf=True).port()) as client:
        for _ in range(3000):
            client.sock.send(b"x" * 60)
        client.start(b"good", 0)


def test_memory_does_not_grow_with_the_file(spawn, tmp_path):
    (tmp_path / "source").write_bytes(CONTENT * 300)  # 90 MB
    server = spawn(SERVER, 0, "--dir", tmp_path)
    target = f"127.0.0.1:{server.port()}"
    assert spawn(CLIENT, target, "source", "first", cwd=tmp_path).wait(120) == 0
    before = resident(server.pid)
    client = spawn(CLIENT, target, "source", "copy", cwd=tmp_path)
    peak = 0
    while client.running:
        with contextlib.suppress(OSError, ValueError):
            peak = max(peak, resident(client.pid))
    assert client.wait() == 0
    assert resident(server.pid) - before < 4 << 20
    assert peak < 40 << 20


def test_sessions_that_only_open_do_not_keep_an_honest_upload_out(server, spawn, tmp_path):
    port = server.port()
    (tmp_path / "source").write_bytes(CONTENT)
    with contextlib.ExitStack() as stack:
        for k in range(1500):
            client = stack.enter_context(RawClient(port))
            client.sock.send(b"s | 0 | x%d | 5" % k)
        wait_until(lambda: len(unfinished(tmp_path)) == 500)  # and no more
        honest = spawn(CLIENT, f"127.0.0.1:{port}", "source", "copy", cwd=tmp_path)
        assert honest.wait() == 0
    assert (tmp_path / "copy").read_bytes() == CONTENT


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_a_file_and_its_session_leaves_no_file(spawn, tmp_path, signum):
    """Two signals even: from within the call that makes the temporary file, and after it."""
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import os
open_ = os.open
def interrupted(name, flags, *args, **options):
    fd = open_(name, flags, *args, **options)
    if flags & os.O_CREAT:
        os.kill(os.getpid(), {signum:d})
    return fd
os.open = interrupted
"""
    )
    folder = tmp_path / "there"
    folder.mkdir()
    server = spawn(SERVER, 0, "--dir", folder, env={"PYTHONPATH": str(tmp_path)})
    with RawClient(server.port()) as client:
        client.ask(b"s | 0 | a | 4")
        server.signal(signum)
        assert server.wait(5) == 0
    assert server.err == "" and list(folder.iterdir()) == []


def test_a_full_disk_fails_the_upload_and_leaves_nothing(server, tmp_path):
    import resource

    port = server.port()
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    with RawClient(port) as client:
        client.start(b"big", 200_000)
        acks = iter(lambda: client.ask(b"d | %d | " % next(seqnos) + bytes(900), 3.0), None)
        seqnos = iter(range(1, 223))
        assert 50 < len(list(acks)) < 150
        server.expect_err("refused: big: File too large")
        assert not unfinished(tmp_path) and not (tmp_path / "big").exists()
        client.start(b"small", 900)
        assert client.ask(b"d | 1 | " + bytes(900)) == b"a | 2"


def test_what_is_in_the_way_of_a_name_is_replaced_and_a_folder_refused(server, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "link").symlink_to(outside)
    os.mkfifo(tmp_path / "pipe")
    with RawClient(server.port()) as client:
        for name in (b"link", b"pipe"):
            client.start(name, 2)
            assert client.ask(b"d | 1 | ab") == b"a | 2"
    assert outside.read_text() == "mine"
    assert [(tmp_path / name).read_bytes() for name in ("link", "pipe")] == [b"ab", b"ab"]
    assert not (tmp_path / "link").is_symlink()


def test_a_pipe_with_the_name_of_an_unfinished_file_does_not_stop_the_start(spawn, tmp_path):
    os.mkfifo(tmp_path / ".upload-pipe")
    spawn(SERVER, 0, "--dir", tmp_path).port()
    assert unfinished(tmp_path) == [".upload-pipe"]


def test_names_of_any_printable_characters_arrive(server, spawn, tmp_path):
    (tmp_path / "source").write_bytes(b"abc")
    target = f"127.0.0.1:{server.port()}"
    names = ["a | b", " | ", "|", " ", "-rf", "%s $HOME `ls` 'quoted\"", "...", "n" * 255]
    clients = [spawn(CLIENT, target, "--", "source", name, cwd=tmp_path) for name in names]
    assert [client.wait() for client in clients] == [0] * len(names)
    assert [(tmp_path / name).read_bytes() for name in names] == [b"abc"] * len(names)


def test_a_server_that_is_stopped_and_continued_goes_on(server, tmp_path):
    with RawClient(server.port()) as client:
        client.start(b"a", 4)
        server.pause()
        assert client.ask(b"d | 1 | ab", timeout=0.3) is None
        server.resume()
        wait_until(lambda: client.ask(b"d | 2 | cd") == b"a | 3")  # perhaps after another a | 2


def test_a_low_limit_of_file_descriptors_refuses_no_session(spawn, tmp_path):
    """macOS starts programs with 256."""
    (tmp_path / "start.py").write_text(
        "import os, resource, sys; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, 1000)); "
        "os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, ROOT / SERVER, 0, "--dir", tmp_path, "--buf-size", 1000]
    port = spawn(tmp_path / "start.py", *command).port()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(port)) for _ in range(60)]

        def all_are_open():
            for client in clients:
                client.sock.send(b"s | 0 | x | 1")  # again, if it was lost
            return len(unfinished(tmp_path)) == 60

        wait_until(all_are_open)


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
