"""The files in a zip, looked at and unpacked within limits: of an npz, and of a zip with one table in it."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath
from typing import NamedTuple

from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, said, shown
from headposeplus.sheets import Limits, too_large

_NAME = 512  # bytes of a file in a zip's directory
_MAGIC = b"PK"
MAX_ABOUT = 16 << 10  # bytes of the TOML beside a table
TABLES = (".csv", ".csv.gz", ".tsv", ".txt", ".parquet", ".feather", ".arrow", ".npz")  # endings of files of tables
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python bounds what these unpack at a time
_MEND = "pack one table, and at most its TOML"
_SPREADSHEETS = ("[Content_Types].xml", "mimetype")  # in what Excel and LibreOffice write


class OneTable(NamedTuple):
    """The table in a zip, and the TOML beside it: their names and bytes; empty where there is no TOML."""

    name: str
    table: bytes
    about_name: str
    about: bytes


def is_zip(data: bytes) -> bool:
    """Return whether bytes are those of a zip, as an npz is one."""
    return data[:2] == _MAGIC


def list_zip(data: bytes, limits: Limits) -> list[zipfile.ZipInfo]:
    """Return the files in a zip, however it lies about them.

    Raises
    ------
    DatasetError
        If it is damaged, has many files, or they are large.
    """
    _check_directory(data, limits.files)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    # Whatever zipfile raises on a file that was made to break it.
    except Exception as error:
        raise _damaged(said(error)) from error
    if len(entries) > limits.files:
        raise _many(limits.files)
    if sum(entry.file_size for entry in entries) > limits.bytes:
        raise too_large(limits)
    if any(entry.filename in _SPREADSHEETS for entry in entries):
        raise DatasetError(Fault("an Excel file, or another spreadsheet", "save it as a CSV"))
    return entries


def _check_directory(data: bytes, most: int) -> None:
    """Raise a fault if a zip's directory, which is parsed whole, is long: it may hold millions of entries."""
    end = data.rfind(b"PK\x05\x06")
    record = data[end : end + 22]
    if end < 0 or len(record) < 22:
        raise _damaged("it has no end")
    entries, size = (int.from_bytes(record[start : start + length], "little") for start, length in ((10, 2), (12, 4)))
    if data[max(end - 20, 0) : end].startswith(b"PK\x06\x07") or entries > most or size > most * _NAME:
        raise _many(most)


def _damaged(why: str) -> DatasetError:
    return DatasetError(Fault(f"a damaged npz or zip file ({why})", "write it again"))


def _many(most: int) -> DatasetError:
    return DatasetError(Fault(f"an npz or zip file of more than {most} files", "keep the ids and the poses"))


def is_npz(entries: list[zipfile.ZipInfo]) -> bool:
    """Return whether the files in a zip are arrays of NumPy."""
    return any(entry.filename.endswith(".npy") for entry in entries)


def unzipped(data: bytes, limits: Limits, most_about: int = 0) -> OneTable | None:
    """Return the one table in a zip, and the TOML beside it, which is cut behind ``most_about`` bytes and one.

    An npz, and any other file, gives None.

    Folders, what macOS adds, names that begin with a dot, a README and files that are no tables do not count.

    Raises
    ------
    DatasetError
        If the zip is damaged, holds no table or several, or its table is packed unlike other zips or is a zip.
    """
    if not is_zip(data) or is_npz(entries := list_zip(data, limits)):
        return None
    entries = [entry for entry in entries if _counts(entry.filename)]
    others = [entry for entry in entries if _ending(entry) != ".toml"]
    tables = [entry for entry in others if entry.filename.lower().endswith(TABLES)] or others
    tables = [entry for entry in tables if _ending(entry) != ".txt"] or tables  # a log beside the table
    names = ", ".join(shown(entry.filename) for entry in tables[:4])
    if len(tables) != 1:
        what = f"a zip of {len(tables)} tables, {names}" if tables else "a zip without a table"
        raise DatasetError(Fault(what, _MEND))
    about = _about(entries, tables[0])
    table = _unpacked(data, tables[0], limits.bytes)
    if is_zip(table) and not is_npz(list_zip(table, limits)):
        raise DatasetError(Fault("an archive in an archive", _MEND))
    return OneTable(
        tables[0].filename,
        table,
        about.filename if about else "",
        _unpacked(data, about, most_about + 1) if about else b"",
    )


def _about(entries: list[zipfile.ZipInfo], table: zipfile.ZipInfo) -> zipfile.ZipInfo | None:
    """Return the TOML in a zip; of several, the one of the table's name."""
    tomls = [entry for entry in entries if _ending(entry) == ".toml"]
    stem = PurePosixPath(table.filename).name.partition(".")[0]
    named = [entry for entry in tomls if PurePosixPath(entry.filename).stem == stem]
    tomls = named if len(tomls) > 1 and named else tomls
    if len(tomls) > 1:
        raise DatasetError(Fault(f"a zip of {len(tomls)} TOMLs", _MEND))
    return tomls[0] if tomls else None


def table_in(data: bytes, limits: Limits) -> bytes:
    """Return the bytes of the one table in a zip; an npz, and any other file, as it is.

    Raises
    ------
    DatasetError
        As :func:`unzipped` does.
    """
    inside = unzipped(data, limits)
    return inside.table if inside else data


def _counts(name: str) -> bool:
    """Return whether a file in a zip may be the table or its TOML."""
    parts = PurePosixPath(name).parts
    if name.endswith("/") or not parts or "__MACOSX" in parts or parts[-1].lower().startswith("readme"):
        return False
    return not any(part.startswith(".") and part.strip(".") for part in parts)  # .. leads out of the zip, and nowhere


def _ending(entry: zipfile.ZipInfo) -> str:
    return PurePosixPath(entry.filename).suffix.lower()


def _unpacked(data: bytes, entry: zipfile.ZipInfo, most: int) -> bytes:
    """Return the first bytes of a file in a zip, ``most`` at most."""
    if entry.flag_bits & 1:
        raise DatasetError(Fault("a zip with a password", "pack it without one"))
    if entry.compress_type not in _METHODS:
        raise DatasetError(Fault("a zip packed in a rare way", "pack it by deflation, as zip does, or send the table"))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(entry) as file:
            return file.read(most)
    except Exception as error:  # as above
        raise _damaged(said(error)) from error
