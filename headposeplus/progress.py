"""Progress of what takes long: a bar on a terminal, lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn, TypeAlias

from tqdm import tqdm

LINE_EVERY = 30.0  # seconds between the lines that a log gets


class _Lines:
    """Progress for a log, with what this package uses of tqdm: a line now and then, and one at the end."""

    def __init__(self, total: int, label: str, unit: str, done: int) -> None:
        self.n: float = done
        self._total, self._label, self._unit, self._postfix = total, label, unit, ""
        self._first, self._began = done, time.monotonic()
        self._shown = self._began
        self._closed = False

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """Add to what is done; write a line if the last one is old."""
        self.n += n
        now = time.monotonic()
        if now - self._shown >= LINE_EVERY and self.n < self._total:
            self._shown = now
            done = self.n - self._first
            left = f", {duration((now - self._began) * (self._total - self.n) / done)} left" if done > 0 else ""
            self._write(f", {100 * self.n / self._total:.0f} %{left}{self._postfix}")

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> None:
        """Set what stands at the end of the lines to come, as names and values."""
        self.set_postfix_str(", ".join(f"{name}={value}" for name, value in values.items()))

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        """Set what stands at the end of the lines to come."""
        self._postfix = f", {text}" if text else ""

    def close(self) -> None:
        """Write the last line, once."""
        if self._closed:
            return
        self._closed = True
        self._write(f" in {duration(time.monotonic() - self._began)}")

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a log on a full disk ends no work
            done = f"{self.n:,.1f}".removesuffix(".0")  # of runs, parts count, too
            place = f"{self._label}: {done} of {self._total:,} {self._unit}s"
            print(f"{place}{text}", file=sys.stderr, flush=True)


Bar: TypeAlias = "tqdm[NoReturn] | _Lines"


def duration(seconds: float) -> str:
    """Return a time in words, to its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole < 600 else "")
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _can_be_written_over() -> bool:
    """Return whether standard error is a terminal with lines that are seen and can be written over."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0 and os.environ.get("TERM") != "dumb"
    except (OSError, ValueError, AttributeError):  # a file, a pipe, a notebook's stream
        return False


def progress(total: int, label: str, unit: str, done: int = 0, shown: bool = True) -> Bar:
    """Return a progress bar on standard error; where that is no terminal, lines for a log."""
    off = sys.stderr is None or not (total and shown)
    if not (off or _can_be_written_over()):
        return _Lines(total, label, unit, done)
    return tqdm(total=total, initial=done, desc=label, unit=unit, mininterval=0.2, dynamic_ncols=True, disable=off)
