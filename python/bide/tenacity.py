"""For those who retry with tenacity: a predicate, a wait and a stop that a policy answers for.

    @tenacity.retry(
        retry=bide.tenacity.retry_decision(bide.CLEVER),
        wait=bide.tenacity.wait_decision(bide.CLEVER),
        stop=bide.tenacity.stop_decision(bide.CLEVER),
    )

Rules of this file: tenacity loops and sleeps. These three only ask ``decide`` about what the function
returned or raised, each by itself, so that any of them goes together with tenacity's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from bide._foreign import decision_about
from bide.policy import HTTP, Action

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from bide.policy import Decision, Policy

__all__ = ["retry_decision", "stop_decision", "wait_decision"]


class _Asks:
    """What the three share: the policy, and the question.

    Args:
        policy: the API's policy; ``bide.HTTP`` when none is given.
        **options: of ``bide.decide``: ``method`` (where neither a response nor an exception tells it),
            ``idempotent``, ``repeatable``, ``draw``.
    """

    def __init__(self, policy: Policy = HTTP, **options: Any) -> None:
        self.policy = policy
        self.options = options

    def decision(self, state: RetryCallState) -> Decision | None:
        """The decision about the last call; None for a result that is no response."""
        outcome = state.outcome
        if outcome is None:
            return None
        answer = outcome.exception() if outcome.failed else outcome.result()
        elapsed = state.seconds_since_start or 0.0
        return decision_about(
            answer, self.policy, attempt=state.attempt_number, elapsed=elapsed, **self.options
        )


class retry_decision(_Asks, retry_base):
    """Again, when the function returned or raised what the policy would repeat (or put off).

    Args:
        policy, options: see ``bide.decide``.

    >>> import bide
    >>> again = retry_decision(bide.CLEVER)
    """

    def __call__(self, retry_state: RetryCallState) -> bool:
        decision = self.decision(retry_state)
        return decision is not None and decision.action in (Action.RETRY, Action.DEFER)


class wait_decision(_Asks, wait_base):
    """Waits as long as the server says, or as the policy's backoff; 0.0 where there is nothing to decide.

    Args:
        policy, options: see ``bide.decide``.

    >>> import bide, tenacity
    >>> wait = wait_decision(bide.CLEVER) + tenacity.wait_random(0, 1)
    """

    def __call__(self, retry_state: RetryCallState) -> float:
        decision = self.decision(retry_state)
        return 0.0 if decision is None else decision.wait


class stop_decision(_Asks, stop_base):
    """Gives up when the decision is DEFER: retries or patience are at an end.

    Args:
        policy, options: see ``bide.decide``.

    >>> import bide, tenacity
    >>> stop = stop_decision(bide.CLEVER) | tenacity.stop_after_delay(600)
    """

    def __call__(self, retry_state: RetryCallState) -> bool:
        decision = self.decision(retry_state)
        return decision is not None and decision.action is Action.DEFER
