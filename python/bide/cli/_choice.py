"""Which policy a recorded response belongs to: by its host, else by its shape.

The shape is read by trying: each policy explains the response, and what it reads speaks for it, the more the
fewer other policies know that field; what it drops, and what it expects and does not find, speaks against it.
Where several do equally well, and read the response differently, none is chosen: ``bide.HTTP`` reads what is
common.

Rules of this file: no vendor is named here; what a policy knows about its API stands in its TOML.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import NamedTuple

import bide
from bide.cli._recorded import Recorded
from bide.policies import for_host, load, names
from bide.policy import Policy

__all__ = ["Choice", "by_host", "choose"]

UNTELLING = frozenset({"date", "age", "retry-after"})
"""Fields that any server sends."""

MARGIN = 1.02
"""How much better than the next one the best must do."""

NAMED = 4.0
"""What it says when a header's own name, or the ``Server`` field, names the policy."""


class Choice(NamedTuple):
    """A policy and why it was taken."""

    policy: Policy
    why: str
    """For a person: "by its host", "by its headers: ..."."""
    others: tuple[str, ...] = ()
    """Names of policies that fit as well."""


def choose(response: Recorded, host: str = "") -> Choice:
    """The policy for a response whose policy nobody named.

    Args:
        response: the response.
        host: the API's host, where it is known; "" takes the record's.
    """
    chosen = by_host(host or response.host)
    return _by_shape(response) if chosen.policy is bide.HTTP else chosen


def by_host(host: str) -> Choice:
    """The policy that the host alone tells; ``bide.HTTP`` where none has it."""
    policy = for_host(host) if host else bide.HTTP
    return Choice(policy, f"no policy has the host {host}" if policy is bide.HTTP else f"by the host {host}")


def _by_shape(response: Recorded) -> Choice:
    sent = {name.lower() for name, _ in response.headers}
    policies = [load(name) for name in names()]
    wanted = {policy.name: _wanted(policy) for policy in policies}
    known_by = Counter(name for fields in wanted.values() for name in fields)
    tokens = {token for name in sent for token in re.split(r"[-_]", name)}
    tokens |= set(re.split(r"[^a-z0-9]+", (response.get("server") or "").lower()))
    scores: dict[str, float] = {}
    reply = bide.Reply(response.status, response.headers)
    for policy in policies:
        score = _score(policy, reply, response, known_by, wanted[policy.name])
        if policy.name in tokens and policy.name not in ("http", "meta", "box"):
            score += NAMED
        if score > 0.0:
            scores[policy.name] = score
    ranked = sorted(scores, key=lambda name: -scores[name])
    if not ranked:
        return Choice(bide.HTTP, "no field of it tells another")
    best = [name for name in ranked if scores[name] * MARGIN >= scores[ranked[0]]]
    fields = sorted(wanted[best[0]] & sent - UNTELLING)
    readings = {_reading(load(name), reply, response) for name in best}
    as_http = _reading(bide.HTTP, reply, response)
    # One that is known by nothing but what many send, and reads it as they do, is a guess.
    is_common = set(fields) <= wanted[bide.HTTP.name] and scores[best[0]] < NAMED
    if (len(best) > 1 and (len(readings) > 1 or as_http in readings)) or (
        is_common and readings == {as_http}
    ):
        others = tuple(name for name in best if name != bide.HTTP.name)
        return Choice(bide.HTTP, "by its shape, which is common", others)
    told = f"by its headers: {', '.join(fields[:3])}" if fields else "by its shape"
    return Choice(load(best[0]), told, tuple(best[1:]))


def _wanted(policy: Policy) -> frozenset[str]:
    return frozenset(policy.program.wanted) - UNTELLING


def _score(
    policy: Policy, reply: bide.Reply, response: Recorded, known_by: Counter[str], wanted: frozenset[str]
) -> float:
    explanation = bide.explain(reply, policy, body=response.body, method="GET", draw=0.0)
    read = {note.name for note in explanation.read} - UNTELLING
    score = sum(1.0 + math.log(len(names()) / max(1, known_by[name])) for name in read)
    score -= 2.0 * len({note.name for note in explanation.dropped} - UNTELLING)
    # Of two that read the same, the one that misses less.
    return score * (1.0 - 0.5 * len(wanted - read) / max(1, len(wanted))) if read else 0.0


def _reading(policy: Policy, reply: bide.Reply, response: Recorded) -> tuple[object, ...]:
    decision = bide.decide(reply, policy, body=response.body, method="GET", draw=0.0)
    return decision.action, round(decision.wait), decision.source
