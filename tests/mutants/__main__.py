"""Plant faults in a lab, one at a time, and name the test that finds each.

    python -m tests.mutants raft                   every mutant of tests/mutants/raft/
    python -m tests.mutants raft --only NAME       one of them
    python -m tests.mutants raft --sample 100      random changes of lab 6, as cosmic-ray makes them

A list is a module or package with MUTANTS and TESTS, the files that judge, the quickest first. Each
mutant is judged in a copy of the repository, in a network of its own where the system gives one, up
to the first test that fails. That test must pass without the edit, and a mutant that no test finds
is an error, as is one whose text is not there exactly once. A random change counts as found, too,
if tests/mutants/explained.py says why no test can notice it.
"""

import argparse
import contextlib
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

from tests.mutants import Mutant, changes
from tests.support.harness import ROOT

LISTS = ("udp", "tcp", "zeromq", "grpc_service", "chord", "raft")  # by lab
JUDGE_TIMEOUT = 900  # s for all tests; a mutant that hangs is found by then
NOT_COPIED = (".*", "__pycache__", "bench-results")
OWN_NETWORK = ("unshare", "--net", *(() if os.geteuid() == 0 else ("--map-root-user",)))
LOOPBACK = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")


def stale(mutants: list[Mutant]) -> list[str]:
    """Return what is wrong with a list: texts not there exactly once, names used twice."""
    names = [mutant.name for mutant in mutants]
    found = [f"{name}: there are two of this name" for name in set(names) if names.count(name) > 1]
    for mutant in mutants:
        count = (ROOT / mutant.file).read_text().count(mutant.old)
        if count != 1:
            found.append(f"{mutant.name}: {count} places in {mutant.file} have {mutant.old!r}")
    return found


def own_network() -> tuple[str, ...]:
    """Return what runs a command in a network of its own; nothing if the system gives none."""
    prefix = (*OWN_NETWORK, *LOOPBACK)
    with contextlib.suppress(OSError):
        if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return prefix
    return ()


class Copy:
    """A copy of the repository in which one mutant at a time is judged."""

    def __init__(self, folder: Path):
        self.root = folder / "labs"
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(*NOT_COPIED))
        self.network = own_network()

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
                [*self.network, *command, "-p", "no:cacheprovider", *tests],
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

    def __init__(self, folder: Path, count: int, tests: list[str], total: int = 1):
        self.tests = tests
        self.copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(count):
            self.copies.put(Copy(folder / str(number)))
        self.sound: dict[str, bool] = {}  # by test: it passes without any edit
        self.begun, self.total, self.done = time.monotonic(), total, 0

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
        if not found:
            text = "\n".join([text, *changes.diff(mutant)])
        self.done += 1
        left = (time.monotonic() - self.begun) / self.done * (self.total - self.done) / 60
        progress = (
            f"{time.monotonic() - begun:.0f} s; {self.done} of {self.total}, {left:.0f} min left"
        )
        print(f"{mutant.name}: {text} ({progress})", flush=True)
        return found


def judge_all(mutants: list[Mutant], tests: list[str], jobs: int) -> int:
    """Judge mutants; return how many are found."""
    jobs = max(1, min(jobs, len(mutants)))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        judges = Judges(Path(folder), jobs, tests, len(mutants))
        return sum(pool.map(judges.verdict, mutants))


def judge_changes(files: list[str], tests: list[str], count: int, seed: int, jobs: int) -> int:
    """Judge random changes, and print a table of them; return an exit status."""
    sampled = changes.sample(files, count, seed)
    judged = [mutant for mutant in sampled if not changes.explanation(mutant)]
    found, explained = judge_all(judged, tests, jobs), len(sampled) - len(judged)
    alive = len(judged) - found
    for name, number in (
        ("changes", len(sampled)),
        ("killed", found),
        ("explained", explained),
        ("alive", alive),
    ):
        print(f"{name:10}{number:6}")
    return 1 if alive else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__.splitlines()[0])
    parser.add_argument("list", choices=LISTS)
    parser.add_argument("--only", metavar="NAME", help="judge this mutant alone")
    parser.add_argument("--sample", metavar="N", type=int, help="so many random changes instead")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of these (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    args = parser.parse_args(argv)
    module = importlib.import_module(f"tests.mutants.{args.list}")
    if args.sample:
        if wrong := changes.stale():
            parser.error("\n".join(wrong))
        files = changes.own_files(LISTS.index(args.list) + 1)
        return judge_changes(files, module.TESTS, args.sample, args.seed, args.jobs)
    if wrong := stale(module.MUTANTS):
        parser.error("\n".join(wrong))
    mutants = [mutant for mutant in module.MUTANTS if args.only in (None, mutant.name)]
    if not mutants:
        parser.error(f"there is no mutant {args.only!r}")
    found = judge_all(mutants, module.TESTS, args.jobs)
    print(f"{found} of {len(mutants)} mutants are found")
    return 0 if found == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
