"""Tables of poses: reading rotations from a CSV's columns, and writing them in another convention or camera.

A rotation is given as pitch, yaw, roll (degrees, in a named convention), as r11 to r33 (R, row by row: head to
camera), or as the quaternion qx, qy, qz, qw of R.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd

from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.files import write_text
from headposeplus.poses.columns import ANGLE_COLUMNS, CAMERAS, FORMS, _texts, forms, read_rotations
from headposeplus.raw import biwi, manifest
from headposeplus.raw.subsets import parse_frame
from headposeplus.rotations import Floats, euler_order, geodesic, nearest_rotation

_AGREEMENT = 0.1  # degrees between two forms of one rotation in a file, which may be rounded


def _read(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return the header, the rows and the line of each row of a CSV, all cells as they are."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(row, reader.line_num) for row in reader if row]
    except OSError as error:
        raise DatasetError(f"{path}: expected a CSV file of poses: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: expected a CSV file of poses: {error}") from error
    if len(rows) < 2:
        raise DatasetError(f"{path}: expected a CSV file of poses: a header and a row for each")
    header = rows[0][0]
    for row, line in rows:
        if len(row) != len(header):
            raise DatasetError(f"{path}, line {line}: expected {len(header)} cells as in the header, found {len(row)}")
    return header, [row for row, _ in rows[1:]], [line for _, line in rows[1:]]


def _calibrations(table: pd.DataFrame, path: Path, biwi_folder: Path | None, manifest_file: Path | None) -> Floats:
    """Return the rotation (n, 3, 3) from the depth to the RGB camera for the Biwi frame of each row."""
    if "id" not in table:
        raise DatasetError(f"{path}: lacks the column id, from which the camera's calibration is known")
    lines = table.index.to_numpy() + 2
    ids = [parse_frame(str(text)) for text in table["id"]]
    for text, name, line in zip(table["id"], ids, lines, strict=True):
        if name is None:
            raise DatasetError(
                f"{path}, line {line}: expected an id with a Biwi sequence, such as biwi/01/00003, found {text[:60]!r}"
            )
    sequences = [str(name)[5:7] for name in ids]
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    if biwi_folder is not None:
        root = biwi.find_root(biwi_folder)
        found = {
            name: biwi.open_sequence(root, name, groups.get(name, "")).camera.rotation
            for name in sorted(set(sequences))
        }
    else:
        found = {}
        for name, line in zip(sequences, lines, strict=True):
            if groups.get(name) not in biwi.CALIBRATION_ROTATIONS:
                lack = "lists no calibration of" if name in groups else "has no"
                raise DatasetError(
                    f"{path}, line {line}: the manifest {lack} Biwi sequence {name!r}; "
                    "with --biwi, the sequence's own rgb.cal is read"
                )
            found[name] = nearest_rotation(biwi.CALIBRATION_ROTATIONS[groups[name]])
    return np.stack([found[name] for name in sequences])


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
    """Write a CSV of poses in another convention and camera; return a line that says what was done.

    Every form of rotation that the file holds is written anew, in its columns; all else stays as it is. A file
    without pitch, yaw and roll gets them as its last columns. Angles come back as :func:`rotations.from_matrix`
    gives them, with the middle one in [-90, 90]. Between the cameras, ``R_rgb = R_cal R`` with the rotation of the
    sequence's ``rgb.cal`` in ``biwi_folder``, else that of its group in the manifest.

    Raises
    ------
    HeadposeError
        If a convention or camera is unknown, a column is missing, a value is not finite or no rotation, or, where
        the camera changes, an id names no sequence whose calibration is known.
    """
    for convention in (from_convention, to_convention):
        euler_order(convention)
    for camera in (from_camera, to_camera):
        if camera not in CAMERAS:
            raise HeadposeError(f"unknown camera {camera!r}: expected {' or '.join(CAMERAS)}")
    header, rows, lines = _read(source)
    names = [name.strip() for name in header]
    used = {name for form in FORMS for name in form} | {"id"}
    repeated = [name for name in names if name in used and names.count(name) > 1]
    if repeated:
        raise DatasetError(f"{source}: the column {repeated[0]} comes twice")
    cells = [[cell.strip() for cell in row] for row in rows]
    table = pd.DataFrame(cells, columns=names, index=np.array(lines) - 2)
    present = forms(table, source, DatasetError)
    rotations = read_rotations(table, present[0], source, from_convention, DatasetError)
    for form in present[1:]:
        gaps = geodesic(rotations, read_rotations(table, form, source, from_convention, DatasetError))
        if gaps.max() > _AGREEMENT:
            worst = int(gaps.argmax())
            raise DatasetError(
                f"{source}, line {lines[worst]}: {', '.join(form[:3])} ... and {', '.join(present[0][:3])} are "
                f"{gaps[worst]:.1f} degrees apart as {from_convention}; drop the columns of one, or mend --from"
            )
    how = ""
    if from_camera != to_camera:
        calibration = _calibrations(table, source, biwi_folder, manifest_file)
        turn = calibration if to_camera == "rgb" else np.swapaxes(calibration, -1, -2)
        rotations = turn @ rotations
        how = f" (calibration: {f'rgb.cal in {biwi_folder}' if biwi_folder else 'the groups of the manifest'})"
    if ANGLE_COLUMNS not in present:
        header, names = header + ANGLE_COLUMNS, names + ANGLE_COLUMNS
        rows = [[*row, "", "", ""] for row in rows]
        present = [*present, ANGLE_COLUMNS]
    for form in present:
        places = [names.index(name) for name in form]
        for row, texts in zip(rows, _texts(rotations, form, to_convention), strict=True):
            for place, text in zip(places, texts, strict=True):
                row[place] = text
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    write_text(target, out.getvalue())
    return (
        f"{target}: {len(rows):,} rows, from {from_convention} in the {from_camera} camera "
        f"to {to_convention} in the {to_camera} camera{how}"
    )
