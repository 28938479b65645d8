# ruff: noqa: E501 (what is replaced stands as it does in the source)
"""Weakens the limiter's core on purpose, one place at a time, and shows which test notices.

    python3 rust/weaken.py [words of a name ...]      all of them, or those whose name has one of the words

Each entry replaces a text in a copy of `rust/core` (under target/weakened) and runs its tests on it: of the model
checker at preemption bound 2 those that have one of its words in their name, or, where it names none, the other Rust
tests. It prints the table that docs/proof.md shows, and exits 1 if a weakening went unnoticed or no longer applies.
Nothing in the tree is changed. It takes about a quarter of an hour.
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
SECONDS_FOR_A_MODEL = 120


class Weakening(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    models: tuple[str, ...] = ()
    """Words of the models' names; none: the tests that are no models."""


LOAD_ID = "Id(self.id.load(Ordering::Acquire))"
LOAD_WORD = "self.word.load(Ordering::Acquire)"
SWAP_ID = "compare_exchange(from.0, to.0, Ordering::Release,"
SWAP_WORD = "compare_exchange(from, to, Ordering::AcqRel,"
MARK = "if !self.swap_word(word, window::pack(id.generation(), window::ENDED)) {"
ENTER = ("enter_one_key",)
CLAIM = ("forgets_no_count",)
OVERFLOW = ("overflow",)
LOWERED = ("after_a_lowered_end",)
NEW_OWNER = ("new_owner",)

WEAKENINGS = [
    Weakening("id: load relaxed", "cell.rs", LOAD_ID, LOAD_ID.replace("Acquire", "Relaxed"), NEW_OWNER),
    Weakening(
        "id: swap without release", "cell.rs", SWAP_ID, SWAP_ID.replace("Release", "Relaxed"), NEW_OWNER
    ),
    Weakening(
        "word: load relaxed",
        "cell.rs",
        LOAD_WORD,
        LOAD_WORD.replace("Acquire", "Relaxed"),
        (*NEW_OWNER, *CLAIM),
    ),
    Weakening(
        "word: swap without release",
        "cell.rs",
        SWAP_WORD,
        SWAP_WORD.replace("AcqRel", "Acquire"),
        (*CLAIM, *LOWERED),
    ),
    Weakening(
        "word: swap without acquire",
        "cell.rs",
        SWAP_WORD,
        SWAP_WORD.replace("AcqRel", "Release"),
        (*CLAIM, *LOWERED),
    ),
    Weakening("the fence: none", "cell.rs", "    fence(Ordering::SeqCst);", "", ENTER),
    Weakening(
        "the fence: acquire and release only",
        "cell.rs",
        "fence(Ordering::SeqCst)",
        "fence(Ordering::AcqRel)",
        ENTER,
    ),
    Weakening(
        "the fence: none on the overflow's side",
        "table.rs",
        "            self.counters.overflowed();\n            publish_before_looking();",
        "            self.counters.overflowed();",
        OVERFLOW,
    ),
    Weakening(
        "the header: stored without release",
        "layout.rs",
        "self.0[0].store(MAGIC, Ordering::Release)",
        "self.0[0].store(MAGIC, Ordering::Relaxed)",
        ("header",),
    ),
    Weakening(
        "the header: loaded without acquire",
        "layout.rs",
        "words[0].load(Ordering::Acquire)",
        "words[0].load(Ordering::Relaxed)",
        ("header",),
    ),
    Weakening("a swap is not validated", "cell.rs", "if !self.is_still(owner) {", "if false {", LOWERED),
    Weakening(
        "the word's owner is not checked before the swap",
        "cell.rs",
        "if self.id() != owner {",
        "if false {",
        (*NEW_OWNER, *CLAIM),
    ),
    Weakening(
        "a validation does not reopen", "cell.rs", "self.swap_id(closing, reopened) || ", "", (*CLAIM, *ENTER)
    ),
    Weakening(
        "a claimer reads a mark instead of swapping it",
        "cell.rs",
        MARK,
        MARK.replace("if ", "if window::count_of(word) != window::ENDED && "),
        ("mark",),
    ),
    Weakening("a claimer writes no mark", "cell.rs", MARK, "if false {", CLAIM),
    Weakening(
        "a claim without closing first",
        "cell.rs",
        "            id = closing;\n",
        "            id = closing;\n            let pending = id.next(fingerprint, State::Pending);\n"
        "            return if self.swap_id(id, pending) { Claim::Pending(pending) } else { Claim::Changed };\n",
        CLAIM,
    ),
    Weakening(
        "the generation does not count",
        "cell.rs",
        "(self.generation() + 1) & GENERATION_MASK",
        "0",
        (*CLAIM, *LOWERED, *ENTER),
    ),
    Weakening(
        "an entry does not look for a twin",
        "table.rs",
        "        let mut is_later = false;\n",
        "        slot.promote(pending);\n        return Entry::Settled;\n        #[allow(unreachable_code)]\n"
        "        let mut is_later = false;\n",
        ENTER,
    ),
    Weakening(
        "an entry does not look at the overflow",
        "table.rs",
        "        if window::is_live(self.overflow_of(key).word(), clock.now()) {\n            slot.vacate(pending);",
        "        if false {\n            slot.vacate(pending);",
        OVERFLOW,
    ),
    Weakening(
        "the overflow does not look for the key again",
        "table.rs",
        "if !self.is_entered(key, clock) {",
        "if true {",
        OVERFLOW,
    ),
    Weakening(
        "a claim takes a slot that its owner has rolled meanwhile",
        "cell.rs",
        "            if window::is_live(word, now) {\n                // Its owner",
        "            if false {\n                // Its owner",
        CLAIM,
    ),
    Weakening(
        "what may admit more is written in one step",
        "table.rs",
        "(true, true) => Change::Replace { next, hold_until: end.max(next_end) },",
        "(true, true) => Change::Write(next),",
        LOWERED,
    ),
    Weakening(
        "a reply is held until its own end alone",
        "table.rs",
        "hold_until: end.max(next_end) },",
        "hold_until: next_end },",
        LOWERED,
    ),
    Weakening(
        "time runs back: a late reading opens its own window",
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
    shutil.copytree(ROOT / "rust" / "core", COPY / "rust" / "core")
    shutil.copytree(ROOT / "tests" / "vectors", COPY / "tests" / "vectors")
    manifest = (ROOT / "Cargo.toml").read_text()
    (COPY / "Cargo.toml").write_text(manifest.replace(', "rust/binding"]', "]"))
    shutil.copy(ROOT / "Cargo.lock", COPY / "Cargo.lock")


def noticed_by(models: tuple[str, ...]) -> list[str]:
    """The tests that fail."""
    flags = "--cap-lints allow" + (" --cfg loom" if models else "")
    environment = {
        **os.environ,
        "RUSTFLAGS": flags,
        "RUST_BACKTRACE": "0",
        "LOOM_MAX_PREEMPTIONS": "2",
        "LOOM_MAX_DURATION": str(SECONDS_FOR_A_MODEL),
    }
    target = ROOT / "target" / ("weakened-loom" if models else "weakened-tests")
    command = ["cargo", "test", "--profile", "checked", "--quiet", "--no-fail-fast", "--package", "bide-core"]
    command += ["--target-dir", str(target), *(("--test", "loom", "--", *models) if models else ("--tests",))]
    run = subprocess.run(command, cwd=COPY, env=environment, capture_output=True, text=True, check=False)
    # A model that fails in several of its threads at once ends by an abort: then only the panic names it.
    failed = set(re.findall(r"^    ([a-z_][a-z0-9_:]+)$", run.stdout, re.MULTILINE))
    failed |= set(re.findall(r"^thread '([a-z_:]+)'.* panicked at", run.stdout + run.stderr, re.MULTILINE))
    if run.returncode and not failed:
        raise SystemExit(f"it does not build or run:\n{run.stdout}\n{run.stderr}")
    return sorted(failed) if run.returncode else []


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
        if text.count(weakening.old) != 1:
            raise SystemExit(
                f"{weakening.name}: {weakening.file} does not have the text that it replaces once"
            )
        path.write_text(text.replace(weakening.old, weakening.new))
        failed = noticed_by(weakening.models)
        unnoticed += not failed
        kind = "model" if weakening.models else "test"
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        print(
            f"| {weakening.name} | {f'{kind} `{failed[0]}`{more}' if failed else '**nothing**'} |", flush=True
        )
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
