"""Tables of poses from strangers: CSV, Parquet, Feather and npz, packed or not, read within limits and without trust.

Nothing here raises on bad content: what is wrong comes back as a list of faults, each with its rows and a way to mend
it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headposeplus.faults import Fault, fault_in, one_of, shown
from headposeplus.poses.columns import ANGLE_COLUMNS, QUATERNION_COLUMNS, ROTATION_TOLERANCE, Cells, forms_of
from headposeplus.poses.containers import HEADER, NOTHING, Columns, read_columns
from headposeplus.raw import targets
from headposeplus.rotations import Floats, geodesic, nearest_rotation, orthonormality_error, to_matrix
from headposeplus.sheets import STRANGERS, Limits, is_blank, read_numbers

MAX_BYTES = STRANGERS.bytes
MAX_ANGLE = 100_000  # degrees; what is larger is no angle, and would lose its digits when wrapped
AGREEMENT = 0.1  # degrees between two forms of one rotation in a file, which may be rounded


class Poses(NamedTuple):
    """What a table holds; if ``faults`` is empty, all is well.

    Attributes
    ----------
    ids
        (n,); empty texts if the table has none and need not.
    rotations
        (n, 3, 3), NaN where a row has none.
    form, values
        The columns that the rotations were read from, and the numbers in them (n, k).
    subjects
        (n,); None where there is no such column.
    table
        The columns as they were read, and the line of each row.
    faults
        What is wrong.
    """

    ids: np.ndarray
    rotations: Floats
    form: list[str]
    values: Floats
    subjects: np.ndarray | None
    table: Columns
    faults: list[Fault]

    @property
    def lines(self) -> np.ndarray:
        """The line, or number, of each row (n,)."""
        return self.table.lines

    @property
    def told(self) -> str:
        """The convention that the names of the angles say; empty where they say none."""
        return self.table.told

    @property
    def unit(self) -> str:
        """What :attr:`lines` count: ``line``, or ``row`` where the file has no lines."""
        return self.table.unit

    @property
    def kind(self) -> str:
        """The kind of file, ``CSV``, ``Parquet``, ``Feather`` or ``npz``."""
        return self.table.kind

    def fault(self, rows: np.ndarray, what: str, mend: str) -> Fault:
        """Return a fault in some rows, bool (n,)."""
        return fault_in(self.lines[rows], what, mend, self.unit)


def read(
    data: bytes, convention: str, limits: Limits = STRANGERS, needs_ids: bool = True, otherwise: str = "pyr"
) -> Poses:
    """Return the poses in the bytes of a file; angles are read in ``convention``.

    Where it is empty, that is the one that their names say, or ``otherwise`` where these say none; where a rotation
    stands beside such angles, only the rotation is read.

    The kind of file is told by its first bytes, whatever its name; a zip may hold one such file. A CSV may be as
    :mod:`headposeplus.sheets` reads it, its columns in any order and case. The frames are named by ``id``, or another
    of :data:`headposeplus.raw.ids.ID_COLUMNS`. An npz holds the columns as arrays, or ``rotation`` (n, 3, 3),
    ``quaternion`` (n, 4), or ``pyr`` or ``ypr`` (n, 3) as in the published ``Biwi_plus.npz``; what is predicted may
    be called ``pred_pyr`` or ``pred_ypr``.
    """
    table = read_columns(data, convention, limits)
    if isinstance(table, Fault):
        return _none(table)
    names = ", ".join(shown(name) for name in list(table.columns)[:8])
    if needs_ids and "id" not in table.columns:
        mend = f"{HEADER}, parted by comma, semicolon or tab"
        return _none(Fault(f"no column id, but {names}", mend, rows=table.header))
    if not forms_of(table.columns):
        return _none(Fault(f"no complete pose among the columns {names}", HEADER, rows=table.header))
    if not len(table.lines):
        return _none(Fault("no row", "give a row a frame"))
    forms = forms_of(table.columns)
    if not (convention or table.told) and len(forms) > 1:
        forms = [form for form in forms if form != ANGLE_COLUMNS]
    return _poses(table, forms, convention or table.told or otherwise, limits)


def _none(fault: Fault) -> Poses:
    """Return no poses, for a fault that ends the reading."""
    return Poses(np.zeros(0, "U1"), np.zeros((0, 3, 3)), [], np.zeros((0, 3)), None, NOTHING, [fault])


def _numbers(cells: Cells, decimal: str) -> Floats:
    """Return cells (n,) as numbers (n,); what is none becomes NaN."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
        return cells.astype(np.float64)
    return read_numbers(cells, decimal)


def _poses(table: Columns, forms: list[list[str]], convention: str, limits: Limits) -> Poses:
    """Return the poses of a table's columns in some forms, with what is wrong with its rows."""
    columns, count = table.columns, len(table.lines)
    names = [str(name).strip() for name in columns.get("id", [""] * count)]
    ids = np.array(targets.as_ids([name[: limits.text] for name in names]))
    subjects = None
    if "subject" in columns:
        subjects = np.array([str(name).strip()[: limits.text] for name in columns["subject"]])
    readings = []
    for form in forms:
        values = np.column_stack([_numbers(columns[name], table.decimal) for name in form])
        blank = Poses(ids, np.full((count, 3, 3), np.nan), form, values, subjects, table, [])
        readings.append(_with_rotations(blank, convention))
    first, *others = readings
    faults = [*table.faults, *_faults_of_ids(first, names, limits)]
    for reading in readings:
        faults += reading.faults
    for other in others:
        faults += _disagreement(first, other)
    return first._replace(faults=faults)


def _faults_of_ids(poses: Poses, names: list[str], limits: Limits) -> list[Fault]:
    """Return what is wrong with the texts of ids, n."""
    mend = "use ids such as biwi/01/00003"
    long = np.array([len(name) > limits.text for name in names])
    hidden = np.array([not name.isprintable() for name in names])
    checks = ((long, f"an id of more than {limits.text} characters"), (hidden, "hidden characters in an id"))
    return [
        poses.fault(wrong, f"{what}: {shown(names[int(wrong.argmax())])}", mend)
        for wrong, what in checks
        if wrong.any()
    ]


def _disagreement(first: Poses, other: Poses) -> list[Fault]:
    """Return the fault of rows whose rotation is another in one form than in the other."""
    apart = geodesic(first.rotations, other.rotations)
    off = np.isfinite(apart) & (apart > AGREEMENT)
    if not off.any():
        return []
    form, second = first.form, other.form
    what = f"{form[0]} to {form[-1]} and {second[0]} to {second[-1]} are {apart[off][0]:.1f} degrees apart"
    return [first.fault(off, what, "keep the form that is right, or mend the convention of the angles")]


def _with_rotations(poses: Poses, convention: str) -> Poses:
    """Return poses with the rotations of their values, and with what is wrong with those."""
    form, values, rotations = poses.form, poses.values, poses.rotations.copy()
    with np.errstate(invalid="ignore"):
        fine = np.abs(values) <= MAX_ANGLE  # and so finite
    faults = _faults_of_numbers(poses, fine)
    good = np.asarray(fine.all(axis=1))
    values = np.where(fine, values, 0)
    if form == ANGLE_COLUMNS:
        rotations[good] = to_matrix(values[good], convention)
        return poses._replace(rotations=rotations, faults=faults)
    if form == QUATERNION_COLUMNS:
        lengths: Floats = np.linalg.norm(values, axis=1)
        off = np.abs(lengths - 1) > ROTATION_TOLERANCE
        what, mend = "qx, qy, qz, qw is not of length 1", "divide it by its length"
    else:
        off = orthonormality_error(values.reshape(-1, 3, 3)) > ROTATION_TOLERANCE
        what = "r11 to r33 is no rotation (its rows are not orthonormal, or its determinant is -1)"
        mend = "write R row by row, from head to camera; scipy's Rotation.from_matrix gives the nearest rotation"
    if (off & good).any():
        row = int((off & good).argmax())
        cells = " ".join(str(poses.table.columns[name][row]).strip() for name in form)
        faults.append(poses.fault(off & good, f"{what}: {shown(cells)}", mend))
    good &= ~off
    if good.any() and form == QUATERNION_COLUMNS:
        from scipy.spatial.transform import Rotation

        rotations[good] = Rotation.from_quat(values[good]).as_matrix()
    elif good.any():
        rotations[good] = nearest_rotation(values[good].reshape(-1, 3, 3))
    return poses._replace(rotations=rotations, faults=faults)


def _faults_of_numbers(poses: Poses, fine: np.ndarray) -> list[Fault]:
    """Return the faults of each column in which some cells are no numbers; ``fine`` (n, k) says which are."""
    faults = []
    for place, name in enumerate(poses.form):
        bad = ~fine[:, place]
        if not bad.any():
            continue
        cells, mend = poses.table.columns[name], "write a finite number, with a point for the decimals"
        empty = np.array([wrong and is_blank(cells[row]) for row, wrong in enumerate(bad.tolist())])
        if empty.any():
            faults.append(poses.fault(empty, f"{name} is empty", mend))
        if (bad & ~empty).any():
            texts = [shown(cells[row]) for row in np.flatnonzero(bad & ~empty).tolist()]
            what = f"{name} is {one_of(texts)}, no number below {MAX_ANGLE:,.0f}"
            faults.append(poses.fault(bad & ~empty, what, mend))
    return faults
