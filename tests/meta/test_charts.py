"""The charts show what is recorded: each is drawn anew in memory and compared with its file."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

BENCHES = Path(__file__).parents[2] / "benches"
CHARTS = sorted(path.name for path in BENCHES.glob("*.svg"))


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHES))
    for name in ("report", "charts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("report")


def recorded(name: str) -> Any:
    return json.loads((BENCHES / f"results-{name}.json").read_text(encoding="utf-8"))


def drawn(report: ModuleType) -> dict[str, str]:
    results = recorded("limiter")
    rows = {(row["name"], row["keys"], row["verdict"]): row for row in results["rows"]}
    return {
        **{f"limiter-{size}.svg": report.chart(rows, size) for size in report.sizes_of(rows)},
        "memory.svg": report.memory_chart(recorded("memory")),
        "goodput.svg": report.goodput_chart(recorded("goodput")),
    }


def test_every_chart_is_what_the_record_gives(report: ModuleType) -> None:
    charts = drawn(report)
    assert set(charts) == set(CHARTS)
    stale = [name for name, svg in charts.items() if (BENCHES / name).read_text(encoding="utf-8") != svg]
    assert not stale, f"{stale}: run make charts"


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_can_be_read_in_light_and_dark_and_without_seeing_it(name: str) -> None:
    text = (BENCHES / name).read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.find("{*}title") is not None
    assert "prefers-color-scheme: dark" in text
    width = float(root.attrib["viewBox"].split()[2])
    for shown in root.iter("{http://www.w3.org/2000/svg}text"):
        words = shown.text or ""
        if shown.get("text-anchor") != "end":
            assert float(shown.get("x", "0")) + 7.6 * len(words) <= width + 20, f"{words!r} leaves the chart"


def test_every_name_that_is_recorded_is_shown(report: ModuleType) -> None:
    for name, rows, member in (
        ("memory.svg", recorded("memory")["rows"], "name"),
        ("goodput.svg", recorded("goodput")[0]["rows"], "contender"),
    ):
        text = (BENCHES / name).read_text(encoding="utf-8")
        shown = set(re.findall(r'text-anchor="end">([^<]+)<', text))
        assert {row[member] for row in rows} == shown
