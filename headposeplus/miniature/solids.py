"""Solids as signed distance functions, and the triangle meshes of their surfaces. Lengths are millimetres.

The surface of a shape is found along rays from a centre inwards, so it is star-shaped and a regular grid of
directions meshes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

Points = np.ndarray
Distance = Callable[[Points], np.ndarray]


class Mesh(NamedTuple):
    """Vertices (n, 3) in millimetres, triangles (m, 3), and a row a vertex of normal, colour and gloss."""

    vertices: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    gloss: np.ndarray


def _lengths(p: Points) -> np.ndarray:
    """Return the lengths (n,) of vectors (n, 3), as NumPy's norm does and much faster."""
    x, y, z = (p * p).T
    lengths: np.ndarray = np.sqrt(x + y + z)
    return lengths


def ellipsoid(p: Points, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Return the distance (n,) of points (n, 3) to an ellipsoid, about right near its surface."""
    scaled = (p - centre) / radii
    length = _lengths(scaled)
    steepness = _lengths(scaled / radii)
    return length * (length - 1) / np.maximum(steepness, 1e-9)


def capsule(p: Points, a: tuple[float, ...], b: tuple[float, ...], ra: float, rb: float) -> np.ndarray:
    """Return the distance (n,) of points (n, 3) to a capsule from a to b, whose radius goes from ra to rb."""
    start, axis = np.array(a), np.subtract(b, a)
    along = np.clip((p - start) @ axis / (axis @ axis), 0, 1)
    return _lengths(p - start - along[:, None] * axis) - (ra + (rb - ra) * along)


def join(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Smooth union: rounds the seam over about ``k`` millimetres."""
    h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
    return b + (a - b) * h - k * h * (1 - h)


def carve(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Smooth difference: ``a`` without ``b``."""
    return -join(-a, b, k)


def mirrored(p: Points) -> Points:
    """Both halves of a symmetric part share one solid, on the positive side of x."""
    return np.column_stack((np.abs(p[:, 0]), p[:, 1], p[:, 2]))


def step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a smooth step: 0 below ``low``, 1 above ``high``; the other way round where low is the larger."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


class Noise:
    """Smooth noise in space, about N(0, 1), from a seed: a periodic lattice, interpolated."""

    def __init__(self, seed: int) -> None:
        lattice = gaussian_filter(np.random.default_rng(seed).normal(size=(32, 32, 32)), 0.8, mode="wrap")
        self.lattice = (lattice / lattice.std()).astype(np.float32)

    def __call__(self, p: Points, wavelength: float | tuple[float, ...]) -> np.ndarray:
        """Return the noise (n,) at points (n, 3), with a wavelength in millimetres, one for all axes or one each."""
        at = (p / (np.asarray(wavelength) / 3.0)).T
        return map_coordinates(self.lattice, at, order=1, mode="grid-wrap")


def surface(distance: Distance, directions: Points, centre: np.ndarray, far: float) -> Points:
    """Return the outermost surface points along directions from ``centre``, by sphere tracing inwards."""
    radius = np.full(len(directions), far)
    active = np.arange(len(directions))
    for _ in range(90):
        d = distance(centre + radius[active, None] * directions[active])
        radius[active] -= 0.7 * d
        active = active[np.abs(d) > 0.08]
        if not active.size:
            break
    return centre + np.maximum(radius, 1.0)[:, None] * directions


def grid(rows: int, columns: int) -> tuple[Points, np.ndarray]:
    """Return unit directions of a grid about the y axis, denser towards the face (-z), and its triangles."""
    polar = np.linspace(0, np.pi, rows)
    around = np.linspace(-np.pi, np.pi, columns, endpoint=False)
    around = around - 0.45 * np.sin(around)  # 0 is the face: finer there
    polar_grid, around_grid = np.meshgrid(polar, around, indexing="ij")
    directions = np.stack(
        (
            np.sin(polar_grid) * np.sin(around_grid),
            -np.cos(polar_grid),
            -np.sin(polar_grid) * np.cos(around_grid),
        ),
        -1,
    ).reshape(-1, 3)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1], np.roll(index[:-1], -1, axis=1)
    c, d = index[1:], np.roll(index[1:], -1, axis=1)
    triangles = np.concatenate((np.stack((a, c, b), -1).reshape(-1, 3), np.stack((b, c, d), -1).reshape(-1, 3)))
    return directions, triangles


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return outward unit normals (n, 3): the mean of the adjoining faces', weighted by their area."""
    corners = vertices[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(triangles[:, corner], faces[:, axis], len(vertices))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def occlusion(distance: Distance, vertices: Points, normals: Points) -> np.ndarray:
    """Return ambient light (n,) in [0, 1]: how much free space the distance function sees above a point."""
    blocked = np.zeros(len(vertices))
    for height, weight in ((4.0, 0.5), (10.0, 0.35), (22.0, 0.25)):
        blocked += weight * np.clip((height - distance(vertices + height * normals)) / height, 0, 1)
    return np.clip(1 - 0.75 * blocked, 0.2, 1)


def tube(path: Points, radius: float, closed: bool) -> tuple[Points, np.ndarray]:
    """Return vertices and triangles of a tube about a path (n, 3)."""
    ahead = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    helper = np.where(np.abs(ahead[:, [1]]) < 0.9, (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    u = np.cross(ahead, helper)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(ahead, u)
    turn = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    ring = np.cos(turn)[:, None] * u[:, None] + np.sin(turn)[:, None] * v[:, None]
    vertices = (path[:, None] + radius * ring).reshape(-1, 3)
    index = np.arange(len(vertices)).reshape(len(path), 8)
    if closed:
        index = np.concatenate((index, index[:1]))
    a, b, c, d = index[:-1], np.roll(index[:-1], -1, 1), index[1:], np.roll(index[1:], -1, 1)
    return vertices, np.concatenate((np.stack((a, c, b), -1).reshape(-1, 3), np.stack((b, c, d), -1).reshape(-1, 3)))


def merge(meshes: list[Mesh]) -> Mesh:
    """Return several meshes as one."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    triangles = np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        triangles,
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.colours for mesh in meshes]),
        np.concatenate([mesh.gloss for mesh in meshes]),
    )
