"""The command line of a simulation: play seeds, print what fails, and how many did."""

import argparse
import time
from collections.abc import Callable


def parser(prog: str, description: str, of_what: str = "") -> argparse.ArgumentParser:
    """Return a parser for how many seeds to play, and which is the first."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("seeds", type=int, help=f"how many{of_what}")
    parser.add_argument("--first", type=int, default=0, help="the first one (default 0)")
    return parser


def play(args: argparse.Namespace, violation: Callable[[int], str | None]) -> int:
    """Print what `violation` says of each seed, then the sums; return the exit status."""
    begun = time.perf_counter()
    failures = 0
    for seed in range(args.first, args.first + args.seeds):
        if found := violation(seed):
            failures += 1
            print(found, flush=True)
    print(f"{args.seeds} seeds, {failures} failures, {time.perf_counter() - begun:.1f} s")
    return 1 if failures else 0
