"""What callers and servers hand to the pure limiter: keys, costs, seconds, readings of a clock, quotas.

Rules of this file: a caller's mistake raises and says what to pass; what a server states never raises, and what is
unusable of it counts as not stated. No error shows a key.

Keys are kept as fingerprints only: ``hash`` of their UTF-8 octets, which in CPython is SipHash-1-3 under a random
key of the process: just what is wanted, cached in the string, and far faster than any other keyed hash that Python
can call. Where it is not so, by ``PYTHONHASHSEED=0`` or in another interpreter, keyed BLAKE2 takes its place.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from hashlib import blake2b

from bide.limiter._window import FULL, MAX_WINDOW_MS

__all__ = [
    "BUILTIN_HASH",
    "Key",
    "fingerprint",
    "fingerprint_of_octets",
    "milliseconds_of",
    "milliseconds_up",
    "nanoseconds_of",
    "stated",
    "whole_cost",
]

Key = str | bytes

BUILTIN_HASH = (
    sys.implementation.name == "cpython"
    and sys.hash_info.algorithm.startswith("siphash")
    and bool(sys.flags.hash_randomization)
)
_SECRET = os.urandom(16)


def fingerprint_of_octets(octets: bytes) -> int:
    if BUILTIN_HASH:
        return hash(octets)
    return int.from_bytes(blake2b(octets, digest_size=8, key=_SECRET).digest(), "big")


def fingerprint(key: Key) -> int:
    """The fingerprint of a key, of ``str`` or ``bytes`` exactly; an error never shows the key."""
    if type(key) is bytes:
        return fingerprint_of_octets(key)
    if type(key) is not str:
        raise TypeError(f"key must be str or bytes, not {type(key).__name__}")
    if BUILTIN_HASH and key.isascii():
        return hash(key)  # an ASCII string is stored as its octets, so this is their hash
    try:
        return fingerprint_of_octets(key.encode())
    except UnicodeEncodeError:
        raise ValueError("key holds a lone surrogate: it cannot be encoded as UTF-8") from None


def whole_cost(cost: int, least: int = 1, name: str = "cost") -> int:
    if isinstance(cost, bool) or not hasattr(cost, "__index__"):
        raise TypeError(f"{name} must be a whole number, not {type(cost).__name__}")
    cost = operator.index(cost)
    if not least <= cost <= FULL:
        raise ValueError(f"{name} must be a whole number from {least} to {FULL:,}, not {cost}")
    return cost


def milliseconds_of(seconds: float, name: str) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
    if not 0.0 < seconds <= MAX_WINDOW_MS / 1_000:
        raise ValueError(f"{name} must be seconds above 0, at most 366 days, not {seconds}")
    return milliseconds_up(seconds)


def milliseconds_up(seconds: float) -> int:
    """Rounded up, but for what a float adds by itself: 1.001 s is 1001 ms."""
    return -(-math.floor(seconds * 1e9 + 0.5) // 1_000_000)


def stated(quota: object, name: str) -> float | None:
    """A field of what a server stated, if it is usable: anything else counts as not stated."""
    value = getattr(quota, name, None)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return value


def nanoseconds_of(reading: float) -> int:
    if isinstance(reading, bool) or not isinstance(reading, int | float):
        raise TypeError(f"clock: a reading must be a number of seconds, not {type(reading).__name__}")
    if not math.isfinite(reading):
        raise ValueError(f"clock: a reading must be finite, not {reading}")
    return math.floor(reading * 1e9 + 0.5)
