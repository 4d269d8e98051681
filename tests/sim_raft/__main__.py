"""Lab 6's core in virtual time: play seeds and name those that fail.

python -m tests.sim_raft 100000            seeds 0 to 99999
python -m tests.sim_raft 1 --first 4711    seed 4711 again
"""

import argparse
import sys
import time

from tests.sim_raft.cluster import violation


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="sim_raft", description=__doc__.splitlines()[0])
    parser.add_argument("seeds", type=int, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one (default 0)")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    failures = 0
    for seed in range(args.first, args.first + args.seeds):
        if found := violation(seed):
            failures += 1
            print(found, flush=True)
    print(f"{args.seeds} seeds, {failures} failures, {time.perf_counter() - start:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
