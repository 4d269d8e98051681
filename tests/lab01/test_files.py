"""Lab 1's files and folders: whole or not there, whatever ends the server or is in the way."""

import os
import signal

import pytest

from tests.lab01.peers import CLIENT, CONTENT, SERVER, RawClient, saved, unfinished
from tests.support.harness import ROOT, load, pass_time, wait_until


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
    pass_time(after)
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


def test_a_current_directory_that_is_gone_is_a_refusal_and_no_traceback(spawn_after):
    leave = "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')"
    server = spawn_after(leave, SERVER, 0)
    with RawClient(server.port()) as client:
        assert client.ask(b"s | 0 | a | 4", timeout=0.1) is None
        server.expect_err("refused: a: No such file or directory")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_a_file_and_its_session_leaves_no_file(spawn, folder, patched, signum):
    """Two signals even: from within the call that makes the temporary file, and after it."""
    environment = patched(
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
    server = spawn(SERVER, 0, "--dir", folder, env=environment)
    with RawClient(server.port()) as client:
        client.ask(b"s | 0 | a | 4")
        server.signal(signum)
        assert server.wait(5) == 0
    assert server.err == "" and list(folder.iterdir()) == []


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
import ctypes
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
"""


@pytest.mark.parametrize("mode", [0o300, 0o500, 0o600])
def test_a_folder_that_cannot_be_used_is_one_line_at_the_start(spawn_after, folder, mode):
    folder.chmod(mode)
    server = spawn_after(WITHOUT_PRIVILEGES, SERVER, 0, "--dir", folder)
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
