"""A page on which a person reviews the face boxes of raw Biwi frames, worst first, and saves corrections.

The page is one HTML file that asks for nothing from outside. What it saves is a CSV that
:func:`headposeplus.boxes.files.read` reads and :func:`headposeplus.boxes.files.correct` applies.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from headposeplus.boxes import files as box_files
from headposeplus.boxes.geometry import BoxTable
from headposeplus.boxes.suspects import DISAGREES, JUMPS, MISSING, UNDETECTED, Finding, judge, project
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
    frame: biwi.Frame
    camera: biwi.Calibration
    box: Floats
    other: Floats | None


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
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    tasks = [(biwi_root, name, groups.get(name, "")) for name in biwi.sequences(biwi_root)]
    opened = run_tasks(project, tasks, jobs, "Poses")
    frames = [frame for sequence in opened for frame in sequence.frames]
    projected = np.concatenate([np.empty((0, 4)), *(sequence.boxes for sequence in opened)])
    faults = [fault for sequence in opened for fault in sequence.faults]
    for given, what in ((table, "the file under review"), (against, "the file to compare with")):
        if given is not None and len(given.ids) and not {frame.id for frame in frames} & set(given.ids.tolist()):
            raise DatasetError(
                f"{what} holds no box of the frames in {biwi_root}: its ids begin with {str(given.ids[0])[:40]!r}; "
                f"expected ids such as {frames[0].id if frames else 'biwi/01/00003'}"
            )
    findings = judge(frames, projected, table, against)
    cameras = {sequence.name: sequence.camera for sequence in opened if sequence.camera}
    shown: list[tuple[Finding, _Thumbnail]] = []
    damaged: set[int] = set()
    at = 0
    # An image that cannot be read makes room for the next one.
    while at < len(findings) and len(shown) < limit:
        few = findings[at : at + limit - len(shown)]
        at += len(few)
        pictures = [_Picture(frames[f.row], cameras[frames[f.row].sequence], f.box, f.other) for f in few]
        chunks = [pictures[i : i + _CHUNK] for i in range(0, len(pictures), _CHUNK)]
        thumbnails = [made for chunk in run_tasks(_thumbnails, chunks, jobs, "Thumbnails") for made in chunk]
        for finding, thumbnail in zip(few, thumbnails, strict=True):
            if isinstance(thumbnail, Fault):
                faults.append(thumbnail)
                damaged.add(finding.row)
            else:
                shown.append((finding, thumbnail))
    judged = [finding for finding in findings if finding.row not in damaged]
    strays = sorted(set(table.ids.tolist()) - {frame.id for frame in frames})
    kinds = [kind for finding in judged for kind in finding.kinds]
    review = Review(
        len(judged), len(shown), kinds.count(MISSING), kinds.count(DISAGREES), kinds.count(JUMPS),
        kinds.count(UNDETECTED), sum(finding.checked for finding in judged), len(strays), sorted(faults, key=str),
    )  # fmt: skip
    _write_page(out, _content(review, frames, shown, table, strays))
    return review


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
    """Return a box as :func:`headposeplus.boxes.files.write` rounds it."""
    return [int(value) for value in np.rint(box)]


def _key(table: BoxTable) -> str:
    """Return a hash of a table, by which a browser knows whose corrections it keeps."""
    rows = zip(table.ids, table.boxes, table.sources, table.checked, strict=True)
    lines = sorted(json.dumps([str(name), _whole(box), str(source), bool(ok)]) for name, box, source, ok in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]


def _content(
    review: Review, frames: list[biwi.Frame], shown: list[tuple[Finding, _Thumbnail]], table: BoxTable,
    strays: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Return what the page shows, as it is stored in it."""
    cards = [
        {
            "id": frames[finding.row].id,
            "box": _whole(finding.box),
            "source": finding.source,
            "checked": finding.checked,
            "other": None if finding.other is None else _whole(finding.other),
            "reasons": finding.reasons,
            "region": thumbnail.region,
            "jpeg": thumbnail.jpeg,
        }
        for finding, thumbnail in shown
    ]
    return {
        "key": _key(table),
        "first_line": box_files.FIRST_LINE,
        "columns": [*box_files.COLUMNS, "source", "checked"],
        "corrected": box_files.CORRECTED,
        "largest": box_files.LARGEST,
        "counts": review._replace(unreadable=[])._asdict() | {"unreadable": len(review.unreadable)},
        "unreadable": [str(fault) for fault in review.unreadable[:_TOLD]],
        "strays": strays[:_TOLD],
        "cards": cards,
    }


def _write_page(out: Path, content: dict[str, Any]) -> None:
    template = (resources.files("headposeplus.boxes") / "review.html").read_text(encoding="utf-8")
    # The page runs this one script and nothing else, whatever the strings in its data hold.
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = json.dumps(content, separators=(",", ":"))  # in ASCII, so U+2028 and U+2029 are escaped as well
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    head, _, tail = template.replace("{{script}}", f"'sha256-{digest}'").partition("{{data}}")
    write_text(out, head + text + tail)
