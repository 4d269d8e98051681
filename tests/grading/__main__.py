"""Grade submissions of the six labs.

    python -m tests.grading SUBS OUT [--jobs N] [--labs 1,3] [--map FILE] [--rubric FILE]
                                     [--with PACKAGE ...] [--scheduler HOST:PORT]
    python -m tests.grading --lab 1=PATH        one lab folder of one's own: the report comes here

SUBS has a folder or an archive for each submission. Exit status: 0 all is judged (with --lab: all
points), 1 with --lab if points are lost, 2 if something could not be judged.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.grading import finding, reports, sandbox
from tests.grading.grade import LabResult, Options, from_json, grade_lab, grade_safely, read_rubric
from tests.grading.page import page

NOT_ISOLATED = (
    "This machine has no namespaces for us: tests run one after the other, on free ports."
)


def fingerprint(path: Path, options: Options) -> str:
    """Return what changes when a submission, the rubric or the choice of labs does."""
    digest = hashlib.sha256(Path(options.rubric).read_bytes())
    digest.update(repr((options.labs, sorted(options.mapped.items()), options.site)).encode())
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file() and not file.is_symlink():
            status = file.stat()
            digest.update(repr((str(file), status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()


def done_before(out: Path, name: str, mark: str) -> list[LabResult] | None:
    """Return the results of an earlier run, if they are complete and of the same submission."""
    try:
        extra = json.loads((out / name / "results.json").read_text())["extra_data"]
        results = from_json(extra)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return results if extra["fingerprint"] == mark and all(lab.judged for lab in results) else None


class Progress:
    """A line on the terminal: submissions done, time left."""

    def __init__(self, total: int):
        self.total, self.done, self.begun = total, 0, time.monotonic()

    def step(self, name: str, results: list[LabResult]) -> None:
        self.done += 1
        score = reports.number(sum(lab.score for lab in results))
        left = (time.monotonic() - self.begun) / self.done * (self.total - self.done)
        line = f"{self.done} of {self.total} submissions, about {left / 60:.0f} min left"
        if sys.stderr.isatty():
            print(
                f"\r\033[K{line}",
                end="\n" if self.done == self.total else "",
                file=sys.stderr,
                flush=True,
            )
        else:
            print(f"{line}: {reports.plain(name)} has {score} points", file=sys.stderr, flush=True)


Work = dict[str, Path]


def on_this_machine(
    work: Work, options: Options, jobs: int
) -> Iterator[tuple[str, list[LabResult]]]:
    """Grade so many submissions at a time; yield the results as they come."""
    with ThreadPoolExecutor(jobs) as executor:
        tasks = {
            executor.submit(grade_safely, name, path, options): name for name, path in work.items()
        }
        try:
            for task in as_completed(tasks):
                yield tasks[task], task.result()
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            sandbox.stop_all()
            raise


def grade_all(args: argparse.Namespace, options: Options) -> int:
    """Grade a folder of submissions; return the exit status."""
    work = finding.submissions(args.subs)
    marks = {name: fingerprint(path, options) for name, path in work.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    graded = {name: old for name in work if (old := done_before(args.out, name, marks[name]))}
    if graded:
        print(f"{len(graded)} submissions have been graded before", file=sys.stderr)
    left = {name: path for name, path in work.items() if name not in graded}
    progress = Progress(len(left))
    for name, results in _spread(args)(left, options, args.jobs):
        graded[name] = results
        reports.write_one(args.out, name, results, marks[name])
        progress.step(name, results)
    graded = dict(sorted(graded.items()))
    reports.write_all(args.out, graded)
    reports.write(args.out / "index.html", page(graded))
    if all(lab.found.startswith("not found") for results in graded.values() for lab in results):
        raise finding.Unusable(f"no submission in {args.subs} holds a lab")
    print(f"{len(graded)} submissions: {args.out / 'index.html'}")
    return 0 if all(lab.judged for results in graded.values() for lab in results) else 2


def _spread(args: argparse.Namespace) -> Callable[[Work, Options, int], Iterator]:
    if not args.scheduler:
        return on_this_machine
    from tests.grading.spread import over_a_cluster  # Dask is needed for nothing else

    return lambda work, options, jobs: over_a_cluster(work, options, args.scheduler)


def grade_own(args: argparse.Namespace, options: Options) -> int:
    """Grade one's own lab folder; return the exit status."""
    number, _, path = args.lab.partition("=")
    folder = Path(path)
    if not number.isdigit() or int(number) not in finding.LABS or not folder.is_dir():
        raise finding.Unusable(
            f"--lab takes a number from 1 to 6 and a folder, as in 1=my/lab1, not {args.lab!r}"
        )
    lab = int(number)
    found = finding.find(folder.resolve()).get(lab)
    if not found or not found.scripts:
        found = finding.find(folder.resolve(), {lab: "."})[lab]
    if not found.scripts:
        raise finding.Unusable(f"{folder} has no program of lab {lab}")
    result = grade_lab(lab, found, folder.resolve(), options)
    print(reports.terminal([result]))
    return 2 if not result.judged else int(result.score < result.most)


def install(packages: list[str], target: str) -> str:
    """Install packages for the submissions; return the folder that has them."""
    if packages:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "--target", target, *packages], check=True)
    return target if packages else ""


def parse_labs(text: str) -> list[int]:
    """Return the numbers of "1,3"; raise ArgumentTypeError if one is no lab."""
    numbers = [int(part) for part in text.split(",") if part.strip().isdigit()]
    if not numbers or len(numbers) != len(text.split(",")) or not set(numbers) <= set(finding.LABS):
        raise argparse.ArgumentTypeError(f"expected numbers from 1 to 6, as in 1,3, not {text!r}")
    return sorted(set(numbers))


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.grading",
        description="Grade submissions of the six labs.",
        epilog="example: python -m tests.grading submissions grades --jobs 2, or --lab 1=my/lab1",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument(
        "subs", nargs="?", type=Path, help="a folder or archive for each submission"
    )
    parser.add_argument("out", nargs="?", type=Path, help="where the reports go")
    parser.add_argument("--lab", metavar="N=PATH", help="grade one lab folder, and report here")
    parser.add_argument("--jobs", type=int, default=2, help="submissions at a time (default: 2)")
    parser.add_argument(
        "--labs", type=parse_labs, default=list(finding.LABS), help="such as 1,3 (default: all)"
    )
    parser.add_argument(
        "--map", type=Path, help="a CSV file of submission, lab, path: where labs are"
    )
    parser.add_argument(
        "--rubric", type=Path, default=Path(Options([]).rubric), help="tests and points"
    )
    parser.add_argument(
        "--with",
        dest="packages",
        nargs="+",
        default=[],
        metavar="PACKAGE",
        help="packages that the submissions may use as well",
    )
    parser.add_argument("--scheduler", metavar="HOST:PORT", help="spread over a Dask cluster")
    args = parser.parse_args(argv)
    if not args.lab and not (args.subs and args.out):
        parser.error("expected SUBS and OUT, or --lab N=PATH")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if not sandbox.isolated():
        print(NOT_ISOLATED, file=sys.stderr)
        args.jobs = 1
    try:
        read_rubric(args.rubric)
        with tempfile.TemporaryDirectory(prefix="packages-") as packages:
            Path(packages).chmod(0o755)
            hidden = [str(sandbox.ROOT), *(str(p.resolve()) for p in (args.subs, args.out) if p)]
            mapped = finding.read_map(args.map) if args.map else {}
            site = install(args.packages, packages)
            options = Options(args.labs, str(args.rubric.resolve()), mapped, hidden, site)
            return grade_own(args, options) if args.lab else grade_all(args, options)
    except (finding.Unusable, OSError, subprocess.CalledProcessError) as error:
        print(f"grading: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
