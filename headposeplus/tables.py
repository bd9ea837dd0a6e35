"""Tables and sentences for a terminal: they fit its width, unless whole rows are asked for."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

PIPED = 80  # columns where there is no terminal to ask
_LEAST = 40  # narrower terminals fold the lines themselves
_GAP = 2  # spaces between columns
_whole: ContextVar[bool] = ContextVar("whole", default=False)


@contextmanager
def whole_rows() -> Iterator[None]:
    """Put every row on one line, and every sentence, whatever the width of the terminal."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def width() -> int | None:
    """Return how many columns a line may have; None where rows shall be whole.

    Two less than ``COLUMNS`` says, else than standard output has if it is a terminal, else than :data:`PIPED`.
    """
    if _whole.get():
        return None
    told = os.environ.get("COLUMNS", "")
    return max(_LEAST, int(told) if told.isdecimal() and int(told) else _columns()) - 2


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or PIPED
    except (OSError, ValueError, AttributeError):  # a file, a pipe, a notebook's stream
        return PIPED


def table(
    rows: Sequence[Mapping[str, object]],
    layout: str = "simple",
    right: Collection[str] = (),
    whole: Collection[str] = (),
) -> str:
    """Return rows as a table; those for a terminal have their longest texts wrapped where it is too narrow.

    ``layout`` is one of tabulate's: ``simple`` for a terminal; any other has whole rows, the cells as they are. The
    columns ``right`` are aligned to the right, the cells of the columns ``whole`` are wrapped last. Without rows there
    is no table.
    """
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[str(row.get(name, "")) for name in names] for row in rows]
    if layout == "simple":
        cells = [[_printable(cell) for cell in row] for row in cells]
        sizes = _fitting(names, cells, whole)
        if sizes is None:
            return "\n\n".join(pairs(dict(zip(names, row, strict=True))) for row in cells)
        shown = [[_folded(cell, most) for cell, most in zip(row, sizes, strict=True)] for row in (names, *cells)]
        return _ruled(shown, ["right" if name in right else "left" for name in names])
    return _tabulate(cells, names, layout)


def _tabulate(cells: Any, names: Sequence[str] = (), layout: str = "plain", align: Sequence[str] | None = None) -> str:
    """Return tabulate's table of cells as they are."""
    from tabulate import tabulate  # not before there is a table: every command imports this module

    return tabulate(cells, names, tablefmt=layout, colalign=align, disable_numparse=True)


def _ruled(rows: Sequence[Sequence[str]], align: Sequence[str]) -> str:
    """Return rows as tabulate's layout ``simple``, without the two columns by which that widens its headers."""
    lines = _tabulate(rows, align=align).splitlines()
    widths = [max(len(line) for cell in column for line in cell.split("\n")) for column in zip(*rows, strict=True)]
    head = max(cell.count("\n") + 1 for cell in rows[0])
    rule = (" " * _GAP).join("-" * width for width in widths)
    return "\n".join(line.rstrip() for line in (*lines[:head], rule, *lines[head:]))


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign as far as it is shown: what is rounded to zero has none."""
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]


def rounded(value: float, digits: int = 2) -> str:
    """Return a number as far as it is shown: what is rounded to zero has no minus."""
    text = f"{value:.{digits}f}"
    return text if float(text) else text.removeprefix("-")


def with_note(rows: Sequence[Mapping[str, object]], note: str, layout: str = "simple") -> str:
    """Return a table with a note below it, which is wrapped as the table is."""
    return "\n".join([table(rows, layout), "", *(prose(note) if layout == "simple" else [note])])


def pairs(values: Mapping[str, object], layout: str = "simple") -> str:
    """Return names and what they stand for, a line each; on a terminal long texts go on below their beginning."""
    if layout != "simple":
        return _tabulate(list(values.items()), ("", ""), layout)
    most, widest = width(), max(map(len, values))
    names = most and min(widest, most // 2)
    room = most and names and most - names - _GAP
    rows = [(_folded(name, names), _folded(_printable(str(value)), room)) for name, value in values.items()]
    return _tabulate(rows)


def columns(cells: Sequence[str]) -> str:
    """Return short texts side by side, row by row, as many in a row as fit."""
    most, wide = width() or PIPED, max(map(len, cells))
    each = max(1, (most + _GAP) // (wide + _GAP))
    rows = [cells[start : start + each] for start in range(0, len(cells), each)]
    return "\n".join((" " * _GAP).join(cell.ljust(wide) for cell in row).rstrip() for row in rows)


def prose(*lines: str) -> list[str]:
    """Return lines of text; those longer than the terminal is wide go on in the next, indented.

    No word is broken, and a line of two, such as a name and its path, stays one.
    """
    most = width()
    return [_folded(line, most, "  ") if len(line.split()) > 2 else line for line in lines]


def _printable(text: str) -> str:
    """Return a text as one line, without what would move the cursor or change the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _folded(text: str, most: int | None, indent: str = "") -> str:
    if most is None or len(text) <= most:
        return text
    own = text[: len(text) - len(text.lstrip())]
    return textwrap.fill(text, most, subsequent_indent=own + indent, break_long_words=False, break_on_hyphens=False)


def _fitting(names: Sequence[str], cells: Sequence[Sequence[str]], whole: Collection[str]) -> list[int] | None:
    """Return the width of each column; None where the table fits in no way.

    First headers are wrapped that are wider than their cells, then the widest of the cells, those of the columns
    ``whole`` last; no word is broken.
    """
    of_each = list(zip(*cells, strict=True))
    full = [max(map(len, column)) for column in of_each]
    words = [_longest_word([name]) for name in names]
    chosen = [max(len(name), most) for name, most in zip(names, full, strict=True)]
    limit = width()
    unwrapped = [max(sizes) for sizes in zip(full, words, strict=True)]
    least_of_all = [max(_longest_word(column), word) for column, word in zip(of_each, words, strict=True)]
    kept = [size if name in whole else least for name, size, least in zip(names, unwrapped, least_of_all, strict=True)]
    for least in (unwrapped, kept, least_of_all):
        while limit is not None and sum(chosen) + _GAP * (len(chosen) - 1) > limit:
            wide = [place for place, size in enumerate(chosen) if size > least[place]]
            if not wide:
                break
            chosen[max(wide, key=lambda place: chosen[place])] -= 1
    fits = limit is None or sum(chosen) + _GAP * (len(chosen) - 1) <= limit
    return chosen if fits else None


def _longest_word(texts: Sequence[str]) -> int:
    return max((len(word) for text in texts for word in text.split()), default=1)
