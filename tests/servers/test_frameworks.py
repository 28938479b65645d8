"""The middlewares and the limits of one route in real applications, behind real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import flask
import httpx
import pytest
import websockets
from fastapi import Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route, WebSocketRoute

import bide

Serve = Callable[..., str]


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30) as client:
        yield client


def statuses_of(client: httpx.Client, url: str, times: int, **arguments: Any) -> list[int]:
    return [client.get(url, **arguments).status_code for _ in range(times)]


# Starlette and FastAPI -------------------------------------------------------------------------------------


def test_a_starlette_application_with_the_middleware(serve: Serve, client: httpx.Client) -> None:
    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/", hello)])
    app.add_middleware(bide.asgi.RateLimit, "2/minute")
    url = serve(app)
    answers = [client.get(url) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].content == b""
    assert answers[2].headers["content-length"] == "0"
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]


def test_a_route_of_starlette_has_the_middleware_for_itself(serve: Serve, client: httpx.Client) -> None:
    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    def limited(path: str) -> Route:
        return Route(path, hello, middleware=[Middleware(bide.asgi.RateLimit, "1/minute", name=path)])

    url = serve(Starlette(routes=[limited("/a"), Mount("/b", routes=[limited("/c")]), Route("/", hello)]))
    assert statuses_of(client, f"{url}/a", 2) == [200, 429]
    assert statuses_of(client, f"{url}/b/c", 2) == [200, 429]
    assert statuses_of(client, f"{url}/", 2) == [200, 200]


def test_the_lifespan_and_websockets_pass_through(serve: Serve, client: httpx.Client) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        events.append("begun")
        yield
        events.append("ended")

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    app = Starlette(routes=[WebSocketRoute("/echo", echo)], lifespan=lifespan)
    url = serve(bide.asgi.RateLimit(app, "1/minute"))

    async def talk() -> list[str | bytes]:
        heard = []
        for word in ("one", "two", "three"):
            async with websockets.connect(url.replace("http", "ws") + "/echo") as socket:
                await socket.send(word)
                heard.append(await socket.recv())
        return heard

    assert asyncio.run(talk()) == ["one", "two", "three"]
    assert events == ["begun"]
    assert statuses_of(client, url, 2) == [404, 429]


def test_a_response_in_pieces_comes_in_pieces(serve: Serve, client: httpx.Client) -> None:
    app = FastAPI()
    app.add_middleware(bide.asgi.RateLimit, "5/minute")

    @app.get("/")
    async def pieces() -> StreamingResponse:
        async def each() -> AsyncIterator[str]:
            for number in range(1000):
                yield f"{number}\n"

        return StreamingResponse(each())

    answer = client.get(serve(app))
    assert answer.text.split() == [str(number) for number in range(1000)]
    assert answer.headers["x-ratelimit-remaining"] == "4"


def fastapi_with_a_limited_route(limit: Any, **options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/limited", dependencies=[Depends(limit)])
    async def limited() -> str:
        return "hello"

    @app.get("/also", dependencies=[Depends(limit)])
    def also() -> JSONResponse:
        return JSONResponse("hello")

    @app.get("/free")
    async def free() -> str:
        return "hello"

    return app


def test_a_dependency_of_fastapi_limits_its_routes_together_and_no_other(
    serve: Serve, client: httpx.Client
) -> None:
    url = serve(fastapi_with_a_limited_route(bide.asgi.limit("2/minute", name="both")))
    answers = [client.get(f"{url}/{path}") for path in ("limited", "also", "limited", "also")]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert [answer.content for answer in answers[2:]] == [b"", b""]
    assert answers[0].headers["ratelimit"] == '"both";r=1;t=60'
    assert answers[2].headers["ratelimit"].startswith('"both";r=0;t=')
    assert "retry-after" in answers[2].headers
    assert "x-ratelimit-limit" not in client.get(f"{url}/free").headers


def test_limits_of_routes_are_buckets_of_their_own() -> None:
    first, second = bide.asgi.limit("1/minute"), bide.asgi.limit("1/minute")
    assert first is not second
    with pytest.raises(TypeError, match="name is missing: in a store that others share"):
        bide.asgi.limit("1/minute", store="file:///tmp/limits.bide")
    for limit in (bide.asgi.limit, bide.wsgi.limit):
        with pytest.raises(TypeError, match="paths is for RateLimit"):
            limit("1/minute", paths={"/a": "1/minute"})


def test_under_the_middleware_the_tighter_limit_is_told_also_by_a_routes_own_response(
    serve: Serve, client: httpx.Client
) -> None:
    app = fastapi_with_a_limited_route(bide.asgi.limit("2/minute", name="route"))
    app.add_middleware(bide.asgi.RateLimit, "4/minute")
    url = serve(app)
    answers = [client.get(f"{url}/also") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 429]
    assert [answer.headers["x-ratelimit-bucket"] for answer in answers] == ["route"] * 4 + ["default"]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0", "0", "0"]
    assert all(len(answer.headers.get_list("ratelimit")) == 1 for answer in answers)
    assert ["retry-after" in answer.headers for answer in answers] == [False, False, True, True, True]


async def as_plain_text(request: Request, error: Exception) -> PlainTextResponse:
    assert isinstance(error, HTTPException) or hasattr(error, "status_code")
    return PlainTextResponse("later, please", 429, headers=getattr(error, "headers", None))


@pytest.mark.parametrize("handled", [429, "HTTPException"])
def test_an_applications_own_handler_answers_for_a_refused_route(
    serve: Serve, client: httpx.Client, handled: Any
) -> None:
    from starlette.exceptions import HTTPException as StarletteHTTPException

    what = StarletteHTTPException if handled == "HTTPException" else handled
    app = fastapi_with_a_limited_route(bide.asgi.limit("1/minute"), exception_handlers={what: as_plain_text})
    url = serve(app)
    client.get(f"{url}/limited")
    refused = client.get(f"{url}/limited")
    assert (refused.status_code, refused.text) == (429, "later, please")
    assert "retry-after" in refused.headers


# Flask -----------------------------------------------------------------------------------------------------


def test_a_flask_application_with_the_middleware(serve: Serve, client: httpx.Client) -> None:
    app = flask.Flask("hello")
    app.wsgi_app = bide.wsgi.RateLimit(app.wsgi_app, "2/minute")  # type: ignore[method-assign]  # Flask's way

    @app.get("/")
    def hello() -> str:
        return "hello"

    url = serve(app, "wsgi")
    answers = [client.get(url) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].content == b""
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]


def test_a_decorator_of_flask_limits_its_view_plain_or_async(serve: Serve, client: httpx.Client) -> None:
    app = flask.Flask("hello")

    @app.get("/plain/<name>")
    @bide.wsgi.limit("2/minute")
    def plain(name: str) -> tuple[str, int]:
        return f"hello {name}", 201

    @app.get("/async")
    @bide.wsgi.limit("1/minute", name="other")
    async def coroutine() -> str:
        return "hello"

    @app.get("/free")
    def free() -> str:
        return "hello"

    url = serve(app, "wsgi")
    answers = [client.get(f"{url}/plain/you") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert [answer.content for answer in answers] == [b"hello you", b"hello you", b""]
    assert answers[0].headers["x-ratelimit-bucket"].endswith("plain")
    assert "retry-after" in answers[2].headers
    assert statuses_of(client, f"{url}/async", 2) == [200, 429]
    assert "x-ratelimit-limit" not in client.get(f"{url}/free").headers


def test_under_the_middleware_a_view_of_flask_tells_the_tighter_limit_once(
    serve: Serve, client: httpx.Client
) -> None:
    app = flask.Flask("hello")
    app.wsgi_app = bide.wsgi.RateLimit(app.wsgi_app, "3/minute")  # type: ignore[method-assign]  # Flask's way

    @app.get("/")
    @bide.wsgi.limit("1/minute", name="view")
    def hello() -> str:
        return "hello"

    url = serve(app, "wsgi")
    answers = [client.get(url) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 429]
    assert [answer.headers["x-ratelimit-bucket"] for answer in answers] == ["view", "view", "view", "default"]
    assert all(len(answer.headers.get_list("ratelimit")) == 1 for answer in answers)
