"""Rotations and Euler-angle conventions: every axis, order and sign of the project is stated here, once.

A rotation R is Biwi's: it takes the head's axes to the camera's, with x right, y down, z forward (away
from the camera). The face looks along the head's -z. Its third row ``R[2]`` is the viewing direction in
the head's frame.

Euler angles are always given in the columns **pitch, yaw, roll**, in degrees. They are read in the frame
x right, y up, z towards the viewer, that is of ``F R F`` with ``F = diag(1, -1, -1)``. A convention is an
:class:`EulerOrder`: the order in which the three elementary rotations act about the fixed axes, and the
sign that each angle carries. ``xyz`` means that pitch (about x) acts first and roll (about z) last, so
``F R F = Rz(roll) Ry(yaw) Rx(pitch)``.
"""

from __future__ import annotations

import itertools
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headposeplus.errors import HeadposeError

Floats = NDArray[np.float64]

ANGLES = ("pitch", "yaw", "roll")
LOCKED = 1e-5  # degrees about 90 of the middle angle in which the outer two are not told apart
FLIP = np.diag([1.0, -1.0, -1.0])
# Entry (i, j) of F R F is R[i, j] times this: conjugation by a diagonal matrix needs no product.
_FLIP_SIGNS = np.outer(np.diag(FLIP), np.diag(FLIP))


class EulerOrder(NamedTuple):
    """The order of the fixed axes and the signs of pitch, yaw and roll; written like ``xyz+--``."""

    axes: str
    signs: tuple[int, int, int]

    def __str__(self) -> str:
        return self.axes + "".join("+" if sign > 0 else "-" for sign in self.signs)


CONVENTIONS = {
    "pyr": EulerOrder("xyz", (1, 1, 1)),  # Biwi+ and Kuhnke & Ostermann 2019
    "biwi": EulerOrder("xyz", (1, -1, -1)),  # pose.bin of raw Biwi
    "ypr": EulerOrder("zyx", (-1, -1, -1)),  # Hopenet, FSA-Net, 6DRepNet, 300W-LP
}
ALL_ORDERS = tuple(
    EulerOrder("".join(axes), (pitch, yaw, roll))
    for axes in itertools.permutations("xyz")
    for pitch, yaw, roll in itertools.product((1, -1), repeat=3)
)


def euler_order(convention: str | EulerOrder) -> EulerOrder:
    """Return the order behind a convention's name (``pyr``) or its written form (``xyz+++``).

    Raises
    ------
    HeadposeError
        If there is no such convention.
    """
    if isinstance(convention, EulerOrder):
        return convention
    if convention in CONVENTIONS:
        return CONVENTIONS[convention]
    for order in ALL_ORDERS:
        if str(order) == convention:
            return order
    raise HeadposeError(
        f"unknown angle convention {convention!r}: expected one of {', '.join(CONVENTIONS)}, "
        "or an order with signs such as xyz+++"
    )


def to_matrix(angles: ArrayLike, convention: str | EulerOrder = "pyr") -> Floats:
    """Return the rotations (..., 3, 3) of Euler angles (..., 3): pitch, yaw, roll in degrees."""
    from scipy.spatial.transform import Rotation  # takes longer than most of what a list of commands does

    order = euler_order(convention)
    signed = np.asarray(angles, dtype=np.float64) * order.signs
    columns = ["xyz".index(axis) for axis in order.axes]
    flat = signed.reshape(-1, 3)[:, columns]
    matrices = Rotation.from_euler(order.axes, flat, degrees=True).as_matrix()
    return (matrices * _FLIP_SIGNS).reshape(*signed.shape[:-1], 3, 3)


def from_matrix(rotations: ArrayLike, convention: str | EulerOrder = "pyr") -> Floats:
    """Return the Euler angles (..., 3) of rotations (..., 3, 3): pitch, yaw, roll in degrees."""
    from scipy.spatial.transform import Rotation

    order = euler_order(convention)
    matrices = np.asarray(rotations, dtype=np.float64)
    flat = (matrices * _FLIP_SIGNS).reshape(-1, 3, 3)
    with warnings.catch_warnings():
        # With the middle angle at 90 degrees the outer two are not unique; SciPy takes 0 for one of them and warns.
        warnings.filterwarnings("ignore", message="Gimbal lock", category=UserWarning)
        in_order = Rotation.from_matrix(flat).as_euler(order.axes, degrees=True)
    angles = np.empty_like(in_order)
    angles[:, ["xyz".index(axis) for axis in order.axes]] = in_order
    return (angles * order.signs).reshape(matrices.shape[:-1])


def convert(angles: ArrayLike, source: str | EulerOrder, target: str | EulerOrder) -> Floats:
    """Return angles (..., 3), read in convention ``source``, as those of convention ``target``."""
    return from_matrix(to_matrix(angles, source), target)


def in_plane(degrees: ArrayLike) -> Floats:
    """Return Rz(a), shape (..., 3, 3): the image turned by ``a`` clockwise about the principal point.

    With y down, a positive angle about z turns the picture clockwise. ``in_plane(a) @ R`` is the pose
    seen in the turned image; its third row is R's.
    """
    radians = np.deg2rad(np.asarray(degrees, dtype=np.float64))
    cos, sin = np.cos(radians), np.sin(radians)
    matrix = np.zeros((*radians.shape, 3, 3))
    matrix[..., 0, 0] = matrix[..., 1, 1] = cos
    matrix[..., 0, 1], matrix[..., 1, 0] = -sin, sin
    matrix[..., 2, 2] = 1.0
    return matrix


def to_ray(points: ArrayLike) -> Floats:
    """Return the smallest rotations (..., 3, 3) that take the optical axis to the rays through points (..., 3).

    A crop does not show where in the image it was taken: a head of pose R on such a ray S looks as one of pose
    ``S.T R`` does on the axis. The points lie before the camera.
    """
    x, y, z = np.moveaxis(np.asarray(points, np.float64) / np.linalg.norm(points, axis=-1, keepdims=True), -1, 0)
    rows = ((1 - x * x / (1 + z), -x * y / (1 + z), x), (-x * y / (1 + z), 1 - y * y / (1 + z), y), (-x, -y, z))
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def best_in_plane(rotations: ArrayLike, targets: ArrayLike) -> Floats:
    """Return the in-plane angles a (...), in degrees, that bring ``in_plane(a) @ R`` closest to targets.

    The geodesic distance falls as trace(targetᵀ Rz(a) R) grows. With N = R targetᵀ that trace is
    cos a (N00 + N11) + sin a (N01 - N10) + N22, largest at a = atan2(N01 - N10, N00 + N11). The distance
    that is left is the angle between the two third rows.
    """
    product = np.asarray(rotations, np.float64) @ np.swapaxes(np.asarray(targets, np.float64), -1, -2)
    sine = product[..., 0, 1] - product[..., 1, 0]
    cosine = product[..., 0, 0] + product[..., 1, 1]
    return np.rad2deg(np.arctan2(sine, cosine))


def geodesic(a: ArrayLike, b: ArrayLike) -> Floats:
    """Return the angle (...) in degrees of the rotation between rotations a and b (..., 3, 3).

    Computed as 2 asin(‖A − B‖ / √8), which is exact for rotations and, unlike the arc cosine of the
    trace, keeps its precision at small angles.
    """
    chord = np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64), axis=(-2, -1))
    return np.rad2deg(2 * np.arcsin(np.clip(chord / np.sqrt(8), 0, 1)))


def angle_difference(a: ArrayLike, b: ArrayLike) -> Floats:
    """Return a - b in degrees, wrapped into [-180, 180): 179 and -179 are 2 degrees apart."""
    return (np.asarray(a, np.float64) - np.asarray(b, np.float64) + 180) % 360 - 180


def euler_difference(rotations: ArrayLike, references: ArrayLike, convention: str | EulerOrder = "pyr") -> Floats:
    """Return the wrapped differences (n, 3) of pitch, yaw and roll of rotations and references (n, 3, 3).

    Every rotation has two triples of Euler angles: half a turn added to the outer two, and the middle one
    mirrored at 90 degrees. A matrix does not tell which was meant, so the one nearer to the reference counts;
    else a prediction of yaw 92 for 88 would be 180 degrees off in pitch and in roll. With the middle angle at 90
    degrees only the sum or the difference of the outer two is known: what it differs by is parted among them.
    """
    order = euler_order(convention)
    first, middle, last = ("xyz".index(axis) for axis in order.axes)
    given, reference = from_matrix(rotations, order), from_matrix(references, order)
    mirrored = given + 180
    mirrored[..., middle] = 180 - given[..., middle]
    both = np.stack([angle_difference(triple, reference) for triple in (given, mirrored)])
    nearer = np.abs(both).sum(axis=-1).argmin(axis=0)
    difference = np.where((nearer == 0)[..., None], both[0], both[1])
    for angles in (given, reference):
        locked = np.abs(np.abs(angles[..., middle]) - 90) < LOCKED
        if locked.any():
            # Which way the outer angles turn each other there: by the order's parity, the signs and the middle angle.
            signs = np.array(order.signs)
            parity = 1 if order.axes in ("xyz", "yzx", "zxy") else -1
            turn = parity * np.sign(angles[..., middle]) * signs[middle] * signs[first] * signs[last]
            off = angle_difference(difference[..., first] - turn * difference[..., last], 0)
            difference[..., first] = np.where(locked, off / 2, difference[..., first])
            difference[..., last] = np.where(locked, -turn * off / 2, difference[..., last])
    return difference


def orthonormality_error(rotations: ArrayLike) -> Floats:
    """Return the largest entry (...) of ``|R Rᵀ - I|``, or infinity where det R is not positive."""
    matrices = np.asarray(rotations, np.float64)
    error = np.abs(matrices @ np.swapaxes(matrices, -1, -2) - np.eye(3)).max(axis=(-2, -1))
    return np.where(np.linalg.det(matrices) > 0, error, np.inf)


def nearest_rotation(matrices: ArrayLike) -> Floats:
    """Return the rotations (..., 3, 3) nearest in the Frobenius norm: the files hold six digits."""
    u, _, vt = np.linalg.svd(np.asarray(matrices, np.float64))
    u[..., :, -1] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt
