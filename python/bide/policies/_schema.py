"""Checks a policy's TOML against ``policy.schema.json``, the same schema that editors complete by.

Rules of this file: only the words of JSON Schema (draft 2020-12) that the schema uses are known here: type,
properties, patternProperties, additionalProperties, required, items, enum, anyOf, pattern, minimum,
exclusiveMinimum, maximum, $ref into $defs. Every mistake is told with its key and what would be right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Mismatch", "check", "mismatches"]

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
    """What does not fit, and where: ``dialect.windows[0].reset``, or "" for the whole."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}" if where else what)
        self.where = where
        self.what = what


@cache
def schema() -> dict[str, Any]:
    """The schema, as it ships."""
    path = Path(__file__).with_name("policy.schema.json")
    loaded: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return loaded


def check(value: object) -> None:
    """Raises Mismatch for the first thing that does not fit the schema."""
    for mismatch in mismatches(value):
        raise mismatch


def mismatches(value: object) -> Iterator[Mismatch]:
    """Everything that does not fit the schema."""
    return _mismatches(value, schema(), "")


def _mismatches(value: Any, rule: dict[str, Any], where: str) -> Iterator[Mismatch]:
    rule = _resolved(rule)
    if "anyOf" in rule:
        yield from _of_any(value, rule["anyOf"], where)
    elif "enum" in rule:
        if value not in rule["enum"]:
            yield Mismatch(where, f"{value!r} is not known; {_listed(str(value), rule['enum'])}")
    elif not _is_of_type(value, rule["type"]):
        yield Mismatch(
            where, f"must be {WORDS[rule['type']]}, not {_shown(value)}{_instead(value, rule, where)}"
        )
    elif isinstance(value, dict):
        yield from _of_table(value, rule, where)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _mismatches(member, rule["items"], f"{where}[{index}]")
    elif isinstance(value, str):
        if "pattern" in rule and not re.search(rule["pattern"], value):
            yield Mismatch(where, f"header names are written in lower case: {value.lower()!r}, not {value!r}")
    elif not isinstance(value, bool):
        yield from _of_range(value, rule, where)


def _instead(value: object, rule: dict[str, Any], where: str) -> str:
    """What to write where one member of an array stands for the array."""
    is_member = rule["type"] == "array" and isinstance(value, (str, int, float))
    if not is_member or any(_mismatches(value, rule["items"], where)):
        return ""
    return f"; write [{json.dumps(value, ensure_ascii=False)}]"


def _resolved(rule: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in rule:
        rule = schema()["$defs"][rule["$ref"].rpartition("/")[2]]
    return rule


def _is_of_type(value: object, expected: str) -> bool:
    return isinstance(value, TYPES[expected]) and (expected == "boolean" or not isinstance(value, bool))


def _of_range(value: float, rule: dict[str, Any], where: str) -> Iterator[Mismatch]:
    # Written so that nan, which TOML has, fits no range.
    if "minimum" in rule and not value >= rule["minimum"]:
        yield Mismatch(where, f"must be {rule['minimum']} or more, not {value!r}")
    elif "exclusiveMinimum" in rule and not value > rule["exclusiveMinimum"]:
        yield Mismatch(where, f"must be above {rule['exclusiveMinimum']}, not {value!r}")
    elif "maximum" in rule and not value <= rule["maximum"]:
        yield Mismatch(where, f"must be {rule['maximum']} or less, not {value!r}")


def _of_table(value: dict[str, Any], rule: dict[str, Any], where: str) -> Iterator[Mismatch]:
    properties, patterns = rule.get("properties", {}), rule.get("patternProperties", {})
    for key, member in value.items():
        inner = f"{where}.{key}" if where else key
        if key in properties:
            yield from _mismatches(member, properties[key], inner)
            continue
        matching = [part for pattern, part in patterns.items() if re.search(pattern, key)]
        if matching:
            yield from _mismatches(member, matching[0], inner)
        else:
            names = [*properties] or ["a status such as 429"]
            yield Mismatch(inner, f"there is no such key; {_listed(key, names)}")
    for key in rule.get("required", ()):
        if key not in value:
            yield Mismatch(where, f"needs {key!r}")


def _of_any(value: object, rules: list[dict[str, Any]], where: str) -> Iterator[Mismatch]:
    """Tells the mistakes of the alternative of the value's own type: the others would be misleading."""
    of_its_type: list[Mismatch] = []
    kinds = []
    for rule in rules:
        mistakes = list(_mismatches(value, rule, where))
        if not mistakes:
            return
        resolved = _resolved(rule)
        kind = resolved.get("type", "string" if "enum" in resolved else "")
        if not kind or isinstance(value, TYPES[kind]):
            of_its_type = of_its_type or mistakes
        else:
            kinds.append(WORDS[kind])
    of_no_type = Mismatch(where, f"must be {' or '.join(dict.fromkeys(kinds))}, not {_shown(value)}")
    yield from of_its_type or [of_no_type]


def _listed(given: str, names: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(given, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as TOML writes it
    return "a table" if isinstance(value, dict) else "an array" if isinstance(value, list) else repr(value)
