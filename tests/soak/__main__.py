"""Attacks that take minutes: python -m tests.soak, or python -m tests.soak lab05.churn --scale 0.1

Each module lab0N.py has a dictionary ATTACKS of functions by name. An attack takes a scale, which
multiplies its counts or its duration (1 is what `make soak` runs), returns its figures in one line,
and raises an exception that says what broke.
"""

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.support.processes import leftovers


def attacks() -> dict[str, Callable[[float], str]]:
    """Return all attacks by their full names, such as "lab05.churn"."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("lab*.py")):
        module = importlib.import_module(f"tests.soak.{path.stem}")
        attacks = getattr(module, "ATTACKS", {})
        found |= {f"{path.stem}.{name}": attack for name, attack in attacks.items()}
    return found


def run(name: str, attack: Callable[[float], str], scale: float) -> bool:
    """Run one attack and print one line about it; return whether the labs have held."""
    begun = time.monotonic()
    try:
        figures = attack(scale)
        if left := leftovers():
            raise AssertionError(f"processes are left behind: {left}")
    except Exception as error:
        traceback.print_exc()
        figures = f"{type(error).__name__}: {error}"
        held = False
    else:
        held = True
    elapsed = time.monotonic() - begun
    print(f"{name}: {'held' if held else 'BROKEN'}: {figures} ({elapsed:.0f} s)", flush=True)
    return held


def main(argv: list[str] | None = None) -> int:
    known = attacks()
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of attacks or labs; all: {', '.join(known)}")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the counts and durations")
    args = parser.parse_args(argv)
    chosen = [n for n in known if not args.names or {n, n.partition(".")[0]} & set(args.names)]
    for name in args.names:
        if not any(name in (one, one.partition(".")[0]) for one in known):
            parser.error(f"there is no attack {name!r}")
    held = [run(name, known[name], args.scale) for name in chosen]
    print(f"{sum(held)} of {len(held)} attacks: the labs have held")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
