"""Tables as texts that people write by hand, by a script or in a spreadsheet: one reader of all of them.

Cells are parted by comma, semicolon or tab, with quotes or without; the text is UTF-8, UTF-16 or Latin-1, packed by
gzip or not. A first line ``sep=;``, empty columns and lines behind the table, and rows that are all empty do not count.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, fault_in, said
from headposeplus.files import decoded
from headposeplus.rotations import Floats

_PARTS = "\t;,"  # what may part cells; among equals the first, since a comma may part decimals
_EMPTY = " \t;,"
_BLOCK = 1 << 20  # bytes of a packed file that are unpacked at a time
_SEPARATOR = re.compile(r'"?sep=([\t;,])"?[;,]*', re.IGNORECASE)  # the first line of a CSV that Excel is to open
_REMARK = re.compile(r'"?#\s*\w')
# A hyphen that typesetting has made a minus or a dash.
_MINUS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"))
_SAVE = "save it as a CSV"
# Files of other kinds by their first bytes.
_KINDS = (
    (b"\x93NUMPY", "a NumPy array (.npy)", "it has no names of columns: write a CSV, or an npz of named arrays"),
    (b"\xd0\xcf\x11\xe0", "an Excel file", _SAVE),
    (b"\x89HDF", "an HDF5 file", _SAVE),
    (b"MATLAB 5.0", "a MATLAB file", _SAVE),
    (b"ARROW1", "a Feather file", _SAVE),
    (b"FEA1", "an old Feather file", _SAVE),
    *((bytes([0x80, version]), "a pickle", f"reading it may run anything; {_SAVE}") for version in (2, 3, 4, 5)),
    (b"BZh", "a bzip2 archive", "leave it unpacked"),
    (b"\xfd7zXZ", "an xz archive", "leave it unpacked"),
    (b"7z\xbc\xaf", "a 7z archive", "leave it unpacked"),
    (b"Rar!", "a RAR archive", "leave it unpacked"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "leave it unpacked"),
    (b"%PDF", "a PDF", _SAVE),
    (b"PAR1", "a Parquet file", _SAVE),
    (b"PK\x03\x04", "an archive, or an Excel file", _SAVE),
)


class Limits(NamedTuple):
    """How much of a file is read: bytes of it as it is, and once more unpacked; rows, columns; characters; files."""

    bytes: int = 64 << 20
    rows: int = 200_000
    columns: int = 64
    line: int = 4_096  # characters
    text: int = 100  # characters of an id
    files: int = 32  # in a zip


STRANGERS = Limits()
OWN = Limits(*[sys.maxsize // 8] * len(Limits._fields))  # of a user's own file: none


class Row(NamedTuple):
    """The cells of a line, the line's number, and the line as it is written."""

    cells: list[str]
    line: int
    text: str


class Sheet(NamedTuple):
    """A table below a header.

    Attributes
    ----------
    names
        Of the columns, in small letters; of two with one name, ``columns`` has the last.
    columns
        The cells of each (n,), by its name.
    lines
        Of each row (n,).
    header
        The line of the names.
    delimiter, decimal
        What parts the cells, and the decimals of numbers.
    remarks
        The lines before the header that begin with # and are one cell.
    faults
        What is wrong with single rows, which are left out.
    head, text
        The lines up to the header, and those of the rows (n), as they are written.
    """

    names: list[str]
    columns: dict[str, list[str]]
    lines: np.ndarray
    header: int
    delimiter: str
    decimal: str
    remarks: list[str]
    faults: tuple[Fault, ...]
    head: list[str]
    text: list[str]


def too_large(limits: Limits, mib: float | None = None) -> DatasetError:
    """Return the error of a file that is larger than what is read, or unpacks to more."""
    most = limits.bytes >> 20
    what = f"more than {most} MiB unpacked" if mib is None else f"{mib:.0f} MiB, more than the {most} that are read"
    return DatasetError(Fault(what, "keep only the id and the pose"))


def read_text(data: bytes, expected: str, limits: Limits = OWN) -> str:
    """Return the text in the bytes of a file, unpacked if it is packed, with plain line breaks.

    ``expected`` says how to mend a file that is none.

    Raises
    ------
    DatasetError
        If it is no text, or larger than the limits.
    """
    if len(data) > limits.bytes:
        raise too_large(limits, len(data) / 2**20)
    if data[:2] == b"\x1f\x8b":
        data = _unpacked(data, limits)
    if not data.strip():
        raise DatasetError(Fault("an empty file", expected))
    for start, kind, mend in _KINDS:
        if data.startswith(start):
            raise DatasetError(Fault(kind, mend))
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        what = f"not UTF-16, as its first bytes say ({said(error)})"
        raise DatasetError(Fault(what, "save it as UTF-8")) from error
    if "\0" in text[: STRANGERS.line]:
        raise DatasetError(Fault("no text, and no other file that is read", expected))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_json(text: str) -> bool:
    """Return whether a text looks like JSON."""
    return text.lstrip()[:1] in ("{", "[")


def _unpacked(data: bytes, limits: Limits) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = b"".join(_blocks(file, limits.bytes))
    except (OSError, EOFError, zlib.error) as error:
        what = f"a damaged gzip file ({said(error)})"
        raise DatasetError(Fault(what, "pack it again, or leave it unpacked")) from error
    if len(content) > limits.bytes:
        raise too_large(limits)
    if content[:2] in (b"\x1f\x8b", b"PK") or content[:4] == b"PAR1":
        raise DatasetError(Fault("an archive in an archive", "pack a plain CSV, or none"))
    return content


def _blocks(file: gzip.GzipFile, most: int) -> Iterator[bytes]:
    """Yield what a packed file holds, up to a block more than ``most`` bytes."""
    size = 0
    while size <= most and (block := file.read(_BLOCK)):
        size += len(block)
        yield block


def _split(text: str, limits: Limits) -> list[str]:
    """Return the lines of a text, without the empty ones at its end, of which a spreadsheet may write a million."""
    end = text.find("\n", len(text.rstrip(_EMPTY + "\n")))
    text = text if end < 0 else text[:end]
    if text.count("\n") > 2 * limits.rows:
        raise DatasetError(Fault(f"more than {2 * limits.rows:,} lines", "give a row a frame"))
    return text.split("\n")


def _delimiter(line: str) -> str:
    """Return what parts the cells of a line."""
    counts = {part: len(next(csv.reader([line], delimiter=part, skipinitialspace=True))) for part in _PARTS}
    return max(_PARTS, key=counts.__getitem__) if max(counts.values()) > 1 else ","


def _trimmed(line: str, delimiter: str, width: int) -> str:
    """Return a line without the empty cells behind those of ``width`` columns."""
    bare = line.rstrip(delimiter + " ")
    kept = bare.count(delimiter)
    return bare + delimiter * min(line.count(delimiter) - kept, max(width - 1 - kept, 0))


def _check_length(line: str, delimiter: str, number: int, limits: Limits) -> None:
    if len(line) > limits.line or line.count(delimiter) >= limits.columns:
        what = f"{len(line):,} characters, {line.count(delimiter) + 1:,} cells in one line"
        mend = f"give an id and a pose a line, {limits.columns} cells at most"
        raise DatasetError(Fault(what, mend, rows=(number,)))


def _parsed(lines: Iterable[str], delimiter: str, before: int, expected: str) -> list[Row]:
    """Return each of the lines behind the first ``before`` that has any cell."""
    lines = [*lines, ""]  # into which a quote that is not closed in the last line runs
    reader, rows, number = csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [], 0
    try:
        for cells in reader:
            if reader.line_num > number + 1:
                mend = "close it"
                raise DatasetError(Fault("a quote that is not closed in its line", mend, rows=(before + number + 1,)))
            number = reader.line_num
            if "".join(cells).strip():
                rows.append(Row(cells, before + number, lines[number - 1]))
    except csv.Error as error:
        where = (before + reader.line_num,)
        raise DatasetError(Fault(f"not a CSV file ({said(error)})", expected, rows=where)) from error
    return rows


def _head(lines: list[str], expected: str, limits: Limits) -> tuple[int, str, list[str]]:
    """Return the place of the header, what parts its cells, and the remarks before it."""
    delimiter, remarks = "", list[str]()
    for place, line in enumerate(lines):
        bare = line.rstrip(_EMPTY)
        separator = _SEPARATOR.fullmatch(line.strip(" "))
        if separator and not delimiter and not remarks:
            delimiter = separator[1]
        elif _REMARK.match(bare) and not any(part in bare for part in _PARTS):
            remarks.append(bare.strip('" '))
        elif bare.strip(_EMPTY + '"'):
            _check_length(bare, delimiter or ",", place + 1, limits)
            return place, delimiter or _delimiter(bare), remarks
    raise DatasetError(Fault("no cell that is not empty", expected))


def read_sheet(text: str, expected: str, limits: Limits = OWN, short_rows: bool = False) -> Sheet:
    """Return the table in a text.

    With ``short_rows``, cells that a row lacks at its end are empty, as old spreadsheets write them; else that is a
    fault of the row. ``expected`` says how to mend a text that is no table.

    Raises
    ------
    DatasetError
        If it is none, or larger than the limits.
    """
    lines = _split(text, limits)
    start, delimiter, remarks = _head(lines, expected, limits)
    lines[start] = lines[start].rstrip(delimiter + " ")
    width = lines[start].count(delimiter) + 1
    for place in range(start, len(lines)):
        line = lines[place]
        if line.endswith(delimiter):
            line = lines[place] = _trimmed(line, delimiter, width)
        if len(line) > limits.line or line.count(delimiter) >= limits.columns:
            _check_length(line, delimiter, place + 1, limits)
    header, *body = _parsed(lines[start:], delimiter, start, expected) or [Row([], 0, "")]
    names = [name.strip().strip("'\"").strip().lower() for name in header.cells]
    names[:1] = [name.lstrip("# ") for name in names[:1]]  # numpy.savetxt writes a header so
    if not any(names):
        raise DatasetError(Fault("no cell that is not empty", expected))
    while not names[-1]:
        names.pop()
    if len(body) > limits.rows:
        raise DatasetError(Fault(f"{len(body):,} rows", f"give a row a frame, {limits.rows:,} at most"))
    fitting, wrong = _fitting(body, len(names), short_rows)
    faults = []
    if wrong:
        what = f"{len(wrong[0].cells)} cells, where the header has {len(names)}"
        faults.append(fault_in([row.line for row in wrong], what, "give every row a cell a column"))
    cells = zip(*(row.cells for row in fitting), strict=True) if fitting else [()] * len(names)
    columns = dict(zip(names, map(list, cells), strict=True))
    numbers = np.array([row.line for row in fitting], int)
    decimal = "." if delimiter == "," else ","
    head = [line for line in lines[: start + 1] if line.strip(_EMPTY)]
    text_of_rows = [row.text for row in fitting]
    return Sheet(names, columns, numbers, header.line, delimiter, decimal, remarks, tuple(faults), head, text_of_rows)


def _fitting(rows: list[Row], width: int, short_rows: bool) -> tuple[list[Row], list[Row]]:
    """Return the rows that have so many cells, and those that have not."""
    fitting, wrong = [], []
    for row in rows:
        count = len(row.cells)
        if count == width:
            fitting.append(row)
        elif count > width and not any(cell.strip() for cell in row.cells[width:]):
            fitting.append(row._replace(cells=row.cells[:width]))
        elif count < width and short_rows:
            fitting.append(row._replace(cells=row.cells + [""] * (width - count)))
        else:
            wrong.append(row)
    return fitting, wrong


def read_rows(text: str, expected: str) -> list[Row]:
    """Return the rows of a text whose lines need no header; those that begin with # are remarks.

    Raises
    ------
    DatasetError
        If a quote is not closed in its line.
    """
    lines = [line.rstrip(_EMPTY) for line in _split(text, OWN)]
    separator = _SEPARATOR.fullmatch(text.partition("\n")[0].strip(" "))
    if separator:
        lines[0] = ""
    lines = ["" if line.lstrip(' "').startswith("#") else line for line in lines]
    first = next((line for line in lines if line.strip()), "")
    return _parsed(lines, separator[1] if separator else _delimiter(first), 0, expected)


def is_blank(cell: object) -> bool:
    """Return whether a cell holds nothing."""
    return cell is None or not str(cell).strip()


def read_numbers(cells: Iterable[object], decimal: str = ".") -> Floats:
    """Return cells (n,) as numbers (n,), their decimals parted by a point or ``decimal``; what is none becomes NaN."""
    texts = [str(cell).strip() for cell in cells]
    whole = "\n".join(texts)
    if not whole.isascii():
        texts = [text.translate(_MINUS) for text in texts]
    if decimal == "," and "," in whole:
        texts = [text if "." in text else text.replace(",", ".", 1) for text in texts]
    if "_" not in whole:
        try:
            return np.array(list(map(float, texts)), np.float64)
        except ValueError:
            pass
    return np.array([_number(text) for text in texts], np.float64)


def _number(text: str) -> float:
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan
