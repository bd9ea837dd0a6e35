"""Writing files so that a killed run leaves none half-written; reading JSON, npz and texts; hashes of files."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import stat
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, said, shown, unreadable

LFS_POINTER = b"version https://git-lfs"  # how a file begins in whose place Git has left a pointer
# What systems put into folders beside their users' files, in lower case; names that begin with a dot are more of it.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
_LEFTOVER = re.compile(r"\.[^_].*\.\d+\.part")  # as whole_or_absent names it; macOS's own begin with ._
# What a write fails with for want of room, and how a user mends it.
_NO_ROOM = {
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("your quota on this disk is used up", "make room"),
    errno.EFBIG: ("the system's limit for a file's size is reached (ulimit -f)", "raise it"),
}
_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EROFS)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # of file systems that keep none
# What may lie in a file's place.
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_MARKER = ".lock-without-system"  # stands for a lock there; its presence is the lock


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def names(folder: Path) -> list[str]:
    """Return the names of what a folder holds, as :func:`listing` does; raises OSError if it cannot be listed."""
    return sorted(name for name in os.listdir(folder) if not _is_litter(name))


def folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, as :func:`listing` does; none if it cannot be listed.

    The system says with a listing what is a folder, so that no file is asked for: raw copies have many.
    """
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # a link to itself
                if not _is_litter(entry.name) and entry.is_dir():
                    found.append(entry.name)
    return sorted(found)


def listing(folder: Path, *suffixes: str) -> list[Path]:
    """Return what a folder holds, sorted, without what a system put there, such as macOS's ``._0001.png``.

    With ``suffixes``, such as ``.png``, that is all whose names end in one of them, in capitals too. All that is listed
    in the project is listed here.

    Raises
    ------
    HeadposeError
        If the folder cannot be listed.
    """
    try:
        return [folder / name for name in names(folder) if not suffixes or name.lower().endswith(suffixes)]
    except OSError as error:
        raise HeadposeError(unreadable(folder, error, "a folder")) from error


def below(folder: Path, *suffixes: str) -> Iterator[Path]:
    """Yield the files with one of some suffixes in a folder and in all below it, as :func:`listing` has them.

    Folders that cannot be listed are passed over.
    """
    for place, within, files in os.walk(folder):
        within[:] = sorted(name for name in within if not _is_litter(name))
        for name in sorted(files):
            if name.lower().endswith(suffixes) and not _is_litter(name):
                yield Path(place, name)


def leftovers(folder: Path) -> list[Path]:
    """Return what killed runs left half-written in a folder; empty if that cannot be listed."""
    with suppress(OSError):
        return [folder / name for name in sorted(os.listdir(folder)) if _LEFTOVER.fullmatch(name)]
    return []


def sweep(folder: Path, deep: bool = False) -> None:
    """Remove what killed runs left half-written in a folder, if ``deep`` also in all below it.

    What a process of this machine still writes stays.
    """
    for place in (Path(place) for place, _, _ in os.walk(folder)) if deep else (folder,):
        for path in leftovers(place):
            if not _runs(int(path.name.split(".")[-2])):
                with suppress(OSError):
                    path.unlink()


def _runs(process: int) -> bool:
    """Return whether a process runs on this machine; on Windows, where asking may end it, True."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Raise what the system refuses while a file is written as HeadposeError, which names the file and the cause.

    What it refuses of another file, such as one that is read meanwhile, comes through as it is.
    """
    try:
        yield
    except OSError as error:
        other = Path(error.filename) if isinstance(error.filename, str) else path
        if other.parent != path.parent and other not in path.parents:
            raise
        what, mend = _NO_ROOM.get(error.errno or 0, (f"cannot be written: {error.strerror or error}", ""))
        if mend:
            mend += " and run the same command again"
        elif error.errno in _NO_RIGHT:
            mend = "give yourself the right to write there, or choose another folder"
        raise HeadposeError(Fault(what, mend, path)) from error


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to; rename it to ``path`` if all went well, else remove it.

    The file is on the disk before it has its name, so that no power cut leaves an empty one, and the name is when this
    returns.

    Raises
    ------
    HeadposeError
        If the disk is full or the folder cannot be written to.
    """
    # The process's number keeps two runs into one folder from writing to one file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            with suppress(PermissionError):  # to list the folder; on Windows none can be opened
                _flush(path.parent)
    except BaseException:
        with suppress(OSError):  # a folder that cannot be written to
            temporary.unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    """Let the system write a file, or the names in a folder, to the disk; some file systems do not offer that."""
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, wait: bool) -> Iterator[None]:
    """Keep other processes out of a folder while it is written to; wait for them, or raise HeadposeError.

    What killed runs left half-written in it is removed.

    The lock ends with the process, however that ends. Where the file system keeps no locks, a file stands for it, which
    a process that was killed leaves behind: on the same machine the next one takes it away, elsewhere the user has to.
    """
    with written(folder / ".lock"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquired(folder, wait)
    try:
        sweep(folder)
        yield
    finally:
        lock.release()


def _acquired(folder: Path, wait: bool) -> BaseFileLock:
    """Return the lock of a folder, held; raises HeadposeError if another process has it and it is not waited for."""
    path, mend = folder / ".lock", "wait for it to end"
    lock: BaseFileLock = FileLock(path)
    if not _keeps_locks(path):
        lock = SoftFileLock(folder / _MARKER)
        mend += f", or, if none does, delete {_MARKER}: this file system keeps no locks"
    with suppress(Timeout):
        lock.acquire(timeout=0)
        return lock
    fault = Fault("another process is writing here", mend, folder)
    if not wait:
        raise HeadposeError(fault)
    print(f"waiting: {fault}", file=sys.stderr)
    lock.acquire()
    return lock


def _keeps_locks(path: Path) -> bool:
    """Return whether the system can lock a file, which is made."""
    try:
        import fcntl
    except ImportError:  # elsewhere than on Unix there are other locks
        return True
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _NO_LOCKS
    return True


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all."""
    with whole_or_absent(path) as temporary:
        temporary.write_bytes(data)


def escaped(text: str) -> str:
    """Return a text that can be written: bytes of a file's name that are no UTF-8 stand in it as escapes."""
    return text.encode(errors="backslashreplace").decode()


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all.

    It is written :func:`escaped`, which JSON reads back.
    """
    write_bytes(path, escaped(text).encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, indented, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """Return what JSON holds; raises ValueError if it is none, is nested too deeply, or has a key twice.

    Of a key that comes twice, people read the first value and programs the last.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"{shown(twice)} comes twice")
    return content


def read_json(path: Path, expected: str) -> Any:
    """Return the content of a JSON file, as :func:`parse_json` does.

    Raises
    ------
    HeadposeError
        If it cannot be read, or is none; the words say that ``expected`` was expected.
    """
    try:
        return parse_json(read_file(path).decode())
    except OSError as error:
        raise HeadposeError(unreadable(path, error, expected)) from error
    except ValueError as error:
        raise HeadposeError(Fault(f"expected {expected}, which is JSON: {said(error)}", file=path)) from error


def read_note(path: Path, expected: str, otherwise: str) -> dict[str, Any] | None:
    """Return what a JSON file notes of the folder that it lies in; None if that is empty, or not there yet.

    Raises
    ------
    HeadposeError
        If it cannot be read, or the folder holds something and no note: ``otherwise`` is what is said then.
    """
    if path.exists():
        held = read_json(path, expected)
        return held if isinstance(held, dict) else {}
    folder = path.parent
    if folder.exists() and (not folder.is_dir() or listing(folder)):
        raise HeadposeError(Fault(otherwise, "choose another folder", folder))
    return None


def opened_file(path: Path) -> BinaryIO:
    """Return a file, open to be read without a buffer.

    A stranger's folder may have a pipe in a file's place, for whose other end a reader would wait for ever, or a
    device, which has no end.

    Raises
    ------
    OSError
        If it cannot be opened, or is none, which is found without waiting.
    """
    return open(path, "rb", buffering=0, opener=_open_at_once)


def _open_at_once(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        check_is_file(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_is_file(state: os.stat_result, path: Path | str) -> None:
    """Raise OSError if what the system says of a path is not that it is a file, or a link to one."""
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(state.st_mode):
        kind = next((name for fits, name in _KINDS if fits(state.st_mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))


def read_file(path: Path) -> bytes:
    """Return the bytes of a file; raises OSError as :func:`opened_file` does."""
    with opened_file(path) as file:
        return file.read()


def check_zip(data: bytes) -> None:
    """Raise ValueError if the bytes are no zip, or a file in it has not the checksum that the zip says.

    Torch's files and NumPy's npz are zips; what reads them may leave the checksums alone.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            broken = archive.testzip()
    except MemoryError:
        raise
    except Exception as error:  # zipfile raises many kinds
        raise ValueError(str(error)) from error
    if broken is not None:
        raise ValueError(f"{broken} has not its checksum")


@contextmanager
def opened_npz(data: bytes) -> Iterator[Any]:
    """Yield the arrays of an npz file by name; raises ValueError if it is damaged, lacks one, or holds objects."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            yield file
    # Whatever NumPy and zipfile raise on a damaged file.
    except (OSError, EOFError, TypeError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise ValueError(str(error)) from error


def beside(path: Path, ending: str) -> Path:
    """Return the file of a name with another ending, such as ``.toml``, in capitals if that is there alone."""
    small = path.with_suffix(ending)
    capitals = path.with_suffix(ending.upper())
    return capitals if capitals.is_file() and not small.exists() else small


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
    with opened_file(path) as file:
        return stream_sha256(file)


def stream_sha256(file: BinaryIO, before: bytes = b"") -> str:
    """Return the SHA-256, in hexadecimal, of some bytes and the rest of an open file."""
    digest = hashlib.sha256(before)
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
