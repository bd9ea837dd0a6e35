import errno
import os
import signal

import pytest

from headposeplus.errors import HeadposeError, RawDataError
from headposeplus.files import read_json, sha256, whole_or_absent, write_text
from headposeplus.tasks import run_tasks


def square(x):
    return x * x


def fail_at_three(x):
    if x == 3:
        raise RawDataError("three.png: damaged")
    return x


def die_at_three(x):
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order_and_errors_come_through(jobs):
    assert run_tasks(square, range(7), jobs, "squares") == [x * x for x in range(7)]
    assert run_tasks(square, [], jobs, "nothing") == []
    with pytest.raises(RawDataError, match=r"three\.png"):
        run_tasks(fail_at_three, range(7), jobs, "tasks")


def test_a_killed_worker_is_told():
    with pytest.raises(HeadposeError, match=r"tasks: a worker process was killed.*lower `jobs`"):
        run_tasks(die_at_three, range(7), 2, "tasks")


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
        (OSError("Can't write data (errno = 28, error message = 'No space left on device')"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be written: Permission denied"),
    ],
)
def test_writing_errors_name_the_file(tmp_path, error, says):
    path = tmp_path / "a.h5"
    with pytest.raises(HeadposeError, match=says) as raised, whole_or_absent(path):
        raise error
    assert str(path) in str(raised.value) and not list(tmp_path.iterdir())


def test_json_errors_name_the_file_and_what_was_expected(tmp_path):
    with pytest.raises(HeadposeError, match=r"x\.json: expected a thing"):
        read_json(tmp_path / "x.json", "a thing")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(HeadposeError, match=r"x\.json: expected a thing, which is JSON"):
        read_json(tmp_path / "x.json", "a thing")
