"""Rate limits for WSGI applications: Django, Flask, Bottle, Pyramid, or none of them.

    application = bide.wsgi.RateLimit(get_wsgi_application(), "100/second")   # Django's wsgi.py
    app.wsgi_app = bide.wsgi.RateLimit(app.wsgi_app, "100/second")            # Flask
    @app.get("/export")                                                       # one route of Flask:
    @bide.wsgi.limit("5/minute")

Rules of this file: it reads an environ and calls ``start_response`` (PEP 3333); what is limited and what is
said of it is in ``_gate``. Nothing of Flask is loaded before ``limit`` is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from bide._answer import FIELDS, RATELIMIT, TEXT, X_RATELIMIT, Fields
from bide._gate import Gate, Key, Limits, Options, address_key, bearer_key, forwarded_address

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["FIELDS", "RATELIMIT", "X_RATELIMIT", "RateLimit", "client_address", "limit"]

Environ = dict[str, Any]
View = TypeVar("View", bound=Callable[..., Any])

STATUS_REFUSED = "429 Too Many Requests"  # RFC 6585 section 4


def client_address(environ: Environ, trusted_hops: int = 0) -> str:
    """The address of who sent a request, for a key function of your own.

    Args:
        environ: the WSGI environ of the request.
        trusted_hops: how many proxies of yours stand before this server, each of which adds the address that
            it saw to ``X-Forwarded-For``. 0 believes no such field: a client may write into it what it likes.

    Returns:
        IPv4 as it is; IPv6 as its /64 network, all of which belongs to one client. "" when the server does
        not know (a Unix socket).

    >>> environ = {"REMOTE_ADDR": "10.0.0.7", "HTTP_X_FORWARDED_FOR": "invented, 192.0.2.1"}
    >>> client_address(environ), client_address(environ, trusted_hops=1)
    ('10.0.0.7', '192.0.2.1')
    """
    address: str = environ.get("REMOTE_ADDR") or ""
    if trusted_hops:
        address = forwarded_address(environ.get("HTTP_X_FORWARDED_FOR", ""), trusted_hops, address)
    return address_key(address)


def default_key(trusted_hops: int) -> Callable[[Environ], Key]:
    def key(environ: Environ) -> Key:
        # PEP 3333: octets as latin-1. As octets it is the key that an ASGI server gives.
        authorization: bytes = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
        return bearer_key(authorization) or client_address(environ, trusted_hops)

    return key


def path_of(environ: Environ) -> str:
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1", "replace").decode("utf-8", "replace")  # PEP 3333: octets as latin-1


class RateLimit:
    """A WSGI application that lets through to another one what is inside the limits, and refuses the rest.

    Args:
        app: the application within.
        limits, options: those of ``bide.asgi.RateLimit``, where functions of a scope are functions of the
            environ.

    Raises:
        TypeError, ValueError: an option is not of its kind; says what to write.

    What is sent is what ``bide.asgi.RateLimit`` sends. Workers that are forked after this was made share its
    counters (``gunicorn --preload``); otherwise each worker has its own, unless ``store`` is shared.

    >>> def app(environ, start_response):
    ...     start_response("200 OK", [])
    ...     return [b"hello"]
    >>> limited = RateLimit(app, "10/second", "1200/minute", paths={"/login": "5/minute", "/health": None})
    """

    def __init__(
        self,
        app: Callable[[WSGIEnvironment, StartResponse], Any],
        *limits: Limits | Callable[[Environ], Limits | None],
        **options: Unpack[Options[Environ]],
    ) -> None:
        if not callable(app):
            raise TypeError('the application comes first: RateLimit(app, "100/second")')
        self._app: WSGIApplication = app
        self._enter = Gate(limits, TEXT, path_of, default_key, options).enter

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        entry = self._enter(environ)
        if entry is None:
            return self._app(environ, start_response)
        refused, fields, _ = entry
        if fields is not None:
            start_response = with_fields(fields, start_response)
        if not refused:
            return self._app(environ, start_response)
        start_response(STATUS_REFUSED, [("Content-Length", "0")])
        return []


def with_fields(fields: Fields[str], start_response: StartResponse) -> StartResponse:
    def start_with_fields(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [*headers, *fields], *exc_info)

    return cast("StartResponse", start_with_fields)


# One route of Flask --------------------------------------------------------------------------------------


def limit(
    *limits: Limits | Callable[[Environ], Limits | None], **options: Unpack[Options[Environ]]
) -> Callable[[View], View]:
    """A decorator that limits one view of Flask; it stands below the route's.

    A refusal is a response of status 429 with an empty body. Under ``RateLimit`` the response tells of the
    tighter one of the two. In Django, give ``RateLimit`` the paths.

    Args:
        limits, options: as for ``RateLimit``, without ``paths``. ``name`` is by default the view's, with its
            module's.

    Returns:
        The decorator, for plain and ``async`` views.

    Raises:
        TypeError, ValueError: an option is not of its kind; says what to write.
        ImportError: Flask is not installed.

    >>> import flask
    >>> app = flask.Flask("example")
    >>> @app.get("/export")
    ... @limit("5/minute")
    ... def export():
    ...     return "a long list"
    """
    import flask

    if "paths" in options:
        raise TypeError("paths is for RateLimit: a route's limit has no other paths")

    def decorate(view: View) -> View:
        named: Options[Environ] = {"name": f"{view.__module__}.{view.__qualname__}", **options}
        gate = Gate(limits, TEXT, path_of, default_key, named)

        @functools.wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            entry = gate.enter(flask.request.environ)
            if entry is not None:
                refused, fields, _ = entry
                if fields is not None:

                    @flask.after_this_request
                    def add_fields(response: flask.Response) -> flask.Response:
                        response.headers.extend(fields)
                        return response

                if refused:
                    return flask.Response(status=STATUS_REFUSED)
            return flask.current_app.ensure_sync(view)(*args, **kwargs)

        return cast("View", limited)

    return decorate
