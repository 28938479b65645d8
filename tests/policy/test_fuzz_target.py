"""The fuzz target itself: it runs on seeds, on any octets, and notices what it is there to notice."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bide

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "policies" / "cases" / "public.jsonl"


def target() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_decide", ROOT / "fuzz" / "decide.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TARGET = target()


def test_the_target_decides_every_recorded_response_by_every_third_policy() -> None:
    for line in CASES.read_text("utf-8").splitlines():
        case = json.loads(line)
        head = "\n".join(f"{name}: {value}" for name, value in case["headers"].items())
        block = f"{head}\n\n{case['body'] or ''}".encode("utf-8", "replace")
        for policy in range(0, len(TARGET.POLICIES), 3):
            TARGET.run(bytes([policy, len(block) % 12, 128]) + block)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_the_target_decides_any_octets(data: bytes) -> None:
    TARGET.run(data)


def test_the_target_notices_a_wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = bide.Decision(bide.Action.RETRY, wait=float("inf"))
    monkeypatch.setattr(bide, "decide", lambda *_, **__: endless)
    with pytest.raises(AssertionError):
        TARGET.run(b"\0\0\0")
