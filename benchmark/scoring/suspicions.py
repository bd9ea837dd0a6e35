"""Suspicions about predictions: readings of them, and orders, that fit the labels much better."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from benchmark.scoring.labels import Labels
from benchmark.scoring.metrics import scores
from benchmark.scoring.orders import MEND, find_order, look_shuffled
from benchmark.scoring.submission import About
from headposeplus.faults import Fault
from headposeplus.poses.columns import ANGLE_COLUMNS, CAMERAS, QUATERNION_COLUMNS
from headposeplus.poses.tables import Poses
from headposeplus.raw import biwi, manifest
from headposeplus.rotations import ANGLES, CONVENTIONS, FLIP, Floats, geodesic, nearest_rotation, to_matrix

CONSTANT, UNITS, CAMERA = "constant", "units", "camera"  # kinds of faults
SAME = 1e-3  # degrees: poses nearer than that are one pose
_FITTED = 600  # frames that a suspicion is looked for on
_GAIN, _LEAST = 0.8, 0.5  # a mended file has at most this share of the error, and this many degrees less
_CAMERA_GAIN, _CAMERA_LEAST = 0.92, 0.1  # the same of the other camera, which changes little
_AGREE = 0.75  # share of the sequences in which it is better


class _Reading(NamedTuple):
    """Another way to read the poses: rotations (m, 3, 3) of some frames (m,), what it says, and how to mend that."""

    rotations: Callable[[np.ndarray], Floats]
    what: str
    mend: str
    kind: str = ""


def find_suspicions(poses: Poses, places: np.ndarray, about: About, labels: Labels, convention: str) -> list[Fault]:
    """Return the reading, or the order, of the poses that fits the labels much better, if there is one.

    ``places`` (m,) are the rows of the labels' frames. The error that the mended file would have in ``convention`` is
    told.
    """
    some = np.linspace(0, len(places) - 1, min(len(places), _FITTED)).round().astype(int)
    truth, sequences = labels.rotations[some], labels.sequences[some]
    present = geodesic(poses.rotations[places[some]], truth)
    best, errors = None, present
    for reading in _readings(poses, places, about, labels):
        errors_so = geodesic(reading.rotations(some), truth)
        # The plainer reading comes first, and a later one must be better by more than rounding.
        if errors_so.mean() < errors.mean() - 0.01:
            best, errors = reading, errors_so
    error = errors.mean()
    if error < SAME and best is None:
        return [Fault("the predictions are the labels themselves", "give what a model predicts")]
    # No mend is proposed that would still leave more than one pose for all frames would.
    constant = geodesic(truth, Rotation.from_matrix(truth).mean().as_matrix()).mean()
    gain, least = (_CAMERA_GAIN, _CAMERA_LEAST) if best is not None and best.kind == CAMERA else (_GAIN, _LEAST)
    better = [errors[sequences == name].mean() < present[sequences == name].mean() for name in np.unique(sequences)]
    most = min(gain * present.mean(), present.mean() - least, constant)
    if best is None or error > most or np.mean(better) < _AGREE:
        best = _ordered(poses.rotations[places], places, labels, constant)
    if best is None:
        shuffled = look_shuffled(poses.rotations[places], labels.rotations)
        what = "poses fit their frames no better than in any order, as if they had been shuffled"
        return [Fault(what, f"{MEND}; a loader with shuffle=True gives others")] if shuffled else []
    now = scores(poses.rotations[places], labels.rotations, convention).mae
    then = scores(best.rotations(np.arange(len(places))), labels.rotations, convention).mae
    if then >= now:  # nearer as a rotation, and no better by the measure that ranks
        return []
    what = f"{best.what}: read so, the MAE would be {then:.2f} degrees instead of {now:.2f}"
    return [Fault(what, best.mend, kind=best.kind)]


def _ordered(rotations: Floats, places: np.ndarray, labels: Labels, constant: float) -> _Reading | None:
    """Return the order of poses (m, 3, 3), which stand at some rows (m,) of a file, that fits the labels far better."""
    order = find_order(rotations, places, labels)
    if order is None or geodesic(rotations[order.rows], labels.rotations).mean() > constant:
        return None
    return _Reading(rotations[order.rows].__getitem__, order.what, order.mend)


def _readings(poses: Poses, places: np.ndarray, about: About, labels: Labels) -> Iterator[_Reading]:
    """Yield other readings of the poses at some rows (m,), the plainest first."""
    if poses.form == ANGLE_COLUMNS:
        yield from _readings_of_angles(poses.values[places], about.convention or "pyr")
    rotations = poses.rotations[places]
    yield from _readings_of_camera(rotations, about.camera, labels)
    if poses.form == QUATERNION_COLUMNS:
        yield from _readings_of_quaternions(poses.values[places])
    inverse = np.swapaxes(rotations, -1, -2)
    yield _Reading(inverse.__getitem__, "rotations look inverted", "give R from head to camera: transpose each")
    for word, first, base in (("", "", rotations), ("the inverse, ", "transpose each, then ", inverse)):
        for left, right, where, product in (
            (FLIP, FLIP, "of axes with y up", "F R F"),
            (FLIP, np.eye(3), "into a camera with y up", "F R"),
            (np.eye(3), FLIP, "from a head with y up", "R F"),
        ):
            yield _Reading(
                (left @ base @ right).__getitem__,
                f"rotations look like {word}those {where}",
                f"give R from head to camera, x right, y down, z forward: {first}{product}, with F = diag(1, -1, -1)",
            )


def _readings_of_quaternions(values: Floats) -> Iterator[_Reading]:
    """Yield quaternions (m, 4) with w first, and those of the inverse."""
    for sign, word in ((1, ""), (-1, " of the inverse")):
        moved = values[:, [1, 2, 3, 0]] * [sign, sign, sign, 1]
        yield _Reading(
            Rotation.from_quat(moved).as_matrix().__getitem__,
            f"quaternions{word} look as if w came first",
            f"rename qx, qy, qz, qw to qw, qx, qy, qz{' and turn the signs of qx, qy, qz' * (sign < 0)}",
        )


class _Change(NamedTuple):
    """What may be done to angles: multiply by a unit, reorder the columns, turn signs, read in a convention."""

    unit: float
    order: tuple[int, ...]
    signs: tuple[int, ...]
    convention: str

    def steps(self, convention: str) -> list[tuple[str, str]]:
        """Return each step in words, and how to mend what it finds, for angles that are said to be of a convention."""
        names = np.array(ANGLES)
        steps = []
        if self.unit != 1:
            name, factor = ("divided by 90", "90") if self.unit == 90 else ("like radians", "180 / pi")
            steps.append((f"angles look {name}", f"multiply pitch, yaw and roll by {factor}"))
        if self.order != (0, 1, 2):
            reordered = names[list(self.order)]
            moved = [f"{a} in {b}" for a, b in zip(ANGLES, reordered, strict=True) if a != b]
            mend = f"rename {', '.join(reordered)} to {', '.join(names)}"
            steps.append((f"columns look swapped, {', '.join(moved)}", mend))
        if min(self.signs) < 0:
            turned = ", ".join(names[np.array(self.signs) < 0])
            steps.append((f"signs look turned, of {turned}", f"multiply {turned} by -1"))
        if self.convention != convention:
            what = f"angles look like {self.convention}, not {convention}"
            steps.append((what, f'write convention = "{self.convention}"'))
        return steps


def _changed(some: np.ndarray, values: Floats, change: _Change) -> Floats:
    """Return the rotations (k, 3, 3) of some rows (k,) of angles (m, 3)."""
    return to_matrix(values[some][:, change.order] * change.signs * change.unit, change.convention)


def _readings_of_angles(values: Floats, convention: str) -> list[_Reading]:
    """Return angles (m, 3) in other conventions, with signs turned, columns swapped, in degrees for radians."""
    units = (1.0, 180 / np.pi, 90.0) if np.abs(values).max() <= 2 * np.pi else (1.0,)
    signs = list(itertools.product((1, -1), repeat=3))
    changes = itertools.starmap(_Change, itertools.product(units, itertools.permutations(range(3)), signs, CONVENTIONS))
    readings: list[tuple[int, int, _Reading]] = []
    for change in changes:
        steps = change.steps(convention)
        if steps:
            what, mend = (" and ".join(words) for words in zip(*steps, strict=True))
            kind = UNITS if change.unit != 1 else ""
            reading = _Reading(partial(_changed, values=values, change=change), what, mend, kind)
            readings.append((len(steps), change.signs.count(-1), reading))
    return [reading for *_, reading in sorted(readings, key=lambda ranked: ranked[:2])]


def _readings_of_camera(rotations: Floats, camera: str, labels: Labels) -> Iterator[_Reading]:
    """Yield poses (m, 3, 3) of Biwi's frames, turned from the depth into the RGB camera or back."""
    groups = manifest.calibration_groups(manifest.read())
    named = [groups.get(name) for name in labels.sequences.tolist()]
    if camera not in CAMERAS or any(name not in biwi.CALIBRATION_ROTATIONS for name in named):
        return
    turns = {name: nearest_rotation(matrix) for name, matrix in biwi.CALIBRATION_ROTATIONS.items()}
    turn = np.stack([turns[str(name)] for name in named])
    other = "depth" if camera == "rgb" else "rgb"
    if camera == "depth":
        turn = np.swapaxes(turn, -1, -2)
    yield _Reading(
        lambda some: turn[some] @ rotations[some],
        f"poses look like those in the {other} camera, not the {camera} camera",
        f"hpp convert --from-camera {other} --to-camera {camera} turns them",
        CAMERA,
    )
