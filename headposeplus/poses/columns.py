"""The columns that a rotation is given by in a table.

A rotation is given as pitch, yaw, roll (degrees, in a named convention), as r11 to r33 (R, row by row: head to
camera), or as the quaternion qx, qy, qz, qw of R.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, shown
from headposeplus.raw.ids import ID_COLUMNS
from headposeplus.rotations import ANGLES, CONVENTIONS, Floats, from_matrix

ANGLE_COLUMNS = list(ANGLES)
MATRIX_COLUMNS = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
QUATERNION_COLUMNS = ["qx", "qy", "qz", "qw"]
FORMS = (ANGLE_COLUMNS, MATRIX_COLUMNS, QUATERNION_COLUMNS)
CAMERAS = ("rgb", "depth")
ROTATION_TOLERANCE = 1e-2
# The columns of angles whose names say their convention.
NAMED = {
    convention: [[f"{angle}_{convention}" for angle in ANGLES], [f"{convention}_{angle}" for angle in ANGLES]]
    for convention in CONVENTIONS
}
_OF_POSES = [*FORMS, *(names for named in NAMED.values() for names in named)]
READ = {*ID_COLUMNS, "subject", *(name for form in _OF_POSES for name in form)}  # the columns that poses stand in

Cells = Sequence[object] | np.ndarray


def forms_of(names: Collection[str]) -> list[list[str]]:
    """Return which of :data:`FORMS` are complete among the names of columns."""
    return [form for form in FORMS if set(form) <= set(names)]


def check_names(names: list[str]) -> None:
    """Raise DatasetError if a name of columns comes twice."""
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DatasetError(Fault(f"the column {shown(twice[0])} comes twice", "keep one of them"))


def texts(rotations: Floats, form: list[str], convention: str) -> list[list[str]]:
    """Return the rotations (n, 3, 3) in a form as texts, a list a row."""
    if form == ANGLE_COLUMNS:
        values, digits = from_matrix(rotations, convention), 6
    elif form == QUATERNION_COLUMNS:
        from scipy.spatial.transform import Rotation

        values, digits = Rotation.from_matrix(rotations).as_quat(), 9
    else:
        values, digits = rotations.reshape(-1, 9), 9
    # Adding zero takes the sign from a rounded -0.
    return [[f"{value:.{digits}f}" for value in row] for row in np.round(values, digits) + 0.0]
