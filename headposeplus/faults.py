"""Faults: what is wrong in a file, where, and how to mend it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

RESTORE = "restore it from the raw archive"  # how most damage to a raw copy is mended
UNREADABLE = "unreadable"  # the kind of a fault: the system refuses to read the file
_SHOWN_ROWS = 5
_SHOWN_TEXT = 60


class Fault(NamedTuple):
    """What is wrong, how to mend it, and where it is.

    Attributes
    ----------
    what, mend
        In words; ``mend`` is empty where there is nothing to say.
    file
        The path of the file or folder; the name of what came without a path; or empty.
    field
        The key or column of the file.
    rows
        All rows concerned.
    kind
        Names those faults on which code depends.
    unit
        What ``rows`` count: ``line`` as a text editor does, or ``row`` where a file has no lines.
    """

    what: str
    mend: str = ""
    file: Path | str = ""
    field: str = ""
    rows: tuple[int, ...] = ()
    kind: str = ""
    unit: str = "line"

    @property
    def place(self) -> str:
        """Where it is, in words; empty if that is not known."""
        rows = listed(self.rows, self.unit) if self.rows else ""
        return ", ".join(part for part in (str(self.file), self.field, rows) if part)

    def to_json(self) -> dict[str, object]:
        """Return the fault as plain values; ``where`` is its place in words."""
        return {"where": self.place, **self._asdict(), "file": str(self.file), "rows": list(self.rows)}

    def __str__(self) -> str:
        """Return the fault as one line."""
        text = f"{self.what}; {self.mend}" if self.mend else self.what
        return f"{self.place}: {text}" if self.place else text


def unreadable(path: Path, error: OSError, expected: str = "") -> Fault:
    """Return the fault of a file or folder that the system refuses to read."""
    what = f"cannot be read: {error.strerror}" + (f"; expected {expected}" if expected else "")
    mend = "give yourself the right to read it" if isinstance(error, PermissionError) else ""
    return Fault(what, mend, path, kind=UNREADABLE)


def shown(text: object) -> str:
    """Return a stranger's text as one short line between quotes, without control characters."""
    try:
        words = str(text)
    except (ValueError, RecursionError):  # a number of many thousand digits, or lists in lists
        return f"a very long {type(text).__name__}"
    # Cut first: the text may be a megabyte.
    return repr(_quoted(words[:_SHOWN_TEXT])) + ("..." if len(words) > _SHOWN_TEXT else "")


def one_of(texts: Sequence[str]) -> str:
    """Return the one text that all are, or the first of several."""
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} and others"


def said(error: object, most: int = 80) -> str:
    """Return an error's words as one line of ``most`` characters at most: they may quote a stranger's text."""
    return _quoted(" ".join(str(error)[: 5 * most].split())[:most])


def _quoted(text: str) -> str:
    """Return a stranger's text without backticks, which set off the names of parameters."""
    return text.replace("`", "'")


def shell_line(*words: object) -> str:
    """Return a command as one line that a shell takes: words with spaces, quotes and the like are quoted."""
    return " ".join(_quoted_word(str(word)) for word in words)


def _quoted_word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # A line's end, or bytes that are no text: by their numbers, as bash, zsh and ksh read them.
    try:
        data = word.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # the name of no file
        data = word.encode(errors="replace")
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in r"\'" else rf"\x{byte:02x}" for byte in data)
    return f"$'{''.join(plain)}'"


def plural(number: int, one: str, many: str = "") -> str:
    """Return a number with the words that go with it, such as ``1 frame is`` and ``1,200 frames are``.

    Without ``many`` the plural has an s.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def listed(rows: Iterable[object], unit: str = "line") -> str:
    """Return rows, or other things, in words, such as ``lines 3, 4 and 12 more``."""
    rows = list(rows)
    if len(rows) == 1:
        return f"{unit} {rows[0]}"
    first = ", ".join(map(str, rows[:_SHOWN_ROWS]))
    return f"{unit}s {first}" + (f" and {len(rows) - _SHOWN_ROWS:,} more" if len(rows) > _SHOWN_ROWS else "")


def remarked(fault: Fault, remark: str) -> Fault:
    """Return a fault with a remark in brackets behind its last words."""
    if fault.mend:
        return fault._replace(mend=f"{fault.mend} ({remark})")
    return fault._replace(what=f"{fault.what} ({remark})")


def fault_in(lines: Iterable[int], what: str, mend: str, unit: str = "line") -> Fault:
    """Return a fault in some lines."""
    return Fault(what, mend, rows=tuple(int(line) for line in lines), unit=unit)
