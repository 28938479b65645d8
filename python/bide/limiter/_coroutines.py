"""A limiter's calls as coroutines, for a store that takes a trip: they never block the event loop.

Rules of this file: here they are the plain calls, which wait for nothing where the counters lie in memory; a store on
another host puts its own in their place (``stores/_remote.py``). So one program does for every store.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from bide.limiter._arguments import Key

__all__ = ["Coroutines", "Outcome", "OutcomeLike"]


class OutcomeLike(Protocol):
    """What is asked of an implementation's outcome by what is built on it."""

    @property
    def allowed(self) -> bool: ...
    @property
    def limit(self) -> int: ...
    @property
    def retry_after(self) -> float: ...
    @property
    def probing(self) -> bool: ...


Outcome = TypeVar("Outcome", bound=OutcomeLike)


class Coroutines(Generic[Outcome]):
    """The asynchronous half of a limiter: each is the call of its name, with its arguments, result and errors."""

    __slots__ = ()

    if TYPE_CHECKING:

        def try_acquire(self, key: Key, cost: int = 1) -> bool: ...
        def take(self, key: Key, cost: int = 1) -> Outcome: ...
        def contact(self, key: Key, cost: int = 1, probe_timeout: float = 30.0) -> Outcome: ...
        def peek(self, key: Key) -> Outcome: ...
        def try_acquire_many(self, keys: Iterable[Key], cost: int = 1) -> list[bool]: ...
        def settle(self, key: Key, outcome: Outcome, actual: int) -> bool: ...
        def sync(
            self, key: Key, quota: object, now: float | None = None, outcome: Outcome | None = None
        ) -> None: ...
        def penalize(self, key: Key, seconds: float) -> None: ...
        def reset(self, key: Key) -> None: ...

    async def try_acquire_async(self, key: Key, cost: int = 1) -> bool:
        """``try_acquire``, without blocking the running event loop.

        >>> import asyncio, bide
        >>> asyncio.run(bide.Limiter("1/minute").try_acquire_async("a key"))
        True
        """
        return self.try_acquire(key, cost)

    async def take_async(self, key: Key, cost: int = 1) -> Outcome:
        """``take``, without blocking the running event loop."""
        return self.take(key, cost)

    async def contact_async(self, key: Key, cost: int = 1, probe_timeout: float = 30.0) -> Outcome:
        """``contact``, without blocking the running event loop."""
        return self.contact(key, cost, probe_timeout)

    async def peek_async(self, key: Key) -> Outcome:
        """``peek``, without blocking the running event loop."""
        return self.peek(key)

    async def try_acquire_many_async(self, keys: Iterable[Key], cost: int = 1) -> list[bool]:
        """``try_acquire_many``, without blocking the running event loop."""
        return self.try_acquire_many(keys, cost)

    async def refund_async(self, key: Key, outcome: Outcome) -> bool:
        """``refund``, without blocking the running event loop."""
        return await self.settle_async(key, outcome, 0)

    async def settle_async(self, key: Key, outcome: Outcome, actual: int) -> bool:
        """``settle``, without blocking the running event loop."""
        return self.settle(key, outcome, actual)

    async def sync_async(
        self, key: Key, quota: object, now: float | None = None, outcome: Outcome | None = None
    ) -> None:
        """``sync``, without blocking the running event loop."""
        self.sync(key, quota, now, outcome)

    async def penalize_async(self, key: Key, seconds: float) -> None:
        """``penalize``, without blocking the running event loop."""
        self.penalize(key, seconds)

    async def reset_async(self, key: Key) -> None:
        """``reset``, without blocking the running event loop."""
        self.reset(key)
