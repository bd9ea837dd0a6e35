"""Tasks in processes, and who this process is among several."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headposeplus.errors import HeadposeError, RawDataError
from headposeplus.tasks import Ranks, ranks_here, run_tasks

LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


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


@pytest.fixture
def launched(monkeypatch):
    """Set the launcher's variables, in its order, as one line; those that are left out are not set."""

    def set_variables(line):
        for name in LAUNCHER:
            monkeypatch.delenv(name, raising=False)
        for name, value in (word.split("=") for word in line.split()):
            monkeypatch.setenv(name, value)

    return set_variables


WHOLE = "RANK=1 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=host MASTER_PORT=29500"


@pytest.mark.parametrize(
    ("line", "ranks"),
    [
        ("", Ranks()),
        ("RANK=0", Ranks()),
        ("RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1", Ranks()),
        (WHOLE, Ranks(1, 4, 1, 2, "host", 29500)),
    ],
)
def test_who_this_process_is(launched, line, ranks):
    launched(line)
    assert ranks_here() == ranks


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("RANK=1", "RANK is 1, but WORLD_SIZE is not set; unset it to train with one process"),
        ("RANK=", "RANK is '', expected a number"),
        ("WORLD_SIZE=two", "WORLD_SIZE is 'two', expected a number"),
        ("RANK=-1 WORLD_SIZE=2", "RANK is '-1', expected a number"),
        ("WORLD_SIZE=0", "RANK is 0, but WORLD_SIZE is 0"),
        ("RANK=4 WORLD_SIZE=4", "RANK is 4, but WORLD_SIZE is 4"),
        ("LOCAL_RANK=1", "LOCAL_RANK 1, LOCAL_WORLD_SIZE 1, WORLD_SIZE 1 contradict each other"),
        ("LOCAL_WORLD_SIZE=8", "LOCAL_RANK 0, LOCAL_WORLD_SIZE 8, WORLD_SIZE 1 contradict each other"),
        ("WORLD_SIZE=2", "RANK and LOCAL_RANK and LOCAL_WORLD_SIZE and MASTER_PORT and MASTER_ADDR not set"),
        (WHOLE.replace("MASTER_ADDR=host", "MASTER_ADDR="), "WORLD_SIZE is 4, but MASTER_ADDR not set"),
        (WHOLE.replace("29500", "0x10"), "MASTER_PORT is '0x10', expected a number"),
    ],
)
def test_variables_that_make_no_sense_are_told_in_one_line(launched, line, says):
    launched(line)
    with pytest.raises(HeadposeError) as raised:
        ranks_here()
    assert says in str(raised.value) and "start several with torchrun" in str(raised.value)


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
