"""The Valkey store: the Redis store on the client library ``valkey``; see ``bide.limiter.stores.redis``."""

from __future__ import annotations

from typing import ClassVar

from bide.limiter.stores.redis import RedisStore

__all__ = ["ValkeyStore"]


class ValkeyStore(RedisStore):
    """Counters in a Valkey server: ``valkey://``, ``valkeys://`` (TLS), ``valkey+unix:///path``, or a client object of
    ``valkey``. Everything else is as in ``RedisStore``."""

    library_name: ClassVar[str] = "valkey"
    schemes: ClassVar[dict[str, str]] = {"valkey": "valkey", "valkeys": "valkeys", "valkey+unix": "unix"}
