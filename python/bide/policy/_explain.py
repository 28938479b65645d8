"""What ``explain`` gives back, and the recorder that the walk writes into when it is asked for.

Rules of this file: texts for people. Values of fields are shown shortened; only rate-limit fields are ever
read.
"""

from __future__ import annotations

from bide.policy._types import Decision, Record

__all__ = ["Explanation", "FieldNote"]

SHOWN = 80
"""Characters of a field's value that are shown."""


class FieldNote(Record):
    """One field of the reply that was looked at.

    Attributes:
        name: the field's name in lower case, or "body".
        text: its value as sent, shortened.
        meaning: how it was read, or why it was dropped.
    """

    __slots__ = ()
    name: str
    text: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text!r} {self.meaning}"


class Explanation(Record):
    """A decision and how it came about; ``str()`` gives it in lines for a person.

    Attributes:
        decision: what ``decide`` gives for the same arguments.
        read: fields that were read, and as what.
        dropped: fields that could not be used, and why.
        steps: the rules that applied, in order.
    """

    __slots__ = ()
    decision: Decision
    read: tuple[FieldNote, ...]
    dropped: tuple[FieldNote, ...]
    steps: tuple[str, ...]

    def __str__(self) -> str:
        decision = self.decision
        lines = [f"{decision.action}: {decision.reason}, wait {decision.wait:.3f} s", f"  {decision.advice}"]
        lines += [f"  read     {note}" for note in self.read]
        lines += [f"  dropped  {note}" for note in self.dropped]
        lines += [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        return "\n".join(lines)


class Recorder:
    """Collects what the walk sees and does."""

    __slots__ = ("_dropped", "_read", "_steps")

    def __init__(self) -> None:
        self._read: list[FieldNote] = []
        self._dropped: list[FieldNote] = []
        self._steps: list[str] = []

    def read(self, name: str, text: str, value: object, meaning: str) -> None:
        """A field was read; None says that it could not be."""
        if value is None:
            self.dropped(name, text, f"not {meaning}")
            return
        if isinstance(value, float):
            value = f"{value:.3f}".rstrip("0").rstrip(".")
        self._read.append(FieldNote(name, text[:SHOWN], f"read as {value}, {meaning}"))

    def dropped(self, name: str, text: str, why: str) -> None:
        """A field could not be used, be it that what was just read of it is out of bounds."""
        last = self._read[-1] if self._read else None
        if last is not None and (last.name, last.text) == (name, text[:SHOWN]):
            self._read.pop()
        self._dropped.append(FieldNote(name, text[:SHOWN], f"dropped: {why}"))

    def step(self, text: str) -> None:
        """A rule applied."""
        self._steps.append(text)

    def explanation(self, decision: Decision) -> Explanation:
        """All of it, with the decision that it led to."""
        return Explanation(decision, tuple(self._read), tuple(self._dropped), tuple(self._steps))
