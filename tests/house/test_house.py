"""What holds for every lab alike: command lines, signals, copies, and what a core may import."""

import argparse
import ast
import contextlib
import io
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.harness import LABS, ROOT, free_port, listens, load, wait_until

# Every script with a command line that starts it; servers with the port 0.
SERVERS = [
    ("lab01_udp/server.py", ["0"]),
    ("lab02_tcp_threads/server.py", ["0"]),
    ("lab03_zmq/server.py", ["0", "0", "0", "0"]),
    ("lab04_grpc/server.py", ["0"]),
]
OTHERS = [
    ("lab01_udp/client.py", ["localhost:1", "server.py", "name"]),
    ("lab02_tcp_threads/client.py", ["localhost:1"]),
    ("lab03_zmq/prime.py", ["1", "2"]),
    ("lab03_zmq/gcd.py", ["1", "2"]),
    ("lab03_zmq/client.py", ["1", "2"]),
    ("lab04_grpc/client.py", ["localhost:1"]),
    ("lab05_chord/Registry.py", ["127.0.0.1:0", "5"]),
    ("lab05_chord/Node.py", ["127.0.0.1:1", "127.0.0.1:0"]),
    ("lab05_chord/Client.py", []),
    ("lab05_chord/watch.py", ["--port", "0", "127.0.0.1:1"]),
    ("lab06_raft/server.py", ["0"]),
    ("lab06_raft/client.py", []),
    ("lab06_raft/watch.py", ["--port", "0"]),
]
INTERACTIVE = [script for script, _ in OTHERS if script.lower().endswith("client.py")][2:]
CORES = [
    "lab01_udp/messages.py",
    "lab01_udp/stop_and_wait.py",
    "lab05_chord/chord.py",
    "lab05_chord/lookup.py",
    "lab05_chord/member.py",
    "lab05_chord/membership.py",
    "lab05_chord/messages.py",
    "lab05_chord/place.py",
    "lab05_chord/replication.py",
    "lab05_chord/store.py",
    "lab05_chord/sync.py",
    "lab05_chord/transfer.py",
    "lab06_raft/leader.py",
    "lab06_raft/log.py",
    "lab06_raft/protocol.py",
    "lab06_raft/raft.py",
    "lab06_raft/replica.py",
    "lab06_raft/snapshots.py",
    "lab06_raft/state_machine.py",
    "lab06_raft/timeline.py",
]
PURE = {
    *("bisect", "collections", "dataclasses", "enum", "functools", "itertools", "math", "typing"),
    *("abc", "contextlib", "heapq", "operator", "re", "zlib"),
}


# --- Addresses ---


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_taken_port_is_one_line_naming_it_and_exit_1(spawn, script, arguments):
    kind = socket.SOCK_DGRAM if "udp" in script else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        port = holder.getsockname()[1]
        process = spawn(script, port, *arguments[1:])
        assert process.wait() == 1
    assert process.out == ""
    assert process.err.count("\n") == 1 and f"127.0.0.1:{port}" in process.err


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_second_server_on_the_same_port_is_an_error(spawn, script, arguments):
    first = spawn(script, *arguments)
    port = first.port()
    second = spawn(script, port, *arguments[1:])
    assert second.wait() == 1
    assert second.err.count("\n") == 1
    assert first.running


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_server_told_only_a_port_listens_on_loopback_and_host_opens_it(spawn, script, arguments):
    assert "127.0.0.1:" in spawn(script, *arguments).expect("^Listening on .*$")[0]
    assert "0.0.0.0:" in spawn(script, *arguments, "--host", "0.0.0.0").expect("^Listening .*$")[0]


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_ipv6_works_when_asked_for(spawn, script, arguments):
    assert "[::1]:" in spawn(script, *arguments, "--host", "::1").expect("^Listening .*$")[0]


NO_HOSTS = ["no-such-host.invalid", "no..name"]


@pytest.mark.parametrize("script, arguments", SERVERS)
@pytest.mark.parametrize("host", NO_HOSTS)
def test_a_host_that_does_not_exist_is_one_line_and_exit_1(spawn, script, arguments, host):
    process = spawn(script, *arguments, "--host", host)
    assert process.wait() == 1
    assert process.err.count("\n") == 1


@pytest.mark.parametrize(
    "script, more",
    [("lab01_udp/client.py", ["/dev/null", "name"]), ("lab02_tcp_threads/client.py", [])],
)
@pytest.mark.parametrize("host", NO_HOSTS)
def test_a_server_name_that_does_not_resolve_is_one_line(spawn, script, more, tmp_path, host):
    (tmp_path / "file").touch()
    more = [str(tmp_path / "file"), *more[1:]] if more else []
    process = spawn(script, f"{host}:5555", *more)
    assert process.wait() == 1
    assert process.err.count("\n") == 1 and host in process.err


# --- Signals and output ---


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


@pytest.mark.parametrize("script", INTERACTIVE)
def test_closed_standard_files_are_as_good_as_dev_null(labs, script):
    started = {}
    for redirect in ("<&-", ">&-", "2>&-", "</dev/null", "<&- >&- 2>&-"):
        command = ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, str(labs / script)]
        started[redirect] = subprocess.Popen(
            [*command, *dict(OTHERS)[script]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    for redirect, process in started.items():
        out, err = process.communicate(b"help\n", timeout=20)
        assert (process.returncode, err) == (0, b""), redirect
        assert (b"commands: " in out) == (redirect == "2>&-"), redirect


@pytest.mark.parametrize("script, arguments", SERVERS[2:])
def test_a_server_without_standard_files_serves_and_stops(labs, script, arguments):
    port = free_port()
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, str(labs / script)]
    process = subprocess.Popen([*command, str(port), *arguments[1:]])
    try:
        wait_until(lambda: listens(port))
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
    finally:
        process.kill()


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_closed_stdout_stops_no_server_and_gives_no_traceback(spawn, script, arguments):
    process = spawn(script, *arguments, head=True)
    process.port()
    process.out_stream.join(5)
    process.interrupt()
    assert process.wait(5) == 0
    assert process.err == ""


@pytest.mark.parametrize(
    "script, more", [("lab01_udp", ["source", "copy"]), ("lab02_tcp_threads", [])]
)
def test_a_client_whose_output_has_no_reader_still_does_its_work(spawn, tmp_path, script, more):
    (tmp_path / "source").write_bytes(b"x" * 100)
    server = spawn(f"{script}/server.py", 0, cwd=tmp_path)
    client = spawn(
        f"{script}/client.py", f"127.0.0.1:{server.port()}", *more, cwd=tmp_path, shut=True
    )
    assert client.wait() == 0
    assert client.err == ""


BAD_STREAMS = {
    "no stdout": "os.close(1)",
    "no stderr": "os.close(2)",
    "none at all": "os.closerange(0, 3)",
    "stdout on a full disk": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
}


@pytest.mark.parametrize(
    "lab, more", [("lab01_udp", ["source", "copy"]), ("lab02_tcp_threads", [])]
)
@pytest.mark.parametrize("streams", BAD_STREAMS)
def test_bad_streams_stop_no_server_and_no_client(spawn, tmp_path, lab, more, streams):
    (tmp_path / "source").write_bytes(b"x" * 100)
    (tmp_path / "start.py").write_text(
        f"import os, sys; {BAD_STREAMS[streams]}; os.execv(sys.executable, sys.argv[1:])"
    )
    start = [tmp_path / "start.py", sys.executable]
    port = free_port(socket.SOCK_DGRAM if more else socket.SOCK_STREAM)
    server = spawn(*start, ROOT / lab / "server.py", port, cwd=tmp_path)
    wait_until(lambda: more or listens(port))  # lab 1's client waits for its server
    client = spawn(*start, ROOT / lab / "client.py", f"127.0.0.1:{port}", *more, cwd=tmp_path)
    lost = streams == "stdout on a full disk"
    assert client.wait() == (1 if lost else 0)
    assert client.err == ("client.py: cannot write: No space left on device\n" if lost else "")
    assert not more or (tmp_path / "copy").read_bytes() == b"x" * 100
    server.interrupt()
    assert server.wait(5) == 0
    assert server.err == ""


@pytest.mark.parametrize(
    "script, arguments",
    [("lab01_udp/client.py", ["server.py", "name"]), ("lab02_tcp_threads/client.py", [])],
)
def test_a_second_ctrl_c_does_not_interrupt_the_end_of_a_client(spawn, tmp_path, script, arguments):
    (tmp_path / "sitecustomize.py").write_text(
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
        client = spawn(script, target, *arguments, env={"PYTHONPATH": str(tmp_path)})
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


@pytest.mark.parametrize(
    "lab, more", [("lab01_udp", ["source", "copy"]), ("lab02_tcp_threads", [])]
)
def test_ctrl_c_when_all_is_done_changes_no_exit_status(spawn, tmp_path, lab, more):
    (tmp_path / "source").touch()
    (tmp_path / "sitecustomize.py").write_text(
        """
import os, signal
class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), signum=signal.SIGINT):
        kill(pid, signum)  # among the last things that Python does
late = Late()
"""
    )
    options = {"cwd": tmp_path, "env": {"PYTHONPATH": str(tmp_path)}}
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


# --- Each folder by itself ---


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_copy_of_the_folder_elsewhere_runs_from_anywhere(spawn, script, arguments, tmp_path):
    folder, name = script.split("/")
    copy = shutil.copytree(ROOT / folder, tmp_path / "ailleurs é" / folder)
    process = spawn(copy / name, *arguments, cwd=tmp_path)
    process.port()


@pytest.mark.parametrize("lab", LABS)
def test_no_script_imports_from_outside_its_folder(lab):
    allowed = {
        "lab01_udp": set(),
        "lab02_tcp_threads": set(),
        "lab03_zmq": {"zmq"},
    }.get(lab, {"grpc", "grpc_tools", "google"})
    allowed |= {path.stem for path in (ROOT / lab).glob("*.py")}
    for path in (ROOT / lab).glob("*.py"):
        assert imports(path) - set(sys.stdlib_module_names) <= allowed, path


def imports(path):
    """Return the top-level modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("core", CORES)
def test_a_core_knows_no_socket_thread_clock_chance_or_output(core):
    beside = {path.stem for path in (ROOT / core).parent.glob("*.py")} & {
        path.split("/")[1][:-3] for path in CORES
    }
    assert imports(ROOT / core) <= PURE | beside
    names = {node.id for node in ast.walk(ast.parse((ROOT / core).read_text()))
             if isinstance(node, ast.Name)}  # fmt: skip
    assert not names & {"print", "open", "input", "exec", "eval"}


def test_no_generated_stub_is_kept():
    assert not list(ROOT.glob("lab0*/*_pb2*"))


# --- Deliberate copies ---


@pytest.mark.parametrize(
    "name, labs",
    [("primes.py", 3), ("rpc.py", 3), ("shell.py", 4), ("cli.py", 6), ("web.py", 2)],
)
def test_files_that_stand_in_several_labs_are_identical(name, labs):
    copies = list(ROOT.glob(f"lab0*/{name}"))
    assert len(copies) == labs
    assert len({copy.read_text() for copy in copies}) == 1


@pytest.mark.parametrize(
    "text, expected",
    [
        ("127.0.0.1:5555", ("127.0.0.1", 5555)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(text, expected):
    assert load(ROOT / "lab01_udp/cli.py").parse_address(text) == expected


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(st.text(st.sampled_from("a.:[]1-\0 é\udcff"), max_size=8), st.integers(-1, 70_000))
def test_any_address_is_read_or_refused(host, port):
    parse = load(ROOT / "lab01_udp/cli.py").parse_address
    for text in (host, f"{host}:{port}", f"[{host}]:{port}"):
        try:
            found, number = parse(text)
        except argparse.ArgumentTypeError:
            continue
        assert found in text and text.endswith(f":{number}") and 0 <= number <= 65535
    if re.fullmatch("[a.1-]+", host) and 0 <= port <= 65535:
        assert parse(f"{host}:{port}") == (host, port)


@pytest.mark.parametrize("script", [s for s, _ in SERVERS[:2] + OTHERS[:2]])
@settings(derandomize=True, database=None, deadline=None, max_examples=50)
@given(
    st.lists(
        st.sampled_from(["--host", "--dir", "--buf-size", "--workers", "-h", "--", "", "-1", "h:1"])
        | st.text("019-=:[]./é\0\udcff", max_size=6),
        max_size=5,
    )
)
def test_any_command_line_is_read_or_ends_the_script_with_a_line(script, arguments):
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(err):
        try:
            load(ROOT / script).parse_args(arguments)
        except SystemExit as end:
            assert end.code in (0, 2) and err.getvalue().endswith("\n")


def test_free_port_gives_each_port_once_and_to_one_process_only():
    ports = [free_port() for _ in range(500)]
    assert len(set(ports)) == 500
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", ports[0]))
    again = f"print([p for p in {ports} if _ports()._lock(p)])"
    assert python("-c", f"from tests.support.harness import _ports; {again}") == "[]\n"


def python(*arguments):
    """Return the output of another Python, run in the project's root."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
