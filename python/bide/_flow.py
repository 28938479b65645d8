"""What a flow is made of: the instructions that it yields, and the two loops that perform them.

A flow is a generator that does nothing itself. It yields what is to be done and is sent what came of it:

    yields               is sent back
    Send(attempt)        the client's own response, or the exception that it raised
    Look(response)       the beginning of its body, or None; its reader will still find all of it
    Ask(limiter, ...)    what the limiter answered
    Sleep(seconds, ...)  nothing, when the time has passed or the client was closed
    Discard(response)    nothing, when the response's connection has been given back or closed

and returns a Verdict. What else is raised meanwhile, a cancellation too, is thrown in where it yielded: then it asks
and discards, so that nothing is left open, and passes it on. Rules of this file: no policy of its own, no I/O, no
import of a client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bide.policy import Decision, Failure

__all__ = [
    "Ask",
    "Cause",
    "Discard",
    "Exchange",
    "Failed",
    "Flow",
    "Look",
    "Send",
    "Sleep",
    "Verdict",
    "drive",
    "drive_async",
    "goes_with",
]


class Cause(StrEnum):
    """Why a flow waits."""

    WINDOW = "window"
    """The key's window is used up: the limiter's wait, no request has been refused."""
    FIRST_REPLY = "first-reply"
    """Another request is the first of this key; its reply will tell where the server's window stands."""
    RETRY = "retry"
    """An answer said so, or asks for backoff: the decision's wait."""


class Send(NamedTuple):
    """Send the request now."""

    attempt: int
    first_of: Hashable = None
    """What is counted, when this is the first request of it and goes alone; see ``goes_with``."""


class Look(NamedTuple):
    """Read the beginning of this response's body, as it was before its coding, and take nothing from it."""

    response: object


class Ask(NamedTuple):
    """Call a limiter whose counters are elsewhere: the answer is on its way for a while, and holds up no event loop."""

    limiter: object
    call: str
    """Name of the method; "_async" behind it is its twin for event loops."""
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    tells: bool = False
    """The limiter learns something by it that it should know although the task that tells it is cancelled."""

    def ask(self) -> object:
        return getattr(self.limiter, self.call)(*self.arguments, **self.named)

    async def ask_async(self) -> object:
        return await getattr(self.limiter, f"{self.call}_async")(*self.arguments, **self.named)


class Sleep(NamedTuple):
    """Wait before going on; what ``on_wait`` is called with.

    ``why`` is a sentence for a person; ``decision`` is the one that asked for the wait, None when the limiter
    did.
    """

    seconds: float
    cause: Cause
    why: str
    decision: Decision | None = None


class Discard(NamedTuple):
    """Give back the connection of a response that nobody will see."""

    response: object
    drains: bool = True
    """It may be read to its end, if that is near; else nothing is read, whatever it costs: the task is cancelled."""
    keeps: bool = False
    """Somebody may see it after all: a ``Deferred`` carries it. Only then it is worth decoding."""


class Failed(NamedTuple):
    """What an adapter answers instead of an exception whose class does not say what happened."""

    error: Exception
    failure: Failure | None
    """None: it is the caller's own, and raised as it came."""


class Verdict(NamedTuple):
    """How it ended: the last answer (the client's response, or the exception it raised; None when nothing
    was sent) and the decision about it."""

    answer: object
    decision: Decision


Flow = Generator[Send | Look | Ask | Sleep | Discard, Any, Verdict]


class Exchange(NamedTuple):
    """What the driver needs to know of a request: the adapter makes one for each."""

    method: str
    host: str
    request: object
    """The client's own request, for a caller's ``key`` function."""
    authorization: str | bytes | None = None
    idempotent: bool = False
    """The request carries an Idempotency-Key."""
    repeatable: bool = True
    """The body can be sent again from its beginning."""
    target: str = ""
    """The path: tells requests apart that the server counts in different buckets."""
    deadline: float | None = None
    """Seconds that the caller's own time-out gives to the whole, waits included."""


_alone: ContextVar[frozenset[Hashable]] = ContextVar("bide_alone", default=frozenset())


def goes_with(first_of: Hashable) -> bool:
    """Whether what is sent now is a part of the sending of a first request: a middleware's request for a token, or that
    of a generator of the body. It must not wait for the reply to the request that waits for it."""
    return first_of in _alone.get()


_TOGETHER = nullcontext()


def _sending(first_of: Hashable) -> AbstractContextManager[None]:
    return _TOGETHER if first_of is None else _sending_alone(first_of)


@contextmanager
def _sending_alone(first_of: Hashable) -> Iterator[None]:
    before = _alone.set(_alone.get() | {first_of})
    try:
        yield
    finally:
        with suppress(ValueError):  # A coroutine that is thrown away ends in whatever context.
            _alone.reset(before)


def drive(
    flow: Flow,
    send: Callable[[int], object],
    sleep: Callable[[float], object],
    discard: Callable[[object, bool, bool], object],
    look: Callable[[object], bytes | None],
) -> Verdict:
    """Drives a flow where waiting blocks. What ``send`` raises is an answer; what interrupts is not."""
    try:
        instruction = next(flow)
        while True:
            answer: object = None
            try:
                if isinstance(instruction, Send):
                    with _sending(instruction.first_of):
                        answer = send(instruction.attempt)
                elif isinstance(instruction, Sleep):
                    sleep(instruction.seconds)
                elif isinstance(instruction, Look):
                    answer = look(instruction.response)
                elif isinstance(instruction, Ask):
                    answer = instruction.ask()
                else:
                    discard(*instruction)
            except BaseException as error:  # Any client's, any store's, or what interrupts: the flow decides.
                if not isinstance(instruction, Send) or not isinstance(error, Exception):
                    instruction = flow.throw(error)
                    continue
                answer = error
            instruction = flow.send(answer)
    except StopIteration as stop:
        verdict: Verdict = stop.value
        return verdict
    finally:
        flow.close()


async def drive_async(
    flow: Flow,
    send: Callable[[int], Awaitable[object]],
    sleep: Callable[[float], Awaitable[object]],
    discard: Callable[[object, bool, bool], Awaitable[object]],
    look: Callable[[object], Awaitable[bytes | None]],
    unbroken: Callable[[Awaitable[object]], Awaitable[None]],
) -> Verdict:
    """Drives a flow on an event loop: ``drive``, word for word, with ``await``.

    Args:
        unbroken: awaits to its end what must not be left undone, although the task is cancelled.
    """
    try:
        instruction = next(flow)
        while True:
            answer: object = None
            try:
                if isinstance(instruction, Send):
                    with _sending(instruction.first_of):
                        answer = await send(instruction.attempt)
                elif isinstance(instruction, Sleep):
                    await sleep(instruction.seconds)
                elif isinstance(instruction, Look):
                    answer = await look(instruction.response)
                elif isinstance(instruction, Ask):
                    asked = instruction.ask_async()
                    if instruction.tells:
                        await unbroken(asked)
                    else:
                        answer = await asked
                else:
                    discarded = discard(*instruction)
                    await (discarded if instruction.drains else unbroken(discarded))
            except BaseException as error:  # Any client's, any store's, or what interrupts: the flow decides.
                if not isinstance(instruction, Send) or not isinstance(error, Exception):
                    instruction = flow.throw(error)
                    continue
                answer = error
            instruction = flow.send(answer)
    except StopIteration as stop:
        verdict: Verdict = stop.value
        return verdict
    finally:
        flow.close()
