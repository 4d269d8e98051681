"""Measure the labs beside their limits and their peers: python -m tests.benchmarks, or with 1 3

Each module lab0N.py has `rows(stack)`, a generator of Rows: it may start servers for the rows that
need them and end them after those; what lasts until the end of the lab goes onto the stack.
The table and the charts are written to bench-results/.
"""

import argparse
import contextlib
import importlib
import itertools
import sys
from pathlib import Path

from tests.benchmarks import report, startup
from tests.benchmarks.measure import Missing, Result, measure
from tests.support.harness import ROOT
from tests.support.processes import leftovers

RESULTS = ROOT / "bench-results"
ROUNDS = 5


def known_labs() -> list[int]:
    return sorted(int(path.stem[3:]) for path in Path(__file__).parent.glob("lab0*.py"))


def run_lab(lab: int, rounds: int, only: str, say) -> list[Result]:
    """Measure the rows of a lab that `only` occurs in, and show each as soon as it is known."""
    module = importlib.import_module(f"tests.benchmarks.lab{lab:02}")
    results = []
    with contextlib.ExitStack() as stack:
        rows = stack.enter_context(contextlib.closing(module.rows(stack)))
        for row in itertools.chain(rows, startup.rows(lab)):
            if only not in row.what:
                continue
            results.append(measure(row, rounds))
            say("", *report.table(results[-1]))
    return results


def draw(lab: int, results: list[Result], say) -> None:
    """Write the charts of a lab."""
    chart = "\n".join(report.text_chart(results))
    (RESULTS / f"lab{lab}.txt").write_text(chart)
    try:
        report.plot(results, RESULTS / f"lab{lab}.png")
    except Missing as reason:
        say(f"    {reason}")


def main(argv: list[str] | None = None) -> int:
    labs = known_labs()
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("labs", nargs="*", type=int, metavar="LAB", help="number; default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is measured")
    parser.add_argument("--only", default="", metavar="TEXT", help="the rows with it in their name")
    args = parser.parse_args(argv)
    if wrong := set(args.labs) - set(labs):
        parser.error(f"no such lab: {min(wrong)}")
    RESULTS.mkdir(exist_ok=True)
    results = []
    with (RESULTS / "table.txt").open("w") as file:

        def say(*lines: str) -> None:
            for line in lines:
                print(line, flush=True)
                print(line, file=file, flush=True)

        say(*report.heading())
        for lab in args.labs or labs:
            found = run_lab(lab, args.rounds, args.only, say)
            if found:
                draw(lab, found, say)
            results += found
        say("", report.summary(results))
    print(f"The table and the charts are in {RESULTS}")
    if left := leftovers():
        print(f"processes are left behind: {left}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
