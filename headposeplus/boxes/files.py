"""Files of Biwi's face boxes: where each box comes from, whether a person has checked it, and how two files differ.

A file is a CSV whose first line is ``# headposeplus boxes 1`` and whose columns are id, x, y, width, height (raw
pixels; the last one is at x + width - 1), source and checked. A plain CSV of the first five columns is read too,
and the published ``Biwi_plus.npz``.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from headposeplus.boxes.geometry import BoxTable
from headposeplus.errors import DatasetError
from headposeplus.files import write_text
from headposeplus.rotations import Floats

VERSION = 1
FIRST_LINE = f"# headposeplus boxes {VERSION}"
COLUMNS = ("id", "x", "y", "width", "height")
LARGEST = 20_000  # pixels
# Where a box may come from. A detector that finds no face leaves the projection's box, and says so.
IMPORTED, CORRECTED, NOT_DETECTED = "imported", "corrected", "projected-not-detected"
TRANSFORMED = "+transform"
_SOURCE = re.compile(r"[\w+-]{1,24}")


def make(ids: np.ndarray | list[str], boxes: Floats, source: str, checked: bool = False) -> BoxTable:
    """Return a table of boxes (n, 4) that all have one source."""
    count = len(ids)
    return BoxTable(
        np.asarray(ids, dtype=str), np.asarray(boxes, np.float64).reshape(count, 4),
        np.full(count, source), np.full(count, checked),
    )  # fmt: skip


def read(path: Path) -> BoxTable:
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
        raise DatasetError(f"{path}: cannot be read as boxes: {error}") from error
    boxes = table.boxes
    bad = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] <= 0).any(axis=1) | (np.abs(boxes) > LARGEST).any(axis=1)
    if bad.any():
        name = table.ids[int(bad.argmax())]
        raise DatasetError(f"{path}: the box of {name} is not finite, has no area or is too large")
    ids, counts = np.unique(table.ids, return_counts=True)
    if (counts > 1).any():
        raise DatasetError(f"{path}: {ids[int(counts.argmax())]} comes twice; keep one box of each frame")
    return table


def _read_npz(path: Path) -> BoxTable:
    with np.load(path, allow_pickle=False) as file:
        lacking = [key for key in ("images", "bbox") if key not in file]
        if lacking:
            raise DatasetError(f"{path}: expected the arrays images and bbox, {' and '.join(lacking)} is missing")
        names, boxes = file["images"], np.asarray(file["bbox"], np.float64)
    matches = [re.search(r"(\d\d)/frame_(\d{5})_rgb", str(name)) for name in names]
    if boxes.shape != (len(names), 4) or not all(matches):
        raise DatasetError(f"{path}: expected images such as 01/frame_00003_rgb.png and bbox of n x 4")
    return make([f"biwi/{match[1]}/{match[2]}" for match in matches if match], boxes, IMPORTED)


def _read_csv(path: Path) -> BoxTable:
    text = path.read_text(encoding="utf-8-sig")
    first, _, rest = text.partition("\n")
    skipped = 0
    if first.startswith("#"):
        if first.strip() != FIRST_LINE:
            raise DatasetError(f"{path}: begins with {first.strip()[:60]!r}; expected {FIRST_LINE!r}, or no such line")
        text, skipped = rest, 1
    table = pd.read_csv(io.StringIO(text), dtype={"id": str, "source": str, "checked": str}, skipinitialspace=True)
    lacking = [column for column in COLUMNS if column not in table]
    if lacking:
        raise DatasetError(f"{path}: the boxes lack the columns {', '.join(lacking)}")
    if table["id"].isna().any():
        raise DatasetError(f"{path}, line {int(table['id'].isna().argmax()) + 2 + skipped}: the box has no id")
    for column in COLUMNS[1:]:
        numbers = pd.to_numeric(table[column], errors="coerce")
        if numbers.isna().any():
            at = int(numbers.isna().argmax())
            found = table[column].iloc[at]
            raise DatasetError(f"{path}, line {at + 2 + skipped}: expected a number for {column}, found {found!r}")
        table[column] = numbers
    sources = table["source"].fillna("").astype(str) if "source" in table else pd.Series([IMPORTED] * len(table))
    wrong = [source for source in sources.unique() if not _SOURCE.fullmatch(source)]
    if wrong:
        raise DatasetError(f"{path}: the source {wrong[0][:40]!r} is not a word of letters, digits, + and -")
    if "checked" in table:
        words = table["checked"].fillna("no").astype(str).str.strip().str.lower()
        known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
        if not words.isin(list(known)).all():
            at = int((~words.isin(list(known))).argmax())
            raise DatasetError(f"{path}, line {at + 2 + skipped}: expected yes or no for checked, found {words[at]!r}")
        checked = words.map(known).to_numpy(bool)
    else:
        checked = np.zeros(len(table), bool)
    boxes = table[list(COLUMNS[1:])].to_numpy(np.float64)
    return BoxTable(table["id"].to_numpy(str), boxes, sources.to_numpy(str), checked)


def write(path: Path, table: BoxTable) -> None:
    """Write boxes as a CSV, sorted by id."""
    order = np.argsort(table.ids, kind="stable")
    frame = pd.DataFrame(np.rint(table.boxes[order]).astype(np.int64), columns=list(COLUMNS[1:]))
    frame.insert(0, "id", table.ids[order])
    frame["source"] = table.sources[order]
    frame["checked"] = np.where(table.checked[order], "yes", "no")
    write_text(path, f"{FIRST_LINE}\n{frame.to_csv(index=False, lineterminator=chr(10))}")


def positions(table: BoxTable, ids: np.ndarray) -> np.ndarray:
    """Return where each id (n,) stands in the table; -1 where it does not."""
    at = {name: i for i, name in enumerate(table.ids.tolist())}
    return np.array([at.get(str(name), -1) for name in ids], dtype=np.int64)


def correct(table: BoxTable, corrections: BoxTable) -> tuple[BoxTable, int, int]:
    """Return the table with the corrections' boxes, all checked by hand, and how many changed and were added.

    A correction that repeats a box as it is confirms it: the box keeps its source and is marked as checked.
    """
    at = positions(table, corrections.ids)
    boxes, sources = table.boxes.copy(), table.sources.astype("U24")
    checked = table.checked.copy()
    known = at >= 0
    moved = known.copy()
    moved[known] = (np.rint(boxes[at[known]]) != np.rint(corrections.boxes[known])).any(axis=1)
    boxes[at[moved]] = corrections.boxes[moved]
    sources[at[moved]] = CORRECTED
    checked[at[known]] = True
    new = corrections.where(~known)
    added = make(new.ids, new.boxes, CORRECTED, checked=True)
    joined = BoxTable(
        np.concatenate((table.ids, added.ids)), np.concatenate((boxes, added.boxes)),
        np.concatenate((sources, added.sources)), np.concatenate((checked, added.checked)),
    )  # fmt: skip
    return joined, int(moved.sum()), len(new.ids)
