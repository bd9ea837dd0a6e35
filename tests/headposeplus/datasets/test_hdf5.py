"""HDF5 files where a write fails, where locks are missing, and where a file may not be read."""

import errno
import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from headposeplus.datasets.hdf5 import changed, created, opened, unread
from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.files import sha256
from tests.circumstances import file_limit, no_locks, small_disk, without_rights

BLOCK = np.arange(300_000, dtype=np.uint8)


def fill(new):
    data = new.hdf5.create_dataset("bytes", shape=(0,), maxshape=(None,), dtype="u1", chunks=(1 << 16,))
    data.attrs["about"] = "some bytes"
    for _ in range(4):
        new.check()
        start = len(data)
        data.resize(start + len(BLOCK), axis=0)
        data[start:] = BLOCK
    new.hdf5.attrs["rows"] = 4


def write(path):
    with created(path) as new:
        fill(new)
    return path


def read(path):
    try:
        with opened(path) as file:
            return file["bytes"][...]
    except (OSError, KeyError) as error:
        raise unread(path, error) from error


def test_the_same_rows_give_the_same_bytes(tmp_path):
    first, second = write(tmp_path / "a.h5"), write(tmp_path / "b.h5")
    assert first.read_bytes() == second.read_bytes()
    with h5py.File(first) as file:
        assert (file["bytes"][...] == np.tile(BLOCK, 4)).all() and file.attrs["rows"] == 4


def test_a_write_that_fails_anywhere_in_the_file_is_told_and_nothing_is_left(tmp_path):
    size = write(tmp_path / "whole.h5").stat().st_size
    for limit in (0, 1, 50, 96, 800, 2048, 5000, 70_000, 300_000, size - 70_000, size - 3000, size - 100, size - 1):
        with (
            pytest.raises(HeadposeError, match=r"a\.h5: the system's limit for a file's size is reached") as raised,
            file_limit(limit),
        ):
            write(tmp_path / "a.h5")
        assert "raise it and run the same command again" in str(raised.value)
        assert [path.name for path in tmp_path.iterdir()] == ["whole.h5"]
    with file_limit(size):
        assert write(tmp_path / "a.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_a_full_disk_is_told_and_there_may_be_room_later(tmp_path):
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        with pytest.raises(HeadposeError, match=r"a\.h5: the disk is full; make room and run the same command again"):
            write(disk / "a.h5")
        assert not list(disk.iterdir())
        subprocess.run(["mount", "-o", "remount,size=8M", str(disk)], check=True)
        assert len(read(write(disk / "a.h5"))) == 4 * len(BLOCK)


def test_what_a_body_raises_comes_through(tmp_path):
    with pytest.raises(ZeroDivisionError), created(tmp_path / "a.h5") as new:
        fill(new)
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())


HOLDING = """
import sys, h5py
file = h5py.File(sys.argv[1], "r+", locking=True)
print("open", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_program_has_open_for_writing_is_read(tmp_path):
    path = write(tmp_path / "a.h5")
    whole = sha256(path)
    words = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(BlockingIOError):
            h5py.File(path, locking=True)
        assert len(read(path)) == 4 * len(BLOCK)
        # HDF5 has noted in the header that it is open, and a program that is killed leaves that note.
        assert sha256(path) != whole
        assert "another program has it open for writing" in str(changed(path, whole))
        other.send_signal(signal.SIGKILL)
    assert "close it there; if none has, delete it and run the build again" in str(changed(path, whole))
    assert "damaged or changed: its SHA-256" in str(changed(path, "0"))


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path):
    path = write(tmp_path / "a.h5")
    path.chmod(0)
    with pytest.raises(DatasetError) as raised, without_rights():
        read(path)
    assert "cannot be read: Permission denied; give yourself the right to read it" in str(raised.value)
    assert "damaged" not in str(raised.value) and "delete" not in str(raised.value)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOLCK, errno.EAGAIN])
def test_what_the_system_refuses_is_not_damage(tmp_path, number):
    text = str(unread(tmp_path / "a.h5", OSError(number, "unable to read")))
    assert os.strerror(number) in text and "damaged" not in text and "delete" not in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: data[:-1],
        lambda data: b"<html>" + data[6:],
    ],
)
def test_wrong_bytes_are_damage(tmp_path, damage):
    path = write(tmp_path / "a.h5")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=r"a\.h5: damaged \(.*\); delete it and run the build again"):
        read(path)


ROUND = """
import sys, pathlib
sys.path[:0] = [sys.argv[2]]
from tests.headposeplus.datasets.test_hdf5 import read, write
print(len(read(write(pathlib.Path(sys.argv[1])))))
"""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_to_and_read(tmp_path, number):
    environment = no_locks(tmp_path, number)
    words = [sys.executable, "-c", ROUND, str(tmp_path / "a.h5"), os.getcwd()]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{4 * len(BLOCK)}\n"), done.stderr
