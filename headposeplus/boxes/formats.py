"""The formats of files of boxes: our CSV and plain ones, the published npz, JSON lists of corners, OPAL's text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus import archives, sheets
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, fault_in, said, shown, unreadable
from headposeplus.files import opened_npz, parse_json
from headposeplus.raw.ids import id_column
from headposeplus.rotations import Floats
from headposeplus.sheets import OWN, Sheet, read_numbers

VERSION = 1
FIRST_LINE = f"# headposeplus boxes {VERSION}"
COLUMNS = ("id", "x", "y", "width", "height")
# The same as corners, as others name them; the second one is where the box ends, so x2 - x1 pixels are its width.
_CORNERS = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
    ("tl_x", "tl_y", "br_x", "br_y"),
)
# In OPAL's files a # stands before the header, and three angles below its last name.
_OPAL = re.compile(r"\A\s*#;image;tl_x;tl_y;br_x;br_y;pose;*(?=\n)", re.IGNORECASE)
_OPAL_NAMES = "image;tl_x;tl_y;br_x;br_y;angle1;angle2;angle3"
# Where a box may come from. A detector that finds no face leaves the projection's box, and so does a build where a
# given box cannot be (:mod:`headposeplus.boxes.placement`); both say so.
IMPORTED, CORRECTED = "imported", "corrected"
NOT_DETECTED, MISPLACED = "projected-not-detected", "projected-misplaced"
TRANSFORMED = "+transform"
_SOURCE = re.compile(r"[\w+-]{1,24}")
_CHECKED = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}
_EXPECTED = 'a CSV of id, x, y, width and height, Biwi_plus.npz, or JSON such as {"01/frame_00003": [x1, y1, x2, y2]}'

_MEND = f"expected {_EXPECTED}"


class Rows(NamedTuple):
    """The rows of a file of boxes.

    Attributes
    ----------
    names
        Of the frames (n), as they are written.
    boxes
        x, y, width and height (n, 4).
    sources, checked
        Where each box comes from, and whether a person has checked it (n,).
    corners
        Whether the file says that it holds corners.
    numbers, unit
        The place of each row (n,), in ``line`` or ``row``.
    """

    names: list[str]
    boxes: Floats
    sources: np.ndarray
    checked: np.ndarray
    corners: bool
    numbers: np.ndarray
    unit: str

    def fault(self, path: Path, rows: np.ndarray, what: str, mend: str = "") -> Fault:
        """Return a fault of the file in some rows, bool (n,)."""
        return Fault(what, mend, path, rows=tuple(self.numbers[rows].tolist()), unit=self.unit)


def read_rows(path: Path) -> Rows:
    """Return the rows of a file of boxes; raises DatasetError if it is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(unreadable(path, error, _EXPECTED)) from error
    try:
        data = archives.table_in(data, OWN)
        if archives.is_zip(data) or path.suffix.lower() == ".npz":
            return _read_npz(path, data)
        text = sheets.read_text(data, _MEND)
        if sheets.is_json(text):
            return _read_json(path, text)
        return _read_table(path, sheets.read_sheet(_OPAL.sub(_OPAL_NAMES, text), _MEND, short_rows=True))
    except DatasetError as error:
        raise DatasetError(error.fault._replace(file=path)) from error


def _plain(names: list[str], boxes: Floats, corners: bool) -> Rows:
    """Return rows without lines, sources and checks; corners become widths and heights."""
    if corners:
        boxes = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
    count = len(names)
    numbers = np.arange(1, count + 1)
    return Rows(names, boxes, np.full(count, IMPORTED), np.zeros(count, bool), corners, numbers, "row")


def _read_npz(path: Path, data: bytes) -> Rows:
    mend = "expected the arrays images and bbox, as in Biwi_plus.npz"
    try:
        with opened_npz(data) as file:
            lacking = [key for key in ("images", "bbox") if key not in file]
            arrays = [np.asarray(file[key]) for key in ("images", "bbox") if key in file]
    except ValueError as error:
        what = "holds pickled objects" if "pickle" in str(error) else f"a damaged npz file ({said(error)})"
        raise DatasetError(Fault(what, mend, path)) from error
    if lacking:
        raise DatasetError(Fault(f"no array {' and '.join(lacking)}", mend, path))
    names, boxes = arrays
    if names.dtype.kind not in "US" or boxes.dtype.kind not in "fiu" or boxes.shape != (len(names), 4):
        what = f"images {names.shape} of {names.dtype}, bbox {boxes.shape} of {boxes.dtype}"
        raise DatasetError(Fault(what, "expected n texts and n x 4 numbers", path))
    texts = np.char.decode(names, "latin-1") if names.dtype.kind == "S" else names
    return _plain([str(name) for name in texts], boxes.astype(np.float64), corners=False)


def _read_json(path: Path, text: str) -> Rows:
    """Return the boxes of a JSON object from frames to their corners."""
    mend = 'expected {"01/frame_00003": [x1, y1, x2, y2], ...}'
    try:
        content = parse_json(text)
    except ValueError as error:
        raise DatasetError(Fault(f"not JSON ({said(error)})", mend, path)) from error
    if not isinstance(content, dict) or not content:
        raise DatasetError(Fault(f"a JSON {type(content).__name__}", mend, path))
    for name, box in content.items():
        numbers = isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
        if not numbers:
            raise DatasetError(Fault(f"{shown(box)} for {shown(name)}", mend, path))
    return _plain(list(content), np.array(list(content.values()), np.float64), corners=True)


def _read_table(path: Path, sheet: Sheet) -> Rows:
    """Return the boxes of a CSV."""
    names, lines = sheet.names, sheet.lines

    def wrong(rows: np.ndarray, what: str, mend: str = "") -> DatasetError:
        return DatasetError(fault_in(lines[rows], what, mend)._replace(file=path))

    for remark in sheet.remarks:
        if remark != FIRST_LINE:
            raise DatasetError(Fault(f"begins with {shown(remark)}", f"expected {FIRST_LINE!r}, or no such line", path))
    frame, columns = id_column(names), _columns(path, names)
    for fault in sheet.faults:
        raise DatasetError(fault._replace(file=path))
    if not len(lines):
        raise DatasetError(Fault("holds no box", _MEND, path))
    of_frames = [cell.strip() for cell in sheet.columns[frame]]
    unnamed = np.array([not name for name in of_frames])
    if unnamed.any():
        raise wrong(unnamed, "the box has no id", "give each its frame")
    boxes = np.column_stack([read_numbers(sheet.columns[name], sheet.decimal) for name in columns])
    missing = np.isnan(boxes)
    if missing.any():
        row = int(missing.any(axis=1).argmax())
        name = columns[int(missing[row].argmax())]
        text = sheet.columns[name][row].strip()
        what = f"expected a number for {name}, found {shown(text) if text else 'nothing'}"
        raise wrong(np.array([row]), what, "write pixels, with a point for the decimals")
    sources = [cell.strip() for cell in sheet.columns.get("source", [IMPORTED] * len(lines))]
    odd = np.array([not _SOURCE.fullmatch(source) for source in sources])
    if odd.any():
        what = f"the source {shown(sources[int(odd.argmax())])} is not a word of letters, digits, + and -"
        raise wrong(np.array([int(odd.argmax())]), what, "name it otherwise")
    said_of = [cell.strip() for cell in sheet.columns.get("checked", [""] * len(lines))]
    flags = [text.lower() for text in said_of]
    unknown = np.array([flag not in _CHECKED for flag in flags])
    if unknown.any():
        what = f"expected yes or no for checked, found {shown(said_of[int(unknown.argmax())])}"
        raise wrong(np.array([int(unknown.argmax())]), what)
    rows = _plain(of_frames, boxes, columns != COLUMNS[1:])
    checked = np.array([_CHECKED[flag] for flag in flags])
    return rows._replace(sources=np.array(sources), checked=checked, numbers=lines, unit="line")


def _columns(path: Path, names: list[str]) -> tuple[str, ...]:
    """Return the columns that a box stands in; raises DatasetError if there are none, or two sets of them."""
    corners = next((columns for columns in _CORNERS if set(columns) <= set(names)), ())
    if corners and set(COLUMNS[1:]) <= set(names):
        what = f"has both {', '.join(COLUMNS[1:])} and {', '.join(corners)}"
        raise DatasetError(Fault(what, "keep one of them", path))
    columns = corners or COLUMNS[1:]
    lacking = [*([] if id_column(names) else ["id"]), *(name for name in columns if name not in names)]
    if lacking:
        raise DatasetError(Fault(f"the boxes lack the columns {', '.join(lacking)}", _MEND, path))
    return columns
