"""What a rate limit costs a server: requests per second with one and without, on this machine.

    make bench-servers
    make bench-servers ARGS=--instructions    # counted by valgrind: the same on every run, whatever else runs

Rules of this file
- The servers of one group run at the same time, each one worker in a process of its own, and are asked in
  turn, burst after burst, so that whatever the machine does meanwhile falls on all of them.
- A burst is so many requests over a few kept connections, one request under way on each. Of each burst:
  requests per second by the clock, and by the processor time that the server's process used (kernel
  included), which is the one to believe where other programs run. A rate limit's cost is the median, over the
  rounds, of its rate divided by that of the bare application in the same round. What "bare, once more" costs
  is the error of the measurement.
- Instructions are those of the server's process outside of the kernel, which works as much for each of them:
  a share of them is more than the same share of the time.
- Every answer is checked: status 200, the application's own body, and the fields where there should be some.
- Everybody counts one bearer token in a window of a second, far from its limit, and sends its fields.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve()
README = HERE.parents[1] / "README.md"
RESULTS = HERE.parents[1] / "results-servers.json"
BEGIN, END = "<!-- servers: begin (make bench-servers writes this) -->", "<!-- servers: end -->"

LIMIT = "60000000/second"
CONNECTIONS = 8
BURST = 120
"""Requests of one burst."""
WARM_UP = 1_200
LAUNCHES = 6
"""How often all servers are started anew: one process may be slower than another of the same program."""
AIM = 0.97
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer 0123456789abcdef\r\n"
    b"User-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
)
BODY = b'"hello"'

# The applications, made in the servers' processes ---------------------------------------------------------


def fastapi_bare() -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    return app


def fastapi_bide(**options: Any) -> Any:
    import bide

    app = fastapi_bare()
    app.add_middleware(bide.asgi.RateLimit, LIMIT, **options)
    return app


def fastapi_bide_silent() -> Any:
    return fastapi_bide(fields=())


FIXED = {
    "x-ratelimit-limit": "60000000",
    "x-ratelimit-bucket": "default",
    "ratelimit-policy": '"default";q=60000000;w=1',
    "x-ratelimit-remaining": "59999999",
    "x-ratelimit-reset": "1893456000",
    "ratelimit": '"default";r=59999999;t=1',
}
"""Fields as bide sends them; where they never change, writing them is all that they cost."""


def fastapi_fixed() -> Any:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    fields = [(name.encode(), value.encode()) for name, value in FIXED.items()]

    class Fixed:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def send_fixed(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"].extend(fields)
                await send(message)

            await self.app(scope, receive, send_fixed)

    app = fastapi_bare()
    app.add_middleware(Fixed)
    return app


def fastapi_slowapi() -> Any:
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware

    app = fastapi_bare()
    app.state.limiter = Limiter(
        key_func=lambda request: request.headers["authorization"],
        default_limits=[LIMIT],
        headers_enabled=True,
    )
    app.add_middleware(SlowAPIASGIMiddleware)
    return app


def flask_bare() -> Any:
    from flask import Flask, Response

    app = Flask(__name__)

    @app.get("/")
    def hello() -> Any:
        return Response(BODY, mimetype="application/json")

    return app


def flask_bide(**options: Any) -> Any:
    import bide

    app = flask_bare()
    app.wsgi_app = bide.wsgi.RateLimit(app.wsgi_app, LIMIT, **options)
    return app


def flask_bide_silent() -> Any:
    return flask_bide(fields=())


def flask_fixed() -> Any:
    fields = list(FIXED.items())
    app = flask_bare()
    within = app.wsgi_app

    def fixed(environ: Any, start_response: Any) -> Any:
        return within(environ, lambda status, headers, *rest: start_response(status, headers + fields, *rest))

    app.wsgi_app = fixed
    return app


def flask_flask_limiter() -> Any:
    from flask import request
    from flask_limiter import Limiter

    app = flask_bare()
    Limiter(
        lambda: request.headers["authorization"],
        app=app,
        default_limits=[LIMIT],
        headers_enabled=True,
        storage_uri="memory://",
    )
    return app


class Variant(NamedTuple):
    label: str
    app: str
    field: bytes
    """What must stand in each response; ``b""``: nothing."""


ASGI = (
    Variant("bare", "fastapi_bare", b""),
    Variant("bare, once more", "fastapi_bare", b""),
    Variant("six fields that never change", "fastapi_fixed", b"x-ratelimit-remaining: "),
    Variant("bide", "fastapi_bide", b"x-ratelimit-remaining: "),
    Variant("bide, without fields", "fastapi_bide_silent", b""),
    Variant("slowapi", "fastapi_slowapi", b"x-ratelimit-remaining: "),
)
WSGI = (
    Variant("bare", "flask_bare", b""),
    Variant("bare, once more", "flask_bare", b""),
    Variant("six fields that never change", "flask_fixed", b"x-ratelimit-remaining: "),
    Variant("bide", "flask_bide", b"x-ratelimit-remaining: "),
    Variant("bide, without fields", "flask_bide_silent", b""),
    Variant("flask-limiter", "flask_flask_limiter", b"x-ratelimit-remaining: "),
)
UVICORN = "-m uvicorn --factory {module}:{app} --port {port} --log-level error --no-access-log"
GRANIAN = "-m granian --factory {module}:{app} --port {port} --log-level error --workers 1 --interface {kind}"
GROUPS = {
    "FastAPI, uvicorn": (UVICORN, "asgi", ASGI),
    "FastAPI, granian": (GRANIAN, "asgi", ASGI),
    "Flask, granian": (GRANIAN, "wsgi", WSGI),
}


# Asking ----------------------------------------------------------------------------------------------------


class Server:
    """A server in a process of its own, and the connections to it."""

    def __init__(self, command: str, kind: str, variant: Variant, under: tuple[str, ...] = ()) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = command.format(module=HERE.stem, app=variant.app, port=port, kind=kind).split()
        # They find this file's applications in the folder that they run in.
        self.process = subprocess.Popen(
            [*under, sys.executable, *words], cwd=HERE.parent, stderr=subprocess.DEVNULL if under else None
        )
        self.port = port
        self.field = variant.field
        self.processes = [self.process.pid]

    def warm_up(self, requests: int = WARM_UP) -> None:
        """Waits until it listens, and asks until everything that is made once is made."""
        while True:
            assert self.process.poll() is None, "the server has stopped"
            with contextlib.suppress(ConnectionRefusedError), self.connected() as connections:
                self.exchange(connections, requests)
                break
            time.sleep(0.05)  # a server gives no other sign that it listens
        self.processes = tree(self.process.pid)  # some servers run their worker in a child

    @contextlib.contextmanager
    def connected(self) -> Iterator[list[socket.socket]]:
        """New connections, since a server closes those that are idle while others are asked."""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=30))
                for _ in range(CONNECTIONS)
            ]

    def processor_seconds(self) -> float:
        return sum(time.clock_gettime(processor_clock(pid)) for pid in self.processes)

    def exchange(self, connections: list[socket.socket], requests: int) -> None:
        for _ in range(requests // len(connections)):
            for connection in connections:
                connection.sendall(REQUEST)
            for connection in connections:
                answer = b""
                while not answer.endswith(BODY):
                    piece = connection.recv(65_536)
                    assert piece, "the server has closed a connection"
                    answer += piece
                assert answer.startswith(b"HTTP/1.1 200 "), answer
                assert self.field in answer.lower(), answer

    def ask(self, requests: int) -> tuple[float, float]:
        """Requests per second by the clock, and by the processor time that they took."""
        with self.connected() as connections:
            self.exchange(connections, len(connections))
            used, began = self.processor_seconds(), time.perf_counter()
            self.exchange(connections, requests)
            seconds = time.perf_counter() - began
            return requests / seconds, requests / (self.processor_seconds() - used)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def processor_clock(pid: int) -> int:
    """The clock of a process' processor time, as Linux' ``clock_getcpuclockid`` makes it."""
    return (~pid << 3) | 2


def tree(pid: int) -> list[int]:
    """A process and those below it."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread may end at any moment
            for child in (thread / "children").read_text().split():
                found += tree(int(child))
    return found


@contextlib.contextmanager
def running(command: str, kind: str, variants: tuple[Variant, ...]) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        servers = []
        for variant in variants:
            servers.append(Server(command, kind, variant))
            stack.callback(servers[-1].stop)
        for server in servers:
            server.warm_up()
        yield servers


class Row(NamedTuple):
    group: str
    variant: str
    by_clock: float
    """Requests per second, the median of the rounds."""
    by_processor: float
    """Requests per second of processor time, the median of the rounds."""
    rate: list[float]
    """Its rate by processor divided by the bare application's: lower quartile, median, upper quartile."""
    rate_by_clock: list[float]


def measure(group: str, rounds: int) -> list[Row]:
    command, kind, variants = GROUPS[group]
    rates: list[list[tuple[float, float]]] = [[] for _ in variants]
    for _ in range(LAUNCHES):
        with running(command, kind, variants) as servers:
            for turn in range(rounds // LAUNCHES):
                # Everybody is first equally often: the first one after a pause finds cold caches.
                for place in range(len(servers)):
                    index = (turn + place) % len(servers)
                    rates[index].append(servers[index].ask(BURST))

    def quartiles(index: int, which: int) -> list[float]:
        pairs = zip(rates[index], rates[0], strict=True)
        return statistics.quantiles([own[which] / bare[which] for own, bare in pairs], n=4)

    return [
        Row(
            group,
            variant.label,
            statistics.median(rate[0] for rate in rates[index]),
            statistics.median(rate[1] for rate in rates[index]),
            quartiles(index, 1),
            quartiles(index, 0),
        )
        for index, variant in enumerate(variants)
    ]


COUNTED = 200
"""Requests whose instructions are counted."""


def instructions(variant: Variant, command: str, kind: str) -> float:
    """Instructions of one request, as callgrind counts them."""
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ("valgrind", "--tool=callgrind", "--trace-children=yes", "--instr-atstart=no")
        server = Server(command, kind, variant, (*valgrind, f"--callgrind-out-file={folder}/%p"))
        try:
            server.warm_up(60)

            def control(*words: str) -> None:
                for pid in server.processes:
                    subprocess.run(["callgrind_control", *words, str(pid)], capture_output=True, check=False)

            with server.connected() as connections:
                control("-i", "on")
                server.exchange(connections, len(connections))
                control("-z")
                server.exchange(connections, COUNTED)
                control("-d")
                control("-i", "off")
        finally:
            server.stop()
        texts = [path.read_text() for path in Path(folder).glob("*.1")]
    return sum(int(text.rpartition("\ntotals: ")[2].split()[0]) for text in texts) / COUNTED


def count(group: str) -> None:
    command, kind, variants = GROUPS[group]
    bare = 0.0
    for variant in variants:
        each = instructions(variant, command, kind)
        bare = bare or each
        print(f"| {group}: {variant.label} | {each:,.0f} | {(each / bare - 1) * 100:+.1f} % |", flush=True)


# Telling ---------------------------------------------------------------------------------------------------


def percent(rate: float) -> str:
    return f"{(1 - rate) * 100:+.1f} %"


def table(rows: list[Row]) -> str:
    lines = [
        "| | requests/s | requests per processor second | cost: median (quartiles) | cost by the clock |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        low, median, high = row.rate
        cost = "-" if row.variant == "bare" else f"{percent(median)} ({percent(high)} .. {percent(low)})"
        clock = "-" if row.variant == "bare" else percent(row.rate_by_clock[1])
        missed = " **missed**" if row.variant == "bide" and median < AIM else ""
        lines.append(
            f"| {row.group}: {row.variant} | {row.by_clock:,.0f} | {row.by_processor:,.0f}"
            f" | {cost}{missed} | {clock} |"
        )
    return "\n".join(lines)


def versions() -> str:
    names = (
        "bide",
        "fastapi",
        "starlette",
        "uvicorn",
        "granian",
        "flask",
        "slowapi",
        "flask-limiter",
        "limits",
    )
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="bursts of each server")
    parser.add_argument(
        "--group", choices=GROUPS, action="append", help="default: all; then nothing is written"
    )
    parser.add_argument(
        "--instructions", action="store_true", help="count instead of measuring; needs valgrind"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
    if options.instructions:
        for group in options.group or GROUPS:
            count(group)
        return
    rows = [row for group in options.group or GROUPS for row in measure(group, options.rounds)]
    print(table(rows))
    if options.group:
        return
    where = (
        f"Measured on {date.today()}: {os.cpu_count()} cores, {platform.system()}; "
        f"CPython {platform.python_version()}; {versions()}. {options.rounds} rounds of {BURST} requests."
    )
    RESULTS.write_text(json.dumps({"where": where, "rows": [row._asdict() for row in rows]}, indent=1) + "\n")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{where}\n\n{table(rows)}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
