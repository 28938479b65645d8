"""What a limiter is made of and what it tells: ``Limit``, ``Stats``, and the reading of their text.

Rules of this file: pure values. Every mistake of a caller is found here, once for both implementations, and
the message says what to write instead. Windows are whole milliseconds, because the window word counts in
them.
"""

from __future__ import annotations

import math
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from bide.errors import StoreError
from bide.limiter._window import FULL, MAX_WINDOW_MS

if TYPE_CHECKING:
    from bide.limiter.stores.file import FileStore

__all__ = [
    "MAX_LIMIT",
    "Anchor",
    "Limit",
    "LocalStore",
    "Settings",
    "Stats",
    "StoreStats",
    "file_store",
    "remote_store",
    "settings",
    "store_to_share",
]

MAX_LIMIT = FULL
"""The largest limit."""

MAX_LIMITS = 8
"""The most limits that one limiter holds at once."""

MAX_KEYS = 1 << 32

Anchor = Literal["first", "grid"]

UNITS_MS = {
    "ms": 1, "millisecond": 1, "milliseconds": 1,
    "s": 1_000, "sec": 1_000, "second": 1_000, "seconds": 1_000,
    "m": 60_000, "min": 60_000, "minute": 60_000, "minutes": 60_000,
    "h": 3_600_000, "hour": 3_600_000, "hours": 3_600_000,
    "d": 86_400_000, "day": 86_400_000, "days": 86_400_000,
    "w": 604_800_000, "week": 604_800_000, "weeks": 604_800_000,
}  # fmt: skip

# window = [ number ] unit ; limit = whole number ("/" | "per") window. ASCII digits alone: \d knows more.
WINDOW = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]{1,6})?)?\s*([a-z]{1,12})\s*", re.IGNORECASE)
LIMIT = re.compile(r"\s*([0-9][0-9_]{0,14})\s*(?:/|\s(?i:per)\s)(.*)", re.DOTALL)

HOW = 'write it as "1200/minute", "10 per second" or "100/15s"'
HOW_WINDOW = 'write it as "minute", "1 hour" or "15s"'


def window_ms(window: str | float, *, how: str = HOW_WINDOW, shown: str | None = None) -> int:
    """Whole milliseconds of a window given as text or as seconds."""
    shown = repr(window) if shown is None else shown
    if isinstance(window, str):
        match = WINDOW.fullmatch(window)
        if match is None or match[2].lower() not in UNITS_MS:
            units = "ms, s, min, hour, day or week"
            raise ValueError(f"{shown} does not name a window: {how} (units: {units})")
        milliseconds = float(match[1] or 1) * UNITS_MS[match[2].lower()]
    elif isinstance(window, bool) or not isinstance(window, int | float):
        raise TypeError(f"a window must be a number of seconds or text, not {type(window).__name__}: {how}")
    else:
        milliseconds = window * 1_000
    if not 1 <= milliseconds <= MAX_WINDOW_MS:
        raise ValueError(f"{shown}: a window is from 1 ms to 366 days")
    whole = round(milliseconds)
    if not math.isclose(milliseconds, whole, rel_tol=1e-12):
        raise ValueError(
            f"{shown}: a window is a whole number of milliseconds, such as {whole / 1_000} seconds"
        )
    return whole


class Limit:
    """So many in so long: at most ``limit`` in each window of ``window`` seconds.

    Args:
        limit: how many, a whole number from 1 to 67,000,000. Above that, count in thousands.
        window: how long, in seconds, from 0.001 to 366 days, whole milliseconds.

    Raises:
        TypeError, ValueError: an argument of another kind or outside its range; says what to write.

    >>> Limit(1200, 60.0) == Limit.parse("1200/minute")
    True
    >>> Limit.parse("100/15s")
    Limit(100, 15.0)
    """

    __slots__ = ("limit", "window", "window_ms")

    limit: int
    window: float
    window_ms: int

    def __init__(self, limit: int, window: float) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"a limit must be a whole number (int), not {type(limit).__name__}")
        if isinstance(window, str):
            raise TypeError('window must be seconds, such as 60.0; Limit.parse("1200/minute") reads text')
        if limit < 1:
            raise ValueError(
                f"a limit must be at least 1, not {limit}: to let nobody pass, do not ask a limiter"
            )
        if limit > MAX_LIMIT:
            raise ValueError(
                f"a limit must be at most {MAX_LIMIT:,}, not {limit:,}: count in thousands"
                " (a thousandth of the limit, and of every cost)"
            )
        milliseconds = window_ms(window, how="pass seconds, such as 60.0")
        object.__setattr__(self, "limit", int(limit))
        object.__setattr__(self, "window", milliseconds / 1_000)
        object.__setattr__(self, "window_ms", milliseconds)

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Reads "1200/minute", "10 per second", "5000/hour", "100/15s", "2/1.5 min".

        Args:
            text: a whole number, "/" or "per", and a window: a unit (ms, s, min, hour, day, week, or their
                long and plural forms) with or without a number before it.

        Returns:
            The limit.

        Raises:
            TypeError, ValueError: it is no such text; the message shows it and what to write instead.

        >>> Limit.parse("5000/hour").window
        3600.0
        """
        if not isinstance(text, str):
            raise TypeError(f"a limit must be text or a bide.Limit, not {type(text).__name__}: {HOW}")
        shown = repr(text if len(text) <= 60 else text[:57] + "...")
        match = LIMIT.fullmatch(text)
        if match is None:
            raise ValueError(f"{shown} is not a limit: {HOW}")
        return cls(int(match[1]), window_ms(match[2], how=HOW, shown=shown) / 1_000)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Limit does not change: make another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Limit does not change: make another one")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Limit):
            return NotImplemented
        return (self.limit, self.window_ms) == (other.limit, other.window_ms)

    def __hash__(self) -> int:
        return hash((self.limit, self.window_ms))

    def __reduce__(self) -> tuple[type[Limit], tuple[int, float]]:
        return Limit, (self.limit, self.window)

    def __repr__(self) -> str:
        return f"Limit({self.limit}, {self.window})"


class Stats(NamedTuple):
    """A limiter's counters at one instant. Nothing here tells anything of a key.

    Attributes:
        live: keys whose window runs now.
        capacity: keys that surely find room at once (``max_keys``).
        reused: slots that were given to a new key because their window had ended.
        overflowed: calls that found no room and shared an overflow counter; not 0: raise ``max_keys``.
        denied: calls refused.
    """

    live: int
    capacity: int
    reused: int
    overflowed: int
    denied: int


class StoreStats(NamedTuple):
    """What a store tells of its trips to a server, at one instant, of this process alone. A store in memory makes none.

    Attributes:
        trips: round trips begun.
        failures: those that brought no answer within the deadline, or an error.
        outages: how often the store was found to be down.
        is_down: whether it counts as down now.
        unanswered: calls that were answered by ``on_error`` alone.
        leased: permits taken as leases.
    """

    trips: int = 0
    failures: int = 0
    outages: int = 0
    is_down: bool = False
    unanswered: int = 0
    leased: int = 0


class LocalStore:
    """What the stores of this machine have in common: no wire leads to them."""

    __slots__ = ()

    def stats(self) -> StoreStats:
        """The counters of a remote store, all of them zero: whoever reads them need not know where the counts are."""
        return StoreStats()


class Settings(NamedTuple):
    """The arguments of a limiter, read."""

    limits: tuple[Limit, ...]
    max_keys: int
    name: bytes
    grid: bool
    learn: bool

    @property
    def text(self) -> str:
        """The arguments as the repr of a limiter shows them."""
        if self.learn:
            return f"learn={self.limits[0].window}"
        return ", ".join(map(repr, self.limits))


def settings(
    limits: tuple[str | Limit, ...],
    max_keys: int,
    name: str,
    anchor: Anchor,
    learn: str | float | None,
    clock: object,
) -> Settings:
    """Checks the arguments that every limiter takes; raises what says how to write them."""
    if learn is not None:
        if limits:
            raise ValueError("learn: a learning limiter has no limits of its own; pass the one or the other")
        limits = (Limit(MAX_LIMIT, window_ms(learn) / 1_000),)
    elif not limits:
        raise TypeError('a limiter needs a limit, such as Limiter("1200/minute"), or learn="1 hour"')
    if len(limits) > MAX_LIMITS:
        raise ValueError(f"a limiter holds at most {MAX_LIMITS} limits, not {len(limits)}")
    read = tuple(limit if isinstance(limit, Limit) else Limit.parse(limit) for limit in limits)
    by_window: dict[int, Limit] = {}
    for limit in read:
        other = by_window.setdefault(limit.window_ms, limit)
        if other is not limit:
            raise ValueError(f"{other} and {limit} have the same window: keep the smaller one")
    if isinstance(max_keys, bool) or not isinstance(max_keys, int):
        raise TypeError(f"max_keys must be a whole number, not {type(max_keys).__name__}")
    if not 1 <= max_keys <= MAX_KEYS:
        raise ValueError(f"max_keys must be from 1 to {MAX_KEYS:,}, not {max_keys:,}")
    if not isinstance(name, str):
        raise TypeError(f"name must be text, not {type(name).__name__}")
    if anchor not in ("first", "grid"):
        raise ValueError(f'anchor must be "first" (a key\'s first use) or "grid" (Unix time), not {anchor!r}')
    if clock is not None and not callable(clock):
        raise TypeError(
            f"clock must be a function that returns monotonic seconds, not {type(clock).__name__}"
        )
    return Settings(
        read, max_keys, name.encode("utf-8", "surrogatepass"), anchor == "grid", learn is not None
    )


REMOTE_STORES = {
    "redis": "redis", "rediss": "redis", "redis+unix": "redis",
    "valkey": "valkey", "valkeys": "valkey", "valkey+unix": "valkey",
}  # fmt: skip
"""The scheme of a URL -> the module of ``stores`` that reads it."""


def remote_store(store: object) -> Any:
    """The store of another host that a URL or an object names; None: it is none."""
    if not isinstance(store, str):
        return store if getattr(store, "is_remote", False) else None
    scheme, colon, _ = store.partition("://")
    module = REMOTE_STORES.get(scheme) if colon else None
    if module is None:
        return None
    found = import_module(f"bide.limiter.stores.{module}")
    return getattr(found, f"{module.title()}Store").from_url(store)


def file_store(store: object) -> FileStore | None:
    """The file that a URL or an object names; None: it is none."""
    if store == "memory":
        return None
    from bide.limiter.stores.file import FileStore  # here, not above: most never need it

    if isinstance(store, str) and store.startswith("file:"):
        return FileStore.from_url(store)
    return store if isinstance(store, FileStore) else None


class Shareable(Protocol):
    """What is asked of a store before another limiter may use it too."""

    clock: Any
    windows_ms: tuple[int, ...]


AnyStore = TypeVar("AnyStore", bound=Shareable)


def store_to_share(store: object, kind: type[AnyStore], given: Settings, clock: object) -> AnyStore | None:
    """The store of another limiter, when it was given and fits; None for "memory"; else raises."""
    if store == "memory":
        return None
    if not isinstance(store, kind):
        if file_store(store) is not None:
            raise StoreError(
                "the pure-Python limiter has no file store: install bide's native extension and leave BIDE_PURE unset,"
                ' or use a store of its own ("memory") in each process'
            )
        # A URL may hold a password.
        shown = (
            f"{store.partition('://')[0]}://..." if isinstance(store, str) and "://" in store else repr(store)
        )
        raise ValueError(
            'store must be "memory", "file:///run/app/limits.bide", "redis://...", "valkey://...", or the store of'
            " another limiter,"
            f" not {shown}"
        )
    if store.windows_ms != tuple(limit.window_ms for limit in given.limits):
        raise ValueError("store: the limiter that it was made for has other windows")
    if store.clock is not clock:
        raise ValueError("store: the limiter that it was made for has another clock; pass that one")
    return store
