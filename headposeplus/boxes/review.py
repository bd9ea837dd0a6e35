"""A page on which a person reviews the face boxes of raw Biwi frames, worst first, and saves corrections.

The page is one HTML file that asks for nothing from outside. What it saves is a CSV that
:func:`headposeplus.boxes.files.read_boxes` reads and :func:`headposeplus.boxes.files.correct_boxes` applies.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np

from headposeplus.boxes.files import LARGEST
from headposeplus.boxes.formats import COLUMNS, CORRECTED, FIRST_LINE
from headposeplus.boxes.geometry import BoxTable
from headposeplus.boxes.suspects import (
    DISAGREES,
    JUMPS,
    MISSING,
    UNDETECTED,
    Reason,
    Suspicion,
    judge,
    project_sequence,
)
from headposeplus.errors import DatasetError, ImageError
from headposeplus.faults import Fault
from headposeplus.files import write_text
from headposeplus.images import Image
from headposeplus.raw import biwi, manifest
from headposeplus.rotations import Floats
from headposeplus.tasks import run_tasks

_THUMBNAIL = 240  # pixels
_QUALITY = 80  # of the JPEG
_CONTEXT = 2.0  # the surroundings' side, in sides of the box
_CHUNK = 32  # thumbnails that a task makes
_TOLD = 100  # lines of a list that the page holds; it says how many there are in all


class Review(NamedTuple):
    """What a page holds. Counts are of frames; ``unreadable`` says what cannot be shown.

    ``disagreeing`` boxes overlap the other file's, or the projection, by less than a half; ``undetected`` are the
    frames on which a detector found no face; ``strays`` are boxes of the table whose frame is not in the raw copy, or
    has no readable pose there.
    """

    frames: int
    shown: int
    missing: int
    disagreeing: int
    jumping: int
    undetected: int
    checked: int
    strays: int
    unreadable: list[Fault]


class _Thumbnail(NamedTuple):
    """A frame's surroundings: their left, top and side in raw pixels, and a JPEG in base64."""

    region: tuple[int, int, int]
    jpeg: str


class _Picture(NamedTuple):
    """What a thumbnail shows: a frame, its box and the one that it was compared with."""

    frame: biwi.Frame
    camera: biwi.Calibration
    box: Floats
    other: Floats | None


class _Shown(NamedTuple):
    """A frame on the page."""

    suspicion: Suspicion
    thumbnail: _Thumbnail


class _Frames(NamedTuple):
    """The frames of a raw copy, their projected boxes (n, 4), each sequence's camera, and what cannot be read."""

    frames: list[biwi.Frame]
    boxes: Floats
    cameras: dict[str, biwi.Calibration]
    faults: list[Fault]


def write_review(
    table: BoxTable,
    biwi_root: Path,
    out: Path,
    against: BoxTable | None = None,
    limit: int = 500,
    jobs: int = 1,
    manifest_file: Path | None = None,
) -> Review:
    """Write a page on which the boxes of a raw Biwi copy are reviewed, worst first; return what it holds.

    A frame's box is judged by its overlap with ``against``'s, or with the head's projection where that holds none,
    and by how it moves between neighbouring frames. The first ``limit`` frames are shown. Only their images are read.
    A sequence whose calibration is damaged, or another's, is left out and told.

    Raises
    ------
    DatasetError
        If a file of boxes holds none of the frames of the raw copy.
    """
    copy = _read_frames(biwi_root, jobs, manifest_file)
    _check_ids(table, "the file under review", copy, biwi_root)
    if against is not None:
        _check_ids(against, "the file to compare with", copy, biwi_root)
    suspicions = judge(copy.frames, copy.boxes, table, against)
    shown, damaged = _show(suspicions, copy, limit, jobs)
    judged = [suspicion for suspicion in suspicions if suspicion.row not in damaged]
    strays = sorted(set(table.ids.tolist()) - {frame.id for frame in copy.frames})
    kinds = Counter(kind for suspicion in judged for kind in suspicion.kinds)
    review = Review(
        frames=len(judged),
        shown=len(shown),
        missing=kinds[MISSING],
        disagreeing=kinds[DISAGREES],
        jumping=kinds[JUMPS],
        undetected=kinds[UNDETECTED],
        checked=sum(suspicion.checked for suspicion in judged),
        strays=len(strays),
        unreadable=sorted([*copy.faults, *damaged.values()], key=str),
    )
    _write_page(out, _page(review, copy.frames, shown, table, strays))
    return review


def _read_frames(root: Path, jobs: int, manifest_file: Path | None) -> _Frames:
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    tasks = [(root, name, groups.get(name, "")) for name in biwi.sequences(root)]
    sequences = run_tasks(project_sequence, tasks, jobs, "Poses")
    return _Frames(
        [frame for sequence in sequences for frame in sequence.frames],
        np.concatenate([np.empty((0, 4)), *(sequence.boxes for sequence in sequences)]),
        {sequence.name: sequence.camera for sequence in sequences if sequence.camera},
        [fault for sequence in sequences for fault in sequence.faults],
    )


def _check_ids(table: BoxTable, name: str, copy: _Frames, root: Path) -> None:
    """Raise DatasetError if a file of boxes, which is not empty, holds none of the frames."""
    if len(table.ids) and not {frame.id for frame in copy.frames} & set(table.ids.tolist()):
        example = copy.frames[0].id if copy.frames else "biwi/01/00003"
        raise DatasetError(
            f"{name} holds no box of the frames in {root}: its ids begin with {str(table.ids[0])[:40]!r}; "
            f"expected ids such as {example}"
        )


def _show(suspicions: list[Suspicion], copy: _Frames, limit: int, jobs: int) -> tuple[list[_Shown], dict[int, Fault]]:
    """Return the first frames whose image can be read, up to a limit, and by row what is wrong with the others."""
    shown: list[_Shown] = []
    damaged: dict[int, Fault] = {}
    start = 0
    # An image that cannot be read makes room for the next one.
    while start < len(suspicions) and len(shown) < limit:
        some = suspicions[start : start + limit - len(shown)]
        start += len(some)
        frames = [copy.frames[suspicion.row] for suspicion in some]
        pictures = [
            _Picture(frame, copy.cameras[frame.sequence], suspicion.box, suspicion.other)
            for frame, suspicion in zip(frames, some, strict=True)
        ]
        chunks = [pictures[i : i + _CHUNK] for i in range(0, len(pictures), _CHUNK)]
        thumbnails = [made for chunk in run_tasks(_thumbnails, chunks, jobs, "Thumbnails") for made in chunk]
        for suspicion, thumbnail in zip(some, thumbnails, strict=True):
            if isinstance(thumbnail, Fault):
                damaged[suspicion.row] = thumbnail
            else:
                shown.append(_Shown(suspicion, thumbnail))
    return shown, damaged


def _region(box: Floats, other: Floats | None, size: tuple[int, int]) -> tuple[int, int, int]:
    """Return the left, top and side of a square, in raw pixels, that holds both boxes and what is around them.

    Of a box far outside the image only the nearer part counts, so that the head stays in sight.
    """
    both = np.stack([box, box if other is None else other])
    reach = np.array(size, np.float64)
    low = np.clip(both[:, :2], -reach / 2, reach * 1.5)
    high = np.clip(both[:, :2] + both[:, 2:], -reach / 2, reach * 1.5)
    side = max(_CONTEXT * float((high - low).max()), 1.2 * float((high.max(axis=0) - low.min(axis=0)).max()), 16.0)
    middle = (high.max(axis=0) + low.min(axis=0)) / 2
    left, top = np.floor(middle - side / 2)
    return int(left), int(top), int(np.ceil(side))


def _thumbnails(pictures: list[_Picture]) -> list[_Thumbnail | Fault]:
    return [_thumbnail(picture) for picture in pictures]


def _thumbnail(picture: _Picture) -> _Thumbnail | Fault:
    width, height = picture.camera.width, picture.camera.height
    left, top, side = region = _region(picture.box, picture.other, (width, height))
    try:
        image = biwi.read_rgb_image(picture.frame.image, picture.camera)[..., :3]
    except ImageError as error:
        return error.fault
    square: Image = np.full((side, side, 3), 72, np.uint8)  # beyond the image it is grey
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x0 < x1 and y0 < y1:
        square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    if side > _THUMBNAIL:
        square = cv2.resize(square, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(square, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))[1]
    return _Thumbnail(region, base64.b64encode(jpeg.tobytes()).decode())


def _whole(box: Floats) -> list[int]:
    """Return a box as :func:`headposeplus.boxes.files.write_boxes` rounds it."""
    return [int(value) for value in np.rint(box)]


def _key(table: BoxTable) -> str:
    """Return a hash of a table, by which a browser knows whose corrections it keeps."""
    rows = zip(table.ids, table.boxes, table.sources, table.checked, strict=True)
    lines = sorted(json.dumps([str(name), _whole(box), str(source), bool(ok)]) for name, box, source, ok in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]


class _Card(msgspec.Struct):
    """A frame, as the page stores it: boxes and the thumbnail's region in raw pixels."""

    id: str
    box: list[int]
    source: str
    checked: bool
    other: list[int] | None
    reasons: tuple[Reason, ...]
    region: tuple[int, int, int]
    jpeg: str


class _Page(msgspec.Struct):
    """What a page stores: the file's format, for what it saves; how many frames of which kind there are; the cards."""

    key: str
    first_line: str
    columns: list[str]
    corrected: str
    largest: int
    counts: dict[str, int]
    unreadable: list[str]
    strays: list[str]
    cards: list[_Card]


def _page(review: Review, frames: list[biwi.Frame], shown: list[_Shown], table: BoxTable, strays: list[str]) -> _Page:
    cards = [
        _Card(
            id=frames[suspicion.row].id,
            box=_whole(suspicion.box),
            source=suspicion.source,
            checked=suspicion.checked,
            other=None if suspicion.other is None else _whole(suspicion.other),
            reasons=suspicion.reasons,
            region=thumbnail.region,
            jpeg=thumbnail.jpeg,
        )
        for suspicion, thumbnail in shown
    ]
    return _Page(
        key=_key(table),
        first_line=FIRST_LINE,
        columns=[*COLUMNS, "source", "checked"],
        corrected=CORRECTED,
        largest=LARGEST,
        counts=review._asdict() | {"unreadable": len(review.unreadable)},
        unreadable=[str(fault) for fault in review.unreadable[:_TOLD]],
        strays=strays[:_TOLD],
        cards=cards,
    )


def _write_page(out: Path, page: _Page) -> None:
    template = (resources.files("headposeplus.boxes") / "review.html").read_text(encoding="utf-8")
    # The page runs this one script and nothing else, whatever the strings in its data hold.
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # In ASCII, so U+2028 and U+2029 are escaped as well.
    text = json.dumps(msgspec.to_builtins(page), separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    head, _, tail = template.replace("{{script}}", f"'sha256-{digest}'").partition("{{data}}")
    write_text(out, head + text + tail)
