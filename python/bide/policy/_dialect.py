"""How one API writes its limits: a dialect is data, and these are its words.

Rules of this file: values and their checks, no reading of replies. A name of a header is in lower case; one
"*" in it stands for any characters, which then name the window. A path such as ``error.details.*.delay``
leads into JSON, "*" standing for every member. All of it can be written in TOML, one key for one field.
"""

from __future__ import annotations

from bide.policy._fields import NUMBERS, TIME_READERS
from bide.policy._types import Reason, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

__all__ = ["Dialect", "Field", "Override", "Refill", "StructuredWindows", "When", "Window"]

COMBINE = ("first", "greatest", "window_first")
CLOCKS = ("date", "local")


def check_header(name: str) -> None:
    """Names are compared in lower case, so they must be written so."""
    if name != name.lower() or name.count("*") > 1:
        raise ValueError(
            f"a header is written in lower case, with one * at most: {name.lower()!r}, got {name!r}"
        )


def check_times(field: Field) -> None:
    """A field that holds a time has readers of times."""
    if not field.read:
        raise ValueError(f"the unit of {field.place} must be declared: read = {', '.join(TIME_READERS)}")
    for reader in field.read:
        if reader not in TIME_READERS:
            raise ValueError(f"{reader!r} reads no time; these do: {', '.join(TIME_READERS)}")


class Field(Record):
    """Where a value stands in a reply, and how it is read.

    Exactly one of ``header``, ``body`` and ``text`` says where.

    Attributes:
        header: name of a response header, in lower case.
        body: path into the JSON body.
        text: words of the body directly after which the value stands.
        read: names of the readers to try, in order; empty takes the usual one of the place.
        json: path into the header's value, which is JSON.
        parameter: key of a ``key=value`` part of the value.
        separator: what separates the columns of the value; "" for one that is whole.
        column: which column, from 0.
    """

    __slots__ = ()
    header: str = ""
    read: tuple[str, ...] = ()
    body: str = ""
    text: str = ""
    json: str = ""
    parameter: str = ""
    separator: str = ""
    column: int = 0

    def _check(self) -> Self:
        if sum(map(bool, (self.header, self.body, self.text))) != 1:
            raise ValueError("a Field stands in one place: give one of header, body, text")
        check_header(self.header)
        known = (*NUMBERS, *TIME_READERS, "text")
        for reader in self.read:
            if reader not in known:
                raise ValueError(f"no reader {reader!r}; there are {', '.join(known)}")
        return self

    @property
    def place(self) -> str:
        """What ``Decision.source`` names."""
        return self.header or "body"


class Window(Record):
    """One rate-limit window, or several that stand in the same fields.

    Several windows in one comma list are paired by position; with ``key_column`` by the value of that column.

    Attributes:
        name: what to call it where the server does not.
        limit: the allowed count: a Field, or a constant.
        remaining: what is left of it.
        used: what is used of it; with ``limit`` it gives what is left.
        reset: when the window ends; its ``read`` names the unit.
        length: length of the window in seconds: a Field, or a constant.
        bucket: the server's name for the counter.
        align: the window ends at the next multiple of so many seconds, UTC; for an API that states no reset.
        refill: units that come back each second, for a leaky bucket: a Field, or a constant. A used-up one
            has a unit again after ``1 / refill`` seconds.
        key_column: the column that names the window in every list of this window's fields; None: by position.
        exhausted: the presence of these fields says that the window is used up.
        fresh: say nothing in a reply from a cache (``Age`` above 0).
        structured: a field that is no structured field List (RFC 9651) is ignored whole.
    """

    __slots__ = ()
    limit: Field | float | None = None
    remaining: Field | None = None
    reset: Field | None = None
    used: Field | None = None
    length: Field | float | None = None
    bucket: Field | None = None
    name: str = ""
    align: float | None = None
    refill: Field | float | None = None
    key_column: int | None = None
    exhausted: bool = False
    fresh: bool = False
    structured: bool = False

    def _check(self) -> Self:
        if not self.fields():
            raise ValueError("a Window reads at least one field")
        if self.reset is not None and not self.reset.read:
            raise ValueError(f"the unit of a reset must be declared: read = one of {', '.join(TIME_READERS)}")
        for field in (self.reset, self.length):
            if isinstance(field, Field):
                check_times(field)
        return self

    def fields(self) -> tuple[Field, ...]:
        """Its fields that are read from a reply."""
        fields = (self.limit, self.remaining, self.reset, self.used, self.length, self.bucket, self.refill)
        return tuple(field for field in fields if isinstance(field, Field))


class StructuredWindows(Record):
    """The ``RateLimit`` field of the IETF drafts, by its shape: a Dictionary (-07) or a List (-08 and later).

    Malformed fields and, in a reply from a cache, all of them are ignored; the policy field only informs.

    Attributes:
        header: name of the field, in lower case.
        policy: name of the policy field, in lower case.

    Source: draft-ietf-httpapi-ratelimit-headers, revisions 07 to 11.
    """

    __slots__ = ()
    header: str = "ratelimit"
    policy: str = "ratelimit-policy"

    def _check(self) -> Self:
        check_header(self.header)
        check_header(self.policy)
        return self


class Refill(Record):
    """A wait computed from a leaky bucket: ``(needed - available) / rate`` seconds.

    Attributes:
        available: units in the bucket now.
        rate: units that come back each second: a Field, or a constant.
        needed: units that the request needs: a Field, or a constant.
    """

    __slots__ = ()
    available: Field
    rate: Field | float
    needed: Field | float = 1.0

    def fields(self) -> tuple[Field, ...]:
        """Its fields that are read from a reply."""
        return tuple(f for f in (self.available, self.rate, self.needed) if isinstance(f, Field))


class When(Record):
    """A condition on a reply: everything that is given must hold.

    Attributes:
        status: one of these; empty for any.
        header: this header is present and not blank; with ``values``, it is one of them (in any letter case).
        body: this path leads to something in the JSON body that is not null, false, 0 or empty; with
            ``values``, to one of them.
        values: what ``header`` (in lower case) or ``body`` should be; a "*" in one stands for any characters.
        text: one of these stands in the body.
        used_up: a window of the reply is used up.
        reason: what it means, where it makes a refusal of a status that is none.
    """

    __slots__ = ()
    status: tuple[int, ...] = ()
    header: str = ""
    body: str = ""
    values: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    used_up: bool = False
    reason: Reason = Reason.RATE_LIMITED

    def _check(self) -> Self:
        check_header(self.header)
        if not (self.status or self.header or self.body or self.text or self.used_up):
            raise ValueError("a condition needs one of status, header, body, text, used_up")
        if self.values and bool(self.header) == bool(self.body):
            raise ValueError("values are those of one header or one body path")
        return self

    @property
    def plain(self) -> bool:
        """It asks for the status alone."""
        return not (self.header or self.body or self.text or self.used_up)


class Override(Record):
    """A header by which the server itself says whether to repeat, whatever the status.

    Attributes:
        header: its name, in lower case.
        retry: values, in lower case, that say "repeat".
        fail: values, in lower case, that say "do not repeat".
    """

    __slots__ = ()
    header: str
    retry: tuple[str, ...] = ("true",)
    fail: tuple[str, ...] = ("false",)

    def _check(self) -> Self:
        check_header(self.header)
        return self


class Dialect(Record):
    """How one API writes its limits.

    Attributes:
        windows: its rate-limit windows.
        waits: explicit waits, in order of trust.
        combine: which of an explicit wait and the reset of a used-up window counts: "first" (the explicit
            one), "greatest", "window_first".
        refused_when: which replies are refusals: the server did not act, and says "later". One that holds is
            enough.
        final: replies that are not to be repeated, whatever else they say.
        override: headers that say it outright.
        wait_on_success: an explicit wait on a success is a wait, too.
        clock: what Unix times are measured against: "date" (the reply's ``Date``, where there is one),
            "local".
        margin: seconds added to every stated wait, for times that the server truncates.
    """

    __slots__ = ()
    windows: tuple[Window | StructuredWindows, ...] = ()
    waits: tuple[Field | Refill, ...] = (Field("retry-after", ("whole_seconds", "http_date")),)
    combine: str = "first"
    refused_when: tuple[When, ...] = (When(status=(429,)),)
    final: tuple[When, ...] = ()
    override: tuple[Override, ...] = ()
    wait_on_success: bool = False
    clock: str = "date"
    margin: float = 0.0

    def _check(self) -> Self:
        for wait in self.waits:
            if isinstance(wait, Field):
                check_times(wait)
        if self.combine not in COMBINE:
            raise ValueError(f"combine is one of {', '.join(COMBINE)}; got {self.combine!r}")
        if self.clock not in CLOCKS:
            raise ValueError(f"clock is one of {', '.join(CLOCKS)}; got {self.clock!r}")
        if not 0.0 <= self.margin <= 60.0:
            raise ValueError(f"margin is 0 to 60 seconds, got {self.margin!r}")
        return self
