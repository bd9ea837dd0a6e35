"""Tables of poses from strangers: CSV (plain or gzip), Parquet and npz, read within limits and without trust.

Nothing here raises on bad content: what is wrong comes back as a list of faults, each with its rows and a way to mend
it. Size and rows are limited before anything is parsed, and no pickle is read.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from scipy.spatial.transform import Rotation

from headposeplus.convert import ANGLE_COLUMNS, FORMS, MATRIX_COLUMNS, QUATERNION_COLUMNS, ROTATION_TOLERANCE
from headposeplus.rotations import CONVENTIONS, Floats, geodesic, nearest_rotation, orthonormality_error, to_matrix
from headposeplus.subsets import frame_id

MAX_BYTES = 64 << 20  # of a file as it is, and once more unpacked
MAX_ROWS = 200_000
MAX_COLUMNS = 64
MAX_LINE = 4_096  # bytes
MAX_ID = 100  # characters
MAX_ANGLE = 1e6  # what is larger is no angle, and would lose its digits when wrapped
AGREEMENT = 0.1  # degrees between two forms of one rotation in a file, which may be rounded
_POSE_COLUMNS = {name for form in FORMS for name in form}
_SHOWN_ROWS = 5
_SHOWN_TEXT = 60
_ZIP_ENTRIES = 32
_PUBLISHED = {"pyr": ["pitch", "yaw", "roll"], "ypr": ["yaw", "pitch", "roll"]}  # arrays of Biwi_plus.npz
_HEADER = "write the header id,pitch,yaw,roll (or r11 to r33, or qx, qy, qz, qw instead of the angles)"


class Fault(NamedTuple):
    """What is wrong, where, and how to mend it. ``rows`` are all lines concerned, as a text editor counts them."""

    where: str
    what: str
    mend: str
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return the fault as one line."""
        return f"{self.where}: {self.what}; {self.mend}" if self.where else f"{self.what}; {self.mend}"


class Poses(NamedTuple):
    """What a table holds: ids (n,), rotations (n, 3, 3), NaN where a row has none, and the line of each row (n,).

    ``form`` names the columns that the rotations were read from, ``values`` (n, k) are theirs. ``subjects`` (n,) is
    None where there is no such column. If ``faults`` is empty, all is well.
    """

    ids: np.ndarray
    rotations: Floats
    lines: np.ndarray
    form: list[str]
    values: Floats
    subjects: np.ndarray | None
    kind: str
    faults: list[Fault]


class _Faulty(Exception):
    """A fault that ends the reading."""

    def __init__(self, what: str, mend: str, where: str = "", rows: tuple[int, ...] = ()) -> None:
        super().__init__(what)
        self.fault = Fault(where, what, mend, rows)


class _Columns(NamedTuple):
    """Columns by name, as texts or numbers, and the line of each row."""

    columns: dict[str, Sequence[Any] | np.ndarray]
    lines: np.ndarray
    decimal: str
    kind: str
    faults: list[Fault]


def shown(text: object) -> str:
    """Return a stranger's text as one short line between quotes, without control characters."""
    # Cut first: the text may be a megabyte.
    return repr(str(text)[:_SHOWN_TEXT]) + ("..." if len(str(text)) > _SHOWN_TEXT else "")


def said(error: Exception) -> str:
    """Return an error's words as one short line: they may quote a stranger's text."""
    return " ".join(str(error)[:400].split())[:80]


def listed(rows: Iterable[int], word: str = "line") -> str:
    """Return rows as words, such as ``lines 3, 4 and 12 more``."""
    rows = list(rows)
    if len(rows) == 1:
        return f"{word} {rows[0]}"
    first = ", ".join(map(str, rows[:_SHOWN_ROWS]))
    return f"{word}s {first}" + (f" and {len(rows) - _SHOWN_ROWS:,} more" if len(rows) > _SHOWN_ROWS else "")


def fault_in(rows: np.ndarray, what: str, mend: str) -> Fault:
    """Return a fault in some lines (k,)."""
    numbers = tuple(int(row) for row in rows)
    return Fault(listed(numbers), what, mend, numbers)


def read(data: bytes, convention: str) -> Poses:
    """Return the poses in the bytes of a file; angles are read in ``convention``.

    The kind of file is told by its first bytes, whatever its name. A CSV may be UTF-8, UTF-16 or Latin-1, with or
    without a byte order mark, its cells parted by comma, semicolon or tab, its columns in any order and case. An npz
    holds ``id`` (or ``images``) and the columns as arrays, or ``rotation`` (n, 3, 3), ``quaternion`` (n, 4), or
    ``pyr`` or ``ypr`` (n, 3) as in the published ``Biwi_plus.npz``.
    """
    nothing = Poses(np.zeros(0, "U1"), np.zeros((0, 3, 3)), np.zeros(0, int), [], np.zeros((0, 3)), None, "", [])
    try:
        if len(data) > MAX_BYTES:
            raise _too_large(f"{len(data) / 2**20:.0f} MiB")
        if data[:4] == b"PAR1":
            table = _read_parquet(data)
        elif data[:2] == b"PK":
            table = _read_npz(data, convention)
        else:
            table = _read_csv(_unpacked(data) if data[:2] == b"\x1f\x8b" else data)
        return _poses(table, convention)
    except _Faulty as error:
        return nothing._replace(faults=[error.fault])


def _too_large(size: str) -> _Faulty:
    return _Faulty(f"{size} of data, more than the {MAX_BYTES >> 20} that are read", "keep only the id and the pose")


def _unpacked(data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _Faulty(f"a damaged gzip file ({said(error)})", "pack it again, or leave it unpacked") from error
    if len(content) > MAX_BYTES:
        raise _too_large(f"more than {MAX_BYTES >> 20} MiB unpacked")
    if content[:2] in (b"\x1f\x8b", b"PK") or content[:4] == b"PAR1":
        raise _Faulty("an archive in an archive", "pack a plain CSV, or none")
    return content


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise _Faulty(f"not UTF-16, as its first bytes say ({said(error)})", "save it as UTF-8") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _read_csv(data: bytes) -> _Columns:
    if not data.strip():
        raise _Faulty("an empty file", _HEADER + " and a line a frame")
    if data.count(b"\n") + data.count(b"\r") > 2 * MAX_ROWS + 2:
        raise _Faulty(f"more than {MAX_ROWS:,} lines", "give a row a frame of the test set")
    text = _decoded(data)
    if "\0" in text[:MAX_LINE]:
        raise _Faulty("not a CSV, a Parquet or an npz file", "write a CSV: " + _HEADER)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise _Faulty(
                f"{len(line):,} characters in one line",
                "give an id and a pose a line, no more",
                f"line {number}",
                (number,),
            )
    header = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=header.count)
    try:
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        rows = [(row, reader.line_num) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise _Faulty(f"not a CSV file ({said(error)})", _HEADER) from error
    if not rows:
        raise _Faulty("no cell that is not empty", _HEADER)
    names = [name.strip().strip("'\"").strip().lower() for name in rows[0][0]]
    if len(names) > MAX_COLUMNS:
        raise _Faulty(f"{len(names):,} columns", f"keep the id and the pose, {MAX_COLUMNS} columns at most")
    _check_names(names)
    faults = []
    body = [(row, line) for row, line in rows[1:] if len(row) == len(names)]
    if len(body) < len(rows) - 1:
        wrong = [(row, line) for row, line in rows[1:] if len(row) != len(names)]
        what = f"{len(wrong[0][0])} cells, where the header has {len(names)}"
        faults.append(fault_in(np.array([line for _, line in wrong]), what, "give every row a cell a column"))
    columns: dict[str, Sequence[Any] | np.ndarray] = {}
    for place, name in enumerate(names):
        columns[name] = [row[place] for row, _ in body]
    decimal = "," if delimiter != "," else "."
    return _Columns(columns, np.array([line for _, line in body], int), decimal, "CSV", faults)


def _check_names(names: list[str]) -> None:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise _Faulty(f"the column {shown(twice[0])} comes twice", "keep one of them")


def _read_parquet(data: bytes) -> _Columns:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise _Faulty(
            "Parquet needs the package pyarrow", "pip install 'headposeplus[parquet]', or write a CSV"
        ) from error
    try:
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=["id"])
        about = file.metadata
        if about.num_rows > MAX_ROWS or about.num_columns > MAX_COLUMNS:
            raise _Faulty(
                f"{about.num_rows:,} rows of {about.num_columns:,} columns",
                f"give a row a frame of the test set, {MAX_COLUMNS} columns at most",
            )
        unpacked = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        if not 0 <= unpacked <= MAX_BYTES:
            raise _too_large(f"{unpacked / 2**20:.0f} MiB unpacked")
        wanted = {"id", "subject", *_POSE_COLUMNS}
        names = [name for name in file.schema_arrow.names if name.strip().lower() in wanted]
        table = file.read(columns=names, use_threads=False)
        columns: dict[str, Sequence[Any] | np.ndarray] = {}
        for name in names:
            column = table.column(name)
            texts = pa.types.is_dictionary(column.type)
            plain = column.combine_chunks()
            if texts and any(len(str(value)) > MAX_LINE for value in plain.dictionary.to_pylist()):
                raise _Faulty("an id of more than 4,096 characters", "use the ids of the template")
            columns[name.strip().lower()] = plain.to_pylist()
    except _Faulty:
        raise
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        UnicodeDecodeError,
        MemoryError,
    ) as error:
        raise _Faulty(f"a damaged Parquet file ({said(error)})", "write it again, or write a CSV") from error
    _check_names([name.strip().lower() for name in names])
    rows = len(next(iter(columns.values()), []))
    return _Columns(columns, np.arange(1, rows + 1), ".", "Parquet", [])


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Return an array of an npz file, whose header is believed only as far as the file is long."""
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)
        count = math.prod(shape)
        if dtype.hasobject or dtype.kind not in "fiuUS" or dtype.itemsize > 4 * MAX_LINE:
            raise ValueError(f"{entry.filename} holds {str(dtype)[:20]}, neither numbers nor texts")
        if count < 0 or count * dtype.itemsize > entry.file_size:
            raise ValueError(f"{entry.filename} is shorter than its header says")
        values = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
    return values.reshape(shape, order="F" if fortran else "C")


def _read_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file that poses may stand in."""
    wanted = {"id", "images", "subject", "rotation", "quaternion", *_PUBLISHED, *_POSE_COLUMNS}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            if len(entries) > _ZIP_ENTRIES or size > MAX_BYTES:
                raise _Faulty(
                    f"{len(entries):,} entries, {size / 2**20:.0f} MiB unpacked",
                    f"keep the ids and the poses, {MAX_BYTES >> 20} MiB at most",
                )
            named = {entry.filename.removesuffix(".npy").strip().lower(): entry for entry in entries}
            return {name: _read_array(archive, entry) for name, entry in named.items() if name in wanted}
    except _Faulty:
        raise
    except (
        zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, TypeError, KeyError, IndexError, SyntaxError,
        RuntimeError, NotImplementedError, MemoryError, OverflowError, RecursionError, AttributeError,
    ) as error:  # fmt: skip
        raise _Faulty(
            f"a damaged npz file, or one with pickled objects ({said(error)})",
            "save plain arrays of numbers and texts with numpy.savez",
        ) from error


def _read_npz(data: bytes, convention: str) -> _Columns:
    arrays = _read_arrays(data)
    images = arrays.pop("images", None)
    if "id" not in arrays and images is not None:
        arrays["id"] = images
    if "id" not in arrays:
        raise _Faulty(
            f"no array id or images, but {', '.join(map(shown, list(arrays)[:8]))}", "add the ids, (n,) texts"
        )
    columns: dict[str, Sequence[Any] | np.ndarray] = {}
    rows = len(arrays["id"]) if arrays["id"].ndim else 0
    if rows > MAX_ROWS:
        raise _Faulty(f"{rows:,} rows", "give a row a frame of the test set")
    several = {"rotation": (MATRIX_COLUMNS, (rows, 3, 3)), "quaternion": (QUATERNION_COLUMNS, (rows, 4))}
    if convention in _PUBLISHED and not set(ANGLE_COLUMNS) <= set(arrays):
        several[convention] = (_PUBLISHED[convention], (rows, 3))
    for name in [name for name in arrays if name in several or name not in _PUBLISHED]:
        names, shape = several.get(name, ([name], (rows,)))
        array = arrays[name]
        if array.shape != shape:
            raise _Faulty(f"the array {name} has the shape {array.shape}", f"give it the shape {shape}, a row an id")
        values = array.reshape(rows, len(names))
        if name in ("id", "subject") and values.dtype.kind == "S":
            values = np.char.decode(values, "latin-1")
        columns |= dict(zip(names, values.T, strict=True))
    return _Columns(columns, np.arange(1, rows + 1), ".", "npz", [])


def _number(cell: Any, decimal: str) -> float:
    text = str(cell).strip()
    if decimal == "," and "." not in text:
        text = text.replace(",", ".", 1)
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _numbers(cells: Sequence[Any] | np.ndarray, decimal: str) -> Floats:
    """Return cells (n,) as numbers (n,); what is none becomes NaN."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
        return cells.astype(np.float64)
    try:
        if decimal == "." and not any("_" in str(cell) for cell in cells):
            return np.array(cells, np.float64)
    except (ValueError, TypeError):
        pass
    return np.array([_number(cell, decimal) for cell in cells], np.float64)


def _poses(table: _Columns, convention: str) -> Poses:
    """Return the poses of a table's columns, with what is wrong with its rows."""
    faults, columns, lines = list(table.faults), table.columns, table.lines
    found = ", ".join(shown(name) for name in list(columns)[:8])
    if "id" not in columns:
        raise _Faulty(f"no column id, but {found}", _HEADER, "line 1")
    present = [form for form in FORMS if set(form) <= set(columns)]
    if not present:
        raise _Faulty(f"no complete pose among the columns {found}", _HEADER, "line 1")
    if not len(lines):
        raise _Faulty("no row", "give a row a frame of the test set")
    raw = [str(name).strip() for name in columns["id"]]
    if any(len(name) > MAX_ID for name in raw):
        long = np.array([len(name) > MAX_ID for name in raw])
        faults.append(fault_in(lines[long], f"an id of more than {MAX_ID} characters", "use the ids of the template"))
    ids = np.array([frame_id(name[:MAX_ID]) or name[:MAX_ID] for name in raw])
    readings = []
    for form in present:
        values = np.column_stack([_numbers(columns[name], table.decimal) for name in form])
        rotations, wrong = _rotations(values, form, convention, lines, columns)
        readings.append((values, rotations))
        faults += wrong
    values, rotations = readings[0]
    for form, (_, other) in zip(present[1:], readings[1:], strict=True):
        apart = geodesic(rotations, other)
        off = np.isfinite(apart) & (apart > AGREEMENT)
        if off.any():
            what = (
                f"{present[0][0]} to {present[0][-1]} and {form[0]} to {form[-1]} are {apart[off][0]:.1f} degrees apart"
            )
            faults.append(fault_in(lines[off], what, "keep the form that is right"))
    subjects = np.array([str(name).strip()[:MAX_ID] for name in columns["subject"]]) if "subject" in columns else None
    return Poses(ids, rotations, lines, present[0], values, subjects, table.kind, faults)


def _rotations(
    values: Floats, form: list[str], convention: str, lines: np.ndarray, columns: dict[str, Any]
) -> tuple[Floats, list[Fault]]:
    """Return the rotations (n, 3, 3) of values (n, k), NaN where a row has none, and what is wrong with them."""
    faults = []
    fine = np.isfinite(values) & (np.abs(values) <= MAX_ANGLE)
    for place, name in enumerate(form):
        bad = ~fine[:, place]
        if bad.any():
            first = columns[name][int(bad.argmax())]
            what = f"{name} is {shown(first)}, no finite number" if str(first).strip() else f"{name} is empty"
            faults.append(fault_in(lines[bad], what, "write a finite number, with a point for the decimals"))
    good = np.asarray(fine.all(axis=1))
    rotations = np.full((len(values), 3, 3), np.nan)
    if form == ANGLE_COLUMNS:
        known = convention if convention in CONVENTIONS else "pyr"
        rotations[good] = to_matrix(values[good], known)
        return rotations, faults
    if form == QUATERNION_COLUMNS:
        lengths: Floats = np.linalg.norm(values, axis=1)
        off = np.abs(lengths - 1) > ROTATION_TOLERANCE
        what, mend = "qx, qy, qz, qw is not of length 1", "divide it by its length"
    else:
        matrices = np.where(good[:, None], values, 0).reshape(-1, 3, 3)
        off = orthonormality_error(matrices) > ROTATION_TOLERANCE
        what = "r11 to r33 is no rotation (its rows are not orthonormal, or its determinant is -1)"
        mend = "write R row by row, from head to camera; scipy's Rotation.from_matrix gives the nearest rotation"
    if (off & good).any():
        faults.append(fault_in(lines[off & good], what, mend))
    good &= ~off
    if good.any():
        kept = values[good]
        rotations[good] = (
            Rotation.from_quat(kept).as_matrix()
            if form == QUATERNION_COLUMNS
            else nearest_rotation(kept.reshape(-1, 3, 3))
        )
    return rotations, faults
