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
from headposeplus.boxes import geometry
from headposeplus.boxes.geometry import BoxTable
from headposeplus.errors import DatasetError, ImageError, RawDataError
from headposeplus.files import run_tasks, write_text
from headposeplus.images import Image
from headposeplus.raw import biwi
from headposeplus.rotations import Floats

# What a card is filed under; the page has a filter for each.
MISSING, DISAGREES, JUMPS, UNDETECTED = "missing", "disagrees", "jumps", "undetected"
# An overlap below this is told as a disagreement, as in :func:`headposeplus.boxes.files.compare`.
DISAGREEMENT = 0.5
# A box that moves by more than this against the projection, in its widths, jumps. The published boxes come from a
# detector whose sizes go in steps of a fifth, which is no jump.
JUMP = 0.25
NEIGHBOURS = 3  # frame numbers have gaps: frames further apart are no neighbours
_MISSING_SCORE = 2.0  # above every other
_SUSPECT_SCORE = 0.5  # where an overlap, a jump or a frame without a detection begins to be suspect
_THUMBNAIL = 240  # pixels
_QUALITY = 80  # of the JPEG
_CONTEXT = 2.0  # the surroundings' side, in sides of the box
_CHUNK = 32  # thumbnails that a task makes
_TOLD = 100  # lines of a list that the page holds; it says how many there are in all


class Review(NamedTuple):
    """What a page holds. Counts are of frames; ``unreadable`` has a line for each that cannot be shown.

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
    unreadable: list[str]


class Sequence(NamedTuple):
    """The frames of a sequence whose pose can be read, their projected boxes (n, 4), and lines on the rest."""

    frames: list[biwi.Frame]
    projected: Floats
    faults: list[str]


class Finding(NamedTuple):
    """Why a frame is where it is in the order.

    ``row`` is the frame's row, ``box`` (4,) its box or, where it has none, the projected one, ``other`` (4,) what it
    was compared with, if anything, and ``score`` how suspect it is: 0 is not at all. ``reasons`` are pairs of a kind,
    under which the page files it ("" for a mere fact), and words.
    """

    row: int
    score: float
    checked: bool
    box: Floats
    source: str
    other: Floats | None
    reasons: tuple[tuple[str, str], ...]

    @property
    def kinds(self) -> set[str]:
        """The kinds of its reasons."""
        return {kind for kind, _ in self.reasons if kind}


class _Thumbnail(NamedTuple):
    """A frame's surroundings: their left, top and side in raw pixels, and a JPEG in base64, or what is wrong."""

    region: tuple[int, int, int]
    jpeg: str
    fault: str = ""


class _Picture(NamedTuple):
    frame: biwi.Frame
    camera: biwi.Calibration
    box: Floats
    other: Floats | None


def write_review(
    table: BoxTable, biwi_root: Path, out: Path, against: BoxTable | None = None, limit: int = 500, jobs: int = 1
) -> Review:
    """Write a page on which the boxes of a raw Biwi copy are reviewed, worst first; return what it holds.

    A frame's box is judged by its overlap with ``against``'s, or with the head's projection where that holds none,
    and by how it moves between neighbouring frames. The first ``limit`` frames are shown. Only their images are read.

    Raises
    ------
    RawDataError
        If a sequence has no readable calibration.
    DatasetError
        If a file of boxes holds none of the frames of the raw copy.
    """
    names = biwi.sequences(biwi_root)
    found = run_tasks(read_sequence, [(biwi_root, name) for name in names], jobs, "Poses")
    frames = [frame for sequence in found for frame in sequence.frames]
    projected = np.concatenate([np.empty((0, 4)), *(sequence.projected for sequence in found)])
    faults = [fault for sequence in found for fault in sequence.faults]
    for given, what in ((table, "the file under review"), (against, "the file to compare with")):
        if given is not None and len(given.ids) and not {frame.id for frame in frames} & set(given.ids.tolist()):
            raise DatasetError(
                f"{what} holds no box of the frames in {biwi_root}: its ids begin with {str(given.ids[0])[:40]!r}; "
                f"expected ids such as {frames[0].id if frames else 'biwi/01/00003'}"
            )
    findings = judge(frames, projected, table, against)
    cameras = {name: biwi.read_calibration(biwi_root / name / "rgb.cal") for name in names}
    shown: list[tuple[Finding, _Thumbnail]] = []
    damaged: set[int] = set()
    at = 0
    # An image that cannot be read makes room for the next one.
    while at < len(findings) and len(shown) < limit:
        few = findings[at : at + limit - len(shown)]
        at += len(few)
        pictures = [_Picture(frames[f.row], cameras[frames[f.row].sequence], f.box, f.other) for f in few]
        chunks = [pictures[i : i + _CHUNK] for i in range(0, len(pictures), _CHUNK)]
        thumbnails = [one for chunk in run_tasks(_thumbnails, chunks, jobs, "Thumbnails") for one in chunk]
        shown += [pair for pair in zip(few, thumbnails, strict=True) if not pair[1].fault]
        faults += [one.fault for one in thumbnails if one.fault]
        damaged |= {f.row for f, one in zip(few, thumbnails, strict=True) if one.fault}
    judged = [finding for finding in findings if finding.row not in damaged]
    strays = sorted(set(table.ids.tolist()) - {frame.id for frame in frames})
    kinds = [kind for finding in judged for kind in finding.kinds]
    review = Review(
        len(judged), len(shown), kinds.count(MISSING), kinds.count(DISAGREES), kinds.count(JUMPS),
        kinds.count(UNDETECTED), sum(finding.checked for finding in judged), len(strays), sorted(faults),
    )  # fmt: skip
    _write_page(out, _content(review, frames, shown, table, strays))
    return review


def read_sequence(task: tuple[Path, str]) -> Sequence:
    """Return the frames of a sequence, given as the root and its name, with their projected boxes."""
    root, name = task
    complete, faults = biwi.frames(root, name)
    camera = biwi.read_calibration(root / name / "rgb.cal")
    frames, projected = [], []
    for frame in complete:
        try:
            pose = biwi.read_rgb_pose(frame.pose, camera)
        except RawDataError as error:
            faults.append(str(error))
            continue
        frames.append(frame)
        projected.append(geometry.projected(pose.centre, camera))
    return Sequence(frames, np.array(projected).reshape(len(frames), 4), faults)


def judge(frames: list[biwi.Frame], projected: Floats, table: BoxTable, against: BoxTable | None) -> list[Finding]:
    """Return a finding for each frame, worst first, those already checked by hand last.

    The score is the largest of 1 - IoU, twice the jump in widths (up to 1), and a half where a detector found
    nothing; a frame without a box comes before all others. Equal scores keep the order of the frames.
    """
    ids = np.array([frame.id for frame in frames], dtype=str)
    mine = box_files.positions(table, ids)
    theirs = box_files.positions(against, ids) if against is not None else np.full(len(ids), -1)
    held = np.where((mine >= 0)[:, None], table.boxes[mine] if len(table.ids) else projected, projected)
    jumps = _jumps(frames, held, projected, mine >= 0)
    findings = []
    for row, (in_table, in_against) in enumerate(zip(mine, theirs, strict=True)):
        detected, name = None, ""
        if against is not None and in_against >= 0:
            name = str(against.sources[in_against])
            detected = against.boxes[in_against] if name != box_files.NOT_DETECTED else None
        reasons = []
        if in_table < 0:
            source, checked, score, other = geometry.PROJECTED, False, _MISSING_SCORE, detected
            reasons.append((MISSING, "no box: the projection is proposed"))
            if detected is not None:
                reasons.append(("", f"dashed: {name}"))
        else:
            source, checked = str(table.sources[in_table]), bool(table.checked[in_table])
            other = detected if detected is not None else projected[row]
            overlap = float(geometry.iou(held[row], other))
            score = 1 - overlap
            kind = DISAGREES if overlap < DISAGREEMENT else ""
            reasons.append((kind, f"IoU {overlap:.2f} with {name if detected is not None else 'the projection'}"))
            if row in jumps:
                jump, words = jumps[row]
                score = max(score, min(jump * _SUSPECT_SCORE / JUMP, 1.0))
                reasons.append((JUMPS, words))
        if name == box_files.NOT_DETECTED:
            reasons.append((UNDETECTED, "the other file's detector found no face"))
        if source == box_files.NOT_DETECTED:
            reasons.append((UNDETECTED, "its detector found no face: this is the projection"))
        if box_files.NOT_DETECTED in (name, source):
            score = max(score, _SUSPECT_SCORE)
        findings.append(Finding(row, score, checked, held[row], source, other, tuple(reasons)))
    return sorted(findings, key=lambda finding: (finding.checked, -finding.score, finding.row))


def _jumps(
    frames: list[biwi.Frame], held: Floats, projected: Floats, known: np.ndarray
) -> dict[int, tuple[float, str]]:
    """Return how far boxes (n, 4) jump, in widths, and the same in words, by row; ``known`` (n,) says which count.

    A jump is how much more a box moves, or changes its width, than the projection does between two neighbouring
    frames. It is put down to the one of the two that also jumps at its other side, else to both.
    """
    rows = np.flatnonzero(known)
    first, second = rows[:-1], rows[1:]
    close = np.array([
        frames[i].sequence == frames[j].sequence and frames[j].number - frames[i].number <= NEIGHBOURS
        for i, j in zip(first, second, strict=True)
    ], dtype=bool)  # fmt: skip
    offsets = held[:, :2] + held[:, 2:] / 2 - projected[:, :2] - projected[:, 2:] / 2
    ratios = np.log(held[:, 2] / projected[:, 2])
    moved = np.linalg.norm(offsets[second] - offsets[first], axis=1) / np.sqrt(held[first, 2] * held[second, 2])
    grown = ratios[second] - ratios[first]
    sizes = np.where(close, np.maximum(moved, np.abs(grown)), 0)
    large = np.concatenate(([False], sizes > JUMP, [False]))
    found: dict[int, tuple[float, str]] = {}
    for k in np.flatnonzero(sizes > JUMP):
        pair, size = (int(first[k]), int(second[k])), float(sizes[k])
        elsewhere = (bool(large[k]), bool(large[k + 2]))
        for side in (0, 1):
            if (elsewhere[1 - side] and not elsewhere[side]) or found.get(pair[side], (0.0,))[0] >= size:
                continue
            number = f"{frames[pair[1 - side]].number:05d}"
            if moved[k] >= abs(grown[k]):
                words = f"jumps {moved[k]:.1f} widths from {number}"
            else:
                times = np.exp(grown[k] if side else -grown[k])
                words = f"{times:.1f} times as wide as in {number}"
            found[pair[side]] = size, words
    return found


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


def _thumbnails(pictures: list[_Picture]) -> list[_Thumbnail]:
    return [_thumbnail(picture) for picture in pictures]


def _thumbnail(picture: _Picture) -> _Thumbnail:
    width, height = picture.camera.width, picture.camera.height
    left, top, side = region = _region(picture.box, picture.other, (width, height))
    try:
        image = biwi.read_rgb_image(picture.frame.image, picture.camera)[..., :3]
    except ImageError as error:
        return _Thumbnail(region, "", str(error))
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
        "unreadable": review.unreadable[:_TOLD],
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
