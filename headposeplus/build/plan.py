"""The plans of a build: which shards each dataset has, from what, with which options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headposeplus.boxes import files as box_files
from headposeplus.boxes import geometry
from headposeplus.build.match import Match, match, residuals, visible
from headposeplus.build.work import (
    BiwiWork,
    HeadMatch,
    Job,
    Options,
    Report,
    SynBiwiWork,
    SynHeadWork,
    Task,
    build_biwi,
    build_synbiwi,
    build_synhead,
)
from headposeplus.datasets import shards
from headposeplus.datasets.dataset import SCHEMA
from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.faults import Fault
from headposeplus.files import content_hash, sha256
from headposeplus.raw import biwi, manifest, synhead
from headposeplus.rotations import EulerOrder, Floats, euler_order, to_matrix


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


class Plan(NamedTuple):
    """A dataset to build: its folder and parameters, and a task for each shard; ``more`` goes into its description.

    ``faults`` are the raw files that no shard can use.
    """

    folder: Path
    parameters: dict[str, Any]
    function: Callable[[Task], Report]
    tasks: list[Task]
    notes: list[str]
    faults: list[Fault]
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


def plan_biwi(root: Path, out: Path, options: Options, source: Source) -> Plan:
    """Plan Biwi+ from the sequences below ``root``."""
    names = biwi.sequences(root)
    table = manifest.read(source.manifest)
    subjects, groups = manifest.biwi_subjects(table), manifest.calibration_groups(table)
    given = box_files.read(source.boxes) if source.boxes else None
    found = {name: [frame.number for frame in biwi.list_frames(root, name)[0]] for name in names}
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
    built_with = content_hash(["biwi+", SCHEMA, parameters])
    tasks = []
    for i, name in enumerate(names):
        mine = given.where(np.char.startswith(given.ids, f"biwi/{name}/")) if given is not None else None
        subject, group = subjects.get(name, name), groups.get(name, "")
        origin = shards.Origin(built_with, content_hash([biwi.fingerprint(root, name), subject, group]))
        path = folder / shards.shard_name(i, len(names))
        work = BiwiWork(root, name, subject, group, mine)
        tasks.append(Task(path, origin, options, root, len(found[name]), work))
    listed, absent = manifest.absent_frames(table, found)
    if absent:
        notes.append(f"Biwi: {absent:,} of the {listed:,} frames of the manifest are absent")
    return Plan(folder, parameters, build_biwi, tasks, notes, [], {})


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
    built_with = content_hash(["synhead+", SCHEMA, parameters])
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
    built_with = content_hash(["synbiwi+", SCHEMA, parameters])
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
