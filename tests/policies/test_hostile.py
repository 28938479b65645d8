"""Whatever a server sends, every policy decides: no exception, and no wait that is negative, infinite or NaN.

Hostile values stand where the policy itself looks: in the fields that it reads, and at the ends of its paths
into a body.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bide
from bide.policy import Field, Policy, Refill, When, Window

NOW = 1_700_000_000.0

TEXTS = [
    "", " ", "0", "00", "-0", "-1", "+30", "1_000", "1e3", "1e400", "nan", "inf", "-inf", ".5", "5.", "1.5",
    "60", "1700000060", "1700000060.5", "1700000060000", "9" * 20, "9" * 5000, "\u0663\u0660", "\u00b3",
    "\x00", "1\x002", "true", "unlimited", "soon", "5, 10", "5,,10", ",", ";", "=", "/", "::", "a=b;;c",
    "a;1",
    "b=h;q=2;r=0;t=9", "total=100; remaining=0; resets=17", "api-usage=4/15000", "api-usage=/", "40/40",
    "3:1,57:120", '"a";r=0;t=5', '"a";r=0;t=999999999999999', '"a;r', "{", "[]", '{"a":[{"b":1}]}',
    "[" * 2000, "6m0s", "m", "9" * 30 + "s", "1,200.00", "1,20.00", "100;w=60", "100;w=0",
    "Tue, 14 Nov 2023 22:13:50 GMT", "Tue, 31 Feb 2023 22:13:50 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
    "2023-11-14T22:13Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:60+23:59", "\ud800", "x" * 100_000,
]  # fmt: skip
NUMBERS: list[object] = [0, 42, -1, 1e308, 1e-308, math.inf, math.nan, 10**400]
OTHERS: list[object] = [*TEXTS, None, True, [], {}, [[[]]], {"": 1}]
BODIES: list[object] = [
    None,
    b"",
    b"\xff\xfe",
    b"{",
    b"[" * 5000,
    b"1" * 5000,
    b'{"error":1e999}',
    b"null",
    "x" * 200_000,
    7,
]


def paths(policy: Policy) -> list[str]:
    """The paths along which a policy looks into a body."""
    dialect = policy.dialect
    parts = [*dialect.windows, *dialect.waits]
    fields = [field for part in parts if isinstance(part, (Window, Refill)) for field in part.fields()]
    fields += [part for part in parts if isinstance(part, Field)]
    places: list[Field | When] = [*fields, *dialect.refused_when, *dialect.final]
    return sorted({place.body for place in places if place.body})


def built(ends: dict[str, object]) -> Any:
    """A JSON value in which these paths lead to these values."""
    by_step: dict[str, dict[str, object]] = {}
    for path, value in ends.items():
        step, _, rest = path.partition(".")
        if not rest and step in ("", "*"):
            return value if not step else [value, value]
        by_step.setdefault(step, {})[rest] = value
    members = {step: rests[""] if "" in rests else built(rests) for step, rests in by_step.items()}
    return [members.pop("*"), members] if "*" in members else members


@pytest.mark.parametrize("name", bide.policies.names())
@given(data=st.data())
@settings(max_examples=20)
def test_every_policy_is_total(name: str, data: st.DataObject) -> None:
    policy = bide.policies.load(name)
    program = policy.program
    wanted = sorted({*program.wanted, *("requests".join(parts) for parts in program.patterns)})
    fields = data.draw(st.lists(st.tuples(st.sampled_from(wanted), st.sampled_from(TEXTS)), max_size=8))
    status = data.draw(st.sampled_from([200, 202, 400, 403, 409, 420, 429, 449, 500, 503, 529, 0, 999]))
    leaves = st.sampled_from([NUMBERS, OTHERS]).flatmap(st.sampled_from)
    looked_at = paths(policy)
    bodies = (
        st.fixed_dictionaries(dict.fromkeys(looked_at, st.sampled_from(NUMBERS)))
        | st.fixed_dictionaries({}, optional=dict.fromkeys(looked_at, leaves))
    ).map(built)
    body = data.draw(st.sampled_from(BODIES) | bodies | bodies.map(json.dumps))
    reply = bide.Reply(status, fields, method="GET")
    decision = bide.decide(reply, policy, body=body, now=NOW, draw=0.5)
    assert 0.0 <= decision.wait < math.inf
    assert bide.explain(reply, policy, body=body, now=NOW, draw=0.5).decision == decision
    for quota in decision.quotas:
        for number in (quota.limit, quota.remaining, quota.reset_after, quota.reset_at, quota.window):
            assert number is None or math.isfinite(number)
