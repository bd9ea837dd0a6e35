"""Where the rendered heads are in their images: as the copy says, or by a ball fitted to each."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.boxes import geometry
from headposeplus.build.match import visible
from headposeplus.build.record import recorded
from headposeplus.errors import DatasetError, ImageError, RawDataError
from headposeplus.faults import Fault
from headposeplus.images import inscribed_circle
from headposeplus.raw import synhead
from headposeplus.raw.synhead import HEAD_PLACES, HeadPlace, read_head
from headposeplus.rotations import EulerOrder, Floats, to_matrix
from headposeplus.tasks import run_tasks

OUTLINE = "outline"  # the source of a box that follows from the outlines of the head's images
HEAD_BALLS = "head_balls.json"
BALL_IMAGES = 48  # images of a head from which its ball is fitted


class BallWork(NamedTuple):
    """Some images of a head in the copy at ``root``, and their poses (n, 3, 3), from which its ball is fitted."""

    root: Path
    head: str
    images: list[Path]
    poses: Floats


def fit_ball(work: BallWork) -> geometry.HeadBall:
    """Fit the ball of one head; raises RawDataError if too few of its images show it."""
    if not work.images:
        raise RawDataError(Fault(f"no image of {work.head} shows its face", file=work.root))
    middles, radii, rotations = [], [], []
    for path, pose in zip(work.images, work.poses, strict=True):
        try:
            middle, radius = inscribed_circle(read_head(path))
        except ImageError:
            continue  # the build lists it
        middles.append(middle)
        radii.append(radius)
        rotations.append(pose)
    if len(middles) < 3:
        raise RawDataError(Fault(f"fewer than three readable images of {work.head}", file=work.root))
    return geometry.fit_ball(np.array(middles), np.array(radii), np.array(rotations))


def _ball_work(copy: synhead.Copy, head: str, order: EulerOrder, margin: float) -> BallWork:
    """Return some of the images of a head that show its face, spread over all its tracks."""
    tracks = copy.tracks_of(head)
    poses = np.concatenate([to_matrix(angles, order) for angles in tracks.values()])
    paths = [path for track in tracks for path in copy.paths(track, head)]
    seen = np.flatnonzero(visible(poses, margin))
    chosen = seen[np.unique(np.linspace(0, len(seen) - 1, BALL_IMAGES).astype(int))] if len(seen) else seen
    return BallWork(copy.root, head, [paths[i] for i in chosen], poses[chosen])


class HeadPlaces(NamedTuple):
    """Where each head is in its images, and how it is known: the source of the boxes that follow."""

    of: dict[str, HeadPlace]
    source: str


def head_places(
    copy: synhead.Copy, out: Path, order: EulerOrder, margin: float, executor: int | Executor, keep: bool
) -> HeadPlaces:
    """Return where each head is: as the copy says, as recorded in ``out``, or found and, to keep, recorded there.

    Raises
    ------
    RawDataError
        If the copy says it of some heads only, or too few images of a head show it.
    """
    said = synhead.read_head_places(copy.root)
    if said is None:
        balls = _head_balls(copy, out, order, margin, executor, keep)
        return HeadPlaces({head: geometry.place_of(ball) for head, ball in balls.items()}, OUTLINE)
    lacking = [head for head in copy.heads if head not in said]
    if lacking:
        what = f"no row of {', '.join(lacking)}"
        raise RawDataError(Fault(what, "add it, or delete the file to have the heads found", copy.root / HEAD_PLACES))
    return HeadPlaces({head: said[head] for head in copy.heads}, geometry.PROJECTED)


def balls_of(
    copy: synhead.Copy, order: EulerOrder, margin: float, executor: int | Executor
) -> dict[str, geometry.HeadBall]:
    """Return the ball of each head, fitted; raises RawDataError if too few of a head's images show it."""
    work = [_ball_work(copy, head, order, margin) for head in copy.heads]
    return dict(zip(copy.heads, run_tasks(fit_ball, work, executor, "where the heads are"), strict=True))


def _head_balls(
    copy: synhead.Copy, out: Path, order: EulerOrder, margin: float, executor: int | Executor, keep: bool
) -> dict[str, geometry.HeadBall]:
    """Return the ball of each head: as recorded in ``out``, or fitted and, to keep, recorded there."""

    def fit() -> dict[str, dict[str, list[float] | float]]:
        return {head: _rounded(ball) for head, ball in balls_of(copy, order, margin, executor).items()}

    key = [copy.fingerprint(copy.tracks, copy.heads), str(order), margin]
    path = out / "synhead+" / HEAD_BALLS
    stored = recorded(path, key, fit, keep)
    try:
        return {
            head: geometry.HeadBall(np.array(b["pivot"]), np.array(b["ball"]), b["radius"], b["spread"])
            for head, b in stored.items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise DatasetError(Fault("not where the heads are", "delete it and build again", path)) from error


def _rounded(ball: geometry.HeadBall) -> dict[str, list[float] | float]:
    """Return a ball as plain values."""
    return {name: np.round(value, 4).tolist() for name, value in ball._asdict().items()}
