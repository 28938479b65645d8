"""What the server middlewares share: which limit and which key a request counts in, and whether it may pass.

Theory of operation: a Gate chooses a Rule (a limiter with its texts) by path or by the caller's function, and
a key by the caller's function or by the default one; one ``take`` then gives everything that the answer says,
so that all its fields speak of the same instant. Where gates are nested (a middleware, and a limit of one
route), each response speaks of the tightest of them, once: the outermost gate writes the list of fields that
it leaves in the request, and an inner one that is tighter replaces what is in that list.

Rules of this file: it knows neither ASGI nor WSGI; ``Text`` is ``bytes`` for the one and ``str`` for the
other. What the fields say is in ``_answer``. No key leaves it: not in a field, not in a log line, not in an
error.
"""

from __future__ import annotations

import functools
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypedDict, TypeVar, cast
from urllib.parse import quote

from bide._answer import FIELDS, Fields, Text, Wire, writer_of
from bide.limiter import Limit, Limiter

if TYPE_CHECKING:
    from bide.limiter import Outcome

__all__ = ["Gate", "Key", "Limits", "Options", "address_key", "bearer_key", "forwarded_address"]

STANDING: Final = "bide.rate_limit"
"""Where a request (an ASGI scope, a WSGI environ) carries the tightest outcome so far, with its fields."""

MOST_RULES: Final = 256
MOST_ADDRESSES: Final = 1_024
LOG_EVERY_SECONDS: Final = 10.0
SPACE: Final = 32

Key = str | bytes
Limits = str | Limit | Limiter | Collection[str | Limit]
Request = TypeVar("Request", bound=MutableMapping[str, Any])
Function = TypeVar("Function", bound=Callable[..., object])

logger = logging.getLogger("bide")


class Options(TypedDict, Generic[Request], total=False):
    """The options of every server middleware; see ``bide.asgi.RateLimit``."""

    paths: Mapping[str, Limits | None]
    key: Callable[[Request], Key] | None
    trusted_hops: int
    exempt: Collection[Key] | Callable[[Key], bool]
    fields: Collection[str]
    report_only: bool
    on_refused: Callable[[Request, Outcome], object] | None
    name: str
    store: str
    max_keys: int
    limiter: Limiter | None


# Keys ----------------------------------------------------------------------------------------------------


def bearer_key(authorization: bytes) -> bytes | None:
    """The key of a bearer token (RFC 6750 section 2.1), however its scheme is written; None without one.

    It cannot be mistaken for an address: a client must not be able to use up the limit of another one.
    """
    if authorization[:7] == b"Bearer " and authorization[-1] > SPACE < authorization[7]:
        return authorization  # As nearly everybody writes it: nothing has to be made of it.
    if authorization[:7].lower() == b"bearer ":
        token = authorization[7:].strip()
        if token:
            return b"Bearer " + token
    return None


@functools.lru_cache(MOST_ADDRESSES)
def address_key(address: str) -> str:
    """The key of a client's address: IPv6 by its /64 network, of which one client has all; IPv4 as it is,
    also when written as IPv6 (``::ffff:192.0.2.1``)."""
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    if packed[:12] == b"\0\0\0\0\0\0\0\0\0\0\xff\xff":
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


def forwarded_address(forwarded: str, trusted_hops: int, peer: str) -> str:
    """The address that the outermost trusted proxy saw: what stands so many places from the right.

    What stands further left was sent by the client and may be invented. If there are fewer entries, or the
    one is no address, it is the peer's.
    """
    entries = forwarded.rsplit(",", trusted_hops)
    entry = entries[-trusted_hops].strip() if len(entries) >= trusted_hops else ""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        return str(ip_address(entry))
    except ValueError:
        return peer


def is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def exempt_keys(exempt: Collection[Key], by_default_key: bool) -> frozenset[Key]:
    """The keys as a request gives them, ``str`` and ``bytes``; for the default key also bare tokens."""
    keys: set[Key] = set()
    for entry in exempt:
        if not isinstance(entry, str | bytes):
            raise TypeError(f"exempt: a key must be str or bytes, not {type(entry).__name__}")
        octets = entry if isinstance(entry, bytes) else entry.encode()
        keys.update((octets, octets.decode("utf-8", "surrogateescape")))
        if by_default_key:
            text = octets.decode("latin-1")
            try:
                keys.add(address_key(str(ip_address(text.removesuffix("/64")))))
            except ValueError:
                if is_network(text):
                    raise ValueError(
                        f"exempt: {text!r} is a network; give addresses, or a function of a key"
                    ) from None
                keys.add(bearer_key(octets) or b"Bearer " + octets)
    return frozenset(keys)


# Rules ---------------------------------------------------------------------------------------------------


class Rule(NamedTuple, Generic[Text]):
    """A limiter and what is said of it: one bucket."""

    name: str
    take: Callable[[Key], Outcome]
    take_async: Callable[[Key], Awaitable[Outcome]] | None
    """Where the counters are elsewhere: a call is on its way for a while, and holds up no event loop."""
    fields: Callable[[Outcome, bool], Fields[Text]]
    """The fields of an answer, given the outcome and whether it is refused."""


Entry = tuple[bool, Fields[Text], "Outcome"]
"""Whether a request is refused, the fields of its response, and the outcome that they tell."""


# The caller's options -------------------------------------------------------------------------------------


def checked_name(name: str) -> str:
    """A bucket's name, which stands in header fields."""
    if not isinstance(name, str):
        raise TypeError(f"name must be text, not {type(name).__name__}")
    if not (1 <= len(name) <= 200 and name.isascii() and name.isprintable() and name == name.strip()):
        raise ValueError(f"name must be 1 to 200 printable ASCII characters, not {name!r}")
    return name


def checked_fields(fields: Collection[str]) -> frozenset[str]:
    """The fields to send, in their usual spelling."""
    if isinstance(fields, str) or not isinstance(fields, Collection):
        raise TypeError(
            f"fields must be a collection of names, such as bide.asgi.X_RATELIMIT, not {fields!r}"
        )
    usual = {field.lower(): field for field in FIELDS}
    for field in fields:
        if not isinstance(field, str) or field.lower() not in usual:
            raise ValueError(f"fields: {field!r} is not among {', '.join(FIELDS)}")
    return frozenset(usual[field.lower()] for field in fields)


def checked_callable(option: str, value: Function | None, takes: str) -> Function | None:
    if value is not None and not callable(value):
        raise TypeError(f"{option} must be a function of {takes}, not {type(value).__name__}")
    return value


def checked_bool(option: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{option} must be True or False, not {value!r}")
    return value


# The gate ------------------------------------------------------------------------------------------------


class Gate(Generic[Request, Text]):
    """The options of one middleware or of one route's limit, read.

    Args:
        limits: as the caller gave them: limits, or one function of the request that returns them.
        wire: how the server's interface writes fields.
        path_of: the path of a request, as the client wrote it.
        default_key: makes the default key function, given ``trusted_hops``.
        options: see ``bide.asgi.RateLimit``.

    Raises:
        TypeError, ValueError: an option is not of its kind; says what to write.
    """

    def __init__(
        self,
        limits: tuple[Limits | Callable[[Request], Limits | None], ...],
        wire: Wire[Text],
        path_of: Callable[[Request], str],
        default_key: Callable[[int], Callable[[Request], Key]],
        options: Options[Request],
    ) -> None:
        unknown = sorted(options.keys() - Options.__annotations__.keys())
        if unknown:
            known = ", ".join(sorted(Options.__annotations__))
            raise TypeError(f"{unknown[0]!r} is no option of a rate limit; these are: {known}")
        self._wire = wire
        self._path_of = path_of
        self._store = options.get("store", "memory")
        self._max_keys = options.get("max_keys", 65_536)
        self._name = checked_name(options.get("name", "default"))
        self._fields = checked_fields(options.get("fields", FIELDS))
        self._report_only = checked_bool("report_only", options.get("report_only", False))
        self._on_refused = checked_callable(
            "on_refused", options.get("on_refused"), "a request and an outcome"
        )
        self._refused = 0
        self._log_at = float("-inf")

        key = checked_callable("key", options.get("key"), "a request")
        hops = options.get("trusted_hops", 0)
        if isinstance(hops, bool) or not isinstance(hops, int):
            raise TypeError(f"trusted_hops must be a number of proxies (int), not {type(hops).__name__}")
        if not 0 <= hops <= 32:
            raise ValueError(f"trusted_hops must be from 0 (no proxy is believed) to 32, not {hops}")
        if key is not None and hops:
            raise ValueError(
                "trusted_hops is for the default key: in your own, use client_address(..., hops)"
            )
        self._key = default_key(hops) if key is None else key
        exempt = options.get("exempt", ())
        if isinstance(exempt, str | bytes):
            raise TypeError(
                "exempt must be a collection of keys, such as {'192.0.2.1'}, or a function of a key"
            )
        self._is_exempt: Callable[[Key], bool] | None = None
        if callable(exempt):
            self._is_exempt = exempt
        elif exempt:
            self._is_exempt = exempt_keys(exempt, key is None).__contains__

        self._choose: Callable[[Request], Limits | None] | None = None
        self._chosen: dict[object, Rule[Text]] = {}
        self.takes_trips = False
        """A rule's counters may be elsewhere."""
        self._default: Rule[Text] | None = None
        self._set_limits(limits, options.get("limiter"), options.get("paths"))

    def _set_limits(
        self,
        limits: tuple[Limits | Callable[[Request], Limits | None], ...],
        limiter: Limiter | None,
        paths: Mapping[str, Limits | None] | None,
    ) -> None:
        self._paths: dict[str, Rule[Text] | None] = {}
        self._prefixes: list[tuple[str, Rule[Text] | None]] = []
        if limiter is not None:
            if not isinstance(limiter, Limiter):
                raise TypeError(f"limiter must be a bide.Limiter, not {type(limiter).__name__}")
            if limits:
                raise ValueError("limiter: it has limits of its own; pass the one or the others")
            self._default = self._rule(limiter, self._name)
        elif len(limits) == 1 and callable(limits[0]):
            self._choose, self.takes_trips = limits[0], True
        elif limits:
            given = cast("tuple[Limits, ...]", limits)
            several = cast("tuple[str | Limit, ...]", limits)
            self._default = self._rule(given[0] if len(given) == 1 else several, self._name)
        elif not paths:
            raise TypeError('a limit is missing, such as "100/second"')
        if paths is None:
            paths = {}
        if not isinstance(paths, Mapping):
            raise TypeError(
                f'paths must be a mapping, such as {{"/login": "5/minute"}}, not {type(paths).__name__}'
            )
        for path, own in paths.items():
            if not isinstance(path, str) or not path.startswith("/") or "*" in path.removesuffix("/*"):
                raise ValueError(f'paths: {path!r} is no path: write "/login", or "/api/*" for all below it')
            rule = None if own is None else self._rule(own, checked_name(quote(path, "/*:@!$&'()+,;=~-._")))
            stem = path.removesuffix("/*").rstrip("/")
            if path.endswith("/*"):
                self._prefixes.append((stem + "/", rule))
                self._paths.setdefault(stem, rule)
            else:
                self._paths[stem] = rule
        self._prefixes.sort(key=lambda entry: -len(entry[0]))
        self._only = self._default if not paths and self._choose is None else None

    def _rule(self, limits: Limits, name: str, by_limits: bool = False) -> Rule[Text]:
        """``by_limits``: the name tells the limits too, because it tells counters apart in a shared store."""
        if not isinstance(limits, Limiter):
            each = (limits,) if isinstance(limits, str | Limit) else limits
            if not isinstance(each, Iterable):
                raise TypeError(f'a limit must be text, such as "100/second", or a bide.Limit, not {each!r}')
            read = [limit if isinstance(limit, Limit) else Limit.parse(limit) for limit in each]
            if by_limits:
                name = "-".join((name, *(f"{limit.limit}/{limit.window:g}s" for limit in read)))
            limits = Limiter(*read, store=self._store, max_keys=self._max_keys, name=name)
        if limits._settings.learn:
            raise ValueError("limiter: a learning one has no number of its own to hold clients to")
        take_async = None
        if getattr(limits.store, "is_remote", False):
            take_async, self.takes_trips = limits.take_async, True
        return Rule(name, limits.take, take_async, writer_of(limits, name, self._fields, self._wire))

    def _rule_of(self, request: Request) -> Rule[Text] | None:
        if self._paths or self._prefixes:
            path = self._path_of(request).rstrip("/")
            if path in self._paths:
                return self._paths[path]
            for prefix, rule in self._prefixes:
                if path.startswith(prefix):
                    return rule
        if self._choose is None:
            return self._default
        limits = self._choose(request)
        if limits is None:
            return None
        value = limits if isinstance(limits, str | Limit | Limiter) else tuple(limits)
        found = self._chosen.get(value)
        if found is None:
            if len(self._chosen) >= MOST_RULES:
                raise ValueError(f"limits: the function returned more than {MOST_RULES} different ones")
            found = self._chosen.setdefault(value, self._rule(value, self._name, by_limits=True))
        return found

    def enter(self, request: Request) -> Entry[Text] | tuple[bool, None, Outcome] | None:
        """Counts a request.

        Returns:
            None when it is exempt. Else whether it is refused, the fields to add to its response, which are
            None when a gate further out adds them or this one sends none, and the outcome.
        """
        rule = self._only or self._rule_of(request)
        if rule is None:
            return None
        key = self._key(request)
        if self._is_exempt is not None and self._is_exempt(key):
            return None
        return self._entry(request, rule, rule.take(key))

    async def enter_async(self, request: Request) -> Entry[Text] | tuple[bool, None, Outcome] | None:
        """As ``enter``, for an event loop: needed where ``takes_trips``. The lines are written twice, because a
        function for them would be one more call of every request."""
        rule = self._only or self._rule_of(request)
        if rule is None:
            return None
        key = self._key(request)
        if self._is_exempt is not None and self._is_exempt(key):
            return None
        outcome = rule.take(key) if rule.take_async is None else await rule.take_async(key)
        return self._entry(request, rule, outcome)

    def _entry(
        self, request: Request, rule: Rule[Text], outcome: Outcome
    ) -> Entry[Text] | tuple[bool, None, Outcome]:
        refused = False
        if not outcome.allowed:
            refused = not self._report_only
            self._tell(request, rule, outcome)
        if not self._fields:
            return refused, None, outcome
        fields = rule.fields(outcome, refused)
        entry = (refused, fields, outcome)
        outer: Entry[Text] = request.setdefault(STANDING, entry)
        if outer is entry:
            return entry
        if refused or outcome.remaining < outer[2].remaining:
            outer[1][:] = fields
            request[STANDING] = (outer[0], outer[1], outcome)
        return refused, None, outcome

    def _tell(self, request: Request, rule: Rule[Text], outcome: Outcome) -> None:
        """Reports a refusal; the log gets a line at most every ten seconds, however many there are."""
        self._refused += 1
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_EVERY_SECONDS
            count, self._refused = self._refused, 0
            verb = "would have refused" if self._report_only else "refused"
            logger.warning("rate limit %r %s requests: %d since this was last said", rule.name, verb, count)
        if self._on_refused is not None:
            self._on_refused(request, outcome)
