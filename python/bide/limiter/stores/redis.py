"""The Redis store: one quota for many hosts, counted by the server and by its clock.

Theory of operation. A key's windows lie in one hash of the server, under a prefix and the key's keyed fingerprint, and
are changed by scripts: one round trip a call, all limits or nothing, expiry in the same step. Time is the server's
alone. What this process learns from a reply it remembers (``_remote``): that a key is refused until then, costs no
trip until then; and, with leases, permits that it may spend by itself.

Rules of this file: it reads the options, knows the secret, and stands between the limiter and the wire: the deadline,
the breaker, the error that says what to do. No key, no password, no secret is shown.
"""

from __future__ import annotations

import base64
import os
import sys
import time
import weakref
from collections.abc import Generator, Sequence
from hashlib import blake2b
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from bide.errors import StoreError
from bide.limiter._limit import StoreStats
from bide.limiter.stores._breaker import Breaker
from bide.limiter.stores._scripts import SECRET, Trip, packed
from bide.limiter.stores._wire import AsyncClientWire, AsyncWire, ClientWire, Library, ServerError, Wire

if TYPE_CHECKING:
    import asyncio

__all__ = ["OnError", "RedisStore", "StoreStats"]

OnError = Literal["raise", "deny", "allow", "local"]

SECRET_SECONDS = 60.0
"""How long a secret is trusted to be what all others use: a server that was emptied may hold another one by now."""

MOST_LEASED = 1_000_000


class RedisStore:
    """Counters in a Redis server, for limiters on any number of hosts: ``bide.Limiter(..., store=RedisStore(...))``.

    Args:
        where: ``redis://[user:password@]host[:port][/db]``, ``rediss://`` (TLS), ``redis+unix:///path``; or a client
            object: ``redis.Redis``, ``redis.RedisCluster``, a sentinel's ``master_for(...)``, or one of
            ``redis.asyncio``. The options below can be written behind the URL: ``?prefix=app:&lease=100``; what is not
            among them is an option of the client library (``ssl_ca_certs=...``).
        asynchronous: with a client object, another one for the asyncio calls.
        prefix: what every key in the server begins with.
        lease: the most permits that are taken ahead in one trip, to be spent without one; 0 counts every call in the
            server. A process leases what it used in the last tenth of a second, at most this many.
        on_error: what happens while the server does not answer: "raise" a ``StoreError``; "deny"; "allow"; "local",
            which counts in this process a stated ``share`` of each limit.
        share: for "local": the part of each limit that one process may use, above 0, at most 1.
        timeout: seconds that a call may take, connecting included. (A client object's own time-outs hold as well.)
        secret: what fingerprints are keyed with, at least 16 characters, the same on all hosts; None uses a random one
            that the first client leaves in the server.
        cluster: the URL leads to a node of a cluster.

    Raises:
        TypeError, ValueError: an option is of another kind or outside its range; says what to write.
        StoreError: the client library is not installed.

    Nothing is connected until the first call.
    """

    library_name: ClassVar[str] = "redis"
    schemes: ClassVar[dict[str, str]] = {"redis": "redis", "rediss": "rediss", "redis+unix": "unix"}
    is_remote: ClassVar[bool] = True

    def __init__(
        self,
        where: object,
        *,
        asynchronous: object = None,
        prefix: str = "bide:",
        lease: int = 0,
        on_error: OnError = "raise",
        share: float | None = None,
        timeout: float = 0.05,
        secret: str | bytes | None = None,
        cluster: bool = False,
    ) -> None:
        self._library = self._load()
        if not isinstance(prefix, str) or "{" in prefix or "}" in prefix or len(prefix) > 200:
            raise ValueError(
                "prefix must be text without { and }, which mark the part of a key that places it"
            )
        if isinstance(lease, bool) or not isinstance(lease, int):
            raise TypeError(f"lease must be a whole number of permits, not {type(lease).__name__}")
        if not 0 <= lease <= MOST_LEASED:
            raise ValueError(f"lease must be from 0 (none) to {MOST_LEASED:,} permits, not {lease:,}")
        if on_error not in ("raise", "deny", "allow", "local"):
            raise ValueError(f'on_error must be "raise", "deny", "allow" or "local", not {on_error!r}')
        if on_error == "local" and share is None:
            raise ValueError('on_error="local" needs a share of each limit: share=0.25 for four processes')
        if share is not None and on_error != "local":
            raise ValueError('share is for on_error="local"')
        if share is not None and (isinstance(share, bool) or not isinstance(share, int | float)):
            raise TypeError(f"share must be a number, not {type(share).__name__}")
        if share is not None and not 0.0 < share <= 1.0:
            raise ValueError(
                f"share must be above 0, at most 1 (the whole limit in each process), not {share}"
            )
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
        if not 0.0 < timeout <= 60.0:
            raise ValueError(f"timeout must be seconds above 0, at most 60, not {timeout}")
        if secret is not None and not isinstance(secret, str | bytes):
            raise TypeError(f"secret must be str or bytes, not {type(secret).__name__}")
        if secret is not None and len(secret) < 16:
            raise ValueError("secret must have 16 characters at least: secrets.token_urlsafe() makes one")
        self.prefix = prefix
        self._prefix = prefix.encode()
        self.lease = lease
        self.on_error: OnError = on_error
        self.share = share
        self.timeout: float = float(timeout)
        self._set_wires(where, asynchronous, cluster)
        meanwhile = {
            "raise": 'calls raise bide.StoreError (on_error="raise")',
            "deny": 'calls are refused (on_error="deny")',
            "allow": 'calls are admitted uncounted (on_error="allow")',
            "local": f'each process counts for itself, up to {share} of the limit (on_error="local")',
        }
        self._breaker = Breaker(str(self), meanwhile[on_error])
        self._given_secret = secret is not None
        given = secret.encode() if isinstance(secret, str) else secret
        self._secret = b"" if given is None else given if len(given) <= 64 else blake2b(given).digest()
        self._trusted_until = float("inf") if self._given_secret else 0.0
        self.trips: int = 0
        self.unanswered = self.leased = 0
        _stores.add(self)

    # Options ------------------------------------------------------------------------------------------------

    @classmethod
    def from_url(cls, url: str) -> RedisStore:
        """The store of a URL with its options behind it; see the class.

        Raises:
            TypeError, ValueError: an option is of another kind or outside its range; the URL is never shown.
        """
        parts = urlsplit(url)
        options: dict[str, Any] = {}
        others = []
        for name, text in parse_qsl(parts.query, keep_blank_values=True):
            if name in ("lease", "timeout", "share"):
                try:
                    options[name] = int(text) if name == "lease" else float(text)
                except ValueError:
                    raise ValueError(f"store: {name} must be a number, not {text!r}") from None
            elif name == "cluster":
                if text not in ("true", "false"):
                    raise ValueError(f"store: cluster must be true or false, not {text!r}")
                options[name] = text == "true"
            elif name in ("prefix", "on_error", "secret"):
                options[name] = text
            else:
                others.append((name, text))
        return cls(rejoined(parts._replace(query=urlencode(others))), **options)

    @classmethod
    def _load(cls) -> Library:
        name = cls.library_name
        try:
            return Library(import_module(name), import_module(f"{name}.asyncio"))
        except ModuleNotFoundError as missing:
            if missing.name != name:
                raise
            raise StoreError(
                f"the {name} store needs the package {name}: pip install 'bide[{name}]'"
            ) from None

    def _set_wires(self, where: object, asynchronous: object, cluster: bool) -> None:
        if not isinstance(where, str):
            if not hasattr(where, "evalsha"):
                kinds = ", ".join(f"{scheme}://" for scheme in self.schemes)
                raise TypeError(f"store: pass a URL ({kinds}) or a client object, not {type(where).__name__}")
            both = [client for client in (where, asynchronous) if client is not None]
            blocking = [client for client in both if not is_asynchronous(client)]
            others = [client for client in both if is_asynchronous(client)]
            self._place = f"{self.library_name} client"
            self._password = ""
            self._wire: Any = self._client_wire(blocking, False)
            self._make_asynchronous: Any = lambda: self._asynchronous_client_wire(others)
        else:
            url, self._place = self._checked(where)
            self._password = unquote(urlsplit(where).password or "")
            if cluster:
                self._wire = ClientWire(self._library, lambda: self._cluster(self._library.module, url), True)
                self._make_asynchronous = lambda: AsyncClientWire(
                    self._library, lambda: self._cluster(self._library.asynchronous, url), True
                )
            else:
                self._wire = Wire(self._library, url, self.timeout)
                self._make_asynchronous = lambda: AsyncWire(self._library, url, self.timeout)
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()

    def _client_wire(self, clients: list[object], owned: bool) -> Any:
        return ClientWire(self._library, lambda: clients[0], owned) if clients else None

    def _asynchronous_client_wire(self, clients: list[object]) -> Any:
        return AsyncClientWire(self._library, lambda: clients[0], False) if clients else None

    def _cluster(self, module: Any, url: str) -> Any:
        kind = getattr(module, f"{self.library_name.title()}Cluster")
        return kind.from_url(url, socket_timeout=self.timeout, socket_connect_timeout=self.timeout)

    def _checked(self, url: str) -> tuple[str, str]:
        """The URL as the library reads it, and what may be shown of it."""
        parts = urlsplit(url)
        if parts.scheme not in self.schemes:
            kinds = ", ".join(f"{scheme}://" for scheme in self.schemes)
            raise ValueError(f"store: {parts.scheme}:// is no URL of this store: write one of {kinds}")
        scheme = self.schemes[parts.scheme]
        try:
            port, host = parts.port, parts.hostname or ("" if scheme == "unix" else "localhost")
        except ValueError:
            raise ValueError("store: the port in the URL must be a number from 1 to 65535") from None
        read = rejoined(parts._replace(scheme=scheme))
        try:
            self._library.connection(read, self.timeout)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"store: the client library does not take an option of the URL ({error})"
            ) from None
        shown = f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"
        return read, shown

    def __str__(self) -> str:
        return self._place

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self._place}, prefix={self.prefix!r}, lease={self.lease},"
            f" on_error={self.on_error!r}, timeout={self.timeout}>"
        )

    # Fingerprints -------------------------------------------------------------------------------------------

    def name_of(self, octets: bytes, salt: bytes) -> bytes:
        """What stands for a key in the server: the prefix, and a keyed fingerprint that also places it in a cluster."""
        digest = blake2b(octets, digest_size=12, key=self._secret, person=salt).digest()
        return b"%b{%b}" % (self._prefix, base64.urlsafe_b64encode(digest))

    def must_agree(self) -> bool:
        return time.monotonic() >= self._trusted_until

    def agree(self) -> Generator[tuple[Trip, ...], list[bytes], None]:
        """Sees to it that the secret is that of all others: at the start, after a loss, and once a minute."""
        mine = (self._secret or base64.urlsafe_b64encode(os.urandom(24))).decode()
        trip = Trip(SECRET, f"{self.prefix}secret".encode(), (mine,), packed(mine))
        (secret,) = yield (trip,)
        if not 0 < len(secret) <= 64 or not secret.isascii():
            raise self.misunderstood()
        self._secret = secret
        self._trusted_until = time.monotonic() + SECRET_SECONDS

    # Calls --------------------------------------------------------------------------------------------------

    def call(self, trips: Sequence[Trip]) -> list[bytes]:
        """Makes the trips, all at once, within the deadline.

        Raises:
            StoreError: there is no answer; says what to do.
        """
        if self._wire is None:
            raise TypeError("this store was given an asyncio client: await the calls that end in _async")
        self._admit()
        try:
            replies: list[bytes] = self._wire.call(trips, time.monotonic() + self.timeout)
        except self._wire.errors as error:
            raise self._failed(error) from None
        self._succeeded(self._wire)
        return replies

    async def call_async(self, trips: Sequence[Trip]) -> list[bytes]:
        """Makes the trips as ``call`` does, without blocking the running event loop, asyncio's or trio's."""
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            trio: Any = sys.modules.get("trio")
            if trio is None:
                raise
            # The client libraries know asyncio alone: a thread makes the trips, and a cancellation waits for their end.
            made: list[bytes] = await trio.to_thread.run_sync(self.call, trips)
            return made
        wire = self._by_loop.get(loop)
        if wire is None:
            wire = self._make_asynchronous()
            if wire is None:
                raise TypeError("this store was given a blocking client alone: pass asynchronous= as well")
            self._by_loop[loop] = wire
        self._admit()
        try:
            replies: list[bytes] = await wire.call(trips, time.monotonic() + self.timeout)
        except wire.errors as error:
            raise self._failed(error) from None
        self._succeeded(wire)
        return replies

    def _succeeded(self, wire: Any) -> None:
        self._breaker.succeeded()
        if wire.met_a_stranger:
            wire.met_a_stranger = False
            self._doubt()

    def _doubt(self) -> None:
        """The server may have been emptied: the secret is to be agreed upon again."""
        if not self._given_secret:
            self._trusted_until = 0.0

    def _admit(self) -> None:
        if not self._breaker.admits():
            raise StoreError(f"store {self} is down; it is tried again in {self._breaker.wait:.2f} s")
        self.trips += 1

    def _failed(self, error: Exception) -> StoreError:
        self._doubt()
        text = said_of(error, self.timeout, self._password)
        self._breaker.failed(text)
        return StoreError(f"store {self}: {text}")

    def misunderstood(self) -> StoreError:
        """An answer came that no script of this store's gives: a failure like any other."""
        return self._failed(ServerError.of_a_stranger())

    @property
    def wait(self) -> float:
        """Seconds until it is worth asking a store that is down."""
        return self._breaker.wait

    def stats(self) -> StoreStats:
        """The counters at this instant: of trips, failures and outages."""
        breaker = self._breaker
        return StoreStats(
            self.trips,
            breaker.failures,
            breaker.outages,
            breaker.is_open,
            self.unanswered,
            self.leased,
        )

    def close(self) -> None:
        """Closes the idle connections of blocking calls; a later call connects anew."""
        if self._wire is not None:
            self._wire.close()

    async def close_async(self) -> None:
        """Closes the idle connections of the running event loop. (``asyncio.run`` sees to it at its end.)"""
        import asyncio

        wire = self._by_loop.pop(asyncio.get_running_loop(), None)
        if wire is not None:
            await wire.close()

    def _forget(self) -> None:
        if self._wire is not None:
            self._wire.forget()
        self._by_loop = weakref.WeakKeyDictionary()


def rejoined(parts: SplitResult) -> str:
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"


def is_asynchronous(client: object) -> bool:
    return ".asyncio" in type(client).__module__


ADVICE = {
    "NOAUTH": "it asks for a password: write redis://user:password@host",
    "WRONGPASS": "the user or the password is wrong",
    "NOPERM": "the user may not do this: see the permissions listed in docs/stores.md",
    "READONLY": "it is a replica: connect to the primary, or through a sentinel",
    "OOM": "its memory is full: raise maxmemory, or give it less to hold",
    "LOADING": "it is loading its data",
    "CLUSTERDOWN": "its cluster is down",
    "MOVED": "it is a node of a cluster: add cluster=true to the URL",
    "CROSSSLOT": "it is a node of a cluster: add cluster=true to the URL",
    "BUSY": "a script of somebody's runs and does not end",
    "WRONGTYPE": "something else lies under this prefix: choose another one",
}


def said_of(error: Exception, timeout: float, password: str) -> str:
    """What went wrong and what to do, in one line, without any secret: a server may say the password back."""
    text = str(error).replace(password or "\0", "***")
    text = text.splitlines()[0][:200] if text else type(error).__name__
    word = text.partition(" ")[0]
    kind = type(error).__name__
    if isinstance(error, TimeoutError) or kind == "TimeoutError":
        return f"no answer within {timeout} s: look whether it is slow or far away, or raise timeout"
    if kind in ("AuthenticationError", "AuthorizationError"):
        return "it does not accept the user or the password"
    if word in ADVICE:
        return f"{word}: {ADVICE[word]}"
    for name, advice in ADVICE.items():
        if kind.upper() in (f"{name}ERROR", f"{name[:-2]}ERROR"):
            return f"{name}: {advice}"
    return text if text.isprintable() else ascii(text)


_stores: weakref.WeakSet[RedisStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_stores):
        store._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
