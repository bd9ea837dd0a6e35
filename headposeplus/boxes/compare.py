"""How two files of boxes differ, and the mapping that brings one to the other."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from headposeplus import tables
from headposeplus.boxes import geometry
from headposeplus.boxes.formats import NOT_DETECTED, TRANSFORMED, VERSION
from headposeplus.boxes.geometry import BoxTable, iou
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, plural, said
from headposeplus.files import read_json, write_json
from headposeplus.rotations import ANGLES, Floats

_BINS = (0, 15, 30, 45, 60, 180)  # degrees
_MIN_PAIRS = 20  # boxes from which a mapping is fitted


class BoxMapping(NamedTuple):
    """A fitted mapping between two conventions of boxes.

    A box's middle moves by ``shift`` (2,), in units of its side, and its width and height are multiplied by
    ``scale`` (2,). ``iou_before`` and ``iou_after`` are the mean overlaps of the ``pairs`` boxes it was fitted to.
    """

    shift: Floats
    scale: Floats
    pairs: int
    iou_before: float
    iou_after: float


def shared_frames(a: BoxTable, b: BoxTable) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows in a and in b of the frames that both hold; raises DatasetError if there is none."""
    rows = b.positions(a.ids)
    in_a = np.flatnonzero(rows >= 0)
    if not len(in_a):
        raise DatasetError(f"the two files hold no frame in common; their ids begin with {a.ids[:1]} and {b.ids[:1]}")
    return in_a, rows[in_a]


def compare_boxes(a: BoxTable, b: BoxTable, angles: dict[str, Floats] | None = None) -> pd.DataFrame:
    """Return the overlap of two files' boxes: a row for all frames, and where poses are given, a row a bin.

    ``angles`` holds ``pyr`` angles (3,) by id. The columns are the bin, its frames, in how many of them either file
    has a projection because no face was detected, and of the others: mean and median IoU, the share with an IoU
    below 0.5, the mean shift of b's middle against a's (x and y, in a's widths), and the mean ratio of widths.

    Raises
    ------
    DatasetError
        If the files hold no frame in common, or no pose is known of those.
    """
    in_a, in_b = shared_frames(a, b)
    first, second = a.boxes[in_a], b.boxes[in_b]
    filled = (a.sources[in_a] == NOT_DETECTED) | (b.sources[in_b] == NOT_DETECTED)
    overlap = iou(first, second)
    shift = (geometry.middles(second) - geometry.middles(first)) / first[:, 2:3]
    ratio = second[:, 2] / first[:, 2]

    def row(name: str, rows: np.ndarray) -> dict[str, object]:
        facts: dict[str, object] = {"bin": name, "frames": len(rows), "not_detected": int(filled[rows].sum())}
        rows = rows[~filled[rows]]
        if not len(rows):
            return facts
        return facts | {
            "mean_iou": overlap[rows].mean(),
            "median_iou": np.median(overlap[rows]),
            "below_half": (overlap[rows] < 0.5).mean(),
            "shift_x": shift[rows, 0].mean(),
            "shift_y": shift[rows, 1].mean(),
            "width_ratio": ratio[rows].mean(),
        }

    bins = [row("all", np.arange(len(overlap)))]
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
                    bins.append(row(f"|{name}| {limits}", rows))
    return pd.DataFrame(bins)


def describe_comparison(comparison: pd.DataFrame) -> str:
    """Return a comparison as text."""
    names = list(comparison.columns)
    rows = [
        {name.replace("_", " "): _cell(value) for name, value in zip(names, row, strict=True)}
        for row in comparison.itertuples(index=False)
    ]
    note = "IoU, shift of the middle (in widths of A's box) and ratio of widths leave out the frames not detected."
    shown = tables.table(rows, right=[name.replace("_", " ") for name in names[1:]])
    return "\n".join([shown, *tables.prose(note, "Bins are of pyr angles in degrees, RGB camera.")])


def _cell(value: object) -> str:
    """Return what a table shows of a value: a dash where there is none."""
    return "-" if pd.isna(value) else f"{value:.3f}" if isinstance(value, float) else str(value)


def apply_mapping(mapping: BoxMapping, table: BoxTable) -> BoxTable:
    """Return the boxes as the mapping's other convention has them; each source says so."""
    moved = mapped(table.boxes, mapping.shift, mapping.scale)
    sources = np.array([f"{source}"[: 24 - len(TRANSFORMED)] + TRANSFORMED for source in table.sources], dtype=str)
    return BoxTable(table.ids, np.rint(moved), sources, np.zeros(len(moved), bool))


def mapped(boxes: Floats, shift: Floats, scale: Floats) -> Floats:
    """Return boxes (n, 4) moved and scaled as :class:`BoxMapping` says, not rounded."""
    sizes = boxes[:, 2:] * scale
    middles = geometry.middles(boxes) + shift * boxes[:, 2:]
    return np.concatenate((middles - (sizes - 1) / 2, sizes), axis=1)


def fit_mapping(a: BoxTable, b: BoxTable) -> BoxMapping:
    """Return the shift and scale that bring a's boxes closest to b's, by robust least squares.

    Boxes that b's source marks as not detected do not count. The loss is soft l1, so that a few wrong detections
    do not pull the fit.

    Raises
    ------
    DatasetError
        If the files share too few frames.
    """
    b = b.where(b.sources != NOT_DETECTED)
    in_a, in_b = shared_frames(a, b)
    if len(in_a) < _MIN_PAIRS:
        raise DatasetError(
            f"the two files have {plural(len(in_a), 'frame')} with boxes in common; a fit needs {_MIN_PAIRS}"
        )
    first, second = a.boxes[in_a], b.boxes[in_b]
    side = first[:, 2:]
    shifts = (geometry.middles(second) - geometry.middles(first)) / side
    scales = second[:, 2:] / side

    def misses(values: Floats) -> Floats:
        return np.concatenate((shifts - values[:2], scales - values[2:]), axis=1).ravel()

    start = np.concatenate((np.median(shifts, axis=0), np.median(scales, axis=0)))
    shift, scale = np.split(least_squares(misses, start, loss="soft_l1", f_scale=0.05).x, 2)
    before, after = iou(first, second), iou(mapped(first, shift, scale), second)
    return BoxMapping(shift, scale, len(in_a), float(before.mean()), float(after.mean()))


def write_mapping(path: Path, mapping: BoxMapping) -> None:
    """Write a mapping as JSON."""
    content = {"about": f"mapping between boxes, version {VERSION}", **mapping._asdict()}
    write_json(path, content | {key: np.round(content[key], 6).tolist() for key in ("shift", "scale")})


class _MappingFile(msgspec.Struct):
    """The file that :func:`write_mapping` writes."""

    shift: list[float]
    scale: list[float]
    pairs: int
    iou_before: float
    iou_after: float


def read_mapping(path: Path) -> BoxMapping:
    """Return the mapping that ``hpp boxes fit`` stored; raises DatasetError if the file is none."""
    expected = "a mapping between boxes, as hpp boxes fit writes"
    try:
        stored = msgspec.convert(read_json(path, expected), _MappingFile)
    except msgspec.ValidationError as error:
        why = said(error)
        raise DatasetError(Fault(f"expected {expected}: {why}", file=path)) from error
    shift, scale = np.array(stored.shift), np.array(stored.scale)
    finite = bool(np.isfinite(shift).all() and np.isfinite(scale).all())
    if not (shift.shape == scale.shape == (2,) and finite and (scale > 0).all()):
        raise DatasetError(Fault("expected a shift and a positive scale of two numbers each", file=path))
    return BoxMapping(shift, scale, stored.pairs, stored.iou_before, stored.iou_after)
