"""What lets a build grow: Dask's workers, more processes, a trial first, going on after a kill, and constant memory."""

import collections
import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from headposeplus.build import build
from headposeplus.build.build import build_datasets
from headposeplus.build.estimate import estimate_build
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import open_dataset
from headposeplus.errors import HeadposeError
from headposeplus.miniature.poses import hidden_order
from headposeplus.miniature.write import source_of
from headposeplus.raw import biwi
from headposeplus.raw.source import Source

OPTIONS = Options(size=32)  # those of the fixture ``built``


def content(out, pattern="*"):
    """The SHA-256 of each file below a folder."""
    files = [path for path in out.rglob(pattern) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 3])
def test_any_number_of_processes_gives_the_same_bytes(built, tiny, tmp_path, jobs):
    build_datasets(source_of(tiny), tmp_path / "data", OPTIONS, jobs)
    assert content(tmp_path / "data") == content(built[0])


@pytest.fixture
def steps(monkeypatch):
    """What is begun and what is waited for, in order."""
    steps = []

    @contextlib.contextmanager
    def begun(function, tasks, executor, label):
        steps.append(f"begin {label}")
        with tasks_begun(function, tasks, executor, label) as results:
            yield lambda: steps.append(f"end {label}") or results()

    tasks_begun = build.begun
    monkeypatch.setattr(build, "begun", begun)
    return steps


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_dataset_begins_before_the_last_one_ends_where_processes_would_be_idle(tiny, tmp_path, steps, jobs):
    summary = build_datasets(source_of(tiny)._replace(render_order="xzy---"), tmp_path, Options(size=8), jobs)
    assert [dataset.name for dataset in summary.datasets] == ["biwi+", "synhead+", "synbiwi+", "synhead++"]
    names = ("biwi+", "synhead+", "synbiwi+")
    if jobs == 1:
        assert steps == [f"{step} {name}" for name in names for step in ("begin", "end")]
    else:
        assert steps == ["begin biwi+", "begin synhead+", "end biwi+", "begin synbiwi+", "end synhead+", "end synbiwi+"]


def test_what_is_wrong_with_synhead_is_told_when_biwi_plus_is_whole(tiny_copy, tmp_path):
    (tiny_copy / "synhead2_release/kinect/00.csv").write_text("pitch,yaw,roll\n1,2,3\n")
    source = source_of(tiny_copy)._replace(render_order="xzy---")
    with pytest.raises(HeadposeError, match=r"kinect/00\.csv"):
        build_datasets(source, tmp_path, OPTIONS._replace(strict=True), jobs=2)
    assert open_dataset(tmp_path / "biwi+").info.rows == 48
    assert not list(tmp_path.glob("syn*/*.h5"))


@pytest.mark.slow
def test_dask_gives_the_same_bytes(built, tiny, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
    ) as cluster:
        build_datasets(source_of(tiny), tmp_path / "data", OPTIONS, dask=cluster.scheduler_address)
    assert content(tmp_path / "data") == content(built[0])


def test_bytes_do_not_depend_on_when_objects_are_freed(tiny, tmp_path):
    """Dask's profiler holds on to frames, and so to what they have open, for a random time."""
    build_datasets(Source(tiny / "hpdb"), tmp_path / "a", OPTIONS)
    kept = collections.deque(maxlen=1000)
    sys.setprofile(lambda frame, event, argument: kept.append(frame))
    try:
        build_datasets(Source(tiny / "hpdb"), tmp_path / "b", OPTIONS)
    finally:
        sys.setprofile(None)
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "not-an-address", "ftp://127.0.0.1:9"])
def test_no_dask_scheduler_is_one_clear_error(tiny, tmp_path, hpp, address):
    pytest.importorskip("distributed")
    output = hpp("build-datasets", "--biwi", tiny / "hpdb", "--out", tmp_path / "data", "--dask", address, expect=1)
    lines = [line for line in output.output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and f"{address}: no Dask scheduler answers there" in lines[0]


def test_without_distributed_the_package_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(HeadposeError, match=r"pip install 'headposeplus\[dask\]'"):
        build_datasets(Source(tiny / "hpdb"), tmp_path / "data", dask="tcp://127.0.0.1:9")


def test_a_trial_says_what_a_build_then_makes(built, tiny, tmp_path):
    source = source_of(tiny)._replace(render_order=str(hidden_order(0)))
    estimates, notes = estimate_build(source, tmp_path / "none/data", OPTIONS)
    assert not list(tmp_path.iterdir())
    assert [estimate.name for estimate in estimates] == ["biwi+", "synhead+", "synbiwi+"]
    assert f"SynHead's rendering order: {hidden_order(0)}, set by hand" in notes
    for estimate in estimates:
        info = open_dataset(built[0] / estimate.name).info
        assert (estimate.shards, estimate.missing, estimate.images) == (len(info.shards), len(info.shards), info.rows)
        size = sum(path.stat().st_size for path in (built[0] / estimate.name).glob("shard-*.h5"))
        assert size / 1.5 < estimate.bytes < size * 1.5 and estimate.seconds > 0


def test_after_a_build_a_trial_finds_nothing_to_do(built, tiny):
    before = {path: path.stat().st_mtime_ns for path in built[0].rglob("*")}
    estimates, _ = estimate_build(source_of(tiny), built[0], OPTIONS)
    assert [(estimate.missing, estimate.images, estimate.bytes) for estimate in estimates] == [(0, 0, 0)] * 3
    assert {path: path.stat().st_mtime_ns for path in built[0].rglob("*")} == before


def test_dry_run_prints_and_builds_nothing(tiny, tmp_path, hpp):
    text = hpp("build-datasets", "--biwi", tiny / "hpdb", "--out", tmp_path / "data", "--size", 32, "--dry-run",
               "--manifest", tiny / "data_manifest.csv", "--jobs", 1).output  # fmt: skip
    assert "Nothing was built." in text and not (tmp_path / "data").exists()
    row = next(line for line in text.splitlines() if line.startswith("biwi+")).split()
    assert row[1:4] == ["4", "4", "48"] and row[5] == "MiB"
    assert re.search(rf"In all about .* MiB, about \d+ seconds; .* GiB are free in {tmp_path}\.", text)


@pytest.mark.slow
def test_killed_builds_of_two_processes_go_on_to_the_same_bytes(built, tiny, tmp_path):
    rng, out = np.random.default_rng(0), tmp_path / "data"
    command = [sys.executable, "-m", "benchmark", "build-datasets", "--biwi", tiny / "hpdb", "--synhead",
               tiny / "synhead2_release", "--manifest", tiny / "data_manifest.csv", "--out", out, "--size", 32,
               "--render-order", hidden_order(0), "--jobs", 2]  # fmt: skip
    command = [str(word) for word in command]
    killed = 0
    for more in (0, 2, 9):
        there = len(list(out.rglob("shard-*.h5"))) + more
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while len(list(out.rglob("*shard-*"))) <= there and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))  # within a shard, or between two
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("shard-*.h5")}
    assert killed and finished
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert content(out, "*.h5") == content(built[0], "*.h5")
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    assert not list(out.rglob("*.part"))


BUILD_AND_PRINT_PEAK = """
import re, sys
from pathlib import Path
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.raw.source import Source
build_datasets(Source(Path(sys.argv[1])), Path(sys.argv[2]), Options(size=160))
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_a_shard(tiny, tmp_path):
    """Its crops take 100 MiB and more, so that a build that held a shard in memory would be found out."""
    frame = biwi.list_frames(tiny / "hpdb", "01")[0][0]
    peaks, sizes = [], []
    for rows in (300, 3000):
        folder = tmp_path / f"{rows}/raw/01"
        folder.mkdir(parents=True)
        (folder / "rgb.cal").symlink_to(tiny / "hpdb/01/rgb.cal")
        for number in range(rows):
            (folder / f"frame_{number:05d}_rgb.png").symlink_to(frame.image)
            (folder / f"frame_{number:05d}_pose.txt").symlink_to(frame.pose)
        out = tmp_path / f"{rows}/data"
        process = subprocess.run(
            [sys.executable, "-c", BUILD_AND_PRINT_PEAK, folder.parent, out], check=True, capture_output=True, text=True
        )
        peaks.append(int(process.stdout) / 1024)
        sizes.append((out / "biwi+/shard-00000-of-00001.h5").stat().st_size / 2**20)
    assert open_dataset(out / "biwi+").info.rows == 3000 and sizes[1] - sizes[0] > 80
    assert peaks[1] - peaks[0] < 40, f"{peaks} MiB"
