"""Checks what a policy file says against ``schema.json``.

Rules of this file: as much of JSON Schema (draft 2020-12) as that schema uses, and no more: ``$ref``, ``type``,
``const``, ``enum``, ``properties``, ``patternProperties``, ``additionalProperties: false``, ``required``,
``items``, ``minItems``, ``minLength``, ``minimum``, ``maximum``, ``pattern``, ``anyOf``. A mistake is one line:
the file, the key, what is wrong, what to write instead.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from bide.errors import PolicyError

__all__ = ["check", "schema"]

Schema = dict[str, Any]

KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
WORDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


@cache
def schema() -> Schema:
    """The schema of a policy file."""
    loaded: Schema = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))
    return loaded


def check(said: object, where: str) -> None:
    """Passes what the schema allows.

    Raises:
        PolicyError: it does not; the message begins with ``where`` and names the key.
    """
    fault = _fault(said, schema(), "")
    if fault is not None:
        key, what = fault
        raise PolicyError(f"{where}: {key.lstrip('.') or 'the file'}: {what}")


def _fault(value: Any, rule: Schema, key: str) -> tuple[str, str] | None:
    """The first key that breaks the rule, and how."""
    if "$ref" in rule:
        return _fault(value, schema()["$defs"][rule["$ref"].rpartition("/")[2]], key)
    if "anyOf" in rule:
        return _fault_of_any(value, rule["anyOf"], key)
    kind = rule.get("type")
    if kind is not None and (
        not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")
    ):
        return key, f"is {WORDS[kind]}, got {value!r}"
    if "enum" in rule and value not in rule["enum"]:
        return key, f"{value!r} is none of {_listed(rule['enum'], value)}"
    if "pattern" in rule and not re.search(rule["pattern"], value):
        return key, f"{value!r}: {rule.get('description', 'must match ' + rule['pattern'])}"
    if not rule.get("minimum", value) <= value <= rule.get("maximum", value) if _is_number(value) else False:
        return key, f"is {rule.get('minimum', '...')} to {rule.get('maximum', '...')}, got {value!r}"
    if isinstance(value, str) and len(value) < rule.get("minLength", 0):
        return key, "is empty"
    if isinstance(value, list):
        if len(value) < rule.get("minItems", 0):
            return key, "is an empty list"
        for index, item in enumerate(value):
            fault = _fault(item, rule.get("items", {}), f"{key}[{index}]")
            if fault is not None:
                return fault
    return _fault_of_table(value, rule, key) if isinstance(value, dict) else None


def _fault_of_table(value: dict[str, Any], rule: Schema, key: str) -> tuple[str, str] | None:
    known = rule.get("properties", {})
    patterns = rule.get("patternProperties", {})
    for name in rule.get("required", ()):
        if name not in value:
            return key, f"needs the key {name!r}"
    for name, part in value.items():
        wanted = known.get(name) or next((r for p, r in patterns.items() if re.search(p, name)), None)
        if wanted is None:
            return f"{key}.{name}", f"is no key here; {_listed(known or patterns, name)}"
        fault = _fault(part, wanted, f"{key}.{name}")
        if fault is not None:
            return fault
    return None


def _fault_of_any(value: Any, rules: list[Schema], key: str) -> tuple[str, str] | None:
    """None when one of the rules holds, else the fault by the rule that is meant: the one of this type."""
    faults = [(_resolved(rule), _fault(value, rule, key)) for rule in rules]
    if any(fault is None for _, fault in faults):
        return None
    of_this_type = [
        (rule, fault)
        for rule, fault in faults
        if isinstance(value, KINDS[rule["type"]]) and not isinstance(value, bool)
    ]
    for rule, fault in of_this_type:
        # Of two tables the one whose required key is there is meant.
        if not isinstance(value, dict) or all(name in value for name in rule.get("required", ())):
            return fault
    if of_this_type:
        return of_this_type[0][1]
    return key, f"is {' or '.join(WORDS[rule['type']] for rule, _ in faults)}, got {value!r}"


def _resolved(rule: Schema) -> Schema:
    resolved: Schema = schema()["$defs"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule
    return resolved


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _listed(names: Any, given: object) -> str:
    texts = [str(name) for name in names]
    close = get_close_matches(str(given), texts, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else ", ".join(texts)
