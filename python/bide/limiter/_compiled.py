"""The native limiter: the primitives of ``bide._native.Core``, and the waiting that both implementations
share.

Rules of this file: it makes the memory and the core, and stands in nobody's way: ``try_acquire`` and the
other primitives are inherited, with no Python frame around them. What they do is written in the twin,
``_pure``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, cast

from bide._native import Core, Outcome
from bide.limiter._limit import Anchor, Limit, file_store, remote_store, settings, store_to_share
from bide.limiter._waiting import Clock, Waiting
from bide.limiter.stores.memory import MemoryStore

if TYPE_CHECKING:
    from bide.limiter.stores.file import FileStore
    from bide.limiter.stores.redis import RedisStore

__all__ = ["IMPLEMENTATION", "Limiter", "Outcome"]

IMPLEMENTATION: Literal["native", "pure"] = "native"


class Limiter(Waiting[Outcome], Core):
    """Keeps every key inside its limits; see ``bide.limiter._pure.Limiter``, which has the same arguments."""

    __slots__ = ("__weakref__", "_clock", "_settings", "limits", "store")

    implementation = IMPLEMENTATION
    store: MemoryStore | FileStore | RedisStore

    def __new__(
        cls,
        *limits: str | Limit,
        store: str | MemoryStore | FileStore | RedisStore = "memory",
        max_keys: int = 65_536,
        name: str = "",
        anchor: Anchor = "first",
        learn: str | float | None = None,
        clock: Clock | None = None,
    ) -> Self:
        given = settings(limits, max_keys, name, anchor, learn, clock)
        remote = remote_store(store)
        if remote is not None:
            from bide.limiter.stores._remote import make

            return cast("Self", make(Limiter, given, remote, clock))
        file = file_store(store)
        shared: MemoryStore | FileStore = (
            file.open(given, clock)
            if file is not None
            else store_to_share(store, MemoryStore, given, clock) or MemoryStore(given, clock)
        )
        self = super().__new__(
            cls,
            shared.buffer,
            [(limit.limit, limit.window_ms) for limit in given.limits],
            max_keys=shared.max_keys,
            name=given.name,
            grid=given.grid,
            learn=given.learn,
            clock=clock,
            tenant=shared.tenant,
            clock_offset_ns=shared.clock_offset_ns,
            follow=shared.follow,
        )
        self.limits = given.limits
        self.store = shared
        self._settings = given
        self._clock = clock
        return self
