"""Responses of real APIs, with the right reading: ``cases/*.jsonl``, one a line, each with its source.

A case is decided as a GET at the first attempt, with the client's clock and no jitter, and no bound on
waiting. A wait may be up to 1.5 s longer than stated (a vendor's margin) and 0.01 s shorter; what is null is
not compared.
``KNOWN`` lists the cases that we read otherwise, each with the argument why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bide

CASES = [
    json.loads(line)
    for path in sorted(Path(__file__).parent.joinpath("cases").glob("*.jsonl"))
    for line in path.read_text("utf-8").splitlines()
]

VENDORS = {
    "jira": "atlassian",
    "confluence-dc": "atlassian",
    "crates.io": "crates-io",
    "mistral-sdk": "mistral",
    "cohere-sdk": "cohere",
    "openai-codex": "openai",
    "envoy-ratelimit": "envoy",
    "wikimedia": "mediawiki",
    "npm-client": "npm",
}
"""Vendors whose policy has another name; one without a policy is read by ``bide.HTTP``."""

KNOWN = {
    "sentry-429-bare": "The wait of 60 s is what a client assumes, and is given as such (source: default). The "
    "reply states no window, so no quota claims one.",
}
"""Case -> why our answer is better."""

ACTIONS = {
    "ok": {bide.Action.PROCESS},
    "wait": {bide.Action.RETRY, bide.Action.DEFER},
    "retry": {bide.Action.RETRY},
    "do_not_retry": {bide.Action.FAIL},
}


def policy_of(vendor: str) -> bide.Policy:
    name = VENDORS.get(vendor, vendor)
    policy = bide.policies.load(name) if name in bide.policies.names() else bide.HTTP
    return policy.replace(max_wait=None)


def fields(case: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [
        (name, value)
        for name, values in case["headers"].items()
        for value in (values if isinstance(values, list) else [values])
    ]
    date = case.get("date_header")
    if date and "date" not in {name.lower() for name, _ in pairs}:
        pairs.append(("Date", date))
    return pairs


def differences(case: dict[str, Any]) -> list[str]:
    """What of a case is read otherwise than it says; empty when all is right."""
    reply = bide.Reply(case["status"], fields(case), method="GET", body=case["body"])
    decision = bide.decide(reply, policy_of(case["vendor"]), now=case["now"], draw=0.0)
    expected, found = case["expect"], []
    if decision.action not in ACTIONS[expected["kind"]]:
        found.append(f"kind: {decision.action} for {expected['kind']}")
    wait = expected["wait_s"]
    if wait is not None and not wait - 0.01 <= decision.wait <= wait + 1.5:
        found.append(f"wait: {decision.wait} for {wait}")
    if wait is None and expected["kind"] == "ok" and decision.wait:
        found.append(f"wait: {decision.wait} for none")
    if wait is None and expected["kind"] == "retry" and decision.source not in ("backoff", "default"):
        found.append(f"source: {decision.source} for backoff or default")
    quota = decision.quota or bide.Quota()
    found += [
        f"{name}: {getattr(quota, name)} for {expected[name]}"
        for name in ("limit", "remaining")
        if expected[name] is not None and getattr(quota, name) != expected[name]
    ]
    reset = expected["reset_epoch"]
    if reset is not None and (quota.reset_at is None or abs(quota.reset_at - reset) > 1.5):
        found.append(f"reset_at: {quota.reset_at} for {reset}")
    found += [
        f"window {window} is not among {decision.quotas}"
        for window in expected.get("windows", ())
        if not any(states(quota, window, case["now"]) for quota in decision.quotas)
    ]
    return found


def states(quota: bide.Quota, window: dict[str, Any], now: float) -> bool:
    """Whether a quota says what a case says of a window."""
    pairs = [(window.get("limit"), quota.limit), (window.get("remaining"), quota.remaining)]
    if "window_s" in window:
        pairs.append((window["window_s"], quota.window))
    reset = window.get("reset_epoch", now + window["reset_s"] if window.get("reset_s") is not None else None)
    if reset is not None and (quota.reset_at is None or abs(quota.reset_at - reset) > 1.5):
        return False
    return all(expected is None or expected == stated for expected, stated in pairs)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["id"]) for case in CASES if case["id"] not in KNOWN]
)
def test_a_response_is_read_as_its_vendor_means_it(case: dict[str, Any]) -> None:
    assert differences(case) == [], case["rule"]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES if case["id"] in KNOWN])
def test_a_case_that_is_listed_as_read_otherwise_is_read_otherwise(case: dict[str, Any]) -> None:
    assert differences(case), "read as the case says: take it off the list"


def test_at_most_3_percent_of_the_cases_are_read_otherwise() -> None:
    assert len(KNOWN) <= 0.03 * len(CASES)
    assert set(KNOWN) <= {case["id"] for case in CASES}
