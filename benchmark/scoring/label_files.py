"""Files of labels: their poses, and in which convention and camera those are.

A file is believed where it says so itself, or a TOML of its name beside it does. Of whole sequences of the real Biwi
the published label statistics tell it. Where nothing does, it is not assumed: it stays unknown, and what needs it asks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus import archives
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, remarked, said, shown, unreadable
from headposeplus.files import beside, opened_npz
from headposeplus.poses import tables
from headposeplus.poses.columns import ANGLE_COLUMNS, CAMERAS
from headposeplus.poses.containers import PREDICTED
from headposeplus.raw import biwi, manifest
from headposeplus.raw.ids import frame_id
from headposeplus.rotations import CONVENTIONS, Floats, from_matrix, to_matrix
from headposeplus.sheets import STRANGERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_BY_STATISTICS = "its labels' statistics"
PUBLISHED_TOLERANCE = 1e-3  # degrees, of the means and deviations of a sequence's labels


class LabelsAt(NamedTuple):
    """Where labels are, a folder or a file, and what their user says of them; empty texts where nothing is said."""

    path: Path
    convention: str = ""
    camera: str = ""


class LabelTable(NamedTuple):
    """The labels in a file.

    Attributes
    ----------
    ids, rotations
        (n,) and (n, 3, 3), head to camera.
    subjects
        (n,); None where the file has none.
    convention
        That of the file's angles; empty where it holds rotations, or nothing says which: ``pyr`` is tried then.
    camera
        ``rgb`` or ``depth``; empty where nothing says which.
    unsaid
        Which of ``convention`` and ``camera`` nothing says.
    """

    ids: np.ndarray
    rotations: Floats
    subjects: np.ndarray | None
    convention: str
    camera: str
    unsaid: tuple[str, ...]


class Said(NamedTuple):
    """What is said of labels; empty texts where nothing is."""

    convention: str = ""
    camera: str = ""


def read_label_file(at: LabelsAt) -> LabelTable:
    """Return the labels of a file: any that predictions could stand in, such as the published ``Biwi_plus.npz``.

    Raises
    ------
    DatasetError
        If there is no such file, it is faulty, or it says another convention or camera than the user does.
    """
    path = at.path
    try:
        data = path.read_bytes()
        inside = archives.unzipped(data, STRANGERS, archives.MAX_ABOUT)
        data = inside.table if inside else data
    except DatasetError as error:
        raise DatasetError(error.fault._replace(file=path)) from error
    except OSError as error:
        expected = "a folder of built datasets, Biwi_plus.npz, or a CSV with id, pitch, yaw, roll"
        raise DatasetError(unreadable(path, error, expected)) from error
    scalars, arrays = _scalars(path, data) if archives.is_zip(data) else ({}, set())
    told = agreed(path, _checked(path, Said(at.convention, at.camera)), _said_in(path, scalars, inside))
    named = [name for name in ("pyr", "ypr") if name in arrays]  # the array's name says it
    if named and told.convention not in ("", *named):
        what = f"holds {' and '.join(named)}, not {told.convention}"
        raise DatasetError(Fault(what, "leave `labels_convention` out, or give one of those", path))
    predicted = sorted(name for name in arrays if name.startswith(PREDICTED))
    if predicted:
        raise DatasetError(
            Fault(f"holds predictions, {predicted[0]}, and no labels", "give the labels' own file", path)
        )
    told = told._replace(convention=told.convention or (named[0] if named else ""))
    poses = tables.read(data, told.convention)
    told = told._replace(convention=told.convention or poses.told)
    if poses.faults:
        first = poses.faults[0]
        raise DatasetError(remarked(first._replace(file=path), f"faults in all: {len(poses.faults)}"))
    nobody = np.array([not name for name in poses.subjects]) if poses.subjects is not None else np.zeros(0, bool)
    if nobody.any():
        fault = poses.fault(
            nobody, "no subject", "name everybody, or leave the column out: a sequence is then a subject"
        )
        raise DatasetError(fault._replace(file=path))
    angles = poses.values if poses.form == ANGLE_COLUMNS else None
    if angles is None:
        told = told._replace(convention="")  # a rotation has none
    known = _recognised(poses.ids, poses.rotations, angles)
    if known:
        told = agreed(path, told, next((said for said in known if _fits(told, said)), known[0]), _BY_STATISTICS)
    rotations = poses.rotations if angles is None else to_matrix(angles, told.convention or "pyr")
    needed = Said._fields if angles is not None else ("camera",)
    unsaid = [name for name in needed if not getattr(told, name)]
    return LabelTable(poses.ids, rotations, poses.subjects, *told, tuple(unsaid))


def _fits(told: Said, other: Said) -> bool:
    """Return whether nothing that is told contradicts the other."""
    return all(mine in ("", theirs) for mine, theirs in zip(told, other, strict=True))


def _said_in(path: Path, scalars: dict[str, object], inside: archives.OneTable | None) -> Said:
    """Return what a file says of its labels by these single values, or by the TOML beside it, or in its zip."""
    camera = str(scalars.get("camera", ""))
    if "calibrated" in scalars:  # the published files: False are poses in the depth camera
        camera = "rgb" if bool(scalars["calibrated"]) else "depth"
    mine = Said(str(scalars.get("convention", "")), camera)
    toml, packed = beside(path, ".toml"), bool(inside and inside.about_name)
    if not (toml.is_file() or packed):
        return _checked(path, mine)
    try:
        text = toml.read_bytes() if toml.is_file() or inside is None else inside.about
        content = tomllib.loads(text.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        what = f"not TOML ({said(error)})"
        raise DatasetError(Fault(what, 'write convention = "pyr" and camera = "rgb", or remove it', toml)) from error
    theirs = _checked(toml, Said(*(str(content.get(name, "")) for name in Said._fields)))
    return agreed(path, theirs, _checked(path, mine))


def _scalars(path: Path, data: bytes) -> tuple[dict[str, object], set[str]]:
    """Return the arrays of an npz that say what its labels are, and the names of all; none of what cannot be read.

    Raises
    ------
    DatasetError
        If ``calibrated`` is neither true nor false.
    """
    try:
        with opened_npz(data) as file:
            names = set(file.files)
            values = {name: file[name] for name in ("calibrated", "convention", "camera") if name in names}
    except ValueError:  # reading its poses tells what is wrong
        return {}, set()
    if "calibrated" in values and (values["calibrated"].size != 1 or values["calibrated"].ravel()[0] not in (0, 1)):
        what = f"{shown(values['calibrated'])} is neither true nor false"
        raise DatasetError(Fault(what, "write one of both: False are poses in the depth camera", path, "calibrated"))
    return {name: value.item() for name, value in values.items() if value.size == 1}, names


def _checked(path: Path, told: Said) -> Said:
    """Return what is said; raises DatasetError where it is no convention or camera."""
    for name, text, known in (("convention", told.convention, CONVENTIONS), ("camera", told.camera, CAMERAS)):
        if text and text not in known:
            raise DatasetError(Fault(f"{shown(text)} is unknown", f"write one of {', '.join(known)}", path, name))
    return told


def agreed(path: Path, user: Said, known: Said, by: str = "what the file says") -> Said:
    """Return what the user says and what is known besides; raises DatasetError if they contradict each other."""
    for name, mine, theirs in zip(Said._fields, user, known, strict=True):
        if mine and theirs and mine != theirs:
            what = f"its {name} is {theirs} by {by}, not {mine}"
            raise DatasetError(Fault(what, f"leave `labels_{name}` out, or mend what is wrong", path))
    return Said(user.convention or known.convention, user.camera or known.camera)


def _recognised(ids: np.ndarray, rotations: Floats, angles: Floats | None) -> list[Said]:
    """Return the conventions and cameras under which labels have the published statistics; none where that is unknown.

    ``angles`` (n, 3) are what the rotations (n, 3, 3) were read from; None if they were read as such.
    """
    sequences = _whole_sequences(ids)
    if not sequences:
        return []
    readings = {"": rotations} if angles is None else {name: to_matrix(angles, name) for name in CONVENTIONS}
    return [
        Said(convention, camera)
        for convention, read in readings.items()
        for camera in CAMERAS
        if all(_is_published(sequence, read[rows], camera) for sequence, rows in sequences)
    ]


def _whole_sequences(ids: np.ndarray) -> list[tuple[manifest.ListedSequence, np.ndarray]]:
    """Return the sequences of the real Biwi of which the ids (n,) have all frames, and the rows of each."""
    position = {name: row for row, name in enumerate(ids.tolist())}
    whole = []
    for sequence in manifest.listed_sequences(manifest.read()).values():
        frames = [frame_id(sequence.name, number) for number in sequence.numbers]
        if all(name in position for name in frames):
            whole.append((sequence, np.array([position[name] for name in frames])))
    return whole


def _is_published(sequence: manifest.ListedSequence, rotations: Floats, camera: str) -> bool:
    """Return whether a sequence's rotations (n, 3, 3), taken to be a camera's, have its published statistics."""
    if camera == "depth":
        rotations = np.array(biwi.CALIBRATION_ROTATIONS[sequence.calibration_group]) @ rotations
    angles = from_matrix(rotations)
    statistics = np.concatenate((angles.mean(axis=0), angles.std(axis=0)))
    return bool(np.abs(statistics - sequence.statistics).max() <= PUBLISHED_TOLERANCE)
