"""Files of Biwi's face boxes: where each box comes from, and whether a person has checked it.

Ours is a CSV whose first line is ``# headposeplus boxes 1`` and whose columns are id, x, y, width, height (raw
pixels; the last one is at x + width - 1), source and checked. Those of others are read as well
(:mod:`headposeplus.boxes.formats`).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from headposeplus.boxes.formats import COLUMNS, CORRECTED, FIRST_LINE, Rows, read_rows
from headposeplus.boxes.geometry import BoxTable, join_boxes, make_boxes
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, plural, shown
from headposeplus.files import write_text
from headposeplus.raw.ids import FORMS, first_rows, parse_frame
from headposeplus.rotations import Floats

LARGEST = 20_000  # pixels


def read_boxes(path: Path | str, corners: bool = False) -> BoxTable:
    """Return the boxes of a file, whatever its format, their frames by id.

    With ``corners``, what stands for x, y, width and height is read as x1, y1, x2 and y2. The file may name its frames
    in any form (:func:`headposeplus.raw.ids.parse_frame`).

    Raises
    ------
    DatasetError
        If the file is missing, lacks a column, is of a newer version, names a frame twice or none of Biwi's, or holds
        a box that is not finite or is narrower or lower than a pixel.
    """
    path = Path(path)
    rows = read_rows(path)
    boxes = rows.boxes.copy()
    if corners and not rows.corners:
        boxes[:, 2:] -= boxes[:, :2]
    ids = [parse_frame(name) for name in rows.names]
    unknown = np.array([name is None for name in ids], bool)
    if unknown.any():
        what = f"expected {FORMS}, found {shown(rows.names[int(unknown.argmax())])}"
        raise DatasetError(rows.fault(path, unknown, what))
    known = np.array(ids, dtype=str)
    asked = "; read without `corners`?" if corners and not rows.corners else ""
    _check(path, rows, known, boxes, asked)
    return BoxTable(known, boxes, rows.sources, rows.checked)


def read_named_boxes(path: Path) -> tuple[list[str], Floats]:
    """Return the names (n) of any images, as a file of boxes has them, and their boxes (n, 4).

    Frames of Biwi have their ids, whatever their form.

    Raises
    ------
    DatasetError
        As :func:`read_boxes`, but that names may be any.
    """
    rows = read_rows(path)
    names = [parse_frame(name) or name for name in rows.names]
    _check(path, rows, np.array(names, dtype=str), rows.boxes)
    return names, rows.boxes


def _check(path: Path, rows: Rows, known: np.ndarray, boxes: Floats, asked: str = "") -> None:
    """Raise DatasetError if a box (n, 4) of a file is none, or a name (n,) comes twice."""
    wrong = ~np.isfinite(boxes) | (np.abs(boxes) > LARGEST)
    wrong[:, 2:] |= boxes[:, 2:] < 1
    bad = np.asarray(wrong.any(axis=1))
    if bad.any():
        row = int(bad.argmax())
        box = ", ".join(f"{value:.10g}" for value in boxes[row].tolist())
        what = f"the box of {known[row]} ({box}) is not finite, is below a pixel or is too large"
        raise DatasetError(rows.fault(path, bad, what + asked, "mend or remove it"))
    again = first_rows(known) != np.arange(len(known))
    if again.any():
        what = f"{known[int(again.argmax())]} comes twice"
        raise DatasetError(rows.fault(path, again, what, "keep one box of each frame"))


def write_boxes(path: Path, table: BoxTable) -> None:
    """Write boxes as a CSV, sorted by id.

    Raises
    ------
    DatasetError
        If the file holds boxes that were checked by hand and are not among these: they would be lost.
    """
    check_none_lost(path, set(table.ids[table.checked].tolist()))
    order = np.argsort(table.ids, kind="stable")
    frame = pd.DataFrame(np.rint(table.boxes[order]).astype(np.int64), columns=list(COLUMNS[1:]))
    frame.insert(0, "id", table.ids[order])
    frame["source"] = table.sources[order]
    frame["checked"] = np.where(table.checked[order], "yes", "no")
    write_text(path, f"{FIRST_LINE}\n{frame.to_csv(index=False, lineterminator=chr(10))}")


def check_none_lost(path: Path, again: set[str]) -> None:
    """Raise DatasetError if a file holds boxes that were checked by hand, of other frames than ``again``, by id."""
    checked = _checked_by_hand(path) - again
    if checked:
        number = plural(len(checked), "box", "boxes")
        what = f"holds {number} checked by hand, {min(checked)} the first, which would be lost"
        raise DatasetError(Fault(what, "choose another `out`, or delete it", path))


def _checked_by_hand(path: Path) -> set[str]:
    """Return the ids of the boxes in a file that were checked by hand; none where it is no file of boxes."""
    try:
        table = read_boxes(path)
    except DatasetError:
        return set()
    return set(table.ids[table.checked].tolist())


class Corrected(NamedTuple):
    """A table after its corrections, and how many of its boxes changed and were added."""

    table: BoxTable
    changed: int
    added: int


def correct_boxes(table: BoxTable, corrections: BoxTable) -> Corrected:
    """Return the table with the corrections' boxes, all checked by hand.

    A correction that repeats a box as it is confirms it: the box keeps its source and is marked as checked.
    """
    rows = table.positions(corrections.ids)
    boxes, sources = table.boxes.copy(), table.sources.astype("U24")
    checked = table.checked.copy()
    known = rows >= 0
    moved = known.copy()
    moved[known] = (np.rint(boxes[rows[known]]) != np.rint(corrections.boxes[known])).any(axis=1)
    boxes[rows[moved]] = corrections.boxes[moved]
    sources[rows[moved]] = CORRECTED
    checked[rows[known]] = True
    new = corrections.where(~known)
    added = make_boxes(new.ids, new.boxes, CORRECTED, checked=True)
    return Corrected(join_boxes([BoxTable(table.ids, boxes, sources, checked), added]), int(moved.sum()), len(new.ids))
