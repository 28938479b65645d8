"""The decision engine: what to do with a response, and how long to wait.

Status to action, headers to wait, attempt to backoff. Pure: no clock (but where ``now`` is not given), no
I/O, no threads, no logging, and nothing of bide but itself.

>>> from bide.policy import CLEVER, Reply, decide
>>> decide(Reply(503, {}), CLEVER, attempt=3, draw=0.0).wait
4.0
"""

from bide.policy._backoff import Backoff
from bide.policy._budget import Budget
from bide.policy._dialect import Dialect, Field, Override, Refill, StructuredWindows, When, Window
from bide.policy._engine import decide, explain
from bide.policy._explain import Explanation, FieldNote
from bide.policy._failure import failure_of
from bide.policy._policy import CLEVER, HTTP, Policy
from bide.policy._reply import Reply
from bide.policy._status import Rule
from bide.policy._types import Action, Decision, Failure, Quota, Reason

__all__ = [
    "CLEVER",
    "HTTP",
    "Action",
    "Backoff",
    "Budget",
    "Decision",
    "Dialect",
    "Explanation",
    "Failure",
    "Field",
    "FieldNote",
    "Override",
    "Policy",
    "Quota",
    "Reason",
    "Refill",
    "Reply",
    "Rule",
    "StructuredWindows",
    "When",
    "Window",
    "decide",
    "explain",
    "failure_of",
]
