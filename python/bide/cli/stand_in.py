"""The stand-in Clever service: what it answers, without a socket.

It behaves as Clever documents its API (https://dev.clever.com/docs/status-codes,
https://dev.clever.com/docs/rate-limits, https://dev.clever.com/docs/paging-and-limits):

    GET /v3.0/students?limit=100&starting_after=ID    a page of the students of the token's district
    GET /v3.0/students/ID                             one of them
    GET /-/counts                                     what was answered, by status, district and window
    GET, PUT /-/script                                the misbehaviour that is played, and a change to it

Rules: :class:`Service` is handed every request with the time and returns an :class:`Answer`; the seed, the
requests and the times determine all answers. A request is looked at in this order: an outage answers for
everything; then the token (401); then the window (429, counted but nothing else); then a drawn fault; then
method (501), path (404) and parameters (400, 413). No count shows a token.
"""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from random import Random
from urllib.parse import parse_qsl, urlsplit

__all__ = ["FAULTS", "MAX_PAGE", "Answer", "Script", "Service", "parse_faults"]

DEFAULT_PAGE = 100
MAX_PAGE = 10_000
MAX_WINDOWS = 1_000
"""Windows whose counts are kept for each district."""

FAULTS = ("500", "502", "503", "drop", "slow")
"""What can be drawn for a request: an error status, a connection closed without an answer, a late answer."""

_JSON = (("Content-Type", "application/json"),)
_FIRST_NAMES = ("Ada", "Alan", "Barbara", "Edsger", "Emmy", "Grace", "Kurt", "Mary", "Niels", "Srinivasa")
_LAST_NAMES = (
    "Dijkstra",
    "Gödel",
    "Hopper",
    "Lamport",
    "Liskov",
    "Lovelace",
    "Noether",
    "Ramanujan",
    "Turing",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: ``status`` 0 closes the connection without a word; ``delay_seconds`` come before it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay_seconds: float = 0.0


def parse_faults(text: str) -> dict[str, float]:
    """Reads ``"500=1,503=2,drop=0.5"``: for each fault, the percentage of the counted requests that get it.

    Raises:
        ValueError: a fault that is not in :data:`FAULTS`, a percentage that is no number from 0 to 100, or
            more than 100 in all.

    >>> parse_faults("503=2,drop=0.5")
    {'503': 2.0, 'drop': 0.5}
    """
    faults: dict[str, float] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        kind, _, number = item.partition("=")
        try:
            percent = float(number)
        except ValueError:
            percent = math.nan
        if kind not in FAULTS or not 0 <= percent <= 100:
            raise ValueError(
                f"{item!r} is no fault: write KIND=PERCENT with KIND one of {', '.join(FAULTS)}, "
                f"such as 503=2,drop=0.5"
            )
        faults[kind] = percent
    if sum(faults.values()) > 100:
        raise ValueError("the faults are more than 100 percent of the requests: write smaller percentages")
    return faults


@dataclass(frozen=True, slots=True)
class Script:
    """The misbehaviour that the service plays; a value, replaced as a whole.

    Attributes:
        faults: percentages, in the form that :func:`parse_faults` reads.
        slow_seconds: how late a ``slow`` answer is, 0 to 3600.
        clock_offset_seconds: by how much ``Date`` and ``X-RateLimit-Reset`` are ahead of the true time.
        outage_after: after so many further requests everything is answered 503; None: never.
        outage_seconds: how long the outage lasts; None: until the script is changed.
    """

    faults: str = ""
    slow_seconds: float = 1.0
    clock_offset_seconds: float = 0.0
    outage_after: int | None = None
    outage_seconds: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.faults, str):
            raise ValueError('faults is text such as "503=2,drop=0.5"')
        parse_faults(self.faults)
        _check_number("slow_seconds", self.slow_seconds, 0, 3600)
        _check_number("clock_offset_seconds", self.clock_offset_seconds, -1e9, 1e9)
        if self.outage_after is not None:
            if isinstance(self.outage_after, float):
                raise ValueError("outage_after is a whole number of requests, or null")
            _check_number("outage_after", self.outage_after, 0, 1e15)
        if self.outage_seconds is not None:
            _check_number("outage_seconds", self.outage_seconds, 0, 1e9)

    def changed(self, document: object) -> Script:
        """This script with the members of a JSON object in place of its own; ValueError for a wrong one."""
        names = [item.name for item in fields(self)]
        if not isinstance(document, dict) or not set(document) <= set(names):
            raise ValueError(f"a script is a JSON object of {', '.join(names)}")
        return replace(self, **document)


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} is a number from {least:g} to {most:g}, not {value!r}")


@dataclass(slots=True)
class _Window:
    number: int
    ends_at: float
    counted: int = 0
    answers: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _District:
    """One bearer token's students, its window and what it was answered."""

    number: int
    name: str
    bucket: str
    phase: float
    draws: Random
    window: _Window | None = None
    windows: deque[_Window] = field(default_factory=lambda: deque(maxlen=MAX_WINDOWS))
    answers: Counter[str] = field(default_factory=Counter)
    pages: set[int] = field(default_factory=set)
    repeated_pages: int = 0


class Service:
    """Clever's rules over generated students.

    Args:
        tokens: district name -> the bearer token that stands for it.
        limit: requests that each token may make in a window, 1 or more.
        window_seconds: length of the fixed window. Each district's windows have a phase of their own.
        students: how many students each district has.
        seed: determines phases and faults.
        script: the misbehaviour to begin with.

    >>> service = Service({"north": "secret"}, students=1)
    >>> service.answer("GET", "/v3.0/students", "Bearer secret", b"", 0.0).status
    200
    >>> service.answer("GET", "/v3.0/students", "Bearer wrong", b"", 0.0).status
    401
    """

    def __init__(
        self,
        tokens: Mapping[str, str],
        *,
        limit: int = 1200,
        window_seconds: float = 60.0,
        students: int = 1000,
        seed: int = 0,
        script: Script | None = None,
    ) -> None:
        self.limit = limit
        self.window_seconds = window_seconds
        self.students = students
        self._districts: dict[str, _District] = {}
        for number, (name, token) in enumerate(tokens.items(), start=1):
            draws = Random(f"{seed}/{name}")
            self._districts[token] = _District(
                number, name, f"{draws.getrandbits(24):06x}", draws.random() * window_seconds, draws
            )
        self._requests = 0
        self._answers: Counter[str] = Counter()
        self._set_script(script or Script())

    def _set_script(self, script: Script) -> None:
        self._script = script
        self._faults = parse_faults(script.faults)
        self._outage_from = None if script.outage_after is None else self._requests + script.outage_after
        self._outage_began_at: float | None = None

    @property
    def script(self) -> Script:
        """The misbehaviour that is being played."""
        return self._script

    def answer(self, method: str, target: str, authorization: str, body: bytes, now: float) -> Answer:
        """Answers one request.

        Args:
            method: such as ``"GET"``.
            target: path and query, as sent.
            authorization: the value of the ``Authorization`` field; "" when there was none.
            body: the request's body.
            now: the true Unix time; never less than in the call before.
        """
        if target.startswith("/-/"):
            return self._control(method, target, body)
        self._requests += 1
        scheme, _, token = authorization.partition(" ")
        district = self._districts.get(token.strip()) if scheme.lower() == "bearer" else None
        window = None
        if self._is_outage(now):
            answer = _json(503, {"error": "the service is down"})
        elif district is None:
            answer = _json(401, {"error": "the bearer token is missing or unknown"})
        else:
            window = self._window(district, now)
            answer = self._counted(district, window, method, target)
        self._count(answer, district, window)
        return answer

    def _is_outage(self, now: float) -> bool:
        if self._outage_from is None or self._requests <= self._outage_from:
            return False
        if self._outage_began_at is None:
            self._outage_began_at = now
        lasts = self._script.outage_seconds
        return lasts is None or now < self._outage_began_at + lasts

    def _window(self, district: _District, now: float) -> _Window:
        number = math.floor((now - district.phase) / self.window_seconds)
        if district.window is None or number > district.window.number:
            ends_at = (number + 1) * self.window_seconds + district.phase
            district.window = _Window(number, ends_at)
            district.windows.append(district.window)
        return district.window

    def _counted(self, district: _District, window: _Window, method: str, target: str) -> Answer:
        allowed = window.counted < self.limit
        window.counted += allowed
        answer = self._drawn(district, method, target) if allowed else Answer(429)
        headers = (
            ("X-RateLimit-Limit", str(self.limit)),
            ("X-RateLimit-Remaining", str(self.limit - window.counted)),
            ("X-RateLimit-Reset", str(math.ceil(window.ends_at + self._script.clock_offset_seconds))),
            ("X-RateLimit-Bucket", district.bucket),
        )
        return replace(answer, headers=answer.headers + headers)

    def _drawn(self, district: _District, method: str, target: str) -> Answer:
        draw = district.draws.random() * 100
        for kind, percent in self._faults.items():
            if draw < percent:
                if kind == "drop":
                    return Answer(0)
                if kind == "slow":
                    answer = self._resource(district, method, target)
                    return replace(answer, delay_seconds=self._script.slow_seconds)
                return _json(int(kind), {"error": "a fault of the script"})
            draw -= percent
        return self._resource(district, method, target)

    def _resource(self, district: _District, method: str, target: str) -> Answer:
        if method != "GET":
            return _json(501, {"error": "this service answers GET only"})
        parts = urlsplit(target)
        if parts.path == "/v3.0/students":
            return self._page(district, target, parse_qsl(parts.query, keep_blank_values=True))
        prefix, _, identifier = parts.path.rpartition("/")
        index = self._index(district, identifier) if prefix == "/v3.0/students" else None
        if index is None:
            return _json(404, {"error": "there is no such resource"})
        return Answer(200, _JSON, f'{{"data":{_student(district, index)}}}'.encode())

    def _page(self, district: _District, target: str, parameters: list[tuple[str, str]]) -> Answer:
        asked = dict(parameters)
        if len(asked) < len(parameters) or not asked.keys() <= {"limit", "starting_after"}:
            return _json(400, {"error": "the parameters are limit and starting_after, each once"})
        size_text = asked.get("limit", str(DEFAULT_PAGE))
        if not (size_text.isascii() and size_text.isdigit() and size_text.strip("0")):
            return _json(400, {"error": "limit is a whole number from 1 to 10000"})
        if len(size_text.lstrip("0")) > 5 or int(size_text) > MAX_PAGE:
            return _json(413, {"error": "limit is over 10000"})
        first = 0
        if "starting_after" in asked:
            previous = self._index(district, asked["starting_after"])
            if previous is None:
                return _json(400, {"error": "starting_after is not the id of a student"})
            first = previous + 1
        end = min(first + int(size_text), self.students)
        district.repeated_pages += first in district.pages
        district.pages.add(first)
        links = [{"rel": "self", "uri": target}]
        if end < self.students:
            following = (
                f"/v3.0/students?limit={int(size_text)}&starting_after={_identifier(district, end - 1)}"
            )
            links.append({"rel": "next", "uri": following})
        data = ",".join(
            f'{{"data":{_student(district, index)},"uri":"/v3.0/students/{_identifier(district, index)}"}}'
            for index in range(first, end)
        )
        return Answer(200, _JSON, f'{{"data":[{data}],"links":{json.dumps(links)}}}'.encode())

    def _index(self, district: _District, identifier: str) -> int | None:
        try:
            index = int(identifier[8:], 16)
        except ValueError:
            return None
        known = 0 <= index < self.students and identifier == _identifier(district, index)
        return index if known else None

    def _count(self, answer: Answer, district: _District | None, window: _Window | None) -> None:
        kind = str(answer.status or "dropped")
        counters = [self._answers]
        counters += [district.answers] if district else []
        counters += [window.answers] if window else []
        for counter in counters:
            counter[kind] += 1
            counter["slow"] += answer.delay_seconds > 0

    def _control(self, method: str, target: str, body: bytes) -> Answer:
        if (method, target) == ("GET", "/-/counts"):
            return _json(200, self.counts())
        if (method, target) == ("GET", "/-/script"):
            return _json(200, _members(self._script))
        if (method, target) == ("PUT", "/-/script"):
            try:
                self._set_script(self._script.changed(json.loads(body)))
            except (ValueError, RecursionError) as mistake:
                return _json(400, {"error": str(mistake)})
            return _json(200, _members(self._script))
        return _json(404, {"error": "there is GET /-/counts, GET /-/script and PUT /-/script"})

    def counts(self) -> dict[str, object]:
        """What was answered so far, as ``GET /-/counts`` shows it.

        ``answers`` counts by status, and ``dropped`` and ``slow``. In a window, ``counted`` requests used up
        the limit. ``repeated_pages`` are pages that were answered before.
        """
        return {
            "limit": self.limit,
            "window_seconds": self.window_seconds,
            "students": self.students,
            "requests": self._requests,
            "answers": _present(self._answers),
            "districts": {
                district.name: {
                    "bucket": district.bucket,
                    "answers": _present(district.answers),
                    "repeated_pages": district.repeated_pages,
                    "windows": [
                        {**_members(window), "answers": _present(window.answers)}
                        for window in district.windows
                    ],
                }
                for district in self._districts.values()
            },
        }


def _identifier(district: _District, index: int) -> str:
    return f"{district.number:08x}{index:016x}"


def _student(district: _District, index: int) -> str:
    """A student's JSON, written by hand: ``json.dumps`` would be most of what an answer costs."""
    first = _FIRST_NAMES[index % len(_FIRST_NAMES)]
    last = _LAST_NAMES[index // len(_FIRST_NAMES) % len(_LAST_NAMES)]
    return (
        f'{{"id":"{_identifier(district, index)}","district":"{district.name}",'
        f'"name":{{"first":"{first}","last":"{last}"}},'
        f'"student_number":"{100_000 + index}","grade":"{1 + index % 12}"}}'
    )


def _members(value: Script | _Window) -> dict[str, object]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _present(counter: Counter[str]) -> dict[str, int]:
    return {kind: count for kind, count in sorted(counter.items()) if count}


def _json(status: int, document: object) -> Answer:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, _JSON, body)
