"""In which order of axes, and with which signs, were SynHead's heads rendered? Inferred from the pixels.

Take two images of one head at neighbouring poses. Each order predicts, from the two rows of angles, by which
rotation the head moved between them. A head is nearly a ball, so that rotation can be drawn: the texture of
one image is turned on a ball and compared with the other. All orders are judged on the same pairs, those on
which they disagree the most, and the true one has the lowest error by far.

Pairs that differ by an in-plane rotation alone would be simpler to compare, but where roll acts last (as in
``xyz`` and ``yxz``) they hold no trace of the order of pitch and yaw, nor of their signs.
"""

from __future__ import annotations

import functools
import itertools
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np
from scipy.spatial import cKDTree

from headposeplus import tables
from headposeplus.errors import ImageError, OrderError, RawDataError
from headposeplus.faults import Fault, said
from headposeplus.images import crop, crop_matrix, foreground, inscribed_circle, read_rendered, square
from headposeplus.raw import biwi, synhead
from headposeplus.raw.biwi import Rotations
from headposeplus.rotations import ALL_ORDERS, ANGLES, EulerOrder, Floats, euler_order, from_matrix, geodesic, to_matrix
from headposeplus.tasks import run_tasks

POSES = 8000  # poses that pairs are sought among; more take longer and find the same
PAIRS = 480  # pairs of poses compared
IMAGES = 960  # pairs of images compared: where poses are few, several heads show each pair of them
MIN_PAIRS = 24
NEAREST, FARTHEST = 5.0, 18.0  # degrees, as distance of the rows of angles of a pair
STEEPEST = np.array([55.0, 60.0, 60.0])  # poses beyond these show little of the face
MIN_MARGIN = 3.0  # standard errors by which the best order must beat the next
MIN_DISAGREEMENT = 0.5  # degrees; orders that agree better than this cannot be told apart
SIZE = 64  # pixels a side of the compared patch
_AT_ONCE = 8  # orders that are drawn at once: all 48 take three times as long, their points leave a core's cache
_BY_HAND = "give it to the build with `render_order` (such as xyz+++)"
_TASK = 40  # pairs of images that a worker compares at a time
BALL = 1.15  # radius of the ball in units of the largest circle that fits into the head's outline

# Built from the six orders of axes with all signs positive: how far they disagree does not depend on signs.
_AXES = [order for order in ALL_ORDERS if order.signs == (1, 1, 1)]


class Candidate(msgspec.Struct, frozen=True):
    """What one order scored.

    Attributes
    ----------
    written
        The order, such as ``xyz+++``.
    error
        Its mean error: 0 identical, 1 unrelated.
    behind
        By how much it lost to the best candidate, in standard errors; 0 for the best itself.
    """

    written: str = msgspec.field(name="order")
    error: float
    behind: float

    @property
    def order(self) -> EulerOrder:
        """The order of axes and the signs."""
        return euler_order(self.written)


class OrderReport(msgspec.Struct, frozen=True):
    """The inferred order, all candidates by error, the margin in standard errors, and how many images were compared.

    ``biwi`` says how the columns of the ``BIWI`` tracks follow Biwi's own angles, where Biwi was given.
    """

    written: str = msgspec.field(name="order")
    candidates: list[Candidate]
    margin: float
    pairs: int
    biwi: str

    @property
    def order(self) -> EulerOrder:
        """The order of axes and the signs."""
        return euler_order(self.written)


def to_json(report: OrderReport) -> dict[str, object]:
    """Return a report as plain values."""
    content: dict[str, object] = msgspec.to_builtins(report)
    return content


def from_json(content: object, path: Path) -> OrderReport:
    """Return the report that :func:`to_json` wrote to ``path``; raises OrderError if it is none."""
    try:
        return msgspec.convert(content, OrderReport)
    except msgspec.ValidationError as error:
        what = f"no report of a rendering order: {said(error, 200)}"
        raise OrderError(Fault(what, "delete it and build again", path)) from error


class _Poses(NamedTuple):
    """Poses of some heads: the angles (n, 3), and each head's images of them, n."""

    angles: Floats
    images: dict[str, list[Path]]


class _Comparison(NamedTuple):
    """Pairs of images, and what each order says of them."""

    first: list[Path]
    second: list[Path]
    rotations: Floats  # (pairs, orders, 3, 3): from the first pose to the second, in the camera's frame


def _pose_pairs(angles: Floats, rng: np.random.Generator) -> np.ndarray:
    """Return pairs (n, 2) of neighbouring poses, those on which the orders of axes disagree the most first."""
    usable = np.flatnonzero((np.abs(angles) < STEEPEST).all(axis=1))
    usable = rng.permutation(usable)[:POSES]
    if len(usable) < 2:
        return np.zeros((0, 2), int)
    near = min(32, len(usable))
    distances, others = cKDTree(angles[usable]).query(angles[usable], k=near, distance_upper_bound=FARTHEST)
    distance, other, first = distances.ravel(), others.ravel(), np.repeat(np.arange(len(usable)), near)
    wanted = np.isfinite(distance) & (distance > NEAREST) & (first < other)
    pairs = usable[np.column_stack((first[wanted], other[wanted]))]
    if not len(pairs):
        return pairs
    moves = [_moves(angles, pairs, order) for order in _AXES]
    apart = np.stack([geodesic(a, b) for a, b in itertools.combinations(moves, 2)])
    disagreement = np.median(apart, axis=0)
    ranked = np.argsort(-disagreement, kind="stable")
    return pairs[ranked][disagreement[ranked] > MIN_DISAGREEMENT][:PAIRS]


def _moves(angles: Floats, pairs: np.ndarray, order: EulerOrder) -> Floats:
    """Return the rotations (n, 3, 3), in the camera's frame, that lead from the first poses to the second."""
    rotations = to_matrix(angles, order)
    return rotations[pairs[:, 1]] @ np.swapaxes(rotations[pairs[:, 0]], 1, 2)


def _patch(path: Path) -> np.ndarray:
    """Return the detail (SIZE, SIZE), free of shading, inside the largest circle of the head's outline."""
    image = read_rendered(path)
    middle, radius = inscribed_circle(foreground(image) > 127)
    if radius < 4:
        raise ImageError(Fault("expected a head before a transparent or black background, found none", file=path))
    to_grey = cv2.COLOR_RGBA2GRAY if image.shape[2] == 4 else cv2.COLOR_RGB2GRAY
    grey = cv2.cvtColor(image, to_grey).astype(np.float32)
    patch = crop(grey, crop_matrix(square(middle, 2 * radius), SIZE), SIZE)
    # The lamp stands still while the head turns: remove what is smooth, and level the contrast.
    detail = cv2.GaussianBlur(patch, (0, 0), 0.8) - cv2.GaussianBlur(patch, (0, 0), SIZE / 12)
    contrast = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), SIZE / 6))
    return detail / (contrast + 2.0)


def _compare(task: _Comparison) -> Floats:
    """Return the errors (pairs, orders) of drawing each second image from the first one, turned on a ball."""
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * 2 / SIZE
    x, y = np.meshgrid(axis, axis)
    inside = x**2 + y**2 < 0.9
    ball = np.stack((x, y, -np.sqrt(np.clip(BALL**2 - x**2 - y**2, 0, None))), axis=-1)[inside].astype(np.float32)
    rotations = task.rotations.astype(np.float32)
    errors = np.full(task.rotations.shape[:2], np.nan)
    patch = functools.cache(_patch)  # where poses are few, pairs share images
    for pair, (first, second) in enumerate(zip(task.first, task.second, strict=True)):
        try:
            source, target = patch(first), patch(second)[inside]
        except ImageError:
            continue  # the build lists damaged images; here the other pairs suffice
        for start in range(0, rotations.shape[1], _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            errors[pair, some] = _drawing_errors(source, target, ball, rotations[pair, some])
    return errors


def _drawing_errors(source: np.ndarray, target: np.ndarray, ball: np.ndarray, rotations: np.ndarray) -> Floats:
    """Return 1 minus the correlation (k,) of a patch's points (m,) with those drawn from another patch.

    ``source`` is the other patch (SIZE, SIZE), ``ball`` (m, 3) where the points are on the ball, and ``rotations``
    (k, 3, 3) turn it. Points that were not seen before the turn do not count.
    """
    x, y, z = (rotations[:, :, axis] @ ball.T for axis in range(3))  # each point, turned back
    drawn = cv2.remap(source, x * (SIZE / 2) + (SIZE - 1) / 2, y * (SIZE / 2) + (SIZE - 1) / 2, cv2.INTER_LINEAR)
    seen = ((z < 0) & (x * x + y * y < 1)).astype(np.float32)
    a, b = drawn * seen, target * seen
    count, sum_a, sum_b = (values.sum(axis=1) for values in (seen, a, b))
    covariance = np.einsum("ij,ij->i", a, b) - sum_a * sum_b / count
    spread_a = np.einsum("ij,ij->i", a, a) - sum_a**2 / count
    spread_b = np.einsum("ij,ij->i", b, b) - sum_b**2 / count
    return 1 - covariance / np.maximum(np.sqrt(np.maximum(spread_a * spread_b, 0)), 1e-9)


def biwi_agreement(tracks: dict[synhead.Track, Floats], sequences: Rotations) -> tuple[Floats, int] | None:
    """Return how the columns of the ``BIWI`` tracks follow Biwi's angles, and from how many tracks.

    Entry (i, j) of the 3 x 3 matrix is the correlation of column i with Biwi's angle j (pitch, yaw, roll;
    ``pyr``). ``tracks`` holds the angles (n, 3) of each track as written, ``sequences`` the frame numbers (n,) and
    angles (n, 3) of each sequence. Copies number the tracks from 0 or from 1; whichever follows Biwi better is
    taken. None where no track has its sequence.
    """
    best: tuple[Floats, int] | None = None
    for first in (0, 1):
        columns, truths = [], []
        for track, rows in tracks.items():
            sequence = f"{int(track.name) + 1 - first:02d}"
            if track.group != "BIWI" or sequence not in sequences or len(sequences[sequence][0]) < 2:
                continue
            numbers, angles = sequences[sequence]
            when = numbers.astype(float)
            if len(rows) != len(numbers):
                when = np.linspace(numbers[0], numbers[-1], len(rows))
            truth = np.stack([np.interp(when, numbers, angles[:, k]) for k in range(3)], axis=1)
            columns.append(rows - rows.mean(axis=0))
            truths.append(truth - truth.mean(axis=0))
        if columns:
            matrix = np.corrcoef(np.concatenate(columns).T, np.concatenate(truths).T)[:3, 3:]
            if best is None or np.abs(matrix).max(1).sum() > np.abs(best[0]).max(1).sum():
                best = matrix, len(columns)
    return best


def _check_against_biwi(copy: synhead.Copy, order: EulerOrder, poses: Rotations | None) -> str:
    """Return in words whether the ``BIWI`` tracks follow Biwi's angles, with the signs of ``order``."""
    truths = {name: (numbers, from_matrix(rotations)) for name, (numbers, rotations) in (poses or {}).items()}
    agreement = biwi_agreement(copy.angles, truths)
    if agreement is None:
        return "not compared with Biwi's angles"
    matrix, count = agreement
    nearest = np.abs(matrix).argmax(axis=1)
    if np.abs(matrix).max(axis=1).min() > 0.7 and not (nearest == [0, 1, 2]).all():
        followed = ", ".join(ANGLES[i] for i in nearest)
        what = f"the columns of the BIWI tracks follow Biwi's {followed}"
        raise RawDataError(Fault(what, "expected pitch, yaw, roll", copy.root))
    follows = np.diag(matrix)
    values = ", ".join(f"{name} {tables.signed(value)}" for name, value in zip(ANGLES, follows, strict=True))
    if not np.abs(follows).min() >= 0.5:  # NaN where a column is constant
        verdict = "follow Biwi's angles too loosely to check the signs"
    else:
        verdict = f"{'agree' if (np.sign(follows) == order.signs).all() else 'DISAGREE'} in sign with Biwi's angles"
    return f"{count} BIWI tracks {verdict} (correlations: {values})"


def _most_poses(copy: synhead.Copy) -> _Poses:
    """Return the poses of those heads that share their tracks and have the most images.

    A head's images are compared with its own: all tracks that it has are its poses.
    """
    of_tracks: dict[tuple[synhead.Track, ...], list[str]] = {}
    for head in copy.heads:
        of_tracks.setdefault(tuple(copy.tracks_of(head)), []).append(head)
    tracks, heads = max(of_tracks.items(), key=lambda item: sum(len(copy.angles[t]) for t in item[0]) * len(item[1]))
    angles = np.concatenate([copy.angles[track] for track in tracks])
    return _Poses(angles, {head: [path for track in tracks for path in copy.paths(track, head)] for head in heads})


def _pair_errors(
    root: Path, poses: _Poses, pairs: np.ndarray, rng: np.random.Generator, workers: int | Executor
) -> tuple[Floats, int]:
    """Return the errors (pairs, orders) of readable pairs of poses, and how many pairs of images that took."""
    # Few poses are seen with several heads each, many with one.
    shown = [(pair, head) for head in poses.images for pair in range(len(pairs))]
    if len(shown) < MIN_PAIRS:
        what = "the poses hardly differ between the orders of axes, so none can be told"
        raise OrderError(Fault(what, _BY_HAND, root))
    chosen = [shown[i] for i in sorted(rng.permutation(len(shown))[:IMAGES])]  # a head's images side by side
    moves = np.stack([_moves(poses.angles, pairs, order) for order in ALL_ORDERS], axis=1)
    tasks = [
        _Comparison(
            [poses.images[head][pairs[pair, 0]] for pair, head in part],
            [poses.images[head][pairs[pair, 1]] for pair, head in part],
            moves[[pair for pair, _ in part]],
        )
        for part in (chosen[start : start + _TASK] for start in range(0, len(chosen), _TASK))
    ]
    errors = np.concatenate(run_tasks(_compare, tasks, workers, "rendering order"))
    readable = np.isfinite(errors).all(axis=1)
    shown_pair = np.array([pair for pair, _ in chosen])[readable]
    readable_pairs = np.unique(shown_pair)
    if len(readable_pairs) < MIN_PAIRS:
        raise OrderError(Fault("too few readable images to infer the rendering order", _BY_HAND, root))
    # What several heads show of one pair of poses is alike: their mean is one observation.
    means = [errors[readable][shown_pair == pair].mean(axis=0) for pair in readable_pairs]
    return np.stack(means), int(readable.sum())


def _ranked(errors: Floats) -> list[Candidate]:
    """Return all orders, the best first, from their errors (pairs, orders)."""
    means = errors.mean(axis=0)
    losses = errors - errors[:, [int(means.argmin())]]
    spread = losses.std(axis=0, ddof=1) / np.sqrt(len(errors))
    behind = np.divide(losses.mean(axis=0), spread, out=np.zeros_like(spread), where=spread > 1e-12)
    figures = zip(ALL_ORDERS, means.tolist(), behind.tolist(), strict=True)
    candidates = [Candidate(str(order), error, lost) for order, error, lost in figures]
    return sorted(candidates, key=lambda candidate: candidate.error)


def judge(
    copy: synhead.Copy, biwi_poses: Rotations | None = None, workers: int | Executor = 1, seed: int = 0
) -> OrderReport:
    """Compare all rendering orders on the images of a raw SynHead.

    ``biwi_poses`` holds the frame numbers (n,) and depth-camera rotations (n, 3, 3) of Biwi's sequences, where given:
    the ``BIWI`` tracks follow them, which checks the columns and the signs. ``workers`` as in
    :func:`headposeplus.tasks.run_tasks`.

    Raises
    ------
    OrderError
        If the poses or images cannot tell the orders apart.
    RawDataError
        If the columns of the ``BIWI`` tracks follow other angles of Biwi than they should.
    """
    rng = np.random.default_rng(seed)
    poses = _most_poses(copy)
    errors, count = _pair_errors(copy.root, poses, _pose_pairs(poses.angles, rng), rng, workers)
    candidates = _ranked(errors)
    margin = min(candidate.behind for candidate in candidates[1:])
    agreement = _check_against_biwi(copy, candidates[0].order, biwi_poses)
    return OrderReport(candidates[0].written, candidates, margin, count, agreement)


def infer(
    copy: synhead.Copy, biwi_poses: Rotations | None = None, workers: int | Executor = 1, seed: int = 0
) -> OrderReport:
    """Return what :func:`judge` finds, where its margin is large enough to trust.

    Raises
    ------
    OrderError
        If the poses or images cannot tell the orders apart.
    RawDataError
        If the columns of the ``BIWI`` tracks follow other angles of Biwi than they should.
    """
    report = judge(copy, biwi_poses, workers, seed)
    check_margin(report, copy.root)
    return report


def check_margin(report: OrderReport, root: Path) -> None:
    """Raise OrderError if the best order does not beat the next by :data:`MIN_MARGIN` standard errors."""
    if report.margin < MIN_MARGIN:
        best = report.candidates[0]
        rival = min(report.candidates[1:], key=lambda candidate: candidate.behind)
        what = (
            f"the images fit the rendering orders {best.order} and {rival.order} almost equally well "
            f"({best.error:.3f} and {rival.error:.3f}, {rival.behind:.1f} standard errors apart)"
        )
        raise OrderError(Fault(what, _BY_HAND, root))


def describe(report: OrderReport) -> str:
    """Return the report as text: the order, its margin, and a table of all candidates."""
    cells = [f"{c.order} {c.error:.3f} ({c.behind:.0f})" for c in report.candidates]
    return "\n".join(
        [
            *tables.prose(
                f"SynHead's rendering order, inferred from {report.pairs} pairs of images: {report.order}",
                f"(margin {report.margin:.1f} standard errors, {MIN_MARGIN:.0f} are needed; {report.biwi})",
                "All candidates by error (0 the same image, 1 unrelated), and standard errors behind the best:",
            ),
            tables.columns(cells),
        ]
    )


def judge_order(
    synhead_folder: Path, biwi_folder: Path | None = None, jobs: int = 1, seed: int = 0
) -> tuple[OrderReport, Path]:
    """Return how all rendering orders compare on a raw SynHead, and its root."""
    root = synhead.find_root(synhead_folder)
    poses = biwi.depth_rotations(biwi.find_root(biwi_folder)) if biwi_folder else None
    return judge(synhead.look_through(root), poses, jobs, seed), root
