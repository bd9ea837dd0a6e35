"""Faults: what is wrong in a file, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

_SHOWN_ROWS = 5
_SHOWN_TEXT = 60


class Fault(NamedTuple):
    """What is wrong, where, and how to mend it.

    ``rows`` are all lines concerned, as a text editor counts them, or rows of a file that has no lines. ``kind`` names
    those faults that others depend on.
    """

    where: str
    what: str
    mend: str
    rows: tuple[int, ...] = ()
    kind: str = ""

    def __str__(self) -> str:
        """Return the fault as one line."""
        return f"{self.where}: {self.what}; {self.mend}" if self.where else f"{self.what}; {self.mend}"


def shown(text: object) -> str:
    """Return a stranger's text as one short line between quotes, without control characters."""
    try:
        words = str(text)
    except (ValueError, RecursionError):  # a number of many thousand digits, or lists in lists
        return f"a very long {type(text).__name__}"
    # Cut first: the text may be a megabyte.
    return repr(words[:_SHOWN_TEXT]) + ("..." if len(words) > _SHOWN_TEXT else "")


def said(error: object, most: int = 80) -> str:
    """Return an error's words as one line of ``most`` characters at most: they may quote a stranger's text."""
    return " ".join(str(error)[: 5 * most].split())[:most]


def listed(rows: Iterable[int], word: str = "line") -> str:
    """Return rows as words, such as ``lines 3, 4 and 12 more``."""
    rows = list(rows)
    if len(rows) == 1:
        return f"{word} {rows[0]}"
    first = ", ".join(map(str, rows[:_SHOWN_ROWS]))
    return f"{word}s {first}" + (f" and {len(rows) - _SHOWN_ROWS:,} more" if len(rows) > _SHOWN_ROWS else "")


def _fault_in(lines: np.ndarray, what: str, mend: str, word: str = "line") -> Fault:
    """Return a fault in some lines (k,)."""
    numbers = tuple(int(line) for line in lines)
    return Fault(listed(numbers, word), what, mend, numbers)
