"""Rings in virtual time, in which whatever can go wrong does: play any number of seeds."""

import sys
import time

from tests.sim_chord.scenarios import SCENARIOS, run
from tests.support import seeds


def main() -> int:
    parser = seeds.parser("sim_chord", __doc__, " of each scenario")
    parser.add_argument("--only", metavar="WORD", default="", help="scenarios with it in the name")
    args = parser.parse_args()
    start = time.perf_counter()
    names = [name for name in SCENARIOS if args.only in name]
    runs, failures, beyond = run(names, range(args.first, args.first + args.seeds))
    elapsed = time.perf_counter() - start
    print(
        f"{runs} runs, {failures} failures, {beyond} beyond what a ring promises, {elapsed:.1f} s"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
