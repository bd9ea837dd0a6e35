"""The plans of a build: which shards each dataset has, from what, with which options."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.boxes import geometry
from headposeplus.boxes.files import read_boxes
from headposeplus.boxes.geometry import BoxTable
from headposeplus.boxes.placement import check_boxes
from headposeplus.build.heads import HeadPlaces, head_places
from headposeplus.build.match import Match, match, residuals, visible
from headposeplus.build.record import RenderOrder, rendering_order
from headposeplus.build.work import (
    BiwiWork,
    HeadMatch,
    Job,
    Nearest,
    Options,
    StillsWork,
    SynBiwiWork,
    SynHeadWork,
    Task,
)
from headposeplus.datasets import shards
from headposeplus.datasets.dataset import open_dataset, read_fields
from headposeplus.datasets.info import SCHEMA, Parameters, Residuals
from headposeplus.errors import DatasetError, HeadposeError, RawDataError
from headposeplus.faults import Fault, plural
from headposeplus.files import content_hash, files_hash, sha256
from headposeplus.raw import biwi, manifest, synhead
from headposeplus.raw.ids import frame_id
from headposeplus.raw.render_order import OrderReport
from headposeplus.raw.source import Copies
from headposeplus.raw.stills import StillSet
from headposeplus.raw.targets import STILLS
from headposeplus.rotations import EulerOrder, Floats, to_matrix

_JUDGED = 20  # frames of a sequence by which a file of boxes is judged before the build
_PER_SHARD = 250  # photographs


class Provenance(NamedTuple):
    """Where a dataset comes from, beside its parameters, as :class:`headposeplus.datasets.info.Info` says it."""

    render_order_from: str | None = None
    backgrounds_sha256: str | None = None
    residual: Residuals | None = None
    cameras: dict[str, list[list[float]]] | None = None
    matched_sha256: str | None = None
    joins: list[str] | None = None
    joined: list[str] | None = None


class Plan(NamedTuple):
    """A dataset to build: its folder, its parameters, and a task for each shard.

    ``notes`` are what a reader should know, ``faults`` the raw files that no shard can use. ``backgrounds`` are images
    to be stored beside the shards; None where there are none to store. ``order`` is the report of the inferred
    rendering order.
    """

    folder: Path
    parameters: Parameters
    tasks: list[Task]
    provenance: Provenance = Provenance()
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    backgrounds: list[Path] | None = None
    order: OrderReport | None = None


class TargetPoses(NamedTuple):
    """The ids (n,) and RGB-camera rotations (n, 3, 3) of a Biwi sequence's frames."""

    ids: list[str]
    rotations: Floats

    @property
    def sequence(self) -> str:
        """The sequence's name."""
        return self.ids[0].split("/")[1]


class Targets(NamedTuple):
    """The Biwi poses that SynBiwi+ is matched with, and the content of the Biwi+ that they are read from.

    ``content_sha256`` is None where they are read from the raw copy.
    """

    sequences: list[TargetPoses]
    content_sha256: str | None = None


def plans(source: Copies, out: Path, options: Options, executor: int | Executor, trial: bool = False) -> Iterator[Plan]:
    """Yield the plan of each dataset that a source allows, in the order in which they are built.

    SynBiwi+ is matched with the Biwi+ in ``out``, so each plan is to be carried out before the next but one is asked
    for.
    A ``trial`` writes nothing and carries out nothing: it takes Biwi's poses from the raw copy.

    Raises
    ------
    RawDataError
        If a raw copy is not in its layout, or the options are strict and it holds what no shard can use.
    DatasetError
        If ``out`` holds a build of other data or options, or Biwi+ has no frame to match SynHead with.
    """
    if source.biwi:
        yield _plan_biwi(source.biwi, out, options, source)
    if source.synhead:
        copy = synhead.look_through(source.synhead)
        if options.strict and copy.faults and not trial:
            raise RawDataError(copy.faults[0])
        order = rendering_order(copy, source, out, executor, keep=not trial)
        places = head_places(copy, out, order.order, options.visible_margin, executor, keep=not trial)
        yield _plan_synhead(copy, out, options, order, places)
        if source.biwi:
            targets = _raw_targets(source.biwi, source.manifest) if trial else _built_targets(out)
            if targets.sequences:
                yield _plan_synbiwi(copy, out, options, order.order, places, targets)
            elif not trial:
                what = "no readable frame, so there is nothing to match SynHead with"
                raise DatasetError(Fault(what, file=source.biwi))
    for name, root in source.stills.items():
        yield _plan_stills(STILLS[name], root, out, options, manifest.read(source.manifest))


def _raw_targets(root: Path, manifest_file: Path | None) -> Targets:
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    rotations, _ = biwi.rgb_rotations(root, groups)
    return Targets(
        [
            TargetPoses([frame_id(name, number) for number in numbers], of_frames)
            for name, (numbers, of_frames) in rotations.items()
        ]
    )


def _built_targets(out: Path) -> Targets:
    biwi_plus = open_dataset(out / "biwi+")
    shards_of = read_fields(biwi_plus, "id", "label/rotation")
    sequences = [TargetPoses(fields["id"].tolist(), fields["label/rotation"]) for fields in shards_of]
    return Targets(sequences, biwi_plus.info.content_sha256)


def refuse_other_options(plan: Plan) -> None:
    """Raise DatasetError if the dataset's folder holds shards that were built with other options."""
    for path in shards.written_shards(plan.folder)[:1]:
        shards.read_report(path, plan.tasks[0].origin)


def jobs_of(plan: Plan) -> list[Job]:
    """Return a job for each task: those whose shards are there, and whose raw data have not changed, have a report.

    Raises
    ------
    DatasetError
        If the folder holds shards that were built with other options.
    """
    refuse_other_options(plan)  # whatever the number of shards, and so their names
    return [Job(task, shards.read_report(task.path, task.origin)) for task in plan.tasks]


def _options_hash(name: str, parameters: Parameters) -> str:
    return content_hash([name, SCHEMA, parameters.to_json()])


def _plan_biwi(root: Path, out: Path, options: Options, source: Copies) -> Plan:
    """Plan Biwi+ from the sequences below ``root``."""
    names = biwi.sequences(root)
    table = manifest.read(source.manifest)
    subjects, groups = manifest.biwi_subjects(table), manifest.calibration_groups(table)
    boxes = read_boxes(source.boxes) if source.boxes else None
    numbers = {name: [frame.number for frame in biwi.list_frames(root, name)[0]] for name in names}
    notes = []
    if boxes is not None:
        ids = {frame_id(name, number) for name, of_sequence in numbers.items() for number in of_sequence}
        boxed = ids & set(boxes.ids.tolist())
        if not boxed:
            what = "holds no box of these frames"
            raise DatasetError(Fault(what, f"expected ids such as {min(ids)}", source.boxes or ""))
        check_boxes(boxes, source.boxes or Path(), *_some_heads(root, groups))
        if len(boxed) < len(ids):
            unboxed = plural(len(ids) - len(boxed), "frame has", "frames have")
            notes.append(f"Biwi: {unboxed} no box in {source.boxes}, and a projected one")
    parameters = Parameters(
        size=options.size,
        boxes=sha256(source.boxes) if source.boxes else geometry.PROJECTED,
        box_rule=geometry.RULE,
        lossless=True,
    )
    folder = out / "biwi+"
    built_with = _options_hash("biwi+", parameters)
    tasks = []
    for i, name in enumerate(names):
        mine = boxes.where(np.char.startswith(boxes.ids, f"biwi/{name}/")) if boxes is not None else None
        subject, group = subjects.get(name, name), groups.get(name, "")
        origin = shards.Origin(built_with, content_hash([biwi.fingerprint(root, name), subject, group]))
        path = folder / shards.shard_name(i, len(names))
        work = BiwiWork(root, name, subject, group, mine, source.boxes)
        tasks.append(Task(path, origin, options, root, len(numbers[name]), work))
    listed, absent = manifest.absent_frames(table, numbers)
    if absent:
        of_all = f"of the {listed:,} frames of the manifest"
        notes.append(f"Biwi: {plural(absent, f'{of_all} is', f'{of_all} are')} absent")
    return Plan(folder, parameters, tasks, Provenance(cameras=_cameras(root, names, groups)), notes=tuple(notes))


def _cameras(root: Path, names: list[str], groups: dict[str, str]) -> dict[str, list[list[float]]]:
    """Return the matrix K of each sequence's RGB camera; the frames of one that cannot be read are left out anyhow."""
    matrices = {}
    for name in names:
        with suppress(RawDataError):
            matrices[name] = biwi.open_sequence(root, name, groups.get(name, "")).camera.matrix.tolist()
    return matrices


def _some_heads(root: Path, groups: dict[str, str]) -> tuple[BoxTable, int]:
    """Return the boxes that follow from some of the poses of each sequence, and the width of the images."""
    ids, boxes, width = [], [], biwi.WIDTH
    for name in biwi.sequences(root):
        try:
            sequence = biwi.open_sequence(root, name, groups.get(name, ""))
        except RawDataError:
            continue  # the build lists it
        every = max(len(sequence.frames) // _JUDGED, 1)
        for frame, pose in sequence._replace(frames=sequence.frames[::every]).poses():
            if isinstance(pose, biwi.Pose):
                ids.append(frame.id)
                boxes.append(geometry.projected(pose, sequence.camera))
                width = sequence.camera.width
    return geometry.make_boxes(ids, np.array(boxes), geometry.PROJECTED), width


def _plan_stills(stills: StillSet, root: Path, out: Path, options: Options, table: manifest.Manifest) -> Plan:
    """Plan a dataset of stills from the photographs below ``root``."""
    found, faults = stills.list_stills(root)
    parameters = Parameters(size=options.size, boxes=stills.box_source, box_rule=geometry.RULE, lossless=True)
    folder, built_with = out / stills.name, _options_hash(stills.name, parameters)
    parts = [found[start : start + _PER_SHARD] for start in range(0, len(found), _PER_SHARD)] or [[]]
    tasks = []
    for i, part in enumerate(parts):
        mine = faults if i == 0 else []  # those of files that lack the other one, told once
        raw = content_hash(
            [files_hash(path for still in part for path in still[1:]), [shards.relative(fault, root) for fault in mine]]
        )
        path = folder / shards.shard_name(i, len(parts))
        work = StillsWork(stills.name, part, mine)
        tasks.append(Task(path, shards.Origin(built_with, raw), options, root, len(part), work))
    listed = {number for unit in manifest.listed_units(table, stills.name).values() for number in unit.numbers}
    absent = len(listed - {still.number for still in found})
    of_all = f"of the {len(listed):,} images of the manifest"
    notes = [f"{stills.title}: {plural(absent, f'{of_all} is', f'{of_all} are')} absent"] if absent else []
    return Plan(folder, parameters, tasks, notes=tuple(notes))


def _remarks(copy: synhead.Copy) -> tuple[str, ...]:
    """Return a line for each track without images, for each head that lacks some track's, and for images in JPEG."""
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
    names = [name for of_folder in copy.names.values() for name in of_folder]
    if lossy := sum(not name.lower().endswith(".png") for name in names):
        notes.append(str(synhead.lossy_fault(lossy, len(names), copy.root)))
    return tuple(notes)


def _plan_synhead(copy: synhead.Copy, out: Path, options: Options, order: RenderOrder, places: HeadPlaces) -> Plan:
    """Plan SynHead+ from a raw SynHead, whose heads were rendered in ``order``."""
    parameters = Parameters(
        size=options.size,
        visible_margin=options.visible_margin,
        box_rule=geometry.RULE,
        lossless=options.lossless,
        render_order=str(order.order),
    )
    folder = out / "synhead+"
    built_with = _options_hash("synhead+", parameters)
    units = []
    for head in copy.heads:
        for group in synhead.GROUPS:
            mine = {track: angles for track, angles in copy.tracks_of(head).items() if track.group == group}
            if mine:
                names = {track: copy.names[track, head] for track in mine}
                units.append(SynHeadWork(mine, names, head, order.order, places.of[head], places.source))
    tasks = []
    for i, unit in enumerate(units):
        origin = shards.Origin(built_with, content_hash([copy.fingerprint(unit.tracks, [unit.head]), unit.place]))
        poses = (to_matrix(angles, order.order) for angles in unit.tracks.values())
        rows = sum(int(visible(rotations, options.visible_margin).sum()) for rotations in poses)
        tasks.append(Task(folder / shards.shard_name(i, len(units)), origin, options, copy.root, rows, unit))
    return Plan(
        folder,
        parameters,
        tasks,
        Provenance(render_order_from=order.origin),
        _remarks(copy),
        tuple(copy.faults),
        synhead.backgrounds(copy.root),
        order.report,
    )


def _plan_synbiwi(
    copy: synhead.Copy,
    out: Path,
    options: Options,
    order: EulerOrder,
    places: HeadPlaces,
    targets: Targets,
) -> Plan:
    """Plan SynBiwi+: for each Biwi frame and each head, the SynHead images that come closest when turned."""
    parameters = Parameters(
        size=options.size,
        visible_margin=options.visible_margin,
        box_rule=geometry.RULE,
        neighbours=options.neighbours,
        lossless=options.lossless,
        render_order=str(order),
    )
    folder = out / "synbiwi+"
    built_with = _options_hash("synbiwi+", parameters)
    by_sequence = _match_heads(copy, options, order, places, targets)
    matches: dict[tuple[str, str], Match] = {}
    for column, head in enumerate(copy.heads):
        for poses, heads in zip(targets.sequences, by_sequence, strict=True):
            matches[poses.sequence, head] = heads[column].nearest.match
    images = [copy.fingerprint(copy.tracks_of(head), [head]) for head in copy.heads]
    tasks = []
    for i, ((ids, rotations), heads) in enumerate(zip(targets.sequences, by_sequence, strict=True)):
        raw = content_hash([images, sorted(places.of.items()), ids, rotations.tolist()])
        path = folder / shards.shard_name(i, len(targets.sequences))
        rows = len(ids) * len(heads) * options.neighbours
        tasks.append(
            Task(path, shards.Origin(built_with, raw), options, copy.root, rows, SynBiwiWork(ids, heads, places.source))
        )
    provenance = Provenance(residual=residuals(matches), matched_sha256=targets.content_sha256)
    return Plan(folder, parameters, tasks, provenance)


def _match_heads(
    copy: synhead.Copy, options: Options, order: EulerOrder, places: HeadPlaces, targets: Targets
) -> list[list[HeadMatch]]:
    """Return each sequence's matches, one for each head, over the poses of which that head has images."""
    by_sequence: list[list[HeadMatch]] = [[] for _ in targets.sequences]
    of_tracks: dict[tuple[synhead.Track, ...], list[Nearest]] = {}
    for head in copy.heads:
        tracks = copy.tracks_of(head)
        if tuple(tracks) not in of_tracks:  # most heads have the same tracks, hence the same matches
            rotations = [poses.rotations for poses in targets.sequences]
            of_tracks[tuple(tracks)] = _nearest(tracks, order, options, rotations)
        for heads, nearest in zip(by_sequence, of_tracks[tuple(tracks)], strict=True):
            heads.append(HeadMatch(head, places.of[head], _image_names(copy, head, nearest), nearest))
    return by_sequence


def _image_names(copy: synhead.Copy, head: str, nearest: Nearest) -> np.ndarray:
    """Return the names (n, k) of a head's images."""
    return np.array(
        [
            [copy.names[nearest.tracks[track], head][frame] for track, frame in zip(*row, strict=True)]
            for row in zip(nearest.track, nearest.frame, strict=True)
        ]
    )


def _nearest(
    tracks: dict[synhead.Track, Floats], order: EulerOrder, options: Options, targets: list[Floats]
) -> list[Nearest]:
    """Return the poses of some tracks that come closest to each sequence's."""
    per_track = [to_matrix(angles, order) for angles in tracks.values()]
    poses = np.concatenate(per_track)
    owner = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(per_track)])
    position = np.concatenate([np.arange(len(rows)) for rows in per_track])
    seen = np.flatnonzero(visible(poses, options.visible_margin))
    nearest = []
    for rotations in targets:
        best = match(rotations, poses[seen], options.neighbours)
        chosen = seen[best.source]
        nearest.append(Nearest(list(tracks), owner[chosen], position[chosen], poses[chosen], best))
    return nearest


def checked_options(options: Options) -> Options:
    """Return the options; raises HeadposeError if the crops' size is out of range."""
    if not 8 <= options.size <= 1024:
        raise HeadposeError(f"`size` {options.size}: expected a crop's side of 8 to 1024 pixels")
    return options
