"""Which boxes are suspect: missing, at odds with another file, or jumping."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.boxes.formats import NOT_DETECTED
from headposeplus.boxes.geometry import PROJECTED, BoxTable, iou, projected
from headposeplus.errors import RawDataError
from headposeplus.faults import Fault
from headposeplus.raw import biwi
from headposeplus.rotations import Floats

# What a card is filed under; the page has a filter for each.
MISSING, DISAGREES, JUMPS, UNDETECTED = "missing", "disagrees", "jumps", "undetected"
# An overlap below this is told as a disagreement, as in :func:`headposeplus.boxes.compare.compare_boxes`.
DISAGREEMENT = 0.5
# A box that moves by more than this against the projection, in its widths, jumps. The published boxes come from a
# detector whose sizes go in steps of a fifth, which is no jump.
JUMP = 0.25
NEIGHBOURS = 3  # frame numbers have gaps: frames further apart are no neighbours
_MISSING_SCORE = 2.0  # above every other
_SUSPECT_SCORE = 0.5  # where an overlap, a jump or a frame without a detection begins to be suspect


class Projection(NamedTuple):
    """The frames of a sequence whose pose can be read, their projected boxes (n, 4), and what is wrong with the rest.

    ``camera`` is None where it cannot be read: there are no frames then.
    """

    name: str
    camera: biwi.Calibration | None
    frames: list[biwi.Frame]
    boxes: Floats
    faults: list[Fault]


class Reason(NamedTuple):
    """Why a frame is suspect: a kind, under which the page files it, or "" for a mere fact; and words."""

    kind: str
    words: str


class Suspicion(NamedTuple):
    """How suspect a frame's box is, and why.

    ``row`` is the frame's row, ``box`` (4,) its box or, where it has none, the projected one, ``other`` (4,) what it
    was compared with, if anything, and ``score`` how suspect it is: 0 is not at all.
    """

    row: int
    score: float
    checked: bool
    box: Floats
    source: str
    other: Floats | None
    reasons: tuple[Reason, ...]

    @property
    def kinds(self) -> set[str]:
        """The kinds of its reasons."""
        return {reason.kind for reason in self.reasons if reason.kind}


class _Detected(NamedTuple):
    """What the file to compare with says of a frame: the source, "" if it has none, and a box, if a face was found."""

    source: str = ""
    box: Floats | None = None


class _Jump(NamedTuple):
    """How far a box jumps, in widths, and the same in words."""

    size: float
    words: str


def project_sequence(task: tuple[Path, str, str]) -> Projection:
    """Return the projected boxes of a sequence, given as the root, its name and its calibration group."""
    root, name, group = task
    try:
        sequence = biwi.open_sequence(root, name, group)
    except RawDataError as error:
        return Projection(name, None, [], np.zeros((0, 4)), [error.fault])
    frames, boxes, faults = [], [], list(sequence.faults)
    for frame, pose in sequence.poses():
        if isinstance(pose, Fault):
            faults.append(pose)
        else:
            frames.append(frame)
            boxes.append(projected(pose, sequence.camera))
    return Projection(name, sequence.camera, frames, np.array(boxes).reshape(-1, 4), faults)


def judge(frames: list[biwi.Frame], projections: Floats, table: BoxTable, against: BoxTable | None) -> list[Suspicion]:
    """Return a suspicion for each frame, worst first, those already checked by hand last.

    The score is the largest of 1 - IoU, twice the jump in widths (up to 1), and a half where a detector found
    nothing; a frame without a box comes before all others. Equal scores keep the order of the frames.
    """
    ids = np.array([frame.id for frame in frames], dtype=str)
    mine = table.positions(ids)
    theirs = against.positions(ids) if against is not None else np.full(len(ids), -1)
    held = np.where((mine >= 0)[:, None], table.boxes[mine] if len(table.ids) else projections, projections)
    jumps = _jumps(frames, held, projections, mine >= 0)
    suspicions = []
    for row, (in_table, in_against) in enumerate(zip(mine, theirs, strict=True)):
        detected = _detected(against, in_against) if against is not None and in_against >= 0 else _Detected()
        if in_table < 0:
            suspicion = _judge_missing(row, projections[row], detected)
        else:
            source, checked = str(table.sources[in_table]), bool(table.checked[in_table])
            other = projections[row] if detected.box is None else detected.box
            name = "the projection" if detected.box is None else detected.source
            suspicion = _judge_overlap(Suspicion(row, 0.0, checked, held[row], source, other, ()), other, name)
            suspicion = _judge_jump(suspicion, jumps.get(row))
        suspicions.append(_judge_detection(suspicion, detected))
    return sorted(suspicions, key=lambda suspicion: (suspicion.checked, -suspicion.score, suspicion.row))


def _detected(against: BoxTable, row: int) -> _Detected:
    source = str(against.sources[row])
    return _Detected(source, against.boxes[row] if source != NOT_DETECTED else None)


def _judge_missing(row: int, projection: Floats, detected: _Detected) -> Suspicion:
    reasons = [Reason(MISSING, "no box: the projection is proposed")]
    if detected.box is not None:
        reasons.append(Reason("", f"dashed: {detected.source}"))
    return Suspicion(row, _MISSING_SCORE, False, projection, PROJECTED, detected.box, tuple(reasons))


def _judge_overlap(suspicion: Suspicion, other: Floats, name: str) -> Suspicion:
    overlap = float(iou(suspicion.box, other))
    reason = Reason(DISAGREES if overlap < DISAGREEMENT else "", f"IoU {overlap:.2f} with {name}")
    return suspicion._replace(score=1 - overlap, reasons=(*suspicion.reasons, reason))


def _judge_jump(suspicion: Suspicion, jump: _Jump | None) -> Suspicion:
    if jump is None:
        return suspicion
    score = max(suspicion.score, min(jump.size * _SUSPECT_SCORE / JUMP, 1.0))
    return suspicion._replace(score=score, reasons=(*suspicion.reasons, Reason(JUMPS, jump.words)))


def _judge_detection(suspicion: Suspicion, detected: _Detected) -> Suspicion:
    reasons = [*suspicion.reasons]
    if detected.source == NOT_DETECTED:
        reasons.append(Reason(UNDETECTED, "the other file's detector found no face"))
    if suspicion.source == NOT_DETECTED:
        reasons.append(Reason(UNDETECTED, "its detector found no face: this is the projection"))
    if len(reasons) == len(suspicion.reasons):
        return suspicion
    return suspicion._replace(score=max(suspicion.score, _SUSPECT_SCORE), reasons=tuple(reasons))


def _jumps(frames: list[biwi.Frame], held: Floats, projections: Floats, known: np.ndarray) -> dict[int, _Jump]:
    """Return the jumps of boxes (n, 4) by row; ``known`` (n,) says which boxes count.

    A jump is how much more a box moves, or changes its width, than the projection does between two neighbouring
    frames. It is put down to the one of the two that also jumps at its other side, else to both.
    """
    rows = np.flatnonzero(known)
    first, second = rows[:-1], rows[1:]
    close = np.array([_neighbours(frames[i], frames[j]) for i, j in zip(first, second, strict=True)], dtype=bool)
    offsets = held[:, :2] + held[:, 2:] / 2 - projections[:, :2] - projections[:, 2:] / 2
    ratios = np.log(held[:, 2] / projections[:, 2])
    moved = np.linalg.norm(offsets[second] - offsets[first], axis=1) / np.sqrt(held[first, 2] * held[second, 2])
    grown = ratios[second] - ratios[first]
    sizes = np.where(close, np.maximum(moved, np.abs(grown)), 0)
    large = np.concatenate(([False], sizes > JUMP, [False]))
    jumps: dict[int, _Jump] = {}
    for k in np.flatnonzero(sizes > JUMP):
        pair, size = (int(first[k]), int(second[k])), float(sizes[k])
        elsewhere = (bool(large[k]), bool(large[k + 2]))
        for side in (0, 1):
            before = jumps.get(pair[side])
            if (elsewhere[1 - side] and not elsewhere[side]) or (before is not None and before.size >= size):
                continue
            number = f"{frames[pair[1 - side]].number:05d}"
            if moved[k] >= abs(grown[k]):
                words = f"jumps {moved[k]:.1f} widths from {number}"
            else:
                times = np.exp(grown[k] if side else -grown[k])
                words = f"{times:.1f} times as wide as in {number}"
            jumps[pair[side]] = _Jump(size, words)
    return jumps


def _neighbours(first: biwi.Frame, second: biwi.Frame) -> bool:
    return first.sequence == second.sequence and second.number - first.number <= NEIGHBOURS
