"""Benchmarks: how fast the toolkit is beside the least that the work could take."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tabulate import tabulate

from headposeplus import __version__
from headposeplus.build.build import build_datasets
from headposeplus.build.match import match
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import layout_of, open_dataset, open_shard, read_fields, read_offset
from headposeplus.files import write_text
from headposeplus.images import JPEG, PNG, decode
from headposeplus.miniature.write import source_of, write_miniature
from headposeplus.raw import render_order, synhead
from headposeplus.rotations import to_matrix
from headposeplus.tasks import cores, processor, run_tasks, workers

SCALE = "bench"
REPEATED = 5  # times that each rendered pose is there, so that starting up counts as little as with the real data
MATCHED = (15_678, 51_096)  # poses of Biwi and of SynHead
LEAST_RATIO, MOST_MEMORY, MOST_MATCH = 0.85, 500, 1.0  # what a build should keep to; MiB, seconds


class _Bare(NamedTuple):
    shard: Path
    files: list[Path]


def _decode_and_encode(task: _Bare) -> float:
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


def _bare_tasks(data: Path, raw: Path) -> list[_Bare]:
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
            tasks.append(_Bare(shard, [file_of(str(name)) for name in fields[field]]))
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
                target = folder / f"{number}.png"
                if not target.exists():
                    os.link(folder / f"{number % len(rows)}.png", target)
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


def bench_build(folder: Path, repeats: int = 3, seed: int = 0) -> dict[str, Any]:
    """Measure the build of a miniature whose images have the real sizes; return the figures as plain values.

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
    source = source_of(raw, seed)._replace(render_order=order)
    inference = time.perf_counter() - began
    rounds: dict[int, dict[str, list[float]]] = {}
    crops = stored = 0
    for number in dict.fromkeys((1, jobs)):
        found = rounds[number] = {"build": [], "bare": [], "peak": []}
        for _ in range(repeats):
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                data = Path(temporary)
                began = time.perf_counter()
                built = build_datasets(source, data, Options(), number)
                found["build"].append(time.perf_counter() - began)
                found["peak"].append(built.peak_bytes / 2**20)
                with workers(number) as executor:
                    bare = run_tasks(_decode_and_encode, _bare_tasks(data, raw), executor, "decode and encode")
                found["bare"].append(sum(bare) / number)
                crops = sum(dataset.info.rows for dataset in built.datasets if dataset.name != "synhead++")
                stored = sum(path.stat().st_size for path in data.rglob("*.h5"))
    results = []
    for number, found in rounds.items():
        ratios = [bare / build for bare, build in zip(found["bare"], found["build"], strict=True)]
        results.append(
            {
                "processes": number,
                "build_seconds": [round(value, 2) for value in found["build"]],
                "bare_seconds": [round(value, 2) for value in found["bare"]],
                "ratio": round(statistics.median(ratios), 3),
                "crops_a_second": round(crops / statistics.median(found["build"])),
                "peak_mib_of_a_process": round(max(found["peak"])),
            }
        )
    return {
        "toolkit": __version__,
        "processor": processor(),
        "cores": jobs,
        "seed": seed,
        "size": Options().size,
        "crops": crops,
        "stored_mib": round(stored / 2**20),
        "rendering_order_seconds": round(inference, 2),
        "match_seconds": round(_match_seconds(seed), 3),
        "runs": results,
        "scaling": round(statistics.median(rounds[1]["build"]) / statistics.median(rounds[jobs]["build"]), 2),
    }


def describe_build(record: dict[str, Any], layout: str = "simple") -> str:
    """Return the figures of :func:`bench_build` as text."""
    rows = [
        {
            "processes": run["processes"],
            "build, seconds": _spread(run["build_seconds"]),
            "bare decode and encode": _spread(run["bare_seconds"]),
            f"ratio (at least {LEAST_RATIO})": f"{run['ratio']:.2f}",
            "crops a second": f"{run['crops_a_second']:,}",
            f"MiB of a process (at most {MOST_MEMORY})": f"{run['peak_mib_of_a_process']:,}",
        }
        for run in record["runs"]
    ]
    return "\n".join(
        [
            tabulate(rows, headers="keys", tablefmt=layout, disable_numparse=True),
            "",
            f"{record['crops']:,} crops of {record['size']} pixels a side, {record['stored_mib']:,} MiB, on "
            f"{record['processor']} with {record['cores']} cores; median (least to most) of "
            f"{len(record['runs'][0]['build_seconds'])} runs. All cores are {record['scaling']:.2f} times as fast as "
            f"one. The rendering order takes {record['rendering_order_seconds']:.1f} s more, once. The match of "
            f"{MATCHED[0]:,} poses against {MATCHED[1]:,} takes {record['match_seconds']:.2f} s on one core (at most "
            f"{MOST_MATCH:.0f}).",
        ]
    )


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
