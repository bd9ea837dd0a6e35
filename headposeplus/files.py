"""Writing files so that a killed run leaves none half-written; reading JSON, npz and texts; hashes of files."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to; rename it to ``path`` if all went well, else remove it.

    Raises
    ------
    HeadposeError
        If the disk is full or the folder cannot be written to.
    """
    # The process's number keeps two runs into one folder from writing to one file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):  # a folder that cannot be written to
            temporary.unlink(missing_ok=True)
        # HDF5 reports a full disk in its own words.
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            mend = "make room and run the same command again"
            raise HeadposeError(Fault("the disk is full", mend, path)) from error
        raise HeadposeError(Fault(f"cannot be written: {error.strerror or error}", file=path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def locked(folder: Path, wait: bool) -> Iterator[None]:
    """Keep other processes out of a folder while it is written to; wait for them, or raise HeadposeError.

    The lock ends with the process, however that ends.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise HeadposeError(Fault("another process is writing here", "wait for it to end", folder)) from error
    except OSError as error:
        what = f"nothing can be written here: {error.strerror}"
        raise HeadposeError(Fault(what, "give yourself the right to write, or another folder", folder)) from error
    try:
        yield
    finally:
        lock.release()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with whole_or_absent(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, indented, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, expected: str) -> Any:
    """Return the content of a JSON file; raises HeadposeError, which says that ``expected`` was expected."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HeadposeError(Fault(f"expected {expected}: {error.strerror}", file=path)) from error
    except ValueError as error:
        raise HeadposeError(Fault(f"expected {expected}, which is JSON: {error}", file=path)) from error


@contextmanager
def opened_npz(data: bytes) -> Iterator[Any]:
    """Yield the arrays of an npz file by name; raises ValueError if it is damaged, lacks one, or holds objects."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            yield file
    # Whatever NumPy and zipfile raise on a damaged file.
    except (OSError, EOFError, TypeError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise ValueError(str(error)) from error


def decoded(data: bytes) -> str:
    """Return a text in UTF-8, Latin-1 or, if its first bytes say so, UTF-16; raises UnicodeDecodeError if it is not."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def bytes_sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def content_hash(content: Any) -> str:
    """Return the SHA-256 of plain values, as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def files_hash(paths: Iterable[Path]) -> str:
    """Return a hash that changes when a file is added, taken away, renamed or changes its size."""
    return content_hash([[path.parent.name, path.name, path.stat().st_size] for path in paths])
