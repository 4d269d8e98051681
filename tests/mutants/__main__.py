"""Plant faults in a lab, one at a time, and name the test that finds each.

    python -m tests.mutants raft                   every mutant of tests/mutants/raft/
    python -m tests.mutants raft --only NAME       one of them

A list is a module or package with MUTANTS and TESTS, the files that judge, the quickest first. Each
mutant is judged in a copy of the repository, up to the first test that fails. That test must pass
without the edit, and a mutant that no test finds is an error, as is one whose text is not there
exactly once.
"""

import argparse
import importlib
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants import Mutant
from tests.support.harness import ROOT

LISTS = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*"))
JUDGE_TIMEOUT = 900  # s for all tests; a mutant that hangs is found by then
NOT_COPIED = (".*", "__pycache__", "bench-results")


def stale(mutants: list[Mutant]) -> list[str]:
    """Return what is wrong with a list: texts not there exactly once, names used twice."""
    names = [mutant.name for mutant in mutants]
    found = [f"{name}: there are two of this name" for name in set(names) if names.count(name) > 1]
    for mutant in mutants:
        count = (ROOT / mutant.file).read_text().count(mutant.old)
        if count != 1:
            found.append(f"{mutant.name}: {count} places in {mutant.file} have {mutant.old!r}")
    return found


class Copy:
    """A copy of the repository in which one mutant at a time is judged."""

    def __init__(self, folder: Path):
        self.root = folder / "labs"
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(*NOT_COPIED))

    def judge(self, mutant: Mutant, tests: list[str]) -> tuple[str, str]:
        """Return the first test that fails with the edit and its error; ("", "") if all pass."""
        path = self.root / mutant.file
        text = path.read_text()
        path.write_text(text.replace(mutant.old, mutant.new))
        try:
            return self.first_failure(tests)
        finally:
            path.write_text(text)

    def first_failure(self, tests: list[str]) -> tuple[str, str]:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "--tb=line", "-rfE"]
        # Without compiled files, none can be mistaken for that of an edit of the same second.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "1000"}
        try:
            done = subprocess.run(
                [*command, "-p", "no:cacheprovider", *tests],
                cwd=self.root,
                env=environment,
                capture_output=True,
                text=True,
                timeout=JUDGE_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return "", f"no end after {JUDGE_TIMEOUT} s"
        if done.returncode == 0:
            return "", ""
        failed = re.search(r"^(?:FAILED|ERROR) (tests/\S+::.+?)(?: - (.*))?$", done.stdout, re.M)
        if not failed:
            return "", f"the tests do not run: {done.stdout[-500:]}{done.stderr[-500:]}"
        return failed[1], failed[2] or ""


class Judges:
    """Copies of the repository, as many as may judge at the same time."""

    def __init__(self, folder: Path, count: int, tests: list[str]):
        self.tests = tests
        self.copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(count):
            self.copies.put(Copy(folder / str(number)))
        self.sound: dict[str, bool] = {}  # by test: it passes without any edit

    def verdict(self, mutant: Mutant) -> bool:
        """Judge one mutant and print one line about it; return whether a test has found it."""
        begun, copy = time.monotonic(), self.copies.get()
        try:
            finder, reason = copy.judge(mutant, self.tests)
            if finder and finder not in self.sound:
                self.sound[finder] = copy.first_failure([finder]) == ("", "")
        finally:
            self.copies.put(copy)
        found = bool(finder) and self.sound[finder]
        text = f"found by {finder}" if found else f"SURVIVES {reason}"
        if finder and not found:
            text = f"NOT JUDGED: {finder} fails without it, too"
        print(f"{mutant.name}: {text} ({time.monotonic() - begun:.0f} s)", flush=True)
        return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__.splitlines()[0])
    parser.add_argument("list", choices=LISTS)
    parser.add_argument("--only", metavar="NAME", help="judge this mutant alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    args = parser.parse_args(argv)
    module = importlib.import_module(f"tests.mutants.{args.list}")
    if wrong := stale(module.MUTANTS):
        parser.error("\n".join(wrong))
    mutants = [mutant for mutant in module.MUTANTS if args.only in (None, mutant.name)]
    if not mutants:
        parser.error(f"there is no mutant {args.only!r}")
    jobs = min(args.jobs, len(mutants))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        judges = Judges(Path(folder), jobs, module.TESTS)
        found = sum(pool.map(judges.verdict, mutants))
    print(f"{found} of {len(mutants)} mutants are found")
    return 0 if found == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
