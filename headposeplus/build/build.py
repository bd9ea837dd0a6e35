"""The build: Biwi+, SynHead+, SynBiwi+ and SynHead++ from raw Biwi and SynHead.

Each dataset is planned first: which shards it has, from what, with which options. A shard is one task for one
process (:mod:`headposeplus.build.work`). A finished shard is not built again, so a build that was stopped goes
on at the shards it lacks, and the bytes do not depend on the number of processes.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from headposeplus import __version__
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
    refuse_other_options,
)
from headposeplus.build.record import rendering_order
from headposeplus.build.work import Built, Options, build, relative
from headposeplus.datasets.dataset import (
    BACKGROUNDS,
    INFO,
    SCHEMA,
    Dataset,
    content_sha256,
    open_dataset,
    read_fields,
    read_labels,
)
from headposeplus.errors import DatasetError, HeadposeError, ImageError, RawDataError
from headposeplus.files import locked, read_json, sha256, whole_or_absent, write_json
from headposeplus.images import crop, crop_matrix, encode, read_image
from headposeplus.raw import render_order, synhead
from headposeplus.rotations import from_matrix
from headposeplus.tasks import run_tasks, workers


class Summary(NamedTuple):
    """What a build made: each dataset's description, lines on what a reader should know, and the raw files left out.

    ``order`` is the report of the inferred rendering order, ``peak_bytes`` the most memory that a process held.
    """

    datasets: list[dict[str, Any]]
    notes: list[str]
    left_out: list[str]
    order: render_order.OrderReport | None
    peak_bytes: int


def _carry_out(plan: Plan, executor: int | Executor) -> tuple[dict[str, Any], int]:
    """Build the shards that a dataset lacks, and describe it; return that and the most memory that a process held.

    While a shard is missing, the folder has no ``dataset.json``, and neither has the union that it is part of.
    """
    jobs = look_for(plan)
    written = _written(plan.folder)
    if any(job.report is None for job in jobs):
        for name in (plan.folder.name, "synhead++"):
            (plan.folder.parent / name / INFO).unlink(missing_ok=True)
    # The longest first, so that no core is left with it at the end.
    longest_first = sorted(jobs, key=lambda job: -job.task.rows)
    done = run_tasks(build, longest_first, executor, plan.folder.name)
    built = {job.task.path: one for job, one in zip(longest_first, done, strict=True)}
    for job in jobs:
        path, found = job.task.path, built[job.task.path].sha256
        if job.report is not None and written.get(path.name, found) != found:
            raise DatasetError(f"{path}: changed since it was built; delete it and run the same command again")
    faults = [relative(fault, plan.tasks[0].raw) for fault in plan.faults]
    in_order = {job.task.path: built[job.task.path] for job in jobs}
    info = _describe(plan.folder, plan.parameters, plan.more, faults, in_order)
    return info, max(one.peak_bytes for one in done)


def _written(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each shard that an earlier build wrote down, by file name."""
    try:
        found = read_json(folder / INFO, "the description of a dataset")
        return {str(shard["file"]): str(shard["sha256"]) for shard in found["shards"]}
    except (HeadposeError, KeyError, TypeError):
        return {}  # there was none, or one that is written anew


def _describe(
    folder: Path, parameters: dict[str, Any], more: dict[str, Any], faults: list[str], built: dict[Path, Built]
) -> dict[str, Any]:
    """Write ``dataset.json`` beside the finished shards, remove what older or killed builds left, and return it."""
    for path in {*folder.glob("shard-*.h5"), *folder.glob(".shard-*.part")} - built.keys():
        path.unlink()
    reports = [one.report for one in built.values()]
    box_sources: Counter[str] = Counter()
    for report in reports:
        box_sources.update(report["boxes"])
    info: dict[str, Any] = {
        "name": folder.name,
        "schema": SCHEMA,
        "toolkit": __version__,
        "convention": "pyr",
        "camera": "rgb",
        "parameters": parameters,
        "boxes": dict(sorted(box_sources.items())),
        "left_out": [*faults, *(line for report in reports for line in report["left_out"])],
        **({"face_not_visible": sum(r["face_not_visible"] for r in reports)} if folder.name == "synhead+" else {}),
        **more,
        "shards": [
            {"file": path.name, "rows": one.report["rows"], "sha256": one.sha256} for path, one in built.items()
        ],
    }
    _, rotations = read_labels(Dataset(folder, info))
    angles = from_matrix(rotations)
    info["rows"] = len(angles)
    info["content_sha256"] = content_sha256(info)
    info["labels"] = {
        key: [round(float(value), 4) for value in statistic(angles, axis=0)]
        for key, statistic in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max))
        if len(angles)
    }
    write_json(folder / INFO, info)
    return info


def _write_backgrounds(paths: list[Path], target: Path, size: int) -> tuple[str, list[str]]:
    """Write the middle square of each background, twice a crop's side, so that crops of it can be drawn.

    Returns the hash of the file, empty if there is none, and notes for the reader.
    """
    side, encoded, notes = 2 * size, [], []
    for path in paths:
        try:
            image = read_image(path)[..., :3]
        except ImageError as error:
            notes.append(f"background left out: {error}")
            continue
        height, width = image.shape[:2]
        shorter = min(height, width)
        box = np.array([(width - shorter) // 2, (height - shorter) // 2, shorter, shorter])
        encoded.append(encode(crop(np.ascontiguousarray(image), crop_matrix(box, side), side), lossless=False))
    if not encoded:
        target.unlink(missing_ok=True)
        return "", [*notes, "SynHead: no readable background image; training composites the heads on plain colours"]
    with whole_or_absent(target) as temporary, h5py.File(temporary, "w") as file:
        file["image/bytes"] = np.concatenate(encoded)
        file["image/offset"] = np.concatenate(([0], np.cumsum([len(data) for data in encoded])))
    return sha256(target), notes


def _describe_union(out: Path) -> dict[str, Any]:
    """Describe SynHead++, the union of SynHead+ and SynBiwi+; it holds no pixels of its own."""
    joined = [open_dataset(out / name) for name in ("synhead+", "synbiwi+")]
    parameters = {"size": joined[0].size, "visible_margin": joined[0].info["parameters"]["visible_margin"]}
    content = [part.info["content_sha256"] for part in joined]
    more = {"joins": [part.name for part in joined], "joined": content}
    return _describe(out / "synhead++", parameters, more, [], {})


def build_datasets(
    out: Path,
    biwi_folder: Path | None = None,
    synhead_folder: Path | None = None,
    box_file: Path | None = None,
    order: str | None = None,
    options: Options | None = None,
    jobs: int = 1,
    manifest_file: Path | None = None,
    seed: int = 0,
    dask: str | None = None,
) -> Summary:
    """Build what the given raw data allow: Biwi+, SynHead+, and with both, SynBiwi+ and SynHead++.

    Parameters
    ----------
    out
        Folder of the datasets, one folder each.
    biwi_folder, synhead_folder, box_file, order, manifest_file, seed
        What they are made from, as in :class:`Source`.
    options
        What is asked for; the usual if None.
    jobs
        Number of processes.
    dask
        Address of a Dask scheduler whose workers build instead of processes of this machine.

    Raises
    ------
    HeadposeError
        If the raw data are not in their layout, or ``out`` holds a build of other data or options.
    """
    source = Source(biwi_folder, synhead_folder, box_file, order, manifest_file, seed)
    source = checked_source(source, absolute=bool(dask))
    options = checked_options(options)
    if dask:
        out = out.resolve()
    with locked(out, wait=False), workers(jobs, dask) as executor:
        return _build_datasets(out, source, options, executor)


def _build_datasets(out: Path, source: Source, options: Options, executor: int | Executor) -> Summary:
    infos: list[dict[str, Any]] = []
    notes: list[str] = []
    left_out: list[str] = []
    peaks: list[int] = []
    report = None

    def carry_out(plan: Plan) -> None:
        info, peak = _carry_out(plan, executor)
        infos.append(info)
        peaks.append(peak)
        notes.extend(plan.notes)
        left_out.extend(os.path.join(plan.tasks[0].raw.parent, line) for line in infos[-1]["left_out"])

    if source.biwi:
        carry_out(plan_biwi(source.biwi, out, options, source))
    if source.synhead:
        copy = synhead.look_through(source.synhead)
        if options.strict and copy.faults:
            raise RawDataError(copy.faults[0])
        order, order_source, report = rendering_order(copy, source, out, executor, keep=True)
        balls = head_balls(copy, out, order, options.visible_margin, executor, keep=True)
        plan = plan_synhead(copy, out, options, order, order_source, balls)
        refuse_other_options(plan)  # before anything is written
        target = plan.folder / BACKGROUNDS
        plan.more["backgrounds_sha256"], more = _write_backgrounds(
            synhead.backgrounds(copy.root), target, options.size
        )  # fmt: skip
        carry_out(plan)
        notes += more
    if source.biwi and source.synhead:
        biwi_plus = open_dataset(out / "biwi+")
        targets = [
            (shard["id"].tolist(), shard["label/rotation"]) for shard in read_fields(biwi_plus, "id", "label/rotation")
        ]
        if not targets:
            raise DatasetError(f"{source.biwi}: no readable frame, so there is nothing to match SynHead with")
        matched = {"matched_sha256": biwi_plus.info["content_sha256"]}
        carry_out(plan_synbiwi(copy, out, options, order, balls, targets, matched))
        infos.append(_describe_union(out))
    return Summary(infos, notes, left_out, report, max(peaks))
