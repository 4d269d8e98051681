"""Lab 1's scripts with slow disks, and a server that is away for a while."""

import os
import random

import pytest

from tests.lab01.peers import CLIENT, SERVER, RawClient
from tests.support.harness import ROOT, load, pass_time

# A page cache above a disk that does so many bytes per second.
SLOW_DISK = """
import os, stat, time
on_disk = {{}}
def fsync(fd):
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        time.sleep((status.st_size - on_disk.get(status.st_ino, 0)) / {rate})
        on_disk[status.st_ino] = status.st_size
os.fsync = fsync
"""


@pytest.mark.parametrize("uploads", [1, 8])
def test_uploads_to_a_disk_of_5_mb_per_second_succeed(spawn, tmp_path, folder, patched, uploads):
    content = random.Random(2).randbytes(20_000_000 // uploads)
    (tmp_path / "source").write_bytes(content)
    environment = patched(SLOW_DISK.format(rate=5e6))
    server = spawn(SERVER, 0, "--dir", folder, env=environment)
    target = f"127.0.0.1:{server.port()}"
    clients = [spawn(CLIENT, target, "source", str(k), cwd=tmp_path) for k in range(uploads)]
    assert [client.wait(60) for client in clients] == [0] * uploads
    assert all((folder / str(k)).read_bytes() == content for k in range(uploads))


def test_the_pace_follows_the_disk_and_counts_for_all_uploads_together():
    pace = load(ROOT / "lab01_udp/files.py").Pace()
    pace.uploads = 1
    megabytes = []
    for seconds in [0.05, 0.05, 0.15, 0.3, *[0.3] * 9, *[0.01] * 9]:
        pace.learn(seconds)
        megabytes.append(pace.sync_every / 2**20)
    assert megabytes[:4] == [4, 8, 8, 4]
    assert min(megabytes) == 1 / 8 and megabytes[-1] == 32
    pace.uploads = 4  # each of them may have to wait for three others
    assert pace.sync_every == 8 << 20
    pace.learn(0.06)
    assert pace.sync_every == 4 << 20


def test_only_open_uploads_share_the_disk(tmp_path):
    folder = load(ROOT / "lab01_udp/files.py").Folder(tmp_path, lambda *file: None)
    uploads = [folder.create(str(k), 3) for k in range(3)]
    assert folder._pace.uploads == 3
    for upload in uploads:
        upload.write(b"abc")
    uploads[0].save()
    for upload in uploads[1:]:
        upload.discard()
    assert folder._pace.uploads == 0 and os.listdir(tmp_path) == ["0"]


def test_a_session_is_kept_for_a_second_after_a_save_that_took_longer(spawn, folder, patched):
    environment = patched(SLOW_DISK.format(rate=2))
    with RawClient(spawn(SERVER, 0, "--dir", folder, env=environment).port()) as client:
        client.start(b"a", 3)
        assert client.ask(b"d | 1 | abc") == b"a | 2"  # 1.5 s later
        pass_time(0.8)
        assert client.ask(b"d | 1 | abc") == b"a | 2"
        pass_time(0.8)  # the duplicate is a sign of life, too
        assert client.ask(b"s | 0 | a | 3").startswith(b"a | 1 | ")
        assert [path.name for path in folder.iterdir()] == ["a"]


def test_time_while_the_server_is_stopped_does_not_expire_sessions(spawn, folder):
    server = spawn(SERVER, 0, "--dir", folder)
    port = server.port()
    clients = [RawClient(port) for _ in range(5)]
    for client in clients:
        client.start(b"file", 4)
    server.pause()
    pass_time(3.5)
    for client in clients:
        client.sock.send(b"d | 1 | ab")
    server.resume()
    for client in clients:
        assert client.ask(b"d | 1 | ab") == b"a | 2"
        client.close()
