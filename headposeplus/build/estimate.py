"""What a build would take: a trial of a few images of each dataset, extrapolated."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.build.plan import Plan, checked_options, jobs_of, plans
from headposeplus.build.work import USUAL, Job, Options, Task, see_to
from headposeplus.datasets import shards
from headposeplus.datasets.dataset import open_shard, read_offset
from headposeplus.raw.source import Source, find_copies, found_at
from headposeplus.raw.targets import TARGETS
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


class _Trial(NamedTuple):
    """Some images that were built: how many, the bytes of their crops, and the seconds that they took."""

    rows: int
    bytes: int
    seconds: float


def _try(tasks: list[Task]) -> _Trial:
    """Build a few images of each task into a temporary folder."""
    rows = size = 0
    seconds = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        for task in tasks:
            options = task.options._replace(strict=False)
            path = Path(temporary) / task.path.name
            built = see_to(Job(task._replace(path=path, options=options, limit=_SAMPLED)))
            if built.report.rows:
                with open_shard(path) as file:
                    size += int(read_offset(file, built.report.rows)[-1])
            rows += built.report.rows
            seconds += built.seconds
    return _Trial(rows, size, seconds)


def _estimate(plan: Plan, jobs: int) -> Estimate:
    """Build a few images of the shards that are missing, and extrapolate."""
    lacking = [job.task for job in jobs_of(plan) if job.report is None and job.task.rows]
    images = sum(task.rows for task in lacking)
    unknown = Estimate(plan.folder.name, len(plan.tasks), len(lacking), images, 0, 0.0)
    if not images:
        return unknown
    spread = np.unique(np.linspace(0, len(lacking) - 1, _SAMPLED_SHARDS).astype(int))
    trial = _try([lacking[i] for i in spread])
    if not trial.rows:
        return unknown
    # A shard grows by whole chunks of image bytes, and of rows with their masks and labels.
    mask_bytes = plan.parameters.size**2 / 8 if plan.folder.name not in TARGETS else 0
    needed = 0.0
    for task in lacking:
        crops = task.rows * trial.bytes / trial.rows
        needed += np.ceil(crops / shards.CHUNK_BYTES) * shards.CHUNK_BYTES
        needed += np.ceil(task.rows / shards.CHUNK_ROWS) * shards.CHUNK_ROWS * (mask_bytes + shards.ROW_BYTES)
    took = images * trial.seconds / trial.rows / min(jobs, len(lacking))
    return unknown._replace(bytes=int(needed), seconds=took)


def estimate_build(
    source: Source, out: Path, options: Options = USUAL, jobs: int = 1
) -> tuple[list[Estimate], list[str]]:
    """Return what :func:`headposeplus.build.build.build_datasets` would build, and notes; ``out`` is left alone.

    SynHead+ and SynBiwi+ need the rendering order, so that is inferred, too, unless it is given.
    """
    copies, options = find_copies(source), checked_options(options)
    estimates: list[Estimate] = []
    notes = found_at(copies.roots)
    with workers(jobs) as executor:
        for plan in plans(copies, out, options, executor, trial=True):
            estimates.append(_estimate(plan, jobs))
            notes += [*plan.notes, *map(str, plan.faults)]
            if plan.provenance.render_order_from is not None:
                order = f"{plan.parameters.render_order}, {plan.provenance.render_order_from}"
                notes.append(f"SynHead's rendering order: {order}")
    return estimates, notes
