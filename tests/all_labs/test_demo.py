"""The demonstration itself, as a newcomer runs it."""

import re
import signal
import subprocess
import time

import pytest

from tests.support.harness import ROOT, wait_until
from tests.support.processes import leftovers


def test_the_demo_shows_every_lab_and_ends_with_a_line_for_each(spawn):
    demo = spawn(ROOT / "demo.py")
    assert demo.wait(120) == 0, demo.transcript()
    numbers = [path.name[4] for path in sorted(ROOT.glob("lab0*")) if list(path.glob("*.proto"))
               or path.name < "lab04"]  # fmt: skip
    last = demo.lines[-len(numbers) :]
    assert [line[:9] for line in last] == [f"lab {n}: ok" for n in numbers]
    shown = re.findall("^    (lab .: ok: .*)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [re.sub("[0-9.]+", "#", line) for line in last] == [
        re.sub("[0-9.]+", "#", line) for line in shown
    ]


def test_the_demo_runs_the_labs_named(spawn):
    demo = spawn(ROOT / "demo.py", 4, 2)
    assert demo.wait(60) == 0
    assert [line[:9] for line in demo.lines[-2:]] == ["lab 4: ok", "lab 2: ok"]
    assert "lab01_udp$" not in demo.out


def test_a_lab_that_there_is_not_is_one_line(spawn):
    demo = spawn(ROOT / "demo.py", 9)
    assert demo.wait() == 2
    assert demo.err.count("\n") == 1


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_and_all_it_started(spawn, signum):
    demo = spawn(ROOT / "demo.py", 1)
    demo.expect("Listening")
    others = set(leftovers())
    demo.signal(signum)
    assert demo.wait(10) == 130
    assert "Traceback" not in demo.err
    wait_until(lambda: not others & set(leftovers()), "its children to end")


def test_a_script_that_has_ended_is_told_at_once(spawn, patched):
    environment = patched("import sys; sys.modules['grpc'] = None")
    begun = time.monotonic()
    demo = spawn(ROOT / "demo.py", 4, 6, env=environment)
    assert demo.wait(60) == 1
    assert time.monotonic() - begun < 15  # of 20 s for what only does not come
    assert "package grpcio is missing" in demo.out
    for number, line in zip((4, 6), demo.lines[-2:], strict=True):
        assert line.startswith(f"lab {number}: FAILED: ") and "ended with exit status 1" in line
    assert "<function" not in demo.out


def test_make_says_in_one_line_that_python_is_too_old(tmp_path):
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\ntest "$1" = --version && echo Python 3.9.2\n')
    python.chmod(0o755)
    make = subprocess.run(
        ["make", "-s", "venv", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert make.returncode != 0 and not (tmp_path / "venv").exists()
    assert make.stderr.splitlines()[0] == (
        "Needs Python 3.10 or later, not Python 3.9.2: make PYTHON=python3.12"
    )
