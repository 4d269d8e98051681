"""Command lines of every script: what is wrong is one line and exit 2, and --help explains it."""

import argparse
import contextlib
import io
import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.all_labs.scripts import OTHERS, SERVERS
from tests.support.harness import ROOT, load

SCRIPTS = dict(SERVERS + OTHERS)
NO_PORTS = ["x", "-1", "65536", "1.5", "", "٣", "9" * 5000]
NO_ADDRESSES = ["localhost", ":5555", "localhost:", "a:b", "::1:5555", "h:99999"]
NO_HOSTS = ["a b", "*", "x/y", "é", ""]
REGISTRY, NODE = "127.0.0.1:5000", "127.0.0.1:5001"
UNREACHABLE = [
    ["0.0.0.0:5001"],
    ["0:5001"],
    ["[::]:5001"],
    ["[0::0]:5001"],
    ["[::ffff:0.0.0.0]:5001"],
    [NODE, "--announce", "0.0.0.0:5001"],
    ["0.0.0.0:5001", "--announce", "[::]:5001"],
]
# What is wrong with the lines of one script alone, and a part of the answer.
WRONG = {
    "lab02_tcp_threads/client.py": [([address], "expected") for address in NO_ADDRESSES],
    "lab03_zmq/client.py": [(["1", "2", "--host", host], "expected a host") for host in NO_HOSTS],
    "lab03_zmq/prime.py": [(["1", "2", "--host", host], "expected a host") for host in NO_HOSTS],
    "lab04_grpc/client.py": [([address], "expected") for address in NO_ADDRESSES],
    "lab05_chord/Registry.py": [
        ([REGISTRY, "0"], "from 1 to 32"),
        ([REGISTRY, "33"], "from 1 to 32"),
        ([REGISTRY, "five"], "from 1 to 32"),
        (["127.0.0.1:99999", "5"], "port number"),
    ],
    "lab05_chord/Node.py": [
        ([REGISTRY, "5001x"], "expected"),
        ([REGISTRY, "127.0.0.1:0", "--announce", "5001"], "expected"),
        ([REGISTRY, "127.0.0.1:0", "--announce", "a\x1b[31m:5001"], "expected"),
        *(([REGISTRY, *arguments], "--announce ip:port") for arguments in UNREACHABLE),
    ],
    "lab05_chord/Client.py": [([REGISTRY], "unrecognized")],
    "lab05_chord/watch.py": [
        *(([address], "expected") for address in NO_ADDRESSES),
        *(([REGISTRY, "--port", port], "port number") for port in NO_PORTS),
    ],
    "lab06_raft/server.py": [
        (["x"], "expected"),
        (["-1"], "expected"),
        (["0", "1"], "unrecognized"),
        (["0", "--config", "missing"], "No such file"),
    ],
    "lab06_raft/watch.py": [
        (["0"], "unrecognized"),
        (["--config", "missing"], "No such file"),
    ],
}
CONFIGS = [
    ("0 127.0.0.1\n", ":1: not `id address port`: 0 127.0.0.1"),
    ("# comment\n\n0 127.0.0.1 70000\n", ":3: not `id address port`: 0 127.0.0.1 70000"),
    ("x 127.0.0.1 5000\n", ":1: not `id address port`: x 127.0.0.1 5000"),
    ("0 a 1\n1 b 2\n0 c 3\n", ":3: id 0 is there twice"),
    ("0 a 1\n1 ::1 2\n2 [::1] 2\n", ":3: [::1]:2 is there twice"),
    ("1 127.0.0.1 5000\n", " has no server with the id 0"),
    ("", " has no server with the id 0"),
    (b"0 127.0.0.1 5000\n\xff\n", ":2: not `id address port`: \ufffd"),
]


@pytest.fixture
def run(spawn, tmp_path):
    """Run a script with each of some command lines; return [status, stdout, stderr] of each."""

    def run(script: str, lines: list[list[str]]) -> list[list]:
        (tmp_path / "server.py").touch()  # a file to send
        runner = spawn(ROOT / "tests/all_labs/command_lines.py", ROOT / script, cwd=tmp_path)
        runner.write(json.dumps(lines))
        runner.close_stdin()
        assert runner.wait() == 0, runner.transcript()
        return json.loads(runner.out)

    return run


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_command_line_is_one_line_on_stderr_and_exit_2(run, script):
    arguments = SCRIPTS[script]
    wrong = [(["--nonsense"], ""), (["1"] * 9, ""), (["\udcff", "\udcff"], "")]
    if arguments and not arguments[0].startswith("-"):
        wrong.append((arguments[:-1], "required"))
    if (script, arguments) in SERVERS:
        wrong += [(["--", port, *arguments[1:]], "port number") for port in NO_PORTS]
    wrong += WRONG.get(script, [])
    ends = run(script, [line for line, _ in wrong])
    for (line, part), (status, out, err) in zip(wrong, ends, strict=True):
        assert (status, out) == (2, ""), line
        assert err.startswith(script.split("/")[1] + ": ") and part in err, line
        assert err.count("\n") == 1 and err[:-1].isprintable(), line


def test_a_bad_configuration_is_one_line_and_exit_2(run, tmp_path):
    lines = []
    for number, (config, _) in enumerate(CONFIGS):
        data = config if isinstance(config, bytes) else config.encode()
        (tmp_path / f"{number}.conf").write_bytes(data)
        lines.append(["0", "--config", f"{number}.conf"])
    assert run("lab06_raft/server.py", lines) == [
        [2, "", f"server.py: {number}.conf{complaint}\n"]
        for number, (_, complaint) in enumerate(CONFIGS)
    ]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_describes_every_argument_and_every_default(script, monkeypatch):
    parsers = []
    monkeypatch.setattr(
        argparse.ArgumentParser, "parse_args", lambda self, argv: parsers.append(self) or sys.exit()
    )
    module = load(ROOT / script)
    with pytest.raises(SystemExit):
        module.parse_args([]) if hasattr(module, "parse_args") else module.worker.parse_args([], "")
    for action in parsers[0]._actions[1:]:  # the first is --help
        assert action.help, action
        assert "(default: " in action.help or action.required, action


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_explains_the_arguments_with_an_example(run, script):
    ((status, out, err),) = run(script, [["--help"]])
    assert (status, err) == (0, "")
    assert f"example: python3 {script.split('/')[1]}" in out


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
