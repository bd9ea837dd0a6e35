"""The SynBiwi+ match: for each Biwi pose, the SynHead poses that an in-plane rotation brings closest to it.

After the best in-plane rotation, the geodesic distance of two poses is the angle between their third rows
(:func:`headposeplus.rotations.best_in_plane`), so the nearest neighbours of the third row are the best matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from headposeplus.datasets.info import BeforeAfter, Measures, Residuals, Spread
from headposeplus.errors import DatasetError
from headposeplus.rotations import Floats, best_in_plane, euler_difference, geodesic, in_plane


class Match(NamedTuple):
    """For each target pose, its k best sources, the best first.

    Attributes
    ----------
    source
        Their indices (n, k).
    turn
        Their in-plane turns (n, k) in degrees.
    rotation
        The poses reached (n, k, 3, 3).
    geodesic, euler
        How far those are from the target (n, k), in degrees: as an angle, and as the mean absolute difference of
        pitch, yaw and roll.
    geodesic_before, euler_before
        The same before the turn.
    """

    source: np.ndarray
    turn: Floats
    rotation: Floats
    geodesic: Floats
    euler: Floats
    geodesic_before: Floats
    euler_before: Floats


def match(targets: Floats, sources: Floats, neighbours: int = 1) -> Match:
    """Return the ``neighbours`` best source poses (m, 3, 3) for each target pose (n, 3, 3).

    Raises
    ------
    DatasetError
        If there are fewer source poses than neighbours.
    """
    if not len(sources):
        raise DatasetError("no SynHead pose shows a face, so none can be matched; lower `visible_margin`")
    if neighbours > len(sources):
        raise DatasetError(f"`neighbours` {neighbours}: there are only {len(sources)} SynHead poses")
    ranks = np.arange(1, neighbours + 1)
    nearest = cKDTree(sources[:, 2]).query(targets[:, 2], k=ranks)[1]
    poses, wanted = sources[nearest], targets[:, None]
    turn = best_in_plane(poses, wanted)
    turned = in_plane(turn) @ poses
    return Match(
        source=nearest,
        turn=turn,
        rotation=turned,
        geodesic=geodesic(turned, wanted),
        euler=_euler(turned, wanted),
        geodesic_before=geodesic(poses, wanted),
        euler_before=_euler(poses, wanted),
    )


def _euler(rotations: Floats, targets: Floats) -> Floats:
    return np.abs(euler_difference(rotations, np.broadcast_to(targets, rotations.shape))).mean(axis=-1)


def _spread(errors: list[Floats]) -> Spread:
    """Return mean, median and 95th percentile of the best sources' errors, each (n, k)."""
    best = np.concatenate([of_sources[:, 0] for of_sources in errors])
    numbers = (best.mean(), np.median(best), np.percentile(best, 95))
    return Spread(*(round(float(number), 4) for number in numbers))


def _measures(matches: list[Match]) -> Measures:
    return Measures(_spread([m.euler for m in matches]), _spread([m.geodesic for m in matches]))


def residuals(matches: Mapping[tuple[str, str], Match]) -> Residuals:
    """Return what remains between the best sources and their targets, in degrees, for matches by (sequence, head).

    The statistics of both measures, before and after the in-plane turn, over all; and after it, by head and by
    sequence.
    """
    before = Measures(
        _spread([m.euler_before for m in matches.values()]),
        _spread([m.geodesic_before for m in matches.values()]),
    )
    after = _measures(list(matches.values()))
    sequences, heads = (dict.fromkeys(key[position] for key in matches) for position in (0, 1))
    return Residuals(
        euler=BeforeAfter(before.euler, after.euler),
        geodesic=BeforeAfter(before.geodesic, after.geodesic),
        by_head={head: _measures([m for key, m in matches.items() if key[1] == head]) for head in heads},
        by_sequence={name: _measures([m for key, m in matches.items() if key[0] == name]) for name in sequences},
    )


def visible(rotations: Floats, margin: float) -> np.ndarray:
    """Return which poses (n, 3, 3) show the face (n,): it looks along the head's -z, towards the camera by R22."""
    return rotations[:, 2, 2] > margin
