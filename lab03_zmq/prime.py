"""Answer "isprime N" for a lab 3 server: python3 prime.py 5557 5558

The ports are the server's worker_inputs and worker_outputs.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import sys

import worker
from primes import is_prime


def answer(arguments: list[str]) -> str | None:
    """Return "N is prime" or "N is not prime"; None if there is not exactly one integer."""
    if len(arguments) != 1 or not worker.INTEGER.fullmatch(arguments[0]):
        return None
    number = arguments[0]
    return f"{number} is prime" if is_prime(int(number)) else f"{number} is not prime"


def main(argv: list[str] | None = None) -> int:
    usage = "isprime N, an integer of at most 1000 digits"
    return worker.main(worker.Task("isprime", answer, usage), argv)


if __name__ == "__main__":
    sys.exit(main())
