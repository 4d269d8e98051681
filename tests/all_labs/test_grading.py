"""The grader judges two tiny submissions, and tells what it needs to tell."""

import json
import random
import socket
import subprocess
import sys
from socket import AF_INET, AF_INET6, SOCK_STREAM

import pytest

from tests.grading import finding, grade, ports, reports, sandbox
from tests.grading.zoo import __main__ as zoo
from tests.support.harness import ROOT

PLAIN = ROOT / "tests/grading/zoo/plain"
ACKS_WITHOUT_SAVING = ("        save(session)\n", "        session.done = True\n")


def run(*args, **options):
    command = [sys.executable, "-m", "tests.grading", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, **options)


@pytest.fixture
def rubric(tmp_path):
    """Three of the tests that take no time."""
    chosen = {"start_is_acked", "file_is_saved", "client_sends_start"}
    rows = json.loads((grade.HERE / "rubric.json").read_text())
    path = tmp_path / "rubric.json"
    path.write_text(json.dumps([row for row in rows if row["test"] in chosen]))
    return path


@pytest.fixture
def subs(tmp_path):
    """Two submissions of lab 1: one that is right, one that acknowledges without saving."""
    for name, (old, new) in {"ann": ("", ""), "bob": ACKS_WITHOUT_SAVING}.items():
        folder = tmp_path / "subs" / name / "week 1"
        folder.mkdir(parents=True)
        for script in (PLAIN / "lab1").glob("*.py"):
            text = script.read_text()
            (folder / script.name).write_text(text.replace(old, new) if old else text)
    return tmp_path / "subs"


def test_a_right_submission_has_all_points_and_a_wrong_one_learns_why(subs, rubric, tmp_path):
    out = tmp_path / "out"
    result = run(subs, out, "--labs", 1, "--rubric", rubric)
    assert result.returncode == 0, result.stderr
    rows = (out / "summary.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [["ann", "25"], ["bob", "13"]]
    report = (out / "bob" / "report.md").read_text()
    assert "Expected: the server has saved text.txt with the 5200 bytes sent" in report
    scores = {
        t["name"]: t["score"] for t in json.loads((out / "bob/results.json").read_text())["tests"]
    }
    assert sorted(scores.values()) == [0, 5, 8]
    assert "<script src" not in (out / "index.html").read_text()
    assert 'failures="1"' in (out / "junit.xml").read_text()
    before = (out / "ann" / "results.json").stat().st_mtime_ns
    again = run(subs, out, "--labs", 1, "--rubric", rubric)
    assert "2 submissions have been graded before" in again.stderr
    assert (out / "ann" / "results.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_a_path_without_a_submission_is_an_error(tmp_path, place):
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / place, tmp_path / "out")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_without_a_lab_is_an_error(tmp_path):
    (tmp_path / "subs" / "ann").mkdir(parents=True)
    result = run(tmp_path / "subs", tmp_path / "out")
    assert result.returncode == 2
    assert "holds a lab" in result.stderr


def test_a_program_that_does_not_start_is_one_fault_with_its_last_words(tmp_path):
    for name in ("server.py", "client.py"):
        (tmp_path / name).write_text("import packagethatisnotthere  # SOCK_DGRAM s | 0\n")
    result = run("--lab", f"1={tmp_path}")
    assert result.returncode == 1
    assert result.stdout.count("No module named 'packagethatisnotthere'") == 1


def test_the_rubric_gives_100_points_a_lab_to_tests_that_exist():
    rows = grade.read_rubric(grade.HERE / "rubric.json")
    assert {
        lab: sum(r.points for r in rows if r.lab == lab) for lab in finding.LABS
    } == dict.fromkeys(finding.LABS, 100)
    for row in rows:
        source = (grade.HERE / f"lab{row.lab:02}.py").read_text()
        assert f"\ndef {row.test}(scene: Scene)" in source, row.test


LAYOUTS = {
    "as here": {
        lab: folder for lab, folder in enumerate(sorted(p.name for p in ROOT.glob("lab0*")), 1)
    },
    "plain": {lab: f"tests/grading/zoo/plain/lab{lab}" for lab in finding.LABS},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_lab_is_found_with_all_its_programs(layout, tmp_path):
    for lab, folder in LAYOUTS[layout].items():
        target = tmp_path / "any" / f"Week {lab}" / "src"
        target.mkdir(parents=True)
        for path in (ROOT / folder).iterdir():
            if path.suffix in (".py", ".proto", ".conf"):
                (target / path.name).write_text(path.read_text())
    found = finding.find(tmp_path)
    assert {lab: hit.folder.parent.name for lab, hit in found.items()} == {
        lab: f"Week {lab}" for lab in finding.LABS
    }
    for lab, hit in found.items():
        assert set(hit.scripts) == set(finding.LABS[lab].roles)


def test_signs_in_the_source_are_enough(tmp_path):
    for lab in finding.LABS:
        target = tmp_path / "abcdef"[lab - 1]
        target.mkdir()
        for path in (PLAIN / f"lab{lab}").iterdir():
            if path.is_file():
                (target / path.name).write_text(path.read_text())
    found = finding.find(tmp_path)
    assert {lab: hit.folder.name for lab, hit in found.items()} == dict(enumerate("abcdef", 1))


def test_every_planted_bug_has_its_place_and_its_test(tmp_path):
    bugs = zoo.read_bugs(finding.LABS)
    tests = {(test.lab, test.test) for test in grade.read_rubric(grade.HERE / "rubric.json")}
    for number, bug in enumerate(bugs):
        zoo.plant(bug, tmp_path / str(number))
        assert (bug["lab"], bug["test"]) in tests, bug
    assert all(sum(bug["lab"] == lab for bug in bugs) >= 10 for lab in finding.LABS)


def test_every_habit_has_its_place_and_its_tests(tmp_path):
    tests = {(test.lab, test.test) for test in grade.read_rubric(grade.HERE / "rubric.json")}
    for number, habit in enumerate(zoo.read_habits(finding.LABS)):
        zoo.plant(habit, tmp_path / str(number))
        assert {(habit["lab"], test) for test in habit["tests"]} <= tests, habit


def test_control_characters_of_a_stranger_are_shown_not_obeyed():
    assert reports.plain("a\x1b[31mb\r\n\x07") == "a\\x1b[31mb\\x0d\n\\x07"


HOSTILE = """
import os, signal, subprocess, sys, time
print("passed 100/100")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for place in ("{out}/ann/results.json", "{root}/tests/grading/rubric.json", "/etc/grade"):
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        open(place, "w").write("100")
        print("wrote", place)
    except OSError as error:
        print("refused", error.errno)
for pid in range(1, 40):
    try:
        if pid != os.getpid():
            os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
subprocess.Popen([sys.executable, "-c", "import time; time.sleep({nap})"], start_new_session=True)
os._exit(0)  # SOCK_DGRAM |
"""


@pytest.mark.skipif(not sandbox.isolated(), reason="needs namespaces")
def test_a_hostile_submission_changes_nothing_and_leaves_nothing(tmp_path, rubric):
    out, folder = tmp_path / "out", tmp_path / "subs" / "eve"
    nap = random.uniform(900, 1000)  # s, by which this test knows its own
    folder.mkdir(parents=True)
    for name in ("server.py", "client.py"):
        (folder / name).write_text(HOSTILE.format(out=out, root=ROOT, nap=nap))
    (out / "ann").mkdir(parents=True)
    (out / "ann" / "results.json").write_text("untouched")
    ours = (grade.HERE / "rubric.json").read_bytes()
    result = run(tmp_path / "subs", out, "--labs", 1, "--rubric", rubric)
    assert "eve has 0 points" in result.stderr
    assert (out / "ann" / "results.json").read_text() == "untouched"
    assert (grade.HERE / "rubric.json").read_bytes() == ours
    assert "refused" in (out / "eve" / "results.json").read_text()  # it has tried
    sleepers = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert f"time.sleep({nap})" not in sleepers


FORK_BOMB = """
import os, time  # SOCK_DGRAM |
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.1)
"""


@pytest.mark.skipif(not sandbox.isolated(), reason="needs namespaces")
def test_a_fork_bomb_is_ended_and_told_so(tmp_path):
    for name in ("server.py", "client.py"):
        (tmp_path / name).write_text(FORK_BOMB)
    result = run("--lab", f"1={tmp_path}")
    assert result.returncode == 1
    assert "they took more than 300 processes and were ended" in result.stdout


@pytest.mark.parametrize("host, family", [("127.0.0.1", AF_INET), ("::1", AF_INET6)])
def test_ports_that_listen_or_are_connected_are_counted(host, family):
    with socket.create_server((host, 0), family=family) as server:
        address = server.getsockname()
        assert ports.count(address[1], SOCK_STREAM, ports.TCP_LISTEN) == 1
        assert ports.count(address[1], SOCK_STREAM, ports.TCP_ESTABLISHED) == 0
        with socket.create_connection(address[:2]), server.accept()[0]:
            assert ports.count(address[1], SOCK_STREAM, ports.TCP_ESTABLISHED) == 1
    assert ports.count(address[1], SOCK_STREAM, ports.TCP_LISTEN) == 0


@pytest.mark.parametrize("arguments, labs", [([], [1, 2, 3, 4, 5, 6]), (["6", "1"], [6, 1])])
def test_the_zoo_takes_all_labs_or_those_named(monkeypatch, capsys, arguments, labs):
    monkeypatch.setattr(zoo, "check", lambda *them: [(them[0] == labs, "the labs")])
    assert zoo.main(arguments) == 0
    assert capsys.readouterr().out == "ok   the labs\nthe grader finds them all\n"
