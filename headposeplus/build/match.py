"""The SynBiwi+ match: for each Biwi pose, the SynHead poses that an in-plane rotation brings closest to it.

After the best in-plane rotation, the geodesic distance of two poses is the angle between their third rows
(:func:`headposeplus.rotations.best_in_plane`), so the nearest neighbours of the third row are the best matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

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
        raise DatasetError("no SynHead pose shows a face, so none can be matched; lower --visible-margin")
    if neighbours > len(sources):
        raise DatasetError(f"--neighbours {neighbours}: there are only {len(sources)} SynHead poses")
    ranks = np.arange(1, neighbours + 1)
    source = cKDTree(sources[:, 2]).query(targets[:, 2], k=ranks)[1]
    found, wanted = sources[source], targets[:, None]
    turn = best_in_plane(found, wanted)
    rotation = in_plane(turn) @ found
    return Match(
        source, turn, rotation,
        geodesic(rotation, wanted), _euler(rotation, wanted), geodesic(found, wanted), _euler(found, wanted),
    )  # fmt: skip


def _euler(rotations: Floats, targets: Floats) -> Floats:
    return np.abs(euler_difference(rotations, np.broadcast_to(targets, rotations.shape))).mean(axis=-1)


def statistics(values: Floats) -> dict[str, float]:
    """Return mean, median and 95th percentile of values (n,)."""
    found = {"mean": values.mean(), "median": np.median(values), "p95": np.percentile(values, 95)}
    return {name: round(float(value), 4) for name, value in found.items()}


def residuals(matches: Mapping[tuple[str, str], Match]) -> dict[str, Any]:
    """Return what remains between the best sources and their targets, in degrees, for matches by (sequence, head).

    The statistics of both measures, before and after the in-plane turn, over all; and after it, by head and by
    sequence.
    """

    def best(name: str, keys: list[tuple[str, str]]) -> Floats:
        return np.concatenate([getattr(matches[key], name)[:, 0] for key in keys])

    keys = list(matches)
    report: dict[str, Any] = {
        measure: {
            "before": statistics(best(f"{measure}_before", keys)),
            "after": statistics(best(measure, keys)),
        }
        for measure in ("euler", "geodesic")
    }
    for position, part in ((1, "by_head"), (0, "by_sequence")):
        report[part] = {
            name: {
                measure: statistics(best(measure, [key for key in keys if key[position] == name]))
                for measure in ("euler", "geodesic")
            }
            for name in dict.fromkeys(key[position] for key in keys)
        }
    return report


def visible(rotations: Floats, margin: float) -> np.ndarray:
    """Return which poses (n, 3, 3) show the face (n,): it looks along the head's -z, towards the camera by R22."""
    return rotations[:, 2, 2] > margin
