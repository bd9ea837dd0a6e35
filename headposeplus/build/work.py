"""What one process of a build does: one shard, from raw files to HDF5.

A shard is a Biwi sequence, or a SynHead head and group, or SynBiwi+'s counterpart of a Biwi sequence. A task
holds all that its process needs, and nothing is shared, so tasks run in any order on any machine that sees the
same folders, and their bytes do not depend on it.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headposeplus.boxes import geometry
from headposeplus.boxes.geometry import PROJECTED, BoxTable
from headposeplus.build.match import Match, visible
from headposeplus.datasets import shards
from headposeplus.errors import ImageError, RawDataError
from headposeplus.faults import Fault
from headposeplus.files import sha256
from headposeplus.images import crop, crop_foreground, crop_matrix, encode, read_image
from headposeplus.raw import biwi, synhead
from headposeplus.raw.synhead import check_head
from headposeplus.rotations import EulerOrder, Floats, to_matrix

OUTLINE = "outline"
Report = dict[str, Any]


class Options(NamedTuple):
    """What a build is asked for.

    ``size`` is the crops' side in pixels. A SynHead frame is kept while the face's axis points into the
    camera's half-space by more than ``visible_margin`` (the cosine to the optical axis). ``neighbours`` is how
    many SynHead images SynBiwi+ holds for each Biwi frame and head. The sources are JPEG unless ``lossless``.
    ``strict`` raises at the first damaged file instead of leaving it out.
    """

    size: int = 224
    visible_margin: float = 0.1
    neighbours: int = 1
    lossless: bool = False
    strict: bool = False


class Task(NamedTuple):
    """One shard to build: where, from what, and how many rows it should have; ``limit`` stops after some rows.

    ``raw`` is the folder of the raw copy, relative to whose parent damaged files are named in the shard.
    """

    path: Path
    origin: shards.Origin
    options: Options
    raw: Path
    rows: int
    work: Any
    limit: int | None = None


class BiwiWork(NamedTuple):
    """A sequence of Biwi; ``boxes`` holds the given boxes of its frames."""

    root: Path
    sequence: str
    subject: str
    calibration_group: str
    boxes: BoxTable | None


class SynHeadWork(NamedTuple):
    """One head's tracks of a group: their angles as written, and the names of the images."""

    tracks: dict[synhead.Track, Floats]
    names: dict[synhead.Track, list[str]]
    head: str
    order: EulerOrder
    ball: geometry.HeadBall


class HeadMatch(NamedTuple):
    """The images of one head that come closest to a sequence's frames.

    ``track`` and ``frame`` (n, k) say which track of ``tracks`` and which of its rows, ``names`` (n, k) the image's
    file, ``source`` (n, k, 3, 3) the poses before the turn.
    """

    head: str
    ball: geometry.HeadBall
    names: np.ndarray
    tracks: list[synhead.Track]
    track: np.ndarray
    frame: np.ndarray
    source: Floats
    match: Match


class SynBiwiWork(NamedTuple):
    """A sequence's frames by id (n,), and the matches of each head."""

    frames: list[str]
    heads: list[HeadMatch]


def _finish(
    shard: shards.ShardWriter, task: Task, left_out: list[Fault], box_sources: Counter[str], **more: Any
) -> Report:
    """Finish a shard and return its report; where the build is strict, raise the first damaged file instead."""
    if task.options.strict and left_out:
        raise RawDataError(left_out[0])
    report = {
        "rows": shard.count,
        "left_out": [relative(fault, task.raw) for fault in left_out],
        "boxes": dict(sorted(box_sources.items())),
        **more,
    }
    shard.finish(report)
    return report


def relative(fault: Fault, raw: Path) -> str:
    """Return a fault of a raw copy as a line, with paths relative to its parent: wherever it lies, the text is one."""
    return str(fault).replace(f"{raw.parent}/", "")


def build_biwi(task: Task) -> Report:
    """Build one sequence of Biwi+."""
    work: BiwiWork = task.work
    left_out: list[Fault] = []
    sources: Counter[str] = Counter()
    with shards.write_shard(task.path, task.origin) as shard:
        try:
            sequence = biwi.open_sequence(work.root, work.sequence, work.calibration_group)
        except RawDataError as error:
            frames, left_out = biwi.list_frames(work.root, work.sequence)
            left_out += [error.fault._replace(mend=f"{error.fault.mend} ({frame.id} needs it)") for frame in frames]
            return _finish(shard, task, left_out, sources)
        left_out += sequence.faults
        given = {str(name): i for i, name in enumerate(work.boxes.ids)} if work.boxes is not None else {}
        for frame, pose in itertools.islice(sequence.poses(), task.limit):
            if isinstance(pose, Fault):
                left_out.append(pose)
                continue
            try:
                image = sequence.read_image(frame, bgr=True)
            except RawDataError as error:
                left_out.append(error.fault)
                continue
            if work.boxes is not None and frame.id in given:
                box, source = work.boxes.boxes[given[frame.id]], str(work.boxes.sources[given[frame.id]])
            else:
                box, source = geometry.projected(pose.centre, sequence.camera), PROJECTED
            sources[source] += 1
            picture = crop(image[..., :3], crop_matrix(box, task.options.size), task.options.size)
            encoded = encode(picture, lossless=True, bgr=True)
            shard.add(shards.Row(frame.id, work.subject, encoded, None, pose.rotation, box, source, {}))
        return _finish(shard, task, left_out, sources)


def _synthetic_crop(
    path: Path, rotation: Floats, turn: float, ball: geometry.HeadBall, options: Options
) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Return the encoded crop, its foreground and its box of a SynHead image turned in its plane."""
    image = read_image(path, bgr=True)
    height, width = image.shape[:2]
    principal = np.array([(width - 1) / 2, (height - 1) / 2])
    box = geometry.of_ball(ball, rotation, turn, principal)
    picture, inside = crop_foreground(image, crop_matrix(box, options.size, turn, principal), options.size)
    check_head(path, inside)
    return encode(picture, options.lossless, bgr=True), inside, box


def build_synhead(task: Task) -> Report:
    """Build one head and group of SynHead+."""
    work: SynHeadWork = task.work
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
                    encoded, mask, box = _synthetic_crop(path, rotations[index], 0.0, work.ball, task.options)
                except ImageError as error:
                    left_out.append(error.fault)
                    continue
                sources[OUTLINE] += 1
                name = synhead.image_id(track.group, work.head, track.name, int(index))
                shard.add(shards.Row(name, work.head, encoded, mask, rotations[index], box, OUTLINE, {}))
        return _finish(shard, task, left_out, sources, face_not_visible=hidden)


def build_synbiwi(task: Task) -> Report:
    """Build SynBiwi+ for one sequence of Biwi+: a row a frame, head and neighbour."""
    work: SynBiwiWork = task.work
    left_out: list[Fault] = []
    sources: Counter[str] = Counter()
    with shards.write_shard(task.path, task.origin) as shard:
        for i, frame in enumerate(work.frames):
            if task.limit is not None and shard.count >= task.limit:
                break
            for one, rank in itertools.product(work.heads, range(task.options.neighbours)):
                which, index = int(one.track[i, rank]), int(one.frame[i, rank])
                track, turn = one.tracks[which], float(one.match.turn[i, rank])
                path = track.images_folder(one.head) / str(one.names[i, rank])
                try:
                    encoded, mask, box = _synthetic_crop(path, one.source[i, rank], turn, one.ball, task.options)
                except ImageError as error:
                    left_out.append(error.fault)
                    continue
                sources[OUTLINE] += 1
                extra = {
                    "source": synhead.image_id(track.group, one.head, track.name, index),
                    "turn": turn,
                    "residual/geodesic": float(one.match.geodesic[i, rank]),
                    "residual/euler": float(one.match.euler[i, rank]),
                }
                # Further neighbours carry their rank; the best keeps the plain name.
                name = f"syn{frame}/{one.head}" + (f"/{rank + 1}" if rank else "")
                rotation = one.match.rotation[i, rank]
                shard.add(shards.Row(name, one.head, encoded, mask, rotation, box, OUTLINE, extra))
        return _finish(shard, task, left_out, sources)


class Built(NamedTuple):
    """A finished shard: its report and SHA-256, the seconds that it took, and its process's peak memory in bytes."""

    report: Report
    sha256: str
    seconds: float
    peak_bytes: int


class Job(NamedTuple):
    """A shard to see to: by which function it is built, and the report of the one that is there, if it need not be."""

    function: Callable[[Task], Report]
    task: Task
    report: Report | None = None


def build(job: Job) -> Built:
    """Build a shard, unless it is there, and hash it."""
    start = time.perf_counter()
    report = job.function(job.task) if job.report is None else job.report
    return Built(report, sha256(job.task.path), time.perf_counter() - start, _peak_bytes())


def _peak_bytes() -> int:
    """Return the most memory that this process has held; 0 where the system does not tell."""
    try:
        # Unlike getrusage's, Linux's own figure does not begin with that of the process that started this one.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 0
