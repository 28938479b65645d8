"""Mutation testing of the policy and of the window arithmetic: `make mutants`.

Each mutant is one small change of one module (cosmic-ray makes them): a number one off, a comparison or an operator
replaced, a condition negated. It counts as killed when the module's tests fail, or do not end, or
ask for more memory than any needs.

Rules of this file
- A mutant runs in a fork of a process that has imported the tools, so that it costs the tests alone: one file of them
  after the other, up to the first that fails. No file is changed: the fork imports the mutated source in place of
  the module's.
- A change of nothing but annotations is no mutant, nor is what does not parse.
- The order of the mutants is drawn by their own content: what a run did that was stopped is a fair sample.
- Results are kept in target/mutants, by the source's content: a run that was stopped goes on. A kill is kept until
  the source changes or --afresh is given, for tests are added; a survivor is tried again when its tests change.
- Less than 90 % killed makes the exit code 1. What survives is listed in docs/quality.md with the reason.
"""

import argparse
import ast
import gc
import hashlib
import importlib.abc
import importlib.util
import itertools
import json
import os
import resource
import signal
import sys
import time
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
STUCK_SECONDS = 600
MEMORY_BYTES = 2 << 30
KILLED = "killed"
OPTIONS = (
    "-x", "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:unraisableexception",
    "-p", "no:threadexception",
)  # fmt: skip
"""What a mutant's tests are run with: nothing that tells why one fails, or that looks for garbage."""

EDGES = "tests/policy/test_edges.py"
CASES = "tests/policies/test_cases.py"
WALK = (EDGES, "tests/policy/test_walk.py", "tests/policy/test_clever.py", "tests/policy/test_ends.py")
TESTS = {
    "bide.limiter._window": ("tests/limiter/test_window_vectors.py",),
    "bide.policy._backoff": (EDGES, "tests/policy/test_backoff.py", "tests/policy/test_values.py"),
    "bide.policy._budget": (EDGES, "tests/policy/test_budget.py"),
    "bide.policy._dialect": ("tests/policy/test_values.py", *WALK, "tests/policies/test_loader.py", CASES),
    "bide.policy._engine": (*WALK, "tests/policy/test_values.py", "tests/policy/test_texts.py", CASES),
    "bide.policy._explain": (*WALK, "tests/policy/test_texts.py", "tests/policy/test_values.py"),
    "bide.policy._failure": ("tests/policy/test_replies.py",),
    "bide.policy._fields": (EDGES, "tests/policy/test_fields.py", CASES),
    "bide.policy._headers": ("tests/policy/test_headers.py", "tests/policy/test_replies.py", *WALK),
    "bide.policy._policy": ("tests/policy/test_values.py", *WALK, "tests/policy/test_headers.py", CASES),
    "bide.policy._reply": (
        "tests/policy/test_values.py",
        "tests/policy/test_replies.py",
        "tests/policy/test_headers.py",
        *WALK,
    ),
    "bide.policy._source": (*WALK, "tests/policy/test_headers.py", "tests/policy/test_texts.py", CASES),
    "bide.policy._status": (EDGES, "tests/policy/test_values.py", "tests/policy/test_clever.py"),
    "bide.policy._structured": ("tests/policy/test_structured.py",),
    "bide.policy._types": ("tests/policy/test_values.py", *WALK),
    "bide.policy._wait": (*WALK, "tests/policy/test_texts.py", "tests/policy/test_values.py", CASES),
    "bide.policy._windows": (
        *WALK,
        "tests/policy/test_headers.py",
        "tests/policy/test_texts.py",
        "tests/policy/test_values.py",
        CASES,
    ),
}
"""Module -> the tests that must notice a change of it, the quickest first."""
DATA = ("tests/vectors/window.json", *(f"tests/policies/cases/{name}.jsonl" for name in ("a", "b", "public")))
"""What tests read besides themselves."""

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
    """One change: the line that it makes, with what makes it, and the whole source."""

    key: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a source, each once; one statement after the other, for an operator parses what it is given."""
    lines = source.splitlines(keepends=True)
    starts = [
        min(part.lineno for part in (statement, *getattr(statement, "decorator_list", ()))) - 1
        for statement in ast.parse(source).body
    ]
    for start, end in itertools.pairwise([*starts, len(lines)]):
        statement = "".join(lines[start:end])
        seen = {without_annotations(statement)}
        for name in OPERATORS:
            try:
                operator = get_operator(f"core/{name}")()
            except KeyError:
                continue  # this cosmic-ray has no such one
            occurrence = 0
            while (changed := mutate_code(statement, operator, occurrence)) is not None:
                occurrence += 1
                try:
                    plain = without_annotations(changed)
                except SyntaxError:
                    continue  # the operator took a "*" of an argument list for a sum's
                if plain in seen:
                    continue
                seen.add(plain)
                pairs = zip(lines[start:end], changed.splitlines(keepends=True), strict=False)
                line, after = next(
                    (n, after) for n, (before, after) in enumerate(pairs, start + 1) if before != after
                )
                if "TYPE_CHECKING" not in after:  # the constant itself
                    key = f"{line}: {after.strip()} [{name} {occurrence}]"
                    yield Mutant(key, "".join((*lines[:start], changed, *lines[end:])))


def without_annotations(source: str) -> str:
    """What a source does: its syntax without annotations, and without what type checkers alone see."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
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


def start(name: str, path: Path, source: str, tests: tuple[str, ...], limit_seconds: int) -> int:
    """Runs a module's tests on a source in a fork, whose process is returned; its exit code is 0 where all pass."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (limit_seconds, limit_seconds))
        signal.alarm(STUCK_SECONDS)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        sys.meta_path.insert(0, Mutated(name, path, source))
        for test in tests:
            code = int(pytest.main([*OPTIONS, test]))
            if code:
                break
    finally:
        os._exit(code)


def run(name: str, seconds: float, jobs: int, afresh: bool) -> dict[str, str]:
    """The outcomes of a module's mutants, as far as they fit into the time."""
    path = ROOT / "python" / Path(*name.split(".")).with_suffix(".py")
    source, tests = path.read_text("utf-8"), TESTS[name]
    file = RESULTS / f"{name}-{digest(source)}.json"
    found: dict[str, str] = json.loads(file.read_text("utf-8")) if file.exists() and not afresh else {}
    content = "".join((ROOT / read).read_text("utf-8") for read in (*tests, *DATA))
    survived = f"survived {digest(content)}"
    ordered = sorted(mutants(source), key=lambda mutant: digest(mutant.key))
    waiting = [mutant for mutant in ordered if found.get(mutant.key) not in (KILLED, survived)]
    limit_seconds = 60
    if waiting:
        _, status, usage = os.wait4(start(name, path, source, tests, limit_seconds), 0)
        if status:
            sys.exit(f"mutants: the tests of {name} fail as it stands: {' '.join(tests)}")
        limit_seconds = 5 + int(5 * (usage.ru_utime + usage.ru_stime))
    end = time.monotonic() + seconds
    running: dict[int, Mutant] = {}
    while running or (waiting and time.monotonic() < end):
        while waiting and len(running) < jobs and time.monotonic() < end:
            mutant = waiting.pop(0)
            running[start(name, path, mutant.source, tests, limit_seconds)] = mutant
        child, status = os.wait()
        found[running.pop(child).key] = KILLED if status else survived
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(found, indent=1), "utf-8")
        partial.replace(file)
    return {mutant.key: found[mutant.key] for mutant in ordered if mutant.key in found}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> int:
    options = argparse.ArgumentParser(
        description="Mutation testing of the policy and of the window arithmetic."
    )
    options.add_argument("modules", nargs="*", metavar="MODULE", help="these alone")
    options.add_argument("--seconds", type=float, default=float("inf"), help="for each module, at most")
    options.add_argument("--jobs", type=int, default=1, help="mutants at once")
    options.add_argument("--afresh", action="store_true", help="forget the results of earlier runs")
    given = options.parse_args()
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, max_examples=20)
    hypothesis.settings.load_profile("mutants")
    gc.freeze()  # what was imported is not looked through in every fork
    killed = every = 0
    for name in given.modules or TESTS:
        found = run(name, given.seconds, given.jobs, given.afresh)
        survivors = [key for key, outcome in found.items() if outcome != KILLED]
        killed, every = killed + len(found) - len(survivors), every + len(found)
        share = 1.0 - len(survivors) / max(1, len(found))
        print(f"{name}: {len(found) - len(survivors)} of {len(found)} killed, {share:.1%}", flush=True)
        for key in sorted(survivors, key=lambda key: int(key.partition(":")[0])):
            print(f"  survived {key}")
    print(f"mutants: {killed} of {every} killed, {killed / max(1, every):.1%}")
    return 0 if killed >= LEAST_KILLED * every else 1


if __name__ == "__main__":
    sys.exit(main())
