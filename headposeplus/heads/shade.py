"""From a head to an image: camera, lamp and sky, skin and hair in their light, and the image's pixels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from headposeplus.heads.kernels import (
    BROW,
    HAIR,
    LASH,
    SAMPLES,
    blend,
    colour_in,
    develop,
    draw,
    times,
    vertex_normals,
)  # fmt: skip
from headposeplus.heads.model import Head, beside, harmonics
from headposeplus.heads.views import Lamp, Projected, Surface
from headposeplus.rotations import Floats

SHADOW = 512  # samples a side of the lamp's view


class Camera(NamedTuple):
    """A pinhole camera, straight before the head.

    Attributes
    ----------
    size
        Pixels a side.
    focal
        Its focal length, in pixels.
    distance
        From the camera to the head's middle, mm.
    middle
        The pixel (2,), x and y, in which the head's middle is seen: the principal point.
    """

    size: int
    focal: float
    distance: float
    middle: Floats


class Light(NamedTuple):
    """What lights a head, in the camera's frame: a lamp's direction and colour (3,), the sky's harmonics (9, 3)."""

    direction: Floats
    colour: Floats
    sky: Floats


def sky_of(ambient: Floats, directions: Floats, colours: Floats) -> Floats:
    """Return the harmonics (9, 3) of a sky: an even light (3,), and others (k, 3) from directions (k, 3).

    Each of those falls off as the cosine of the angle to its direction. The coefficients of such a lobe are those of
    Ramamoorthi and Hanrahan, SIGGRAPH 2001.
    """
    lobes = np.repeat([math.pi, 2 * math.pi / 3, math.pi / 4], [1, 3, 5])
    sky: Floats = np.einsum("kn,kc->nc", harmonics(directions), colours) * lobes[:, None]
    sky[0] += math.sqrt(4 * math.pi) * ambient
    return sky


def _projected(head: Head, position: Floats, camera: Camera) -> Projected:
    inverse = 1 / position[:, 2]
    x, y = (
        position[:, axis] * inverse * camera.focal * SAMPLES + (camera.middle[axis] + 0.5) * SAMPLES - 0.5
        for axis in (0, 1)
    )
    return Projected(x, y, inverse, inverse, head.triangles, head.uv, head.texture, head.cut, head.above)


def _lamp_view(head: Head, vertices: Floats, direction: Floats) -> tuple[Projected, np.ndarray]:
    """Return a head as a lamp in ``direction`` sees it from far away, and how near the nearest surface is, mm."""
    right, down = beside(direction)
    scale = (SHADOW / 2 - 4) / head.radius
    axes = np.column_stack((right * scale, down * scale, direction))
    x, y, near = np.ascontiguousarray(times(vertices, axes).T)
    view = Projected(
        x + SHADOW / 2,
        y + SHADOW / 2,
        near,
        np.ones(len(x)),
        head.triangles,
        head.uv,
        head.texture,
        head.cut,
        head.above,
    )
    buffer, order = np.full((SHADOW, SHADOW), -np.inf), np.argsort(-near[head.triangles[:, 0]], kind="stable")
    draw(view, head.textures, order, buffer, np.full((SHADOW, SHADOW), -1, np.int32))
    return view, buffer


def render(head: Head, vertices: Floats, rotation: Floats, camera: Camera, light: Light) -> np.ndarray:
    """Return the image RGBA (size, size, 4), uint8, of a head whose ``vertices`` (n, 3) an expression has moved.

    ``rotation`` is Biwi's: from the head's axes to the camera's.
    """
    side = camera.size * SAMPLES
    normals = vertex_normals(vertices, head.triangles)
    turned = np.ascontiguousarray(rotation.T)
    position = times(vertices, turned)
    position[:, 2] += camera.distance
    projected = _projected(head, position, camera)
    near, seen = np.full((side, side), -np.inf), np.full((side, side), -1, np.int32)
    nearest = np.argsort(-projected.near[head.triangles[:, 0]], kind="stable")
    draw(projected, head.textures, nearest, near, seen)
    view, shadow = _lamp_view(head, vertices, light.direction @ rotation)
    glow = np.maximum(times(head.sky, turned_sky(light.sky, rotation)), 0.0)
    surface = Surface(position, times(normals, turned), head.tint, glow, view.x, view.y, view.near, head.kind)
    lamp = Lamp(light.direction, light.colour, shadow)
    colour = np.zeros((side, side, 4))
    colour_in(projected, head.textures, surface, lamp, near, seen, colour)
    thin = np.isin(head.kind, (HAIR, BROW, LASH)) & (head.cut > 1) & ((head.cut < 256) | (head.kind != HAIR))
    farthest = nearest[::-1]
    blend(projected, head.textures, surface, lamp, farthest[thin[farthest]], near, colour)
    image = np.zeros((camera.size, camera.size, 4), np.uint8)
    develop(colour, image)
    return image


_PROBES = np.array([
    [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, -1, 0], [1, 0, -1], [-1, -1, -1.0],
])  # fmt: skip
_PROBES = _PROBES / np.linalg.norm(_PROBES, axis=1, keepdims=True)
_FROM_PROBES = np.linalg.inv(harmonics(_PROBES))


def turned_sky(sky: Floats, rotation: Floats) -> Floats:
    """Return the harmonics (9, 3), in the head's frame, of a sky (9, 3) in the camera's; ``rotation`` is the head's.

    Harmonics up to the second degree are turned into such: nine directions say all of them.
    """
    seen: Floats = times(_FROM_PROBES, times(harmonics(_PROBES @ rotation.T), sky))
    return seen
