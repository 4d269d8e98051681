"""The lists of planted faults fit the labs, and their runner names the test that finds one."""

import importlib
import subprocess

import pytest

from tests.mutants import Mutant
from tests.mutants.__main__ import LISTS, Judges, stale
from tests.support.harness import ROOT

CONFIG = "lab06_raft/config.py"
FOUND = Mutant("found", CONFIG, "len(text) <= 9", "len(text) <= 0")
SURVIVES = Mutant("survives", CONFIG, "Return a server's id", "Return an id")
BROKEN = Mutant("broken", CONFIG, "import argparse", "import argparse(")
JUDGE = """
import argparse
from tests.support.harness import ROOT, load

def test_ids():
    assert load(ROOT / "lab06_raft/config.py").parse_id("7") == 7

def test_what_always_fails():
    assert {}
"""


@pytest.mark.parametrize("name", LISTS)
def test_every_planted_fault_has_its_place(name):
    assert stale(importlib.import_module(f"tests.mutants.{name}").MUTANTS) == []


def test_a_stale_mutant_is_an_error():
    assert stale([FOUND]) == []
    assert "0 places" in stale([FOUND._replace(old="no such text")])[0]
    assert "two of this name" in stale([FOUND, FOUND])[0]


def test_the_runner_names_the_finder_or_says_that_there_is_none(tmp_path, capsys):
    judges = Judges(tmp_path, 1, ["tests/test_judge.py"])
    judge = tmp_path / "0/labs/tests/test_judge.py"
    for mutant, other_tests_pass, verdict in (
        (FOUND, True, "found: found by tests/test_judge.py::test_ids"),
        (BROKEN, True, "broken: found by tests/test_judge.py::test_ids"),
        (SURVIVES, True, "survives: SURVIVES"),
        (SURVIVES, False, "survives: NOT JUDGED: tests/test_judge.py::test_what_always_fails"),
    ):
        judge.write_text(JUDGE.format(other_tests_pass))
        assert judges.verdict(mutant) == ("found by" in verdict)
        assert capsys.readouterr().out.startswith(verdict)
        assert (tmp_path / "0/labs" / CONFIG).read_text() == (ROOT / CONFIG).read_text()


@pytest.mark.parametrize("name", LISTS)
def test_make_runs_a_list(name):
    plan = subprocess.run(
        ["make", "-n", f"mutants-{name}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"-m tests.mutants {name}" in plan.stdout
