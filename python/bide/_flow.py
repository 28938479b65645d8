"""What a flow is made of: the instructions that it yields, and the two loops that perform them.

A flow is a generator that does nothing itself. It yields what is to be done and is sent what came of it:

    yields               is sent back
    Send(attempt)        the client's own response, or the exception that it raised
    Look(response)       the beginning of its body, or None; its reader will still find all of it
    Ask(limiter, ...)    what the limiter answered, or the exception that it raised is thrown in
    Sleep(seconds, ...)  nothing, when the time has passed or the client was closed
    Discard(response)    nothing, when the response's connection has been given back

and returns a Verdict. Rules of this file: no policy of its own, no I/O, no import of a client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
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


def drive(
    flow: Flow,
    send: Callable[[int], object],
    sleep: Callable[[float], object],
    discard: Callable[[object], object],
    look: Callable[[object], bytes | None],
) -> Verdict:
    """Drives a flow where waiting blocks. What ``send`` raises is an answer; what interrupts is not."""
    try:
        instruction = next(flow)
        while True:
            answer: object = None
            if isinstance(instruction, Send):
                try:
                    answer = send(instruction.attempt)
                except Exception as error:  # any client\'s: the flow decides
                    answer = error
            elif isinstance(instruction, Sleep):
                sleep(instruction.seconds)
            elif isinstance(instruction, Look):
                answer = look(instruction.response)
            elif isinstance(instruction, Ask):
                try:
                    answer = instruction.ask()
                except Exception as error:  # any store\'s: raised where it was asked
                    instruction = flow.throw(error)
                    continue
            else:
                discard(instruction.response)
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
    discard: Callable[[object], Awaitable[object]],
    look: Callable[[object], Awaitable[bytes | None]],
) -> Verdict:
    """Drives a flow on an event loop: ``drive``, word for word, with ``await``."""
    try:
        instruction = next(flow)
        while True:
            answer: object = None
            if isinstance(instruction, Send):
                try:
                    answer = await send(instruction.attempt)
                except Exception as error:  # any client\'s: the flow decides
                    answer = error
            elif isinstance(instruction, Sleep):
                await sleep(instruction.seconds)
            elif isinstance(instruction, Look):
                answer = await look(instruction.response)
            elif isinstance(instruction, Ask):
                try:
                    answer = await instruction.ask_async()
                except Exception as error:  # any store\'s: raised where it was asked
                    instruction = flow.throw(error)
                    continue
            else:
                await discard(instruction.response)
            instruction = flow.send(answer)
    except StopIteration as stop:
        verdict: Verdict = stop.value
        return verdict
    finally:
        flow.close()
