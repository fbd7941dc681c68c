"""Counting primes: work that takes as long as one likes and can stop at any point."""

from math import isqrt

from clients.celery.example_tasks.errors import InvalidOptions
from clients.celery.example_tasks.progress import Reporter, step

MAX_LIMIT = 10**12
_SEGMENT = 1 << 20  # numbers looked at between two reports: some 5 to 50 ms


def count_primes(limit: object, reporter: Reporter) -> tuple[int, int | None]:
    """How many primes there are up to `limit`, and the largest of them (none below 2).

    A segmented sieve of Eratosthenes: memory is bounded by the segment and by the square root of `limit`.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= MAX_LIMIT:
        raise InvalidOptions(f"limit must be a whole number from 0 to {MAX_LIMIT:,}, not {limit!r}.")
    small = _primes_up_to(isqrt(limit))
    count, largest = 0, None
    for start in range(2, limit + 1, _SEGMENT):
        step(reporter, start - 2, limit, f"{count:,} primes below {start:,}")
        flags = _segment(start, min(start + _SEGMENT, limit + 1), small)
        count += flags.count(1)
        last = flags.rfind(1)
        largest = start + last if last >= 0 else largest
    return count, largest


def _primes_up_to(limit: int) -> list[int]:
    flags = bytearray([1]) * (limit + 1)
    flags[:2] = bytes(len(flags[:2]))
    for number in range(2, isqrt(limit) + 1):
        if flags[number]:
            flags[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number, flag in enumerate(flags) if flag]


def _segment(start: int, stop: int, small: list[int]) -> bytearray:
    """One byte for each number from `start` up to but not `stop`: 1 where it is prime."""
    flags = bytearray([1]) * (stop - start)
    for prime in small:
        if prime * prime >= stop:
            break
        first = max(prime * prime, -(-start // prime) * prime)
        flags[first - start :: prime] = bytes(len(range(first, stop, prime)))
    return flags
