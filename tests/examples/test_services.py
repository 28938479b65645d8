"""The services of examples/, run as their first lines say, and asked over the network."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import bide

EXAMPLES = Path(__file__).parents[2] / "examples"

UVICORN = ["-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", "0"]
GUNICORN = [
    "-m",
    "gunicorn",
    "--chdir",
    str(EXAMPLES),
    "--bind",
    "127.0.0.1:0",
    "--preload",
    # A worker that is told to stop while it begins does not hear it: it is killed after so many seconds.
    "--graceful-timeout",
    "5",
    "--workers",
    "2" if bide.IMPLEMENTATION == "native" else "1",  # the twin cannot share
]


@contextlib.contextmanager
def running(*command: str) -> Iterator[httpx.Client]:
    """Starts a server, and gives a client of the address that its log names."""
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            address = re.search(r"http://127\.0\.0\.1:[0-9]+", line)
            if address:
                break
        else:
            pytest.fail("the server has stopped: " + "".join(lines))
        with httpx.Client(base_url=address[0], timeout=30) as client:
            yield client
    finally:
        process.terminate()
        process.communicate(timeout=30)


SERVICES = {
    "fastapi": [*UVICORN, "fastapi_service:app"],
    "flask": [*GUNICORN, "flask_service:app"],
    "django": [*GUNICORN, "django_service:application"],
    "django, asgi": [*UVICORN, "django_service:asgi_application"],
}


@pytest.mark.parametrize("name", SERVICES)
def test_the_example_limits_its_export_for_each_token_whichever_worker_answers(name: str) -> None:
    path = "/export/all" if name.startswith("django") else "/export"
    with running(*SERVICES[name]) as client:
        answers = {
            token: [client.get(path, headers={"Authorization": f"Bearer {token}"}) for _ in range(6)]
            for token in ("north", "south")
        }
        for own in answers.values():
            assert [answer.status_code for answer in own] == [200, 200, 429, 429, 429, 429]
            assert [answer.headers["x-ratelimit-remaining"] for answer in own] == [
                "1",
                "0",
                "0",
                "0",
                "0",
                "0",
            ]
            assert own[2].content == b""
            assert 55 <= int(own[2].headers["retry-after"]) <= 60
            assert {answer.headers.get("retry-after", "-") for answer in own[:2]} == {"-"}
        root = client.get("/")
        assert root.headers["x-ratelimit-limit"] == "100"
        assert root.headers["ratelimit-policy"] == '"default";q=100;w=1'
        assert not [field for field in client.get("/health").headers if "ratelimit" in field]


def test_the_example_counts_logins_by_address_whatever_token_is_invented() -> None:
    with running(*SERVICES["fastapi"]) as client:
        statuses = [
            client.post("/login", headers={"Authorization": f"Bearer {number}"}).status_code
            for number in range(7)
        ]
    assert statuses == [200] * 5 + [429] * 2
