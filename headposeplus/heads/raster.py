"""The rasteriser: which triangle each sample of an image sees, textures, and shadows. Compiled by numba.

No kernel is compiled with fast mathematics, so that the same numbers come out on every processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from headposeplus.errors import HeadposeError

Function = TypeVar("Function", bound=Callable[..., Any])

try:
    import numba
except ImportError:
    numba = None


def compiled(function: Function) -> Function:
    """Compile a kernel when it is first called; without numba it runs, a thousand times slower, as plain Python."""
    if numba is None:
        return function
    kernel: Function = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return kernel


def check_compiler() -> None:
    """Raise HeadposeError where numba is not installed."""
    if numba is None:
        raise HeadposeError("rendering heads needs numba: pip install 'headposeplus[render]'")


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
        (t,) the least alpha at which the triangle is seen; 0: everywhere, 256: nowhere.
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


LEVELS = 12


def make_textures(images: list[np.ndarray]) -> Textures:
    """Return textures (height, width, 4), uint8, with copies halved in size again and again."""
    levels = np.zeros((len(images), LEVELS, 3), np.int64)
    parts, start = [], 0
    for number, image in enumerate(images):
        picture = image
        for level in range(LEVELS):
            height, width = picture.shape[:2]
            levels[number, level] = start, width, height
            parts.append(picture.reshape(-1, 4))
            start += width * height
            if min(width, height) < 8:
                break
            picture = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return Textures(np.concatenate(parts), levels)


@compiled
def level_of(projected: Projected, textures: Textures, triangle: int) -> int:
    """Return the level at which a texel of a triangle is nearest to a sample in size."""
    corners, uv = projected.triangles[triangle], projected.uv[triangle]
    x, y = projected.x, projected.y
    a, b, c = corners[0], corners[1], corners[2]
    area = abs((x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a]))
    covered = abs((uv[1, 0] - uv[0, 0]) * (uv[2, 1] - uv[0, 1]) - (uv[2, 0] - uv[0, 0]) * (uv[1, 1] - uv[0, 1]))
    levels = textures.levels[projected.texture[triangle]]
    ratio = covered * levels[0, 1] * levels[0, 2] / max(area, 1e-6)
    level = 0
    while ratio > 2 and level + 1 < levels.shape[0] and levels[level + 1, 1] > 0:
        ratio /= 4
        level += 1
    return level


@compiled
def look_up(textures: Textures, texture: int, level: int, u: float, v: float, colour: np.ndarray) -> None:
    """Write into ``colour`` (4,) the texture at u to the right and v upwards, between texels; it repeats beyond [0, 1)."""
    start, width, height = textures.levels[texture, level]
    x = (u - math.floor(u)) * width - 0.5
    y = (1 - (v - math.floor(v))) * height - 0.5
    left, top = math.floor(x), math.floor(y)
    across, down = x - left, y - top
    x0, x1 = int(left) % width, (int(left) + 1) % width
    y0, y1 = int(top) % height, (int(top) + 1) % height
    texels = textures.texels
    a, b = start + y0 * width + x0, start + y0 * width + x1
    c, d = start + y1 * width + x0, start + y1 * width + x1
    wa, wb = (1 - across) * (1 - down), across * (1 - down)
    wc, wd = (1 - across) * down, across * down
    for k in range(4):
        colour[k] = wa * texels[a, k] + wb * texels[b, k] + wc * texels[c, k] + wd * texels[d, k]


@compiled
def draw(projected: Projected, textures: Textures, near: np.ndarray, seen: np.ndarray) -> None:
    """Find what each sample sees.

    ``near`` (height, width) holds how near the nearest triangle is so far, and ``seen`` (height, width) its number;
    both are written to. They start at -infinity and -1.
    """
    height, width = near.shape
    colour = np.zeros(4)
    for t in range(len(projected.triangles)):
        cut = projected.cut[t]
        if cut > 255:
            continue
        i, j, k = projected.triangles[t]
        xi, xj, xk = projected.x[i], projected.x[j], projected.x[k]
        yi, yj, yk = projected.y[i], projected.y[j], projected.y[k]
        area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
        if area == 0 or (projected.above[i] < 0 and projected.above[j] < 0 and projected.above[k] < 0):
            continue
        first, last = max(math.ceil(min(xi, xj, xk)), 0), min(math.floor(max(xi, xj, xk)), width - 1)
        top, bottom = max(math.ceil(min(yi, yj, yk)), 0), min(math.floor(max(yi, yj, yk)), height - 1)
        if first > last or top > bottom:
            continue
        whole = projected.above[i] >= 0 and projected.above[j] >= 0 and projected.above[k] >= 0
        level = level_of(projected, textures, t) if cut > 0 else 0
        for y in range(top, bottom + 1):
            for x in range(first, last + 1):
                b = ((x - xi) * (yk - yi) - (xk - xi) * (y - yi)) / area
                c = ((xj - xi) * (y - yi) - (x - xi) * (yj - yi)) / area
                a = 1 - b - c
                if a < 0 or b < 0 or c < 0:
                    continue
                nearness = a * projected.near[i] + b * projected.near[j] + c * projected.near[k]
                if nearness <= near[y, x]:
                    continue
                if cut > 0 or not whole:
                    a, b, c = a * projected.weight[i], b * projected.weight[j], c * projected.weight[k]
                    total = a + b + c
                    a, b, c = a / total, b / total, c / total
                    if a * projected.above[i] + b * projected.above[j] + c * projected.above[k] < 0:
                        continue
                    if cut > 0:
                        uv = projected.uv[t]
                        u = a * uv[0, 0] + b * uv[1, 0] + c * uv[2, 0]
                        v = a * uv[0, 1] + b * uv[1, 1] + c * uv[2, 1]
                        look_up(textures, projected.texture[t], level, u, v, colour)
                        if colour[3] < cut:
                            continue
                near[y, x] = nearness
                seen[y, x] = t


@compiled
def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return unit normals (n, 3) of vertices (n, 3): the mean of their triangles' (t, 3), weighted by area."""
    normals = np.zeros(vertices.shape)
    for t in range(len(triangles)):
        i, j, k = triangles[t]
        ax, ay, az = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
        bx, by, bz = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for vertex in (i, j, k):
            normals[vertex, 0] += nx
            normals[vertex, 1] += ny
            normals[vertex, 2] += nz
    for n in range(len(normals)):
        length = math.sqrt(normals[n, 0] ** 2 + normals[n, 1] ** 2 + normals[n, 2] ** 2)
        for axis in range(3):
            normals[n, axis] /= max(length, 1e-12)
    return normals
