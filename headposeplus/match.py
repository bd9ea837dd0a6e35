"""The SynBiwi+ match: for each Biwi pose, the SynHead pose that an in-plane rotation brings closest to it.

After the best in-plane rotation, the geodesic distance of two poses is the angle between their third rows
(:func:`headposeplus.rotations.best_in_plane`), so the nearest neighbour of the third row is the best match.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from headposeplus.errors import DatasetError
from headposeplus.rotations import Floats, best_in_plane, euler_difference, geodesic, in_plane


class Match(NamedTuple):
    """For each target pose: the source's index (n,), its in-plane turn (n,) in degrees, the pose reached
    (n, 3, 3), and how far that is from the target: geodesic (n,) and mean absolute Euler (n,), in degrees.
    """

    source: np.ndarray
    turn: Floats
    rotation: Floats
    geodesic: Floats
    euler: Floats


def match(targets: Floats, sources: Floats) -> Match:
    """Return the best source pose (m, 3, 3) for each target pose (n, 3, 3).

    Raises
    ------
    DatasetError
        If there is no source pose.
    """
    if not len(sources):
        raise DatasetError("no SynHead pose shows a face, so none can be matched; lower --visible-margin")
    source = cKDTree(sources[:, 2]).query(targets[:, 2])[1]
    turn = best_in_plane(sources[source], targets)
    rotation = in_plane(turn) @ sources[source]
    euler = np.abs(euler_difference(rotation, targets)).mean(axis=1)
    return Match(source, turn, rotation, geodesic(rotation, targets), euler)
