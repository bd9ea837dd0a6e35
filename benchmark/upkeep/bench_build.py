"""Benchmarks: how fast the toolkit is beside the least that the work could take."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np

from headposeplus import __version__, tables
from headposeplus.build.build import build_datasets
from headposeplus.build.match import match
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import layout_of, open_dataset, open_shard, read_fields, read_offset
from headposeplus.files import below, write_text
from headposeplus.images import JPEG, PNG, decode
from headposeplus.miniature.write import source_of, write_miniature
from headposeplus.raw import render_order, synhead
from headposeplus.rotations import to_matrix
from headposeplus.tasks import cores, processor, run_tasks, workers

SCALE = "bench"
REPEATED = 5  # times that each rendered pose is there, so that starting up counts as little as with the real data
MATCHED = (15_678, 51_096)  # poses of Biwi and of SynHead
LEAST_RATIO, MOST_MEMORY, MOST_MATCH = 0.85, 500, 1.0  # what a build should keep to; MiB, seconds


class ProcessesFigures(msgspec.Struct, frozen=True):
    """The build with some processes, beside the bare decoding and encoding: seconds, a value a run.

    ``ratio`` is the median quotient of the two.
    """

    processes: int
    build_seconds: list[float]
    bare_seconds: list[float]
    ratio: float
    crops_a_second: int
    peak_mib_of_a_process: int


class BuildFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`bench_build` measures; ``scaling`` is by how much all cores are faster than one."""

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


class BareTask(NamedTuple):
    """A shard, and the raw file of each of its rows."""

    shard: Path
    files: list[Path]


class _Round(NamedTuple):
    """A build and the bare pass beside it: seconds, MiB of a process, and what was built."""

    build: float
    bare: float
    peak: float
    crops: int
    stored: int


def _decode_and_encode(task: BareTask) -> float:
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
            cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
            encoded.write(cv2.imencode(kind, crop, options)[1].data)
            seconds += time.perf_counter() - began
    return seconds


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
    """Write the raw miniature, and make each of its SynHead tracks some times as long, by links to its images."""
    done = raw / "repeated"
    if done.exists():
        return
    write_miniature(raw, SCALE, seed, jobs)
    for track in synhead.tracks(raw / "synhead2_release"):
        rows = track.csv.read_text().splitlines()
        for head in synhead.HEADS:
            folder = track.images_folder(head)
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


def _build_once(folder: Path, raw: Path, order: str, jobs: int, seed: int) -> _Round:
    """Build with some processes, and then do nothing but read, decode, encode and write the same."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        data = Path(temporary)
        began = time.perf_counter()
        built = build_datasets(source_of(raw, seed)._replace(render_order=order), data, Options(), jobs)
        seconds = time.perf_counter() - began
        with workers(jobs) as executor:
            bare = run_tasks(_decode_and_encode, bare_tasks(data, raw), executor, "decode and encode")
        return _Round(
            build=seconds,
            bare=sum(bare) / jobs,
            peak=built.peak_bytes / 2**20,
            crops=sum(dataset.info.rows for dataset in built.datasets if dataset.name != "synhead++"),
            stored=sum(path.stat().st_size for path in below(data, ".h5")),
        )


def _figures_of(processes: int, rounds: list[_Round]) -> ProcessesFigures:
    return ProcessesFigures(
        processes=processes,
        build_seconds=[round(measured.build, 2) for measured in rounds],
        bare_seconds=[round(measured.bare, 2) for measured in rounds],
        ratio=round(statistics.median(measured.bare / measured.build for measured in rounds), 3),
        crops_a_second=round(rounds[-1].crops / _median_build(rounds)),
        peak_mib_of_a_process=round(max(measured.peak for measured in rounds)),
    )


def _median_build(rounds: list[_Round]) -> float:
    return statistics.median(measured.build for measured in rounds)


def bench_build(folder: Path, repeats: int = 3, seed: int = 0) -> BuildFigures:
    """Measure the build of a miniature whose images have the real sizes.

    The build runs from nothing to its last ``dataset.json``, with the rendering order given and its inference timed
    apart; beside it, in turn and with as many processes, the same raw files are read and decoded and the same crops
    encoded, and nothing else. Their quotient is the ratio: 1 would be a build that costs nothing besides. The raw
    miniature is written to ``folder`` and kept.
    """
    jobs, raw = cores(), folder / "raw"
    _write_raw(raw, seed, jobs)
    copy = synhead.look_through(raw / "synhead2_release")
    began = time.perf_counter()
    order = str(render_order.infer(copy, None, jobs, seed).order)
    inference = time.perf_counter() - began
    rounds = {
        number: [_build_once(folder, raw, order, number, seed) for _ in range(repeats)]
        for number in dict.fromkeys((1, jobs))
    }
    last = rounds[jobs][-1]
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
    )


def describe_build(figures: BuildFigures, layout: str = "simple") -> str:
    """Return the figures of :func:`bench_build` as text."""
    rows = [
        {
            "processes": run.processes,
            "build, seconds": _spread(run.build_seconds),
            "bare decode and encode": _spread(run.bare_seconds),
            f"ratio (at least {LEAST_RATIO})": f"{run.ratio:.2f}",
            "crops a second": f"{run.crops_a_second:,}",
            f"MiB of a process (at most {MOST_MEMORY})": f"{run.peak_mib_of_a_process:,}",
        }
        for run in figures.runs
    ]
    about = (
        f"{figures.crops:,} crops of {figures.size} pixels a side, {figures.stored_mib:,} MiB, on "
        f"{figures.processor} with {figures.cores} cores; median (least to most) of "
        f"{len(figures.runs[0].build_seconds)} runs. All cores are {figures.scaling:.2f} times as fast as "
        f"one. The rendering order takes {figures.rendering_order_seconds:.1f} s more, once. The match of "
        f"{MATCHED[0]:,} poses against {MATCHED[1]:,} takes {figures.match_seconds:.2f} s on one core (at most "
        f"{MOST_MATCH:.0f})."
    )
    return tables.with_note(rows, about, layout)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
