"""What cli.py and shell.py give to every script: signals, output, missing packages, the prompt."""

import ast
import re
import signal
import subprocess
import sys

import pytest

from tests.all_labs.scripts import INTERACTIVE, OTHERS, SERVERS
from tests.support.harness import LABS, ROOT, pass_time
from tests.support.ports import free_port

SCRIPTS = SERVERS + OTHERS


# --- The start ---


@pytest.mark.parametrize("script, arguments", SCRIPTS)
def test_a_python_that_is_too_old_is_one_line_with_what_is_needed(
    spawn, patched, script, arguments
):
    environment = patched("import sys; sys.version_info = (3, 9, 2)")
    process = spawn(script, *arguments, env=environment)
    assert process.wait() == 1
    assert process.err == (
        f"{script.split('/')[1]}: needs Python 3.10 or later, not 3.9 ({sys.executable})\n"
    )


@pytest.mark.parametrize("path", [ROOT / script for script, _ in SCRIPTS], ids=str)
def test_an_old_python_can_read_a_script_as_far_as_that_line(path):
    for file in (path, path.with_name("cli.py")):
        ast.parse(file.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize(
    "package, distribution",
    [("zmq", "pyzmq"), ("grpc", "grpcio"), ("grpc_tools", "grpcio-tools"), ("google", "protobuf")],
)
def test_a_missing_package_is_one_line_with_both_ways_to_get_it(
    spawn, patched, package, distribution
):
    environment = patched(f"import sys; sys.modules[{package!r}] = None")
    lab = "lab03_zmq" if package == "zmq" else "lab04_grpc"
    for script, arguments in (case for case in SCRIPTS if case[0].startswith(lab)):
        process = spawn(script, *arguments, env=environment)
        assert process.wait() == 1
        assert process.err.count("\n") == 1
        for part in (f"package {distribution} is", "make venv", f"pip install {distribution}`"):
            assert part in process.err


def test_importing_a_script_holds_no_signal_back():
    code = "import signal, sys; sys.path[0] = {!r}; import {}; print(signal.pthread_sigmask(0, ()))"
    for folder in LABS:
        names = [script.split("/")[1][:-3] for script, _ in SCRIPTS if script.startswith(folder)]
        command = [sys.executable, "-c", code.format(str(ROOT / folder), ", ".join(names))]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        assert found.stdout == "set()\n", folder


# --- Signals ---


@pytest.mark.skipif(
    signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="started with SIGHUP ignored (nohup)"
)
@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_closed_window_ends_a_server_as_sigterm_does(spawn, script, arguments):
    server = spawn(script, *arguments)
    server.port()
    server.signal(signal.SIGHUP)
    assert server.wait(5) == 0
    assert server.err == ""


@pytest.mark.parametrize("script, arguments", SERVERS)
def test_a_server_under_nohup_survives_the_closed_window(spawn, script, arguments):
    nohup = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable]
    server = spawn(script, *arguments, interpreter=nohup)
    server.port()
    server.signal(signal.SIGHUP)
    pass_time(0.3)  # in which it would end
    assert server.running


@pytest.mark.parametrize("script, arguments", SCRIPTS)
def test_ctrl_c_at_any_import_ends_a_script_without_a_traceback(
    spawn, tmp_path, patched, script, arguments
):
    """At several imports after those of cli.py itself, the first ones too."""
    (tmp_path / "file").touch()
    (tmp_path / "config.conf").write_text("0 127.0.0.1 0\n")
    arguments = ["file" if each == "server.py" else each for each in arguments]
    for count in (1, 5, 20):
        environment = patched(INTERRUPT.format(count=count))
        process = spawn(script, *arguments, cwd=tmp_path, env=environment)
        one_shot = (script, arguments[:1]) in [(s, a[:1]) for s, a in OTHERS[:2]]
        assert process.wait() == (130 if one_shot else 0), (count, process.transcript())
        assert "Traceback" not in process.err + process.out
        assert process.err.count("\n") == one_shot


INTERRUPT = """
import os, signal, sys
seen = []
def hook(event, details):
    if event == "import" and (seen or details[0] == "__future__"):
        seen.append(details[0])
        if len(seen) == {count} + 1:
            os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
"""


# --- Output ---


def on_a_full_disk(script, *arguments, **options):
    """Run a script whose stdout is /dev/full; return its exit status and stderr."""
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, ROOT / script, *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=20, **options,
        )  # fmt: skip
    return process.returncode, process.stderr.replace(script.split("/")[1], "<script>")


LOST = 1, "<script>: cannot write: No space left on device\n"


@pytest.mark.parametrize("script", INTERACTIVE)
@pytest.mark.parametrize("arguments", [["--help"], None])
def test_a_full_disk_is_one_line_and_exit_1(script, arguments):
    arguments = dict(OTHERS)[script] if arguments is None else arguments
    assert on_a_full_disk(script, *arguments, input="help\n") == LOST


SERVING = [case for case in SCRIPTS if not re.search("[Cc]lient|prime|gcd", case[0])]


@pytest.mark.parametrize("script, arguments", SERVING)
def test_a_server_that_cannot_write_its_ready_line_ends(tmp_path, script, arguments):
    (tmp_path / "config.conf").write_text(f"0 127.0.0.1 {free_port()}\n")
    assert on_a_full_disk(script, *arguments, cwd=tmp_path) == LOST


@pytest.mark.parametrize("name", ["prime", "gcd"])
def test_a_worker_that_cannot_write_its_ready_line_ends(spawn, name):
    line = spawn("lab03_zmq/server.py", 0, 0, 0, 0).expect("^Listening on .*")[0]
    ports = re.findall(r":(\d+)", line)[2:]
    assert on_a_full_disk(f"lab03_zmq/{name}.py", *ports) == LOST


def test_a_node_that_cannot_write_its_id_ends(spawn):
    registry = spawn("lab05_chord/Registry.py", "127.0.0.1:0", 5).port()
    addresses = f"127.0.0.1:{registry}", f"127.0.0.1:{free_port()}"
    assert on_a_full_disk("lab05_chord/Node.py", *addresses) == LOST


# --- The prompt ---


@pytest.mark.parametrize("script", INTERACTIVE)
def test_commands_may_stand_on_the_command_line_and_a_failed_one_is_exit_1(spawn, script):
    arguments = dict(OTHERS)[script]
    good = spawn(script, *arguments, "-c", "help", "-c", "?")
    assert good.wait() == 0
    assert good.out.count("commands: ") == 2
    bad = spawn(script, *arguments, "-c", "help isprime", "-c", "getval a", "-c", "reverse a")
    assert bad.wait() == 1


@pytest.mark.parametrize("script", INTERACTIVE)
def test_bytes_on_the_command_line_that_are_no_utf_8_are_replaced(spawn, script):
    words = "isprime", "reverse", "get", "getval"
    commands = [option for word in words for option in ("-c", f"{word} \udcff")]
    client = spawn(script, *dict(OTHERS)[script], *commands)
    assert client.wait() == 1
    assert client.err == ""


@pytest.mark.parametrize("script", INTERACTIVE)
def test_help_of_a_command_is_its_form_and_an_example(spawn, script):
    name = {"lab05": "find", "lab06": "getval"}.get(script[:5], "isprime")
    client = spawn(script, *dict(OTHERS)[script], "-c", f"help {name}")
    assert client.wait() == 0
    form, example = [line for line in client.lines if name in line]
    assert form.startswith(f"{name} ") and example.startswith(f"example: {name} ")


@pytest.mark.parametrize("script", INTERACTIVE)
def test_eof_is_an_ordinary_word(spawn, script):
    client = spawn(script, *dict(OTHERS)[script], "-c", "EOF", "-c", "help")
    assert client.wait() == 1
    assert "commands: " in client.lines[-2 if client.lines[-1].endswith(("down", "ends")) else -1]


@pytest.mark.parametrize("script", INTERACTIVE)
def test_the_history_is_kept_for_the_next_session_and_for_its_owner_alone(spawn, tmp_path, script):
    options = {"tty": True, "env": {"XDG_STATE_HOME": str(tmp_path)}}
    first = spawn(script, *dict(OTHERS)[script], **options)
    first.expect("> ")
    first.send("help me")
    first.expect("commands: .*\n")
    first.write("\x03")
    assert first.wait() == 0
    second = spawn(script, *dict(OTHERS)[script], **options)
    second.expect("> ")
    second.write("\x1b[A")  # up
    second.expect("help me")
    (file,) = tmp_path.rglob("*.history")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == "help me\n"
