"""The ids of Biwi's frames, in all the forms that people write them."""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np

_ID = re.compile(r"biwi/(\d\d)/(\d{5})")
# A file of a frame, with any folders before it, with or without its ending; some copies flatten the path.
_FILE = re.compile(r"(?:.*[/\\_-])?(\d\d)[/\\_]frame_(\d{5})(?:_(?:rgb|pose|depth))?(?:\.\w{1,4})?")
# The columns that may name a frame, the first of which counts.
ID_COLUMNS = ("id", "images", "image", "image_path", "filename", "file_name", "file", "ids")
FORMS = "a Biwi frame such as biwi/01/00003 or 01/frame_00003_rgb.png"


def frame_id(sequence: str, number: int | str) -> str:
    """Return a frame's id, such as ``biwi/01/00003``."""
    return f"biwi/{sequence}/{int(number):05d}"


def first_rows(ids: np.ndarray) -> np.ndarray:
    """Return for each id (n,) the row in which it stands first (n,): its own, unless it comes again."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    return np.asarray(first[inverse.ravel()])


def id_column(names: Collection[str]) -> str:
    """Return which of the columns of a table names the frame; empty if none does."""
    return next((name for name in ID_COLUMNS if name in names), "")


def parse_frame(text: str) -> str | None:
    """Return the id of a Biwi frame however it is written; None if the text names none.

    Read are ids (``biwi/01/00003``), files (``01/frame_00003_rgb.png``, ``01/frame_00003``) with any folders before
    them (``faces_0/01/frame_00003_rgb.png``), and files of flattened copies (``01_frame_00003_rgb.png``).
    """
    match = _ID.fullmatch(text) or _FILE.fullmatch(text)
    return frame_id(match[1], match[2]) if match else None
