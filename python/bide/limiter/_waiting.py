"""What is built on a limiter's primitives, once for both implementations: waiting, slots, the decorator.

Rules of this file: it knows ``take`` and a clock, nothing of words and tables. A wait ends at the window's
end that ``take`` told, then asks again: whoever is refused holds nothing, so a caller that gives up or is
cancelled has nothing to give back. A wait that cannot fit into its time-out is refused at once and not slept
out.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar, cast

from bide.errors import Refused
from bide.limiter._arguments import Key
from bide.limiter._coroutines import Coroutines, Outcome, OutcomeLike

if TYPE_CHECKING:
    from types import TracebackType

    from bide.limiter._limit import Limit, Settings

__all__ = ["Clock", "OutcomeLike", "Slot", "Waiting"]

POLL_SECONDS = 0.02
"""How often one looks again while a key's first reply is awaited: it may come at any moment."""


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Clock(Protocol):
    """Monotonic seconds when called. ``sleep``, ``sleep_async`` and ``time`` are used when it has them."""

    def __call__(self) -> float: ...


class Waiting(Coroutines[Outcome]):
    """The part of a limiter that waits."""

    __slots__ = ()

    _clock: Clock | None
    _settings: Settings
    implementation: str
    limits: tuple[Limit, ...]
    store: Any

    def __repr__(self) -> str:
        name = f", name={self._settings.name.decode(errors='surrogatepass')!r}" if self._settings.name else ""
        return f"<bide.Limiter {self._settings.text}{name}, store={str(self.store)!r}, {self.implementation}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a limiter cannot be copied or pickled: make it before the fork, or one in each process"
        )

    def acquire(self, key: Key, cost: int = 1, timeout: float | None = None) -> Outcome:
        """Waits until there is room, then takes it.

        Args:
            key: who is counted, ``str`` or ``bytes``.
            cost: how much this call counts, from 1 to 67,000,000.
            timeout: the longest wait in seconds, from 0; None waits as long as it takes.

        Returns:
            The outcome: allowed, or refused when the wait would not have fitted into ``timeout`` (it is then
            returned at once) or when ``cost`` is above a limit and can never pass. A refusal has taken
            nothing.

        Raises:
            TypeError, ValueError: an argument of another kind or outside its range.

        >>> import bide
        >>> limiter = bide.Limiter("1/minute")
        >>> limiter.acquire("a").allowed, limiter.acquire("a", timeout=0.5).allowed
        (True, False)
        """
        sleep: Callable[[float], object] = getattr(self._clock, "sleep", time.sleep)
        flow = self._flow(timeout)
        try:
            wait = next(flow)
            while True:
                if wait is not None:
                    sleep(wait)
                wait = flow.send(self.take(key, cost))
        except StopIteration as done:
            return cast("Outcome", done.value)

    async def acquire_async(self, key: Key, cost: int = 1, timeout: float | None = None) -> Outcome:
        """Waits as ``acquire`` does, in the running asyncio event loop.

        Cancelling it takes nothing: the room is taken only in the step that returns it. Arguments, result and
        errors are those of ``acquire``.

        >>> import asyncio, bide
        >>> asyncio.run(bide.Limiter("1/minute").acquire_async("a")).remaining
        0
        """
        sleep: Callable[[float], Awaitable[object]] | None = getattr(self._clock, "sleep_async", None)
        if sleep is None:
            import asyncio  # here, not above: whoever never waits in a loop does not pay for loading it

            sleep = asyncio.sleep
        flow = self._flow(timeout)
        try:
            wait = next(flow)
            while True:
                if wait is not None:
                    await sleep(wait)
                wait = flow.send(await self.take_async(key, cost))
        except StopIteration as done:
            return cast("Outcome", done.value)

    def slot(
        self, key: Key | Callable[..., Key], cost: int = 1, timeout: float | None = None
    ) -> Slot[Outcome]:
        """Room for one piece of work: a context manager for ``with`` and ``async with``, and a decorator.

        Args:
            key: who is counted; for the decorator it may be a function of the call's arguments.
            cost: how much each entry counts.
            timeout: the longest wait in seconds; None waits as long as it takes.

        Returns:
            The slot. Entering it waits and gives the outcome; each entry, and each call of a decorated
            function (plain or ``async``), takes anew. Leaving it gives nothing back: a limit counts what was
            begun.

        Raises:
            bide.Refused: on entry, when the wait would not fit into ``timeout``; also a ``TimeoutError``.
            TypeError, ValueError: an argument of another kind or outside its range.

        >>> import bide
        >>> limiter = bide.Limiter("2/minute")
        >>> with limiter.slot("a") as outcome:
        ...     outcome.remaining
        1
        >>> @limiter.slot(lambda name: name, timeout=0)
        ... def greet(name):
        ...     return f"hello {name}"
        >>> greet("b")
        'hello b'
        """
        return Slot(self, key, cost, timeout)

    def _flow(self, timeout: float | None) -> Generator[float | None, Outcome, Outcome]:
        """Yields the seconds to sleep before the next take, is sent what that came to; returns the last one."""
        if timeout is not None:
            check_timeout(timeout)
        outcome = yield None
        if outcome.allowed or timeout == 0:
            return outcome
        now: Callable[[], float] = time.monotonic if self._clock is None else self._clock
        deadline = None if timeout is None else now() + timeout
        while not outcome.allowed and outcome.retry_after != float("inf"):
            wait = outcome.retry_after
            if deadline is not None:
                left = deadline - now()
                if left <= 0.0 or (wait > left and not outcome.probing):
                    break
                wait = min(wait, left)
            outcome = yield min(wait, POLL_SECONDS) if outcome.probing else wait
        return outcome


class Slot(Generic[Outcome]):
    """Made by ``Limiter.slot``; see there."""

    __slots__ = ("_cost", "_key", "_limiter", "_timeout")

    def __init__(
        self, limiter: Waiting[Outcome], key: Key | Callable[..., Key], cost: int, timeout: float | None
    ) -> None:
        if timeout is not None:
            check_timeout(timeout)
        self._limiter = limiter
        self._key = key
        self._cost = cost
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<slot of {self._limiter!r}, cost={self._cost}, timeout={self._timeout}>"

    def _one_key(self) -> Key:
        if callable(self._key):
            raise TypeError(
                "a key that is a function is for the decorator: with limiter.slot(...), pass the key"
            )
        return self._key

    def _checked(self, outcome: Outcome) -> Outcome:
        if not outcome.allowed:
            raise Refused(outcome, self._cost, self._timeout)
        return outcome

    def __enter__(self) -> Outcome:
        return self._checked(self._limiter.acquire(self._one_key(), self._cost, self._timeout))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def __aenter__(self) -> Outcome:
        return self._checked(await self._limiter.acquire_async(self._one_key(), self._cost, self._timeout))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        import inspect  # here, not above: it is slow to load, and most never decorate

        key_of = self._key if callable(self._key) else None

        def slot(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Slot[Outcome]:
            if key_of is None:
                return self
            return Slot(self._limiter, key_of(*args, **kwargs), self._cost, self._timeout)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def paced_async(*args: Parameters.args, **kwargs: Parameters.kwargs) -> object:
                async with slot(args, kwargs):
                    return await function(*args, **kwargs)

            return cast("Callable[Parameters, Result]", paced_async)

        @functools.wraps(function)
        def paced(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            with slot(args, kwargs):
                return function(*args, **kwargs)

        return paced


def check_timeout(timeout: float) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be seconds or None, not {type(timeout).__name__}")
    if not timeout >= 0.0:
        raise ValueError(
            f"timeout must be seconds from 0, or None to wait as long as it takes, not {timeout}"
        )
