# ruff: noqa: E501 (what is replaced stands as it does in the source)
"""Weakens the limiter's core on purpose, one place at a time, and shows which test notices.

    python3 rust/weaken.py [words of a name ...]      all of them, or those whose name has one of the words

Each entry replaces a text in a copy of `rust/core` (under target/weakened) and runs the model checker, or the other
Rust tests, on it. It prints the table that docs/proof.md shows, and exits 1 if a weakening went unnoticed or no
longer applies. Nothing in the tree is changed. It takes about a quarter of an hour.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / "target" / "weakened"


class Weakening(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    count: int = 1
    """How many times the text occurs; all are replaced."""


LOAD_ID = "Id(self.id.load(Ordering::Acquire))"
LOAD_WORD = "self.word.load(Ordering::Acquire)"
SWAP_ID = ".compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)"
SWAP_WORD = "self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)"

WEAKENINGS = [
    Weakening("id: load relaxed", "cell.rs", LOAD_ID, LOAD_ID.replace("Acquire", "Relaxed")),
    Weakening("word: load relaxed", "cell.rs", LOAD_WORD, LOAD_WORD.replace("Acquire", "Relaxed")),
    Weakening("id: swap without release", "cell.rs", SWAP_ID, SWAP_ID.replace("AcqRel", "Acquire")),
    Weakening("word: swap without release", "cell.rs", SWAP_WORD, SWAP_WORD.replace("AcqRel", "Acquire")),
    Weakening("word: swap without acquire", "cell.rs", SWAP_WORD, SWAP_WORD.replace("AcqRel", "Release")),
    Weakening("the fence: none", "cell.rs", "    fence(Ordering::SeqCst);", ""),
    Weakening(
        "the fence: acquire and release only", "cell.rs", "fence(Ordering::SeqCst)", "fence(Ordering::AcqRel)"
    ),
    Weakening(
        "the fence: none on the overflow's side",
        "table.rs",
        "            self.counters.overflowed();\n            publish_before_looking();",
        "            self.counters.overflowed();",
    ),
    Weakening("a swap is not validated", "cell.rs", "if !self.is_still(owner) {", "if false {"),
    Weakening(
        "the word's owner is not checked before the swap", "cell.rs", "if self.id() != owner {", "if false {"
    ),
    Weakening("a validation does not reopen", "cell.rs", "self.swap_id(closing, reopened) || ", ""),
    Weakening(
        "a claimer reads a mark instead of swapping it",
        "cell.rs",
        "if !self.swap_word(word, window::pack(id.generation(), window::ENDED)) {",
        "if window::count_of(word) != window::ENDED && !self.swap_word(word, window::pack(id.generation(), window::ENDED)) {",
    ),
    Weakening(
        "a claimer writes no mark",
        "cell.rs",
        "if !self.swap_word(word, window::pack(id.generation(), window::ENDED)) {",
        "if false {",
    ),
    Weakening(
        "a claim without closing first",
        "cell.rs",
        "            id = closing;\n",
        "            id = closing;\n            let pending = id.next(fingerprint, State::Pending);\n"
        "            return if self.swap_id(id, pending) { Claim::Pending(pending) } else { Claim::Changed };\n",
    ),
    Weakening("the generation does not count", "cell.rs", "(self.generation() + 1) & GENERATION_MASK", "0"),
    Weakening(
        "an entry does not look for a twin",
        "table.rs",
        "        let mut is_later = false;\n",
        "        slot.promote(pending);\n        return Entry::Settled;\n        #[allow(unreachable_code)]\n"
        "        let mut is_later = false;\n",
    ),
    Weakening(
        "an entry does not look at the overflow",
        "table.rs",
        "        if window::is_live(self.overflow_of(key).word(), clock.now()) {\n            slot.vacate(pending);",
        "        if false {\n            slot.vacate(pending);",
    ),
    Weakening(
        "the overflow does not look for the key again",
        "table.rs",
        "if !self.is_entered(key, clock) {",
        "if true {",
    ),
    Weakening(
        "a claim takes a slot that its owner has rolled meanwhile",
        "cell.rs",
        "            if window::is_live(word, now) {\n                // Its owner",
        "            if false {\n                // Its owner",
    ),
    Weakening(
        "what may admit more is written in one step",
        "table.rs",
        "(true, true) => Change::Replace { next, hold_until: end.max(next_end) },",
        "(true, true) => Change::Write(next),",
    ),
    Weakening(
        "a reply is held until its own end alone",
        "table.rs",
        "hold_until: end.max(next_end) },",
        "hold_until: next_end },",
    ),
    Weakening(
        "time runs back: another window is compared by its number, not by its end",
        "window.rs",
        "    if is_live(word, now) {\n        return (count_of",
        "    if is_live(word, now) && end_of(word) > now + rule.window_ms {\n        return Some(pack(now + rule.window_ms, cost));\n"
        "    }\n    if is_live(word, now) {\n        return (count_of",
    ),
    Weakening(
        "a denial is counted",
        "window.rs",
        "return (count_of(word).saturating_add(cost) <= rule.limit).then(|| word + cost);",
        "return Some(word + cost);",
    ),
]


def copied() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(ROOT / "rust" / "core", COPY / "rust" / "core", dirs_exist_ok=True)
    shutil.copytree(ROOT / "tests" / "vectors", COPY / "tests" / "vectors", dirs_exist_ok=True)
    manifest = (
        (ROOT / "Cargo.toml")
        .read_text()
        .replace('members = ["rust/core", "rust/binding"]', 'members = ["rust/core"]')
    )
    (COPY / "Cargo.toml").write_text(manifest)
    shutil.copy(ROOT / "Cargo.lock", COPY / "Cargo.lock")


def noticed_by(flags: str, target: str, *arguments: str) -> str:
    """The first test that fails, or ""."""
    environment = {**os.environ, "RUSTFLAGS": flags, "LOOM_MAX_PREEMPTIONS": "2", "RUST_BACKTRACE": "0"}
    command = [
        "cargo",
        "test",
        "--profile",
        "checked",
        "--quiet",
        "--package",
        "bide-core",
        "--target-dir",
        str(ROOT / "target" / target),
        *arguments,
    ]
    run = subprocess.run(
        command, cwd=COPY, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    failed = sorted(set(re.findall(r"^    (\S+)$", run.stdout, re.MULTILINE)))
    if run.returncode and not failed and "SIGABRT" in run.stderr:
        return "an abort"
    if run.returncode and not failed:
        raise SystemExit(f"it does not build or run:\n{run.stdout}\n{run.stderr}")
    return ", ".join(f"`{test}`" for test in failed[:2]) + (
        f" and {len(failed) - 2} more" if len(failed) > 2 else ""
    )


def main() -> int:
    words = sys.argv[1:]
    unnoticed = 0
    print("| weakened | noticed by |\n|---|---|")
    for weakening in WEAKENINGS:
        if words and not any(word in weakening.name for word in words):
            continue
        copied()
        path = COPY / "rust" / "core" / "src" / weakening.file
        text = path.read_text()
        if text.count(weakening.old) != weakening.count:
            raise SystemExit(f"{weakening.name}: {weakening.file} no longer has the text that it replaces")
        path.write_text(text.replace(weakening.old, weakening.new))
        test = noticed_by("--cfg loom --cap-lints allow", "weakened-loom", "--test", "loom")
        test = f"loom: {test}" if test else noticed_by("--cap-lints allow", "weakened-tests", "--tests")
        unnoticed += not test
        print(f"| {weakening.name} | {test or '**nothing**'} |", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
