"""The retry budget: a value, an argument for the time, and a bound that holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.policy import Budget


def test_the_floor_holds_whatever_was_requested() -> None:
    budget = Budget(ratio=0.0, floor=2)
    budget = budget.after_retry(0.0)
    assert budget.allows(0.0)
    assert not budget.after_retry(0.0).allows(0.0)


def test_requests_pay_for_repetitions() -> None:
    budget = Budget(ratio=0.25, floor=0)
    assert not budget.after_request(0.0).after_request(0.0).after_request(0.0).allows(0.0)
    for _ in range(4):
        budget = budget.after_request(0.0)
    assert budget.allows(0.0)
    assert not budget.after_retry(0.0).allows(0.0)


def test_a_period_ends_and_the_next_begins_empty() -> None:
    spent = Budget(ratio=0.0, floor=1, period=10.0).after_retry(5.0)
    assert not spent.allows(14.9)
    assert spent.allows(15.0)


def test_a_clock_that_steps_back_begins_a_new_period() -> None:
    assert Budget(ratio=0.0, floor=1).after_retry(5.0).allows(4.9)


def test_no_method_changes_a_budget() -> None:
    budget = Budget()
    budget.after_request(1.0).after_retry(2.0)
    assert budget == Budget()


@given(st.lists(st.booleans(), max_size=60), st.floats(0.0, 2.0), st.integers(0, 5))
def test_repetitions_never_exceed_the_floor_and_the_share(
    steps: list[bool], ratio: float, floor: int
) -> None:
    budget = Budget(ratio=ratio, floor=floor)
    for is_retry in steps:
        if not is_retry:
            budget = budget.after_request(1.0)
        elif budget.allows(1.0):
            budget = budget.after_retry(1.0)
    assert budget.retries <= max(floor, ratio * budget.requests)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ratio": -0.1}, "Budget.ratio is 0.0 to 100.0"),
        ({"ratio": float("nan")}, "Budget.ratio"),
        ({"floor": -1}, "Budget.floor is 0 to"),
        ({"period": 0.0}, "Budget.period is above 0"),
    ],
)
def test_a_value_out_of_range_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Budget(**fields)
