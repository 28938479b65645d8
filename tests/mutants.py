"""Mutation testing of the policy and of the window arithmetic: `make mutants`.

Each mutant is one small change of one module (cosmic-ray makes them): a number one off, a comparison or an operator
replaced, a condition negated. It counts as killed when the module's tests fail, or do not end.

Rules of this file
- A mutant runs in a fork of a process that has imported the tools, so that it costs the tests alone. No file is
  changed: the fork imports the mutated source in place of the module's.
- A change of nothing but annotations is no mutant.
- Results are kept in target/mutants, by the source's and the tests' content: a run that was stopped goes on.
- Less than 90 % killed makes the exit code 1. What survives is listed in docs/quality.md with the reason.
"""

import argparse
import ast
import hashlib
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import hypothesis
import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "target" / "mutants"
LEAST_KILLED = 0.9
TIMEOUT_SECONDS = 120

EDGES = "tests/policy/test_edges.py"
WALK = (EDGES, "tests/policy/test_clever.py", "tests/policy/test_walk.py", "tests/policy/test_ends.py")
TESTS = {
    "bide.limiter._window": ("tests/limiter/test_window_vectors.py",),
    "bide.policy._backoff": (EDGES, "tests/policy/test_backoff.py", "tests/policy/test_values.py"),
    "bide.policy._budget": (EDGES, "tests/policy/test_budget.py"),
    "bide.policy._fields": (EDGES, "tests/policy/test_fields.py", "tests/policies/test_cases.py"),
    "bide.policy._structured": ("tests/policy/test_structured.py",),
    "bide.policy._wait": (*WALK, "tests/policies/test_cases.py"),
    "bide.policy._windows": (*WALK, "tests/policy/test_structured.py", "tests/policies/test_cases.py"),
    "bide.policy._engine": (
        *WALK, "tests/policy/test_values.py", "tests/policy/test_texts.py", "tests/policies/test_cases.py",
    ),
}  # fmt: skip
"""Module -> the tests that must notice a change of it, the quickest first."""

OPERATORS = (
    "NumberReplacer", "AddNot", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue",
    "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop",
    *(f"ReplaceBinaryOperator_{pair}" for pair in (
        "Add_Sub", "Sub_Add", "Mul_Add", "Div_Mul", "FloorDiv_Mul", "Mod_Add", "Pow_Mul", "LShift_RShift",
        "RShift_LShift", "BitAnd_BitOr", "BitOr_BitAnd", "BitXor_BitAnd",
    )),
    *(f"ReplaceComparisonOperator_{pair}" for pair in (
        "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_GtE", "LtE_Gt", "Gt_LtE", "GtE_Lt", "Eq_NotEq", "NotEq_Eq",
        "Is_IsNot", "IsNot_Is",
    )),
    *(f"ReplaceUnaryOperator_{pair}" for pair in ("USub_UAdd", "USub_Nothing", "Delete_Not")),
)  # fmt: skip


class Mutant(NamedTuple):
    """One change, by what makes it."""

    operator: str
    occurrence: int
    line: int
    change: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a source, each once."""
    original = without_annotations(source)
    seen = {original}
    lines = source.splitlines()
    for name in OPERATORS:
        try:
            operator = get_operator(f"core/{name}")()
        except KeyError:
            continue  # this cosmic-ray has no such one
        occurrence = 0
        while (changed := mutate_code(source, operator, occurrence)) is not None:
            plain = without_annotations(changed)
            if plain not in seen:
                seen.add(plain)
                pairs = zip(lines, changed.splitlines(), strict=False)
                line, after = next(
                    (n, after) for n, (before, after) in enumerate(pairs, 1) if before != after
                )
                if "TYPE_CHECKING" not in after:  # what type checkers alone see
                    yield Mutant(name, occurrence, line, after.strip(), changed)
            occurrence += 1


def without_annotations(source: str) -> str:
    """What a source does: its syntax without annotations and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a source that is given."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def outcome(name: str, path: Path, source: str, tests: tuple[str, ...]) -> str:
    """Runs a module's tests on a source in a fork: "killed", "timeout" or "survived"."""
    child = os.fork()
    if child == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        code = 1
        try:
            sys.meta_path.insert(0, Mutated(name, path, source))
            hypothesis.settings.register_profile("mutants", derandomize=True, database=None)
            hypothesis.settings.load_profile("mutants")
            # The tools were imported before pytest could rewrite their assertions.
            options = [
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "-W",
                "ignore::pytest.PytestAssertRewriteWarning",
            ]
            code = int(pytest.main([*options, *tests]))
        finally:
            os._exit(code)
    end = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "survived" if status == 0 else "killed"
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def run(name: str, seconds: float, sample: int) -> dict[str, str]:
    """The outcomes of a module's mutants, as far as they fit into the time."""
    path = ROOT / "python" / Path(*name.split(".")).with_suffix(".py")
    source = path.read_text("utf-8")
    tests = TESTS[name]
    content = source + "".join((ROOT / test).read_text("utf-8") for test in tests)
    file = RESULTS / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"
    found: dict[str, str] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if "" not in found:
        if outcome(name, path, source, tests) != "survived":
            sys.exit(f"mutants: the tests of {name} fail as it stands: {' '.join(tests)}")
        found[""] = "survived"
    end = time.monotonic() + seconds
    for number, mutant in enumerate(mutants(source)):
        key = f"{mutant.line}: {mutant.change} [{mutant.operator} {mutant.occurrence}]"
        if key in found or number % sample:
            continue
        if time.monotonic() > end:
            break
        found[key] = outcome(name, path, mutant.source, tests)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1), "utf-8")
    return {key: value for key, value in found.items() if key}


def main() -> int:
    options = argparse.ArgumentParser(
        description="Mutation testing of the policy and of the window arithmetic."
    )
    options.add_argument("modules", nargs="*", metavar="MODULE", help="these alone")
    options.add_argument("--seconds", type=float, default=float("inf"), help="for each module, at most")
    options.add_argument("--sample", type=int, default=1, help="every so manieth mutant alone")
    given = options.parse_args()
    os.chdir(ROOT)
    total: Counter[str] = Counter()
    for name in given.modules or TESTS:
        found = run(name, given.seconds, given.sample)
        counts = Counter(found.values())
        total += counts
        killed = counts["killed"] + counts["timeout"]
        print(f"{name}: {killed} of {len(found)} killed, {killed / max(1, len(found)):.1%}", flush=True)
        for key, value in found.items():
            if value == "survived":
                print(f"  survived {key}")
    killed, every = total["killed"] + total["timeout"], total.total()
    print(f"mutants: {killed} of {every} killed, {killed / max(1, every):.1%}")
    return 0 if killed >= LEAST_KILLED * every else 1


if __name__ == "__main__":
    sys.exit(main())
