"""The walk from a reply to a decision.

Theory of operation. One pass over the reply's headers collects the fields that the policy wants. Then, in
this order:

    1. ``override`` and ``final``: the server or the dialect says outright whether to repeat.
    2. Is it a refusal (``refused_when``)? Else the status table says PROCESS, RETRY or FAIL.
    3. The windows that the reply states become quotas; the explicit waits are read in the dialect's order.
    4. The wait: an explicit one, else the end of the used-up windows, else the policy's default for a
       refusal, else backoff. Margin and spread lengthen a stated wait, nothing shortens it.
    5. May the request be repeated? Is the wait within ``retries``, ``max_wait`` and ``deadline``? If not:
       DEFER.

Rules of this file: no vendor, no clock, no chance: ``now`` and ``draw`` are arguments, read only where a rule
needs them when they are not given. No reply raises; a caller's mistake does. ``explain`` is this walk with a
recorder.
"""

from __future__ import annotations

import os
from _random import Random
from time import time

from bide.policy._explain import Recorder
from bide.policy._headers import NOTHING, collect
from bide.policy._policy import HTTP, Policy
from bide.policy._reply import STATUS_BY_CLASS, Reply, check_method, method_of, sent_idempotency_key, unpack
from bide.policy._source import Source, follow, json_text
from bide.policy._types import Action, Decision, Failure, Quota, Reason, make
from bide.policy._wait import combine, governing, used_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from bide.policy._dialect import When
    from bide.policy._explain import Explanation
    from bide.policy._policy import Program
    from bide.policy._wait import Stated

__all__ = ["decide", "explain"]

CONNECT = Failure.CONNECT
REDIRECT = Reason.REDIRECT
ONLY_CLOCK = frozenset({"date", "age"})
NOT_ACTED = range(100, 500)
"""Statuses of a refusal that say that the server surely did not act; those that are none count as 500."""
PROCESS, RETRY, FAIL, DEFER = Action.PROCESS, Action.RETRY, Action.FAIL, Action.DEFER

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
"""RFC 9110 section 9.2.2, and QUERY."""

METHODS = IDEMPOTENT | {"POST", "PATCH"}
"""Methods that need no look at their letters."""

SPREAD = 0.25
SPREAD_SECONDS = 2.0
FULLY_SPREAD = SPREAD_SECONDS / SPREAD
"""A stated wait is lengthened by up to this share of it, and by no more than so many seconds: clients that
were refused in one window do not return in one instant."""

FAILURES = {
    Failure.CONNECT: (
        Reason.CONNECT_FAILED,
        "No connection was made: check the host's name and the network, then wait and retry.",
    ),
    Failure.TIMEOUT: (
        Reason.TIMED_OUT,
        "No answer came in time: wait and retry; if it goes on, allow more time.",
    ),
    Failure.PROTOCOL: (
        Reason.PROTOCOL_ERROR,
        "The connection broke before a whole answer came: wait and retry.",
    ),
}
"""What a failure without a response means."""

REFUSED = "The API refuses this request for now: try again when its limit allows."
NO_REPEAT = "The server says not to repeat this request: change it, or contact the vendor."
REPEAT = "The server says to send this request again."
UNSAFE = (
    "The request is not idempotent and the server may have acted on it: "
    "repeat it only if that is safe, or send an Idempotency-Key."
)
UNKNOWN_METHOD = (
    "The request's method is not known, so it counts as not idempotent, and the server may have acted on it: "
    "give method=, or repeat it only if that is safe."
)
BODY_GONE = "It failed in passing, but its body cannot be sent again: make the request anew."


def decide(
    reply: object,
    policy: Policy = HTTP,
    *,
    attempt: int = 1,
    method: str | None = None,
    elapsed: float = 0.0,
    now: float | None = None,
    draw: float | None = None,
    body: object = None,
    idempotent: bool = False,
    repeatable: bool = True,
    _recorder: Recorder | None = None,
) -> Decision:
    """What to do with a reply.

    Args:
        reply: any client's response (an object with ``status_code``, ``status`` or ``code``, and
            ``headers``), a ``bide.Reply``, or a client's exception that says why there is no response.
        policy: how to treat this API.
        attempt: 1 for the first try of this request, whatever made the earlier ones fail.
        method: the request's method; None takes it from the reply's own request, else from the policy.
        elapsed: seconds since the first try began, 0.0 or more; compared with ``policy.deadline``.
        now: Unix time on the client's clock; None reads it, if it is needed.
        draw: a number in [0, 1) for jitter; None draws one, if it is needed.
        body: the response's body (bytes, str, or parsed JSON) for policies that look into it; never fetched.
        idempotent: the request may be repeated whatever its method: it carried an ``Idempotency-Key``.
        repeatable: False if the request's body cannot be sent again.

    Returns:
        The decision. With ``now`` and ``draw`` given it is a function of the arguments alone.

    Raises:
        TypeError, ValueError: a caller's mistake; says what to pass. No reply of a server raises.

    Source:
        RFC 9110 sections 9.2.2, 10.2.3 and 15; RFC 6585 section 4.

    >>> from bide.policy import CLEVER, Reply
    >>> reply = Reply(429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1394506274"})
    >>> decision = decide(reply, CLEVER, now=1394506244.0, draw=0.0)
    >>> decision.action, decision.wait, decision.source
    (<Action.RETRY: 'retry'>, 30.0, 'x-ratelimit-reset')
    """
    if (
        attempt.__class__ is not int
        or attempt < 1
        or not (elapsed.__class__ is float and 0.0 <= elapsed < 1e11)
        or not (now is None or (now.__class__ is float and 0.0 <= now < 1e11))
        or not (draw is None or (draw.__class__ is float and 0.0 <= draw < 1.0))
    ):
        _check_numbers(attempt, elapsed, now, draw)
    if method is not None and method not in METHODS:
        method = check_method(method)
    if policy.__class__ is not Policy:
        raise TypeError(
            f"policy is a bide.Policy such as bide.CLEVER, got {policy!r}; by name: bide.policies.load()"
        )
    program, recorder = policy.program, _recorder

    # What came back.
    headers: object
    failure: Failure | None = None
    status: Any = getattr(reply, STATUS_BY_CLASS.get(reply.__class__, ""), None)
    if status.__class__ is int:
        headers = getattr(reply, "headers", None)
    elif isinstance(reply, Reply):
        status, headers, failure = reply.code, reply.lowered, reply.failure
        if body is None:
            body = reply.body
    else:
        status, headers, failure = unpack(reply)
    found = NOTHING
    source: Source | None = None
    refused, silent = False, True
    if failure is not None:
        action, sure = RETRY, failure is CONNECT
        reason, advice = FAILURES[failure]
        if recorder is not None:
            recorder.step(f"no response: {failure}")
    else:
        found = collect(headers, program, recorder)
        action, reason, advice, sure, plain = program.rules[status]
        refused = status in program.refused_statuses
        if recorder is not None:
            recorder.step(f"status {status}: {action} ({reason})")
        silent = not found or (len(found) < 3 and ONLY_CLOCK.issuperset(found))
        if body is not None:
            body = body if program.reads_body(status) else None
            silent = silent and body is None
        if silent and action is not RETRY and not refused:
            return plain

    # What it says about limits and time.
    explicit: float | None = None
    held: float | None = None
    place = held_by = ""
    quota: Quota | None = None
    quotas: tuple[Quota, ...] = ()
    if not silent:
        if now is None:
            now = time()
        if recorder is not None and "date" in found:
            source = Source(found, body, now, program.by_date, recorder)
            recorder.step(f"by its Date, the client's clock is {now - source.server():+.0f} s off")
        stated: list[Stated] = []
        for window in program.windows:
            if window.quick_by in found and recorder is None:
                quota = window.quick(found, now, program.by_date)
                if quota is not None:
                    stated.append((quota, quota.reset_after, window.place))
                    continue
            elif not window.captures and window.names.isdisjoint(found) and body is None:
                continue
            if source is None:
                source = Source(found, body, now, program.by_date, recorder)
            window.read(source, stated)
        if len(stated) == 1:
            quota = stated[0][0]
            quotas = (quota,)
        elif stated:
            quotas = tuple(part[0] for part in stated)
            quota = governing(quotas)
        if not program.unconditional or status in program.conditional:
            if source is None:
                source = Source(found, body, now, program.by_date, recorder)
            action, reason, advice, refused = _conditions(
                program, status, source, quotas, (action, reason, advice, refused)
            )
        for wait in program.waits:
            if wait.header in found:
                text = found[wait.header]
                if wait.is_whole and recorder is None and len(text) < 8 and text.isdigit() and text.isascii():
                    explicit, place = float(text), wait.place
                    break
            elif wait.header:
                continue
            if source is None:
                source = Source(found, body, now, program.by_date, recorder)
            explicit = wait.read(source)
            if explicit is not None:
                place = wait.place
                break
        if len(stated) > 1:
            held, held_by = used_up(stated, refused)
        elif quota is not None:
            remaining = quota.remaining
            if remaining <= 0 if remaining is not None else refused:
                _, held, held_by = stated[0]
        if explicit is not None and (quota is None or quota.reset_after is None):
            quota, quotas = _ended(quota, quotas, explicit, now, action is RETRY or refused)
    if refused:
        action = RETRY
        sure = sure or status in NOT_ACTED
        if recorder is not None:
            recorder.step("it is a refusal: the server did not act, and says later")

    # How long to wait.
    if action is not RETRY:
        seconds, source_ = held, held_by
        if explicit is not None:
            if action is PROCESS and reason is not REDIRECT and not program.wait_on_success:
                if recorder is not None:
                    recorder.step(f"{place}: no wait on a success")
            else:
                seconds, source_ = combine(program.combine, explicit, place, held, held_by)
        if seconds is None or seconds <= 0.0:
            return make(Decision, (action, 0.0, None, reason, advice, quota, quotas, ""))
        if recorder is not None:
            recorder.step(f"hold the next request {seconds:.3f} s, says {source_}")
        return make(
            Decision, (action, seconds + program.margin, None, reason, advice, quota, quotas, source_)
        )

    if explicit is None:
        seconds, source_ = held, held_by
    elif held is None or program.combine == "first":
        seconds, source_ = explicit, place
    else:
        seconds, source_ = combine(program.combine, explicit, place, held, held_by)
    is_stated = seconds is not None
    if seconds is not None and (
        seconds < 0.0 or (seconds == 0.0 and source_ == held_by and explicit is None)
    ):
        if recorder is not None:
            recorder.step(f"{source_} is past: it has just rolled over, so the backoff of this attempt")
        seconds, is_stated = None, False
    elif seconds is None and refused and program.default_wait is not None:
        seconds, source_ = program.default_wait, "default"
        if recorder is not None:
            recorder.step(f"a refusal that states no usable time: {seconds:g} s by default")
    if seconds is None or (explicit is None and not refused):
        if draw is None:
            draw = _draw()
        backoff = program.backoff.wait(attempt, draw)
        if seconds is None or backoff >= seconds:
            seconds, source_, is_stated = backoff, "backoff", False
            if recorder is not None:
                recorder.step(f"backoff of attempt {attempt}: {seconds:.3f} s")
    if source_ != "backoff":
        if draw is None:
            draw = _draw()
        if is_stated:
            seconds += program.margin
        spread = draw * (SPREAD * seconds if seconds < FULLY_SPREAD else SPREAD_SECONDS)
        seconds += spread
        if recorder is not None:
            recorder.step(
                f"wait {seconds:.3f} s: {source_}, margin {program.margin:g} s, spread {spread:.3f} s"
            )

    # Whether it may be repeated, and now.
    blocked = "" if repeatable else BODY_GONE
    if repeatable and not (sure or idempotent or method in IDEMPOTENT or (is_stated and status == 503)):
        blocked = _unsafe(reply, method, policy)
    if blocked:
        if recorder is not None:
            recorder.step(f"not repeated: {blocked}")
        if not is_stated:
            seconds, source_ = 0.0, ""
        return make(Decision, (FAIL, seconds, None, Reason.NOT_REPEATABLE, blocked, quota, quotas, source_))
    if attempt > program.retries:
        why = f"{policy.retries} retries have failed, the last one with {_spoken(reason)}"
        if not is_stated:
            seconds, source_ = policy.resume_after, "default"
    elif seconds > program.max_wait:
        why = f"that is longer than the {_span(policy.max_wait)} worth holding on for ({_spoken(reason)})"
    elif program.deadline is not None and elapsed + seconds > program.deadline:
        why = f"the wait does not fit into the {_span(program.deadline)} of the deadline ({_spoken(reason)})"
    else:
        return make(Decision, (RETRY, seconds, None, reason, advice, quota, quotas, source_))
    if recorder is not None:
        recorder.step(f"deferred: {why}")
    advice = f"Cease now and resume in {_span(seconds)}: {why}."
    resume_at = (time() if now is None else now) + seconds
    return make(Decision, (DEFER, seconds, resume_at, reason, advice, quota, quotas, source_))


def explain(
    reply: object,
    policy: Policy = HTTP,
    *,
    attempt: int = 1,
    method: str | None = None,
    elapsed: float = 0.0,
    now: float | None = None,
    draw: float | None = None,
    body: object = None,
    idempotent: bool = False,
    repeatable: bool = True,
) -> Explanation:
    """The decision and how it came about: the same walk as ``decide``, recorded.

    Args:
        reply, policy, attempt, method, elapsed, now, draw, body, idempotent, repeatable: as for ``decide``.

    Returns:
        The decision, every field that was read or dropped and why, and every rule that applied.

    Raises:
        TypeError, ValueError: as for ``decide``.

    >>> from bide.policy import Reply
    >>> explanation = explain(Reply(503, {"Retry-After": "soon"}), now=0.0, draw=0.0)
    >>> print(explanation.dropped[0])
    retry-after: 'soon' dropped: not whole_seconds or http_date or seconds
    """
    recorder = Recorder()
    decision = decide(
        reply,
        policy,
        attempt=attempt,
        method=method,
        elapsed=elapsed,
        now=now,
        draw=draw,
        body=body,
        idempotent=idempotent,
        repeatable=repeatable,
        _recorder=recorder,
    )
    return recorder.explanation(decision)


def _check_numbers(attempt: int, elapsed: float, now: float | None, draw: float | None) -> None:
    if not isinstance(attempt, int) or isinstance(attempt, bool):
        raise TypeError(f"attempt is an int, 1 for the first try; got {attempt!r}")
    if attempt < 1:
        raise ValueError(f"attempt is 1 for the first try, got {attempt!r}")
    for name, value, low, high in (
        ("elapsed", elapsed, 0.0, 1e11),
        ("now", now, 0.0, 1e11),
        ("draw", draw, 0.0, 1.0),
    ):
        if value is None and name != "elapsed":
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise TypeError(f"{name} is a number, got {value!r}")
        if not low <= value < high:
            ranges = {"elapsed": "seconds, 0 or more", "now": "a Unix time in seconds", "draw": "in [0, 1)"}
            raise ValueError(f"{name} is {ranges[name]}; got {value!r}")


def _conditions(
    program: Program,
    status: object,
    source: Source,
    quotas: tuple[Quota, ...],
    so_far: tuple[Action, Reason, str, bool],
) -> tuple[Action, Reason, str, bool]:
    """Refusals that more than the status tells, and the server's own word on repeating."""
    action, reason, advice, refused = so_far
    recorder = source.recorder
    if not refused:
        for when in program.refused_when:
            if _holds(when, status, source, quotas):
                refused = True
                if action is not RETRY:
                    reason, advice = when.reason, REFUSED
                break
    if refused:
        action = RETRY
    for override in program.override:
        value = (source.field(override.header) or "").lower()
        if value in override.retry or value in override.fail:
            if recorder is not None:
                recorder.step(f"{override.header}: {value} decides")
            if value in override.fail:
                return FAIL, reason, NO_REPEAT, False
            return RETRY, reason, advice if action is RETRY else REPEAT, refused
    for when in program.final:
        if _holds(when, status, source, quotas):
            if recorder is not None:
                recorder.step("final: not to be repeated, whatever else it says")
            return FAIL, reason, NO_REPEAT, False
    return action, reason, advice, refused


def _holds(when: When, status: object, source: Source, quotas: tuple[Quota, ...]) -> bool:
    if when.status and status not in when.status:
        return False
    if when.used_up and not any(q.remaining is not None and q.remaining <= 0 for q in quotas):
        return False
    if when.header:
        value = (source.field(when.header) or "").lower()
        if not value or (when.values and not _is_one_of(value, when.values)):
            return False
    if when.body:
        found = [value for value in follow(source.json(), when.body) if value]
        if not found or (when.values and not any(_is_one_of(json_text(v), when.values) for v in found)):
            return False
    if when.text:
        text = source.text()
        return any(words in text for words in when.text)
    return True


def _is_one_of(value: str | None, patterns: tuple[str, ...]) -> bool:
    """Whether a value is one of these, in which one "*" stands for any characters."""
    if value is None or value in patterns:
        return value is not None
    for pattern in patterns:
        start, star, end = pattern.partition("*")
        if star and len(value) >= len(start) + len(end) and value.startswith(start) and value.endswith(end):
            return True
    return False


def _ended(
    quota: Quota | None, quotas: tuple[Quota, ...], explicit: float, now: float, repeated: bool
) -> tuple[Quota | None, tuple[Quota, ...]]:
    """What a stated wait says about windows: it ends a used-up one that states no end of its own.

    Where the reply states no window, the end of the wait stands alone.
    """
    after = max(explicit, 0.0)
    if quota is None:
        return make(Quota, (None, None, after, now + after, None, None)), quotas
    if not repeated or quota.reset_after is not None or (quota.remaining is not None and quota.remaining > 0):
        return quota, quotas
    ended = quota.replace(reset_after=after, reset_at=now + after)
    return ended, tuple(ended if stated is quota else stated for stated in quotas)


def _unsafe(reply: object, method: str | None, policy: Policy) -> str:
    """Why a request that the server may have acted on is not to be repeated; "" when it may be."""
    if isinstance(reply, Reply):
        method = method or reply.method
        keyed = reply.idempotent
    else:
        method = method or method_of(reply) or policy.assume_method
        keyed = sent_idempotency_key(reply)
    if keyed or method in IDEMPOTENT:
        return ""
    return UNSAFE if method else UNKNOWN_METHOD


def _spoken(reason: Reason) -> str:
    return reason.replace("_", " ")


def _span(seconds: float) -> str:
    """A duration for a person: 42 s, 15 min, 3.5 h, 2 days."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.1f}".removesuffix(".0") + " s"


_chance = Random()
# Two workers that draw the same numbers would return in the same instant. (Where nothing forks, nothing is needed.)
getattr(os, "register_at_fork", dict)(after_in_child=_chance.seed)

_draw = _chance.random
