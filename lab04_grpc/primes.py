"""Is it prime? Exact and fast, for integers of any size.

Labs 2 to 4 have a copy of this file each, so that each folder runs alone; a test keeps the copies
identical.

Small factors are found first, all at once: a common divisor with the product of the small primes.
A number without a small factor is prime if it is below SMALL**2. Below PROVEN the Miller-Rabin test
decides, with bases that are proven to leave no exception, and above it the Baillie-PSW test
(Miller-Rabin to base 2 and a Lucas test). No exception to it is known, although many have searched
for one. Fixed Miller-Rabin bases alone could be fooled on purpose.
"""

import math
from collections.abc import Callable, Iterator


def _primes_below(limit: int) -> list[int]:
    """The sieve of Eratosthenes."""
    sieve = bytearray([1]) * limit
    for n in range(2, math.isqrt(limit) + 1):
        sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return [n for n in range(2, limit) if sieve[n]]


SMALL = 4096  # decides all numbers of seven digits, and the product is short enough to be fast
SMALL_PRIMES = frozenset(_primes_below(SMALL))
PRODUCT = math.prod(SMALL_PRIMES)

BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
# Below each limit so many of BASES suffice (Pomerance, Selfridge & Wagstaff 1980; Jaeschke 1993;
# Jiang & Deng 2014; Sorenson & Webster 2015).
PROVEN_BASES = (
    (3_215_031_751, 4),
    (2_152_302_898_747, 5),
    (3_474_749_660_383, 6),
    (341_550_071_728_321, 7),
    (3_825_123_056_546_413_051, 9),
    (318_665_857_834_031_151_167_461, 12),
    (3_317_044_064_679_887_385_961_981, 13),
)
PROVEN = PROVEN_BASES[-1][0]

PAUSE_EVERY = 512  # binary digits: 4 ms with a number of 1000 decimal digits
Pause = Callable[[], object]


def is_prime(n: int, pause: Pause = lambda: None) -> bool:
    """Tell whether `n` is prime; 0, 1 and negative numbers are not.

    `pause` is called every few milliseconds of a long test; an exception that it raises ends it.
    """
    if n < 2:
        return False
    if math.gcd(n, PRODUCT) > 1:
        return n in SMALL_PRIMES
    if n < SMALL**2:
        return True
    for limit, count in PROVEN_BASES:
        if n < limit:
            return all(_passes_miller_rabin(n, base, pause) for base in BASES[:count])
    return _passes_miller_rabin(n, 2, pause) and _passes_lucas(n, pause)


def _passes_miller_rabin(n: int, base: int, pause: Pause) -> bool:
    """The strong probable-prime test (Rabin 1980), for an odd n > base."""
    twos = _trailing_zeros(n - 1)
    x = _power(base, (n - 1) >> twos, n, pause)
    if x in (1, n - 1):
        return True
    for _ in range(twos - 1):
        x = x * x % n
        if x == n - 1:
            return True
    return False


def _power(base: int, exponent: int, n: int, pause: Pause) -> int:
    """Return base ** exponent % n.

    `pow` would keep every other thread waiting until it is done, 75 ms for 1000 digits. Large
    numbers therefore go bit by bit.
    """
    if n < PROVEN:
        return pow(base, exponent, n)
    x = 1
    for bit in _bits(exponent, pause):
        x = x * x % n
        if bit == "1":
            x = x * base % n
    return x


def _bits(n: int, pause: Pause) -> Iterator[str]:
    """Yield the binary digits of a number, the highest first."""
    bits = bin(n)[2:]
    for begin in range(0, len(bits), PAUSE_EVERY):
        pause()
        yield from bits[begin : begin + PAUSE_EVERY]


def _passes_lucas(n: int, pause: Pause) -> bool:
    """The extra strong Lucas test (Grantham 2001), for an n without a small factor.

    With V(0) = 2, V(1) = p, V(k+1) = p V(k) - V(k-1), and n + 1 = odd * 2**twos.
    """
    if math.isqrt(n) ** 2 == n:
        return False  # the search for p would not end
    p = 3
    while (symbol := _jacobi(p * p - 4, n)) == 1:
        p += 1
    if symbol == 0:
        return False  # a common factor, since p is small
    twos = _trailing_zeros(n + 1)
    low, high = 2, p  # V(k), V(k+1) for the k that the bits so far spell
    for bit in _bits((n + 1) >> twos, pause):
        product = (low * high - p) % n
        if bit == "1":
            low, high = product, (high * high - 2) % n
        else:
            low, high = (low * low - 2) % n, product
    if low in (2, n - 2) and (2 * high - p * low) % n == 0:
        return True
    for _ in range(twos - 1):
        if low == 0:
            return True
        low = (low * low - 2) % n
    return False


def _jacobi(a: int, n: int) -> int:
    """The Jacobi symbol (a/n), for an odd n > 0."""
    a %= n
    symbol = 1
    while a:
        twos = _trailing_zeros(a)
        a >>= twos
        if twos % 2 and n % 8 in (3, 5):
            symbol = -symbol
        if a % 4 == 3 and n % 4 == 3:
            symbol = -symbol
        a, n = n % a, a
    return symbol if n == 1 else 0


def _trailing_zeros(n: int) -> int:
    return (n & -n).bit_length() - 1
