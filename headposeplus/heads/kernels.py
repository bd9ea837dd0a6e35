"""What is done for each triangle and sample, compiled by numba: rasterising, textures, shadows, shading.

All of it is in one file: numba keeps what it compiled for as long as the file stays as it is. No fast mathematics, so
that the same numbers come out on every processor.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from headposeplus.errors import HeadposeError
from headposeplus.heads.views import Lamp, Projected, Surface, Textures

Function = TypeVar("Function", bound=Callable[..., Any])

numba: Any = None
if importlib.util.find_spec("numba"):
    numba = importlib.import_module("numba")


def compiled(function: Function) -> Function:
    """Compile a kernel when it is first called; without numba it runs, a thousand times slower, as plain Python."""
    if numba is None:
        return function
    kernel: Function
    try:
        kernel = numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder can be written to
        kernel = numba.njit(error_model="numpy")(function)
    return kernel


def check_compiler() -> None:
    """Raise HeadposeError where numba is not installed."""
    if numba is None:
        raise HeadposeError("rendering heads needs numba: pip install 'headposeplus[render]'")


SAMPLES = 2  # a side of a pixel
SKIN, EYE, HAIR, BROW, LASH = range(5)
_SHARP = 0.3  # samples for which a lock's alpha is taken: a coarse one would fray its edge seen from the side
_SAME = 0.005  # of their depth that samples of one surface may differ by
# Mm that a surface may lie behind what the lamp sees and is still lit: where it faces the lamp, and more at a slant.
_BIAS, _SLANT = 1.2, 3.0
_LIFT = 1.004  # brows and lashes are drawn as if they were nearer by this factor
_LINEAR = np.where(np.arange(256) <= 10, np.arange(256) / 255 / 12.92, ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4)
_CODES = 4096
_LEVELS = np.arange(_CODES) / (_CODES - 1)
_CODED = np.where(_LEVELS <= 0.0031308, 12.92 * _LEVELS, 1.055 * _LEVELS ** (1 / 2.4) - 0.055) * 255


@compiled
def times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return rows (n, k) times a matrix (k, m); unlike BLAS, to the last bit the same everywhere."""
    product = np.zeros((rows.shape[0], matrix.shape[1]))
    for n in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            for m in range(matrix.shape[1]):
                product[n, m] += rows[n, k] * matrix[k, m]
    return product


@compiled
def level_of(projected: Projected, textures: Textures, t: int, spread: float) -> int:
    """Return the level at which a texel of triangle ``t`` is nearest in size to an area of ``spread`` samples."""
    i, j, k = projected.triangles[t, 0], projected.triangles[t, 1], projected.triangles[t, 2]
    x, y, uv, levels = projected.x, projected.y, projected.uv, textures.levels
    area = abs((x[j] - x[i]) * (y[k] - y[i]) - (x[k] - x[i]) * (y[j] - y[i]))
    right, up = uv[t, 1, 0] - uv[t, 0, 0], uv[t, 1, 1] - uv[t, 0, 1]
    covered = abs(right * (uv[t, 2, 1] - uv[t, 0, 1]) - (uv[t, 2, 0] - uv[t, 0, 0]) * up)
    texture = projected.texture[t]
    ratio = spread * covered * levels[texture, 0, 1] * levels[texture, 0, 2] / max(area, 1e-6)
    level = 0
    while ratio > 2 and level + 1 < levels.shape[1] and levels[texture, level + 1, 1] > 0:
        ratio /= 4
        level += 1
    return level


@compiled
def look_up(textures: Textures, texture: int, level: int, u: float, v: float) -> tuple[float, float, float, float]:
    """Return red, green, blue and alpha of a texture at u to the right and v upwards; it repeats beyond [0, 1)."""
    levels, texels = textures.levels, textures.texels
    start, width, height = levels[texture, level, 0], levels[texture, level, 1], levels[texture, level, 2]
    x = (u - math.floor(u)) * width - 0.5
    y = (1 - (v - math.floor(v))) * height - 0.5
    left, top = math.floor(x), math.floor(y)
    across, down = x - left, y - top
    x0, y0 = int(left) % width, int(top) % height
    x1, y1 = (x0 + 1) % width, (y0 + 1) % height
    a, b, c, d = start + y0 * width + x0, start + y0 * width + x1, start + y1 * width + x0, start + y1 * width + x1
    wa, wb = (1 - across) * (1 - down), across * (1 - down)
    wc, wd = (1 - across) * down, across * down
    return (
        wa * texels[a, 0] + wb * texels[b, 0] + wc * texels[c, 0] + wd * texels[d, 0],
        wa * texels[a, 1] + wb * texels[b, 1] + wc * texels[c, 1] + wd * texels[d, 1],
        wa * texels[a, 2] + wb * texels[b, 2] + wc * texels[c, 2] + wd * texels[d, 2],
        wa * texels[a, 3] + wb * texels[b, 3] + wc * texels[c, 3] + wd * texels[d, 3],
    )


@compiled
def _passes(projected: Projected, textures: Textures, t: int, level: int, a: float, b: float, c: float) -> bool:
    """Return whether a point of a triangle, by its weights on it, is above the cut and not seen through."""
    triangles, above, uv = projected.triangles, projected.above, projected.uv
    if a * above[triangles[t, 0]] + b * above[triangles[t, 1]] + c * above[triangles[t, 2]] < 0:
        return False
    if projected.cut[t] <= 1:
        return True
    u = a * uv[t, 0, 0] + b * uv[t, 1, 0] + c * uv[t, 2, 0]
    v = a * uv[t, 0, 1] + b * uv[t, 1, 1] + c * uv[t, 2, 1]
    _, _, _, alpha = look_up(textures, projected.texture[t], level, u, v)
    return alpha >= projected.cut[t]


@compiled
def draw(projected: Projected, textures: Textures, order: np.ndarray, near: np.ndarray, seen: np.ndarray) -> None:
    """Find what each sample sees of the triangles ``order``; it takes less time where the nearest come first.

    ``near`` (height, width) holds how near the nearest triangle is so far, and ``seen`` (height, width) its number;
    both are written to. They start at -infinity and -1.
    """
    height, width = near.shape
    triangles, above, key, weight = projected.triangles, projected.above, projected.near, projected.weight
    for t in order:
        cut = projected.cut[t]
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        xi, xj, xk = projected.x[i], projected.x[j], projected.x[k]
        yi, yj, yk = projected.y[i], projected.y[j], projected.y[k]
        area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
        if cut > 255 or area == 0 or (cut == 0 and area > 0) or (above[i] < 0 and above[j] < 0 and above[k] < 0):
            continue
        first, last = max(math.ceil(min(xi, xj, xk)), 0), min(math.floor(max(xi, xj, xk)), width - 1)
        top, bottom = max(math.ceil(min(yi, yj, yk)), 0), min(math.floor(max(yi, yj, yk)), height - 1)
        if first > last or top > bottom:
            continue
        whole = cut <= 1 and above[i] >= 0 and above[j] >= 0 and above[k] >= 0
        level = level_of(projected, textures, t, _SHARP) if cut > 1 else 0
        inverse = 1 / area
        for y in range(top, bottom + 1):
            for x in range(first, last + 1):
                b = ((x - xi) * (yk - yi) - (xk - xi) * (y - yi)) * inverse
                c = ((xj - xi) * (y - yi) - (x - xi) * (yj - yi)) * inverse
                a = 1 - b - c
                if a < 0 or b < 0 or c < 0:
                    continue
                nearness = a * key[i] + b * key[j] + c * key[k]
                if nearness <= near[y, x]:
                    continue
                if not whole:
                    a, b, c = a * weight[i], b * weight[j], c * weight[k]
                    total = 1 / (a + b + c)
                    if not _passes(projected, textures, t, level, a * total, b * total, c * total):
                        continue
                near[y, x] = nearness
                seen[y, x] = t


@compiled
def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return unit normals (n, 3) of vertices (n, 3): the mean of their triangles' (t, 3), weighted by area."""
    normals = np.zeros(vertices.shape)
    for t in range(len(triangles)):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
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


@compiled
def _lit(
    lamp: Lamp, x: float, y: float, near: float, red: float, green: float, blue: float
) -> tuple[float, float, float]:
    """Return how much of the lamp's light of each colour reaches a point: 3 x 3 looks about it.

    Light of a colour goes through ``red``, ``green`` or ``blue`` millimetres of what is before the point.
    """
    side = lamp.near.shape[0]
    r, g, b = 0.0, 0.0, 0.0
    for row in range(-1, 2):
        for column in range(-1, 2):
            i = min(max(math.floor(x + 1.4 * column + 0.5), 0), side - 1)
            j = min(max(math.floor(y + 1.4 * row + 0.5), 0), side - 1)
            behind = max(lamp.near[j, i] - near, 0.0)
            r += max(1 - behind / red, 0.0) ** 2
            g += max(1 - behind / green, 0.0) ** 2
            b += max(1 - behind / blue, 0.0) ** 2
    return r / 9, g / 9, b / 9


@compiled
def _power(value: float, squarings: int) -> float:
    """Return a value squared again and again."""
    for _ in range(squarings):
        value *= value
    return value


@compiled
def _mixed(rows: np.ndarray, column: int, i: int, j: int, k: int, a: float, b: float, c: float) -> float:
    """Return what lies between three rows of a column."""
    return a * rows[i, column] + b * rows[j, column] + c * rows[k, column]


@compiled
def _shine(kind: int, half: float, fresnel: float, brightness: float) -> float:
    """Return how much a surface mirrors of a lamp, of which ``half`` is the cosine between the normal and half way."""
    if kind == SKIN:  # a broad lobe and a narrow one
        return fresnel * (2.0 * _power(half, 4) + 2.9 * _power(half, 6))
    if kind == EYE:
        return fresnel * 64 * _power(half, 9)
    if kind == HAIR:
        return 0.10 * _power(half, 4) * brightness
    return 0.0


@compiled
def _shade(
    projected: Projected, surface: Surface, lamp: Lamp, t: int, a: float, b: float, c: float,
    red: float, green: float, blue: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Return the light that a point of a triangle, by its weights on it, sends to the camera; its texture is linear."""
    i, j, k = projected.triangles[t, 0], projected.triangles[t, 1], projected.triangles[t, 2]
    kind = surface.kind[t]
    px = _mixed(surface.position, 0, i, j, k, a, b, c)
    py = _mixed(surface.position, 1, i, j, k, a, b, c)
    pz = _mixed(surface.position, 2, i, j, k, a, b, c)
    nx = _mixed(surface.normal, 0, i, j, k, a, b, c)
    ny = _mixed(surface.normal, 1, i, j, k, a, b, c)
    nz = _mixed(surface.normal, 2, i, j, k, a, b, c)
    far = -1 / math.sqrt(px * px + py * py + pz * pz)
    vx, vy, vz = px * far, py * far, pz * far
    length = 1 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12)
    facing = (nx * vx + ny * vy + nz * vz) * length
    if facing < 0 and kind != SKIN:  # a lock of hair has two sides
        length, facing = -length, -facing
    nx, ny, nz = nx * length, ny * length, nz * length
    lx, ly, lz = lamp.direction[0], lamp.direction[1], lamp.direction[2]
    towards = nx * lx + ny * ly + nz * lz
    hx, hy, hz = lx + vx, ly + vy, lz + vz
    size = 1 / (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-12)
    half = max((nx * hx + ny * hy + nz * hz) * size, 0.0)
    grazing = 1 - max((vx * hx + vy * hy + vz * hz) * size, 0.0)
    fresnel = 0.03 + 0.97 * grazing * _power(grazing, 2)
    shine = _shine(kind, half, fresnel, red + green + blue) * max(towards, 0.0)

    wr, wg, wb, dr, dg, db = 0.1, 0.1, 0.1, 1.0, 1.0, 1.0
    if kind == SKIN:
        wr, wg, wb, dr, dg, db = 0.30, 0.16, 0.11, 7.0, 3.0, 2.0
    elif kind == HAIR:
        wr, wg, wb, dr, dg, db = 0.45, 0.45, 0.45, 14.0, 14.0, 14.0
    near = a * surface.lamp_near[i] + b * surface.lamp_near[j] + c * surface.lamp_near[k]
    x = a * surface.lamp_x[i] + b * surface.lamp_x[j] + c * surface.lamp_x[k]
    y = a * surface.lamp_y[i] + b * surface.lamp_y[j] + c * surface.lamp_y[k]
    lr, lg, lb = _lit(lamp, x, y, near + _BIAS + _SLANT * (1 - max(towards, 0.0)), dr, dg, db)
    if kind in (BROW, LASH):  # their colour is their tint's alone
        red, green, blue = 1.0, 1.0, 1.0
    red = min(red * _mixed(surface.tint, 0, i, j, k, a, b, c), 0.95)
    green = min(green * _mixed(surface.tint, 1, i, j, k, a, b, c), 0.95)
    blue = min(blue * _mixed(surface.tint, 2, i, j, k, a, b, c), 0.95)
    lr, lg, lb = lr * lamp.colour[0], lg * lamp.colour[1], lb * lamp.colour[2]
    rim = 0.06 * _power(1 - min(max(facing, 0.0), 1.0), 2)  # the sky, mirrored at a grazing angle
    gr = _mixed(surface.glow, 0, i, j, k, a, b, c)
    gg = _mixed(surface.glow, 1, i, j, k, a, b, c)
    gb = _mixed(surface.glow, 2, i, j, k, a, b, c)
    return (
        red * (lr * max(towards + wr, 0.0) / (1 + wr) + gr) + lr * shine + gr * rim,
        green * (lg * max(towards + wg, 0.0) / (1 + wg) + gg) + lg * shine + gg * rim,
        blue * (lb * max(towards + wb, 0.0) / (1 + wb) + gb) + lb * shine + gb * rim,
    )


@compiled
def _weights(projected: Projected, t: int, x: int, y: int) -> tuple[float, float, float, float, float, float]:
    """Return a triangle's barycentric weights at a sample: linear in the image, and linear on the triangle."""
    i, j, k = projected.triangles[t, 0], projected.triangles[t, 1], projected.triangles[t, 2]
    xi, xj, xk = projected.x[i], projected.x[j], projected.x[k]
    yi, yj, yk = projected.y[i], projected.y[j], projected.y[k]
    area = 1 / ((xj - xi) * (yk - yi) - (xk - xi) * (yj - yi))
    b = ((x - xi) * (yk - yi) - (xk - xi) * (y - yi)) * area
    c = ((xj - xi) * (y - yi) - (x - xi) * (yj - yi)) * area
    a = 1 - b - c
    pa, pb, pc = a * projected.weight[i], b * projected.weight[j], c * projected.weight[k]
    total = 1 / (pa + pb + pc)
    return a, b, c, pa * total, pb * total, pc * total


@compiled
def _linear(code: float) -> float:
    """Return the linear value of a code of sRGB, 0 to 255."""
    low = int(code)
    return _LINEAR[low] + (code - low) * (_LINEAR[min(low + 1, 255)] - _LINEAR[low])


@compiled
def _texel(
    projected: Projected, textures: Textures, t: int, level: int, a: float, b: float, c: float
) -> tuple[float, float, float, float]:
    """Return a triangle's texture: linear colours, and alpha from 0 to 255."""
    uv = projected.uv
    u = a * uv[t, 0, 0] + b * uv[t, 1, 0] + c * uv[t, 2, 0]
    v = a * uv[t, 0, 1] + b * uv[t, 1, 1] + c * uv[t, 2, 1]
    red, green, blue, alpha = look_up(textures, projected.texture[t], level, u, v)
    return _linear(red), _linear(green), _linear(blue), alpha


@compiled
def colour_in(
    projected: Projected, textures: Textures, surface: Surface, lamp: Lamp, near: np.ndarray, seen: np.ndarray,
    colour: np.ndarray,
) -> None:  # fmt: skip
    """Write into ``colour`` (height, width, 4) the light from what each sample sees, and 1 where it sees something.

    Samples of a pixel that see one surface are shaded once, except those of eyes.
    """
    levels = np.full(len(projected.triangles), -1, np.int8)
    for y in range(seen.shape[0]):
        for x in range(seen.shape[1]):
            t = seen[y, x]
            if t < 0:
                continue
            colour[y, x, 3] = 1
            kind, shared = surface.kind[t], False
            first = y - y % SAMPLES, x - x % SAMPLES
            for j in range(first[0], y + 1):
                for i in range(first[1], x + 1 if j == y else first[1] + SAMPLES):
                    other = seen[j, i]
                    if shared or kind == EYE or other < 0 or (i == x and j == y) or surface.kind[other] != kind:
                        continue
                    if abs(near[j, i] - near[y, x]) < _SAME * near[y, x]:
                        shared = True
                        for k in range(3):
                            colour[y, x, k] = colour[j, i, k]
            if shared:
                continue
            if levels[t] < 0:
                levels[t] = level_of(projected, textures, t, 1.0 if kind == EYE else 2.0)
            _, _, _, a, b, c = _weights(projected, t, x, y)
            red, green, blue, _ = _texel(projected, textures, t, levels[t], a, b, c)
            red, green, blue = _shade(projected, surface, lamp, t, a, b, c, red, green, blue)
            colour[y, x, 0], colour[y, x, 1], colour[y, x, 2] = red, green, blue


@compiled
def blend(
    projected: Projected, textures: Textures, surface: Surface, lamp: Lamp, order: np.ndarray, near: np.ndarray,
    colour: np.ndarray,
) -> None:  # fmt: skip
    """Lay what is thin over ``colour``: the triangles ``order``, the farthest first, where they are not hidden."""
    height, width = near.shape
    key, above = projected.near, projected.above
    for t in order:
        i, j, k = projected.triangles[t, 0], projected.triangles[t, 1], projected.triangles[t, 2]
        xs = projected.x[i], projected.x[j], projected.x[k]
        ys = projected.y[i], projected.y[j], projected.y[k]
        if (xs[1] - xs[0]) * (ys[2] - ys[0]) == (xs[2] - xs[0]) * (ys[1] - ys[0]):
            continue
        lift = _LIFT if surface.kind[t] != HAIR else 1.0
        most = projected.cut[t]
        level = level_of(projected, textures, t, _SHARP)
        for y in range(max(math.ceil(min(ys)), 0), min(math.floor(max(ys)), height - 1) + 1):
            for x in range(max(math.ceil(min(xs)), 0), min(math.floor(max(xs)), width - 1) + 1):
                sa, sb, sc, a, b, c = _weights(projected, t, x, y)
                if sa < 0 or sb < 0 or sc < 0 or (sa * key[i] + sb * key[j] + sc * key[k]) * lift <= near[y, x]:
                    continue
                if a * above[i] + b * above[j] + c * above[k] < 0:
                    continue
                red, green, blue, alpha = _texel(projected, textures, t, level, a, b, c)
                if alpha < 8 or alpha >= most:
                    continue
                red, green, blue = _shade(projected, surface, lamp, t, a, b, c, red, green, blue)
                alpha /= 255
                colour[y, x, 0] += alpha * (red - colour[y, x, 0])
                colour[y, x, 1] += alpha * (green - colour[y, x, 1])
                colour[y, x, 2] += alpha * (blue - colour[y, x, 2])
                colour[y, x, 3] += alpha * (1 - colour[y, x, 3])


@compiled
def develop(colour: np.ndarray, image: np.ndarray) -> None:
    """Write the image (size, size, 4), uint8, of samples (size * SAMPLES, size * SAMPLES, 4), colours times alpha."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            alpha = 0.0
            for j in range(SAMPLES):
                for i in range(SAMPLES):
                    alpha += colour[y * SAMPLES + j, x * SAMPLES + i, 3]
            if alpha < SAMPLES * SAMPLES / 510:
                continue
            for k in range(3):
                light = 0.0
                for j in range(SAMPLES):
                    for i in range(SAMPLES):
                        light += colour[y * SAMPLES + j, x * SAMPLES + i, k]
                light /= alpha
                # Highlights are rolled off as film does, instead of cut off.
                light = light if light < 0.6 else 0.6 + 0.4 * (light - 0.6) / (light - 0.2)
                image[y, x, k] = int(_CODED[int(light * (_CODES - 1) + 0.5)] + 0.5)
            image[y, x, 3] = int(255 * alpha / (SAMPLES * SAMPLES) + 0.5)
