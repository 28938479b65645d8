"""Backoff as a value: the strategies, their ranges, and any attempt number."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.policy import Backoff

JITTERS = ["none", "full", "equal", "decorrelated", "spread"]


@pytest.mark.parametrize(
    ("jitter", "low", "high"),
    [
        ("none", 4.0, 4.0),
        ("full", 0.0, 4.0),
        ("equal", 2.0, 4.0),
        ("decorrelated", 1.0, 6.0),
        ("spread", 4.0, 5.0),
    ],
)
def test_each_jitter_has_its_range(jitter: str, low: float, high: float) -> None:
    backoff = Backoff(base=1.0, cap=60.0, jitter=jitter)
    assert backoff.wait(3, draw=0.0) == low
    assert backoff.wait(3, draw=1.0 - 2**-53) == pytest.approx(high)


def test_a_spread_wait_at_its_cap_goes_on_above_it_by_up_to_a_quarter() -> None:
    backoff = Backoff(base=1.0, cap=16.0, jitter="spread")
    assert [backoff.wait(attempt, draw=0.5) for attempt in (4, 5, 6)] == [9.0, 18.0, 18.0]


def test_from_the_least_base_to_the_greatest_cap_the_waits_double() -> None:
    backoff = Backoff(base=1e-9, cap=999_999_999.0, jitter="none")
    assert [backoff.wait(attempt) for attempt in (1, 60, 61, 62)] == [
        1e-9,
        1e-9 * 2**59,
        999_999_999.0,
        999_999_999.0,
    ]


def test_decorrelated_jitter_follows_the_wait_before() -> None:
    backoff = Backoff(base=1.0, cap=60.0, jitter="decorrelated")
    assert backoff.wait(9, draw=0.5, previous=10.0) == 15.5
    assert backoff.wait(1, draw=0.5) == 2.0
    assert backoff.wait(9, draw=0.999, previous=50.0) == 60.0


@given(
    st.sampled_from(JITTERS),
    st.floats(1e-6, 1e6),
    st.floats(1.0, 1e3),
    st.integers(1, 10**40),
    st.floats(0, 1, exclude_max=True),
)
def test_every_wait_is_finite_and_within_its_cap(
    jitter: str, base: float, ratio: float, attempt: int, draw: float
) -> None:
    backoff = Backoff(base=base, cap=base * ratio, jitter=jitter)
    wait = backoff.wait(attempt, draw)
    assert math.isfinite(wait)
    assert 0.0 <= wait <= backoff.cap * (1.25 if jitter == "spread" else 1.0) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("error", "values"),
    [
        (ValueError, {"base": 0.0}),
        (ValueError, {"base": -1.0}),
        (ValueError, {"base": 2.0, "cap": 1.0}),
        (ValueError, {"base": math.nan}),
        (ValueError, {"cap": math.inf}),
        (ValueError, {"jitter": "some"}),
        (TypeError, {"base": "1"}),
        (TypeError, {"cap": True}),
        (TypeError, {"jiter": "none"}),
    ],
)
def test_a_wrong_backoff_is_refused_at_once(error: type[Exception], values: dict[str, object]) -> None:
    with pytest.raises(error):
        Backoff(**values)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(("attempt", "draw"), [(0, 0.0), (1, 1.0), (1, -0.1), (1, math.nan)])
def test_a_wrong_attempt_or_draw_is_refused(attempt: int, draw: float) -> None:
    with pytest.raises(ValueError, match=r"attempt|draw"):
        Backoff().wait(attempt, draw)
