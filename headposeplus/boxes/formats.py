"""The formats of files of boxes: our CSV and plain ones, the published npz, JSON lists of corners, OPAL's text."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, said, shown, unreadable
from headposeplus.files import decoded, opened_npz
from headposeplus.rotations import Floats

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
_NAMES = ("id", "image", "images", "file")  # of the column that names the frame
# Where a box may come from. A detector that finds no face leaves the projection's box, and so does a build where a
# given box cannot be (:mod:`headposeplus.boxes.placement`); both say so.
IMPORTED, CORRECTED = "imported", "corrected"
NOT_DETECTED, MISPLACED = "projected-not-detected", "projected-misplaced"
TRANSFORMED = "+transform"
_SOURCE = re.compile(r"[\w+-]{1,24}")
_CHECKED = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}
_EXPECTED = 'a CSV of id, x, y, width and height, Biwi_plus.npz, or JSON such as {"01/frame_00003": [x1, y1, x2, y2]}'


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


class _Line(NamedTuple):
    """A line of a table: its number, and its cells by the names of their columns."""

    number: int
    cells: dict[str, str]


def read_rows(path: Path) -> Rows:
    """Return the rows of a file of boxes; raises DatasetError if it is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(unreadable(path, error, _EXPECTED)) from error
    if data[:2] == b"PK" or path.suffix == ".npz":
        return _read_npz(path, data)
    none = DatasetError(Fault("no file of boxes", f"expected {_EXPECTED}", path))
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        raise none from error
    if not text.strip():
        raise DatasetError(Fault("an empty file", f"expected {_EXPECTED}", path))
    if "\0" in text[:4096]:
        raise none
    return _read_json(path, text) if text.lstrip()[:1] in ("{", "[") else _read_table(path, text)


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


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the pairs of a JSON object; raises ValueError if a key comes twice."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"{shown(twice)} comes twice")
    return dict(pairs)


def _read_json(path: Path, text: str) -> Rows:
    """Return the boxes of a JSON object from frames to their corners."""
    mend = 'expected {"01/frame_00003": [x1, y1, x2, y2], ...}'
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DatasetError(Fault(f"not JSON ({said(error)})", mend, path)) from error
    if not isinstance(content, dict) or not content:
        raise DatasetError(Fault(f"a JSON {type(content).__name__}", mend, path))
    for name, box in content.items():
        numbers = isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
        if not numbers:
            raise DatasetError(Fault(f"{shown(box)} for {shown(name)}", mend, path))
    return _plain(list(content), np.array(list(content.values()), np.float64), corners=True)


def _read_table(path: Path, text: str) -> Rows:
    """Return the boxes of a CSV, its cells parted by comma, semicolon or tab."""
    lines, names = _lines(path, text)
    frame = next((name for name in _NAMES if name in names), "")
    corners = next((columns for columns in _CORNERS if set(columns) <= set(names)), ())
    columns = corners or COLUMNS[1:]
    if corners and set(COLUMNS[1:]) <= set(names):
        what = f"has both {', '.join(COLUMNS[1:])} and {', '.join(corners)}"
        raise DatasetError(Fault(what, "keep one of them", path))
    lacking = [*([] if frame else ["id"]), *(name for name in columns if name not in names)]
    if lacking:
        raise DatasetError(Fault(f"the boxes lack the columns {', '.join(lacking)}", f"expected {_EXPECTED}", path))
    if not lines:
        raise DatasetError(Fault("holds no box", f"expected {_EXPECTED}", path))
    unnamed = [line.number for line in lines if not line.cells.get(frame)]
    if unnamed:
        raise DatasetError(Fault("the box has no id", "give each its frame", path, rows=tuple(unnamed)))
    boxes = np.array([[_number(path, line, name) for name in columns] for line in lines])
    rows = _plain([line.cells[frame] for line in lines], boxes, bool(corners))
    sources = [line.cells.get("source", "") if "source" in names else IMPORTED for line in lines]
    wrong = [(line, source) for line, source in zip(lines, sources, strict=True) if not _SOURCE.fullmatch(source)]
    if wrong:
        what = f"the source {wrong[0][1][:40]!r} is not a word of letters, digits, + and -"
        raise DatasetError(Fault(what, "name it otherwise", path, rows=(wrong[0][0].number,)))
    checked = np.array([_flag(path, line) for line in lines])
    numbers = np.array([line.number for line in lines])
    return rows._replace(sources=np.array(sources), checked=checked, numbers=numbers, unit="line")


def _lines(path: Path, text: str) -> tuple[list[_Line], list[str]]:
    """Return the lines of a table that hold anything, and the names of its columns."""
    written = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start = next((place for place, line in enumerate(written) if line.strip()), 0)
    if re.match(r"#\s*\w", written[start]):  # a remark; OPAL's header begins with # and a semicolon
        if written[start].strip() != FIRST_LINE:
            what = f"begins with {shown(written[start].strip())}"
            raise DatasetError(Fault(what, f"expected {FIRST_LINE!r}, or no such line", path))
        start += 1
    header = written[start] if start < len(written) else ""
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader((line[:4096] for line in written[start:]), delimiter=delimiter, skipinitialspace=True)
    lines: list[_Line] = []
    names: list[str] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not names:
                # In OPAL's files a # stands before the header, and three angles below its last name.
                names = [cell.lower() for cell in cells[cells[0] == "#" :]]
                spare = 2 if cells[0] == "#" else 0
                continue
            if len(cells) > len(names) + spare:
                what = f"{len(cells)} cells, where the header has {len(names)}"
                raise DatasetError(Fault(what, "give every row a cell a column", path, rows=(start + reader.line_num,)))
            lines.append(_Line(start + reader.line_num, dict(zip(names, cells, strict=False))))
    except csv.Error as error:
        what = f"not a CSV file ({said(error)})"
        raise DatasetError(Fault(what, f"expected {_EXPECTED}", path, rows=(start + reader.line_num,))) from error
    return lines, names


def _number(path: Path, line: _Line, name: str) -> float:
    """Return the number in a cell; raises DatasetError where there is none."""
    text = line.cells.get(name, "")
    try:
        number = float("nan" if "_" in text else text)
    except ValueError:
        number = float("nan")
    if np.isnan(number):
        what = f"expected a number for {name}, found {shown(text) if text else 'nothing'}"
        raise DatasetError(Fault(what, "write pixels, with a point for the decimals", path, rows=(line.number,)))
    return number


def _flag(path: Path, line: _Line) -> bool:
    """Return whether a box is checked; raises DatasetError where its cell says neither yes nor no."""
    word = line.cells.get("checked", "").lower()
    if word not in _CHECKED:
        what = f"expected yes or no for checked, found {shown(word)}"
        raise DatasetError(Fault(what, file=path, rows=(line.number,)))
    return _CHECKED[word]
