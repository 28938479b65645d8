"""A stand-in for the hosts that the documents' programs talk to.

Rules of this file: a document writes the address that its reader would write. While its blocks run, the names below
lead to one server on the loopback interface, over TLS, with a certificate that this process trusts, and
``redis.example.com`` to a real ``redis-server``; any other name does not resolve, so that no block can reach a network.
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

Fields = dict[str, str]
Answer = tuple[int, Fields, object]


def clever(path: str, count: int) -> Answer:
    fields = {
        "X-RateLimit-Limit": "1200",
        "X-RateLimit-Remaining": str(1200 - count),
        "X-RateLimit-Reset": str(int(time.time()) + 60),
        "X-RateLimit-Bucket": "all",
    }
    if path.startswith("/v3.0/events"):
        return 501, fields, None
    return 200, fields, {"data": [{"id": "a district"}], "links": []}


def github(path: str, count: int) -> Answer:
    fields = {
        "X-RateLimit-Limit": "5000",
        "X-RateLimit-Remaining": str(5000 - count),
        "X-RateLimit-Used": str(count),
        "X-RateLimit-Reset": str(int(time.time()) + 3600),
        "X-RateLimit-Resource": "search" if path.startswith("/search") else "core",
    }
    return 200, fields, {"path": path}


def openai(path: str, count: int) -> Answer:
    """The first request is refused for a moment."""
    fields = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": str(500 - count),
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29000",
        "x-ratelimit-reset-tokens": "2s",
    }
    if count == 1:
        error = {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}
        return 429, {**fields, "retry-after-ms": "30"}, error
    return 200, fields, {"choices": [{"message": {"content": "Hello."}}], "usage": {"total_tokens": 25}}


def example(path: str, count: int) -> Answer:
    """Of anything else: ``/maintenance`` is down for an hour, ``/busy`` refuses every other request briefly."""
    if path.startswith("/maintenance"):
        return 503, {"Retry-After": "3600"}, None
    if path.startswith("/busy") and count % 2:
        return 429, {"Retry-After": "0"}, None
    return 200, {"RateLimit": '"default";r=99;t=60', "RateLimit-Policy": '"default";q=100;w=60'}, {"ok": True}


HOSTS = {
    "api.clever.com": clever,
    "api.github.com": github,
    "api.openai.com": openai,
    "api.example.com": example,
}


class Internet:
    """The server, and how often each host was asked since the last ``reset``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: dict[str, int] = {}
        internet = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                host = self.headers["Host"]
                with internet._lock:
                    count = internet.counts[host] = internet.counts.get(host, 0) + 1
                status, fields, content = HOSTS[host](self.path, count)
                body = b"" if content is None else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**fields, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def log_message(self, format: str, *arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*HOSTS).configure_cert(context)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @contextmanager
    def running(self) -> Iterator["Internet"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


@pytest.fixture(scope="session")
def internet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    with Internet().running() as internet:
        yield internet


@pytest.fixture
def internet(
    internet_server: Internet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Internet:
    """Makes the names of the hosts lead to the servers, and the certificate a trusted one."""
    certificate = tmp_path / "authority.pem"
    internet_server.authority.cert_pem.write_to_path(certificate)
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(certificate))
    resolve = socket.getaddrinfo
    document: Path = request.getfixturevalue("document")
    # Started before a block runs: its calls have 50 ms.
    redis = (
        request.getfixturevalue("counting_servers")("redis").port
        if "redis.example.com" in document.read_text(encoding="utf-8")
        else None
    )

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name in HOSTS:
            return resolve("127.0.0.1", internet_server.port, *arguments, **options)
        if redis is not None and name == "redis.example.com":
            return resolve("127.0.0.1", redis, *arguments, **options)
        if name not in (None, "", "127.0.0.1", "localhost", "::1"):
            raise socket.gaierror(socket.EAI_NONAME, f"a document's program asked for {name}")
        return resolve(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    internet_server.counts.clear()
    return internet_server
