"""Answer "gcd A B" for a lab 3 server: python3 gcd.py 5557 5558

The ports are the server's worker_inputs and worker_outputs.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import math
import sys

import worker


def answer(arguments: list[str]) -> str | None:
    """Return "gcd for A B is C"; None if there are not exactly two integers."""
    if len(arguments) != 2 or not all(map(worker.INTEGER.fullmatch, arguments)):
        return None
    a, b = arguments
    return f"gcd for {a} {b} is {math.gcd(int(a), int(b))}"


def main(argv: list[str] | None = None) -> int:
    usage = "gcd A B, two integers of at most 1000 digits"
    return worker.main(worker.Task("gcd", answer, usage), argv)


if __name__ == "__main__":
    sys.exit(main())
