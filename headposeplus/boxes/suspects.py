"""Which boxes are suspect: missing, at odds with another file, or jumping."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.boxes import files as box_files
from headposeplus.boxes import geometry
from headposeplus.boxes.geometry import BoxTable
from headposeplus.errors import RawDataError
from headposeplus.faults import Fault
from headposeplus.raw import biwi
from headposeplus.rotations import Floats

# What a card is filed under; the page has a filter for each.
MISSING, DISAGREES, JUMPS, UNDETECTED = "missing", "disagrees", "jumps", "undetected"
# An overlap below this is told as a disagreement, as in :func:`headposeplus.boxes.compare.compare`.
DISAGREEMENT = 0.5
# A box that moves by more than this against the projection, in its widths, jumps. The published boxes come from a
# detector whose sizes go in steps of a fifth, which is no jump.
JUMP = 0.25
NEIGHBOURS = 3  # frame numbers have gaps: frames further apart are no neighbours
_MISSING_SCORE = 2.0  # above every other
_SUSPECT_SCORE = 0.5  # where an overlap, a jump or a frame without a detection begins to be suspect


class Projected(NamedTuple):
    """The frames of a sequence whose pose can be read, their projected boxes (n, 4), and what is wrong with the rest.

    ``camera`` is None where it cannot be read: there are no frames then.
    """

    name: str
    camera: biwi.Calibration | None
    frames: list[biwi.Frame]
    boxes: Floats
    faults: list[Fault]


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


def project(task: tuple[Path, str, str]) -> Projected:
    """Return the projected boxes of a sequence, given as the root, its name and its calibration group."""
    root, name, group = task
    try:
        sequence = biwi.open_sequence(root, name, group)
    except RawDataError as error:
        return Projected(name, None, [], np.zeros((0, 4)), [error.fault])
    frames, projected, faults = [], [], list(sequence.faults)
    for frame, pose in sequence.poses():
        if isinstance(pose, Fault):
            faults.append(pose)
        else:
            frames.append(frame)
            projected.append(geometry.projected(pose.centre, sequence.camera))
    return Projected(name, sequence.camera, frames, np.array(projected).reshape(-1, 4), faults)


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
