"""Boxes that cannot be: they miss the head, or are far too large or small for it.

Who takes corners for width and height, or boxes of another image size, gets such boxes by the thousand. Where most of
a file is so, that is an error which says how the file would fit; a few are listed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from headposeplus.boxes.geometry import BoxTable, iou
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, listed
from headposeplus.raw import biwi
from headposeplus.rotations import Floats

# Against the box that follows from the pose. Of the 15,678 published boxes none misses the middle, and the sides are
# 0.7 to 1.5 times as long; tight boxes of face detectors go down to a third.
_SIDES = (0.25, 2.0)
_OUTSIDE = 0.1  # of a box's area: where no pose is known, the most that may lie beyond the image
_PROBLEM = "miss the head, or are far too large or small"
_FITS = 0.9  # of a file's boxes: another reading is named where it makes so many of them fit
_SIZES = ((320, 240), (1280, 960), (1920, 1080), (960, 720), (800, 600), (1024, 768))  # of images, as people resize


def misplaced(boxes: Floats, heads: Floats) -> np.ndarray:
    """Return which boxes (n, 4) cannot be those of heads whose poses give the boxes ``heads`` (n, 4); bool (n,)."""
    middles = heads[:, :2] + heads[:, 2:] / 2
    missed = (middles < boxes[:, :2]) | (middles > boxes[:, :2] + boxes[:, 2:])
    ratio = np.sqrt(np.maximum(boxes[:, 2] * boxes[:, 3], 0) / (heads[:, 2] * heads[:, 3]))
    return np.asarray(missed.any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1) | (ratio < _SIDES[0]) | (ratio > _SIDES[1]))


def outside(boxes: Floats, width: int, height: int) -> np.ndarray:
    """Return which boxes (n, 4) lie partly beyond an image of this size, by a tenth of their area or more."""
    size = np.array([width, height])
    inside = np.clip(np.minimum(boxes[:, :2] + boxes[:, 2:], size) - np.maximum(boxes[:, :2], 0), 0, None)
    return np.asarray(inside.prod(axis=1) < (1 - _OUTSIDE) * boxes[:, 2:].prod(axis=1))


def check_boxes(table: BoxTable, path: Path, heads: BoxTable | None = None, width: int = biwi.WIDTH) -> list[str]:
    """Return the ids of the boxes of a file that cannot be.

    Parameters
    ----------
    table, path
        The boxes and their file.
    heads
        The boxes that follow from poses; boxes of other frames are not judged. None where no pose is known: then those
        boxes are named that lie beyond a Biwi image.
    width
        Of the images that ``heads`` are of, in pixels.

    Raises
    ------
    DatasetError
        If most of the boxes cannot be. It says how the file would fit.
    """
    if heads is None:
        boxes, ids, problem = table.boxes, table.ids, "lie beyond the image"
        judge: Callable[[Floats], np.ndarray] = partial(outside, width=biwi.WIDTH, height=biwi.HEIGHT)
        near = None
    else:
        rows = heads.positions(table.ids)
        boxes, ids, problem = table.boxes[rows >= 0], table.ids[rows >= 0], _PROBLEM
        near = heads.boxes[rows[rows >= 0]]
        judge = partial(misplaced, heads=near)
        if not len(boxes):
            what = "holds no box of these frames"
            raise DatasetError(Fault(what, f"expected ids such as {heads.ids[0]}, found {table.ids[0]}", path))
    wrong = judge(boxes)
    if wrong.sum() * 2 > len(wrong):
        some = f"the {len(wrong):,} boxes looked at" if len(wrong) < len(table.ids) else f"{len(wrong):,} boxes"
        what = f"{int(wrong.sum()):,} of {some} {problem}, {ids[int(wrong.argmax())]} the first"
        raise DatasetError(Fault(what, _reading(boxes, judge, near, width), path))
    return [str(name) for name in ids[wrong]]


def _reading(boxes: Floats, judge: Callable[[Floats], np.ndarray], heads: Floats | None, width: int) -> str:
    """Return how boxes (n, 4) would fit, in words: of the readings that make most of them fit, the closest one."""
    middles, ends = boxes[:, :2], boxes[:, 2:]
    readings = {
        "read as corners, x1, y1, x2 and y2, they fit: hpp boxes import with `corners`": (middles, ends - middles),
        "they fit where x and y are their middles: take half of the width and height from them": (
            middles - ends / 2,
            ends,
        ),
    }
    for other, height in _SIZES:
        if other != width:
            name = f"as boxes of images of {other} x {height} they fit: hpp boxes import with `image_width` {other}"
            readings[name] = (middles * (width / other), ends * (width / other))
    best, nearest = "expected x, y, width and height in pixels of the raw images", 0.0
    for name, parts in readings.items():
        others = np.concatenate(parts, axis=1)
        if (~judge(others)).mean() >= _FITS:
            overlap = 1.0 if heads is None else float(iou(np.maximum(others, 1e-6), heads).mean())
            if overlap > nearest:
                best, nearest = name, overlap
    return best


def misplaced_fault(ids: list[str], file: Path | str, mend: str) -> Fault:
    """Return the fault of a file with some boxes that cannot be."""
    what = f"the box of {ids[0]} misses the head, or is far too large or small"
    if len(ids) > 1:
        what = f"{len(ids):,} boxes {_PROBLEM}: {listed(ids, 'frame')}"
    return Fault(what, mend, file)
