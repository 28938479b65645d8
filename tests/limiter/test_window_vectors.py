"""`_window.py` gives what tests/vectors/window.json says; cargo reads the same file for `window.rs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bide.limiter import _window as window

TABLE = json.loads((Path(__file__).parents[1] / "vectors" / "window.json").read_text(encoding="utf-8"))
COUNTS = {"full": window.FULL, "ended": window.ENDED, "probing": window.PROBING, "syncing": window.SYNCING}


def packed(word: list[Any] | None) -> int | None:
    return None if word is None else window.pack(word[0], COUNTS.get(word[1], word[1]))


def test_the_word_and_its_marks_are_those_of_the_table() -> None:
    names = ("full", "ended", "probing", "syncing", "max_window_ms", "latest_ms", "probe_timeout_ms")
    assert {name: getattr(window, name.upper()) for name in names} == TABLE["constants"]
    assert window.pack(3, 5) == 3 * 2**26 + 5


def test_a_reply_is_to_a_request_that_cost_one_where_nothing_else_is_said() -> None:
    assert window.Reply() == window.Reply(remaining=None, end=None, cost=1, taken_end=None)


@pytest.mark.parametrize(
    "vector", TABLE["vectors"], ids=lambda vector: f"{vector['function']}: {vector['name']}"
)
def test_window_vector(vector: dict[str, Any]) -> None:
    word, now, cost = packed(vector["word"]), vector["now"], vector.get("cost", 1)
    assert word is not None
    rule = window.Rule(**vector.get("rule", {"limit": 1, "window_ms": 1}))

    def wall_offset() -> int:
        return int(vector.get("wall_offset", 0))

    match vector["function"]:
        case "take":
            following = window.take(word, now, rule, cost, wall_offset)
        case "contact":
            following = window.contact(word, now, rule, cost, vector["timeout_ms"], wall_offset)
        case "view":
            assert window.view(word, now, rule)._asdict() == vector["expect"]
            return
        case "sync":
            reply = window.Reply(vector.get("remaining"), vector.get("end"), cost, vector.get("taken_end"))
            following = window.sync(word, now, rule, reply, wall_offset)
        case "penalize":
            following = window.penalize(word, now, vector["until"])
        case "settle":
            following = window.settle(word, now, vector["end"], cost, vector["actual"])
        case unknown:
            raise AssertionError(f"window.json names a function that does not exist: {unknown}")
    assert following == packed(vector["expect"])
