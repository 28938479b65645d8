"""Fixtures of the server tests: one service behind either interface, and real servers on ephemeral ports."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer, make_server
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
import uvicorn

import bide


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


@dataclass
class Service:
    """An application that says hello, behind a rate limit, called through its interface: ASGI or WSGI."""

    interface: str
    limits: tuple[Any, ...]
    options: dict[str, Any]
    reached: list[str] = field(default_factory=list)
    """The paths of the requests that got through."""

    def __post_init__(self) -> None:
        if self.interface == "asgi":
            self.app: Any = bide.asgi.RateLimit(self._hello_asgi, *self.limits, **self.options)
        else:
            # The validator stands within: it wants a Content-Type even where there is no content.
            self.app = bide.wsgi.RateLimit(validator(self._hello_wsgi), *self.limits, **self.options)

    async def _hello_asgi(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(scope["path"])
        await send(HELLO)
        await send({"type": "http.response.body", "body": b"hello"})

    def _hello_wsgi(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.reached.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    def get(
        self, path: str = "/", address: str | None = "192.0.2.1", authorization: str = "", forwarded: str = ""
    ) -> Answer:
        fields = {"Authorization": authorization, "X-Forwarded-For": forwarded}
        headers = {name: value for name, value in fields.items() if value}
        return (self._get_asgi if self.interface == "asgi" else self._get_wsgi)(path, address, headers)

    def _get_asgi(self, path: str, address: str | None, headers: dict[str, str]) -> Answer:
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": None if address is None else (address, 50_000),
        }
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        asyncio.run(self.app(scope, None, send))
        start, *bodies = messages
        names = [name.decode() for name, _ in start["headers"]]
        assert len(set(names)) == len(names)
        assert all(name == name.lower() for name in names)
        return Answer(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(message["body"] for message in bodies),
        )

    def _get_wsgi(self, path: str, address: str | None, headers: dict[str, str]) -> Answer:
        environ: dict[str, Any] = {"PATH_INFO": latin_1(path), "SCRIPT_NAME": "", "QUERY_STRING": ""}
        setup_testing_defaults(environ)
        environ.update(
            {f"HTTP_{name.upper().replace('-', '_')}": latin_1(value) for name, value in headers.items()}
        )
        if address is not None:
            environ["REMOTE_ADDR"] = address
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started.append((int(status[:3]), headers))
            return lambda data: None

        chunks = self.app(environ, start_response)
        body = b"".join(chunks)
        if hasattr(chunks, "close"):
            chunks.close()
        [(status, sent)] = started
        assert len({name.lower() for name, _ in sent}) == len(sent)
        return Answer(status, {name.lower(): value for name, value in sent}, body)


def latin_1(text: str) -> str:
    """Text as PEP 3333 hands it on: its octets, each as a character."""
    return text.encode().decode("latin-1")


HELLO = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
"""One object for all responses: who adds fields to it, adds them to the next response as well."""


@pytest.fixture(params=["asgi", "wsgi"])
def service(request: pytest.FixtureRequest) -> Callable[..., Service]:
    """Makes a service: ``service(*limits, **options)``."""
    return lambda *limits, **options: Service(request.param, limits, options)


@pytest.fixture
def both_services() -> Callable[..., list[Service]]:
    """Makes two services of the same options, one for each interface."""
    return lambda *limits, **options: [Service(kind, limits, options) for kind in ("asgi", "wsgi")]


# Real servers --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def uvicorn_running(app: Any) -> Iterator[str]:
    """Serves in a thread of its own. Requests wait in the listening socket until the server takes them."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


class Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A test's output is no place for a log of requests."""


@contextlib.contextmanager
def wsgiref_running(app: Any) -> Iterator[str]:
    assert ServerHandler.http_version == "1.0"  # a connection for each request: none is left open at the end
    server = make_server("127.0.0.1", 0, app, WSGIServer, Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Runs an application, of ASGI if it is ``async``, until the test ends; returns its address."""
    with contextlib.ExitStack() as running:

        def start(app: Any, interface: str = "asgi") -> str:
            return running.enter_context((uvicorn_running if interface == "asgi" else wsgiref_running)(app))

        yield start
