"""Suspicions about predictions: readings of them that fit the labels much better."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from benchmark.scoring.labels import Labels
from benchmark.scoring.metrics import scores
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


def _suspicions(
    poses: Poses, places: np.ndarray, fields: dict[str, Any], labels: Labels, convention: str, figures: bool
) -> list[Fault]:
    """Return the reading of the poses that fits the labels much better, if there is one."""
    some = np.linspace(0, len(places) - 1, min(len(places), _FITTED)).round().astype(int)
    truth, sequences = labels.rotations[some], labels.sequences[some]
    present = geodesic(poses.rotations[places[some]], truth)
    best, errors = None, present
    for reading in _readings(poses, places, fields, labels):
        found = geodesic(reading.rotations(some), truth)
        # The plainer reading comes first, and a later one must be better by more than rounding.
        if found.mean() < errors.mean() - 0.01:
            best, errors = reading, found
    error = errors.mean()
    if error < SAME and best is None:
        return [Fault("the predictions are the labels themselves", "give what a model predicts")]
    # No mend is proposed that would still leave more than one pose for all frames would.
    constant = geodesic(truth, Rotation.from_matrix(truth).mean().as_matrix()).mean()
    gain, least = (_CAMERA_GAIN, _CAMERA_LEAST) if best is not None and best.kind == CAMERA else (_GAIN, _LEAST)
    if best is None or error > gain * present.mean() or error > present.mean() - least or error > constant:
        return []
    better = [errors[sequences == name].mean() < present[sequences == name].mean() for name in np.unique(sequences)]
    if np.mean(better) < _AGREE:
        return []
    what = best.what
    if figures:
        now = scores(poses.rotations[places], labels.rotations, convention).mae
        then = scores(best.rotations(np.arange(len(places))), labels.rotations, convention).mae
        what += f": read so, the MAE would be {then:.2f} degrees instead of {now:.2f}"
    return [Fault(what, best.mend, kind=best.kind)]


def _readings(poses: Poses, places: np.ndarray, fields: dict[str, Any], labels: Labels) -> Iterator[_Reading]:
    """Yield other readings of the poses at some rows (m,), the plainest first."""
    if poses.form == ANGLE_COLUMNS:
        yield from _readings_of_angles(poses.values[places], fields.get("convention", "pyr"))
    given = poses.rotations[places]
    yield from _readings_of_camera(given, fields, labels)
    if poses.form == QUATERNION_COLUMNS:
        for sign, word in ((1, ""), (-1, " of the inverse")):
            moved = poses.values[places][:, [1, 2, 3, 0]] * [sign, sign, sign, 1]
            yield _Reading(
                Rotation.from_quat(moved).as_matrix().__getitem__,
                f"quaternions{word} look as if w came first",
                f"rename qx, qy, qz, qw to qw, qx, qy, qz{' and turn the signs of qx, qy, qz' * (sign < 0)}",
            )
    inverse = np.swapaxes(given, -1, -2)
    yield _Reading(inverse.__getitem__, "rotations look inverted", "give R from head to camera: transpose each")
    for word, first, base in (("", "", given), ("the inverse, ", "transpose each, then ", inverse)):
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


def _readings_of_angles(values: Floats, convention: str) -> list[_Reading]:
    """Return angles (m, 3) in other conventions, with signs turned, columns swapped, in degrees for radians."""
    names = np.array(ANGLES)
    units = (1.0, 180 / np.pi, 90.0) if np.abs(values).max() <= 2 * np.pi else (1.0,)
    found: list[tuple[int, int, _Reading]] = []
    for unit, order, signs, read_as in itertools.product(
        units, itertools.permutations(range(3)), itertools.product((1, -1), repeat=3), CONVENTIONS
    ):
        steps = []
        if unit != 1:
            name, factor = ("divided by 90", "90") if unit == 90 else ("like radians", "180 / pi")
            steps.append((f"angles look {name}", f"multiply pitch, yaw and roll by {factor}"))
        if order != (0, 1, 2):
            moved = [f"{a} in {b}" for a, b in zip(ANGLES, names[list(order)], strict=True) if a != b]
            mend = f"rename {', '.join(names[list(order)])} to {', '.join(names)}"
            steps.append((f"columns look swapped, {', '.join(moved)}", mend))
        if min(signs) < 0:
            turned = ", ".join(names[np.array(signs) < 0])
            steps.append((f"signs look turned, of {turned}", f"multiply {turned} by -1"))
        if read_as != convention:
            steps.append((f"angles look like {read_as}, not {convention}", f'write convention = "{read_as}"'))

        def rotations(
            some: np.ndarray, unit: float = unit, order: tuple[int, ...] = order, signs: tuple[int, ...] = signs,
            read_as: str = read_as,
        ) -> Floats:  # fmt: skip
            return to_matrix(values[some][:, order] * signs * unit, read_as)

        if steps:
            whats, mends = zip(*steps, strict=True)
            reading = _Reading(rotations, " and ".join(whats), " and ".join(mends), UNITS if unit != 1 else "")
            found.append((len(steps), signs.count(-1), reading))
    return [reading for *_, reading in sorted(found, key=lambda one: one[:2])]


def _readings_of_camera(given: Floats, fields: dict[str, Any], labels: Labels) -> Iterator[_Reading]:
    """Yield poses (m, 3, 3) of Biwi's frames, turned from the depth into the RGB camera or back."""
    groups = manifest.calibration_groups(manifest.read())
    named = [groups.get(name) for name in labels.sequences.tolist()]
    if fields.get("camera") not in CAMERAS or any(name not in biwi.CALIBRATION_ROTATIONS for name in named):
        return
    turns = {name: nearest_rotation(matrix) for name, matrix in biwi.CALIBRATION_ROTATIONS.items()}
    turn = np.stack([turns[str(name)] for name in named])
    said, other = fields["camera"], "depth" if fields["camera"] == "rgb" else "rgb"
    if said == "depth":
        turn = np.swapaxes(turn, -1, -2)
    yield _Reading(
        lambda some: turn[some] @ given[some],
        f"poses look like those in the {other} camera, not the {said} camera",
        f"hpp convert --from-camera {other} --to-camera {said} turns them",
        CAMERA,
    )
