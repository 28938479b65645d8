"""Everything that is wrong with a policy's file, each mistake with its line.

Rules of this file: ``read`` decides what is wrong, and says the first thing; here all of it is told, as far as
it can be known at once. A mistake is a value, never an exception.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from bide.errors import PolicyError
from bide.policies import _extended, _made
from bide.policies._lines import line_of
from bide.policies._schema import Mismatch, mismatches
from bide.policy import Policy

__all__ = ["Mistake", "check_text"]


class Mistake(NamedTuple):
    """One thing that is wrong."""

    line: int
    what: str
    """Where and what, and what to write instead."""


def check_text(content: str, path: Path) -> tuple[Policy | None, list[Mistake]]:
    """The policy that a file's text stands for, or what is wrong with it.

    Args:
        content: the text, TOML.
        path: where it is from; its name is the policy's if it gives none.

    >>> check_text('retries = "many"', Path("x.toml"))[1]
    [Mistake(line=1, what="retries: must be a whole number, not 'many'")]
    """
    try:
        described = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        return None, [_syntax(str(error), content)]
    except RecursionError:
        return None, [Mistake(1, "it is nested too deep")]
    found = [Mistake(line_of(content, mismatch.where), str(mismatch)) for mismatch in mismatches(described)]
    if found:
        return None, sorted(found)
    try:
        return _made(_extended(described, path), path), []
    except PolicyError as error:
        mismatch = error.__cause__
        where = mismatch.where if isinstance(mismatch, Mismatch) else ""
        return None, [Mistake(line_of(content, where), str(mismatch))]


def _syntax(message: str, content: str) -> Mistake:
    """What the TOML parser says, its position taken apart."""
    position = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if position is None:  # at the end of the document
        return Mistake(max(1, len(content.splitlines())), f"not TOML: {message.partition(' (at ')[0]}")
    what = f"not TOML, column {position[2]}: {message[: position.start()]}"
    return Mistake(int(position[1]), what)
