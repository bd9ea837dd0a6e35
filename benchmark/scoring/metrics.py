"""Error measures of predicted head poses, and what is told of their distribution. All in degrees."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmark.scoring.figures import (
    MEASURES,
    AngleErrors,
    Bin,
    Cell,
    Conventions,
    Group,
    Parts,
    Quantiles,
    Scores,
    Spread,
    Vectors,
)
from headposeplus.rotations import CONVENTIONS, Floats, angle_difference, euler_difference, from_matrix, geodesic

WITHIN = (5, 10, 15)  # degrees
BIN = 15  # degrees
LEVEL = 0.95
# What the frozen protocols leave out where they say "wrapped at 180".
NEARER_TRIPLE = (
    "every rotation has two triples of Euler angles, and the one nearer to the label's counts; on Biwi's poses, with "
    "errors about random axes, this lowers the MAE by less than 0.01 degrees where it is below 8, and by 0.86 where it "
    'is 25; "MAE, plain", which stands beside it, wraps each angle at 180 and does no more'
)


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
    (:func:`headposeplus.rotations.euler_difference`); :func:`plain_angles` does not. Those of vectors are the angles
    between the columns of both rotations (Cao et al., "A Vector-based Representation to Enhance Head Pose Estimation",
    WACV 2021).
    """
    # As with the geodesic error, the chord keeps its precision at small angles.
    chords = np.linalg.norm(predicted - truth, axis=-2)
    vectors = np.rad2deg(2 * np.arcsin(np.clip(chords / 2, 0, 1)))
    return Errors(np.abs(euler_difference(predicted, truth, convention)), vectors, geodesic(predicted, truth))


def scores(predicted: Floats, truth: Floats, convention: str = "pyr") -> Scores:
    """Return the mean errors of rotations (n, 3, 3); their angles are read in ``convention``."""
    return named(frame_errors(predicted, truth, convention).table.mean(axis=0))


def named(values: Floats) -> Scores:
    """Return values (6,) in the order of :data:`MEASURES` by name."""
    return Scores(*values.tolist())


def vectors(errors: Floats) -> Vectors:
    """Return the mean errors (3,) of the columns of a rotation, by what they are on the subject's head.

    An error is the same for a vector and its opposite, so the third, which points into the head, stands for its front.
    """
    return Vectors(*errors.tolist())


def other_conventions(predicted: Floats, truth: Floats) -> Conventions:
    """Return MAE and its three parts of rotations (n, 3, 3) in every named convention."""
    errors = {}
    for convention in CONVENTIONS:
        angles = np.abs(euler_difference(predicted, truth, convention)).mean(axis=0)
        errors[convention] = AngleErrors(float(angles.mean()), *angles.tolist())
    return Conventions(**errors)


def plain_angles(predicted: Floats, truth: Floats, convention: str = "pyr") -> AngleErrors:
    """Return MAE and its three parts of rotations (n, 3, 3) with each angle wrapped at 180, and no more done.

    The angles are those of :func:`headposeplus.rotations.from_matrix`, whose middle one is within 90 degrees. Where the
    other triple of a rotation is nearer to the label's, these errors are larger than those of :func:`frame_errors`.
    """
    angles = np.abs(angle_difference(from_matrix(predicted, convention), from_matrix(truth, convention))).mean(axis=0)
    return AngleErrors(float(angles.mean()), *angles.tolist())


def spread(errors: Floats) -> Spread:
    """Return the median and 95th percentile of errors (n,), and the shares (0 to 1) within :data:`WITHIN`."""
    median, high = np.percentile(errors, (50, 95))
    return Spread(float(median), float(high), *(float((errors <= limit).mean()) for limit in WITHIN))


def quantiles(tables: Floats) -> Quantiles:
    """Return the MAE and geodesic error below which 0, 1, ..., 100 % of the frames lie.

    ``tables`` (s, n, 6) are the errors of s seeds, whose quantiles are averaged.
    """
    mae, turned = (
        tuple(np.percentile(tables[:, :, MEASURES.index(name)], np.arange(101), axis=1).mean(axis=1).tolist())
        for name in ("mae", "geodesic")
    )
    return Quantiles(mae, turned)


def by_part(errors: Floats, truth: Floats, convention: str, sequences: np.ndarray, subjects: np.ndarray) -> Parts:
    """Return the mean errors (n, 6) of parts of the frames, which have true rotations (n, 3, 3).

    Parts are bins of :data:`BIN` degrees of each true angle, cells of yaw and pitch together, sequences (n,) and
    subjects (n,). Empty ones are left out, and subjects where each has one frame of a longer sequence: those would be
    the frames' errors.
    """
    # Half a turn, which is both ends of the range, counts to the last bin.
    lower = np.minimum(np.floor(from_matrix(truth, convention) / BIN).astype(int) * BIN, 180 - BIN)
    pitch, yaw, roll = (
        tuple(Bin(edge, edge + BIN, *means) for edge, means in _means(errors, lower[:, axis])) for axis in range(3)
    )
    # One number a cell: both edges are multiples of BIN below 1000.
    numbers = lower[:, 1] * 1000 + lower[:, 0] + 500
    cells = tuple(Cell(cell // 1000, cell % 1000 - 500, *means) for cell, means in _means(errors, numbers))
    people, recordings = by_group(errors, subjects), by_group(errors, sequences)
    alone = len(people) == len(errors) > len(recordings)
    return Parts(pitch, yaw, roll, cells, recordings, () if alone else people)


def _means(errors: Floats, groups: np.ndarray) -> list[tuple[int, tuple[int, float, float]]]:
    """Return the number of each group, ascending, with its frames, its MAE and its geodesic error."""
    numbers, sums, counts = group_sums(errors, groups)
    means = sums / counts[:, None]
    mae, turned = means[:, MEASURES.index("mae")], means[:, MEASURES.index("geodesic")]
    rows = zip(counts.astype(int).tolist(), mae.tolist(), turned.tolist(), strict=True)
    return list(zip(numbers.tolist(), rows, strict=True))


def by_group(errors: Floats, groups: np.ndarray) -> tuple[Group, ...]:
    """Return the mean errors (n, 6) of each group, such as a subject, by name."""
    return tuple(
        Group(str(name), int(count), *(total / count).tolist())
        for name, total, count in zip(*group_sums(errors, groups), strict=True)
    )


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
    means = resampled_means(sums, counts, resamples, seed)
    return np.percentile(means, (50 - 50 * LEVEL, 50 + 50 * LEVEL), axis=0)


def resampled_means(sums: Floats, counts: Floats, resamples: int, seed: int) -> Floats:
    """Return the means (resamples, m) of errors over k groups drawn again, from their sums (k, m) and counts (k,)."""
    drawn = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), resamples)
    means: Floats = (drawn @ sums) / (drawn @ counts)[:, None]
    return means
