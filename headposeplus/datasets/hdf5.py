"""Opening HDF5 files: where there are no locks, told apart by what is wrong with them, and safe where a write fails."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import h5py
import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5t

from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, said, shown, unreadable
from headposeplus.files import check_is_file, opened_file, sha256, stream_sha256, whole_or_absent
from headposeplus.progress import progress
from headposeplus.tasks import cores

Shard: TypeAlias = h5py.File  # open, to be read
Field: TypeAlias = h5py.Dataset

# Of the header (of version 0): HDF5 notes there that a file is open for writing.
_HEADER = slice(20, 24)
BUILD_AGAIN = "delete it and run the build again"
_MOST = 64  # fields that a file may have; a shard has up to 13
# What each field of a shard is: NumPy's kind of its values, and the shape of a row; None is any length.
_ROWS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "mask/bits": ("u1", (None,)),
    "label/rotation": ("f8", (3, 3)),
    "label/pyr": ("f8", (3,)),
    "id": ("S", ()),
    "subject": ("S", ()),
    "box": ("i4", (4,)),
    "box_source": ("S", ()),
    "source": ("S", ()),
    "turn": ("f8", ()),
    "residual/geodesic": ("f8", ()),
    "residual/euler": ("f8", ()),
}
_looked_at: set[tuple[int, ...]] = set()  # files that are as a build writes them
_OFFSET = "image/offset"  # has one more than there are rows
_FIELDS = _ROWS | {"image/bytes": ("u1", ()), _OFFSET: ("i8", ())}
_SHOWN_FROM = 4 << 30  # bytes that are hashed; fewer take seconds


class _Key(NamedTuple):
    """A file with the SHA-256 that it should have, and by what it is known to be the same file still."""

    path: Path
    sha256: str
    size: int
    identity: tuple[int, ...]


_found: set[_Key] = set()  # that this process has found as they should be


def opened(path: Path) -> Shard:
    """Return an HDF5 file, open to be read, without a chunk cache, which would read a megabyte for each crop.

    A lock is not needed, since a file under its name is whole: where it cannot be had, because the file system keeps
    none or another program writes to the file, there is none.

    HDF5 files may be a stranger's, and can name other files in place of data. So a file is opened only if it is one,
    and nothing is read of one that a build would not have written.

    Raises
    ------
    DatasetError
        If it is no file, or holds links, data that lie in other files or would be decoded, objects, or fields of other
        kinds or shapes.
    OSError
        If it cannot be opened.
    """
    state = path.stat()
    try:
        check_is_file(state, path)  # HDF5 would wait for a pipe's other end
    except OSError as error:
        raise DatasetError(unreadable(path, error)) from error
    try:
        file = h5py.File(path, "r", rdcc_nbytes=0)
    except OSError:
        file = h5py.File(path, "r", rdcc_nbytes=0, locking=False)
    # A loader opens its shards for every batch, and looking takes ten times as long as opening.
    seen = _identity(state)
    if seen in _looked_at:
        return file
    try:
        if foreign := _foreign(file, state.st_size):
            raise DatasetError(Fault(f"not as a build writes it: {foreign}", BUILD_AGAIN, path))
    except BaseException:
        file.close()
        raise
    _looked_at.add(seen)
    return file


def _identity(state: os.stat_result) -> tuple[int, ...]:
    """Return by what a file is known to be the same, and unchanged."""
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def _foreign(file: Shard, size: int) -> str:
    """Return what no build writes in a file of some bytes; empty if there is nothing of that."""
    shapes: dict[str, tuple[int, ...]] = {}
    groups = [("", file.id)]
    while groups:
        prefix, group = groups.pop()
        for name, kind in _links(group):
            path = prefix + name.decode(errors="replace")
            if kind != h5l.TYPE_HARD:
                return f"{shown(path)} is a link"
            what = h5o.get_info(group, name).type
            if what == h5o.TYPE_GROUP and not prefix:
                groups.append((f"{path}/", h5g.open(group, name)))
            elif what != h5o.TYPE_DATASET:
                return f"{shown(path)} is no field"
            elif wrong := _foreign_field(h5d.open(group, name), path, size, shapes):
                return f"{shown(path)} {wrong}"
        if len(shapes) + len(groups) >= _MOST:
            return f"it has {_MOST} fields or more"
    rows = {shape[0] - (path == _OFFSET) for path, shape in shapes.items() if path in _ROWS or path == _OFFSET}
    return "" if len(rows) <= 1 else f"its fields have {' and '.join(map(str, sorted(rows)))} rows"


def _links(group: h5g.GroupID) -> list[tuple[bytes, int]]:
    """Return the names in a group, and what kind of link each is; no more than make it one too many."""
    found: list[tuple[bytes, int]] = []

    def add(name: bytes, info: h5l.LinkInfo) -> bool | None:
        found.append((name, info.type))
        return len(found) >= _MOST or None

    group.links.iterate(add, info=True)
    return found


def _foreign_field(field: h5d.DatasetID, path: str, size: int, shapes: dict[str, tuple[int, ...]]) -> str:
    """Return what no build writes in a field; note its shape."""
    plan = field.get_create_plist()
    # The shape is asked for afterwards: HDF5 opens the other files of a virtual field to tell it.
    if plan.get_layout() == h5d.VIRTUAL or plan.get_external_count():
        return "lies in another file"
    if plan.get_nfilters():
        return "is compressed or filtered"
    kind = field.get_type()
    fixed = kind.get_class() == h5t.STRING and not kind.is_variable_str()
    if not fixed and kind.get_class() not in (h5t.INTEGER, h5t.FLOAT):
        return "holds neither numbers nor texts of one length"
    try:
        shape, dtype = field.shape, np.dtype(field.dtype)
    except TypeError:  # numbers of three bytes, for instance
        return "holds numbers of a kind that NumPy lacks"
    if math.prod(shape) * dtype.itemsize > size:
        return f"has the shape {shape} of {dtype}, more than the file has bytes"
    shapes[path] = shape
    return _foreign_shape(shape, dtype, path)


def _foreign_shape(shape: tuple[int, ...], dtype: np.dtype[Any], path: str) -> str:
    """Return that a field of a shard is of another kind or shape than a build gives it; empty if it is not."""
    if path not in _FIELDS:
        return ""
    wanted, of_row = _FIELDS[path]
    found = dtype.kind if wanted == "S" else dtype.str[1:]
    fits = len(shape) == 1 + len(of_row) and all(w in (None, n) for w, n in zip(of_row, shape[1:], strict=True))
    return "" if found == wanted and fits else f"has the shape {shape} and the type {dtype}"


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
    with opened_file(path) as file:
        data = bytearray(file.read(_HEADER.stop))
        data[_HEADER] = bytes(len(data[_HEADER]))
        if stream_sha256(file, bytes(data)) == expected:
            what = "another program has it open for writing, or ended without closing it"
            return Fault(what, f"close it there; if none has, {BUILD_AGAIN}", path)
    return Fault("damaged or changed: its SHA-256 is not that in dataset.json", BUILD_AGAIN, path)


def check_unchanged(files: Mapping[Path, str]) -> None:
    """Read files whole, some at a time, and compare each with its SHA-256; a process reads each once.

    Raises
    ------
    DatasetError
        If one is damaged or changed, or cannot be read.
    """
    keys = [_key(path, expected) for path, expected in files.items()]
    new = [key for key in keys if key not in _found]
    total = len(new) if sum(key.size for key in new) >= _SHOWN_FROM else 0
    with ThreadPoolExecutor(cores()) as pool, progress(total, "check", "file") as bar:
        try:
            for key in pool.map(_checked, new):
                _found.add(key)
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _key(path: Path, expected: str) -> _Key:
    try:
        state = path.stat()
    except OSError as error:
        raise unread(path, error) from error
    return _Key(path, expected, state.st_size, _identity(state))


def _checked(key: _Key) -> _Key:
    """Return what was given, if it is a file with its SHA-256; else raise DatasetError."""
    try:
        digest = sha256(key.path)
    except OSError as error:
        raise unread(key.path, error) from error
    if digest != key.sha256:
        raise DatasetError(changed(key.path, key.sha256))
    return key


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
