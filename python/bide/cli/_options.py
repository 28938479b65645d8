"""Readers of option values: what is wrong with one is told with what to write instead."""

from __future__ import annotations

import math
from collections.abc import Callable

import typer

__all__ = ["number_between", "whole_number_between"]


def number_between(least: float, most: float) -> Callable[[str], float]:
    """A reader of decimal numbers from ``least`` to ``most``; "nan" is none.

    >>> number_between(0, 10)("2.5")
    2.5
    """

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise typer.BadParameter(f"{text!r}; write a number from {least:.12g} to {most:.12g}")
        return number

    return read


def whole_number_between(least: int, most: int) -> Callable[[str], int]:
    """A reader of whole numbers from ``least`` to ``most``.

    >>> whole_number_between(0, 65_535)("8080")
    8080
    """

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise typer.BadParameter(f"{text!r}; write a whole number from {least} to {most}")
        return number

    return read
