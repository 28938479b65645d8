"""Policies: a dialect, a status table and the numbers of patience, as one frozen value; ``HTTP`` and
``CLEVER``.

Rules of this file: data and its checks. A policy is compiled once, when it is made, into the tables that the
engine walks; the engine reads nothing else of it.
"""

from __future__ import annotations

from collections import _tuplegetter  # type: ignore[attr-defined]  # what namedtuple makes its fields of
from math import inf

from bide.policy import _status
from bide.policy._backoff import Backoff
from bide.policy._dialect import Dialect, Field, Refill, StructuredWindows, When, Window
from bide.policy._types import Action, Decision, Reason, Record, make
from bide.policy._wait import ExplicitWait
from bide.policy._windows import Reader, StructuredReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from bide.policy._backoff import Steps
    from bide.policy._dialect import Override
    from bide.policy._status import Rule

__all__ = ["CLEVER", "HTTP", "Policy"]

Ruled = tuple[Action, Reason, str, bool, Decision]
"""A compiled row of the status table: action, reason, advice, not_acted, and the decision when that is
all."""


class Program:
    """A compiled policy: what the engine walks. A function of the policy's fields, and never compared."""

    __slots__ = (
        "backoff", "by_date", "combine", "conditional", "deadline", "default_wait", "final", "margin",
        "max_wait", "mute", "override", "patterns", "reads_bodies", "refused_statuses", "refused_when", "retries",
        "rules", "spelled", "telling", "unconditional", "wait_on_success", "waits", "wanted", "wanted_bytes",
        "wants_any_body", "wants_body_of", "wants_failures_body", "windows",
    )  # fmt: skip

    def __init__(self, policy: Policy) -> None:
        dialect = policy.dialect
        self.windows: tuple[Reader | StructuredReader, ...] = tuple(
            Reader(window, policy.window) if isinstance(window, Window) else StructuredReader(window)
            for window in dialect.windows
        )
        self.waits: tuple[ExplicitWait, ...] = tuple(map(ExplicitWait, dialect.waits))
        self.refused_statuses: frozenset[int] = frozenset(
            s for when in dialect.refused_when if when.plain for s in when.status
        )
        self.refused_when: tuple[When, ...] = tuple(when for when in dialect.refused_when if not when.plain)
        self.final: tuple[When, ...] = dialect.final
        self.override: tuple[Override, ...] = dialect.override
        # Statuses for which more than the status must be asked, if not for any.
        asked = (*self.refused_when, *self.final)
        self.conditional: frozenset[int] = frozenset(status for when in asked for status in when.status)
        self.unconditional: bool = not self.override and all(when.status for when in asked)
        self.wait_on_success: bool = dialect.wait_on_success
        self.combine: str = dialect.combine
        self.margin: float = float(dialect.margin)
        self.by_date: bool = dialect.clock == "date"
        self.default_wait: float | None = policy.default_wait
        self.retries: int = policy.retries
        self.max_wait: float = policy.max_wait
        self.deadline: float | None = policy.deadline
        self.backoff: Steps = policy.backoff.steps()
        conditions = (*dialect.refused_when, *dialect.final)
        fields = [wait for wait in dialect.waits if isinstance(wait, Field)]
        for part in (*dialect.windows, *dialect.waits):
            if isinstance(part, (Field, StructuredWindows)):
                continue
            fields += part.fields()
        # Whose bodies are read: a stated window counts on every reply, a stated wait where one may be needed.
        asking = [when for when in conditions if when.body or when.text]
        parts = [part for part in (*dialect.windows, *dialect.waits) if _is_in_body(part)]
        self.wants_body_of: frozenset[int] = frozenset(status for when in asking for status in when.status)
        self.wants_any_body: bool = any(not when.status for when in asking) or any(
            isinstance(part, Window) or dialect.wait_on_success for part in parts
        )
        self.wants_failures_body: bool = bool(parts)
        self.reads_bodies: bool = bool(asking or parts)
        names = {"date", "age"} | {field.header for field in fields if field.header}
        for reader in self.windows:
            names |= reader.names
        names |= {when.header for when in conditions if when.header}
        names |= {override.header for override in dialect.override}
        self.patterns: tuple[tuple[str, ...], ...] = tuple(
            tuple(name.split("*")) for name in names if "*" in name
        )
        self.wanted: dict[str, str] = {name: name for name in names if "*" not in name}
        self.wanted_bytes: dict[bytes, str] = {name.encode(): name for name in self.wanted}
        self.telling: frozenset[str] = frozenset(self.wanted) - {"date", "age"}
        # Spellings of names that were met: those that tell nothing, and what each one spells.
        self.mute: set[str] = set()
        self.spelled: dict[str, str] = {}
        self.rules: Ruling = Ruling(policy.statuses)

    def reads_body(self, status: int) -> bool:
        """Whether a rule looks into the body of a response with this status."""
        return (
            self.wants_any_body
            or status in self.wants_body_of
            or (self.wants_failures_body and not 200 <= status < 300)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program)

    def __hash__(self) -> int:
        return 0


def _is_in_body(part: Window | StructuredWindows | Field | Refill) -> bool:
    if isinstance(part, StructuredWindows):
        return False
    fields = (part,) if isinstance(part, Field) else part.fields()
    return any(field.body or field.text for field in fields)


class Ruling(dict[int, Ruled]):
    """Status to its compiled row, total over every int."""

    __slots__ = ()

    def __init__(self, rows: tuple[Rule, ...]) -> None:
        for index, ruled in enumerate(CLASSES, 1):
            self.update(dict.fromkeys(range(100 * index, 100 * index + 100), ruled))
        self.update((rule.status, _ruled(rule)) for rule in (*_status.GENERAL, *rows))

    def __missing__(self, status: int) -> Ruled:
        return self[500]


def _ruled(rule: Rule) -> Ruled:
    decision = Decision(rule.action, reason=rule.reason, advice=rule.advice)
    return rule.action, rule.reason, rule.advice, rule.not_acted, decision


CLASSES = tuple(map(_ruled, _status.CLASSES))


class Policy(Record):
    """How to treat one API: what it says (``dialect``, ``statuses``) and how patient to be with it.

    Attributes:
        name: what to call it.
        dialect: how the API writes its limits.
        statuses: rows of the status table that differ from RFC 9110's.
        retries: how many times a failed request is repeated, 0 or more.
        backoff: the wait where the API states none.
        max_wait: longest wait in seconds that is worth holding on for; a longer one is DEFER. None or inf:
            any.
        default_wait: seconds to wait after a refusal that states no time; None takes the backoff.
        resume_after: seconds after which to resume work that was deferred without a stated time.
        deadline: seconds from the first try within which every try must begin; None for no bound.
        limits: what the vendor publishes, such as ``"1200/minute"``; an adapter paces by it.
        window: length of the vendor's window in seconds, where there is one; bounds what is believed.
        assume_method: the method of a request that nothing else tells; "" counts as not idempotent.
        hosts: the API's host names; a leading ``*.`` stands for any subdomain.
        source: where the vendor says so.
        notes: what is not known, and what is special.
        unconfirmed: fields or values that no source confirms; they are not read.

    Raises:
        TypeError, ValueError: at construction, for a value of the wrong type or out of range.

    >>> from bide.policy import HTTP
    >>> HTTP.replace(retries=3, max_wait=60.0).retries
    3
    """

    __slots__ = ()
    name: str
    dialect: Dialect = Dialect()
    statuses: tuple[Rule, ...] = ()
    retries: int = 4
    backoff: Backoff = Backoff()
    max_wait: float = 120.0
    default_wait: float | None = None
    resume_after: float = 300.0
    deadline: float | None = None
    limits: tuple[str, ...] = ()
    window: float | None = None
    assume_method: str = ""
    hosts: tuple[str, ...] = ()
    source: str = ""
    notes: str = ""
    unconfirmed: tuple[str, ...] = ()

    if TYPE_CHECKING:

        @property
        def program(self) -> Program:
            """The compiled policy, for the engine."""
            ...

    def reads_body(self, status: int) -> bool:
        """Whether a decision may depend on the body of a response with this status.

        Where it may not, ``decide`` looks at no body. Where it may, ``decide`` has to be given it; the adapters
        do so.

        Args:
            status: a response's status code.

        >>> HTTP.reads_body(429)
        False
        """
        return self.program.reads_body(status)

    def _check(self) -> Self:
        kinds: tuple[tuple[str, type | tuple[type, ...]], ...] = (
            ("name", str), ("dialect", Dialect), ("statuses", tuple), ("retries", int), ("backoff", Backoff),
            ("max_wait", (int, float, type(None))), ("default_wait", (int, float, type(None))),
            ("resume_after", (int, float)), ("deadline", (int, float, type(None))), ("limits", tuple),
            ("window", (int, float, type(None))), ("assume_method", str), ("hosts", tuple), ("source", str),
            ("notes", str), ("unconfirmed", tuple),
        )  # fmt: skip
        for name, kind in kinds:
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
                raise TypeError(f"Policy.{name} is {names}, got {value!r}")
        if self.retries < 0:
            raise ValueError(f"Policy.retries is 0 or more, got {self.retries!r}")
        for name in ("max_wait", "default_wait", "resume_after", "deadline", "window"):
            value = getattr(self, name)
            if value is not None and not (0.0 <= value <= (inf if name == "max_wait" else 366 * 86400.0)):
                raise ValueError(f"Policy.{name} is 0 seconds to 366 days, got {value!r}")
        if self.max_wait is None:
            return self.replace(max_wait=inf)
        return make(type(self), (*self.__getnewargs__(), Program(self)))


Policy.program = _tuplegetter(len(Policy._fields), "The compiled policy, for the engine.")  # type: ignore[method-assign]  # a field behind the fields, which no caller gives


def _trio(prefix: str, *, structured: bool = False) -> Window:
    return Window(
        limit=Field(f"{prefix}limit"),
        remaining=Field(f"{prefix}remaining"),
        reset=Field(f"{prefix}reset", ("auto",)),
        structured=structured,
    )


HTTP = Policy(
    name="http",
    dialect=Dialect(
        windows=(
            StructuredWindows(),
            _trio("ratelimit-", structured=True),
            _trio("x-ratelimit-"),
            _trio("x-rate-limit-"),
        ),
        waits=(Field("retry-after", ("whole_seconds", "http_date", "seconds")),),
        refused_when=(When(status=(429, 503)), When(status=(413,), header="retry-after")),
    ),
    source="https://www.rfc-editor.org/rfc/rfc9110, https://www.rfc-editor.org/rfc/rfc6585",
    notes="The unit of a reset is told by its size: a delay in milliseconds cannot be told from seconds.",
)
"""Any HTTP server: RFC 9110, RFC 6585, the RateLimit fields of the IETF drafts, and the common trios."""

CLEVER = Policy(
    name="clever",
    dialect=Dialect(
        windows=(
            Window(
                limit=Field("x-ratelimit-limit"),
                remaining=Field("x-ratelimit-remaining"),
                reset=Field("x-ratelimit-reset", ("unix_seconds",)),
                bucket=Field("x-ratelimit-bucket"),
                length=60.0,
            ),
        ),
    ),
    statuses=_status.CLEVER,
    retries=5,
    backoff=Backoff(base=1.0, cap=16.0, jitter="spread"),
    default_wait=60.0,
    resume_after=900.0,
    limits=("1200/minute",),
    window=60.0,
    assume_method="GET",
    hosts=("api.clever.com",),
    source="https://dev.clever.com/docs/rate-limits",
    notes="Retry-After is not mentioned by the vendor; it is read all the same.",
)
"""The Clever API: 1200 requests a minute for each bearer token, in fixed windows."""
