"""Opening HDF5 files: where there are no locks, told apart by what is wrong with them, and safe where a write fails."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import h5py

from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, said, unreadable
from headposeplus.files import stream_sha256, whole_or_absent

Shard: TypeAlias = h5py.File  # open, to be read
Field: TypeAlias = h5py.Dataset

# Of the header (of version 0): HDF5 notes there that a file is open for writing.
_HEADER = slice(20, 24)
BUILD_AGAIN = "delete it and run the build again"


def opened(path: Path) -> Shard:
    """Return an HDF5 file, open to be read, without a chunk cache, which would read a megabyte for each crop.

    A lock is not needed, since a file under its name is whole: where it cannot be had, because the file system keeps
    none or another program writes to the file, there is none.
    """
    try:
        return h5py.File(path, "r", rdcc_nbytes=0)
    except OSError:
        return h5py.File(path, "r", rdcc_nbytes=0, locking=False)


def unread(path: Path, error: Exception) -> DatasetError:
    """Return what to raise where an HDF5 file cannot be read.

    It is damaged only if its bytes are wrong. What the system refuses has a number, and leaves the file as it is.
    """
    if isinstance(error, FileNotFoundError):
        return DatasetError(Fault("is missing", "build again to restore it", path))
    if isinstance(error, OSError) and error.errno:
        return DatasetError(unreadable(path, OSError(error.errno, os.strerror(error.errno))))
    return DatasetError(Fault(f"damaged ({said(error)})", BUILD_AGAIN, path))


def changed(path: Path, expected: str) -> Fault:
    """Return the fault of an HDF5 file whose SHA-256 is not the expected one."""
    with path.open("rb") as file:
        data = bytearray(file.read(_HEADER.stop))
        data[_HEADER] = bytes(len(data[_HEADER]))
        if stream_sha256(file, bytes(data)) == expected:
            what = "another program has it open for writing, or ended without closing it"
            return Fault(what, f"close it there; if none has, {BUILD_AGAIN}", path)
    return Fault("damaged or changed: its SHA-256 is not that in dataset.json", BUILD_AGAIN, path)


class _Sink(io.RawIOBase):
    """A file for HDF5 to write to, which takes everything.

    HDF5 crashes the process if a write fails, at the latest when it closes the file. So the first failure is kept, the
    rest is dropped, and HDF5 ends in peace.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.error: OSError | None = None

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest and not self.error:
            try:
                rest = rest[self._file.write(rest) :]
            except OSError as error:
                self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return 0 if self.error else self._file.truncate(size)
        except OSError as error:
            self.error = error
            return 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._file.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


class NewFile(NamedTuple):
    """An HDF5 file that is being written, and where it will be."""

    hdf5: h5py.File
    sink: _Sink

    def check(self) -> None:
        """Raise the OSError of a write that has failed: the rest is in vain."""
        if self.sink.error:
            raise self.sink.error


@contextmanager
def created(path: Path) -> Iterator[NewFile]:
    """Yield a new HDF5 file, which exists under its name only once it is whole.

    Raises
    ------
    HeadposeError
        If it cannot be written, for want of room, of a right, or by a quota.
    """
    with whole_or_absent(path) as temporary, _Sink(temporary) as sink:
        try:
            with h5py.File(sink, "w") as file:
                new = NewFile(file, sink)
                yield new
        except (OSError, RuntimeError, ValueError):
            new.check()  # what HDF5 raises when it reads what was dropped
            raise
        new.check()
