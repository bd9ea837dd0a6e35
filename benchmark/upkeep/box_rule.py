"""The rule by which a face box follows from a pose: fitted to the published boxes, and measured on other subjects.

``python -m benchmark.upkeep.box_rule Biwi_plus.npz db_annotations`` fits the numbers of
:mod:`headposeplus.boxes.geometry` to every other subject and writes what they give to ``results/real/box_rule.json``.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.optimize import least_squares

from benchmark.upkeep.walk import ROOT
from headposeplus import tables
from headposeplus.boxes import geometry
from headposeplus.boxes.files import read_boxes
from headposeplus.boxes.geometry import iou, projected
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault
from headposeplus.files import below, sha256, write_json
from headposeplus.images import square
from headposeplus.raw import biwi, manifest
from headposeplus.raw.biwi import Pose
from headposeplus.raw.ids import parse_frame
from headposeplus.rotations import ANGLES, Floats, from_matrix, to_matrix, to_ray

RECORD = ROOT / "results" / "real" / "box_rule.json"
_SQUARES_MM = (230.0, 270.0)  # plain squares about the projected centre, for comparison
_BINS = (-90, -40, -20, 0, 20, 40, 90)  # degrees
_LOSS = {"loss": "soft_l1", "f_scale": 0.05}  # of the logarithm of the size; a few boxes are wrong


class Heads(NamedTuple):
    """Heads with published boxes: subjects (n,), poses in the RGB camera, boxes (n, 4)."""

    subjects: np.ndarray
    poses: list[Pose]
    boxes: Floats

    def where(self, rows: np.ndarray) -> Heads:
        """Return some of the heads, bool (n,)."""
        return Heads(self.subjects[rows], list(itertools.compress(self.poses, rows)), self.boxes[rows])


class BoxBin(msgspec.Struct, frozen=True):
    """Mean overlap in a bin of an angle: of the rule, and of plain squares by their size in millimetres."""

    angle: str
    low: int
    high: int
    frames: int
    rule: float
    squares: dict[str, float]


class BoxRuleFigures(msgspec.Struct, frozen=True):
    """How well the rule's boxes overlap the published ones, on which subjects."""

    rule: str
    boxes_sha256: str
    fitted_on: list[str]
    fitted_frames: int
    fitted_iou: float
    held_out: list[str]
    bins: list[BoxBin]


def read_heads(boxes_file: Path, annotations: Path) -> Heads:
    """Return the heads of Biwi's own annotations, a folder of ``NN/frame_00003_pose.bin``, with published boxes.

    Raises
    ------
    DatasetError
        If no annotation has a box.
    """
    published, table = read_boxes(boxes_file), manifest.read()
    groups, subjects = manifest.calibration_groups(table), manifest.biwi_subjects(table)
    rows = dict(zip(published.ids.tolist(), published.boxes, strict=True))
    cameras = {group: biwi.known_camera(group) for group in set(groups.values())}
    who, poses, boxes = [], [], []
    for path in below(annotations, "_pose.bin"):
        name, sequence = parse_frame(f"{path.parent.name}/{path.name}"), path.parent.name
        if name not in rows:
            continue
        centre, angles = biwi.read_pose_bin(path)
        poses.append(biwi.to_rgb_camera(Pose(to_matrix(angles, "biwi"), centre), cameras[groups[sequence]]))
        who.append(subjects[sequence])
        boxes.append(rows[name])
    if not poses:
        raise DatasetError(
            Fault("no annotation of a frame with a box", "expected NN/frame_00003_pose.bin", annotations)
        )
    return Heads(np.array(who), poses, np.array(boxes))


def halves(heads: Heads) -> tuple[np.ndarray, np.ndarray]:
    """Return which heads (n,) the rule is fitted to, every other subject by name, and which are held out."""
    fitted = np.isin(heads.subjects, sorted(set(heads.subjects.tolist()))[::2])
    return fitted, ~fitted


class Coefficients(NamedTuple):
    """The numbers of :mod:`headposeplus.boxes.geometry`: of the size in millimetres, and of the shift."""

    size_mm: float
    by_pitch: Floats
    by_distance: Floats
    shift_x: Floats
    shift_y: Floats


def fit(heads: Heads) -> Coefficients:
    """Fit the rule to heads by robust least squares: the logarithm of the size, and the shift in millimetres."""
    centres = np.stack([pose.centre for pose in heads.poses])
    rotations = to_ray(centres).swapaxes(1, 2) @ np.stack([pose.rotation for pose in heads.poses])
    scale = np.array(biwi.RGB_MATRIX)[0, 0] / centres[:, 2]
    camera = biwi.known_camera("A")  # both groups have one K
    shifts = (geometry.middles(heads.boxes) - camera.project(centres)) / scale[:, None]
    away = np.log(np.clip(centres[:, 2], *geometry.DISTANCES_MM) / 900)
    back, down, one = rotations[:, :, 2], rotations[:, :, 1], np.ones(len(scale))
    size = _solve(
        np.column_stack((one, back[:, 1], back[:, 1] ** 2, away, away**2)), np.log(heads.boxes[:, 2] / scale), 1.0
    )
    x, y = (_solve(np.column_stack((one, back[:, i], down[:, i])), shifts[:, i], geometry.SIZE_MM) for i in (0, 1))
    return Coefficients(float(np.exp(size[0])), size[1:3], size[3:], x, y)


def _solve(terms: Floats, values: Floats, unit: float) -> Floats:
    """Return the weights (k,) of terms (n, k) that give the values (n,), whose misses count in ``unit``."""
    start = np.linalg.lstsq(terms, values, rcond=None)[0]
    weights: Floats = least_squares(lambda x: (terms @ x - values) / unit, start, **_LOSS).x
    return weights


def measure(heads: Heads, boxes_file: Path) -> BoxRuleFigures:
    """Return how well the package's rule does on the subjects that it was fitted to, and on the others by pose."""
    fitted, held_out = halves(heads)
    camera = biwi.known_camera("A")
    rule = iou(np.stack([projected(pose, camera) for pose in heads.poses]), heads.boxes)
    plain = {
        f"{side:.0f}": iou(np.stack([_square(pose, camera, side) for pose in heads.poses]), heads.boxes)
        for side in _SQUARES_MM
    }
    angles = from_matrix(np.stack([pose.rotation for pose in heads.poses]))

    def row(name: str, low: int, high: int, rows: np.ndarray) -> BoxBin:
        squares = {side: round(float(overlap[rows].mean()), 4) for side, overlap in plain.items()}
        return BoxBin(name, low, high, int(rows.sum()), round(float(rule[rows].mean()), 4), squares)

    bins = [row("all", -90, 90, held_out)]
    for column, name in enumerate(ANGLES):
        for low, high in itertools.pairwise(_BINS):
            rows = held_out & (angles[:, column] >= low) & (angles[:, column] < high)
            if rows.any():
                bins.append(row(name, low, high, rows))
    people = [sorted(set(heads.subjects[rows].tolist())) for rows in (fitted, held_out)]
    return BoxRuleFigures(
        geometry.RULE, sha256(boxes_file), people[0], int(fitted.sum()), round(float(rule[fitted].mean()), 4),
        people[1], bins,
    )  # fmt: skip


def _square(pose: Pose, camera: biwi.Calibration, side: float) -> Floats:
    return np.rint(square(camera.project(pose.centre), camera.matrix[0, 0] * side / pose.centre[2]))


def describe_box_rule(figures: BoxRuleFigures, style: str = "simple") -> str:
    """Return the overlaps as a table, and on whom they were measured."""
    rows = [
        {
            "held-out frames": "all" if part.angle == "all" else f"{part.angle} {part.low} to {part.high}",
            "frames": f"{part.frames:,}",
            "the rule": f"{part.rule:.3f}",
            **{f"a square of {side} mm": f"{overlap:.3f}" for side, overlap in part.squares.items()},
        }
        for part in figures.bins
    ]
    about = (
        f"Mean IoU with the published boxes. The rule was fitted to {', '.join(figures.fitted_on)} "
        f"({figures.fitted_frames:,} frames, mean IoU {figures.fitted_iou:.3f}); the table is of the others. "
        "Degrees, convention pyr, RGB camera."
    )
    return tables.with_note(rows, about, style)


def main(words: Sequence[str]) -> None:
    """Fit, show what the fit says and what the package has, and keep the figures."""
    boxes_file, annotations = map(Path, words)
    heads = read_heads(boxes_file, annotations)
    print(f"fitted: {fit(heads.where(halves(heads)[0]))}")
    figures = measure(heads, boxes_file)
    write_json(RECORD, msgspec.to_builtins(figures))
    print(describe_box_rule(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
