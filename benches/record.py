"""The figures that a change may spoil, in one file: `make record`.

Import times, the wheel's size, the memory of a key and the speed of the limiters are measured on this machine,
compared with the record before, written to `results.json`, and shown in the README between its marks.

Rules of this file
- What is measured is measured as a user meets it: imports in a fresh process, the size of a built wheel, memory
  as the kernel counts it, calls by `bide bench`.
- A figure that is worse than the last record by more than its tolerance makes the exit code 1; the new record is
  written all the same, so that it can be looked at and committed, or not.
- The README shows nothing that is not in the record; a test compares them.
"""

import json
import platform
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- record: begin (make record writes this) -->", "<!-- record: end -->"

IMPORTS = {
    "import bide": "import bide",
    "import bide.policy": "import bide.policy",
    "a first decision": "import bide; bide.decide(bide.Reply(429, {'Retry-After': '3'}), bide.CLEVER, draw=0.0)",
    "a first Limiter": "import bide; bide.Limiter('1200/minute')",
}
ROUNDS = 15

MEMORY = """
import os, sys
from bide.limiter._{kind} import Limiter

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

keys = 200_000
limiter = Limiter("67000000/day", max_keys=keys)
before = resident()
for first in range(0, keys, 1000):
    limiter.try_acquire_many([b"%020d" % number for number in range(first, first + 1000)])
print((resident() - before) / keys)
"""


class Figure(NamedTuple):
    """One thing that is recorded; less is better."""

    name: str
    unit: str
    tolerance: float
    """The share by which it may grow without a word."""


FIGURES = (
    *(Figure(name, "ms", 0.3) for name in IMPORTS),
    Figure("native wheel", "KiB", 0.05),
    Figure("memory of a key, native", "bytes", 0.1),
    Figure("memory of a key, pure", "bytes", 0.1),
    Figure("native / pure, try_acquire", "ratio", 0.25),
    Figure("native / pure, take", "ratio", 0.25),
    Figure("native / pure, many keys at once", "ratio", 0.25),
    Figure("try_acquire, native", "ns", 0.3),
    Figure("try_acquire, pure", "ns", 0.3),
    Figure("decide, a 429", "ns", 0.3),
)


def measured() -> dict[str, float]:
    """Every figure, taken now; a minute or two."""
    say("imports, in fresh processes")
    found = {name: import_milliseconds(statement) for name, statement in IMPORTS.items()}
    say("the native wheel")
    found["native wheel"] = wheel_kibibytes()
    for kind, module in (("native", "compiled"), ("pure", "pure")):
        say(f"the memory of a key, {kind}")
        found[f"memory of a key, {kind}"] = float(python("-c", MEMORY.format(kind=module)))
    say("calls, by bide bench")
    bench = json.loads(python("-m", "bide.cli", "bench", "--json"))
    rows = bench["nanoseconds"]
    usual, take, many = (
        rows[title]
        for title in ("try_acquire, allowed", "take, with what is left", "try_acquire_many, of 100")
    )
    for name, row in (("try_acquire", usual), ("take", take), ("many keys at once", many)):
        found[f"native / pure, {name}"] = row["native"] / row["pure"]
    found["try_acquire, native"], found["try_acquire, pure"] = usual["native"], usual["pure"]
    found["decide, a 429"] = bench["decide_nanoseconds"]
    return {figure.name: round(found[figure.name], 3) for figure in FIGURES}


def import_milliseconds(statement: str) -> float:
    """The least time of a statement at the start of a process, beyond an empty interpreter's start."""
    program = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    return min(float(python("-c", program)) for _ in range(ROUNDS)) * 1000.0


def wheel_kibibytes() -> float:
    """The size of the wheel that is published: packed as ``make wheels`` packs it."""
    with tempfile.TemporaryDirectory() as folder:
        python("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(ROOT))
        python("packages/wheels.py", "--smaller", folder)
        (wheel,) = Path(folder).glob("bide-*.whl")
        return wheel.stat().st_size / 1024.0


def python(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"record: {' '.join(words)[:80]} failed:\n{done.stderr}")
    return done.stdout


def worse(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """The figures that grew by more than their tolerance."""
    return [
        figure.name
        for figure in FIGURES
        if figure.name in before and now[figure.name] > before[figure.name] * (1.0 + figure.tolerance)
    ]


def block(record: dict[str, Any]) -> str:
    """The README's table of a record, with its change since the one before."""
    now, before = record["figures"], (record.get("previous") or {}).get("figures", {})
    lines = [
        BEGIN,
        f"{record['machine']}, {record['python']}, {record['date']}; `make record` takes these, and compares.",
        "",
        "| | now | before |",
        "|---|---:|---:|",
    ]
    for figure in FIGURES:
        old = before.get(figure.name)
        lines.append(f"| {figure.name} | {shown(now[figure.name], figure)} | {shown(old, figure)} |")
    return "\n".join([*lines, END])


def shown(value: float | None, figure: Figure) -> str:
    if value is None:
        return "-"
    if figure.unit == "ratio":
        return f"1 : {1 / value:.1f}"
    return f"{value:,.1f} {figure.unit}" if value < 100 else f"{value:,.0f} {figure.unit}"


def written(text: str, record: dict[str, Any]) -> str:
    """A README with the record's block in place of the old one."""
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    if not re.search(pattern, text, re.DOTALL):
        sys.exit(f"record: {README.name} has no place for it: {BEGIN} ... {END}")
    return re.sub(pattern, lambda _: block(record), text, count=1, flags=re.DOTALL)


def processor() -> str:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        cpuinfo = ""
    found = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def say(text: str) -> None:
    print(f"record: {text}", flush=True)


def main() -> int:
    previous = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    previous.pop("previous", None)
    record = {
        "date": date.today().isoformat(),
        "machine": processor(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "figures": measured(),
        "previous": previous or None,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    README.write_text(written(README.read_text(encoding="utf-8"), record), encoding="utf-8")
    before = previous.get("figures", {})
    for figure in FIGURES:
        now, old = record["figures"][figure.name], before.get(figure.name)
        change = f"  {now / old - 1.0:+.0%}" if old else ""
        print(f"  {figure.name:34} {shown(now, figure):>14}{change}")
    spoiled = worse(before, record["figures"])
    if spoiled:
        say(f"worse than before by more than their tolerance: {', '.join(spoiled)}")
    return 1 if spoiled else 0


if __name__ == "__main__":
    sys.exit(main())
