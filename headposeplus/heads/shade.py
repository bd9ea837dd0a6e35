"""From a head to an image: camera, lamp and sky, skin and hair in their light, and the image's pixels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from headposeplus.heads.model import BROW, EYE, HAIR, LASH, SKIN, Head, beside, harmonics
from headposeplus.heads.raster import Projected, Textures, compiled, draw, level_of, look_up, vertex_normals
from headposeplus.rotations import Floats

SAMPLES = 2  # a side of a pixel
SHADOW = 512  # samples a side of the lamp's view
_BIAS = 1.5  # mm that a surface may lie behind what the lamp sees and is still lit
_LIFT = 1.004  # brows and lashes are drawn as if they were nearer by this factor
# Blood and flesh: how far light of each colour goes round a bend (cosine), and through skin (mm).
_WRAP = np.array([0.30, 0.16, 0.11])
_THROUGH = np.array([7.0, 3.0, 2.0])
_LINEAR = np.where(np.arange(256) <= 10, np.arange(256) / 255 / 12.92, ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4)
_CODES = 4096
_LEVELS = np.arange(_CODES) / (_CODES - 1)
_CODED = np.where(_LEVELS <= 0.0031308, 12.92 * _LEVELS, 1.055 * _LEVELS ** (1 / 2.4) - 0.055) * 255


class Camera(NamedTuple):
    """A pinhole camera: pixels a side, focal length in pixels, and where the head's middle is (3,), mm."""

    size: int
    focal: float
    centre: Floats


class Light(NamedTuple):
    """What lights a head, in the camera's frame: a lamp, by the direction to it (3,), and the sky's harmonics (9, 3)."""

    direction: Floats
    colour: Floats
    sky: Floats


class _Surface(NamedTuple):
    """What is interpolated over a head, a row a vertex, and what a triangle is made of (t,)."""

    position: np.ndarray
    normal: np.ndarray
    tint: np.ndarray
    glow: np.ndarray  # light received from the sky
    lamp_x: np.ndarray
    lamp_y: np.ndarray
    lamp_near: np.ndarray
    kind: np.ndarray


class _Lamp(NamedTuple):
    direction: np.ndarray
    colour: np.ndarray
    near: np.ndarray  # (SHADOW, SHADOW): how near the nearest surface is, mm


def sky_of(ambient: Floats, directions: Floats, colours: Floats) -> Floats:
    """Return the harmonics (9, 3) of a sky: an even light (3,), and lights (k, 3) from directions (k, 3), each a cosine wide.

    The coefficients of a clamped cosine are those of Ramamoorthi and Hanrahan, SIGGRAPH 2001.
    """
    lobes = np.repeat([math.pi, 2 * math.pi / 3, math.pi / 4], [1, 3, 5])
    sky: Floats = np.einsum("kn,kc->nc", harmonics(directions), colours) * lobes[:, None]
    sky[0] += math.sqrt(4 * math.pi) * ambient
    return sky


@compiled
def _times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return rows (n, k) times a matrix (k, m); unlike BLAS, to the last bit the same everywhere."""
    product = np.zeros((rows.shape[0], matrix.shape[1]))
    for n in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            for m in range(matrix.shape[1]):
                product[n, m] += rows[n, k] * matrix[k, m]
    return product


@compiled
def _lit(lamp: _Lamp, x: float, y: float, near: float, through: np.ndarray, light: np.ndarray) -> None:
    """Write into ``light`` (3,) how much of the lamp's light of each colour reaches a point: 3 x 3 looks about it."""
    side = lamp.near.shape[0]
    light[:] = 0
    for row in range(-1, 2):
        for column in range(-1, 2):
            i = min(max(int(math.floor(x + 1.4 * column + 0.5)), 0), side - 1)
            j = min(max(int(math.floor(y + 1.4 * row + 0.5)), 0), side - 1)
            behind = lamp.near[j, i] - near - _BIAS
            for k in range(3):
                if behind <= 0:
                    light[k] += 1 / 9
                elif behind < through[k]:
                    light[k] += (1 - behind / through[k]) ** 2 / 9


@compiled
def _power(value: float, squarings: int) -> float:
    """Return a value squared again and again."""
    for _ in range(squarings):
        value *= value
    return value


@compiled
def _shade(
    t: int, a: float, b: float, c: float, projected: Projected, surface: _Surface, lamp: _Lamp, texel: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Write into ``out`` (3,) the light that a point of a triangle sends to the camera; ``texel`` is linear."""
    i, j, k = projected.triangles[t]
    kind = surface.kind[t]
    px = a * surface.position[i, 0] + b * surface.position[j, 0] + c * surface.position[k, 0]
    py = a * surface.position[i, 1] + b * surface.position[j, 1] + c * surface.position[k, 1]
    pz = a * surface.position[i, 2] + b * surface.position[j, 2] + c * surface.position[k, 2]
    nx = a * surface.normal[i, 0] + b * surface.normal[j, 0] + c * surface.normal[k, 0]
    ny = a * surface.normal[i, 1] + b * surface.normal[j, 1] + c * surface.normal[k, 1]
    nz = a * surface.normal[i, 2] + b * surface.normal[j, 2] + c * surface.normal[k, 2]
    length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    far = math.sqrt(px * px + py * py + pz * pz)
    vx, vy, vz = -px / far, -py / far, -pz / far
    facing = (nx * vx + ny * vy + nz * vz) / length
    if facing < 0 and kind != SKIN:  # a lock of hair has two sides
        length, facing = -length, -facing
    nx, ny, nz = nx / length, ny / length, nz / length
    lx, ly, lz = lamp.direction
    towards = nx * lx + ny * ly + nz * lz
    hx, hy, hz = lx + vx, ly + vy, lz + vz
    size = math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-12
    half = max((nx * hx + ny * hy + nz * hz) / size, 0.0)
    grazing = 1 - max((vx * hx + vy * hy + vz * hz) / size, 0.0)
    fresnel = 0.03 + 0.97 * grazing * _power(grazing, 2)

    shine = 0.0
    if kind == SKIN:
        shine = fresnel * (0.9 * 2.25 * _power(half, 4) + 0.35 * 8.25 * _power(half, 6))
    elif kind == EYE:
        shine = fresnel * 64 * _power(half, 9)
    elif kind == HAIR:
        shine = 0.10 * _power(half, 4) * (texel[0] + texel[1] + texel[2])
    light = np.zeros(3)
    through = _THROUGH if kind == SKIN else np.full(3, 14.0 if kind == HAIR else 1.0)
    lamp_near = a * surface.lamp_near[i] + b * surface.lamp_near[j] + c * surface.lamp_near[k]
    lamp_x = a * surface.lamp_x[i] + b * surface.lamp_x[j] + c * surface.lamp_x[k]
    lamp_y = a * surface.lamp_y[i] + b * surface.lamp_y[j] + c * surface.lamp_y[k]
    _lit(lamp, lamp_x, lamp_y, lamp_near, through, light)
    rim = _power(1 - min(max(facing, 0.0), 1.0), 2)
    for channel in range(3):
        wrap = _WRAP[channel] if kind == SKIN else (0.45 if kind == HAIR else 0.1)
        diffuse = max(towards + wrap, 0.0) / (1 + wrap)
        glow = a * surface.glow[i, channel] + b * surface.glow[j, channel] + c * surface.glow[k, channel]
        tint = a * surface.tint[i, channel] + b * surface.tint[j, channel] + c * surface.tint[k, channel]
        albedo = tint if kind == BROW or kind == LASH else min(tint * texel[channel], 0.95)
        lamplight = lamp.colour[channel] * light[channel]
        out[channel] = albedo * (lamplight * diffuse + glow) + lamplight * shine * max(towards, 0.0) + 0.06 * glow * rim


@compiled
def _weights(projected: Projected, t: int, x: int, y: int) -> tuple[float, float, float, float, float, float]:
    """Return a triangle's barycentric weights at a sample: linear in the image, and linear on the triangle."""
    i, j, k = projected.triangles[t]
    xi, xj, xk = projected.x[i], projected.x[j], projected.x[k]
    yi, yj, yk = projected.y[i], projected.y[j], projected.y[k]
    area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
    b = ((x - xi) * (yk - yi) - (xk - xi) * (y - yi)) / area
    c = ((xj - xi) * (y - yi) - (x - xi) * (yj - yi)) / area
    a = 1 - b - c
    pa, pb, pc = a * projected.weight[i], b * projected.weight[j], c * projected.weight[k]
    total = pa + pb + pc
    return a, b, c, pa / total, pb / total, pc / total


@compiled
def _texel(projected: Projected, textures: Textures, t: int, level: int, a: float, b: float, c: float, texel: np.ndarray) -> None:
    """Write into ``texel`` (4,) a triangle's texture: linear colours, and alpha from 0 to 255."""
    uv = projected.uv[t]
    u = a * uv[0, 0] + b * uv[1, 0] + c * uv[2, 0]
    v = a * uv[0, 1] + b * uv[1, 1] + c * uv[2, 1]
    look_up(textures, projected.texture[t], level, u, v, texel)
    for k in range(3):
        code = texel[k]
        low = int(code)
        texel[k] = _LINEAR[low] + (code - low) * (_LINEAR[min(low + 1, 255)] - _LINEAR[low])


@compiled
def _colour(
    projected: Projected, textures: Textures, surface: _Surface, lamp: _Lamp, seen: np.ndarray, colour: np.ndarray
) -> None:
    """Write into ``colour`` (height, width, 4) the light from what each sample sees, and 1 where it sees something."""
    texel, out = np.zeros(4), np.zeros(3)
    levels = np.full(len(projected.triangles), -1)
    for y in range(seen.shape[0]):
        for x in range(seen.shape[1]):
            t = seen[y, x]
            if t < 0:
                continue
            if levels[t] < 0:
                levels[t] = level_of(projected, textures, t)
            _, _, _, a, b, c = _weights(projected, t, x, y)
            _texel(projected, textures, t, levels[t], a, b, c, texel)
            _shade(t, a, b, c, projected, surface, lamp, texel, out)
            for k in range(3):
                colour[y, x, k] = out[k]
            colour[y, x, 3] = 1


@compiled
def _blend(
    projected: Projected, textures: Textures, surface: _Surface, lamp: _Lamp, order: np.ndarray, near: np.ndarray,
    colour: np.ndarray,
) -> None:  # fmt: skip
    """Lay what is thinly haired over ``colour``: the triangles ``order``, the farthest first, where they are not hidden."""
    height, width = near.shape
    texel, out = np.zeros(4), np.zeros(3)
    for t in order:
        i, j, k = projected.triangles[t]
        xs = projected.x[i], projected.x[j], projected.x[k]
        ys = projected.y[i], projected.y[j], projected.y[k]
        if (xs[1] - xs[0]) * (ys[2] - ys[0]) == (xs[2] - xs[0]) * (ys[1] - ys[0]):
            continue
        lift = _LIFT if surface.kind[t] != HAIR else 1.0
        most = projected.cut[t]
        level = level_of(projected, textures, t)
        for y in range(max(math.ceil(min(ys)), 0), min(math.floor(max(ys)), height - 1) + 1):
            for x in range(max(math.ceil(min(xs)), 0), min(math.floor(max(xs)), width - 1) + 1):
                sa, sb, sc, a, b, c = _weights(projected, t, x, y)
                if sa < 0 or sb < 0 or sc < 0:
                    continue
                if (sa * projected.near[i] + sb * projected.near[j] + sc * projected.near[k]) * lift <= near[y, x]:
                    continue
                if a * projected.above[i] + b * projected.above[j] + c * projected.above[k] < 0:
                    continue
                _texel(projected, textures, t, level, a, b, c, texel)
                if texel[3] < 8 or texel[3] >= most:
                    continue
                _shade(t, a, b, c, projected, surface, lamp, texel, out)
                alpha = texel[3] / 255
                for channel in range(3):
                    colour[y, x, channel] += alpha * (out[channel] * 1.0 - colour[y, x, channel])
                colour[y, x, 3] += alpha * (1 - colour[y, x, 3])


@compiled
def _develop(colour: np.ndarray, samples: int, image: np.ndarray) -> None:
    """Write the image (size, size, 4), uint8, of samples (size * samples, size * samples, 4), colours times alpha."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            alpha = 0.0
            for j in range(samples):
                for i in range(samples):
                    alpha += colour[y * samples + j, x * samples + i, 3]
            if alpha < samples * samples / 510:
                continue
            for k in range(3):
                light = 0.0
                for j in range(samples):
                    for i in range(samples):
                        light += colour[y * samples + j, x * samples + i, k]
                light /= alpha
                # Highlights are rolled off as film does, instead of cut off.
                light = light if light < 0.6 else 0.6 + 0.4 * (light - 0.6) / (light - 0.2)
                image[y, x, k] = int(_CODED[int(light * (_CODES - 1) + 0.5)] + 0.5)
            image[y, x, 3] = int(255 * alpha / (samples * samples) + 0.5)


def _projected(head: Head, position: Floats, camera: Camera) -> Projected:
    inverse = 1 / position[:, 2]
    middle = (camera.size * SAMPLES - 1) / 2
    focal = camera.focal * SAMPLES
    x, y = position[:, 0] * inverse * focal + middle, position[:, 1] * inverse * focal + middle
    return Projected(x, y, inverse, inverse, head.triangles, head.uv, head.texture, head.cut, head.above)


def _lamp_view(head: Head, vertices: Floats, direction: Floats) -> tuple[Projected, np.ndarray]:
    """Return a head as a lamp in ``direction`` sees it from far away, and how near the nearest surface is, mm."""
    right, down = beside(direction)
    scale = (SHADOW / 2 - 4) / head.radius
    axes = np.column_stack((right * scale, down * scale, direction))
    x, y, near = np.ascontiguousarray(_times(vertices, axes).T)
    view = Projected(
        x + SHADOW / 2, y + SHADOW / 2, near, np.ones(len(x)), head.triangles, head.uv, head.texture, head.cut, head.above
    )
    buffer = np.full((SHADOW, SHADOW), -np.inf)
    draw(view, head.textures, buffer, np.full((SHADOW, SHADOW), -1, np.int32))
    return view, buffer


def render(head: Head, vertices: Floats, rotation: Floats, camera: Camera, light: Light) -> np.ndarray:
    """Return the image RGBA (size, size, 4), uint8, of a head whose ``vertices`` (n, 3) an expression has moved.

    ``rotation`` is Biwi's: from the head's axes to the camera's.
    """
    side = camera.size * SAMPLES
    normals = vertex_normals(vertices, head.triangles)
    turned = np.ascontiguousarray(rotation.T)
    position = _times(vertices, turned) + camera.centre
    projected = _projected(head, position, camera)
    near, seen = np.full((side, side), -np.inf), np.full((side, side), -1, np.int32)
    draw(projected, head.textures, near, seen)
    view, shadow = _lamp_view(head, vertices, light.direction @ rotation)
    # Harmonics of the sky as the head sees it: its basis is turned by what it says of nine directions.
    glow = np.maximum(_times(head.sky, turned_sky(light.sky, rotation)), 0.0)
    surface = _Surface(
        position, _times(normals, turned), head.tint, glow, view.x, view.y, view.near, head.kind
    )
    lamp = _Lamp(light.direction, light.colour, shadow)
    colour = np.zeros((side, side, 4))
    _colour(projected, head.textures, surface, lamp, seen, colour)
    thin = np.flatnonzero(np.isin(head.kind, (HAIR, BROW, LASH)))
    order = thin[np.argsort(projected.near[head.triangles[thin]].sum(axis=1), kind="stable")]
    _blend(projected, head.textures, surface, lamp, order, near, colour)
    image = np.zeros((camera.size, camera.size, 4), np.uint8)
    _develop(colour, SAMPLES, image)
    return image


_PROBES = np.array([
    [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, -1, 0], [1, 0, -1], [-1, -1, -1.0],
])  # fmt: skip
_PROBES = _PROBES / np.linalg.norm(_PROBES, axis=1, keepdims=True)
_FROM_PROBES = np.linalg.inv(harmonics(_PROBES))


def turned_sky(sky: Floats, rotation: Floats) -> Floats:
    """Return the harmonics (9, 3), in the head's frame, of a sky (9, 3) in the camera's; ``rotation`` as in :func:`render`.

    Harmonics up to the second degree are turned into such: nine directions say all of them.
    """
    seen: Floats = _times(_FROM_PROBES, _times(harmonics(_PROBES @ rotation.T), sky))
    return seen
