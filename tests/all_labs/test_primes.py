"""The primality test that labs 2, 3 and 4 share, against independent tables and a sieve."""

import threading
import time

import pytest

from tests.support.harness import ROOT, load

COPIES = sorted(ROOT.glob("lab0*/primes.py"))
primes = load(COPIES[0])

# OEIS A014233: the least strong pseudoprimes to the first k prime bases.
STRONG_PSEUDOPRIMES = [
    2047,
    1373653,
    25326001,
    3215031751,
    2152302898747,
    3474749660383,
    341550071728321,
    3825123056546413051,
    318665857834031151167461,
    3317044064679887385961981,
]
# OEIS A002997: Carmichael numbers, and large ones of the form (6k+1)(12k+1)(18k+1).
CARMICHAEL = [561, 1105, 1729, 2465, 2821, 6601, 8911, 10585, 15841, 29341, 825265, 321197185]
CHERNICK = [(6 * k + 1) * (12 * k + 1) * (18 * k + 1) for k in (1, 6, 35, 45, 51, 10**6 + 31)]
# OEIS A217719: extra strong Lucas pseudoprimes.
LUCAS_PSEUDOPRIMES = [989, 3239, 5777, 10877, 27971, 29681, 30739, 31631, 39059, 72389, 73919]
# Arnault 1995: a strong pseudoprime to all prime bases below 307, p * (313 (p - 1) + 1)
# * (353 (p - 1) + 1).
ARNAULT_P = int(
    "29674495668685510550154174642905332730771991799853043350995075531276838753171770199594238596428"
    "121188033664754218345562493168782883"
)
ARNAULT = ARNAULT_P * (313 * (ARNAULT_P - 1) + 1) * (353 * (ARNAULT_P - 1) + 1)
MERSENNE_EXPONENTS = [2, 3, 5, 7, 13, 17, 19, 31, 61, 89, 107, 127, 521, 607, 1279]


def sieve(limit):
    is_prime = bytearray([1]) * limit
    is_prime[:2] = b"\0\0"
    for n in range(2, int(limit**0.5) + 1):
        if is_prime[n]:
            is_prime[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return is_prime


@pytest.mark.parametrize("copy", COPIES, ids=lambda path: path.parent.name)
def test_every_number_up_to_100000_agrees_with_the_sieve(copy):
    module = load(copy)
    truth = sieve(100_000)
    assert [n for n in range(100_000) if module.is_prime(n) != bool(truth[n])] == []


@pytest.mark.parametrize("n", [0, 1, -1, -2, -7, -(2**61) + 1])
def test_zero_one_and_negative_numbers_are_not_prime(n):
    assert not primes.is_prime(n)


@pytest.mark.parametrize("n", STRONG_PSEUDOPRIMES + CARMICHAEL + CHERNICK + LUCAS_PSEUDOPRIMES)
def test_pseudoprimes_are_not_prime(n):
    assert not primes.is_prime(n)


@pytest.mark.parametrize(
    "p", [43, 4093, 4099, 15485863, 2**31 - 1, 2**61 - 1, 2**89 - 1, 2**127 - 1]
)
def test_squares_of_primes_are_not_prime(p):
    assert primes.is_prime(p) and not primes.is_prime(p * p)


@pytest.mark.parametrize("exponent", range(2, 132))
def test_mersenne_numbers_are_prime_for_the_known_exponents_only(exponent):
    assert primes.is_prime(2**exponent - 1) == (exponent in MERSENNE_EXPONENTS)


@pytest.mark.parametrize("exponent", [521, 607, 1279])
def test_large_primes_are_prime_and_their_products_are_not(exponent):
    p = 2**exponent - 1
    assert primes.is_prime(p)
    assert not primes.is_prime(p * (2**127 - 1)) and not primes.is_prime(p + 2)


@pytest.mark.parametrize(
    "n, prime",
    [
        (9223372036854775783, True),  # the largest prime below 2**63
        (9223372036854775807, False),
        (18446744073709551557, True),  # the largest below 2**64
        (10**999 + 7, True),  # the least of 1000 digits
        (10**999 + 9, False),
        (3317044064679887385961981 + 0, False),
        (2**255 - 19, True),
        (2**255 - 21, False),
    ],
)
def test_known_verdicts_at_the_boundaries(n, prime):
    assert primes.is_prime(n) is prime


def test_the_lucas_test_alone_has_its_known_exceptions_and_no_others():
    truth = sieve(75_000)
    passing = [n for n in range(43, 75_000, 2) if primes._passes_lucas(n, no_pause)]
    assert [n for n in passing if not truth[n]] == LUCAS_PSEUDOPRIMES
    assert [n for n in range(43, 75_000, 2) if truth[n]] == [n for n in passing if truth[n]]


def test_a_composite_made_to_fool_fixed_bases_does_not_fool_the_lucas_test():
    assert all(primes._passes_miller_rabin(ARNAULT, base, no_pause) for base in primes.BASES)
    assert not primes.is_prime(ARNAULT)


@pytest.mark.parametrize("half", ["_passes_miller_rabin", "_passes_lucas"])
def test_above_the_proven_range_both_halves_of_the_test_have_to_pass(monkeypatch, half):
    monkeypatch.setattr(primes, half, lambda n, *arguments: True)
    assert not primes.is_prime((2**89 - 1) * (2**107 - 1))
    assert primes.is_prime(2**127 - 1)


def test_a_long_computation_pauses_often_and_ends_when_the_pause_raises():
    prime, pauses = 10**999 + 7, []
    assert primes.is_prime(prime, lambda: pauses.append(time.thread_time()))
    gaps = [after - before for before, after in zip(pauses, pauses[1:], strict=False)]
    assert len(pauses) > 10 and max(gaps) < 0.1

    def end():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        primes.is_prime(prime, end)


def no_pause():
    pass


def test_a_large_number_does_not_keep_other_threads_waiting():
    number = 2**6000 - 1
    thread = threading.Thread(target=primes._power, args=(3, number, number, no_pause))
    thread.start()
    turns = 0
    while thread.is_alive():
        turns += 1
        time.sleep(0.001)
    assert turns > 10  # with pow() it is two or three
