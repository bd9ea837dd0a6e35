"""Weights of source samples: which ones the sampler should draw, given predictions on the target.

Angles are pitch, yaw, roll in degrees. Each function returns probabilities (n,) that sum to one.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from headposeplus.errors import TrainingError
from headposeplus.rotations import Floats

METRICS = ("degrees", "normalised")  # of the distance between two poses


def uniform(count: int) -> Floats:
    """Return equal probabilities (count,)."""
    return np.full(count, 1 / count)


def pada_like(source: Floats, predictions: Floats, threshold: float = 3.5) -> Floats:
    """Return PADA-like probabilities (n,), Eq. 3 of Kuhnke & Ostermann (ICCV 2019).

    A source label (n, 3) weighs ``max(0, t - min MSE)``, where the minimum is over the target predictions
    (m, 3) and MSE is the mean over the three angles of the squared difference. The paper does not state the
    unit of t; degrees squared is taken, since in normalised units every label would keep its weight.

    Raises
    ------
    TrainingError
        If no label is near any prediction.
    """
    distance = cKDTree(predictions).query(source)[0]
    weights = np.clip(threshold - distance**2 / 3, 0, None)
    if not weights.any():
        raise TrainingError(
            f"PADA-like weights: no source label is within {threshold:g} degrees squared of a target prediction; "
            "raise `threshold`"
        )
    return np.asarray(weights / weights.sum())


def padaco(source: Floats, predictions: Floats, neighbours: int = 10, metric: str = "degrees") -> Floats:
    """Return PADACO's probabilities (n,) (Kuhnke & Ostermann, ICCV 2019, section 3.3).

    Each target prediction (m, 3) adds one to its N nearest source labels (n, 3); the counts are divided by
    their sum. Source poses that the target does not have are never drawn, and the density follows its own.

    The paper does not say in which units the distance is Euclidean. ``degrees`` makes the three angles count alike;
    ``normalised`` divides each by the standard deviation of the source labels, as the network's angles are.

    Raises
    ------
    TrainingError
        If there are fewer source labels than neighbours, or the metric is unknown.
    """
    if metric not in METRICS:
        raise TrainingError(f"`metric` {metric}: expected {' or '.join(METRICS)}")
    if not 1 <= neighbours <= len(source):
        raise TrainingError(f"PADACO: {neighbours} neighbours of {len(source)} source labels; lower `neighbours`")
    spread = source.std(axis=0)
    unit = np.where(spread > 0, spread, 1.0) if metric == "normalised" else 1.0
    nearest = cKDTree(source / unit).query(predictions / unit, k=neighbours)[1]
    counts = np.bincount(np.ravel(nearest), minlength=len(source))
    return counts / counts.sum()


def effective_sample_size(probabilities: Floats) -> float:
    """Return 1 / sum p², the number of equally likely samples that would vary as much (Kish 1965)."""
    return float(1 / np.square(probabilities).sum())
