"""Giving back and settling: once, and only into the very window that it was taken from."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from bide.limiter import Limiter
from bide.testing import FakeClock

Make = Callable[..., Limiter]


def test_a_refund_gives_the_cost_back_once(make: Make) -> None:
    limiter = make("10/minute")
    outcome = limiter.take("a", cost=4)
    assert limiter.refund("a", outcome) is True
    assert limiter.peek("a").remaining == 10
    assert limiter.refund("a", outcome) is False
    assert limiter.settle("a", outcome, 9) is False
    assert limiter.peek("a").remaining == 10


def test_a_refund_after_the_window_has_ended_gives_nothing(make: Make, clock: FakeClock) -> None:
    limiter = make("10/minute")
    outcome = limiter.take("a", cost=4)
    clock.advance(60.0)
    limiter.take("a", cost=4)
    assert limiter.refund("a", outcome) is False
    assert limiter.peek("a").remaining == 6


def test_a_refused_outcome_has_nothing_to_give_back(make: Make) -> None:
    limiter = make("1/minute")
    limiter.take("a")
    assert limiter.refund("a", limiter.take("a")) is False
    assert limiter.refund("a", limiter.peek("b")) is False
    assert limiter.peek("a").remaining == 0


def test_a_refund_for_another_key_or_of_another_limiter_gives_nothing(make: Make) -> None:
    limiter, other = make("10/minute"), make("10/minute")
    outcome = limiter.take("a")
    other.take("a")
    limiter.take("b")
    assert limiter.refund("b", outcome) is False
    assert other.refund("a", outcome) is False
    assert (limiter.peek("a").remaining, limiter.peek("b").remaining) == (9, 9)
    assert other.peek("a").remaining == 9
    assert limiter.refund("a", outcome) is True


def test_a_refund_never_gives_more_than_was_counted(make: Make) -> None:
    limiter = make("10/minute")
    outcome = limiter.take("a", cost=4)
    limiter.reset("a")
    limiter.take("a", cost=1)
    limiter.refund("a", outcome)
    assert limiter.peek("a").remaining <= 10


def test_a_window_that_the_server_moved_takes_nothing_back(make: Make) -> None:
    limiter = make("10/minute")
    outcome = limiter.take("a", cost=4)
    limiter.sync("a", SimpleNamespace(remaining=6, reset_after=30.0, window=None))
    assert limiter.refund("a", outcome) is False
    assert limiter.peek("a").remaining == 6


def test_of_several_limits_each_takes_back_what_its_window_still_counts(make: Make, clock: FakeClock) -> None:
    limiter = make("10/second", "12/minute")
    outcome = limiter.take("a", cost=10)
    assert limiter.refund("a", outcome) is True
    assert limiter.take("a", cost=10).remaining == 0
    clock.advance(1.0)
    later = make("10/second", "12/minute")
    kept = later.take("a", cost=10)
    clock.advance(1.5)
    assert later.peek("a").remaining == 2
    assert later.refund("a", kept) is True
    assert later.peek("a").remaining == 10
    assert later.take("a", cost=10).remaining == 0
    assert later.peek("a").limit == 10


@pytest.mark.parametrize(
    ("estimate", "actual", "remaining"),
    [(100, 40, 960), (100, 100, 900), (100, 0, 1000), (100, 250, 750), (100, 5_000, 0), (1, 67_000_000, 0)],
)
def test_a_cost_known_afterwards_is_settled(make: Make, estimate: int, actual: int, remaining: int) -> None:
    limiter = make("1000/minute")
    outcome = limiter.take("a", cost=estimate)
    assert limiter.settle("a", outcome, actual) is True
    assert limiter.peek("a").remaining == remaining
    assert limiter.settle("a", outcome, actual) is False


def test_what_was_charged_above_the_limit_is_gone_with_its_window(make: Make, clock: FakeClock) -> None:
    limiter = make("1000/minute")
    limiter.settle("a", limiter.take("a"), 5_000)
    assert not limiter.try_acquire("a")
    clock.advance(60.0)
    assert limiter.take("a").remaining == 999


@pytest.mark.parametrize(
    ("actual", "error"),
    [
        (-1, ValueError),
        (67_000_001, ValueError),
        (1.5, TypeError),
        (True, TypeError),
        ("1", TypeError),
        (None, TypeError),
    ],
)
def test_an_actual_cost_that_makes_no_sense_says_what_to_pass(
    make: Make, actual: object, error: type[Exception]
) -> None:
    limiter = make("10/minute")
    outcome = limiter.take("a")
    with pytest.raises(error, match="actual must be a whole number"):
        limiter.settle("a", outcome, actual)  # type: ignore[arg-type]  # the mistakes under test
    assert limiter.refund("a", outcome), "a mistake does not use the outcome up"


@pytest.mark.parametrize("outcome", [None, True, "allowed", object()])
def test_an_outcome_of_another_kind_is_a_mistake(make: Make, outcome: object) -> None:
    limiter = make("10/minute")
    with pytest.raises(TypeError, match=r"outcome must be what take\(\) returned, not"):
        limiter.refund("a", outcome)  # type: ignore[arg-type]  # the mistakes under test
    with pytest.raises(TypeError, match=r"outcome must be what take\(\) returned, not"):
        limiter.settle("a", outcome, 1)  # type: ignore[arg-type]  # the mistakes under test
