"""Face boxes: x, y, width, height in raw pixels, the last pixel at x + width - 1, each with its source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headposeplus.images import square
from headposeplus.raw.biwi import Calibration, Pose
from headposeplus.raw.synhead import HeadPlace
from headposeplus.rotations import Floats, in_plane, to_ray

# What face box the pose of a head has, fitted to the published boxes of half of Biwi's subjects (Kuhnke & Ostermann's
# Biwi_plus.npz and Biwi's own annotations) by ``python -m benchmark.upkeep.box_rule``, which also measures it on the
# other half. A detector drew those boxes: it frames the face, not the head, and its boxes shrink less with the
# distance than a head does. What it sees is a head's pose relative to the viewing ray, so that is what counts: Biwi's
# heads are 4.5 degrees below the axis in the mean, and numbers by their poses in the camera would be wrong for a
# rendered head, which is on it.
RULE = "biwi-plus-2"  # the name of these numbers; a build notes it, so others never mix with its shards
SIZE_MM = 255.0  # at 900 mm, where the axis is level
SIZE_BY_PITCH = (0.032, -0.056)  # of the logarithm of the size: by the axis's slope, and by its square
SIZE_BY_DISTANCE = (0.138, 1.681)  # likewise, by the logarithm of the distance over 900 mm
DISTANCES_MM = (739.0, 1324.0)  # those of Biwi's heads; the size is that of the nearest beyond them
# From the projected centre to the box's middle, in mm to the right and down: a constant, and how far it moves with
# the axis through the face and with that through crown and chin.
SHIFT_X_MM = (-3.22, 13.92, -17.20)
SHIFT_Y_MM = (41.33, -8.43, -42.93)
# A rendered head's box frames what that of a head 900 mm away does. Measured on Biwi's mesh of sequence 01: the largest
# circle inside the outline is that of a ball of 82.3 mm, and from the ball's middle to what Biwi calls the
# head's centre, in its radii, it is this far in the head's frame.
BALL_MM = 82.3
BALL_TO_CENTRE = np.array([0.0, 0.51, -0.72])
PROJECTED = "projected"  # the source of a box that is the projected head


class BoxTable(NamedTuple):
    """Boxes of frames: ids (n,), boxes (n, 4) in raw pixels, their sources (n,), and whether checked by hand (n,)."""

    ids: np.ndarray
    boxes: Floats
    sources: np.ndarray
    checked: np.ndarray

    def where(self, rows: np.ndarray) -> BoxTable:
        """Return some of the rows, by mask or by index."""
        return BoxTable(self.ids[rows], self.boxes[rows], self.sources[rows], self.checked[rows])

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Return in which row each id (n,) stands; -1 where it does not."""
        rows = {name: row for row, name in enumerate(self.ids.tolist())}
        return np.array([rows.get(str(name), -1) for name in ids], dtype=np.int64)


def make_boxes(ids: np.ndarray | list[str], boxes: Floats, source: str, checked: bool = False) -> BoxTable:
    """Return a table of boxes (n, 4) that all have one source."""
    count = len(ids)
    rows = np.asarray(boxes, np.float64).reshape(count, 4)
    return BoxTable(np.asarray(ids, dtype=str), rows, np.full(count, source), np.full(count, checked))


def join_boxes(tables: Sequence[BoxTable]) -> BoxTable:
    """Return the rows of some tables, at least one, in one."""
    return BoxTable(*(np.concatenate(columns) for columns in zip(*tables, strict=True)))


class HeadBall(NamedTuple):
    """Where a rendered head is in its images: a ball that turns about a fixed point.

    Attributes
    ----------
    pivot
        The fixed point (2,), x and y in pixels.
    ball
        From the pivot to the ball's middle (3,), in the head's frame, in pixels.
    radius
        The ball's radius in pixels.
    spread
        How far the circles of single images lie from the fit, root mean square, in pixels.
    """

    pivot: Floats
    ball: Floats
    radius: float
    spread: float


def fit_ball(middles: Floats, radii: Floats, rotations: Floats) -> HeadBall:
    """Return the ball of a head from the largest circles inside its outlines.

    The circles' middles (n, 2) are, to the second decimal of a radius, ``pivot + R[:2] ball``: linear in
    both. The radius is that of frontal views, since a profile is longer than it is wide.
    """
    equations = np.concatenate([np.column_stack((np.eye(2), rotation[:2])) for rotation in rotations])
    solution = np.linalg.lstsq(equations, middles.ravel(), rcond=None)[0]
    misses = equations @ solution - middles.ravel()
    frontal = np.argsort(-rotations[:, 2, 2], kind="stable")[: max(len(rotations) // 4, 1)]
    spread = float(np.sqrt(2 * np.mean(misses**2)))
    return HeadBall(solution[:2], solution[2:], float(np.median(radii[frontal])), spread)


class Frame(NamedTuple):
    """What a box frames: its side in millimetres, and its middle (2,) from the projected centre, likewise."""

    side: float
    shift: Floats


def framed(rotation: Floats, distance: float = 900.0) -> Frame:
    """Return what the face box of a head frames that is ``distance`` mm from the camera.

    ``rotation`` (3, 3) is its pose relative to the viewing ray.
    """
    # In plain numbers: on arrays this small NumPy takes ten times as long. The head's axes in the image: to the chin,
    # and into the face.
    axes = [(down, back) for _, down, back in rotation[:2].tolist()]
    slope, away = axes[1][1], math.log(min(max(distance, DISTANCES_MM[0]), DISTANCES_MM[1]) / 900)
    of_pitch = SIZE_BY_PITCH[0] * slope + SIZE_BY_PITCH[1] * slope**2
    of_distance = SIZE_BY_DISTANCE[0] * away + SIZE_BY_DISTANCE[1] * away**2
    shift = [a + b * back + c * down for (a, b, c), (down, back) in zip((SHIFT_X_MM, SHIFT_Y_MM), axes, strict=True)]
    return Frame(SIZE_MM * math.exp(of_pitch + of_distance), np.array(shift))


def projected(pose: Pose, camera: Calibration) -> Floats:
    """Return the square face box (4,) of a head whose pose is given in the camera's frame."""
    scale = camera.matrix[0, 0] / pose.centre[2]  # pixels a millimetre
    side, shift = framed(to_ray(pose.centre).T @ pose.rotation, float(pose.centre[2]))
    return np.rint(square(camera.project(pose.centre) + scale * shift, scale * side))


def of_face(rotation: Floats, centre: Floats, scale: float) -> Floats:
    """Return the square face box (4,) of a head in a photograph without calibration.

    ``rotation`` (3, 3) is its pose, ``centre`` (2,) in pixels where Biwi's centre of the head would be seen, ``scale``
    the pixels a millimetre there. It frames what that of a head 900 mm away does.
    """
    side, shift = framed(rotation)
    return np.rint(square(centre + scale * shift, scale * side))


def place_of(head: HeadBall) -> HeadPlace:
    """Return where a head is whose ball was fitted: as Biwi's mesh of sequence 01 would be."""
    return HeadPlace(head.pivot, head.ball + head.radius * BALL_TO_CENTRE, head.radius / BALL_MM)


def of_rendered(place: HeadPlace, rotation: Floats, degrees: float, principal: Floats) -> Floats:
    """Return the square box (4,) of a rendered head, in its image turned by ``degrees`` about ``principal``.

    ``rotation`` (3, 3) is the pose before the turn. It frames what that of a head 900 mm away does.
    """
    middle, scale = place.pivot + rotation[:2] @ place.offset, place.pixels_per_mm
    if degrees:
        turn = in_plane(degrees)
        middle, rotation = principal + turn[:2, :2] @ (middle - principal), turn @ rotation
    side, shift = framed(rotation)
    return np.rint(square(middle + scale * shift, scale * side))


def middles(boxes: Floats) -> Floats:
    """Return the middles (n, 2) of boxes (n, 4), whose last pixel is at x + width - 1."""
    return boxes[:, :2] + (boxes[:, 2:] - 1) / 2


def iou(a: Floats, b: Floats) -> Floats:
    """Return the intersection over union (...) of boxes (..., 4)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=-1)
    return overlap / (a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - overlap)
