"""The scripts that run in the server, and how a call of one is written for the wire.

Rules of this file: a script is text from the files of ``lua/``, one after the other, and is called by its digest; its
whole text is sent only to a server that does not know it yet. One key a call: no call ever crosses the slots of a
cluster.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

__all__ = ["PEEK", "PENALIZE", "RESET", "SECRET", "SETTLE", "SYNC", "TAKE", "Script", "Trip", "packed"]


class Script:
    """One script, read when it is first used."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    @cached_property
    def text(self) -> str:
        folder = Path(__file__).with_name("lua")
        return "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in self._parts)

    @cached_property
    def digest(self) -> str:
        # The name that the server gives it, no protection of anything.
        return sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def by_digest(self) -> str:
        return packed("EVALSHA", self.digest, 1)

    @cached_property
    def whole(self) -> str:
        return packed("EVAL", self.text, 1)


TAKE = Script("quick", "window", "words", "take")
PEEK = Script("window", "words", "peek")
SYNC = Script("window", "words", "sync")
PENALIZE = Script("window", "words", "penalize")
SETTLE = Script("window", "words", "settle")
RESET = Script("window", "words", "reset")
SECRET = Script("secret")


class Trip(NamedTuple):
    """One call of a script for one key: a round trip, alone or with others.

    ``first`` are the arguments that are the same in every call of a limiter, ``first_packed`` the same for the wire.
    """

    script: Script
    key: bytes
    first: tuple[int | str, ...]
    first_packed: str
    rest: tuple[int, ...] = ()

    @property
    def arguments(self) -> tuple[int | str, ...]:
        return (*self.first, *self.rest)

    def packed(self, whole: bool = False) -> bytes:
        """The command in the server's protocol (RESP), by digest or with the whole text."""
        script, key, first, first_packed, rest = self
        name = script.whole if whole else script.by_digest
        return b"*%d%b\r\n$%d\r\n%b%b\r\n" % (
            4 + len(first) + len(rest),
            name.encode(),
            len(key),
            key,
            (first_packed + packed(*rest)).encode(),
        )


def packed(*arguments: int | str) -> str:
    """Arguments in the server's protocol, each with the line's end before it. ASCII: characters are octets."""
    return "".join([f"\r\n${len(text)}\r\n{text}" for text in map(str, arguments)])
