"""Waiting for room: how long, what is refused at once; a cancelled or hopeless wait takes nothing."""

import asyncio
import math
import threading
import time
from collections.abc import Callable

import pytest

import bide
from bide.limiter import Limiter, Outcome
from bide.testing import FakeClock

Make = Callable[..., Limiter]


def acquire(limiter: Limiter, *args: object, **options: object) -> Outcome:
    return limiter.acquire(*args, **options)  # type: ignore[arg-type]  # passed on as they are


def acquire_async(limiter: Limiter, *args: object, **options: object) -> Outcome:
    return asyncio.run(limiter.acquire_async(*args, **options))  # type: ignore[arg-type]  # passed on as they are


BOTH = pytest.mark.parametrize("acquire", [acquire, acquire_async])
Acquire = Callable[..., Outcome]


@BOTH
def test_there_is_room_at_once(make: Make, clock: FakeClock, acquire: Acquire) -> None:
    assert acquire(make("1/minute"), "a").allowed
    assert clock.slept == []


@BOTH
def test_a_wait_ends_with_the_window(make: Make, clock: FakeClock, acquire: Acquire) -> None:
    limiter = make("1/minute")
    limiter.take("a")
    clock.advance(45.0)
    outcome = acquire(limiter, "a")
    assert outcome.allowed
    assert outcome.reset_after == 60.0
    assert clock.slept == [15.0]


@BOTH
def test_a_wait_that_cannot_fit_is_refused_at_once_and_not_slept_out(
    make: Make, clock: FakeClock, acquire: Acquire
) -> None:
    limiter = make("1/minute")
    limiter.take("a")
    outcome = acquire(limiter, "a", timeout=59.999)
    assert not outcome
    assert outcome.retry_after == 60.0
    assert clock.slept == []
    assert acquire(limiter, "a", timeout=60.0).allowed


@BOTH
@pytest.mark.parametrize("timeout", [None, 5.0, 0])
def test_a_cost_that_can_never_pass_is_refused_at_once(
    make: Make, clock: FakeClock, acquire: Acquire, timeout: float | None
) -> None:
    outcome = acquire(make("10/minute"), "a", 11, timeout)
    assert not outcome
    assert outcome.retry_after == math.inf
    assert clock.slept == []


@BOTH
def test_a_timeout_of_nothing_is_one_try(make: Make, clock: FakeClock, acquire: Acquire) -> None:
    limiter = make("1/minute")
    assert acquire(limiter, "a", timeout=0).allowed
    assert not acquire(limiter, "a", timeout=0)
    assert clock.slept == []


@BOTH
def test_the_longest_of_several_limits_is_waited_for(make: Make, clock: FakeClock, acquire: Acquire) -> None:
    limiter = make("5/second", "5/minute")
    limiter.take("a", cost=5)
    assert acquire(limiter, "a").allowed
    assert clock.slept == [60.0]


@BOTH
def test_a_wait_goes_on_when_somebody_else_was_faster(make: Make, clock: FakeClock, acquire: Acquire) -> None:
    limiter = make("1/minute")
    limiter.take("a")

    class Overtaken(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if len(self.slept) < 3:
                assert other.try_acquire("a")

    overtaken = Overtaken()
    waiting = make("1/minute", clock=overtaken)
    other = make("1/minute", clock=overtaken, store=waiting.store)
    waiting.take("a")
    assert acquire(waiting, "a").allowed
    assert overtaken.slept == [60.0, 60.0, 60.0]


@BOTH
def test_while_a_first_reply_is_out_one_looks_again_soon(
    make: Make, clock: FakeClock, acquire: Acquire
) -> None:
    limiter = make("10/minute")
    limiter.contact("a")
    outcome = acquire(limiter, "a", timeout=0.1)
    assert not outcome
    assert outcome.probing
    assert sum(clock.slept) == pytest.approx(0.1)
    assert max(clock.slept) <= 0.05


@BOTH
@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)],
)
def test_a_timeout_that_makes_no_sense_says_what_to_pass(
    make: Make, acquire: Acquire, timeout: object, error: type[Exception]
) -> None:
    limiter = make("10/minute")
    with pytest.raises(error, match="timeout must be seconds"):
        acquire(limiter, "a", timeout=timeout)
    assert limiter.peek("a").remaining == 10
    with pytest.raises(error, match="timeout must be seconds"):
        limiter.slot("a", timeout=timeout)  # type: ignore[arg-type]  # the mistakes under test


def test_cancelling_a_wait_takes_nothing(make: Make) -> None:
    limiter = make("1/200ms", clock=None)

    async def cancel() -> None:
        assert limiter.try_acquire("a")
        tasks = [asyncio.create_task(limiter.acquire_async("a")) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    asyncio.run(cancel())
    outcome = limiter.acquire("a", timeout=2.0)
    assert outcome.allowed
    assert outcome.remaining == 0


def test_a_time_limit_of_asyncios_own_works_too(make: Make) -> None:
    limiter = make("1/minute", clock=None)

    async def wait() -> None:
        async with asyncio.timeout(0.01):
            await limiter.acquire_async("a")

    limiter.take("a")
    with pytest.raises(TimeoutError):
        asyncio.run(wait())


def test_on_the_real_clock_a_wait_is_as_long_as_it_said(make: Make) -> None:
    limiter = make("1/50ms", clock=None)
    began = time.monotonic()
    assert all(limiter.acquire("a") for _ in range(5))
    elapsed = time.monotonic() - began
    assert elapsed >= 0.199, "four windows must have ended, the first of which began within a millisecond"


def test_many_waiters_get_no_more_than_the_limit_of_each_window(make: Make) -> None:
    limiter = make("3/50ms", clock=None)
    passed: list[float] = []
    threads = [
        threading.Thread(target=lambda: passed.append(limiter.acquire("a").reset_after)) for _ in range(12)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 12
    assert time.monotonic() - began >= 0.150, "twelve, three at a time, need four windows"


def test_many_tasks_get_no_more_than_the_limit_of_each_window(make: Make) -> None:
    limiter = make("3/50ms", clock=None)

    async def all_of_them() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(limiter.acquire_async("a") for _ in range(12)))
        return loop.time() - began

    # Three whole windows, the first of which began in the millisecond of its first call.
    assert asyncio.run(all_of_them()) > 0.149


def test_a_slot_waits_on_entry_and_gives_nothing_back(make: Make, clock: FakeClock) -> None:
    limiter = make("1/minute")
    slot = limiter.slot("a")
    with slot as outcome:
        assert outcome.allowed
    with pytest.raises(ZeroDivisionError), slot:
        _ = 1 / 0
    assert clock.slept == [60.0]
    assert limiter.peek("a").remaining == 0


def test_a_slot_serves_async_code_too(make: Make, clock: FakeClock) -> None:
    limiter = make("1/minute")

    async def twice() -> None:
        for _ in range(2):
            async with limiter.slot("a") as outcome:
                assert outcome.allowed

    asyncio.run(twice())
    assert clock.slept == [60.0]


def test_a_slot_that_cannot_be_entered_in_time_raises_with_the_outcome(make: Make) -> None:
    limiter = make("1/minute")
    limiter.take("secret key")
    with pytest.raises(TimeoutError) as refused, limiter.slot("secret key", timeout=2.0):
        pytest.fail("entered")
    assert isinstance(refused.value, bide.Refused)
    assert isinstance(refused.value, bide.BideError)
    assert refused.value.outcome.retry_after == 60.0
    assert str(refused.value) == "no room within 2.0 s: retry in 60.0 s"

    async def enter() -> None:
        async with limiter.slot("secret key", timeout=2.0):
            pytest.fail("entered")

    with pytest.raises(bide.Refused, match="no room within"):
        asyncio.run(enter())


def test_a_slot_whose_cost_can_never_pass_says_so(make: Make) -> None:
    with (
        pytest.raises(bide.Refused, match="a cost of 11 can never pass a limit of 10"),
        make("10/minute").slot("a", 11),
    ):
        pytest.fail("entered")


def test_a_slot_decorates_a_function(make: Make, clock: FakeClock) -> None:
    limiter = make("1/minute")

    @limiter.slot("a")
    def add(one: int, other: int = 1) -> int:
        """Adds."""
        return one + other

    assert [add(1), add(1, other=2), add(one=3)] == [2, 3, 4]
    assert clock.slept == [60.0, 60.0]
    assert (add.__name__, add.__doc__) == ("add", "Adds.")


def test_a_slot_decorates_an_async_function(make: Make, clock: FakeClock) -> None:
    limiter = make("1/minute")

    @limiter.slot("a")
    async def double(number: int) -> int:
        return number * 2

    async def both() -> list[int]:
        return [await double(1), await double(2)]

    assert asyncio.run(both()) == [2, 4]
    assert clock.slept == [60.0]


def test_a_decorator_may_take_the_key_from_the_arguments(make: Make, clock: FakeClock) -> None:
    limiter = make("1/minute")

    @limiter.slot(lambda user, **_: user, timeout=0)
    def visit(user: str, page: int = 1) -> str:
        return f"{user} {page}"

    assert [visit("ann"), visit("bob", page=2)] == ["ann 1", "bob 2"]
    with pytest.raises(bide.Refused):
        visit("ann")
    with pytest.raises(TypeError, match="pass the key"), limiter.slot(lambda: "a"):
        pytest.fail("entered")
