"""Checks a policy's TOML against ``policy.schema.json``, the same schema that editors complete by.

Rules of this file: only the words of JSON Schema (draft 2020-12) that the schema uses are known here: type,
properties, patternProperties, additionalProperties, required, items, enum, anyOf, pattern, minimum,
exclusiveMinimum, maximum, $ref into $defs. The first mistake is told, with its key and what would be right.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Mismatch", "check"]

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
WORDS = {
    "string": "a string",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "an array",
    "object": "a table",
}


class Mismatch(ValueError):
    """What does not fit, and where."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}" if where else what)


@cache
def schema() -> dict[str, Any]:
    """The schema, as it ships."""
    path = Path(__file__).with_name("policy.schema.json")
    loaded: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return loaded


def check(value: object) -> None:
    """Raises Mismatch for the first thing that does not fit the schema."""
    _check(value, schema(), "")


def _check(value: Any, rule: dict[str, Any], where: str) -> None:
    if "$ref" in rule:
        _check(value, schema()["$defs"][rule["$ref"].rpartition("/")[2]], where)
        return
    if "anyOf" in rule:
        _check_any(value, rule["anyOf"], where)
        return
    if "enum" in rule:
        if value not in rule["enum"]:
            raise Mismatch(where, f"{value!r} is not known; {_listed(str(value), rule['enum'])}")
        return
    _check_type(value, rule, where)
    if isinstance(value, dict):
        _check_table(value, rule, where)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            _check(member, rule["items"], f"{where}[{index}]")
    elif isinstance(value, str):
        if "pattern" in rule and not re.search(rule["pattern"], value):
            raise Mismatch(where, f"header names are written in lower case: {value.lower()!r}, not {value!r}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_range(value, rule, where)


def _check_type(value: Any, rule: dict[str, Any], where: str) -> None:
    expected = rule["type"]
    if not isinstance(value, TYPES[expected]) or (isinstance(value, bool) and expected != "boolean"):
        raise Mismatch(where, f"must be {WORDS[expected]}, not {_shown(value)}")


def _check_range(value: float, rule: dict[str, Any], where: str) -> None:
    # Written so that nan, which TOML has, fits no range.
    if "minimum" in rule and not value >= rule["minimum"]:
        raise Mismatch(where, f"must be {rule['minimum']} or more, not {value!r}")
    if "exclusiveMinimum" in rule and not value > rule["exclusiveMinimum"]:
        raise Mismatch(where, f"must be above {rule['exclusiveMinimum']}, not {value!r}")
    if "maximum" in rule and not value <= rule["maximum"]:
        raise Mismatch(where, f"must be {rule['maximum']} or less, not {value!r}")


def _check_table(value: dict[str, Any], rule: dict[str, Any], where: str) -> None:
    properties, patterns = rule.get("properties", {}), rule.get("patternProperties", {})
    for key, member in value.items():
        inner = f"{where}.{key}" if where else key
        if key in properties:
            _check(member, properties[key], inner)
            continue
        matching = [part for pattern, part in patterns.items() if re.search(pattern, key)]
        if not matching:
            names = [*properties] or ["a status such as 429"]
            raise Mismatch(inner, f"there is no such key; {_listed(key, names)}")
        _check(member, matching[0], inner)
    for key in rule.get("required", ()):
        if key not in value:
            raise Mismatch(where, f"needs {key!r}")


def _check_any(value: object, rules: list[dict[str, Any]], where: str) -> None:
    """Tells the mistake of the alternative of the value's own type: the others would be misleading."""
    mistakes: list[tuple[bool, Mismatch]] = []
    for rule in rules:
        resolved = rule
        while "$ref" in resolved:
            resolved = schema()["$defs"][resolved["$ref"].rpartition("/")[2]]
        try:
            _check(value, rule, where)
        except Mismatch as mismatch:
            kind = resolved.get("type", "string" if "enum" in resolved else "")
            mistakes.append((not kind or isinstance(value, TYPES[kind]), mismatch))
        else:
            return
    raise next((mismatch for fits, mismatch in mistakes if fits), mistakes[-1][1])


def _listed(given: str, names: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(given, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"


def _shown(value: object) -> str:
    return "a table" if isinstance(value, dict) else "an array" if isinstance(value, list) else repr(value)
