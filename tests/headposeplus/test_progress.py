"""How many cores there are, and what a log gets of what takes long."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from headposeplus import progress, tasks

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {
    "a container, version 2": ("0::/\n", {"cpu.max": "200000 100000"}, 2),
    "a share of a core more": ("0::/\n", {"cpu.max": "150000 100000"}, 2),
    "less than a core": ("0::/\n", {"cpu.max": "50000 100000"}, 1),
    "no limit": ("0::/\n", {"cpu.max": "max 100000"}, 8),
    "more than the machine has": ("0::/\n", {"cpu.max": "6400000 100000"}, 8),
    "a job below a limited one": (
        "0::/slurm/job_7/step_0\n",
        {"slurm/job_7/step_0/cpu.max": "max 100000", "slurm/job_7/cpu.max": "300000 100000"}, 3,
    ),
    "version 1": (
        "4:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n",
        {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "400000", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000"}, 4,
    ),
    "version 1, seen from inside": (
        "4:cpuacct,cpu:/docker/abc\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "10000"}, 5,
    ),
    "version 1 without a limit": (
        "4:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8,
    ),
    "nonsense": ("0::/\n", {"cpu.max": "plenty"}, 8),
    "no files": ("0::/gone\n", {}, 8),
}  # fmt: skip


@pytest.mark.parametrize("kind", GROUPS)
def test_cores_are_those_that_the_control_groups_give_time_on(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    listed, files, expected = GROUPS[kind]
    assert tasks.cores(tmp_path) == 8  # where there are no control groups at all
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(listed)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert tasks.cores(tmp_path) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_cores_are_those_that_a_process_is_bound_to():
    code = "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
    code += "from headposeplus.tasks import cores; print(cores())"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "1\n"


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by what is added to it."""
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(clock, capsys):
    with progress.progress(24_000, "build", "crop") as bar:
        for _ in range(24):
            clock[0] += 15
            bar.update(1000)
            bar.set_postfix({"img/s": "66"}, refresh=False)
    text = capsys.readouterr().err
    lines = text.split("\n")[:-1]
    assert lines[0] == "build: 2,000 of 24,000 crops, 8 %, 5 min 30 s left, img/s=66"
    assert lines[5] == "build: 12,000 of 24,000 crops, 50 %, 3 min 0 s left, img/s=66"
    assert lines[-1] == "build: 24,000 of 24,000 crops in 6 min 0 s"
    assert len(lines) == 12 and "\r" not in text


def test_what_was_done_before_counts_for_no_time(clock, capsys):
    with progress.progress(100, "stage 1", "step", done=50) as bar:
        clock[0] += 7200
        bar.update(10)
    assert capsys.readouterr().err.splitlines() == [
        "stage 1: 60 of 100 steps, 60 %, 8 h 0 min left", "stage 1: 60 of 100 steps in 2 h 0 min",
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
@pytest.mark.parametrize(("columns", "kind", "bar"), [(80, "xterm", True), (0, "xterm", False), (80, "dumb", False)])
def test_a_terminal_gets_a_bar_if_it_can_show_one(columns, kind, bar):
    import fcntl
    import pty
    import termios

    code = "from headposeplus.tasks import run_tasks; run_tasks(abs, [-1, 2], 1, 'numbers')"
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": kind}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert ("numbers: 100%" in shown) == bar and ("numbers: 2 of 2 parts in" in shown) != bar


def test_nothing_to_do_is_no_line(capsys):
    with progress.progress(0, "decode", "crop") as bar:
        bar.update(0)
    with progress.progress(5, "stage 1", "step", shown=False) as bar:
        bar.update(5)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_log_on_a_full_disk_ends_no_work():
    code = "from headposeplus.tasks import run_tasks; print(run_tasks(abs, [-1, 2], 1, 'numbers'))"
    with open("/dev/full", "wb") as full:
        assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True, stderr=full) == "[1, 2]\n"
