"""Tasks in processes, which end with the one that started them, whatever ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headposeplus.errors import HeadposeError, RawDataError
from headposeplus.tasks import begun, run_tasks, workers


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


def wait_for(path):
    """Wait until there is a file, or half a minute."""
    end = time.monotonic() + 30
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return path.exists()


def touch(path):
    path.touch()


def test_tasks_begin_before_the_last_ones_are_done(tmp_path, capfd):
    with (
        workers(2) as executor,
        begun(wait_for, [tmp_path / "a"], executor, "first") as first,
        begun(touch, [tmp_path / "a"], executor, "second") as second,
    ):
        assert second() == [None] and first() == [True]
    assert [line.split(" in ")[0] for line in capfd.readouterr().err.splitlines()] == [
        "second: 1 of 1 parts", "first: 1 of 1 parts",
    ]  # fmt: skip


def test_tasks_that_wait_are_given_up_when_others_fail(tmp_path):
    files = [tmp_path / str(i) for i in range(200)]
    with (
        pytest.raises(RawDataError, match=r"three\.png"),
        workers(2) as executor,
        begun(fail_at_three, [3], executor, "first") as first,
        begun(touch, files, executor, "second"),
    ):
        first()
    assert not files[-1].exists()


UNGUARDED = """
import math, sys
from headposeplus.tasks import run_tasks
print("once")
print(run_tasks(math.sqrt, [1, 4, 9], 2, "roots"), sys.modules["__main__"].__name__, run_tasks.__module__)
"""
OWN = """
from headposeplus.tasks import run_tasks
def twice(x):
    return 2 * x
if __name__ == "__main__":
    print(run_tasks(twice, [1, 2, 3], 2, "doubles"))
"""


def test_a_script_needs_no_guard_and_need_not_be_a_file(tmp_path):
    """A process that starts would run it again, else."""
    (tmp_path / "script.py").write_text(UNGUARDED)
    for words, given in (([tmp_path / "script.py"], ""), (["-"], UNGUARDED)):
        done = subprocess.run([sys.executable, *words], input=given, capture_output=True, text=True, check=False)
        assert done.stdout == "once\n[1.0, 2.0, 3.0] __main__ headposeplus.tasks\n", done.stderr
        assert "Error" not in done.stderr


def test_a_function_of_the_script_itself_is_found(tmp_path):
    (tmp_path / "script.py").write_text(OWN)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert done.stdout == "[2, 4, 6]\n", done.stderr


SLEEPERS = """
import signal, time
from headposeplus.tasks import run_tasks
if __name__ == "__main__":
    # Python ignores it where the shell that runs the tests in the background does.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_tasks(time.sleep, [300] * 6, 2, "sleep")
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux' list of children")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_process_that_started_them(number):
    process = subprocess.Popen([sys.executable, "-c", SLEEPERS], stderr=subprocess.DEVNULL, start_new_session=True)
    workers, end = [], time.monotonic() + 60
    while len(workers) < 2 and time.monotonic() < end:
        time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    time.sleep(1)  # they begin to sleep
    try:
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        assert process.wait(30) != 0
        while any(map(alive, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        assert len(workers) == 2 and not any(map(alive, workers))
    finally:
        for pid in filter(alive, [process.pid, *map(int, workers)]):
            os.kill(pid, signal.SIGKILL)
