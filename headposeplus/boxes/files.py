"""Files of Biwi's face boxes: where each box comes from, whether a person has checked it, and how two files differ.

A file is a CSV whose first line is ``# headposeplus boxes 1`` and whose columns are id, x, y, width, height (raw
pixels; the last one is at x + width - 1), source and checked. A plain CSV of the first five columns is read too,
and the published ``Biwi_plus.npz``.
"""

from __future__ import annotations

import io
import itertools
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from tabulate import tabulate

from headposeplus.boxes.geometry import BoxTable, iou
from headposeplus.errors import DatasetError
from headposeplus.files import read_json, write_json, write_text
from headposeplus.rotations import ANGLES, Floats

VERSION = 1
FIRST_LINE = f"# headposeplus boxes {VERSION}"
COLUMNS = ("id", "x", "y", "width", "height")
LARGEST = 20_000  # pixels
# Where a box may come from. A detector that finds no face leaves the projection's box, and says so.
IMPORTED, CORRECTED, NOT_DETECTED = "imported", "corrected", "projected-not-detected"
TRANSFORMED = "+transform"
_SOURCE = re.compile(r"[\w+-]{1,24}")
_BINS = (0, 15, 30, 45, 60, 180)  # degrees
_MIN_PAIRS = 20  # boxes from which a mapping is fitted


class Mapping(NamedTuple):
    """A fitted mapping between two conventions of boxes.

    A box's middle moves by ``shift`` (2,), in units of its side, and its width and height are multiplied by
    ``scale`` (2,). ``iou_before`` and ``iou_after`` are the mean overlaps of the ``pairs`` boxes it was fitted to.
    """

    shift: Floats
    scale: Floats
    pairs: int
    iou_before: float
    iou_after: float


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


def pairs(a: BoxTable, b: BoxTable) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions in a and in b of the frames that both hold; raises DatasetError if there is none."""
    at = positions(b, a.ids)
    mine = np.flatnonzero(at >= 0)
    if not len(mine):
        raise DatasetError(f"the two files hold no frame in common; their ids begin with {a.ids[:1]} and {b.ids[:1]}")
    return mine, at[mine]


def compare(a: BoxTable, b: BoxTable, angles: dict[str, Floats] | None = None) -> pd.DataFrame:
    """Return the overlap of two files' boxes: a row for all frames, and where poses are given, a row a bin.

    ``angles`` holds ``pyr`` angles (3,) by id. The columns are the bin, its frames, in how many of them either file
    has a projection because no face was detected, and of the others: mean and median IoU, the share with an IoU
    below 0.5, the mean shift of b's middle against a's (x and y, in a's widths), and the mean ratio of widths.

    Raises
    ------
    DatasetError
        If the files hold no frame in common, or no pose is known of those.
    """
    in_a, in_b = pairs(a, b)
    first, second = a.boxes[in_a], b.boxes[in_b]
    filled = (a.sources[in_a] == NOT_DETECTED) | (b.sources[in_b] == NOT_DETECTED)
    overlap = iou(first, second)
    shift = (_middles(second) - _middles(first)) / first[:, 2:3]
    ratio = second[:, 2] / first[:, 2]

    def row(name: str, rows: np.ndarray) -> dict[str, object]:
        facts: dict[str, object] = {"bin": name, "frames": len(rows), "not_detected": int(filled[rows].sum())}
        rows = rows[~filled[rows]]
        if not len(rows):
            return facts
        few = overlap[rows]
        return facts | {
            "mean_iou": few.mean(), "median_iou": np.median(few), "below_half": (few < 0.5).mean(),
            "shift_x": shift[rows, 0].mean(), "shift_y": shift[rows, 1].mean(), "width_ratio": ratio[rows].mean(),
        }  # fmt: skip

    found = [row("all", np.arange(len(overlap)))]
    if angles is not None:
        known = np.array([str(name) in angles for name in a.ids[in_a]])
        if not known.any():
            raise DatasetError(f"no pose is known for the frames of the two files, such as {a.ids[in_a][0]}")
        poses = np.abs(np.stack([angles.get(str(name), np.full(3, np.nan)) for name in a.ids[in_a]]))
        for column, name in enumerate(ANGLES):
            for low, high in itertools.pairwise(_BINS):
                rows = np.flatnonzero((poses[:, column] >= low) & (poses[:, column] < high))
                if len(rows):
                    limits = f"{low} to {high}" if high < _BINS[-1] else f"from {low}"
                    found.append(row(f"|{name}| {limits}", rows))
    return pd.DataFrame(found)


def describe(comparison: pd.DataFrame) -> str:
    """Return what :func:`compare` finds as a table."""
    table = comparison.astype(object).where(comparison.notna(), None)
    text = tabulate(table, headers="keys", showindex=False, floatfmt=".3f", missingval="-")
    note = "IoU, shift of the middle (in widths of A's box) and ratio of widths leave out the frames not_detected."
    return f"{text}\n{note}\nBins are of pyr angles in degrees, RGB camera."


def _middles(boxes: Floats) -> Floats:
    """Return the middles (n, 2): the last pixel of a box is at x + width - 1."""
    return boxes[:, :2] + (boxes[:, 2:] - 1) / 2


def apply_mapping(mapping: Mapping, table: BoxTable) -> BoxTable:
    """Return the boxes as the mapping's other convention has them; each source says so."""
    moved = _mapped(table.boxes, mapping.shift, mapping.scale)
    sources = np.array([f"{source}"[: 24 - len(TRANSFORMED)] + TRANSFORMED for source in table.sources], dtype=str)
    return BoxTable(table.ids, np.rint(moved), sources, np.zeros(len(moved), bool))


def _mapped(boxes: Floats, shift: Floats, scale: Floats) -> Floats:
    sizes = boxes[:, 2:] * scale
    middles = _middles(boxes) + shift * boxes[:, 2:]
    return np.concatenate((middles - (sizes - 1) / 2, sizes), axis=1)


def fit_mapping(a: BoxTable, b: BoxTable) -> Mapping:
    """Return the shift and scale that bring a's boxes closest to b's, by robust least squares.

    Boxes that b's source marks as not detected do not count. The loss is soft l1, so that a few wrong detections
    do not pull the fit.

    Raises
    ------
    DatasetError
        If the files share too few frames.
    """
    b = b.where(b.sources != NOT_DETECTED)
    in_a, in_b = pairs(a, b)
    if len(in_a) < _MIN_PAIRS:
        raise DatasetError(f"the two files have {len(in_a)} frames with boxes in common; a fit needs {_MIN_PAIRS}")
    first, second = a.boxes[in_a], b.boxes[in_b]
    side = first[:, 2:]
    shifts = (_middles(second) - _middles(first)) / side
    scales = second[:, 2:] / side

    def misses(values: Floats) -> Floats:
        return np.concatenate((shifts - values[:2], scales - values[2:]), axis=1).ravel()

    start = np.concatenate((np.median(shifts, axis=0), np.median(scales, axis=0)))
    found = least_squares(misses, start, loss="soft_l1", f_scale=0.05).x
    after = iou(_mapped(first, found[:2], found[2:]), second)
    return Mapping(found[:2], found[2:], len(in_a), float(iou(first, second).mean()), float(after.mean()))


def write_mapping(path: Path, mapping: Mapping) -> None:
    """Write a mapping as JSON."""
    content = {"about": f"mapping between boxes, version {VERSION}", **mapping._asdict()}
    write_json(path, content | {key: np.round(content[key], 6).tolist() for key in ("shift", "scale")})


def read_mapping(path: Path) -> Mapping:
    """Return the mapping that ``hpp boxes fit`` stored; raises DatasetError if the file is none."""
    content = read_json(path, "a mapping between boxes, as hpp boxes fit writes")
    try:
        shift, scale = np.array(content["shift"], np.float64), np.array(content["scale"], np.float64)
        mapping = Mapping(shift, scale, int(content["pairs"]), content["iou_before"], content["iou_after"])
        fitting = shift.shape == scale.shape == (2,) and bool(np.isfinite([*shift, *scale]).all() and (scale > 0).all())
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: expected a mapping between boxes, as hpp boxes fit writes: {error!r}") from error
    if not fitting:
        raise DatasetError(f"{path}: expected a shift and a positive scale of two numbers each")
    return mapping
