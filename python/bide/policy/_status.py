"""What each status means: the tables that the engine starts from.

Rules of this file: data, one line a status. A policy's own rows come first, then ``GENERAL`` (RFC 9110
section 15, RFC 6585, RFC 8470); a status that neither names is treated as its class is in ``CLASSES``, one
outside 100..599 as 500. Advice is one sentence for a person.
"""

from __future__ import annotations

from bide.policy._types import Action, Reason, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

__all__ = ["Rule"]


class Rule(Record):
    """What one status means.

    Attributes:
        status: 100 to 599.
        action: PROCESS, RETRY or FAIL.
        reason: why.
        advice: one sentence for a person: what to check or change.
        not_acted: the status itself says that the server did not act on the request, so that any method may
            be repeated.
    """

    __slots__ = ()
    status: int
    action: Action
    reason: Reason
    advice: str
    not_acted: bool = False

    def _check(self) -> Self:
        if not 100 <= self.status <= 599:
            raise ValueError(f"a status is 100 to 599, got {self.status!r}")
        if self.action not in (Action.PROCESS, Action.RETRY, Action.FAIL):
            raise ValueError(f"the action of a status is process, retry or fail; got {self.action!r}")
        return self


PROCESS, RETRY, FAIL = Action.PROCESS, Action.RETRY, Action.FAIL

CHANGE = "The server refuses this request as it is: change it before sending it again."
WAIT = "The server failed: wait and retry; if it goes on, look at the vendor's status page."

CLASSES = (
    Rule(100, PROCESS, Reason.OK, "Nothing to do: this is an interim response."),
    Rule(200, PROCESS, Reason.OK, "Process the response."),
    Rule(300, PROCESS, Reason.REDIRECT, "Follow the redirect, or use what is stored."),
    Rule(400, FAIL, Reason.CLIENT_ERROR, CHANGE),
    Rule(500, RETRY, Reason.SERVER_ERROR, WAIT),
)

GENERAL = (
    Rule(400, FAIL, Reason.BAD_REQUEST, "Check the request: the server could not understand it."),
    Rule(401, FAIL, Reason.INVALID_AUTH, "Check the credentials: they are missing, wrong or expired."),
    Rule(403, FAIL, Reason.FORBIDDEN, "Check that these credentials may do this."),
    Rule(404, FAIL, Reason.NOT_AVAILABLE, "Check the URL: nothing is here, or not for these credentials."),
    Rule(408, RETRY, Reason.REQUEST_TIMEOUT, "The server waited too long for the request: send it again."),
    Rule(409, FAIL, Reason.CONFLICT, "It conflicts with the resource's state: read that again, then decide."),
    Rule(410, FAIL, Reason.NOT_AVAILABLE, "The resource is gone for good: remove the link to it."),
    Rule(413, FAIL, Reason.TOO_LARGE, "The request is too large: split it, or ask for less."),
    Rule(425, RETRY, Reason.TOO_EARLY, "The server would not risk early data: repeat it.", not_acted=True),
    Rule(429, RETRY, Reason.RATE_LIMITED, "Too many requests: wait until the window ends.", not_acted=True),
    Rule(500, RETRY, Reason.SERVER_ERROR, WAIT),
    Rule(501, FAIL, Reason.NOT_IMPLEMENTED, "The server does not support this request: try another one."),
    Rule(505, FAIL, Reason.NOT_IMPLEMENTED, "The server does not speak this version of HTTP."),
    Rule(506, FAIL, Reason.SERVER_ERROR, "The server is misconfigured here: contact the vendor."),
    Rule(508, FAIL, Reason.SERVER_ERROR, "The server found an endless loop in the request: change it."),
    Rule(510, FAIL, Reason.NOT_IMPLEMENTED, "The server needs an extension that the request does not name."),
    Rule(511, FAIL, Reason.INVALID_AUTH, "The network wants you to log in before it lets you through."),
)  # fmt: skip

TOKEN = "Check the API token and the request body"
GONE = "it may be the wrong token, or the resource was unshared with the application, or deleted."
SUPPORT = (
    "The API failed: wait and retry; if you see it regularly, contact Clever's support (status.clever.com)."
)
LATER = "Rate limit exceeded: try again after the rate-limit period expires."

CLEVER = (
    Rule(200, PROCESS, Reason.OK, "Process the response."),
    Rule(400, FAIL, Reason.BAD_REQUEST, f"{TOKEN}; Clever's troubleshooting pages help."),
    Rule(401, FAIL, Reason.INVALID_AUTH, f"{TOKEN}: the authorization is invalid."),
    Rule(404, FAIL, Reason.NOT_AVAILABLE, f"Check the token and the request URL: {GONE}"),
    Rule(413, FAIL, Reason.TOO_LARGE, "Reduce the limit parameter: it may be over 10000."),
    Rule(429, RETRY, Reason.RATE_LIMITED, LATER, not_acted=True),
    Rule(500, RETRY, Reason.SERVER_ERROR, SUPPORT),
    Rule(501, FAIL, Reason.NOT_IMPLEMENTED, "An unsupported request: try an alternative request."),
    Rule(502, RETRY, Reason.SERVER_ERROR, SUPPORT),
    Rule(503, RETRY, Reason.SERVER_ERROR, SUPPORT),
)
