"""Files of Biwi's face boxes: where each box comes from, and whether a person has checked it.

A file is a CSV whose first line is ``# headposeplus boxes 1`` and whose columns are id, x, y, width, height (raw
pixels; the last one is at x + width - 1), source and checked. A plain CSV of the first five columns is read too,
and the published ``Biwi_plus.npz``.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from headposeplus.boxes.geometry import BoxTable, join_boxes, make_boxes
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault
from headposeplus.files import write_text

VERSION = 1
FIRST_LINE = f"# headposeplus boxes {VERSION}"
COLUMNS = ("id", "x", "y", "width", "height")
LARGEST = 20_000  # pixels
# Where a box may come from. A detector that finds no face leaves the projection's box, and says so.
IMPORTED, CORRECTED, NOT_DETECTED = "imported", "corrected", "projected-not-detected"
TRANSFORMED = "+transform"
_SOURCE = re.compile(r"[\w+-]{1,24}")
_CHECKED = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def read_boxes(path: Path) -> BoxTable:
    """Return the boxes of a CSV or of the published ``Biwi_plus.npz``.

    Raises
    ------
    DatasetError
        If the file is missing, lacks a column, is of a newer version, names a frame twice, or holds a box that is
        not finite or has no area.
    """
    try:
        table = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, KeyError) as error:
        raise DatasetError(Fault(f"cannot be read as boxes: {error}", file=path)) from error
    boxes = table.boxes
    bad = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] <= 0).any(axis=1) | (np.abs(boxes) > LARGEST).any(axis=1)
    if bad.any():
        name = table.ids[int(bad.argmax())]
        raise DatasetError(Fault(f"the box of {name} is not finite, has no area or is too large", file=path))
    ids, counts = np.unique(table.ids, return_counts=True)
    if (counts > 1).any():
        what = f"{ids[int(counts.argmax())]} comes twice"
        raise DatasetError(Fault(what, "keep one box of each frame", path))
    return table


def _read_npz(path: Path) -> BoxTable:
    with np.load(path, allow_pickle=False) as file:
        lacking = [key for key in ("images", "bbox") if key not in file]
        if lacking:
            what = f"expected the arrays images and bbox, {' and '.join(lacking)} is missing"
            raise DatasetError(Fault(what, file=path))
        names, boxes = file["images"], np.asarray(file["bbox"], np.float64)
    matches = [re.search(r"(\d\d)/frame_(\d{5})_rgb", str(name)) for name in names]
    if boxes.shape != (len(names), 4) or not all(matches):
        what = "expected images such as 01/frame_00003_rgb.png and bbox of n x 4"
        raise DatasetError(Fault(what, file=path))
    return make_boxes([f"biwi/{match[1]}/{match[2]}" for match in matches if match], boxes, IMPORTED)


def _read_csv(path: Path) -> BoxTable:
    text = path.read_text(encoding="utf-8-sig")
    first, _, rest = text.partition("\n")
    first_row = 2  # in lines, as a text editor counts them
    if first.startswith("#"):
        if first.strip() != FIRST_LINE:
            what = f"begins with {first.strip()[:60]!r}"
            raise DatasetError(Fault(what, f"expected {FIRST_LINE!r}, or no such line", path))
        text, first_row = rest, 3
    table = pd.read_csv(io.StringIO(text), dtype={"id": str, "source": str, "checked": str}, skipinitialspace=True)
    lacking = [column for column in COLUMNS if column not in table]
    if lacking:
        raise DatasetError(Fault(f"the boxes lack the columns {', '.join(lacking)}", file=path))
    if table["id"].isna().any():
        row = int(table["id"].isna().argmax())
        raise DatasetError(Fault("the box has no id", file=path, rows=(row + first_row,)))
    numbers = [_numbers(table[column], path, first_row) for column in COLUMNS[1:]]
    sources = table["source"].fillna("").astype(str) if "source" in table else pd.Series([IMPORTED] * len(table))
    wrong = [source for source in sources.unique() if not _SOURCE.fullmatch(source)]
    if wrong:
        what = f"the source {wrong[0][:40]!r} is not a word of letters, digits, + and -"
        raise DatasetError(Fault(what, file=path))
    checked = _flags(table["checked"], path, first_row) if "checked" in table else np.zeros(len(table), bool)
    return BoxTable(table["id"].to_numpy(str), np.column_stack(numbers), sources.to_numpy(str), checked)


def _numbers(cells: pd.Series, path: Path, first_row: int) -> np.ndarray:
    """Return a column's numbers (n,); raises DatasetError where one is none."""
    numbers = pd.to_numeric(cells, errors="coerce")
    if numbers.isna().any():
        row = int(numbers.isna().argmax())
        what = f"expected a number for {cells.name}, found {cells.iloc[row]!r}"
        raise DatasetError(Fault(what, file=path, rows=(row + first_row,)))
    return numbers.to_numpy(np.float64)


def _flags(cells: pd.Series, path: Path, first_row: int) -> np.ndarray:
    """Return which boxes are checked (n,); raises DatasetError where a cell says neither yes nor no."""
    words = cells.fillna("no").astype(str).str.strip().str.lower()
    unknown = ~words.isin(list(_CHECKED))
    if unknown.any():
        row = int(unknown.argmax())
        what = f"expected yes or no for checked, found {words[row]!r}"
        raise DatasetError(Fault(what, file=path, rows=(row + first_row,)))
    return words.map(_CHECKED).to_numpy(bool)


def write_boxes(path: Path, table: BoxTable) -> None:
    """Write boxes as a CSV, sorted by id."""
    order = np.argsort(table.ids, kind="stable")
    frame = pd.DataFrame(np.rint(table.boxes[order]).astype(np.int64), columns=list(COLUMNS[1:]))
    frame.insert(0, "id", table.ids[order])
    frame["source"] = table.sources[order]
    frame["checked"] = np.where(table.checked[order], "yes", "no")
    write_text(path, f"{FIRST_LINE}\n{frame.to_csv(index=False, lineterminator=chr(10))}")


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
