"""Reading a raw copy's files for a check: what is wrong comes back as a value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from headposeplus.errors import ImageError, RawDataError
from headposeplus.faults import RESTORE, Fault
from headposeplus.images import TruncatedImageError
from headposeplus.verify.report import COUNTS, SequenceCheck, StillsCheck, TrackCheck

RESTORE_THEM = "restore them from the raw archive"
TRUNCATED = "truncated"  # the kind of a fault: an image ends early

Content = TypeVar("Content")


def mended(fault: Fault) -> Fault:
    """Return a reader's fault with the way out, where it has none."""
    return fault if fault.mend else fault._replace(mend=RESTORE)


def read(reader: Callable[[Path], Content], path: Path) -> Content | Fault:
    """Return what a file holds, or why it cannot be read."""
    try:
        return reader(path)
    except RawDataError as error:
        return mended(error.fault)


def look_at(path: Path, reader: Callable[[Path], Content]) -> Content | Fault:
    """Return what a reader says of an image, or why it cannot be used: its kind is TRUNCATED if it ends early."""
    try:
        return reader(path)
    except TruncatedImageError as error:
        return mended(error.fault)._replace(kind=TRUNCATED)
    except ImageError as error:
        return mended(error.fault)


def image_fault(path: Path, reader: Callable[[Path], object]) -> Fault | None:
    """Return why an image cannot be used, as :func:`look_at` does; None if it can."""
    found = look_at(path, reader)
    return found if isinstance(found, Fault) else None


def state_of(check: SequenceCheck | TrackCheck | StillsCheck, remarks: dict[str, bool]) -> str:
    """Return in a few words what is wrong with a part of a raw copy, with the remarks that hold; else ``complete``."""
    counts = {kind: getattr(check, kind, 0) for kind in (*COUNTS[2:], "duplicates")}
    words = [f"{kind} {number:,}" for kind, number in counts.items() if number]
    return ", ".join([*words, *(remark for remark, holds in remarks.items() if holds)]) or "complete"
