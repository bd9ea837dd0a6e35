"""The columns of a stranger's file: CSV (plain or gzip), Parquet or npz, read within limits and without trust.

Size and rows are limited before anything is parsed, and no pickle is read.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from headposeplus.faults import Fault, fault_in, said, shown
from headposeplus.files import decoded
from headposeplus.poses.columns import ANGLE_COLUMNS, FORMS, MATRIX_COLUMNS, QUATERNION_COLUMNS

Cells = Sequence[object] | np.ndarray
HEADER = "write the header id,pitch,yaw,roll (or r11 to r33, or qx, qy, qz, qw instead of the angles)"
_READ = {"id", "subject", *(name for form in FORMS for name in form)}  # the columns that poses stand in
_ZIP_ENTRIES, _ZIP_DIRECTORY = 32, 16 << 10  # of an npz file: arrays, and bytes of their directory
_BLOCK = 1 << 20  # bytes of a packed file that are unpacked at a time
_BATCH = 16_384  # rows of a Parquet file that are unpacked at a time
_PUBLISHED = {"pyr": ["pitch", "yaw", "roll"], "ypr": ["yaw", "pitch", "roll"]}  # arrays of Biwi_plus.npz
_ROW_A_FRAME = "give a row a frame"


class Limits(NamedTuple):
    """How much of a file is read: bytes of it as it is, and once more unpacked; rows, columns; characters."""

    bytes: int = 64 << 20
    rows: int = 200_000
    columns: int = 64
    line: int = 4_096  # characters
    text: int = 100  # characters of an id


STRANGERS = Limits()
OWN = Limits(*[sys.maxsize // 8] * len(Limits._fields))  # of a user's own file: none


class CsvText(NamedTuple):
    """The lines of a CSV as they are written, the header and each row; and the names of all its columns."""

    names: list[str]
    header: str
    rows: list[str]
    delimiter: str


class Columns(NamedTuple):
    """Columns by name, as texts or numbers.

    Attributes
    ----------
    columns
        In the order of the file, their names in small letters.
    lines
        Of each row (n,).
    kind
        ``CSV``, ``Parquet`` or ``npz``.
    unit
        ``line``, or ``row`` where the file has no lines.
    header
        The line of the names, where there is one.
    decimal
        What parts the decimals of numbers, if it is no point.
    faults
        What is wrong with single rows.
    text
        Of a CSV: as it is written.
    """

    columns: dict[str, Cells]
    lines: np.ndarray
    kind: str
    unit: str
    header: tuple[int, ...] = ()
    decimal: str = "."
    faults: tuple[Fault, ...] = ()
    text: CsvText | None = None


NOTHING = Columns({}, np.zeros(0, int), "", "line")


class _FaultyError(Exception):
    """A fault that ends the reading."""

    def __init__(self, what: str, mend: str, *rows: int) -> None:
        super().__init__(what)
        self.fault = Fault(what, mend, rows=rows)


def read_columns(data: bytes, convention: str, limits: Limits = STRANGERS) -> Columns | Fault:
    """Return the columns in the bytes of a file, or why there are none.

    The kind of file is told by its first bytes, whatever its name. Of Parquet and npz, only those columns are read
    that poses stand in; an array ``pyr`` or ``ypr`` only where it is of the ``convention``.
    """
    try:
        if len(data) > limits.bytes:
            raise _too_large(f"{len(data) / 2**20:.0f} MiB", limits)
        if data[:4] == b"PAR1":
            return _read_parquet(data, limits)
        if data[:2] == b"PK":
            return _read_npz(data, convention, limits)
        return _read_csv(_unpacked(data, limits) if data[:2] == b"\x1f\x8b" else data, limits)
    except _FaultyError as error:
        return error.fault


def _too_large(size: str, limits: Limits) -> _FaultyError:
    return _FaultyError(
        f"{size} of data, more than the {limits.bytes >> 20} that are read", "keep only the id and the pose"
    )


def _blocks(file: gzip.GzipFile, most: int) -> Iterator[bytes]:
    """Yield what a packed file holds, up to a block more than ``most`` bytes."""
    size = 0
    while size <= most and (block := file.read(_BLOCK)):
        size += len(block)
        yield block


def _unpacked(data: bytes, limits: Limits) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = b"".join(_blocks(file, limits.bytes))
    except (OSError, EOFError, zlib.error) as error:
        raise _FaultyError(f"a damaged gzip file ({said(error)})", "pack it again, or leave it unpacked") from error
    if len(content) > limits.bytes:
        raise _too_large(f"more than {limits.bytes >> 20} MiB unpacked", limits)
    if content[:2] in (b"\x1f\x8b", b"PK") or content[:4] == b"PAR1":
        raise _FaultyError("an archive in an archive", "pack a plain CSV, or none")
    return content


def _read_csv(data: bytes, limits: Limits) -> Columns:
    lines, delimiter = _lines(data, limits)
    rows = _rows(lines, delimiter)
    names = [name.strip().strip("'\"").strip().lower() for name in rows[0].cells] if rows else []
    if not any(names):
        raise _FaultyError("no cell that is not empty", HEADER)
    header, *body = rows
    if len(body) > limits.rows:
        raise _FaultyError(f"{len(body):,} rows", f"{_ROW_A_FRAME}, {limits.rows:,} at most")
    _check_names([name for name in names if name in _READ])
    faults = []
    wrong = [row for row in body if len(row.cells) != len(names)]
    if wrong:
        what = f"{len(wrong[0].cells)} cells, where the header has {len(names)}"
        faults.append(fault_in(np.array([row.line for row in wrong]), what, "give every row a cell a column"))
        body = [row for row in body if len(row.cells) == len(names)]
    # Of others with one name, the last counts: nothing reads them.
    columns: dict[str, Cells] = {name: [row.cells[place] for row in body] for place, name in enumerate(names)}
    text = CsvText(names, lines[header.line - 1], [lines[row.line - 1] for row in body], delimiter)
    decimal = "," if delimiter != "," else "."
    numbers = np.array([row.line for row in body], int)
    return Columns(columns, numbers, "CSV", "line", (header.line,), decimal, tuple(faults), text)


def _lines(data: bytes, limits: Limits) -> tuple[list[str], str]:
    """Return the lines of a CSV and what parts its cells."""
    if not data.strip():
        raise _FaultyError("an empty file", HEADER + " and a line a frame")
    if max(data.count(b"\n"), data.count(b"\r")) > 2 * limits.rows:
        raise _FaultyError(f"more than {2 * limits.rows:,} lines", _ROW_A_FRAME)
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        raise _FaultyError(f"not UTF-16, as its first bytes say ({said(error)})", "save it as UTF-8") from error
    if "\0" in text[: STRANGERS.line]:
        raise _FaultyError("not a CSV, a Parquet or an npz file", "write a CSV: " + HEADER)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    for number, line in enumerate(lines, 1):
        if len(line) > limits.line or line.count(delimiter) >= limits.columns:
            what = f"{len(line):,} characters, {line.count(delimiter) + 1:,} cells in one line"
            mend = f"give an id and a pose a line, {limits.columns} cells at most"
            raise _FaultyError(what, mend, number)
    return lines, delimiter


class _Row(NamedTuple):
    cells: list[str]
    line: int


def _rows(lines: list[str], delimiter: str) -> list[_Row]:
    """Return each line that has any cell."""
    reader, rows, before = csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [], 0
    try:
        for row in reader:
            if reader.line_num > before + 1:
                raise _FaultyError("a quote that is not closed in its line", "close it", before + 1)
            before = reader.line_num
            if any(cell.strip() for cell in row):
                rows.append(_Row(row, before))
    except csv.Error as error:
        raise _FaultyError(f"not a CSV file ({said(error)})", HEADER, reader.line_num) from error
    return rows


def _check_names(names: list[str]) -> None:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise _FaultyError(f"the column {shown(twice[0])} comes twice", "keep one of them")


def _read_parquet(data: bytes, limits: Limits) -> Columns:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise _FaultyError(
            "Parquet needs the package pyarrow", "pip install 'headposeplus[parquet]', or write a CSV"
        ) from error
    try:
        schema = pq.ParquetFile(pa.BufferReader(data)).schema_arrow
        columns = _parquet_columns(data, _parquet_names(schema, limits), limits)
    except _FaultyError:
        raise
    # Whatever another's parser raises on a file that was made to break it.
    except Exception as error:
        raise _FaultyError(f"a damaged Parquet file ({said(error)})", "write it again, or write a CSV") from error
    rows = len(next(iter(columns.values()), []))
    return Columns(columns, np.arange(1, rows + 1), "Parquet", "row")


def _parquet_names(schema: Any, limits: Limits) -> dict[str, bool]:
    """Return the columns of a Parquet file that are read, and whether each holds texts."""
    from pyarrow import types

    if len(schema) > limits.columns:
        raise _FaultyError(f"{len(schema):,} columns", f"keep the id and the pose, {limits.columns} columns at most")
    fields = [field for field in schema if field.name.strip().lower() in _READ]
    _check_names([field.name.strip().lower() for field in fields])
    texts = {}
    for field in fields:
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        texts[field.name] = types.is_string(kind) or types.is_large_string(kind)
        numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        if not (texts[field.name] or numbers):
            raise _FaultyError(
                f"the column {shown(field.name)} holds {str(kind)[:40]}", "write numbers, and texts as ids"
            )
    return texts


def _parquet_columns(data: bytes, names: dict[str, bool], limits: Limits) -> dict[str, Cells]:
    """Return columns by name. Rows are counted as they come, and texts kept once: a file may say what it likes."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    texts = [name for name, is_text in names.items() if is_text]
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
    if sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)) > limits.bytes:
        raise _too_large(f"more than {limits.bytes >> 20} MiB unpacked", limits)
    parts: dict[str, list[Any]] = {name: [] for name in names}
    rows = 0
    for batch in file.iter_batches(_BATCH, columns=list(names), use_threads=False):
        rows += batch.num_rows
        if rows > limits.rows:
            raise _FaultyError(f"more than {limits.rows:,} rows", _ROW_A_FRAME)
        for name, is_text in names.items():
            column = batch.column(name)
            if not is_text:
                parts[name].append(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
                continue
            column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
            if (pc.max(pc.binary_length(column.dictionary)).as_py() or 0) > 4 * limits.text:
                raise _FaultyError(
                    f"a text of more than {limits.text} characters in {shown(name)}", "use ids such as biwi/01/00003"
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
        if dtype.hasobject or dtype.kind not in "fiuUS" or dtype.itemsize > 4 * STRANGERS.line:
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
        raise _FaultyError("a damaged npz file", "save plain arrays of numbers and texts with numpy.savez")
    entries, size = (int.from_bytes(record[start : start + length], "little") for start, length in ((10, 2), (12, 4)))
    if data[max(end - 20, 0) : end].startswith(b"PK\x06\x07") or entries > _ZIP_ENTRIES or size > _ZIP_DIRECTORY:
        raise _FaultyError(f"an npz file of more than {_ZIP_ENTRIES} arrays", "keep the ids and the poses")


def _read_arrays(data: bytes, limits: Limits) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file that poses may stand in."""
    wanted = {"images", "rotation", "quaternion", *_PUBLISHED, *_READ}
    _check_directory(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > _ZIP_ENTRIES or sum(entry.file_size for entry in entries) > limits.bytes:
                raise _too_large(f"more than {limits.bytes >> 20} MiB unpacked", limits)
            if any(entry.filename == "[Content_Types].xml" for entry in entries):
                raise _FaultyError("an Excel file", "save it as CSV")
            named = [(entry.filename.removesuffix(".npy").strip().lower(), entry) for entry in entries]
            names = ", ".join(shown(name) for name, _ in named[:8])
            named = [(name, entry) for name, entry in named if name in wanted]
            if not {"id", "images"} & {name for name, _ in named}:
                raise _FaultyError(f"no array id or images, but {names or 'none'}", "add the ids, (n,) texts")
            _check_names([name for name, _ in named])
            return {name: _read_array(archive, entry) for name, entry in named}
    except _FaultyError:
        raise
    # Whatever others' parsers raise on a file that was made to break them.
    except Exception as error:
        raise _FaultyError(
            f"a damaged npz file, or one with pickled objects ({said(error)})",
            "save plain arrays of numbers and texts with numpy.savez",
        ) from error


def _read_npz(data: bytes, convention: str, limits: Limits) -> Columns:
    arrays = _read_arrays(data, limits)
    images = arrays.pop("images", None)
    if "id" not in arrays and images is not None:
        arrays["id"] = images
    columns: dict[str, Cells] = {}
    rows = len(arrays["id"]) if arrays["id"].ndim else 0
    if rows > limits.rows:
        raise _FaultyError(f"{rows:,} rows", _ROW_A_FRAME)
    several = {"rotation": (MATRIX_COLUMNS, (rows, 3, 3)), "quaternion": (QUATERNION_COLUMNS, (rows, 4))}
    if convention in _PUBLISHED and not set(ANGLE_COLUMNS) <= set(arrays):
        several[convention] = (_PUBLISHED[convention], (rows, 3))
    for name in [name for name in arrays if name in several or name not in _PUBLISHED]:
        names, shape = several.get(name, ([name], (rows,)))
        array = arrays[name]
        if array.shape != shape:
            raise _FaultyError(
                f"the array {name} has the shape {array.shape}", f"give it the shape {shape}, a row an id"
            )
        values = array.reshape(rows, len(names))
        if name in ("id", "subject") and values.dtype.kind == "S":
            values = np.char.decode(values, "latin-1")
        _check_names([*columns, *names])
        columns |= dict(zip(names, values.T, strict=True))
    return Columns(columns, np.arange(1, rows + 1), "npz", "row")
