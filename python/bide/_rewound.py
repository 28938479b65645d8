"""The beginning of a body that comes from ``http.client``: read for the policy, and put back for the caller.

urllib3, requests and urllib all read such a response. Rules of this file: no more than ``LOOK_BYTES`` are read;
what is read once, an error too, comes again in its place when the caller reads.
"""

from __future__ import annotations

import io
from http.client import HTTPException, HTTPResponse

from bide._foreign import LOOK_BYTES

__all__ = ["begin"]


class _Rewound(io.RawIOBase):
    """What was read, then what is still to be read, or the error that reading came to."""

    def __init__(self, taken: bytes, rest: HTTPResponse, error: Exception | None) -> None:
        self._taken = memoryview(taken)
        self._rest = rest
        self._error = error

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]  # what BufferedReader hands over
        if self._taken:
            chunk = self._taken[: len(into)]
            self._taken = self._taken[len(chunk) :]
        elif self._error is not None:
            raise self._error
        else:
            chunk = memoryview(self._rest.read1(len(into)))
        into[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        super().close()
        self._rest.close()


def begin(response: HTTPResponse) -> tuple[bytes, io.BufferedReader]:
    """The beginning of a body, without its transfer coding, and a file that has all of it.

    An error of the connection is the reader's to meet, after what came before it.
    """
    taken = b""
    error: Exception | None = None
    try:
        while len(taken) < LOOK_BYTES and (chunk := response.read1(LOOK_BYTES - len(taken))):
            taken += chunk
    except (OSError, HTTPException) as failed:
        error = failed
    except BaseException:
        response.close()
        raise
    return taken, io.BufferedReader(_Rewound(taken, response, error))
