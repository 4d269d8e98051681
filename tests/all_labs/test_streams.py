"""Standard files that are closed, full or without a reader stop no script."""

import contextlib
import functools
import socket
import sys

import pytest

from tests.all_labs.scripts import INTERACTIVE, OTHERS, SERVERS, WITHOUT_PROMPT
from tests.support.harness import wait_until
from tests.support.ports import free_port, listens


@pytest.mark.parametrize("script", INTERACTIVE)
def test_closed_standard_files_are_as_good_as_dev_null(spawn, labs, script):
    started = {}
    for redirect in ("<&-", ">&-", "2>&-", "</dev/null", "<&- >&- 2>&-"):
        command = ["-c", f'exec "$@" {redirect}', "sh", sys.executable, labs / script]
        started[redirect] = spawn("/bin/sh", *command, *dict(OTHERS)[script], interpreter=())
    for redirect, process in started.items():
        with contextlib.suppress(BrokenPipeError):
            process.write("help\n")
        process.close_stdin()
        assert (process.wait(), process.err) == (0, ""), redirect
        assert ("commands: " in process.out) == (redirect == "2>&-"), redirect


@pytest.mark.parametrize("script, arguments", SERVERS[2:])
def test_a_server_without_standard_files_serves_and_stops(spawn, labs, script, arguments):
    port = free_port()
    command = ["-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, labs / script]
    process = spawn("/bin/sh", *command, port, *arguments[1:], interpreter=())
    wait_until(lambda: listens(port))
    process.interrupt()
    assert process.wait(5) == 0


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_closed_stdout_stops_no_server_and_gives_no_traceback(spawn, script, arguments):
    process = spawn(script, *arguments, head=True)
    process.port()
    process.out_stream.join(5)
    process.interrupt()
    assert process.wait(5) == 0
    assert process.err == ""


@pytest.mark.parametrize("lab, more", WITHOUT_PROMPT)
def test_a_client_whose_output_has_no_reader_still_does_its_work(spawn, tmp_path, lab, more):
    (tmp_path / "source").write_bytes(b"x" * 100)
    server = spawn(f"{lab}/server.py", 0, cwd=tmp_path)
    client = spawn(f"{lab}/client.py", f"127.0.0.1:{server.port()}", *more, cwd=tmp_path, shut=True)
    assert client.wait() == 0
    assert client.err == ""


BAD_STREAMS = {
    "no stdout": "os.close(1)",
    "no stderr": "os.close(2)",
    "none at all": "os.closerange(0, 3)",
}
FULL = "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
# As on a disk that becomes full: there is room for the ready line, and for little more.
FILLING = """
import resource
os.dup2(os.open("log", os.O_WRONLY | os.O_APPEND), 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1040, 1040))
"""


@pytest.fixture
def start(spawn_after, tmp_path):
    """Start a script in tmp_path whose standard files some code has changed before."""
    (tmp_path / "source").write_bytes(b"x" * 100)
    return functools.partial(spawn_after, cwd=tmp_path)


@pytest.mark.parametrize("lab, more", WITHOUT_PROMPT)
@pytest.mark.parametrize("streams", BAD_STREAMS)
def test_bad_streams_stop_no_server_and_no_client(start, tmp_path, lab, more, streams):
    port = free_port(socket.SOCK_DGRAM if more else socket.SOCK_STREAM)
    server = start(BAD_STREAMS[streams], f"{lab}/server.py", port)
    wait_until(lambda: more or listens(port))  # lab 1's client waits for its server
    client = start(BAD_STREAMS[streams], f"{lab}/client.py", f"127.0.0.1:{port}", *more)
    assert (client.wait(), client.err) == (0, "")
    assert not more or (tmp_path / "copy").read_bytes() == b"x" * 100
    server.interrupt()
    assert (server.wait(5), server.err) == (0, "")


@pytest.mark.parametrize("lab, more", WITHOUT_PROMPT)
def test_a_disk_that_becomes_full_stops_no_server(start, tmp_path, lab, more):
    (tmp_path / "log").write_text("x" * 999 + "\n")
    server = start(FILLING, f"{lab}/server.py", 0)
    lines = wait_until(lambda: (tmp_path / "log").read_text().splitlines()[1:])
    port = lines[0].rpartition(":")[2]
    for _ in range(2):
        client = start(FULL, f"{lab}/client.py", f"127.0.0.1:{port}", *more)
        assert client.wait() == 1
        assert client.err == "client.py: cannot write: No space left on device\n"
        assert not more or (tmp_path / "copy").read_bytes() == b"x" * 100
    assert (tmp_path / "log").stat().st_size == 1040
    server.interrupt()
    assert (server.wait(5), server.err) == (0, "")
