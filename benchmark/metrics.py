"""Error measures of predicted head poses."""

from __future__ import annotations

import numpy as np

from headposeplus.rotations import ANGLES, Floats, euler_difference, geodesic


def scores(predicted: Floats, truth: Floats, convention: str = "pyr") -> dict[str, float]:
    """Return the errors of rotations (n, 3, 3) in degrees.

    ``pitch``, ``yaw`` and ``roll`` are mean absolute errors of the Euler angles in ``convention``, wrapped at
    180 (:func:`headposeplus.rotations.euler_difference`); ``mae`` is their mean; ``geodesic`` is the mean angle
    between the rotations.
    """
    errors = np.abs(euler_difference(predicted, truth, convention))
    each = {name: float(value) for name, value in zip(ANGLES, errors.mean(axis=0), strict=True)}
    return {"mae": float(errors.mean()), **each, "geodesic": float(geodesic(predicted, truth).mean())}
