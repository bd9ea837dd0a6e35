"""What a build would take: a trial of a few images of each dataset, extrapolated."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from headposeplus.build.heads import head_balls
from headposeplus.build.plan import (
    Plan,
    Source,
    checked_options,
    checked_source,
    look_for,
    plan_biwi,
    plan_synbiwi,
    plan_synhead,
)
from headposeplus.build.record import rendering_order
from headposeplus.build.work import Job, Options, build
from headposeplus.datasets import shards
from headposeplus.raw import biwi, manifest, synhead
from headposeplus.tasks import workers

_SAMPLED, _SAMPLED_SHARDS = 12, 4  # images of a shard, and shards, from which bytes and seconds are estimated


class Estimate(NamedTuple):
    """What building a dataset would take: shards in all and to build, images to build, bytes and seconds."""

    name: str
    shards: int
    missing: int
    images: int
    bytes: int
    seconds: float


def _estimate(plan: Plan, jobs: int) -> Estimate:
    """Build a few images of the shards that are missing into a temporary folder, and extrapolate."""
    lacking = [job.task for job in look_for(plan) if job.report is None and job.task.rows]
    images = sum(task.rows for task in lacking)
    if not images:
        return Estimate(plan.folder.name, len(plan.tasks), len(lacking), 0, 0, 0.0)
    chosen = [lacking[i] for i in np.unique(np.linspace(0, len(lacking) - 1, _SAMPLED_SHARDS).astype(int))]
    rows = size = 0
    seconds = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        for task in chosen:
            options = task.options._replace(strict=False)
            path = Path(temporary) / task.path.name
            built = build(Job(plan.function, task._replace(path=path, options=options, limit=_SAMPLED)))
            with h5py.File(path, "r") as file:
                size += int(file["image/offset"][-1]) if built.report["rows"] else 0
            rows += built.report["rows"]
            seconds += built.seconds
    if not rows:
        return Estimate(plan.folder.name, len(plan.tasks), len(lacking), images, 0, 0.0)
    # A shard grows by whole chunks of image bytes, and of rows with their masks and labels.
    row_bytes = (task.options.size**2 / 8 if plan.folder.name != "biwi+" else 0) + shards.ROW_BYTES
    needed = 0.0
    for task in lacking:
        needed += np.ceil(task.rows * size / rows / shards.CHUNK_BYTES) * shards.CHUNK_BYTES
        needed += np.ceil(task.rows / shards.CHUNK_ROWS) * shards.CHUNK_ROWS * row_bytes
    took = images * seconds / rows / min(jobs, len(lacking))
    return Estimate(plan.folder.name, len(plan.tasks), len(lacking), images, int(needed), took)


def estimate_build(
    out: Path,
    biwi_folder: Path | None = None,
    synhead_folder: Path | None = None,
    box_file: Path | None = None,
    order: str | None = None,
    options: Options | None = None,
    jobs: int = 1,
    manifest_file: Path | None = None,
    seed: int = 0,
) -> tuple[list[Estimate], list[str]]:
    """Return what :func:`build_datasets` would build, by a trial of a few images, and notes; ``out`` is left alone.

    SynHead+ and SynBiwi+ need the rendering order, so that is inferred, too, unless it is given.
    """
    source = checked_source(Source(biwi_folder, synhead_folder, box_file, order, manifest_file, seed))
    options = checked_options(options)
    notes: list[str] = []
    estimates = []
    with workers(jobs) as executor:
        if source.biwi:
            plan = plan_biwi(source.biwi, out, options, source)
            estimates.append(_estimate(plan, jobs))
            notes += plan.notes
        if source.synhead:
            copy = synhead.look_through(source.synhead)
            order_found, order_source, _ = rendering_order(copy, source, out, executor, keep=False)
            balls = head_balls(copy, out, order_found, options.visible_margin, executor, keep=False)
            plan = plan_synhead(copy, out, options, order_found, order_source, balls)
            estimates.append(_estimate(plan, jobs))
            notes += [*plan.notes, *map(str, plan.faults), f"SynHead's rendering order: {order_found}, {order_source}"]
        if source.biwi and source.synhead:
            groups = manifest.calibration_groups(manifest.read(source.manifest))
            targets = [
                ([biwi.frame_id(name, number) for number in numbers], rotations)
                for name, (numbers, rotations) in biwi.rgb_rotations(source.biwi, groups)[0].items()
            ]
            if targets:
                estimates.append(
                    _estimate(plan_synbiwi(copy, out, options, order_found, balls, targets, {}), jobs)
                )  # fmt: skip
    return estimates, notes
