"""Lab 1's scripts on networks and disks that are bad in ways of their own."""

import os
import random
import re
import sys
import time

import pytest

from tests.lab01.peers import CLIENT, SERVER, RawClient, saved, unfinished
from tests.support.harness import ROOT, load, wait_until

CONTENT = random.Random(1).randbytes(300_000)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def folder(tmp_path):
    """The server's."""
    path = tmp_path / "there"
    path.mkdir()
    return path


@pytest.fixture
def patched(tmp_path):
    """Return the environment of a script that runs some code before its own."""

    def environment(code):
        (tmp_path / "patch").mkdir(exist_ok=True)
        (tmp_path / "patch/sitecustomize.py").write_text(code)
        return {"PYTHONPATH": str(tmp_path / "patch")}

    return environment


def pause(seconds):
    """Let time pass that a test is about."""
    ends = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > ends)


# --- Addresses ---


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_answers_from_the_address_that_was_asked(spawn, source, folder, host):
    port = spawn(SERVER, 0, "--host", host, "--dir", folder).port()
    for address in ("127.0.0.1", "127.0.0.2"):
        client = spawn(CLIENT, f"{address}:{port}", source, address)
        assert client.wait() == 0
        assert (folder / address).read_bytes() == CONTENT


def test_a_second_ipv6_address_of_an_interface_answers_too(network, spawn, source, folder):
    client, server = network.host(), network.router
    client.ip("-6 address add fd00::2/64 dev eth0 nodad")
    for address in ("fd00::1", "fd00::9"):
        server.ip(f"-6 address add {address}/64 dev port1 nodad")
    spawn(SERVER, 5555, "--host", "::", "--dir", folder, interpreter=server.python).port()
    for address in ("fd00::1", "fd00::9"):
        script = spawn(CLIENT, f"[{address}]:5555", source, "copy", interpreter=client.python)
        assert script.wait() == 0, script.transcript()


def test_a_link_local_address_keeps_its_interface(network, spawn, source, folder):
    client, server = network.host(), network.router
    address = server.link_local("port1")
    options = ["--host", f"{address}%port1", "--dir", folder]
    spawn(SERVER, 5555, *options, interpreter=server.python).port()
    target = f"[{address}%eth0]:5555"
    assert spawn(CLIENT, target, source, "copy", interpreter=client.python).wait() == 0
    assert (folder / "copy").read_bytes() == CONTENT


LOCALHOST_IS_BOTH = """
import socket
resolve = socket.getaddrinfo
def getaddrinfo(host, *args, **options):
    if host != "localhost":
        return resolve(host, *args, **options)
    return [info for name in ("::1", "127.0.0.1") for info in resolve(name, *args, **options)]
socket.getaddrinfo = getaddrinfo
"""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_localhost_is_the_same_address_for_both(spawn, source, folder, patched, host):
    environment = patched(LOCALHOST_IS_BOTH)
    server = spawn(SERVER, 0, "--host", host, "--dir", folder, env=environment)
    client = spawn(CLIENT, f"localhost:{server.port()}", source, "copy", env=environment)
    assert client.wait() == 0


# --- Ways that change ---


def test_a_path_narrower_than_both_ends_know_costs_retransmissions_only(
    network, spawn, source, folder
):
    client, server = network.host(), network.host(path_mtu=1000)
    options = ["--host", server.address, "--dir", folder]
    spawn(SERVER, 5555, *options, interpreter=server.python).port()
    script = spawn(CLIENT, f"{server.address}:5555", source, "copy", interpreter=client.python)
    assert script.wait() == 0, script.transcript()
    assert (folder / "copy").read_bytes() == CONTENT
    assert int(re.search(r"(\d+) retransmissions", script.out)[1]) <= 2


def test_an_interface_that_goes_down_for_a_moment_ends_no_upload(network, spawn, tmp_path, folder):
    (tmp_path / "source").write_bytes(CONTENT * 200)
    client, server = network.host(), network.host()
    options = ["--host", "0.0.0.0", "--dir", folder, "--buf-size", 1000]
    spawn(SERVER, 5555, *options, interpreter=server.python).port()
    script = spawn(
        CLIENT, f"{server.address}:5555", "source", "copy", cwd=tmp_path, interpreter=client.python
    )
    for host in (client, server):
        size = wait_until(lambda: sum(path.stat().st_size for path in folder.iterdir()))
        host.unplug()
        pause(0.7)
        assert script.running
        host.plug()
        wait_until(lambda size=size: any(p.stat().st_size > size for p in folder.iterdir()))
    assert script.wait(60) == 0, script.transcript()
    assert (folder / "copy").read_bytes() == CONTENT * 200


def test_a_way_that_is_found_only_after_the_start_is_soon_enough(network, spawn, source, folder):
    client, server = network.host(), network.host()
    options = ["--host", server.address, "--dir", folder]
    spawn(SERVER, 5555, *options, interpreter=server.python).port()
    client.unplug()
    script = spawn(CLIENT, f"{server.address}:5555", source, "copy", interpreter=client.python)
    pause(0.7)
    client.plug()
    assert script.wait() == 0, script.transcript()


def test_no_way_at_all_is_one_line_that_says_so_after_all_retries(network, spawn, source):
    client = network.host()
    client.unplug()
    begun = time.monotonic()
    script = spawn(CLIENT, "10.9.9.9:5555", source, "copy", interpreter=client.python)
    assert script.wait() == 1
    assert time.monotonic() - begun > 2.9
    assert script.err.count("\n") == 1
    assert "malfunctioning" in script.err and "Network is unreachable" in script.err


# --- Slow disks, and a server that is away for a while ---

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
        pause(0.8)
        assert client.ask(b"d | 1 | abc") == b"a | 2"
        pause(0.8)  # the duplicate is a sign of life, too
        assert client.ask(b"s | 0 | a | 3").startswith(b"a | 1 | ")
        assert [path.name for path in folder.iterdir()] == ["a"]


def test_the_absence_of_the_server_is_no_silence_of_its_clients(spawn, folder):
    server = spawn(SERVER, 0, "--dir", folder)
    port = server.port()
    clients = [RawClient(port) for _ in range(5)]
    for client in clients:
        client.start(b"file", 4)
    server.pause()
    pause(3.5)
    for client in clients:
        client.sock.send(b"d | 1 | ab")
    server.resume()
    for client in clients:
        assert client.ask(b"d | 1 | ab") == b"a | 2"
        client.close()


# --- Files and folders ---


@pytest.mark.parametrize("path", ["/proc/version", "/sys/devices/system/cpu/online"])
def test_a_file_of_a_reported_size_that_is_wrong_arrives_as_it_is(spawn, folder, path):
    if not os.path.exists(path):
        pytest.skip(f"there is no {path}")
    server = spawn(SERVER, 0, "--dir", folder)
    assert spawn(CLIENT, f"127.0.0.1:{server.port()}", path, "copy").wait() == 0
    with open(path, "rb") as file:
        assert (folder / "copy").read_bytes() == file.read()


def test_a_file_that_has_no_end_and_no_size_is_not_read_for_ever(tmp_path, monkeypatch):
    module = load(ROOT / "lab01_udp/client.py")
    monkeypatch.setattr(module, "MAX_UNSIZED", 10)
    (tmp_path / "file").write_bytes(b"x" * 10)
    assert module.whole((tmp_path / "file").open("rb")).read() == b"x" * 10
    (tmp_path / "file").write_bytes(b"x" * 11)
    with pytest.raises(OSError, match="how long"):
        module.whole((tmp_path / "file").open("rb"))


# As an ordinary user, even if the tests run as root.
WITHOUT_PRIVILEGES = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, sys.argv[1:])
"""


@pytest.mark.parametrize("mode", [0o300, 0o500, 0o600])
def test_a_folder_that_cannot_be_used_is_one_line_at_the_start(spawn, tmp_path, folder, mode):
    (tmp_path / "start.py").write_text(WITHOUT_PRIVILEGES)
    folder.chmod(mode)
    command = [sys.executable, ROOT / SERVER, 0, "--dir", folder]
    server = spawn(tmp_path / "start.py", *command)
    assert server.wait() == 2
    assert server.err == f"server.py: cannot use the folder '{folder}': Permission denied\n"
    folder.chmod(0o700)


def test_a_file_system_without_locks_refuses_no_upload(spawn, source, folder, patched):
    environment = patched(
        "import errno, fcntl\n"
        "def flock(*args):\n"
        "    raise OSError(errno.ENOLCK, 'No locks available')\n"
        "fcntl.flock = flock\n"
    )
    server = spawn(SERVER, 0, "--dir", folder, env=environment)
    assert spawn(CLIENT, f"127.0.0.1:{server.port()}", source, "copy").wait() == 0


def test_a_second_server_that_starts_before_the_lock_costs_no_upload(
    spawn, source, folder, patched
):
    """It takes the file, which is not locked yet, for one that kill -9 has left behind."""
    environment = patched(
        f"""
import fcntl, subprocess, sys
lock = fcntl.flock
def flock(fd, operation):
    if fcntl.flock is not lock and not operation & fcntl.LOCK_NB:
        fcntl.flock = lock
        command = [sys.executable, "-S", {str(ROOT / SERVER)!r}, "0", "--dir", {str(folder)!r}]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as second:
            second.stdout.readline()
            second.kill()
    lock(fd, operation)
fcntl.flock = flock
"""
    )
    server = spawn(SERVER, 0, "--dir", folder, env=environment)
    assert spawn(CLIENT, f"127.0.0.1:{server.port()}", source, "copy").wait() == 0
    assert saved(folder / "copy") == CONTENT and not unfinished(folder)
