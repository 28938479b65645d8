"""What the README says was measured is what `benches/results.json` records; and what a spoiled figure comes to."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("record", ROOT / "benches" / "record.py")
assert SPEC is not None
assert SPEC.loader is not None
record = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(record)


def test_the_readme_shows_the_record_and_nothing_else() -> None:
    recorded = json.loads((ROOT / "benches" / "results.json").read_text("utf-8"))
    text = (ROOT / "README.md").read_text("utf-8")
    assert record.block(recorded) in text
    assert record.written(text, recorded) == text
    assert recorded["figures"].keys() == {figure.name for figure in record.FIGURES}


def test_a_figure_that_grew_by_more_than_its_tolerance_is_named() -> None:
    before = {figure.name: 100.0 for figure in record.FIGURES}
    assert record.worse(before, before) == []
    assert record.worse(before, {**before, "native wheel": 104.9}) == []
    assert record.worse(before, {**before, "native wheel": 105.1}) == ["native wheel"]
    assert record.worse({}, before) == []


def test_a_readme_without_a_place_for_the_record_is_told() -> None:
    with pytest.raises(SystemExit, match="has no place for it"):
        record.written("# bide", {})
