"""Face boxes: x, y, width, height in raw pixels, the last pixel at x + width - 1, each with its source."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from headposeplus.biwi import Calibration
from headposeplus.errors import DatasetError
from headposeplus.images import inscribed_circle
from headposeplus.rotations import Floats

# The side of the cube that a projected box frames, about the height of an adult's head.
HEAD_SIZE_MM = 230.0
# The side of a rendered head's box in radii of the largest circle inside its outline: it frames about as much
# of the head as a projected box does.
MASK_BOX_SCALE = 2.6


def projected(centre: Floats, camera: Calibration) -> Floats:
    """Return the box (4,) of a head whose centre (3,), millimetres, is given in the camera's frame.

    A square about the projected centre, as wide as :data:`HEAD_SIZE_MM` looks at its distance.
    """
    side = camera.matrix[0, 0] * HEAD_SIZE_MM / centre[2]
    middle = camera.project(centre)
    return np.rint([middle[0] - side / 2 + 0.5, middle[1] - side / 2 + 0.5, side, side])


def of_mask(mask: np.ndarray, degrees: float, principal: Floats) -> Floats:
    """Return the square box (4,) of a rendered head, in the image turned by ``degrees`` about ``principal``.

    About the largest circle inside the head's foreground (height, width), :data:`MASK_BOX_SCALE` radii wide.
    """
    middle, radius = inscribed_circle(mask)
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    middle = principal + np.array([[cos, -sin], [sin, cos]]) @ (middle - principal)
    side = MASK_BOX_SCALE * radius
    return np.rint([*(middle - side / 2 + 0.5), side, side])


def iou(a: Floats, b: Floats) -> Floats:
    """Return the intersection over union (...) of boxes (..., 4)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=-1)
    return overlap / (a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - overlap)


def read_boxes(path: Path) -> dict[str, Floats]:
    """Return boxes by frame id (``biwi/01/00003``), from a CSV or from the published ``Biwi_plus.npz``.

    The CSV has the columns id, x, y, width, height; others are ignored.

    Raises
    ------
    DatasetError
        If the file is missing, lacks a column, or holds a box that is not finite or has no area.
    """
    try:
        ids, boxes = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    except (OSError, ValueError, zipfile.BadZipFile, KeyError) as error:
        raise DatasetError(f"{path}: cannot be read as boxes: {error}") from error
    bad = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] <= 0).any(axis=1)
    if bad.any():
        raise DatasetError(f"{path}: the box of {ids[int(bad.argmax())]} is not finite or has no area")
    if len(set(ids)) != len(ids):
        raise DatasetError(f"{path}: two boxes have one id; keep one of each")
    return dict(zip(ids, boxes, strict=True))


def _read_npz(path: Path) -> tuple[list[str], Floats]:
    with np.load(path, allow_pickle=False) as file:
        lacking = [key for key in ("images", "bbox") if key not in file]
        if lacking:
            raise DatasetError(f"{path}: expected the arrays images and bbox, {' and '.join(lacking)} is missing")
        names, boxes = file["images"], np.asarray(file["bbox"], np.float64)
    matches = [re.search(r"(\d\d)/frame_(\d{5})_rgb", str(name)) for name in names]
    if boxes.shape != (len(names), 4) or not all(matches):
        raise DatasetError(f"{path}: expected images such as 01/frame_00003_rgb.png and bbox of n x 4")
    return [f"biwi/{match[1]}/{match[2]}" for match in matches if match], boxes


def _read_csv(path: Path) -> tuple[list[str], Floats]:
    table = pd.read_csv(path, dtype={"id": str}, encoding="utf-8-sig", skipinitialspace=True)
    lacking = [column for column in ("id", "x", "y", "width", "height") if column not in table]
    if lacking:
        raise DatasetError(f"{path}: the boxes lack the columns {', '.join(lacking)}")
    return table["id"].tolist(), table[["x", "y", "width", "height"]].to_numpy(np.float64)
