"""The build: Biwi+, SynHead+, SynBiwi+ and SynHead++ from raw Biwi and SynHead.

Each dataset is planned first: which shards it has, from what, with which options. A shard is one task for one
process (:mod:`headposeplus.build.work`). A finished shard is not built again, so a build that was stopped goes
on at the shards it lacks, and the bytes do not depend on the number of processes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd

from headposeplus import __version__
from headposeplus.boxes import files as box_files
from headposeplus.boxes import geometry
from headposeplus.build.match import Match, match, residuals
from headposeplus.build.work import (
    BallWork,
    BiwiWork,
    Built,
    HeadMatch,
    Job,
    Options,
    Report,
    SynBiwiWork,
    SynHeadWork,
    Task,
    build,
    build_biwi,
    build_synbiwi,
    build_synhead,
    fit_ball,
    read_camera,
    relative,
    visible,
)
from headposeplus.datasets import shards
from headposeplus.errors import DatasetError, HeadposeError, ImageError, RawDataError
from headposeplus.files import (
    content_hash,
    files_hash,
    locked,
    read_json,
    run_tasks,
    sha256,
    whole_or_absent,
    workers,
    write_json,
)
from headposeplus.images import crop, crop_matrix, encode, read_image
from headposeplus.raw import biwi, manifest, render_order, synhead
from headposeplus.rotations import EulerOrder, Floats, euler_order, from_matrix, to_matrix

ORDER_REPORT = "render_order.json"
HEAD_BALLS = "head_balls.json"
BALL_IMAGES = 48  # images of a head from which its ball is fitted


class Source(NamedTuple):
    """What a build is made from.

    Attributes
    ----------
    biwi, synhead
        The raw copies; at least one.
    boxes
        Boxes of Biwi: a file of :mod:`headposeplus.boxes.files` or the published ``Biwi_plus.npz``. Frames without
        one, and all frames where it is not given, get the projection of the head.
    order
        SynHead's rendering order, such as ``xyz+++``; inferred from the images if None.
    manifest
        What a full copy holds; the project's own if None.
    seed
        Of the random choice of images from which the rendering order is inferred.
    """

    biwi: Path | None = None
    synhead: Path | None = None
    boxes: Path | None = None
    order: str | None = None
    manifest: Path | None = None
    seed: int = 0


class Summary(NamedTuple):
    """What a build made: each dataset's description, lines on what a reader should know, and the raw files left out.

    ``order`` is the report of the inferred rendering order, ``peak_bytes`` the most memory that a process held.
    """

    datasets: list[dict[str, Any]]
    notes: list[str]
    left_out: list[str]
    order: render_order.OrderReport | None
    peak_bytes: int


class Plan(NamedTuple):
    """A dataset to build: its folder and parameters, and a task for each shard; ``more`` goes into its description.

    ``faults`` are the raw files that no shard can use.
    """

    folder: Path
    parameters: dict[str, Any]
    function: Callable[[Task], Report]
    tasks: list[Task]
    notes: list[str]
    faults: list[str]
    more: dict[str, Any]


def refuse_other_options(plan: Plan) -> None:
    """Raise DatasetError if the dataset's folder holds shards that were built with other options."""
    for path in sorted(plan.folder.glob("shard-*.h5"))[:1]:
        shards.read_report(path, plan.tasks[0].origin)


def look_for(plan: Plan) -> list[Job]:
    """Return a job for each task: those whose shards are there, and whose raw data have not changed, have a report.

    Raises
    ------
    DatasetError
        If the folder holds shards that were built with other options.
    """
    refuse_other_options(plan)  # whatever the number of shards, and so their names
    return [Job(plan.function, task, shards.read_report(task.path, task.origin)) for task in plan.tasks]


def _carry_out(plan: Plan, executor: int | Executor) -> tuple[dict[str, Any], int]:
    """Build the shards that a dataset lacks, and describe it; return that and the most memory that a process held.

    While a shard is missing, the folder has no ``dataset.json``, and neither has the union that it is part of.
    """
    jobs = look_for(plan)
    written = _written(plan.folder)
    if any(job.report is None for job in jobs):
        for name in (plan.folder.name, "synhead++"):
            (plan.folder.parent / name / shards.INFO).unlink(missing_ok=True)
    # The longest first, so that no core is left with it at the end.
    longest_first = sorted(jobs, key=lambda job: -job.task.rows)
    done = run_tasks(build, longest_first, executor, plan.folder.name)
    built = {job.task.path: one for job, one in zip(longest_first, done, strict=True)}
    for job in jobs:
        path, found = job.task.path, built[job.task.path].sha256
        if job.report is not None and written.get(path.name, found) != found:
            raise DatasetError(f"{path}: changed since it was built; delete it and run the same command again")
    faults = relative(plan.faults, plan.tasks[0].raw)
    in_order = {job.task.path: built[job.task.path] for job in jobs}
    info = _describe(plan.folder, plan.parameters, plan.more, faults, in_order)
    return info, max(one.peak_bytes for one in done)


def _written(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each shard that an earlier build wrote down, by file name."""
    try:
        found = read_json(folder / shards.INFO, "the description of a dataset")
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
        "schema": shards.SCHEMA,
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
    _, rotations = shards.read_labels(shards.Dataset(folder, info))
    angles = from_matrix(rotations)
    info["rows"] = len(angles)
    info["content_sha256"] = shards.content_sha256(info)
    info["labels"] = {
        key: [round(float(value), 4) for value in statistic(angles, axis=0)]
        for key, statistic in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max))
        if len(angles)
    }
    write_json(folder / shards.INFO, info)
    return info


def _sequence_hash(root: Path, name: str) -> str:
    frames = biwi.frames(root, name)[0]
    files = [path for frame in frames for path in (frame.image, frame.pose)]
    calibration = root / name / "rgb.cal"
    return content_hash([files_hash(files), sha256(calibration) if calibration.is_file() else ""])


def read_biwi_poses(root: Path, table: pd.DataFrame | None = None) -> dict[str, tuple[np.ndarray, Floats]]:
    """Return each sequence's readable frames: their numbers (n,) and rotations (n, 3, 3).

    In the depth camera; in the RGB camera where the manifest's ``table`` is given, without the sequences whose
    calibration is damaged.
    """
    groups = manifest.calibration_groups(table) if table is not None else {}
    found = {}
    for name in biwi.sequences(root):
        poses = {}
        try:
            camera = read_camera(root, name, groups.get(name, "")) if table is not None else None
        except RawDataError:
            continue  # the build of Biwi+ lists it
        for frame in biwi.frames(root, name)[0]:
            try:
                pose = biwi.read_rgb_pose(frame.pose, camera) if camera else biwi.read_pose(frame.pose)
            except RawDataError:
                continue  # likewise
            poses[frame.number] = pose.rotation
        if poses:
            found[name] = np.array(list(poses)), np.stack(list(poses.values()))
    return found


def plan_biwi(root: Path, out: Path, options: Options, source: Source) -> Plan:
    """Plan Biwi+ from the sequences below ``root``."""
    names = biwi.sequences(root)
    table = manifest.read(source.manifest)
    subjects, groups = manifest.biwi_subjects(table), manifest.calibration_groups(table)
    given = box_files.read(source.boxes) if source.boxes else None
    found = {name: [frame.number for frame in biwi.frames(root, name)[0]] for name in names}
    notes = []
    if given is not None:
        ids = {biwi.frame_id(name, number) for name, numbers in found.items() for number in numbers}
        boxed = ids & set(given.ids.tolist())
        if not boxed:
            raise DatasetError(f"{source.boxes}: holds no box of these frames; expected ids such as {min(ids)}")
        if len(boxed) < len(ids):
            notes.append(f"Biwi: {len(ids) - len(boxed):,} frames have no box in {source.boxes}; theirs are projected")
    parameters = {
        "size": options.size,
        "boxes": sha256(source.boxes) if source.boxes else geometry.PROJECTED,
        "head_size_mm": geometry.HEAD_SIZE_MM,
        "lossless": True,
    }
    folder = out / "biwi+"
    built_with = content_hash(["biwi+", shards.SCHEMA, parameters])
    tasks = []
    for i, name in enumerate(names):
        mine = given.where(np.char.startswith(given.ids, f"biwi/{name}/")) if given is not None else None
        subject, group = subjects.get(name, name), groups.get(name, "")
        origin = shards.Origin(built_with, content_hash([_sequence_hash(root, name), subject, group]))
        path = folder / shards.shard_name(i, len(names))
        work = BiwiWork(root, name, subject, group, mine)
        tasks.append(Task(path, origin, options, root, len(found[name]), work))
    listed, absent = manifest.absent_frames(table, found)
    if absent:
        notes.append(f"Biwi: {absent:,} of the {listed:,} frames of the manifest are absent")
    return Plan(folder, parameters, build_biwi, tasks, notes, [], {})


def _recorded(path: Path, key: Any, compute: Callable[[], Any], keep: bool = True) -> Any:
    """Return what was recorded at ``path`` for the same key; else compute it and, to keep, record it."""
    of = content_hash(key)
    if path.exists():
        found = read_json(path, "a record of this build")
        if found.get("of") == of:
            return found["found"]
    content = {"of": of, "found": compute()}
    if keep:
        write_json(path, content)
    return content["found"]


def _inferred_order(
    copy: synhead.Copy, biwi_root: Path | None, out: Path, seed: int, executor: int | Executor, keep: bool
) -> render_order.OrderReport:
    def compute() -> dict[str, Any]:
        poses = read_biwi_poses(biwi_root) if biwi_root else None
        return render_order.to_json(render_order.infer(copy, poses, executor, seed))

    key = [copy.fingerprint(copy.tracks, copy.heads), biwi_root is not None, seed]
    return render_order.from_json(_recorded(out / "synhead+" / ORDER_REPORT, key, compute, keep))


def _ball_work(copy: synhead.Copy, head: str, order: EulerOrder, margin: float) -> BallWork:
    """Return some of the images of a head that show its face, spread over all its tracks."""
    tracks = copy.tracks_of(head)
    poses = np.concatenate([to_matrix(angles, order) for angles in tracks.values()])
    paths = [path for track in tracks for path in copy.paths(track, head)]
    seen = np.flatnonzero(visible(poses, margin))
    chosen = seen[np.unique(np.linspace(0, len(seen) - 1, BALL_IMAGES).astype(int))] if len(seen) else seen
    return BallWork(copy.root, head, [paths[i] for i in chosen], poses[chosen])


def head_balls(
    copy: synhead.Copy, out: Path, order: EulerOrder, margin: float, executor: int | Executor, keep: bool
) -> dict[str, geometry.HeadBall]:
    """Return the ball of each head."""

    def compute() -> dict[str, Any]:
        work = [_ball_work(copy, head, order, margin) for head in copy.heads]
        found = run_tasks(fit_ball, work, executor, "where the heads are")
        return {
            head: {k: np.round(v, 4).tolist() for k, v in ball._asdict().items()}
            for head, ball in zip(copy.heads, found, strict=True)
        }

    key = [copy.fingerprint(copy.tracks, copy.heads), str(order), margin]
    recorded = _recorded(out / "synhead+" / HEAD_BALLS, key, compute, keep)
    return {
        head: geometry.HeadBall(np.array(b["pivot"]), np.array(b["ball"]), b["radius"], b["spread"])
        for head, b in recorded.items()
    }


def _absent_images(copy: synhead.Copy) -> list[str]:
    """Return a line for each track without images, and for each head that lacks some track's."""
    notes = []
    for track in synhead.tracks(copy.root):
        if track in copy.angles and track not in copy.tracks:
            notes.append(f"SynHead: {track.csv} has no usable images of any head")
    for head in copy.heads:
        lacking = [f"{track.group}/{track.name}" for track in copy.tracks if (track, head) not in copy.folders]
        if lacking:
            some = ", ".join(lacking[:3]) + (" and others" if len(lacking) > 3 else "")
            notes.append(
                f"SynHead: {head} has no usable images of {len(lacking)} of {len(copy.tracks)} tracks ({some})"
            )
    return notes


def plan_synhead(
    copy: synhead.Copy,
    out: Path,
    options: Options,
    order: EulerOrder,
    order_source: str,
    balls: dict[str, geometry.HeadBall],
) -> Plan:
    """Plan SynHead+ from a raw SynHead, whose heads were rendered in ``order``."""
    parameters = {
        "size": options.size,
        "visible_margin": options.visible_margin,
        "lossless": options.lossless,
        "render_order": str(order),
    }
    folder = out / "synhead+"
    built_with = content_hash(["synhead+", shards.SCHEMA, parameters])
    units = []
    for head in copy.heads:
        for group in synhead.GROUPS:
            mine = {track: angles for track, angles in copy.tracks_of(head).items() if track.group == group}
            if mine:
                units.append(SynHeadWork(mine, {t: copy.names[t, head] for t in mine}, head, order, balls[head]))
    tasks = []
    for i, unit in enumerate(units):
        origin = shards.Origin(built_with, content_hash([copy.fingerprint(unit.tracks, [unit.head]), unit.ball]))
        rows = sum(
            int(visible(to_matrix(angles, order), options.visible_margin).sum()) for angles in unit.tracks.values()
        )
        tasks.append(Task(folder / shards.shard_name(i, len(units)), origin, options, copy.root, rows, unit))
    more = {"render_order_from": order_source}
    return Plan(folder, parameters, build_synhead, tasks, _absent_images(copy), copy.faults, more)


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


def plan_synbiwi(
    copy: synhead.Copy,
    out: Path,
    options: Options,
    order: EulerOrder,
    balls: dict[str, geometry.HeadBall],
    targets: list[tuple[list[str], Floats]],
    more: dict[str, Any],
) -> Plan:
    """Plan SynBiwi+: for each Biwi frame and each head, the SynHead images that come closest when turned.

    ``targets`` holds the ids (n,) and RGB-camera rotations (n, 3, 3) of each sequence's frames. Each head is
    matched over the poses that it has images of.
    """
    parameters = {
        "size": options.size,
        "visible_margin": options.visible_margin,
        "neighbours": options.neighbours,
        "lossless": options.lossless,
        "render_order": str(order),
    }
    folder = out / "synbiwi+"
    built_with = content_hash(["synbiwi+", shards.SCHEMA, parameters])
    matches: dict[tuple[str, str], Match] = {}
    per_target: list[list[HeadMatch]] = [[] for _ in targets]
    of_tracks: dict[tuple[synhead.Track, ...], list[HeadMatch]] = {}
    for head in copy.heads:
        mine = copy.tracks_of(head)
        tracks = tuple(mine)
        if tracks not in of_tracks:  # most heads have the same tracks, hence the same matches
            of_tracks[tracks] = _matched(mine, order, options, [rotations for _, rotations in targets])
        for i, found in enumerate(of_tracks[tracks]):
            names = np.array(
                [
                    [copy.names[found.tracks[which], head][row] for which, row in zip(*both, strict=True)]
                    for both in zip(found.track, found.frame, strict=True)
                ]
            )
            per_target[i].append(found._replace(head=head, ball=balls[head], names=names))
            matches[targets[i][0][0].split("/")[1], head] = found.match
    images = [copy.fingerprint(copy.tracks_of(head), [head]) for head in copy.heads]
    tasks = []
    for i, ((ids, rotations), heads) in enumerate(zip(targets, per_target, strict=True)):
        raw = content_hash([images, sorted(balls.items()), ids, rotations.tolist()])
        path = folder / shards.shard_name(i, len(targets))
        rows = len(ids) * len(heads) * options.neighbours
        tasks.append(Task(path, shards.Origin(built_with, raw), options, copy.root, rows, SynBiwiWork(ids, heads)))
    return Plan(folder, parameters, build_synbiwi, tasks, [], [], {"residual": residuals(matches), **more})


def _matched(
    tracks: dict[synhead.Track, Floats], order: EulerOrder, options: Options, targets: list[Floats]
) -> list[HeadMatch]:
    """Return the matches of each sequence's poses among those of some tracks; for which head is left open."""
    per_track = [to_matrix(angles, order) for angles in tracks.values()]
    poses = np.concatenate(per_track)
    owner = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(per_track)])
    position = np.concatenate([np.arange(len(rows)) for rows in per_track])
    seen = np.flatnonzero(visible(poses, options.visible_margin))
    nowhere = geometry.HeadBall(np.zeros(2), np.zeros(3), 0.0, 0.0)
    found = []
    for rotations in targets:
        best = match(rotations, poses[seen], options.neighbours)
        source = seen[best.source]
        found.append(
            HeadMatch("", nowhere, np.zeros(0), list(tracks), owner[source], position[source], poses[source], best)
        )
    return found


def _describe_union(out: Path) -> dict[str, Any]:
    """Describe SynHead++, the union of SynHead+ and SynBiwi+; it holds no pixels of its own."""
    joined = [shards.open_dataset(out / name) for name in ("synhead+", "synbiwi+")]
    parameters = {"size": joined[0].size, "visible_margin": joined[0].info["parameters"]["visible_margin"]}
    content = [part.info["content_sha256"] for part in joined]
    more = {"joins": [part.name for part in joined], "joined": content}
    return _describe(out / "synhead++", parameters, more, [], {})


def judge_order(
    synhead_folder: Path, biwi_folder: Path | None = None, jobs: int = 1, seed: int = 0
) -> tuple[render_order.OrderReport, Path]:
    """Return how all rendering orders compare on a raw SynHead, and its root."""
    root = synhead.find_root(synhead_folder)
    poses = read_biwi_poses(biwi.find_root(biwi_folder)) if biwi_folder else None
    return render_order.judge(synhead.look_through(root), poses, jobs, seed), root


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


def checked_source(source: Source, absolute: bool = False) -> Source:
    """Return the source with the roots found; with ``absolute`` paths, other machines find them too.

    Raises
    ------
    HeadposeError
        If there is no raw copy, or its root is not found, or there is no such rendering order.
    """
    if not source.biwi and not source.synhead:
        raise HeadposeError("nothing to build from: give --biwi, --synhead or both")
    roots = [
        find(folder.resolve() if absolute else folder) if folder else None
        for find, folder in ((biwi.find_root, source.biwi), (synhead.find_root, source.synhead))
    ]
    if source.order:
        euler_order(source.order)
    return source._replace(biwi=roots[0], synhead=roots[1])


def checked_options(options: Options | None) -> Options:
    """Return the options, by default the usual ones; raises HeadposeError if the crops' size is out of range."""
    options = options or Options()
    if not 8 <= options.size <= 1024:
        raise HeadposeError(f"--size {options.size}: expected a crop's side of 8 to 1024 pixels")
    return options


def rendering_order(
    copy: synhead.Copy, source: Source, out: Path, executor: int | Executor, keep: bool
) -> tuple[EulerOrder, str, render_order.OrderReport | None]:
    """Return SynHead's rendering order, where it is from, and the report of its inference."""
    if source.order:
        return euler_order(source.order), "set by hand", None
    report = _inferred_order(copy, source.biwi, out, source.seed, executor, keep)
    words = f"inferred from {report.pairs} pairs of images, margin {report.margin:.1f} standard errors"
    return report.order, words, report


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
        target = plan.folder / shards.BACKGROUNDS
        plan.more["backgrounds_sha256"], more = _write_backgrounds(
            synhead.backgrounds(copy.root), target, options.size
        )  # fmt: skip
        carry_out(plan)
        notes += more
    if source.biwi and source.synhead:
        biwi_plus = shards.open_dataset(out / "biwi+")
        targets = [
            (shard["id"].tolist(), shard["label/rotation"])
            for shard in shards.read_fields(biwi_plus, "id", "label/rotation")
        ]
        if not targets:
            raise DatasetError(f"{source.biwi}: no readable frame, so there is nothing to match SynHead with")
        matched = {"matched_sha256": biwi_plus.info["content_sha256"]}
        carry_out(plan_synbiwi(copy, out, options, order, balls, targets, matched))
        infos.append(_describe_union(out))
    return Summary(infos, notes, left_out, report, max(peaks))
