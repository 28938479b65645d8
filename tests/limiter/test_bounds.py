"""Memory is bounded, and a live key is never forgotten to make room: reuse, overflow, floods of new keys."""

from collections import Counter
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.limiter import Limiter
from bide.testing import FakeClock

Make = Callable[..., Limiter]


def test_a_flood_of_new_keys_frees_no_live_key(make: Make) -> None:
    limiter = make("2/minute", max_keys=100)
    customers = [f"customer {n}" for n in range(50)]
    for customer in customers:
        limiter.take(customer, cost=2)
    for n in range(20_000):
        limiter.try_acquire(f"minted {n}")
    assert not any(limiter.try_acquire_many(customers))
    stats = limiter.stats()
    assert stats.capacity == 100
    assert stats.live <= 200
    assert stats.overflowed == 100, "each of 50 home lines admits two more, whatever the number of keys"
    assert stats.reused == 0


def test_windows_of_ever_new_keys_reuse_the_slots_of_ended_ones(make: Make, clock: FakeClock) -> None:
    limiter = make("1/second", max_keys=200)
    for window in range(100):
        assert all(limiter.try_acquire_many([f"{window} {n}" for n in range(100)]))
        clock.advance(1.0)
    stats = limiter.stats()
    assert stats.live == 0
    assert stats.overflowed == 0
    assert stats.reused >= 100 * 100 - 400


def test_as_many_keys_as_promised_find_room(make: Make) -> None:
    limiter = make("1/hour", max_keys=20_000)
    keys = [f"Bearer {n:08x}" for n in range(20_000)]
    refused = limiter.try_acquire_many(keys).count(False)
    assert not any(limiter.try_acquire_many(keys))
    stats = limiter.stats()
    assert refused + stats.overflowed <= 10, "about ten in a million do not fit"
    assert stats.live == 20_000 - refused - stats.overflowed
    assert stats.denied == 20_000 + refused


def test_a_key_without_room_may_be_refused_early_and_is_served_again_later(
    make: Make, clock: FakeClock
) -> None:
    limiter = make("3/second", max_keys=1)
    keys = [f"key {n}" for n in range(40)]
    passed = Counter(key for key in keys * 4 if limiter.try_acquire(key))
    assert max(passed.values()) == 3
    assert len(passed) < 40, "one line of four slots and one overflow counter are not enough for all"
    clock.advance(2.0)
    assert sum(limiter.try_acquire(key) for key in keys) > 3


def test_while_an_overflow_window_runs_no_key_enters_a_slot_from_there(make: Make, clock: FakeClock) -> None:
    limiter = make("2/10s", max_keys=1)
    for n in range(4):
        limiter.take(f"slot {n}")
    clock.advance(5.0)
    assert limiter.take("late", cost=2).allowed, "it counts in the overflow, until 15 s"
    clock.advance(5.0)
    assert not limiter.try_acquire("late"), "the four slots have ended; a fresh one would admit it twice"
    clock.advance(5.0)
    assert limiter.take("late").remaining == 1


@pytest.mark.parametrize("call", ["sync", "penalize"])
def test_what_one_key_is_told_holds_the_overflow_for_one_window_at_most(
    make: Make, clock: FakeClock, call: str
) -> None:
    limiter = make("2/10s", max_keys=1)
    for n in range(4):
        limiter.take(f"slot {n}")
    limiter.take("one of many")
    if call == "sync":
        limiter.sync(
            "one of many", type("Quota", (), {"remaining": 0, "reset_after": 3600.0, "window": None})()
        )
    else:
        limiter.penalize("one of many", 3600.0)
    assert not limiter.try_acquire("one of many")
    assert not limiter.try_acquire("another")
    clock.advance(10.0)
    assert limiter.try_acquire("another")


def test_first_contact_of_a_key_without_room_does_not_shut_the_others_out(make: Make) -> None:
    limiter = make("5/10s", max_keys=1)
    for n in range(4):
        limiter.take(f"slot {n}")
    assert limiter.contact("one of many").allowed
    assert limiter.contact("another").allowed


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 11), st.integers(1, 2), st.sampled_from([0.0, 0.0, 0.4, 1.0, 2.7])),
        max_size=150,
    )
)
def test_in_a_table_far_too_small_no_key_passes_beyond_its_limit(
    implementation: ModuleType, steps: list[tuple[int, int, float]]
) -> None:
    clock = FakeClock()
    limiter = implementation.Limiter("3/second", max_keys=1, clock=clock)
    in_window: Counter[tuple[int, float]] = Counter()
    admitted: list[tuple[int, float, int]] = []
    for key, cost, step in steps:
        clock.advance(step)
        outcome = limiter.take(f"key {key}", cost)
        if outcome:
            in_window[key, round(clock() + outcome.reset_after, 3)] += cost
            admitted.append((key, clock(), cost))
    assert all(total <= 3 for total in in_window.values())
    # A fixed window lets twice the limit through around an edge, and no more in any window's length.
    for key, at, _ in admitted:
        nearby = [cost for other, then, cost in admitted if other == key and at <= then < at + 1.0]
        assert sum(nearby) <= 6


def test_statistics_count_what_happened(make: Make, clock: FakeClock) -> None:
    limiter = make("1/second", "5/minute", max_keys=10)
    limiter.try_acquire("a")
    limiter.try_acquire("a")
    limiter.take("b")
    limiter.take("b")
    limiter.peek("c")
    assert limiter.stats() == (2, 10, 0, 0, 2)
    assert limiter.stats()._fields == ("live", "capacity", "reused", "overflowed", "denied")
    clock.advance(60.0)
    assert limiter.stats().live == 0
