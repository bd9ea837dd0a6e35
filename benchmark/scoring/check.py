"""What is wrong with predictions, all at once: faults, which keep them from being scored, and suspicions.

A suspicion is found by fitting: where the poses come much closer to the truth when their columns are swapped, their
signs turned or their convention read as another, that is said with the error that the mended file would have. The
file is never mended silently.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from benchmark.scoring.labels import Labels
from benchmark.scoring.metrics import scores
from benchmark.scoring.protocols import Reference
from benchmark.scoring.submission import read_about, repeated
from headposeplus.poses.convert import ANGLE_COLUMNS, CAMERAS, QUATERNION_COLUMNS
from headposeplus.poses.tables import Fault, Poses, read, shown
from headposeplus.raw import biwi, manifest
from headposeplus.rotations import ANGLES, CONVENTIONS, FLIP, Floats, geodesic, nearest_rotation, to_matrix

CONSTANT, UNITS, CAMERA = "constant", "units", "camera"  # kinds of faults
SAME = 1e-3  # degrees: poses nearer than that are one pose
_FITTED = 600  # frames that a suspicion is looked for on
_GAIN, _LEAST = 0.8, 0.5  # a mended file has at most this share of the error, and this many degrees less
_CAMERA_GAIN, _CAMERA_LEAST = 0.92, 0.1  # the same of the other camera, which changes little
_AGREE = 0.75  # share of the sequences in which it is better
_RADIANS = (0.008, 0.04)  # the spread of angles in radians as a share of the labels' in degrees; exactly 0.0175


class Checked(NamedTuple):
    """What a check finds. ``rotations`` (n, 3, 3) are in the order of the test set's ids; None if there are faults."""

    faults: list[Fault]
    suspicions: list[Fault]
    about: dict[str, Any]
    rotations: Floats | None


class _Reading(NamedTuple):
    """Another way to read the poses: rotations (m, 3, 3) of some frames (m,), what it says, and how to mend that."""

    rotations: Callable[[np.ndarray], Floats]
    what: str
    mend: str
    kind: str = ""


def check(predictions: bytes, about: bytes, reference: Reference, figures: bool = True) -> Checked:
    """Return everything that is wrong with predictions, the bytes of a table and of a TOML.

    Without labels, what needs them is not looked for. With ``figures`` False a suspicion does not tell the error that
    a mended file would have, which is for those whose labels are secret.
    """
    fields, faults = read_about(about)
    faults = [fault._replace(where=f"TOML, {fault.where}" if fault.where else "TOML") for fault in faults]
    faults += _against_protocol(fields, reference)
    poses = read(predictions, fields.get("convention", reference.protocol.convention))
    faults += poses.faults
    suspicions: list[Fault] = []
    rotations = None
    if len(poses.ids):
        faults += repeated(poses)
        places, of_frames = _places(poses, reference, figures)
        faults += of_frames
        faults += _too_uniform(poses, fields, reference)
        if places is not None and np.isfinite(poses.rotations[places]).all():
            rotations = poses.rotations[places]
            if reference.labels is not None and not any(fault.kind == CONSTANT for fault in faults):
                suspicions = _suspicions(
                    poses, places, fields, reference.labels, reference.protocol.convention, figures
                )
                # Angles in another unit are more than a suspicion: no method is scored so by choice.
                if any(found.kind == UNITS for found in suspicions):
                    faults, suspicions = faults + suspicions, []
    suspicions += _odd_training(fields, reference)
    return Checked(faults, suspicions, fields, None if faults else rotations)


def _against_protocol(fields: dict[str, Any], reference: Reference) -> list[Fault]:
    """Return what in a TOML does not go with the protocol."""
    faults, protocol = [], reference.protocol
    camera = fields.get("camera", protocol.camera)
    if camera != protocol.camera:
        faults.append(
            Fault(
                "TOML, camera",
                f"poses in the {camera} camera, but {protocol.id} scores those in the {protocol.camera} camera",
                f"hpp convert --from-camera {camera} --to-camera {protocol.camera} writes those; then say so",
            )
        )
    # A subset's protocol is the whole one's with the subset's name.
    whole = protocol.id.partition(":")[0]
    if fields.get("protocol", whole) not in ("", whole, protocol.id):
        what = f"predictions for {shown(fields['protocol'])}, to be scored under {protocol.id}"
        faults.append(Fault("TOML, protocol", what, "score them under their own, or change the line if that is wrong"))
    if fields.get("task") and "protocol" not in fields and fields["task"] != protocol.task:
        what = f"predictions for the task {fields['task']}, to be scored under {protocol.id}"
        faults.append(Fault("TOML, task", what, "score them under a protocol of their task, or change the line"))
    if fields.get("uses_target_images") and protocol.task == "intra":
        what = f"training saw test images, which {protocol.id} does not allow"
        faults.append(Fault("TOML, uses_target_images", what, "train without them"))
    return faults


def _places(poses: Poses, reference: Reference, figures: bool) -> tuple[np.ndarray | None, list[Fault]]:
    """Return the row (m,) of each frame of the test set, None if any is missing; and what is wrong with the ids."""
    if reference.ids is None:
        return None, []
    position = {name: row for row, name in enumerate(poses.ids.tolist())}
    wanted = reference.ids.tolist()
    known = set(wanted)
    faults = []
    missing = [name for name in wanted if name not in position]
    if len(missing) == len(wanted):
        mend = f"give each frame its id, such as {wanted[0]} (hpp submission template writes them all)"
        return None, [Fault("", f"no id is one of the test set's, the first {shown(poses.ids[0])}", mend)]
    if missing:
        some = ", ".join(missing[:3])
        what = f"{len(missing):,} of {len(wanted):,} frames are missing, the first {some}"
        mend = f"{reference.protocol.id} scores all frames or none: hpp submission template writes a row for each"
        # Who sends predictions to a service has no say in its frames.
        if figures and not reference.protocol.subset:
            mend += "; to score only those of a subset, name it with --subset (hpp subsets lists them)"
        faults.append(Fault("", what, mend))
    extra = np.array([name not in known and name not in reference.beyond for name in poses.ids.tolist()])
    if extra.any():
        what = f"{int(extra.sum()):,} ids are not in the test set, the first {shown(poses.ids[int(extra.argmax())])}"
        faults.append(poses.fault(extra, what, "take these rows out; an id reads biwi/01/00003"))
    outside = np.isin(poses.ids, list(reference.beyond)) if reference.beyond else np.zeros(len(poses.ids), bool)
    if 0 < outside.sum() < len(reference.beyond):
        some = f"{int(outside.sum())} of the {len(reference.beyond)} test frames"
        what = f"{some} outside the subset are there and the others are not"
        faults.append(poses.fault(outside, what, "keep all of them or none"))
    return (None if missing else np.array([position[name] for name in wanted])), faults


def _too_uniform(poses: Poses, fields: dict[str, Any], reference: Reference) -> list[Fault]:
    """Return the fault of a constant output, or of angles that have the spread of radians."""
    good = poses.rotations[np.isfinite(poses.rotations).all(axis=(1, 2))]
    if len(good) < 2:
        return []
    if geodesic(good, good[0]).max() < SAME:
        if fields.get("constant_output"):
            return []
        mend = (
            "write the predictions anew, one for each image; constant_output = true in the TOML says it is on purpose"
        )
        return [Fault("", "every row holds the same pose", mend, kind=CONSTANT)]
    if poses.form == ANGLE_COLUMNS and reference.labels is None and len(good) >= 10:
        values = poses.values[np.isfinite(poses.rotations).all(axis=(1, 2))]
        spread = values.std(axis=0).max() / max(reference.protocol.label_std)
        if np.abs(values).max() <= np.pi and _RADIANS[0] < spread < _RADIANS[1]:
            what = "angles in radians, by their size"
            return [Fault("", what, "multiply pitch, yaw and roll by 180 / pi", kind=UNITS)]
    return []


def _odd_training(fields: dict[str, Any], reference: Reference) -> list[Fault]:
    """Return a suspicion if the training data do not read as those of the protocol."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9+]", "", text.lower())

    given, wanted = fields.get("training_data", ""), reference.protocol.training_data
    if not given or reference.protocol.task not in ("da", "pda") or plain(given) == plain(wanted):
        return []
    what = f"training data {shown(given)}, where {reference.protocol.id} is about {wanted}"
    return [Fault("TOML, training_data", what, "other data belong under biwi+/cross@1")]


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
        return [Fault("", "the predictions are the labels themselves", "give what a model predicts")]
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
        now = scores(poses.rotations[places], labels.rotations, convention)["mae"]
        then = scores(best.rotations(np.arange(len(places))), labels.rotations, convention)["mae"]
        what += f": read so, the MAE would be {then:.2f} degrees instead of {now:.2f}"
    return [Fault("", what, best.mend, kind=best.kind)]


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
