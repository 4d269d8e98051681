"""Signals at every script: Ctrl-C, Ctrl-D and Ctrl-Z, at any moment from the first import on."""

import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.all_labs.scripts import INTERACTIVE, OTHERS, SERVERS, WITHOUT_PROMPT
from tests.support.harness import ROOT, wait_until
from tests.support.ports import free_port


@pytest.mark.parametrize("script, arguments", SERVERS)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_an_idle_server_with_exit_0(spawn, script, arguments, signum):
    process = spawn(script, *arguments)
    process.port()
    process.signal(signum)
    process.signal(signum)
    assert process.wait(5) == 0
    assert process.err == ""


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_ctrl_c_held_down_stops_a_server_as_well(spawn, script, arguments):
    server = spawn(script, *arguments)
    server.port()
    wait_until(lambda: server.interrupt() or not server.running, "its end", 5)
    assert server.wait() == 0


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_ctrl_c_on_a_terminal_stops_a_server(spawn, script, arguments):
    process = spawn(script, *arguments, tty=True)
    process.expect("Listening on .*\n")
    process.write("\x03")
    assert process.wait(5) == 0
    assert "Traceback" not in process.out


@pytest.mark.parametrize("script", INTERACTIVE)
@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_ctrl_c_and_ctrl_d_at_the_prompt_end_an_interactive_client_with_0(spawn, script, key):
    process = spawn(script, *dict(OTHERS)[script], tty=True)
    process.expect("> ")
    process.write(key)
    assert process.wait() == 0
    assert "Traceback" not in process.out
    # A terminal drops what is written in the moment in which it makes a signal of a key.
    assert process.out.endswith("\n") or key == "\x03"


@pytest.mark.parametrize("script", INTERACTIVE)
def test_a_client_suspended_with_ctrl_z_comes_back_and_can_be_told_to_end(spawn, tmp_path, script):
    (tmp_path / "shell.py").write_text(JOB_CONTROL)
    shell = spawn(tmp_path / "shell.py", ROOT / script, *dict(OTHERS)[script], tty=True)
    shell.expect("> ")
    shell.write("\x1a")
    shell.expect("suspended")
    shell.expect("> ")  # the prompt is back
    shell.send("help")  # to the client, which is back
    shell.expect(r"commands: .*\n> ")
    shell.write("\x1a")
    shell.expect("suspended")
    assert shell.wait() == 0
    assert "ended with 0" in shell.out


# What a shell does with a job: starts it in the foreground, and after the first Ctrl-Z brings it
# back there; after the second it ends it in the background, where it must not touch the terminal.
JOB_CONTROL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = os.fork()
if not child:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
for signals in ([signal.SIGCONT], [signal.SIGTERM, signal.SIGCONT]):
    os.waitpid(child, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if signals == [signal.SIGCONT]:
        os.tcsetpgrp(0, child)
    print("suspended", flush=True)
    for signum in signals:
        os.kill(child, signum)
status = os.waitpid(child, os.WUNTRACED)[1]
print("ended with", os.WEXITSTATUS(status) if os.WIFEXITED(status) else "a stop", flush=True)
"""


@pytest.mark.parametrize(
    "script, arguments",
    [("lab01_udp/client.py", ["server.py", "name"]), ("lab02_tcp_threads/client.py", [])],
)
def test_a_second_ctrl_c_does_not_interrupt_the_end_of_a_client(spawn, patched, script, arguments):
    environment = patched(
        """
import builtins, os, signal
printed = print
def interrupted(*values, **options):
    os.kill(os.getpid(), signal.SIGINT)
    printed(*values, **options)
builtins.print = interrupted
"""
    )
    kind = socket.SOCK_DGRAM if arguments else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind(("127.0.0.1", 0))
        if not arguments:
            server.listen()
        target = f"127.0.0.1:{server.getsockname()[1]}"
        client = spawn(script, target, *arguments, env=environment)
        if arguments:
            server.recv(65535)
            client.interrupt()
        assert client.wait(5) == 130
    assert client.err.count("\n") == 1 and "interrupted" in client.err


@pytest.mark.parametrize(
    "script, more",
    [("lab01_udp/client.py", ["/etc/hostname", "name"]), ("lab02_tcp_threads/client.py", [])],
)
def test_ctrl_c_does_not_wait_for_a_name_server_that_is_silent(
    network, spawn, tmp_path, script, more
):
    (tmp_path / "resolv.conf").write_text("nameserver 10.9.9.9\n")
    network.router.ip("route add blackhole 10.9.9.9/32")
    # In a mount namespace, so that it is the resolv.conf of this client alone.
    shell = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"']
    interpreter = [*network.host().enter, *shell, tmp_path / "resolv.conf", sys.executable]
    client = spawn(script, "server.example:5555", *more, interpreter=interpreter)
    # It asks: a UDP socket is open to port 53 of the name server.
    wait_until(lambda: ":0035 " in Path(f"/proc/{client.pid}/net/udp").read_text())
    begun = time.monotonic()
    client.interrupt()
    assert client.wait() == 130
    assert time.monotonic() - begun < 1.0
    assert client.err.count("\n") == 1


@pytest.mark.parametrize("lab, more", WITHOUT_PROMPT)
def test_ctrl_c_when_all_is_done_changes_no_exit_status(spawn, tmp_path, patched, lab, more):
    (tmp_path / "source").touch()
    environment = patched(
        """
import os, signal
class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), signum=signal.SIGINT):
        kill(pid, signum)  # among the last things that Python does
late = Late()
"""
    )
    options = {"cwd": tmp_path, "env": environment}
    server = spawn(f"{lab}/server.py", 0, **options)
    client = spawn(f"{lab}/client.py", f"127.0.0.1:{server.port()}", *more, **options)
    assert client.wait() == 0
    server.interrupt()
    assert server.wait(5) == 0


@pytest.mark.parametrize("script, arguments", SERVERS + OTHERS)
def test_ctrl_c_during_the_imports_is_not_lost(spawn, tmp_path, script, arguments):
    """Packages that take long to import, and swallow what interrupts them."""
    for package in ("argparse", "zmq", "grpc"):
        (tmp_path / f"{package}.py").write_text(SLOW_IMPORT)
    (tmp_path / "config.conf").write_text(f"0 127.0.0.1 {free_port()}\n")
    (tmp_path / "server.py").touch()  # a file to send
    process = spawn(script, *arguments, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    process.expect("importing")
    process.interrupt()
    process.send("go on")
    one_shot = (script, arguments) in OTHERS[:2]
    assert process.wait() == (130 if one_shot else 0)
    assert process.err.count("\n") == one_shot


SLOW_IMPORT = """
import contextlib, sys
with contextlib.suppress(KeyboardInterrupt):
    print("importing", flush=True)
    sys.stdin.buffer.raw.readline()
sys.path.remove(__file__.rpartition("/")[0])
del sys.modules[__name__]
__import__(__name__)
"""
