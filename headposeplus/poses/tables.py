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
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from scipy.spatial.transform import Rotation

from headposeplus.faults import Fault, fault_in, said, shown
from headposeplus.poses.columns import ANGLE_COLUMNS, FORMS, MATRIX_COLUMNS, QUATERNION_COLUMNS, ROTATION_TOLERANCE
from headposeplus.raw.subsets import parse_frame
from headposeplus.rotations import CONVENTIONS, Floats, geodesic, nearest_rotation, orthonormality_error, to_matrix

MAX_BYTES = 64 << 20  # of a file as it is, and once more unpacked
MAX_ROWS = 200_000
MAX_COLUMNS = 64
MAX_LINE = 4_096  # bytes
MAX_ID = 100  # characters
MAX_ANGLE = 100_000  # degrees; what is larger is no angle, and would lose its digits when wrapped
AGREEMENT = 0.1  # degrees between two forms of one rotation in a file, which may be rounded
_POSE_COLUMNS = {name for form in FORMS for name in form}
_ZIP_ENTRIES, _ZIP_DIRECTORY = 32, 16 << 10  # of an npz file: arrays, and bytes of their directory
_BATCH = 16_384  # rows of a Parquet file that are unpacked at a time
_PUBLISHED = {"pyr": ["pitch", "yaw", "roll"], "ypr": ["yaw", "pitch", "roll"]}  # arrays of Biwi_plus.npz
_HEADER = "write the header id,pitch,yaw,roll (or r11 to r33, or qx, qy, qz, qw instead of the angles)"


class Poses(NamedTuple):
    """What a table holds: ids (n,), rotations (n, 3, 3), NaN where a row has none, and the line of each row (n,).

    ``unit`` is ``line``, or ``row`` where the file has no lines. ``form`` names the columns that the rotations were
    read from, ``values`` (n, k) are theirs. ``subjects`` (n,) is None where there is no such column. If ``faults`` is
    empty, all is well.
    """

    ids: np.ndarray
    rotations: Floats
    lines: np.ndarray
    form: list[str]
    values: Floats
    subjects: np.ndarray | None
    kind: str
    unit: str
    faults: list[Fault]

    def fault(self, rows: np.ndarray, what: str, mend: str) -> Fault:
        """Return a fault in some rows, bool (n,)."""
        return fault_in(self.lines[rows], what, mend, self.unit)


class _Faulty(Exception):
    """A fault that ends the reading."""

    def __init__(self, what: str, mend: str, *rows: int) -> None:
        super().__init__(what)
        self.fault = Fault(what, mend, rows=rows)


class _Columns(NamedTuple):
    """Columns by name, as texts or numbers, and the line of each row; ``header`` is the line of the names."""

    columns: dict[str, Sequence[Any] | np.ndarray]
    lines: np.ndarray
    kind: str
    unit: str
    header: tuple[int, ...] = ()
    decimal: str = "."
    faults: tuple[Fault, ...] = ()


def read(data: bytes, convention: str) -> Poses:
    """Return the poses in the bytes of a file; angles are read in ``convention``.

    The kind of file is told by its first bytes, whatever its name. A CSV may be UTF-8, UTF-16 or Latin-1, with or
    without a byte order mark, its cells parted by comma, semicolon or tab, its columns in any order and case. An npz
    holds ``id`` (or ``images``) and the columns as arrays, or ``rotation`` (n, 3, 3), ``quaternion`` (n, 4), or
    ``pyr`` or ``ypr`` (n, 3) as in the published ``Biwi_plus.npz``.
    """
    nothing = Poses(
        np.zeros(0, "U1"), np.zeros((0, 3, 3)), np.zeros(0, int), [], np.zeros((0, 3)), None, "", "line", []
    )
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
    if max(data.count(b"\n"), data.count(b"\r")) > 2 * MAX_ROWS:
        raise _Faulty(f"more than {2 * MAX_ROWS:,} lines", "give a row a frame of the test set")
    text = _decoded(data)
    if "\0" in text[:MAX_LINE]:
        raise _Faulty("not a CSV, a Parquet or an npz file", "write a CSV: " + _HEADER)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    delimiter = max(",;\t", key=lines[first].count)
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE or line.count(delimiter) >= MAX_COLUMNS:
            what = f"{len(line):,} characters, {line.count(delimiter) + 1:,} cells in one line"
            mend = f"give an id and a pose a line, {MAX_COLUMNS} cells at most"
            raise _Faulty(what, mend, number)
    rows = _rows(lines, delimiter)
    names = [name.strip().strip("'\"").strip().lower() for name in rows[0][0]] if rows else []
    if not any(names):
        raise _Faulty("no cell that is not empty", _HEADER)
    if len(rows) > MAX_ROWS + 1:
        raise _Faulty(f"{len(rows) - 1:,} rows", f"give a row a frame of the test set, {MAX_ROWS:,} at most")
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
    numbers = np.array([line for _, line in body], int)
    decimal = "," if delimiter != "," else "."
    return _Columns(columns, numbers, "CSV", "line", (rows[0][1],), decimal, tuple(faults))


def _rows(lines: list[str], delimiter: str) -> list[tuple[list[str], int]]:
    """Return the cells of each line that has any, and the line's number."""
    reader, rows, before = csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [], 0
    try:
        for row in reader:
            if reader.line_num > before + 1:
                raise _Faulty("a quote that is not closed in its line", "close it", before + 1)
            before = reader.line_num
            if any(cell.strip() for cell in row):
                rows.append((row, before))
    except csv.Error as error:
        raise _Faulty(f"not a CSV file ({said(error)})", _HEADER, reader.line_num) from error
    return rows


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
        schema = pq.ParquetFile(pa.BufferReader(data)).schema_arrow
        columns = _parquet_columns(data, _parquet_names(schema))
    except _Faulty:
        raise
    # Whatever another's parser raises on a file that was made to break it.
    except Exception as error:
        raise _Faulty(f"a damaged Parquet file ({said(error)})", "write it again, or write a CSV") from error
    rows = len(next(iter(columns.values()), []))
    return _Columns(columns, np.arange(1, rows + 1), "Parquet", "row")


def _parquet_names(schema: Any) -> dict[str, bool]:
    """Return the columns of a Parquet file that are read, and whether each holds texts."""
    from pyarrow import types

    if len(schema) > MAX_COLUMNS:
        raise _Faulty(f"{len(schema):,} columns", f"keep the id and the pose, {MAX_COLUMNS} columns at most")
    wanted = {"id", "subject", *_POSE_COLUMNS}
    fields = [field for field in schema if field.name.strip().lower() in wanted]
    _check_names([field.name.strip().lower() for field in fields])
    found = {}
    for field in fields:
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        found[field.name] = types.is_string(kind) or types.is_large_string(kind)
        numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        if not (found[field.name] or numbers):
            raise _Faulty(f"the column {shown(field.name)} holds {str(kind)[:40]}", "write numbers, and texts as ids")
    return found


def _parquet_columns(data: bytes, names: dict[str, bool]) -> dict[str, Sequence[Any] | np.ndarray]:
    """Return columns by name. Rows are counted as they come, and texts kept once: a file may say what it likes."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    texts = [name for name, is_text in names.items() if is_text]
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
    if sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)) > MAX_BYTES:
        raise _too_large(f"more than {MAX_BYTES >> 20} MiB unpacked")
    parts: dict[str, list[Any]] = {name: [] for name in names}
    rows = 0
    for batch in file.iter_batches(_BATCH, columns=list(names), use_threads=False):
        rows += batch.num_rows
        if rows > MAX_ROWS:
            raise _Faulty(f"more than {MAX_ROWS:,} rows", "give a row a frame of the test set")
        for name, is_text in names.items():
            column = batch.column(name)
            if not is_text:
                parts[name].append(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
                continue
            column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
            if (pc.max(pc.binary_length(column.dictionary)).as_py() or 0) > 4 * MAX_ID:
                raise _Faulty(
                    f"a text of more than {MAX_ID} characters in {shown(name)}", "use the ids of the template"
                )
            words = [*column.dictionary.to_pylist(), ""]
            parts[name] += [words[-1 if place is None else place] for place in column.indices.to_pylist()]
    return {
        name.strip().lower(): parts[name] if is_text else np.concatenate([np.zeros(0), *parts[name]])
        for name, is_text in names.items()
    }


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


def _check_directory(data: bytes) -> None:
    """Raise a fault if a zip's directory, which is parsed whole, is long: it may hold millions of entries."""
    end = data.rfind(b"PK\x05\x06")
    record = data[end : end + 22]
    if end < 0 or len(record) < 22:
        raise _Faulty("a damaged npz file", "save plain arrays of numbers and texts with numpy.savez")
    entries, size = (int.from_bytes(record[start : start + length], "little") for start, length in ((10, 2), (12, 4)))
    if data[max(end - 20, 0) : end].startswith(b"PK\x06\x07") or entries > _ZIP_ENTRIES or size > _ZIP_DIRECTORY:
        raise _Faulty(f"an npz file of more than {_ZIP_ENTRIES} arrays", "keep the ids and the poses")


def _read_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file that poses may stand in."""
    wanted = {"id", "images", "subject", "rotation", "quaternion", *_PUBLISHED, *_POSE_COLUMNS}
    _check_directory(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > _ZIP_ENTRIES or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise _too_large(f"more than {MAX_BYTES >> 20} MiB unpacked")
            if any(entry.filename == "[Content_Types].xml" for entry in entries):
                raise _Faulty("an Excel file", "save it as CSV")
            named = [(entry.filename.removesuffix(".npy").strip().lower(), entry) for entry in entries]
            found = ", ".join(shown(name) for name, _ in named[:8])
            named = [(name, entry) for name, entry in named if name in wanted]
            if not {"id", "images"} & {name for name, _ in named}:
                raise _Faulty(f"no array id or images, but {found or 'none'}", "add the ids, (n,) texts")
            _check_names([name for name, _ in named])
            return {name: _read_array(archive, entry) for name, entry in named}
    except _Faulty:
        raise
    # Whatever others' parsers raise on a file that was made to break them.
    except Exception as error:
        raise _Faulty(
            f"a damaged npz file, or one with pickled objects ({said(error)})",
            "save plain arrays of numbers and texts with numpy.savez",
        ) from error


def _read_npz(data: bytes, convention: str) -> _Columns:
    arrays = _read_arrays(data)
    images = arrays.pop("images", None)
    if "id" not in arrays and images is not None:
        arrays["id"] = images
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
        _check_names([*columns, *names])
        columns |= dict(zip(names, values.T, strict=True))
    return _Columns(columns, np.arange(1, rows + 1), "npz", "row")


def _numbers(cells: Sequence[Any] | np.ndarray, decimal: str) -> Floats:
    """Return cells (n,) as numbers (n,); what is none becomes NaN."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
        return cells.astype(np.float64)
    texts = [str(cell).strip() for cell in cells]
    if decimal == ",":
        texts = [text if "." in text else text.replace(",", ".", 1) for text in texts]
    if not any("_" in text for text in texts):
        with suppress(ValueError):
            return np.array(texts, dtype="U").astype(np.float64)
    return np.array([_number(text) for text in texts], np.float64)


def _number(text: str) -> float:
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _poses(table: _Columns, convention: str) -> Poses:
    """Return the poses of a table's columns, with what is wrong with its rows."""
    columns, header = table.columns, table.header
    found = ", ".join(shown(name) for name in list(columns)[:8])
    if "id" not in columns:
        raise _Faulty(f"no column id, but {found}", f"{_HEADER}, parted by comma, semicolon or tab", *header)
    present = [form for form in FORMS if set(form) <= set(columns)]
    if not present:
        raise _Faulty(f"no complete pose among the columns {found}", _HEADER, *header)
    if not len(table.lines):
        raise _Faulty("no row", "give a row a frame of the test set")
    names = [str(name).strip() for name in columns["id"]]
    ids = np.array([parse_frame(name[:MAX_ID]) or name[:MAX_ID] for name in names])
    values = {form[0]: np.column_stack([_numbers(columns[name], table.decimal) for name in form]) for form in present}
    subjects = np.array([str(name).strip()[:MAX_ID] for name in columns["subject"]]) if "subject" in columns else None
    blank = np.full((len(ids), 3, 3), np.nan)
    form = present[0]
    poses = Poses(ids, blank, table.lines, form, values[form[0]], subjects, table.kind, table.unit, list(table.faults))
    for wrong, what, mend in (
        ([len(name) > MAX_ID for name in names], f"an id of more than {MAX_ID} characters", "use the template's ids"),
        ([not name.isprintable() for name in names], "hidden characters in an id", "use the template's ids"),
    ):
        if any(wrong):
            poses.faults.append(poses.fault(np.array(wrong), what, mend))
    readings = []
    for one in present:
        rotations, faults = _rotations(poses._replace(values=values[one[0]], form=one), convention, columns)
        readings.append(rotations)
        poses.faults.extend(faults)
    for one, other in zip(present[1:], readings[1:], strict=True):
        apart = geodesic(readings[0], other)
        off = np.isfinite(apart) & (apart > AGREEMENT)
        if off.any():
            what = f"{form[0]} to {form[-1]} and {one[0]} to {one[-1]} are {apart[off][0]:.1f} degrees apart"
            poses.faults.append(poses.fault(off, what, "keep the form that is right"))
    return poses._replace(rotations=readings[0])


def _rotations(poses: Poses, convention: str, columns: dict[str, Any]) -> tuple[Floats, list[Fault]]:
    """Return the rotations (n, 3, 3) of the poses' values (n, k), NaN where a row has none, and what is wrong."""
    faults, form, values = [], poses.form, poses.values
    with np.errstate(invalid="ignore"):
        fine = np.abs(values) <= MAX_ANGLE  # and so finite
    for place, name in enumerate(form):
        bad = ~fine[:, place]
        if bad.any():
            first = columns[name][int(bad.argmax())]
            missing = first is None or not str(first).strip()
            what = f"{name} is empty" if missing else f"{name} is {shown(first)}, no number below {MAX_ANGLE:,.0f}"
            faults.append(poses.fault(bad, what, "write a finite number, with a point for the decimals"))
    good = np.asarray(fine.all(axis=1))
    rotations = np.full((len(values), 3, 3), np.nan)
    values = np.where(fine, values, 0)
    if form == ANGLE_COLUMNS:
        rotations[good] = to_matrix(values[good], convention if convention in CONVENTIONS else "pyr")
        return rotations, faults
    if form == QUATERNION_COLUMNS:
        lengths: Floats = np.linalg.norm(values, axis=1)
        off = np.abs(lengths - 1) > ROTATION_TOLERANCE
        what, mend = "qx, qy, qz, qw is not of length 1", "divide it by its length"
    else:
        off = orthonormality_error(values.reshape(-1, 3, 3)) > ROTATION_TOLERANCE
        what = "r11 to r33 is no rotation (its rows are not orthonormal, or its determinant is -1)"
        mend = "write R row by row, from head to camera; scipy's Rotation.from_matrix gives the nearest rotation"
    if (off & good).any():
        faults.append(poses.fault(off & good, what, mend))
    good &= ~off
    if good.any():
        kept = values[good]
        quaternions = form == QUATERNION_COLUMNS
        rotations[good] = (
            Rotation.from_quat(kept).as_matrix() if quaternions else nearest_rotation(kept.reshape(-1, 3, 3))
        )
    return rotations, faults
