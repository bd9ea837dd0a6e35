"""The columns that a rotation is given by in a table.

A rotation is given as pitch, yaw, roll (degrees, in a named convention), as r11 to r33 (R, row by row: head to
camera), or as the quaternion qx, qy, qz, qw of R.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy.spatial.transform import Rotation

from headposeplus.rotations import ANGLES, Floats, from_matrix

ANGLE_COLUMNS = list(ANGLES)
MATRIX_COLUMNS = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
QUATERNION_COLUMNS = ["qx", "qy", "qz", "qw"]
FORMS = (ANGLE_COLUMNS, MATRIX_COLUMNS, QUATERNION_COLUMNS)
CAMERAS = ("rgb", "depth")
ROTATION_TOLERANCE = 1e-2


def forms_of(names: Collection[str]) -> list[list[str]]:
    """Return which of :data:`FORMS` are complete among the names of columns."""
    return [form for form in FORMS if set(form) <= set(names)]


def texts(rotations: Floats, form: list[str], convention: str) -> list[list[str]]:
    """Return the rotations (n, 3, 3) in a form as texts, a list a row."""
    if form == ANGLE_COLUMNS:
        values, digits = from_matrix(rotations, convention), 6
    elif form == QUATERNION_COLUMNS:
        values, digits = Rotation.from_matrix(rotations).as_quat(), 9
    else:
        values, digits = rotations.reshape(-1, 9), 9
    # Adding zero takes the sign from a rounded -0.
    return [[f"{value:.{digits}f}" for value in row] for row in np.round(values, digits) + 0.0]
