"""The exceptions of bide's own: one tree.

    BideError
     ├── PolicyError (also ValueError)   a policy's name or file is wrong; says where and what to write
     ├── StoreError                      the place where counters live cannot be opened, or was lost
     ├── Refused (also TimeoutError)     a limiter has no room within the time given; carries the outcome
     └── Deferred                        cease now and resume later; carries the decision that says when

Rules: a mistake in an argument is a plain TypeError or ValueError, as everywhere in Python, and is raised
at once. What a server sends never raises. No message shows a key or a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bide.limiter._waiting import OutcomeLike
    from bide.policy import Decision

__all__ = ["BideError", "Deferred", "PolicyError", "Refused", "StoreError"]


class BideError(Exception):
    """The base of every exception that only bide raises."""


class PolicyError(BideError, ValueError):
    """A policy cannot be loaded: an unknown name, or a mistake in its file."""


class StoreError(BideError):
    """A store cannot be opened or used; the message says what to do."""


class Refused(BideError, TimeoutError):
    """A limiter's slot could not be entered: the wait would not fit into the time given, or it can never
    pass.

    Attributes:
        outcome: the limiter's answer; ``outcome.retry_after`` seconds from then on there may be room.
    """

    outcome: OutcomeLike

    def __init__(self, outcome: OutcomeLike, cost: int, timeout: float | None) -> None:
        if outcome.retry_after == float("inf"):
            text = f"a cost of {cost:,} can never pass a limit of {outcome.limit:,}"
        else:
            text = f"no room within {timeout} s: retry in {outcome.retry_after} s"
        super().__init__(text)
        self.outcome = outcome


class Deferred(BideError):
    """The work should cease now and go on later.

    An adapter raises a subclass that is also its client's own exception for the last failure, so that
    existing ``except`` clauses go on working.

    Attributes:
        decision: the decision; ``decision.resume_at`` is the Unix time before which nothing should be sent.
        response: the last response, in the client's own type; None when no response came.
    """

    decision: Decision
    response: object

    def __init__(self, decision: Decision, response: object = None) -> None:
        super().__init__(decision.advice)
        self.decision = decision
        self.response = response
        self._text = decision.advice

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        # The arguments are those of the client's own exception: a URL in them may hold a secret.
        return f"{type(self).__name__}({self._text!r})"

    def __reduce__(self) -> tuple[type[Deferred], tuple[Decision]]:
        """For another process, which has no use for the response: the plain exception with its decision."""
        return Deferred, (self.decision,)
