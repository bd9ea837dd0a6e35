"""Where the heads of a miniature are, what lights them, and the cameras that see them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headposeplus.miniature.poses import Motion, Scale
from headposeplus.miniature.render import Light
from headposeplus.raw import biwi
from headposeplus.raw.biwi import Calibration, Pose
from headposeplus.rotations import Floats, to_matrix

_DEPTH_FOCAL, _DEPTH_CENTRE = 575.816, (320.0, 240.0)
# The joint about which a head turns, in the head's frame: between neck and shoulders.
_NECK = np.array([0.0, 84.0, 65.0])
SYNHEAD_FOCAL, SYNHEAD_DISTANCE = 1.9, 800.0
SYNHEAD_CENTRE = np.array([0.0, 0.0, SYNHEAD_DISTANCE])  # where the heads of SynHead are in their camera, mm
_LAMPS = 5  # that the tracks of SynHead share


class Place(NamedTuple):
    """Where the heads of a setting are: the mean of a sequence's middle (3,), mm, and how sequences differ (3,)."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


# In the RGB camera, x right, y down, z forward: of the sequences' means in Biwi's annotations, by calibration group.
PLACES = {
    "A": Place((66.0, 33.7, 870.6), (40.2, 34.5, 43.5)),
    "B": Place((11.6, 137.5, 1112.5), (26.1, 63.0, 80.3)),
}


class Likeness(NamedTuple):
    """In which ways the target is like the source; by default in none.

    Attributes
    ----------
    sensor
        Its camera neither blurs nor colours, and has no noise.
    body
        No neck and torso below the head.
    light
        Each sequence has one of the source's lamps, and no shadows.
    placement
        The heads are on the camera's axis, as far from it as the source's.
    heads
        The people are the source's heads.
    """

    sensor: bool = False
    body: bool = False
    light: bool = False
    placement: bool = False
    heads: bool = False


def _camera(focal: float, centre: tuple[float, float], ratio: float) -> Floats:
    """Return K (3, 3) scaled to a smaller image; a pixel's centre lies at whole numbers."""
    cx, cy = ((c + 0.5) * ratio - 0.5 for c in centre)
    return np.array([[focal * ratio, 0, cx], [0, focal * ratio, cy], [0, 0, 1]])


def synhead_camera(size: int) -> Calibration:
    """Return the camera that the heads of a miniature's SynHead are rendered with, in images of ``size`` pixels."""
    matrix = _camera(SYNHEAD_FOCAL * size, ((size - 1) / 2, (size - 1) / 2), 1.0)
    return Calibration(matrix, np.zeros(4), np.eye(3), np.zeros(3), size, size)


def rgb_calibration(group: str, scale: Scale) -> Calibration:
    """Return Biwi's RGB camera of a calibration group, for the images of a scale."""
    known = biwi.known_camera(group)
    focal, centre = float(known.matrix[0, 0]), (float(known.matrix[0, 2]), float(known.matrix[1, 2]))
    camera = _camera(focal, centre, scale.width / known.width)
    return known._replace(matrix=camera, width=scale.width, height=scale.height)


def depth_calibration(scale: Scale) -> Calibration:
    """Return Biwi's depth camera, for the images of a scale."""
    camera = _camera(_DEPTH_FOCAL, _DEPTH_CENTRE, scale.width / biwi.WIDTH)
    return Calibration(camera, np.zeros(4), np.eye(3), np.zeros(3), scale.width, scale.height)


def _unit(vector: object) -> np.ndarray:
    array = np.asarray(vector, float)
    return array / np.linalg.norm(array)


def _lamp(rng: np.random.Generator) -> np.ndarray:
    """Return the direction (3,) towards a lamp, in the camera's frame: above the head, before it or at its side."""
    return _unit([rng.normal(0, 0.5), -rng.uniform(0.1, 0.8), -rng.uniform(0.7, 1.1)])


def biwi_light(rng: np.random.Generator) -> Light:
    """Return a sequence's light: a lamp of its own, with shadows."""
    warm = np.clip(1 + rng.normal(0, 0.04) * np.array([1, 0.2, -1.2]), 0.8, 1.2)
    return Light(_lamp(rng), rng.uniform(0.72, 0.88) * warm, np.full(3, rng.uniform(0.42, 0.5)), 0.15, 0.5)


def synhead_light(people: int, *track: int) -> Light:
    """Return the light of a head's track: white, without shadows, from one of a few lamps."""
    number = int(np.random.default_rng([people, 11, *track]).integers(_LAMPS))
    return Light(_lamp(np.random.default_rng([people, 10, number])), np.full(3, 0.8), np.full(3, 0.45), 0.0, 0.0)


def biwi_poses(motion: Motion, place: Place, on_axis: bool, rng: np.random.Generator) -> tuple[list[Pose], np.ndarray]:
    """Return the poses of a motion in the RGB camera, and where the neck stands in it."""
    rotations = to_matrix(motion.angles)
    drawn, sway = rng.normal(place.mean, place.deviation), rng.normal(0, 4, (len(rotations), 3))
    neck = (SYNHEAD_CENTRE if on_axis else drawn) + rotations.mean(axis=0) @ _NECK
    if on_axis:
        return [Pose(r, SYNHEAD_CENTRE) for r in rotations], neck
    return [Pose(r, neck + s - r @ _NECK) for r, s in zip(rotations, sway, strict=True)], neck
