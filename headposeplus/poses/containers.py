"""The columns of a stranger's file: CSV, Parquet, Feather, npz, or a zip of one, read within limits and without trust.

Size and rows are limited before anything is parsed, and no pickle is read.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy

from headposeplus import archives, sheets
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, said, shown
from headposeplus.poses import arrow
from headposeplus.poses.columns import (
    ANGLE_COLUMNS,
    MATRIX_COLUMNS,
    NAMED,
    QUATERNION_COLUMNS,
    READ,
    Cells,
    check_names,
    forms_of,
)
from headposeplus.raw.ids import ID_COLUMNS, id_column
from headposeplus.rotations import CONVENTIONS
from headposeplus.sheets import STRANGERS, Limits, Sheet

KINDS = "CSV, Parquet, Feather, npz, or a zip of one"
HEADER = "write the header id,pitch,yaw,roll (or r11 to r33, or qx, qy, qz, qw instead of the angles)"
_PUBLISHED = {"pyr": ["pitch", "yaw", "roll"], "ypr": ["yaw", "pitch", "roll"]}  # arrays of Biwi_plus.npz
PREDICTED = "pred_"  # before such a name where a file holds what was predicted
_NUMPY = b"\x93NUMPY"  # the first bytes of a single array
_SAVED = 'save it with its ids, numpy.savez("predictions.npz", id=ids, pitch=p, yaw=y, roll=r), or rotation=R (n, 3, 3)'
_FROM_JSON = (
    "write a CSV, as pandas does: DataFrame(rows, columns=['id', 'pitch', 'yaw', 'roll']).to_csv(FILE, index=False)"
)
_PLAIN_ARRAYS = "save plain arrays of numbers and texts with numpy.savez"


class Columns(NamedTuple):
    """Columns by name, as texts or numbers.

    Attributes
    ----------
    columns
        In the order of the file, their names in small letters; the one that names the frames is ``id``.
    lines
        Of each row (n,).
    kind
        ``CSV``, ``Parquet``, ``Feather`` or ``npz``.
    unit
        ``line``, or ``row`` where the file has no lines.
    header
        The line of the names, where there is one.
    decimal
        What parts the decimals of numbers, if it is no point.
    told
        The convention that the names of the angles say; empty where they say none.
    faults
        What is wrong with single rows.
    sheet
        Of a CSV: as it is written.
    """

    columns: dict[str, Cells]
    lines: np.ndarray
    kind: str
    unit: str
    header: tuple[int, ...] = ()
    decimal: str = "."
    told: str = ""
    faults: tuple[Fault, ...] = ()
    sheet: Sheet | None = None


NOTHING = Columns({}, np.zeros(0, int), "", "line")


def read_columns(data: bytes, convention: str, limits: Limits = STRANGERS) -> Columns | Fault:
    """Return the columns in the bytes of a file, or why there are none.

    The kind of file is told by its first bytes, whatever its name. Of all but CSV, only those columns are read that
    poses stand in; an array ``pyr`` or ``ypr`` only where it is of the ``convention``. An empty one is what the names
    of the angles say.
    """
    try:
        table = _read(data, convention, limits)
    except DatasetError as error:
        return error.fault
    column = id_column(table.columns)
    names = {column: "id"} if column else {}
    if not forms_of(table.columns):
        told = convention or next((name for name in CONVENTIONS if _named(table.columns, name)), "")
        fault = _named_otherwise([*table.columns], told)
        if fault is not None:
            return fault._replace(rows=table.header)
        for named in _named(table.columns, told)[:1]:
            names |= dict(zip(named, ANGLE_COLUMNS, strict=True))
            table = table._replace(told=told)
    return table._replace(columns={names.get(name, name): cells for name, cells in table.columns.items()})


def _named(names: Collection[str], convention: str) -> list[list[str]]:
    """Return the complete angles among the names of columns whose names say a convention, such as ``pitch_ypr``."""
    return [named for named in NAMED.get(convention, []) if set(named) <= set(names)]


def _named_otherwise(names: list[str], convention: str) -> Fault | None:
    """Return the fault of arrays and columns of angles whose names all say another convention; None if none does."""
    found = {name: [name] if name in names else [*chain(*_named(names, name))] for name in CONVENTIONS}
    found = {name: columns for name, columns in found.items() if columns}
    if not found or convention in found:
        return None
    other, columns = next(iter(found.items()))
    what = f"{', '.join(columns)}: named for the convention {other}, where {convention} is said"
    return Fault(what, f'write convention = "{other}", or name the angles otherwise if the name is wrong')


def _read(data: bytes, convention: str, limits: Limits) -> Columns:
    if len(data) > limits.bytes:
        raise sheets.too_large(limits, len(data) / 2**20)
    data = archives.table_in(data, limits)
    kind = arrow.kind_of(data)
    if kind:
        columns = arrow.read_arrow(data, limits)
        return Columns(columns, np.arange(1, len(next(iter(columns.values()), [])) + 1), kind, "row")
    return _read_npz(data, convention, limits) if archives.is_zip(data) else _read_csv(data, limits)


def _read_csv(data: bytes, limits: Limits) -> Columns:
    if data.startswith(_NUMPY):
        raise DatasetError(Fault("a NumPy array (.npy), which has no place for ids", _SAVED))
    text = sheets.read_text(data, HEADER, limits)
    if sheets.is_json(text):
        raise DatasetError(Fault("JSON, no table", _FROM_JSON))
    sheet = sheets.read_sheet(text, HEADER, limits)
    check_names([name for name in sheet.names if name in READ])
    columns: dict[str, Cells] = {**sheet.columns}
    return Columns(columns, sheet.lines, "CSV", "line", (sheet.header,), sheet.decimal, "", sheet.faults, sheet)


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Return an array of an npz file, whose header is believed only as far as the file is long."""
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)
        count = math.prod(shape)
        if dtype.hasobject or dtype.kind not in "fiuUS" or dtype.itemsize > 4 * STRANGERS.line:
            raise ValueError(f"{entry.filename} holds {str(dtype)[:20]}, neither numbers nor texts")
        if count < 0 or count * dtype.itemsize > entry.file_size:
            raise ValueError(f"{entry.filename} is shorter than its header says")
        values = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
    return values.reshape(shape, order="F" if fortran else "C")


def _read_arrays(data: bytes, limits: Limits) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file that poses may stand in."""
    predicted = {f"{PREDICTED}{name}": name for name in _PUBLISHED}
    wanted = {"rotation", "quaternion", *_PUBLISHED, *predicted, *READ - {*ID_COLUMNS}}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archives.list_zip(data, limits)
            named = [(entry.filename.removesuffix(".npy").strip().lower(), entry) for entry in entries]
            names = ", ".join(shown(name) for name, _ in named[:8])
            naming = id_column([name for name, _ in named])
            named = [(name, entry) for name, entry in named if name in wanted | {naming}]
            if any(name in predicted for name, _ in named):  # beside them, the others are the truth
                named = [(predicted.get(name, name), entry) for name, entry in named if name not in _PUBLISHED]
            if not naming:
                raise DatasetError(Fault(f"no array id or images, but {names or 'none'}", "add the ids, (n,) texts"))
            check_names([name for name, _ in named])
            return {name: _read_array(archive, entry) for name, entry in named}
    except DatasetError:
        raise
    # Whatever others' parsers raise on a file that was made to break them.
    except Exception as error:
        what = f"a damaged npz file, or one with pickled objects ({said(error)})"
        raise DatasetError(Fault(what, _PLAIN_ARRAYS)) from error


def _read_npz(data: bytes, convention: str, limits: Limits) -> Columns:
    arrays = _read_arrays(data, limits)
    ids = arrays.pop(id_column(arrays))
    arrays = {"id": ids, **arrays}
    columns: dict[str, Cells] = {}
    rows = len(ids) if ids.ndim else 0
    if rows > limits.rows:
        raise DatasetError(Fault(f"{rows:,} rows", "give a row a frame"))
    several = {"rotation": (MATRIX_COLUMNS, (rows, 3, 3)), "quaternion": (QUATERNION_COLUMNS, (rows, 4))}
    told = ""
    if not set(ANGLE_COLUMNS) <= set(arrays):
        told = convention or next((name for name in _PUBLISHED if name in arrays), "")
        fault = _named_otherwise([*arrays], told)
        if fault is not None and not several.keys() & arrays.keys():
            raise DatasetError(fault)
        told = told if told in _PUBLISHED and told in arrays else ""
        several |= {told: (_PUBLISHED[told], (rows, 3))} if told else {}
    for name in [name for name in arrays if name in several or name not in _PUBLISHED]:
        names, shape = several.get(name, ([name], (rows,)))
        array = arrays[name]
        if array.shape != shape:
            what = f"the array {name} has the shape {array.shape}"
            raise DatasetError(Fault(what, f"give it the shape {shape}, a row an id"))
        values = array.reshape(rows, len(names))
        if values.dtype.kind == "S":
            values = np.char.decode(values, "latin-1")
        check_names([*columns, *names])
        columns |= dict(zip(names, values.T, strict=True))
    return Columns(columns, np.arange(1, rows + 1), "npz", "row", told=told)
