import errno
import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from headposeplus.errors import HeadposeError
from headposeplus.files import (
    leftovers,
    locked,
    read_json,
    sha256,
    sweep,
    whole_or_absent,
    write_bytes,
    write_json,
    write_text,
)
from tests.circumstances import file_limit, no_locks, small_disk, without_rights


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "folder" / "a.txt"
    write_text(path, "one")
    with pytest.raises(ZeroDivisionError), whole_or_absent(path) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["a.txt"]
    assert sha256(path) == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; make room and run"),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            "your quota on this disk is used up; make room and run the same",
        ),
        (OSError(errno.EIO, "Input/output error"), "cannot be written: Input/output error"),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "cannot be written: Permission denied; give yourself the right to write there",
        ),
    ],
)
def test_writing_errors_name_the_file(tmp_path, error, says):
    path = tmp_path / "a.h5"
    with pytest.raises(HeadposeError, match=says) as raised, whole_or_absent(path):
        raise error
    assert str(path) in str(raised.value) and not list(tmp_path.iterdir())


def test_json_errors_name_the_file_and_what_was_expected(tmp_path):
    with pytest.raises(HeadposeError, match=r"x\.json: cannot be read: No such file or directory; expected a thing"):
        read_json(tmp_path / "x.json", "a thing")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(HeadposeError, match=r"x\.json: expected a thing, which is JSON"):
        read_json(tmp_path / "x.json", "a thing")


def test_json_that_is_nested_too_deeply_is_told(tmp_path):
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(HeadposeError, match=r"x\.json: expected a thing, which is JSON: it is nested too deeply"):
        read_json(tmp_path / "x.json", "a thing")


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """So that no power cut leaves an empty file under it; and the name is there when it is said to be."""
    happened = []

    def noted(name, called):
        def call(*given):
            happened.append(
                (name, os.path.basename(os.readlink(f"/proc/self/fd/{given[0]}")) if name == "sync" else "")
            )
            return called(*given)

        return call

    monkeypatch.setattr(os, "fsync", noted("sync", os.fsync))
    monkeypatch.setattr(os, "replace", noted("rename", os.replace))
    write_text(tmp_path / "a.txt", "one")
    assert happened == [("sync", f".a.txt.{os.getpid()}.part"), ("rename", ""), ("sync", tmp_path.name)]


def test_a_file_system_that_offers_no_flush_is_no_fault_and_an_error_of_the_disk_is(tmp_path, monkeypatch):
    def refused(number):
        def fsync(descriptor):
            raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", refused(errno.EINVAL))
    write_text(tmp_path / "a.txt", "one")
    monkeypatch.setattr(os, "fsync", refused(errno.EIO))
    with pytest.raises(HeadposeError, match=r"a\.txt: cannot be written: Input/output error"):
        write_text(tmp_path / "a.txt", "two")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["one"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from headposeplus.files import whole_or_absent
with whole_or_absent(Path(sys.argv[1])) as path:
    path.write_text("half")
    if sys.argv[2:]:
        print("here", flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_killed_runs_left_is_swept_and_what_is_being_written_stays(tmp_path):
    deep = tmp_path / "a" / "b"
    for path in (tmp_path / "one.txt", deep / "two.png"):
        assert subprocess.run([sys.executable, "-c", _KILLED, path], check=False).returncode == -9
    (tmp_path / ".hidden.part").write_text("the user's")
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, deep / "three.png", "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"here\n"
        assert len(leftovers(tmp_path)) == 1 and len(leftovers(deep)) == 2
        sweep(tmp_path, deep=True)
        assert [path.name for path in deep.iterdir()] == [f".three.png.{writer.pid}.part"]
        writer.kill()
    sweep(tmp_path)
    assert leftovers(deep)
    sweep(tmp_path, deep=True)
    assert not list(deep.iterdir())
    assert (tmp_path / ".hidden.part").exists() and not leftovers(tmp_path)


def test_a_limit_of_file_size_is_told_and_the_old_file_stays(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(HeadposeError, match=r"a\.txt: the system's limit for a file's size is reached"), file_limit(99):
        write_bytes(tmp_path / "a.txt", bytes(100))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_is_told(tmp_path):
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        with pytest.raises(HeadposeError, match=r"a\.txt: the disk is full; make room and run the same command again"):
            write_bytes(disk / "a.txt", bytes(1 << 17))
        assert not list(disk.iterdir())


def test_an_error_of_another_file_is_not_one_of_writing(tmp_path):
    with pytest.raises(FileNotFoundError), whole_or_absent(tmp_path / "out" / "a.txt"):
        (tmp_path / "in" / "b.txt").read_bytes()
    assert not list((tmp_path / "out").iterdir())


def test_a_name_that_is_no_utf_8_costs_no_file(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"path": name})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"path": name}
    write_text(tmp_path / "a.txt", name)
    assert (tmp_path / "a.txt").read_text("utf-8") == "caf\\udce9"


HOLDING = """
import sys, pathlib
from headposeplus.files import locked
with locked(pathlib.Path(sys.argv[1]), wait=sys.argv[2] == "wait"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder, environment, mode="refuse"):
    words = [sys.executable, "-c", HOLDING, str(folder), mode]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, env=environment, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [None, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_lock_keeps_others_out_and_ends_with_its_process(tmp_path, number):
    environment = dict(os.environ) if number is None else no_locks(tmp_path, number)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".lock").touch()  # as an earlier process leaves it, perhaps where there were locks
    with holder(folder, environment) as first:
        assert first.stdout.readline() == "held\n"
        with holder(folder, environment) as second:
            assert second.stdout.readline() == ""
            said = second.stderr.read()
            assert "another process is writing here; wait for it to end" in said
            assert ("this file system keeps no locks" in said) == (number is not None)
        with holder(folder, environment, "wait") as waiting:
            assert "waiting: " in waiting.stderr.readline()
            first.kill()
            first.wait()
            assert waiting.stdout.readline() == "held\n"
            waiting.communicate("")
            assert waiting.returncode == 0
    with holder(folder, environment) as third:
        assert third.stdout.readline() == "held\n"


def test_who_holds_a_folder_clears_what_killed_runs_left_in_it(tmp_path):
    left = tmp_path / ".model.pt.99999999.part"  # of no process: numbers are smaller
    kept = [tmp_path / name for name in ("a.part", ".a.part", "below/.a.99999999.part")]
    (tmp_path / "below").mkdir()
    for path in (left, *kept):
        path.write_bytes(b"half")
    with holder(tmp_path, dict(os.environ)) as first:
        assert first.stdout.readline() == "held\n" and not left.exists() and all(path.exists() for path in kept)
        left.write_bytes(b"of the one that holds it")
        with pytest.raises(HeadposeError, match="another process"), locked(tmp_path, wait=False):
            pass
        assert left.exists()


def test_a_folder_that_may_not_be_written_to_is_told(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    tmp_path.chmod(0o755)
    with (
        pytest.raises(
            HeadposeError, match=r"folder/\.lock: cannot be written: .*; give yourself the right to write there"
        ),
        without_rights(),
        locked(folder, wait=False),
    ):
        pass
