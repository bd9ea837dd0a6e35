"""Tables of poses: writing them in another convention or camera."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.faults import Fault, plural, unreadable
from headposeplus.files import beside, write_text
from headposeplus.poses.columns import ANGLE_COLUMNS, CAMERAS, forms_of, texts
from headposeplus.poses.containers import KINDS, Columns
from headposeplus.poses.tables import Poses, read
from headposeplus.raw import biwi, manifest
from headposeplus.raw.ids import parse_frame
from headposeplus.rotations import Floats, euler_order, nearest_rotation
from headposeplus.sheets import OWN, Sheet

# A quote counts where a cell begins with it; the last one need not be closed.
_CELL = {part: re.compile(rf' *"(?:[^"]|"")*(?:"[^{part}]*|\Z)|[^{part}]*') for part in ",;\t"}


def _stop(path: Path, faults: list[Fault]) -> None:
    """Raise DatasetError, which tells all faults of a file, if there are any."""
    if len(faults) == 1:
        raise DatasetError(faults[0]._replace(file=path))
    if faults:
        raise DatasetError(Fault("; also ".join(map(str, faults)), file=path))


def _read(path: Path, convention: str) -> Poses:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(unreadable(path, error, f"a table of poses: {KINDS}")) from error
    poses = read(data, convention, OWN, needs_ids=False)
    _stop(path, poses.faults)
    return poses


def _calibrations(poses: Poses, path: Path, biwi_folder: Path | None, manifest_file: Path | None) -> Floats:
    """Return the rotation (n, 3, 3) from the depth to the RGB camera for the Biwi frame of each row."""
    if "id" not in poses.table.columns:
        raise DatasetError(Fault("lacks the column id, from which the camera's calibration is known", file=path))
    frames = [parse_frame(name) for name in poses.ids.tolist()]
    unknown = np.array([frame is None for frame in frames])
    if unknown.any():
        first = str(poses.ids[int(unknown.argmax())])[:60]
        what = f"expected an id with a Biwi sequence, such as biwi/01/00003, found {first!r}"
        raise DatasetError(poses.fault(unknown, what, "")._replace(file=path))
    sequences = np.array([str(frame).split("/")[1] for frame in frames])
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    rotations: dict[str, Floats] = {}
    faults = []
    root = biwi.find_root(biwi_folder) if biwi_folder else None
    for name in np.unique(sequences).tolist():
        group = groups.get(name, "")
        if root:
            rotations[name] = biwi.open_sequence(root, name, group).camera.rotation
        elif group in biwi.CALIBRATION_ROTATIONS:
            rotations[name] = nearest_rotation(biwi.CALIBRATION_ROTATIONS[group])
        else:
            lack = "lists no calibration of" if name in groups else "has no"
            what, mend = f"the manifest {lack} Biwi sequence {name!r}", "with `biwi_folder`, its own rgb.cal is read"
            faults.append(poses.fault(sequences == name, what, mend))
    _stop(path, faults)
    return np.stack([rotations[name] for name in sequences.tolist()])


def convert_file(
    source: Path,
    target: Path,
    from_convention: str,
    to_convention: str,
    from_camera: str,
    to_camera: str,
    biwi_folder: Path | None = None,
    manifest_file: Path | None = None,
) -> str:
    """Write a table of poses as a CSV in another convention and camera; return a line that says what was done.

    ``source`` is any file that :func:`headposeplus.poses.tables.read` reads. Every form of rotation that it holds is
    written anew, in its columns; a file without pitch, yaw and roll gets them as its last columns. All other cells of
    a CSV stay as they are, byte for byte; of other files, ``id`` and ``subject`` are kept. Angles come back as
    :func:`headposeplus.rotations.from_matrix` gives them, with the middle one in [-90, 90]. Between the cameras,
    ``R_rgb = R_cal R`` with the rotation of the sequence's ``rgb.cal`` in ``biwi_folder``, else that of its group in
    the manifest.

    Raises
    ------
    HeadposeError
        If a convention or camera is unknown, ``target`` does not end in ``.csv``, there is any fault in the table,
        or, where the camera changes, an id names no sequence whose calibration is known.
    """
    for convention in (from_convention, to_convention):
        euler_order(convention)
    for camera in (from_camera, to_camera):
        if camera not in CAMERAS:
            raise HeadposeError(f"unknown camera {camera!r}: expected {' or '.join(CAMERAS)}")
    if target.suffix.lower() != ".csv":
        raise HeadposeError(Fault("a table is written as a CSV", "choose a name that ends in .csv", target))
    about = beside(target, ".toml")
    if about.exists():
        what = f"{about.name} beside it says what its poses are, and would be of the old ones"
        raise HeadposeError(Fault(what, "choose another name, or move the TOML away", target))
    poses = _read(source, from_convention)
    rotations, how = poses.rotations, ""
    if from_camera != to_camera:
        calibration = _calibrations(poses, source, biwi_folder, manifest_file)
        turn = calibration if to_camera == "rgb" else np.swapaxes(calibration, -1, -2)
        rotations = turn @ rotations
        how = f" (calibration: {f'rgb.cal in {biwi_folder}' if biwi_folder else 'the groups of the manifest'})"
    write_text(target, _written(poses.table, rotations, to_convention))
    return (
        f"{target}: {plural(len(rotations), 'row')}, from {from_convention} in the {from_camera} camera "
        f"to {to_convention} in the {to_camera} camera{how}"
    )


def _written(table: Columns, rotations: Floats, convention: str) -> str:
    """Return a table as the text of a CSV, with the rotations (n, 3, 3) in all forms that it has, and in angles."""
    columns: dict[str, list[str]] = {}
    for form in [*forms_of(table.columns), ANGLE_COLUMNS]:
        columns |= dict(zip(form, map(list, zip(*texts(rotations, form, convention), strict=True)), strict=True))
    if table.sheet is not None:
        return _rewritten(table, table.sheet, columns)
    kept = {name: list(map(str, cells)) for name, cells in table.columns.items() if name not in columns}
    return _csv({name: columns.get(name) or kept[name] for name in dict.fromkeys([*table.columns, *columns])})


def _csv(columns: dict[str, list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([list(columns), *zip(*columns.values(), strict=True)])
    return out.getvalue()


def _rewritten(table: Columns, sheet: Sheet, columns: dict[str, list[str]]) -> str:
    """Return a CSV as it is written, but for some columns."""
    commas = table.decimal == "," and any(
        "," in str(cell) for form in forms_of(table.columns) for name in form for cell in table.columns[name]
    )
    added = [name for name in columns if name not in sheet.names]
    names = [*sheet.names, *added]
    places = [names.index(name) for name in columns]
    *before, header = sheet.head
    part, width = sheet.delimiter, len(sheet.names)
    lines = [*before, part.join([*islice(_cells(header, part), width), *added])]
    for line, numbers in zip(sheet.text, zip(*columns.values(), strict=True), strict=True):
        cells = [*islice(_cells(line, part), width), *[""] * len(added)]
        for place, number in zip(places, numbers, strict=True):
            cells[place] = number.replace(".", ",") if commas else number
        lines.append(part.join(cells))
    return "\n".join([*lines, ""])


def _cells(line: str, delimiter: str) -> Iterator[str]:
    """Yield the cells of a line of a CSV as they are written, with their quotes and spaces."""
    end = -1
    while end < len(line):
        match = _CELL[delimiter].match(line, end + 1)
        assert match is not None  # a cell may be empty
        yield match[0]
        end = match.end()
