"""The lists of planted faults fit the labs, and their runner names the test that finds one."""

import importlib
import subprocess

import pytest

from tests.mutants import Mutant, changes
from tests.mutants.__main__ import LISTS, Judges, judge_changes, stale
from tests.mutants.explained import EXPLAINED, Explained
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
        out = capsys.readouterr().out
        assert out.startswith(verdict)
        assert ("found by" in verdict) or "+" in out
        assert (tmp_path / "0/labs" / CONFIG).read_text() == (ROOT / CONFIG).read_text()


@pytest.mark.parametrize("name", LISTS)
def test_make_runs_a_list(name):
    plan = subprocess.run(
        ["make", "-n", f"mutants-{name}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"-m tests.mutants {name}" in plan.stdout


# --- Random changes ---


def test_every_explained_change_is_of_a_line_that_is_there():
    assert changes.stale() == []
    assert all(known.why for known in EXPLAINED)


def test_an_explanation_of_a_line_that_has_gone_is_stale(monkeypatch):
    monkeypatch.setattr(changes, "EXPLAINED", [Explained(CONFIG, "no such line", "", "because")])
    assert changes.stale() == [f"{CONFIG} has no line 'no such line'"]


def test_a_change_is_explained_by_its_line_and_by_what_it_becomes(monkeypatch):
    text = (ROOT / CONFIG).read_text()
    old = next(line for line in text.splitlines() if "len(text) <= 9" in line)
    mutant = Mutant("", CONFIG, text, text.replace("len(text) <= 9", "len(text) <= 0"))
    known = Explained(CONFIG, old.strip(), old.strip().replace("9", "0"), "because")
    assert changes.explanation(mutant) == ""
    monkeypatch.setattr(changes, "EXPLAINED", [known])
    assert changes.explanation(mutant) == "because"
    assert changes.explanation(mutant._replace(new=text.replace("<= 9", "<= 8"))) == ""


def test_the_programs_of_a_lab_are_those_that_stand_in_no_other():
    files = changes.own_files(6)
    assert CONFIG in files and "lab06_raft/raft.py" in files
    assert "lab06_raft/cli.py" not in files and "lab06_raft/rpc.py" not in files


def test_a_sample_is_the_same_each_time_and_changes_what_runs():
    pytest.importorskip("cosmic_ray")
    sample = changes.sample([CONFIG], 10, seed=7)
    assert sample == changes.sample([CONFIG], 10, seed=7) != changes.sample([CONFIG], 10, seed=8)
    assert len({mutant.new for mutant in sample}) == len(sample) == 10
    for mutant in sample:
        assert mutant.old == (ROOT / CONFIG).read_text() != mutant.new
        assert changes._meaning(mutant.old) != changes._meaning(mutant.new)
    assert changes._meaning("def f(x: int) -> int: return x") == changes._meaning(
        "def f(x): return x  # nothing else"
    )


def test_random_changes_are_counted_in_a_table(monkeypatch, capsys):
    sampled = [Mutant(name, CONFIG, name, name) for name in ("a", "b", "c")]
    monkeypatch.setattr(changes, "sample", lambda files, count, seed: sampled)
    monkeypatch.setattr(changes, "explanation", lambda mutant: mutant.name == "a")
    monkeypatch.setattr("tests.mutants.__main__.judge_all", lambda judged, *rest: len(judged) - 1)
    assert judge_changes([], [], 3, 0, 1) == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [["changes", "3"], ["killed", "1"], ["explained", "1"], ["alive", "1"]]
