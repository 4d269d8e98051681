"""Lab 1's server among bad clients and at its limits: refusals, garbage, memory, descriptors."""

import contextlib
import random

from tests.lab01.peers import CLIENT, CONTENT, SERVER, RawClient, unfinished
from tests.support.harness import ROOT, load, wait_until
from tests.support.patches import FEW_DESCRIPTORS
from tests.support.processes import resident


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


def test_a_low_limit_of_file_descriptors_refuses_no_session(spawn_after, tmp_path):
    options = ["--dir", tmp_path, "--buf-size", 1000]
    port = spawn_after(FEW_DESCRIPTORS, SERVER, 0, *options).port()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(port)) for _ in range(60)]

        def all_are_open():
            for client in clients:
                client.sock.send(b"s | 0 | x | 1")  # again, if it was lost
            return len(unfinished(tmp_path)) == 60

        wait_until(all_are_open)
