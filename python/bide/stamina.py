"""For those who retry with stamina: a hook that a policy answers for.

    @stamina.retry(on=bide.stamina.hook(bide.CLEVER), timeout=300)

Rules of this file: stamina loops, sleeps and counts. The hook sees exceptions only, so the function has to
raise for a status (``raise_for_status()``), and no attempt number, so that backoff is stamina's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bide._foreign import decision_about
from bide.policy import HTTP, Action, Policy

__all__ = ["hook"]


def hook(policy: Policy = HTTP, **options: Any) -> Callable[[Exception], bool | float]:
    """A backoff hook for ``stamina.retry(on=...)``.

    Args:
        policy: the API's policy; ``bide.HTTP`` when none is given.
        **options: of ``bide.decide``: ``method`` (where neither a response nor an exception tells it),
            ``idempotent``, ``repeatable``, ``draw``.

    Returns:
        A function of an exception: False not to repeat, the seconds to wait that the server stated, or True
        for stamina's own backoff.

    >>> import bide
    >>> hook(bide.CLEVER)(ConnectionRefusedError()), hook(bide.CLEVER)(KeyError())
    (True, False)
    """

    def on(exception: Exception) -> bool | float:
        decision = decision_about(exception, policy, **options)
        if decision is None or decision.action is not Action.RETRY:
            return False
        return True if decision.source == "backoff" else decision.wait

    return on
