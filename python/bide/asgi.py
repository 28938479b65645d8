"""Rate limits for ASGI applications: Starlette, FastAPI, Django, Quart, Litestar, or none of them.

    app.add_middleware(bide.asgi.RateLimit, "100/second")                     # the whole application
    @app.get("/export", dependencies=[Depends(bide.asgi.limit("5/minute"))])  # one route of FastAPI

Rules of this file: it reads a scope and sends messages; what is limited and what is said of it is in
``_gate``. Nothing of Starlette or FastAPI is loaded before ``limit`` is used.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

from bide._answer import FIELDS, OCTETS, RATELIMIT, X_RATELIMIT, Fields
from bide._gate import Gate, Key, Limits, Options, address_key, bearer_key, forwarded_address

if TYPE_CHECKING:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["FIELDS", "RATELIMIT", "X_RATELIMIT", "RateLimit", "client_address", "limit"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

STATUS_REFUSED = 429  # RFC 6585 section 4


def client_address(scope: Scope, trusted_hops: int = 0) -> str:
    """The address of who sent a request, for a key function of your own.

    Args:
        scope: the ASGI scope of the request.
        trusted_hops: how many proxies of yours stand before this server, each of which adds the address that
            it saw to ``X-Forwarded-For``. 0 believes no such field: a client may write into it what it likes.

    Returns:
        IPv4 as it is; IPv6 as its /64 network, all of which belongs to one client. "" when the server does
        not know (a Unix socket).

    >>> client_address({"client": ("2001:db8:1:2:3:4:5:6", 50000), "headers": []})
    '2001:db8:1:2::/64'
    """
    client = scope.get("client")
    address: str = client[0] if client else ""
    if trusted_hops:
        lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        address = forwarded_address(b",".join(lines).decode("latin-1"), trusted_hops, address)
    return address_key(address)


def default_key(trusted_hops: int) -> Callable[[Scope], Key]:
    def key(scope: Scope) -> Key:
        for name, value in scope["headers"]:
            if name == b"authorization":
                return bearer_key(value) or client_address(scope, trusted_hops)
        return client_address(scope, trusted_hops)

    return key


def path_of(scope: Scope) -> str:
    path: str = scope["path"]
    return path


class RateLimit:
    """An ASGI application that lets through to another one what is inside the limits, and refuses the rest.

    A refusal is status 429 with an empty body. Refusals and all other responses say how things stand:
    ``X-RateLimit-Limit``, ``-Remaining``, ``-Reset`` (Unix time) and ``-Bucket`` as Clever sends them, and
    ``RateLimit`` and ``RateLimit-Policy`` of draft-ietf-httpapi-ratelimit-headers-11; refusals also
    ``Retry-After`` (RFC 9110 section 10.2.3). All times are rounded up to whole seconds. Websockets and the
    lifespan pass through.

    Args:
        app: the application within.
        limits: one or more limits of different windows ("100/second", ``bide.Limit(1200, 60.0)``), all of
            which hold; or one function of the scope that returns a limit, several, or None (no limit), at
            most 256 different ones in all.
        paths: limits of their own for paths, instead of the above: ``{"/login": "5/minute", "/api/*":
            ["10/second", "1000/hour"], "/health": None}``. The longest match holds; None is no limit; a
            limit may be a ``bide.Limiter``. Each path is a bucket of its own.
        key: a function of the scope that returns who is counted, ``str`` or ``bytes``. None: the bearer
            token, else the client's address (see ``client_address``). Whoever invents tokens gets a limit
            for each of them: where tokens are not checked before this, count by ``client_address``.
        trusted_hops: how many trusted proxies add to ``X-Forwarded-For``, 0 to 32; for the default key.
        exempt: keys that are not limited, or a function of a key that tells. With the default key: addresses
            and bearer tokens; an IPv6 address stands for its /64 network.
        fields: the names of the fields to send; ``FIELDS`` are all, ``X_RATELIMIT`` and ``RATELIMIT`` the
            two families, ``()`` sends none.
        report_only: counts, tells and reports, but refuses nothing.
        on_refused: called with the scope and the ``bide.Outcome`` of each request that is over the limit.
        name: the bucket's name, in the fields and in a shared store; 1 to 200 printable ASCII characters.
        store: where the counters live; see ``bide.Limiter``. "memory" is this process, and with the native
            limiter the workers forked after this was made.
        max_keys: how many keys may be live at once; see ``bide.Limiter``.
        limiter: a ``bide.Limiter`` to count in, shared with whoever else uses it, instead of limits.

    Raises:
        TypeError, ValueError: an option is not of its kind; says what to write.

    >>> async def app(scope, receive, send): ...
    >>> limited = RateLimit(app, "10/second", "1200/minute", paths={"/login": "5/minute", "/health": None})
    """

    def __init__(
        self,
        app: Application,
        *limits: Limits | Callable[[Scope], Limits | None],
        **options: Unpack[Options[Scope]],
    ) -> None:
        if not callable(app):
            raise TypeError('the application comes first: RateLimit(app, "100/second")')
        self._app = app
        gate = Gate(limits, OCTETS, path_of, default_key, options)
        self._enter, self._enter_async, self._takes_trips = gate.enter, gate.enter_async, gate.takes_trips

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        entry = await self._enter_async(scope) if self._takes_trips else self._enter(scope)
        if entry is None:
            return await self._app(scope, receive, send)
        refused, fields, _ = entry
        if fields is not None:
            send = with_fields(fields, send)
        if not refused:
            return await self._app(scope, receive, send)
        start = {
            "type": "http.response.start",
            "status": STATUS_REFUSED,
            "headers": [(b"content-length", b"0")],
        }
        await send(start)
        return await send({"type": "http.response.body", "body": b""})


def with_fields(fields: Fields[bytes], send: Send) -> Send:
    """A ``send`` that adds the fields to the response's head. Not a coroutine of its own: it is awaited for
    every message, and only hands on what ``send`` returns."""

    def send_with_fields(
        message: Message, fields: Fields[bytes] = fields, send: Send = send
    ) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            # The application may send the same objects again: they are its own.
            message = dict(message)
            message["headers"] = [*message.get("headers", ()), *fields]
        return send(message)

    return send_with_fields


# One route of FastAPI ------------------------------------------------------------------------------------

_numbers = itertools.count(1)


def limit(
    *limits: Limits | Callable[[Scope], Limits | None],
    **options: Unpack[Options[Scope]],
) -> Callable[[Request, Response], Awaitable[None]]:
    """A FastAPI dependency that limits the routes it stands in, all of them together.

    It raises Starlette's ``HTTPException`` with status 429, which the application answers as it answers such
    exceptions; one that has no handler of its own for them answers with an empty body. Under ``RateLimit``
    the response tells of the tighter one of the two. (Without it, FastAPI drops the fields of a response
    object that the route itself returns.) For one route of Starlette:
    ``Route(..., middleware=[Middleware(bide.asgi.RateLimit, "5/minute")])``.

    Args:
        limits, options: as for ``RateLimit``, without ``paths``. ``name`` is by default "route-1", "route-2"
            and so on; in a store that others share, give one.

    Returns:
        The dependency, for ``Depends``.

    Raises:
        TypeError, ValueError: an option is not of its kind; says what to write.
        ImportError: Starlette is not installed.

    >>> from fastapi import Depends, FastAPI
    >>> app = FastAPI()
    >>> @app.get("/export", dependencies=[Depends(limit("5/minute"))])
    ... def export() -> str:
    ...     return "a long list"
    """
    from starlette.requests import Request
    from starlette.responses import Response

    if "paths" in options:
        raise TypeError("paths is for RateLimit: a route's limit has no other paths")
    if "name" not in options:
        if options.get("store", "memory") != "memory":
            raise TypeError("name is missing: in a store that others share, a route's limit needs one")
        options["name"] = f"route-{next(_numbers)}"
    gate = Gate(limits, OCTETS, path_of, default_key, options)

    async def rate_limit(request: Request, response: Response) -> None:
        entry = await gate.enter_async(request.scope)
        if entry is None:
            return
        refused, fields, _ = entry
        headers = {name.decode(): value.decode() for name, value in fields or ()}
        if refused:
            refuse(request, headers)
        response.headers.update(headers)

    # FastAPI reads what to pass from these; as text it would look for them among this module's names.
    rate_limit.__annotations__ = {"request": Request, "response": Response, "return": None}
    return rate_limit


@functools.cache
def too_many_requests() -> tuple[type[HTTPException], Callable[..., object]]:
    """The exception, and the handler that answers it with an empty body."""
    from starlette.exceptions import HTTPException
    from starlette.responses import Response

    class TooManyRequests(HTTPException):
        """A request over the limit of its route."""

    async def empty(request: Request, error: HTTPException) -> Response:
        return Response(status_code=error.status_code, headers=error.headers)

    return TooManyRequests, empty


def refuse(request: Request, headers: dict[str, str]) -> NoReturn:
    from starlette.exceptions import HTTPException

    exception, empty = too_many_requests()
    # Where Starlette keeps the handlers that it will look into. Should that change, the body says in JSON
    # what the status says.
    handlers = request.scope.get("starlette.exception_handlers", ({}, {}))[0]
    theirs = getattr(handlers.get(HTTPException), "__module__", "")
    if theirs.partition(".")[0] in ("fastapi", "starlette"):
        handlers.setdefault(exception, empty)
    raise exception(STATUS_REFUSED, headers=headers)
