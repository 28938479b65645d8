"""Shows docstrings in the reference as they are meant, for mkdocstrings.

Rules of this file: a docstring is written for ``help()`` and for doctest, and is not written otherwise for a page. An
example ends at an empty line; "Raises (when a request is sent):" is a list of exceptions. A parameter whose name
begins with "_" is nobody's.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.MULTILINE)
RAISES = re.compile(r"^Raises \(.*\):$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Puts each example between fences, and exceptions under one heading."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
            obj.docstring.value = RAISES.sub("Raises:", text)
        if isinstance(obj, griffe.Function):
            public = (parameter for parameter in obj.parameters if not parameter.name.startswith("_"))
            obj.parameters = griffe.Parameters(*public)
