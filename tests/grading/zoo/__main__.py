"""Check the grader itself: python -m tests.grading.zoo [LAB ...] [--repeat N] [--bugs]

Our labs and the plain implementations have all points; each planted bug costs the points of the
test that is named with it; each habit, which is right but not ours, costs none of the tests named.
Bugs and habits are a few short edits (old text, new text) of a plain program: these stay as they
are, while our own programs go on changing.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.grading import finding, reports
from tests.grading.grade import GATE, HERE, Options, attempt, grade_lab
from tests.grading.sandbox import ROOT

GOOD = "passed", "unsteady"
PLAIN = HERE / "zoo" / "plain"
OURS = {
    1: "lab01_udp",
    2: "lab02_tcp_threads",
    3: "lab03_zmq",
    4: "lab04_grpc",
    5: "lab05_chord",
    6: "lab06_raft",
}


def plant(bug: dict, folder: Path) -> Path:
    """Return the plain lab with a bug or habit; raise ValueError if an edit does not apply."""
    target = folder / f"lab{bug['lab']}"
    shutil.copytree(PLAIN / f"lab{bug['lab']}", target)
    for edit in bug["edits"]:
        path = target / edit["file"]
        text = path.read_text()
        if text.count(edit["old"]) != 1:
            raise ValueError(f"{bug}: {edit['old']!r} is not once in {edit['file']}")
        path.write_text(text.replace(edit["old"], edit["new"]))
    return target


def read_bugs(labs: Iterable[int]) -> list[dict]:
    """Return the planted bugs of these labs."""
    bugs = json.loads((HERE / "zoo" / "bugs.json").read_text())
    return [bug for bug in bugs if bug["lab"] in labs]


def read_habits(labs: Iterable[int]) -> list[dict]:
    """Return the habits of these labs: ways of students that are right, but not ours."""
    habits = json.loads((HERE / "zoo" / "habits.json").read_text())
    return [habit for habit in habits if habit["lab"] in labs]


def is_accepted(habit: dict) -> tuple[bool, str]:
    """Return whether the gate and the named tests pass with a habit, and a line that says so."""
    options = Options([habit["lab"]], hidden=[str(ROOT)])
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        found = finding.find(plant(habit, Path(folder)))[habit["lab"]]
        answers = {test: attempt(found, test, options) for test in (GATE, *habit["tests"])}
    lost = {test: a["seen"] for test, a in answers.items() if a["status"] not in GOOD}
    line = f"lab {habit['lab']}: {habit['habit']}: {len(answers) - len(lost)} tests passed"
    return not lost, "\n".join([line, *(f"{test}: {seen}" for test, seen in lost.items())])


def is_found(bug: dict) -> tuple[bool, str]:
    """Return whether the named test finds a bug that passes the gate, and a line that says so."""
    options = Options([bug["lab"]], hidden=[str(ROOT)])
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        found = finding.find(plant(bug, Path(folder)))[bug["lab"]]
        gate = attempt(found, GATE, options)
        answer = attempt(found, bug["test"], options, gate.get("seconds", 0.0))
    good = gate["status"] == "passed" and answer["status"] in ("failed", "unsafe")
    line = f"lab {bug['lab']}: {bug['bug']}: {bug['test']} {answer['status']}"
    return good, line if gate["status"] == "passed" else f"{line}, gate {gate['status']}"


def has_all_points(lab: int, folder: Path) -> tuple[bool, str]:
    """Return whether a lab that is right has all points, and a line that says so."""
    found = finding.find(folder)[lab]
    result = grade_lab(lab, found, folder, Options([lab], hidden=[str(ROOT)]))
    line = f"lab {lab}: {folder.relative_to(ROOT)}: {result.score:g} of {result.most:g}"
    good = result.score == result.most
    return good, line if good else f"{line}\n{reports.terminal([result])}"


def check(labs: list[int], repeat: int, jobs: int, bugs: bool) -> Iterator[tuple[bool, str]]:
    """Yield the outcome of every check, in order."""
    with ThreadPoolExecutor(jobs) as executor:
        tasks = [executor.submit(is_found, bug) for bug in read_bugs(labs)]
        tasks += [executor.submit(is_accepted, habit) for habit in read_habits(labs)]
        if not bugs:
            folders = [(lab, ROOT / OURS[lab]) for lab in labs]
            folders += [(lab, PLAIN / f"lab{lab}") for lab in labs]
            tasks += [executor.submit(has_all_points, *x) for _ in range(repeat) for x in folders]
        for task in tasks:
            yield task.result()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.grading.zoo", description=__doc__)
    parser.add_argument("labs", nargs="*", type=int, metavar="LAB", help="1 to 6; default: all")
    parser.add_argument("--repeat", type=int, default=1, help="runs of the labs that are right")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--bugs", action="store_true", help="only planted bugs and habits")
    args = parser.parse_args(argv)
    labs = args.labs or list(finding.LABS)
    if unknown := set(labs) - set(finding.LABS):
        parser.error(f"no such lab: {unknown}")
    missed = []
    for good, line in check(labs, args.repeat, args.jobs, args.bugs):
        print("ok  " if good else "MISS", line, flush=True)
        missed += [line] * (not good)
    print(f"{len(missed)} missed" if missed else "the grader finds them all")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
