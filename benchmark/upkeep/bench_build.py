"""Benchmarks: how fast the toolkit is beside the least that the work could take."""

from __future__ import annotations

import cProfile
import os
import pstats
import shutil
import statistics
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np

from benchmark.upkeep.aims import describe_aims, spread
from headposeplus import __version__, tables
from headposeplus.build.build import build_datasets
from headposeplus.build.match import match
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import layout_of, open_dataset, open_shard, read_fields, read_offset
from headposeplus.files import below, write_text
from headposeplus.images import JPEG, PNG, decode, plain_png
from headposeplus.miniature.write import source_of, write_miniature
from headposeplus.raw import biwi, render_order, synhead
from headposeplus.rotations import to_matrix
from headposeplus.tasks import cores, processor, run_tasks, workers

SCALE = "bench"
# Of the miniature, a part with long shards: what a shard costs besides its crops counts as little as in the real data.
SEQUENCES, HEADS = ("01", "03", "06", "12", "15"), ("f01", "m01")
REPEATED = 5  # times that each rendered pose is there
MATCHED = (15_678, 51_096)  # poses of Biwi and of SynHead
AIM, MOST_MEMORY, MOST_MATCH = 0.95, 500, 1.0  # what a build should keep to; MiB, seconds


class ProcessesFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The build with some processes, beside the bare decoding and encoding: seconds, a value a round.

    ``bare_seconds`` are with the decoders that the build has, ``opencv_seconds`` with OpenCV's alone; ``ratios`` and
    ``opencv_ratios`` are theirs to the build. ``start_seconds`` are of the build, until all its processes run.
    """

    processes: int
    build_seconds: list[float]
    bare_seconds: list[float]
    opencv_seconds: list[float]
    ratios: list[float]
    opencv_ratios: list[float]
    start_seconds: list[float]
    crops_a_second: int
    peak_mib_of_a_process: int


class BuildFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`bench_build` measures.

    ``scaling`` is by how much all cores are faster than one, ``shares`` what each part takes of the processor's time of
    a build with one process; the rest is Python's and HDF5's.
    """

    toolkit: str
    processor: str
    cores: int
    seed: int
    size: int
    crops: int
    stored_mib: int
    rendering_order_seconds: float
    match_seconds: float
    runs: list[ProcessesFigures]
    scaling: float
    shares: dict[str, float]


class BareTask(NamedTuple):
    """A shard, and the raw file of each of its rows."""

    shard: Path
    files: list[Path]


class _Round(NamedTuple):
    """A build and the bare work beside it: seconds, MiB of a process, and what was built.

    ``cpu`` is what this process takes of the build, all of it where there is no other.
    """

    build: float
    cpu: float
    bare: float
    opencv: float
    start: float
    peak: float
    crops: int
    stored: int


def _decode(data: bytes, opencv: bool) -> None:
    if opencv or plain_png(data) is None:
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def _decode_and_encode(task: BareTask, opencv: bool) -> float:
    """Return the seconds that it takes to read and decode a shard's raw files, and to encode and write its crops."""
    with open_shard(task.shard) as file:
        data, offset = file["image/bytes"][...], read_offset(file, len(task.files))
    seconds = 0.0
    with task.shard.with_suffix(".bare").open("wb") as encoded:
        for path, start, end in zip(task.files, offset[:-1], offset[1:], strict=True):
            stored = data[start:end]
            crop = decode(stored)
            kind, options = (".png", PNG) if bytes(stored[1:4]) == b"PNG" else (".jpg", JPEG)
            began = time.perf_counter()
            _decode(path.read_bytes(), opencv)
            encoded.write(cv2.imencode(kind, crop, options)[1].data)
            seconds += time.perf_counter() - began
    return seconds


def _ready(number: int) -> int:
    """Return what was given: a task that a process has done as soon as it runs, with all that a build loads."""
    return number


def bare_tasks(data: Path, raw: Path) -> list[BareTask]:
    """Return each shard of a build with the raw file of each of its rows."""
    copy = synhead.look_through(raw / "synhead2_release")
    images = {
        (track.group, head, track.name): copy.paths(track, head)
        for head in copy.heads
        for track in copy.tracks_of(head)
    }

    def file_of(name: str) -> Path:
        kind, *rest = name.split("/")
        if kind == "biwi":
            return raw / "hpdb" / rest[0] / f"frame_{rest[1]}_rgb.png"
        group, head, track, row = rest
        return images[group, head, track][int(row)]

    tasks = []
    for dataset, field in (("biwi+", "id"), ("synhead+", "id"), ("synbiwi+", "source")):
        opened = open_dataset(data / dataset)
        for shard, fields in zip(layout_of(opened).paths, read_fields(opened, field), strict=True):
            tasks.append(BareTask(shard, [file_of(str(name)) for name in fields[field]]))
    return sorted(tasks, key=lambda task: -len(task.files))


def _write_raw(raw: Path, seed: int, jobs: int) -> None:
    """Write the raw miniature, keep a part of it, and make each track some times as long, by links to its images."""
    done = raw / "repeated"
    if done.exists():
        return
    write_miniature(raw, SCALE, seed, jobs)
    for name in set(biwi.sequences(raw / "hpdb")) - set(SEQUENCES):
        shutil.rmtree(raw / "hpdb" / name)
    for track in synhead.tracks(raw / "synhead2_release"):
        rows = track.csv.read_text().splitlines()
        for head in synhead.HEADS:
            folder = track.images_folder(head)
            if head not in HEADS:
                shutil.rmtree(folder)
                continue
            for number in range(len(rows), len(rows) * REPEATED):
                target = folder / synhead.image_name(number, len(rows) * REPEATED)
                if not target.exists():
                    os.link(folder / synhead.image_name(number % len(rows), len(rows)), target)
        write_text(track.csv, "\n".join(rows * REPEATED) + "\n")
    write_text(done, "")


def _match_seconds(seed: int) -> float:
    """Return the seconds of the match at the size of the real datasets, on poses drawn at random."""
    rng = np.random.default_rng(seed)
    targets, sources = (to_matrix(rng.normal(0, 1, (count, 3)) * [25, 30, 12]) for count in MATCHED)
    best = np.inf
    for _ in range(3):
        began = time.perf_counter()
        match(targets, sources)
        best = min(best, time.perf_counter() - began)
    return best


def _round(folder: Path, raw: Path, order: str, jobs: int, seed: int) -> _Round:
    """Build with some processes, and then do nothing but read, decode, encode and write the same, in both ways."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        data = Path(temporary)
        began, cpu = time.perf_counter(), time.process_time()
        built = build_datasets(source_of(raw, seed)._replace(render_order=order), data, Options(), jobs)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        began = time.perf_counter()
        with workers(jobs) as executor:
            run_tasks(_ready, range(jobs), executor, "start")
            start = time.perf_counter() - began
            bare, opencv = (
                run_tasks(partial(_decode_and_encode, opencv=way), bare_tasks(data, raw), executor, "bare work")
                for way in (False, True)
            )
        return _Round(
            build=seconds,
            cpu=cpu,
            bare=sum(bare) / jobs,
            opencv=sum(opencv) / jobs,
            start=start,
            peak=built.peak_bytes / 2**20,
            crops=sum(dataset.info.rows for dataset in built.datasets if dataset.name != "synhead++"),
            stored=sum(path.stat().st_size for path in below(data, ".h5")),
        )


def _shares(folder: Path, raw: Path, order: str, seed: int, seconds: float) -> dict[str, float]:
    """Return what decoding, encoding and OpenCV's other functions take of a build's seconds of a processor."""
    profile = cProfile.Profile(time.process_time)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        source = source_of(raw, seed)._replace(render_order=order)
        profile.runcall(build_datasets, source, Path(temporary), Options())
    took: Counter[str] = Counter()
    for (_, _, name), (_, _, inside, *_) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        function = name.strip("<>").rpartition(".")[2]
        if function in ("decode_image_png_u8", "imdecode"):
            took["decoding"] += inside
        elif function == "imencode":
            took["encoding"] += inside
        elif name == f"<{function}>" and hasattr(cv2, function):
            took["the warp and the colours around a head"] += inside
    return {part: round(inside / seconds, 3) for part, inside in took.items()}


def _figures_of(processes: int, rounds: list[_Round]) -> ProcessesFigures:
    return ProcessesFigures(
        processes=processes,
        build_seconds=[round(measured.build, 2) for measured in rounds],
        bare_seconds=[round(measured.bare, 2) for measured in rounds],
        opencv_seconds=[round(measured.opencv, 2) for measured in rounds],
        ratios=[round(measured.bare / measured.build, 3) for measured in rounds],
        opencv_ratios=[round(measured.opencv / measured.build, 3) for measured in rounds],
        start_seconds=[round(measured.start, 2) for measured in rounds],
        crops_a_second=round(rounds[-1].crops / _median_build(rounds)),
        peak_mib_of_a_process=round(max(measured.peak for measured in rounds)),
    )


def _median_build(rounds: list[_Round]) -> float:
    return statistics.median(measured.build for measured in rounds)


def bench_build(folder: Path, repeats: int = 5, seed: int = 0) -> BuildFigures:
    """Measure the build of a miniature whose images have the real sizes.

    The build runs from nothing to its last ``dataset.json``, with the rendering order given and its inference timed
    apart; beside it, in turn and with as many processes, the same raw files are read and decoded and the same crops
    encoded and written, and nothing else: with the decoders that the build has, and with OpenCV's alone. What that
    takes of the build's time is the ratio: 1 would be a build that costs nothing besides. The raw miniature is
    written to ``folder`` and kept.
    """
    jobs, raw = cores(), folder / "raw"
    _write_raw(raw, seed, jobs)
    copy = synhead.look_through(raw / "synhead2_release")
    began = time.perf_counter()
    order = str(render_order.infer(copy, None, jobs, seed).order)
    inference = time.perf_counter() - began
    rounds: dict[int, list[_Round]] = {1: [], jobs: []}
    for _ in range(repeats):
        for number, measured in rounds.items():
            measured.append(_round(folder, raw, order, number, seed))
    last, cpu = rounds[jobs][-1], statistics.median(measured.cpu for measured in rounds[1])
    return BuildFigures(
        toolkit=__version__,
        processor=processor(),
        cores=jobs,
        seed=seed,
        size=Options().size,
        crops=last.crops,
        stored_mib=round(last.stored / 2**20),
        rendering_order_seconds=round(inference, 2),
        match_seconds=round(_match_seconds(seed), 3),
        runs=[_figures_of(number, measured) for number, measured in rounds.items()],
        scaling=round(_median_build(rounds[1]) / _median_build(rounds[jobs]), 2),
        shares=_shares(folder, raw, order, seed, cpu),
    )


def describe_build(figures: BuildFigures, layout: str = "simple") -> str:
    """Return the figures of :func:`bench_build` as text."""
    rows = [
        {
            "processes": run.processes,
            "build, seconds": spread(run.build_seconds, 1),
            "bare work": spread(run.bare_seconds, 1),
            f"ratio (aim {AIM})": spread(run.ratios),
            "by OpenCV alone": spread(run.opencv_seconds, 1),
            "ratio to that": spread(run.opencv_ratios),
            "crops a second": f"{run.crops_a_second:,}",
            f"MiB of a process (at most {MOST_MEMORY})": f"{run.peak_mib_of_a_process:,}",
        }
        for run in figures.runs
    ]
    starts = [
        f"{spread(run.start_seconds, 1)} s with {run.processes} of them" for run in figures.runs if run.processes > 1
    ]
    start = f", which takes {' and '.join(starts)}" if starts else ""
    shares = ", ".join(f"{100 * share:.0f} % {part}" for part, share in figures.shares.items())
    reached = {
        f"{run.processes} process{'es' * (run.processes > 1)}": round(statistics.median(run.ratios), 2) >= AIM
        for run in figures.runs
    }
    about = (
        f"{figures.crops:,} crops of {figures.size} pixels a side, {figures.stored_mib:,} MiB, on "
        f"{figures.processor} with {figures.cores} cores; median (least to most) of "
        f"{len(figures.runs[0].build_seconds)} rounds, in each of which all was measured in turn. Bare work reads and "
        "decodes the same files, with the build's decoders or with OpenCV's alone, encodes and writes the same crops, "
        "and does nothing else; a ratio is its time to the build's, and its median that of the rounds' ratios. "
        f"{describe_aims(reached)} The bare work leaves out the planning, and the start of "
        f"processes{start}. Of the processor's time of a build with one process, {shares}; the rest is Python and "
        f"HDF5. All cores are {figures.scaling:.2f} times as fast as one. The rendering order takes "
        f"{figures.rendering_order_seconds:.1f} s more, once. The match of {MATCHED[0]:,} poses against "
        f"{MATCHED[1]:,} takes {figures.match_seconds:.2f} s on one core (at most {MOST_MATCH:.0f})."
    )
    return tables.with_note(rows, about, layout)
