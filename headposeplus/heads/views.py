"""What the kernels work on: textures, and meshes as a camera or a lamp sees them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Textures(NamedTuple):
    """Textures with their halved copies, in one array.

    Attributes
    ----------
    texels
        (k, 4) uint8, RGBA, row by row, the top first.
    levels
        (textures, 12, 3): where each level starts in ``texels``, its width and its height; a width of 0: no level.
    """

    texels: np.ndarray
    levels: np.ndarray


class Projected(NamedTuple):
    """A mesh as a camera or a lamp sees it.

    Attributes
    ----------
    x, y
        (n,) in samples; a sample's centre lies at whole numbers.
    near
        (n,) grows towards the eye, linear in x and y: the inverse depth, or minus the depth for parallel rays.
    weight
        (n,) the inverse depth, or 1 for parallel rays: attributes times it are linear in x and y.
    triangles
        (t, 3).
    uv
        (t, 3, 2), where in the texture each corner lies.
    texture
        (t,) which texture.
    cut
        (t,) the least alpha at which the triangle is seen. 0: it is part of something solid, whose inside is not drawn;
        1: all of it is seen, from both sides; 256: none of it.
    above
        (n,) negative where the mesh is cut away.
    """

    x: np.ndarray
    y: np.ndarray
    near: np.ndarray
    weight: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    texture: np.ndarray
    cut: np.ndarray
    above: np.ndarray


class Surface(NamedTuple):
    """What is interpolated over a head, a row a vertex, and of what each triangle is.

    Attributes
    ----------
    position, normal
        (n, 3), in the camera's frame, mm.
    tint
        (n, 3): by which the texture's linear colour is multiplied.
    glow
        (n, 3): the light received from the sky.
    lamp_x, lamp_y, lamp_near
        (n,): where the lamp sees it, in samples, and how near, mm.
    kind
        (t,): skin, eye, hair, brow or lash.
    """

    position: np.ndarray
    normal: np.ndarray
    tint: np.ndarray
    glow: np.ndarray
    lamp_x: np.ndarray
    lamp_y: np.ndarray
    lamp_near: np.ndarray
    kind: np.ndarray


class Lamp(NamedTuple):
    """A lamp, far away: the direction to it and its colour (3,), and how near each sample of its view is, mm."""

    direction: np.ndarray
    colour: np.ndarray
    near: np.ndarray
