"""Resident memory for each live key, bide's limiter and every other one for Python: `make bench-memory`.

Rules of this file
- Each limiter has a process of its own, which asks once for each of so many keys, made as it goes. Counted is by how
  much the kernel's count of resident pages grew, the keys that a limiter keeps included. bide's table is made for just
  so many keys.
- It writes `results-memory.json` and judges nothing; `report.py` draws the chart.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

from peers import FOR_EVER, PEERS, machine

KEYS = 100_000
RESULTS = Path(__file__).with_name("results-memory.json")
WITHOUT_STATE = {"a native method that does nothing", "bide, native, take"}


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(name: str) -> float:
    """Bytes for each key, of one limiter, in this process."""
    peer = next(peer for peer in PEERS if peer.name == name)
    warm = peer.make(FOR_EVER, 1_000)
    for number in range(1_000):
        warm(f"Bearer {number:016x}")
    ask = peer.make(FOR_EVER, KEYS)
    gc.collect()
    before = resident()
    refused = sum(not peer.yes(ask(f"Bearer {number:016x}")) for number in range(KEYS))
    assert refused <= KEYS // 10_000, f"{name} refuses what it should admit"
    gc.collect()
    return (resident() - before) / KEYS


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--one", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(measure(given.one))
        return
    rows = []
    for peer in PEERS:
        if peer.name in WITHOUT_STATE:
            continue
        command = [sys.executable, __file__, "--one", peer.name]
        found = [
            float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(3)
        ]
        rows.append({"name": peer.name, "keys": KEYS, "bytes": round(min(found))})
        print(f"  {peer.name:36} {rows[-1]['bytes']:9,} bytes for each key", flush=True)
    text = json.dumps({"date": date.today().isoformat(), **machine(), "rows": rows}, indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
