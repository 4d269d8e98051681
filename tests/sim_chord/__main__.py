"""Rings in virtual time, as many seeds as one likes; see the package."""

import argparse
import sys
import time

from tests.sim_chord.scenarios import SCENARIOS, run

DESCRIPTION = "Play rings in virtual time, in which whatever can go wrong does."


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="sim_chord", description=DESCRIPTION)
    parser.add_argument("seeds", type=int, help="how many of each scenario")
    parser.add_argument("--first", type=int, default=0, help="the first one (default 0)")
    parser.add_argument("--only", metavar="WORD", default="", help="scenarios with it in the name")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    names = [name for name in SCENARIOS if args.only in name]
    runs, failures, beyond = run(names, range(args.first, args.first + args.seeds))
    elapsed = time.perf_counter() - start
    print(f"{runs} runs, {failures} failures, {beyond} lost three nodes at once, {elapsed:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
