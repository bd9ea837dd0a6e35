"""Error measures of predicted head poses, and what is told of their distribution. All in degrees."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from headposeplus.rotations import ANGLES, CONVENTIONS, Floats, euler_difference, from_matrix, geodesic

MEASURES = ("mae", *ANGLES, "geodesic", "maev")
# The columns of R, by what they are on the subject's head. An error is the same for a vector and its opposite, so the
# third, which points into the head, stands for its front.
VECTORS = ("left", "down", "front")
WITHIN = (5, 10, 15)  # degrees
BIN = 15  # degrees
LEVEL = 0.95


class Errors(NamedTuple):
    """Absolute errors of n frames in degrees: of angles (n, 3) in a convention, of vectors (n, 3), geodesic (n,)."""

    angles: Floats
    vectors: Floats
    geodesic: Floats

    @property
    def table(self) -> Floats:
        """The errors (n, 6) of :data:`MEASURES`."""
        mean, vector = self.angles.mean(axis=1), self.vectors.mean(axis=1)
        return np.column_stack((mean, self.angles, self.geodesic, vector))


def frame_errors(predicted: Floats, truth: Floats, convention: str = "pyr") -> Errors:
    """Return the errors of rotations (n, 3, 3), frame by frame.

    Those of Euler angles are wrapped at 180 and take the nearer of a rotation's two triples
    (:func:`headposeplus.rotations.euler_difference`). Those of vectors are the angles between the columns of both
    rotations (Cao et al., "A Vector-based Representation to Enhance Head Pose Estimation", WACV 2021).
    """
    # As with the geodesic error, the chord keeps its precision at small angles.
    chords = np.linalg.norm(predicted - truth, axis=-2)
    vectors = np.rad2deg(2 * np.arcsin(np.clip(chords / 2, 0, 1)))
    return Errors(np.abs(euler_difference(predicted, truth, convention)), vectors, geodesic(predicted, truth))


def scores(predicted: Floats, truth: Floats, convention: str = "pyr") -> dict[str, float]:
    """Return the errors of rotations (n, 3, 3) in degrees.

    ``pitch``, ``yaw`` and ``roll`` are mean absolute errors of the Euler angles in ``convention``; ``mae`` is their
    mean; ``geodesic`` is the mean angle between the rotations; ``maev`` the mean absolute error of vectors.
    """
    return named(frame_errors(predicted, truth, convention).table.mean(axis=0))


def named(values: Floats) -> dict[str, float]:
    """Return values (6,) by the names of :data:`MEASURES`."""
    return dict(zip(MEASURES, (float(value) for value in values), strict=True))


def other_conventions(predicted: Floats, truth: Floats) -> dict[str, dict[str, float]]:
    """Return MAE and its three parts of rotations (n, 3, 3) in every named convention."""
    found = {}
    for convention in CONVENTIONS:
        each = np.abs(euler_difference(predicted, truth, convention)).mean(axis=0)
        found[convention] = dict(zip(("mae", *ANGLES), (float(v) for v in (each.mean(), *each)), strict=True))
    return found


def distribution(errors: Floats) -> dict[str, float]:
    """Return the median and 95th percentile of errors (n,), and the shares (0 to 1) within :data:`WITHIN`."""
    median, high = np.percentile(errors, (50, 95))
    shares = {f"within_{limit}": float((errors <= limit).mean()) for limit in WITHIN}
    return {"median": float(median), "p95": float(high), **shares}


def quantiles(errors: Floats) -> list[float]:
    """Return the errors (n,) below which 0, 1, ..., 100 % of the frames lie."""
    return [float(value) for value in np.percentile(errors, np.arange(101))]


def by_pose(errors: Floats, truth: Floats, convention: str) -> dict[str, list[dict[str, Any]]]:
    """Return the mean errors (n, 6) of frames whose true angles lie in bins of :data:`BIN` degrees.

    Rotations ``truth`` are (n, 3, 3). Bins of each angle, and cells of yaw and pitch together; empty ones are left out.
    """
    # Half a turn, which is both ends of the range, counts to the last bin.
    lower = np.minimum(np.floor(from_matrix(truth, convention) / BIN).astype(int) * BIN, 180 - BIN)
    found: dict[str, list[dict[str, Any]]] = {}
    for axis, name in enumerate(ANGLES):
        found[name] = [
            {"from": int(edge), "to": int(edge) + BIN, **row} for edge, row in _means(errors, lower[:, axis])
        ]
    # One number a cell: both edges are multiples of BIN below 1000.
    cells = _means(errors, lower[:, 1] * 1000 + lower[:, 0] + 500)
    found["yaw_pitch"] = [
        {"yaw": int(cell // 1000), "pitch": int(cell % 1000) - 500, **row} for cell, row in cells
    ]  # fmt: skip
    return found


def _means(errors: Floats, groups: np.ndarray) -> list[tuple[Any, dict[str, Any]]]:
    """Return frames, MAE and geodesic error of each group, ascending."""
    names, sums, counts = group_sums(errors, groups)
    means = sums / counts[:, None]
    mae, turned = MEASURES.index("mae"), MEASURES.index("geodesic")
    rows = [
        {"frames": int(count), "mae": float(mean[mae]), "geodesic": float(mean[turned])}
        for count, mean in zip(counts, means, strict=True)
    ]
    return list(zip(names.tolist(), rows, strict=True))


def by_group(errors: Floats, groups: np.ndarray) -> list[dict[str, Any]]:
    """Return the mean errors (n, 6) of each group, such as a subject, by name."""
    names, sums, counts = group_sums(errors, groups)
    return [
        {"name": str(name), "frames": int(count), **named(total / count)}
        for name, total, count in zip(names, sums, counts, strict=True)
    ]


def group_sums(errors: Floats, groups: np.ndarray) -> tuple[np.ndarray, Floats, Floats]:
    """Return the names (k,) of groups, the sums (k, m) of their errors (n, m) and their numbers of frames (k,)."""
    names, index = np.unique(groups, return_inverse=True)
    index = index.ravel()
    sums = np.array([np.bincount(index, column, len(names)) for column in errors.T], np.float64).T
    return names, sums, np.bincount(index, minlength=len(names)).astype(np.float64)


def bootstrap(errors: Floats, subjects: np.ndarray, resamples: int, seed: int) -> Floats | None:
    """Return the interval (2, m) in which the means of errors (n, m) lie when the subjects are drawn again.

    The frames of a person resemble each other, so whole subjects are drawn with replacement, as many as there are
    (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, percentile intervals at the level :data:`LEVEL`).
    None where there are fewer than two subjects, or no resamples are wanted.
    """
    names, sums, counts = group_sums(errors, subjects)
    if len(names) < 2 or resamples < 1:
        return None
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    means = (drawn @ sums) / (drawn @ counts)[:, None]
    return np.percentile(means, (50 - 50 * LEVEL, 50 + 50 * LEVEL), axis=0)
