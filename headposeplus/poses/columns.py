"""The columns that a rotation is given by in a table, and reading it from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from headposeplus.errors import HeadposeError
from headposeplus.rotations import ANGLES, Floats, from_matrix, nearest_rotation, orthonormality_error, to_matrix

ANGLE_COLUMNS = list(ANGLES)
MATRIX_COLUMNS = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
QUATERNION_COLUMNS = ["qx", "qy", "qz", "qw"]
FORMS = (ANGLE_COLUMNS, MATRIX_COLUMNS, QUATERNION_COLUMNS)
CAMERAS = ("rgb", "depth")
ROTATION_TOLERANCE = 1e-2


def forms(table: pd.DataFrame, path: object, error: type[HeadposeError]) -> list[list[str]]:
    """Return which of :data:`FORMS` a table has the columns of; raises ``error`` if none."""
    found = [form for form in FORMS if set(form) <= set(table)]
    if not found:
        raise error(
            f"{path}: expected the columns id and pitch, yaw, roll (or r11 to r33, or qx, qy, qz, qw); "
            f"found {', '.join(map(str, table.columns))}"
        )
    return found


def read_rotations(
    table: pd.DataFrame, form: list[str], path: object, convention: str, error: type[HeadposeError]
) -> Floats:
    """Return the rotations (n, 3, 3) of a table's columns ``form``, angles being of a convention.

    The table's index counts the lines below the header, from 0. Raises ``error``, which names the line, if a value
    is not finite or is no rotation.
    """
    values = table[form].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, copy=True)

    def line(rows: np.ndarray) -> str:
        return f"{path}, line {int(table.index[int(rows.argmax())]) + 2}"

    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        name = table["id"].iloc[int(bad.argmax())] if "id" in table else "the row"
        raise error(f"{line(bad)}: {name} has a value that is not a finite number ({int(bad.sum())} such rows)")
    if form == ANGLE_COLUMNS:
        return to_matrix(values, convention)
    if form == QUATERNION_COLUMNS:
        off = np.abs(np.linalg.norm(values, axis=1) - 1) > ROTATION_TOLERANCE
        if off.any():
            raise error(f"{line(off)}: the quaternion's length is not 1")
        return np.asarray(Rotation.from_quat(values).as_matrix())
    matrices = values.reshape(-1, 3, 3)
    off = orthonormality_error(matrices) > ROTATION_TOLERANCE
    if off.any():
        raise error(f"{line(off)}: r11 to r33 are not a rotation")
    return nearest_rotation(matrices)


def _texts(rotations: Floats, form: list[str], convention: str) -> list[list[str]]:
    """Return the rotations (n, 3, 3) in a form as texts, a list a row."""
    if form == ANGLE_COLUMNS:
        values, digits = from_matrix(rotations, convention), 6
    elif form == QUATERNION_COLUMNS:
        values, digits = Rotation.from_matrix(rotations).as_quat(), 9
    else:
        values, digits = rotations.reshape(-1, 9), 9
    # Adding zero takes the sign from a rounded -0.
    return [[f"{value:.{digits}f}" for value in row] for row in np.round(values, digits) + 0.0]
