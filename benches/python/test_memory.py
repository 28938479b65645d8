"""Resident memory: for each live key, over windows of ever-new keys, and for a limiter that is hardly used.

Each figure is taken in a process of its own, from the kernel's count of resident pages, shared ones included.
"""

import subprocess
import sys

import pytest

RESIDENT = """
import os, sys
from bide.testing import FakeClock

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if sys.argv[1] == "native":
    from bide.limiter._compiled import Limiter
else:
    from bide.limiter._pure import Limiter
"""

PER_KEY = """
keys = 1_000_000
limiter = Limiter("67000000/day", max_keys=keys)
before = resident()
for first in range(0, keys, 1000):
    assert all(limiter.try_acquire_many([b"%020d" % number for number in range(first, first + 1000)]))
print((resident() - before) / keys)
assert limiter.stats().live > 0.999 * keys
"""

GROWTH = """
clock = FakeClock()
limiter = Limiter("10/second", max_keys=2_000, clock=clock)

def windows(count, keys=1_000):
    for _ in range(count):
        windows.next += keys
        new = [b"%020d" % number for number in range(windows.next, windows.next + keys)]
        assert all(limiter.try_acquire_many(new))
        clock.advance(1.0)

windows.next = 0
windows(100)
before = resident()
windows(1000)
print(resident() - before)
assert limiter.stats().overflowed == 0
"""

EACH = """
limiters = [Limiter("10/second") for _ in range(20)]
before = resident()
limiters = [Limiter("10/second") for _ in range(200)]
for limiter in limiters:
    assert limiter.try_acquire("a key")
print((resident() - before) / 200)
"""


def measured(program: str, implementation: str) -> float:
    command = [sys.executable, "-c", RESIDENT + program, implementation]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("what", "program", "unit", "most_native", "most_pure"),
    [
        ("resident memory of one live key, at 1,000,000", PER_KEY, "bytes", 48, 400),
        ("growth over 1,000 windows of ever-new keys", GROWTH, "bytes", 100_000, 1_000_000),
        ('a new Limiter("10/second")', EACH, "bytes", 100 * 1024, 100 * 1024),
    ],
    ids=["per key", "growth", "each"],
)
@pytest.mark.parametrize("implementation", ["native", "pure"])
def test_memory(
    capsys: pytest.CaptureFixture[str],
    what: str,
    program: str,
    unit: str,
    most_native: float,
    most_pure: float,
    implementation: str,
) -> None:
    found = measured(program, implementation)
    with capsys.disabled():
        print(f"\nmemory: {what}, {implementation}: {found:,.1f} {unit}")
    assert found <= (most_native if implementation == "native" else most_pure)
