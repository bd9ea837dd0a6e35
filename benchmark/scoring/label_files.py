"""Files of labels: their poses, and in which convention and camera those are.

A file is believed where it says so itself, or a TOML of its name beside it does. Of whole sequences of the real Biwi
the published label statistics tell it. Where nothing does, it is not assumed: it stays unknown, and what needs it asks.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, remarked, said, shown, unreadable
from headposeplus.poses import tables
from headposeplus.poses.columns import ANGLE_COLUMNS, CAMERAS
from headposeplus.raw import biwi, manifest
from headposeplus.raw.ids import frame_id
from headposeplus.rotations import CONVENTIONS, Floats, from_matrix, to_matrix

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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


class _Said(NamedTuple):
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
    except OSError as error:
        expected = "a folder of built datasets, Biwi_plus.npz, or a CSV with id, pitch, yaw, roll"
        raise DatasetError(unreadable(path, error, expected)) from error
    scalars, arrays = _scalars(data) if data[:2] == b"PK" else ({}, set())
    told = _agreed(path, _checked(path, _Said(at.convention, at.camera)), _said_in(path, scalars))
    if not told.convention and {"pyr", "ypr"} & arrays:  # the array's name says it
        told = told._replace(convention="pyr" if "pyr" in arrays else "ypr")
    poses = tables.read(data, told.convention or "pyr")
    if poses.faults:
        first = poses.faults[0]
        raise DatasetError(remarked(first._replace(file=path), f"faults in all: {len(poses.faults)}"))
    angles = poses.values if poses.form == ANGLE_COLUMNS else None
    if angles is None:
        told = told._replace(convention="")  # a rotation has none
    unsaid = [
        *(["convention"] if angles is not None and not told.convention else []),
        *([] if told.camera else ["camera"]),
    ]
    table = LabelTable(poses.ids, poses.rotations, poses.subjects, *told, tuple(unsaid))
    return _recognised(table, angles) if unsaid else table


def _said_in(path: Path, scalars: dict[str, object]) -> _Said:
    """Return what a file says of its labels by these single values, or by the TOML beside it."""
    camera = str(scalars.get("camera", ""))
    if "calibrated" in scalars:  # the published files: False are poses in the depth camera
        camera = "rgb" if bool(scalars["calibrated"]) else "depth"
    mine = _Said(str(scalars.get("convention", "")), camera)
    beside = path.with_suffix(".toml")
    if not beside.is_file():
        return _checked(path, mine)
    try:
        content = tomllib.loads(beside.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        what = f"not TOML ({said(error)})"
        raise DatasetError(Fault(what, 'write convention = "pyr" and camera = "rgb", or remove it', beside)) from error
    theirs = _checked(beside, _Said(*(str(content.get(name, "")) for name in _Said._fields)))
    return _agreed(path, theirs, _checked(path, mine))


def _scalars(data: bytes) -> tuple[dict[str, object], set[str]]:
    """Return the arrays of an npz that hold one value, and the names of all; none of what cannot be read."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            wanted = [name for name in ("calibrated", "convention", "camera") if name in file]
            return {name: file[name].item() for name in wanted if file[name].size == 1}, set(file.files)
    # Whatever NumPy and zipfile raise on a damaged file: reading its poses tells it.
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, MemoryError):
        return {}, set()


def _checked(path: Path, told: _Said) -> _Said:
    """Return what is said; raises DatasetError where it is no convention or camera."""
    for name, text, known in (("convention", told.convention, CONVENTIONS), ("camera", told.camera, CAMERAS)):
        if text and text not in known:
            raise DatasetError(Fault(f"{shown(text)} is unknown", f"write one of {', '.join(known)}", path, name))
    return told


def _agreed(path: Path, user: _Said, file: _Said) -> _Said:
    """Return what the user and the file say; raises DatasetError if they contradict each other."""
    for name, mine, theirs in zip(_Said._fields, user, file, strict=True):
        if mine and theirs and mine != theirs:
            what = f"its {name} is {theirs} by what the file says, not {mine}"
            raise DatasetError(Fault(what, f"leave `{name}` out, or mend what is wrong", path))
    return _Said(user.convention or file.convention, user.camera or file.camera)


def _recognised(table: LabelTable, angles: Floats | None) -> LabelTable:
    """Return labels with the convention and camera under which they have the published statistics, if any have."""
    sequences = _whole_sequences(table.ids)
    if not sequences:
        return table
    conventions = CONVENTIONS if "convention" in table.unsaid else (table.convention,)
    cameras = CAMERAS if "camera" in table.unsaid else (table.camera,)
    for convention in conventions:
        rotations = table.rotations if angles is None else to_matrix(angles, convention)
        for camera in cameras:
            if all(_is_published(sequence, rotations[rows], camera) for sequence, rows in sequences):
                return LabelTable(table.ids, rotations, table.subjects, convention, camera, ())
    return table


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
