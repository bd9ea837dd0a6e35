"""What one process of a build does: one shard, from raw files to HDF5.

A shard is a Biwi sequence, or a SynHead head and group, or SynBiwi+'s counterpart of a Biwi sequence, or some
photographs of a dataset of stills. A task holds all that its process needs, and nothing is shared, so tasks run in
any order on any machine that sees the same folders, and their bytes do not depend on it.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.boxes import geometry
from headposeplus.boxes.formats import MISPLACED
from headposeplus.boxes.geometry import PROJECTED, BoxTable
from headposeplus.boxes.placement import misplaced, misplaced_fault
from headposeplus.build.match import Match, visible
from headposeplus.datasets import shards
from headposeplus.datasets.shards import ShardReport, Turned
from headposeplus.errors import DatasetError, ImageError, RawDataError
from headposeplus.faults import Fault, remarked
from headposeplus.files import sha256
from headposeplus.images import crop, crop_foreground, crop_matrix, encode, read_rendered
from headposeplus.raw import biwi, synhead
from headposeplus.raw.stills import Still
from headposeplus.raw.synhead import HeadPlace, check_head
from headposeplus.raw.targets import STILLS
from headposeplus.rotations import EulerOrder, Floats, to_matrix
from headposeplus.tasks import peak_bytes


class Options(NamedTuple):
    """What a build is asked for.

    ``size`` is the crops' side in pixels. A SynHead frame is kept while the face's axis points into the
    camera's half-space by more than ``visible_margin`` (the cosine to the optical axis). ``neighbours`` is how
    many SynHead images SynBiwi+ holds for each Biwi frame and head. The sources are JPEG unless ``lossless``.
    ``strict`` raises at the first damaged file instead of leaving it out, and at the first given box that misses its
    head instead of projecting one.
    """

    size: int = 224
    visible_margin: float = 0.1
    neighbours: int = 1
    lossless: bool = False
    strict: bool = False


USUAL = Options()


class BiwiWork(NamedTuple):
    """A sequence of Biwi; ``boxes`` holds the boxes of its frames that ``boxes_file`` gives."""

    root: Path
    sequence: str
    subject: str
    calibration_group: str
    boxes: BoxTable | None
    boxes_file: Path | None


class StillsWork(NamedTuple):
    """Some photographs of a dataset of stills, by the dataset's name."""

    dataset: str
    photographs: list[Still]
    faults: list[Fault]


class SynHeadWork(NamedTuple):
    """One head's tracks of a group: their angles as written, and the names of the images."""

    tracks: dict[synhead.Track, Floats]
    names: dict[synhead.Track, list[str]]
    head: str
    order: EulerOrder
    place: HeadPlace
    box_source: str


class Nearest(NamedTuple):
    """The poses of some tracks that come closest to a sequence's frames.

    ``track`` and ``frame`` (n, k) say which of ``tracks`` and which of its rows, ``poses`` (n, k, 3, 3) are theirs
    before the turn.
    """

    tracks: list[synhead.Track]
    track: np.ndarray
    frame: np.ndarray
    poses: Floats
    match: Match


class HeadMatch(NamedTuple):
    """The images of one head that come closest to a sequence's frames; ``names`` (n, k) are their files'."""

    head: str
    place: HeadPlace
    names: np.ndarray
    nearest: Nearest


class SynBiwiWork(NamedTuple):
    """A sequence's frames by id (n,), and the matches of each head."""

    frames: list[str]
    heads: list[HeadMatch]
    box_source: str


class Task(NamedTuple):
    """One shard to build: where, from what, and how many rows it should have; ``limit`` stops after some rows.

    ``raw`` is the folder of the raw copy, relative to whose parent damaged files are named in the shard.
    """

    path: Path
    origin: shards.Origin
    options: Options
    raw: Path
    rows: int
    work: BiwiWork | StillsWork | SynHeadWork | SynBiwiWork
    limit: int | None = None


def _finish(
    shard: shards.ShardWriter,
    task: Task,
    left_out: list[Fault],
    box_sources: Counter[str],
    hidden: int | None = None,
    beyond: list[str] | None = None,
) -> ShardReport:
    """Finish a shard and return its report; where the build is strict, raise the first damaged file instead."""
    if task.options.strict and left_out:
        raise RawDataError(left_out[0])
    report = ShardReport(shard.count, dict(sorted(box_sources.items())), left_out, hidden, beyond)
    shard.finish(report, task.raw)
    return report


def _build_biwi(task: Task, work: BiwiWork) -> ShardReport:
    """Build one sequence of Biwi+."""
    left_out: list[Fault] = []
    sources: Counter[str] = Counter()
    with shards.write_shard(task.path, task.origin) as shard:
        try:
            sequence = biwi.open_sequence(work.root, work.sequence, work.calibration_group)
        except RawDataError as error:
            frames, left_out = biwi.list_frames(work.root, work.sequence)
            left_out += [remarked(error.fault, f"{frame.id} needs it") for frame in frames]
            return _finish(shard, task, left_out, sources)
        left_out += sequence.faults
        boxed = {str(name): i for i, name in enumerate(work.boxes.ids)} if work.boxes is not None else {}
        for frame, pose in itertools.islice(sequence.poses(), task.limit):
            if isinstance(pose, Fault):
                left_out.append(pose)
                continue
            try:
                image = sequence.read_image(frame)
            except RawDataError as error:
                left_out.append(error.fault)
                continue
            box, source = geometry.projected(pose, sequence.camera), PROJECTED
            if work.boxes is not None and frame.id in boxed:
                given = work.boxes.boxes[boxed[frame.id]]
                if misplaced(given[None], box[None])[0]:
                    if task.options.strict:
                        raise DatasetError(misplaced_fault([frame.id], work.boxes_file or "", "mend or remove it"))
                    source = MISPLACED
                else:
                    box, source = given, str(work.boxes.sources[boxed[frame.id]])
            sources[source] += 1
            picture = crop(image[..., :3], crop_matrix(box, task.options.size), task.options.size)
            encoded = encode(picture, lossless=True)
            shard.add(shards.Row(frame.id, work.subject, encoded, None, pose.rotation, box, source))
        return _finish(shard, task, left_out, sources)


def _build_stills(task: Task, work: StillsWork) -> ShardReport:
    """Build some photographs of a dataset of stills; who is seen has the photograph's name."""
    stills, left_out, beyond = STILLS[work.dataset], [*work.faults], []
    sources: Counter[str] = Counter()
    with shards.write_shard(task.path, task.origin, shards.LONG_SUBJECT) as shard:
        for still in itertools.islice(work.photographs, task.limit):
            try:
                label = stills.read_label(still.label)
                if label.beyond:
                    beyond.append(f"{still.label.name}: {label.beyond}")
                    continue
                image = stills.read_image(still.image)
            except RawDataError as error:
                left_out.append(error.fault)
                continue
            box = geometry.of_face(label.rotation, label.centre, label.scale)
            sources[stills.box_source] += 1
            picture = crop(image[..., :3], crop_matrix(box, task.options.size), task.options.size)
            encoded = encode(picture, lossless=True)
            subject = stills.stem.format(still.number)
            row = shards.Row(stills.id(still.number), subject, encoded, None, label.rotation, box, stills.box_source)
            shard.add(row)
        return _finish(shard, task, left_out, sources, beyond=beyond)


def _synthetic_crop(
    path: Path, rotation: Floats, turn: float, place: HeadPlace, options: Options
) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Return the encoded crop, its foreground and its box of a SynHead image turned in its plane."""
    image = read_rendered(path)
    height, width = image.shape[:2]
    principal = np.array([(width - 1) / 2, (height - 1) / 2])
    box = geometry.of_rendered(place, rotation, turn, principal)
    picture, inside = crop_foreground(image, crop_matrix(box, options.size, turn, principal), options.size)
    check_head(path, inside)
    return encode(picture, options.lossless), inside, box


def _build_synhead(task: Task, work: SynHeadWork) -> ShardReport:
    """Build one head and group of SynHead+."""
    left_out: list[Fault] = []
    sources: Counter[str] = Counter()
    hidden = 0
    with shards.write_shard(task.path, task.origin) as shard:
        for track, angles in work.tracks.items():
            rotations = to_matrix(angles, work.order)
            folder = track.images_folder(work.head)
            seen = visible(rotations, task.options.visible_margin)
            hidden += int((~seen).sum())
            for index in np.flatnonzero(seen):
                if task.limit is not None and shard.count >= task.limit:
                    break
                path = folder / work.names[track][index]
                try:
                    encoded, mask, box = _synthetic_crop(path, rotations[index], 0.0, work.place, task.options)
                except ImageError as error:
                    left_out.append(error.fault)
                    continue
                sources[work.box_source] += 1
                name = synhead.image_id(track.group, work.head, track.name, int(index))
                shard.add(shards.Row(name, work.head, encoded, mask, rotations[index], box, work.box_source))
        return _finish(shard, task, left_out, sources, hidden)


def _build_synbiwi(task: Task, work: SynBiwiWork) -> ShardReport:
    """Build SynBiwi+ for one sequence of Biwi+: a row a frame, head and neighbour."""
    left_out: list[Fault] = []
    sources: Counter[str] = Counter()
    with shards.write_shard(task.path, task.origin) as shard:
        for i, frame in enumerate(work.frames):
            if task.limit is not None and shard.count >= task.limit:
                break
            for matched, rank in itertools.product(work.heads, range(task.options.neighbours)):
                head, nearest, match = matched.head, matched.nearest, matched.nearest.match
                track, turn = nearest.tracks[int(nearest.track[i, rank])], float(match.turn[i, rank])
                path = track.images_folder(head) / str(matched.names[i, rank])
                try:
                    encoded, mask, box = _synthetic_crop(
                        path, nearest.poses[i, rank], turn, matched.place, task.options
                    )
                except ImageError as error:
                    left_out.append(error.fault)
                    continue
                sources[work.box_source] += 1
                image = synhead.image_id(track.group, head, track.name, int(nearest.frame[i, rank]))
                turned = Turned(image, turn, float(match.geodesic[i, rank]), float(match.euler[i, rank]))
                # Further neighbours carry their rank; the best keeps the plain name.
                name = f"syn{frame}/{head}" + (f"/{rank + 1}" if rank else "")
                rotation = match.rotation[i, rank]
                shard.add(shards.Row(name, head, encoded, mask, rotation, box, work.box_source, turned))
        return _finish(shard, task, left_out, sources)


class Built(NamedTuple):
    """A finished shard: its report and SHA-256, the seconds that it took, and its process's peak memory in bytes."""

    report: ShardReport
    sha256: str
    seconds: float
    peak_bytes: int


class Job(NamedTuple):
    """A shard to see to, and the report of the one that is there, if it need not be built."""

    task: Task
    report: ShardReport | None = None


def see_to(job: Job) -> Built:
    """Build a shard, unless it is there, and hash it."""
    start = time.perf_counter()
    report = _build(job.task) if job.report is None else job.report
    return Built(report, sha256(job.task.path), time.perf_counter() - start, peak_bytes())


def _build(task: Task) -> ShardReport:
    if isinstance(task.work, BiwiWork):
        return _build_biwi(task, task.work)
    if isinstance(task.work, StillsWork):
        return _build_stills(task, task.work)
    if isinstance(task.work, SynHeadWork):
        return _build_synhead(task, task.work)
    return _build_synbiwi(task, task.work)
