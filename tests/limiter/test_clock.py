"""The clock contract.

- Time in a word never runs back: a reading that is earlier than one already used joins the newer window, or
  is refused. It never opens a window again, and never admits more than the limit.
- A big step forward ends windows, no more: the next one begins as after a long pause.
- A suspended machine's monotonic clock stands still: one waits longer, and nothing more passes.
- An injected clock is read once a call; what it raises, the caller gets.
"""

from collections import Counter
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.limiter import Limiter
from bide.testing import FakeClock

Make = Callable[..., Limiter]


def test_a_clock_that_steps_back_frees_nothing(make: Make, clock: FakeClock) -> None:
    limiter = make("2/minute")
    clock.advance(100.0)
    limiter.take("a")
    clock.advance(-90.0)
    assert limiter.take("a").remaining == 0
    assert not limiter.try_acquire("a")
    assert limiter.take("a").retry_after == 150.0
    clock.advance(90.0)
    assert limiter.take("a").retry_after == 60.0


def test_a_clock_before_the_beginning_counts_as_the_beginning(make: Make, clock: FakeClock) -> None:
    limiter = make("2/minute")
    clock.advance(-500.0)
    assert [limiter.try_acquire("a") for _ in range(3)] == [True, True, False]
    assert limiter.peek("a").reset_after == 60.0


def test_a_stale_reading_joins_the_newer_window_or_is_refused(make: Make, clock: FakeClock) -> None:
    limiter = make("3/10s")
    limiter.take("a", cost=3)
    clock.advance(10.0)
    assert limiter.take("a").remaining == 2
    for lag in (0.001, 3.0, 9.999, 10.0):
        clock.advance(-lag)
        outcome = limiter.take("a", cost=3)
        assert not outcome, lag
        assert outcome.remaining == 2
        clock.advance(lag)
    clock.advance(-0.001)
    assert limiter.take("a", cost=2).allowed
    clock.advance(0.001)
    assert not limiter.try_acquire("a")


@pytest.mark.parametrize("seconds", [1e3, 1e5, 86_400 * 365.0, 86_400 * 365 * 7.0])
def test_a_big_step_forward_ends_windows_and_no_more(make: Make, clock: FakeClock, seconds: float) -> None:
    limiter = make("2/minute")
    limiter.take("a", cost=2)
    clock.advance(seconds)
    assert [limiter.try_acquire("a") for _ in range(3)] == [True, True, False]
    assert 0.0 < limiter.peek("a").reset_after <= 60.0


@pytest.mark.parametrize("years", [9, 100, 10_000])
def test_beyond_what_a_word_can_count_time_stands_still_and_nothing_more_passes(
    make: Make, clock: FakeClock, years: int
) -> None:
    limiter = make("2/minute")
    limiter.take("a", cost=2)
    clock.advance(years * 366 * 86_400.0)
    assert [limiter.try_acquire("a") for _ in range(3)] == [True, True, False]
    clock.advance(86_400.0)
    assert not limiter.try_acquire("a")


def test_a_suspended_clock_waits_longer_and_passes_nothing_more(make: Make, clock: FakeClock) -> None:
    limiter = make("1/minute")
    limiter.take("a")
    clock.advance(30.0)
    clock.step_wall(3600.0)  # an hour asleep: the wall clock goes on, the monotonic one stands still
    assert not limiter.try_acquire("a")
    assert limiter.peek("a").retry_after == 30.0


def test_what_an_injected_clock_raises_reaches_the_caller_and_takes_nothing(make: Make) -> None:
    class Broken(FakeClock):
        broken = False

        def __call__(self) -> float:
            if self.broken:
                raise OSError("no time")
            return super().__call__()

    clock = Broken()
    limiter = make("2/minute", clock=clock)
    clock.broken = True
    for call in (limiter.try_acquire, limiter.take, limiter.peek):
        with pytest.raises(OSError, match="no time"):
            call("a")
    clock.broken = False
    assert limiter.peek("a").remaining == 2


@pytest.mark.parametrize(
    ("reading", "error"),
    [("noon", TypeError), (None, TypeError), (float("nan"), ValueError), (float("inf"), ValueError)],
)
def test_a_reading_that_is_no_time_is_an_error(make: Make, reading: object, error: type[Exception]) -> None:
    readings: list[object] = [1.0]
    limiter = make("2/minute", clock=lambda: readings[-1])
    readings.append(reading)
    with pytest.raises(error, match="clock"):
        limiter.try_acquire("a")


def test_a_whole_number_is_a_reading(make: Make) -> None:
    readings = [5]
    limiter = make("1/minute", clock=lambda: readings[-1])
    assert limiter.try_acquire("a")
    readings.append(65)
    assert limiter.try_acquire("a")


def test_steps_of_a_float_add_up_to_whole_windows(make: Make, clock: FakeClock) -> None:
    limiter = make("1/second")
    for _ in range(100):
        assert limiter.try_acquire("a")
        for _ in range(10):
            assert not limiter.try_acquire("a")
            clock.advance(0.1)


def test_the_system_clock_is_the_default(make: Make) -> None:
    limiter = make("1/20ms", clock=None)
    assert limiter.try_acquire("a")
    assert not limiter.try_acquire("a")
    assert limiter.acquire("a", timeout=5.0).allowed


@given(steps=st.lists(st.tuples(st.floats(-30.0, 30.0), st.integers(1, 3)), max_size=60))
def test_however_the_clock_jumps_no_window_admits_more_than_its_limit(
    implementation: ModuleType, steps: list[tuple[float, int]]
) -> None:
    clock = FakeClock()
    limiter = implementation.Limiter("5/10s", clock=clock)
    admitted: Counter[float] = Counter()
    for step, cost in steps:
        clock.advance(step)
        outcome = limiter.take("a", cost)
        if outcome:
            admitted[round(max(clock(), 1000.0) + outcome.reset_after, 2)] += cost
    assert all(total <= 5 for total in admitted.values())
