"""Procedural heads and bodies: triangle meshes with a colour at each vertex, differing by identity.

A shape is a signed distance function, the smooth union of simple solids, in millimetres in the head's
frame: x right, y down, z into the head, the face at negative z, the origin in the middle of the head. Its
surface is found along rays from a centre inwards, so it is star-shaped and a regular grid of directions
meshes it. All randomness of an identity comes from one seed.
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


class Identity(NamedTuple):
    """What a person looks like. Lengths are millimetres, colours are RGB in [0, 1]."""

    seed: int
    female: bool
    width: float
    height: float
    jaw: float
    nose: float
    nose_width: float
    eye_gap: float
    eye_size: float
    brow: float
    mouth: float
    chin: float
    ears: float
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    hair_style: str
    beard: float
    glasses: bool


_SKINS = np.array([[0.93, 0.76, 0.66], [0.85, 0.65, 0.52], [0.72, 0.52, 0.40], [0.52, 0.35, 0.26], [0.36, 0.24, 0.18]])
_HAIRS = np.array([[0.09, 0.07, 0.06], [0.22, 0.14, 0.09], [0.38, 0.24, 0.13], [0.68, 0.52, 0.30], [0.52, 0.50, 0.48]])
_IRISES = np.array([[0.25, 0.15, 0.08], [0.32, 0.42, 0.52], [0.30, 0.38, 0.22]])


def draw_identity(seed: int, female: bool) -> Identity:
    """Return a person drawn from ``seed``."""
    rng = np.random.default_rng(seed)
    tone = rng.beta(1.1, 2.2) * (len(_SKINS) - 1)
    low = int(min(tone, len(_SKINS) - 2))
    skin = _SKINS[low] + (tone - low) * (_SKINS[low + 1] - _SKINS[low]) + rng.normal(0, 0.015, 3)
    hair = _HAIRS[rng.integers(0, 2 if tone > 2.2 else len(_HAIRS))] * rng.uniform(0.85, 1.2)
    styles = ["long", "bob", "short", "tied"] if female else ["short", "short", "crop", "bald", "bob"]
    smaller = 0.96 if female else 1.0
    return Identity(
        seed=seed,
        female=female,
        width=smaller * rng.uniform(0.92, 1.07),
        height=smaller * rng.uniform(0.94, 1.06),
        jaw=rng.uniform(0.86, 1.0) if female else rng.uniform(0.95, 1.14),
        nose=rng.uniform(0.75, 1.25) * (0.9 if female else 1.05),
        nose_width=rng.uniform(0.8, 1.3),
        eye_gap=rng.uniform(29, 35),
        eye_size=rng.uniform(0.9, 1.12),
        brow=rng.uniform(0.5, 0.9) if female else rng.uniform(0.8, 1.4),
        mouth=rng.uniform(0.85, 1.15),
        chin=rng.uniform(0.8, 1.25),
        ears=rng.uniform(0.85, 1.2),
        skin=np.clip(skin, 0.1, 0.97),
        hair=np.clip(hair, 0.03, 0.9),
        iris=_IRISES[rng.choice(3, p=[0.5, 0.3, 0.2])],
        lips=np.clip(skin * [0.93, 0.66, 0.64] + rng.normal(0, 0.02, 3) - 0.06 * female * np.array([0, 1, 1]), 0.08, 1),
        hair_style=str(rng.choice(styles)),
        beard=0.0 if female else float(rng.choice([0.0, 0.0, 0.35, 1.0])),
        glasses=bool(rng.random() < 0.3),
    )


def _ellipsoid(p: Points, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    scaled = (p - centre) / radii
    length = np.linalg.norm(scaled, axis=1)
    steepness = np.linalg.norm(scaled / radii, axis=1)
    return length * (length - 1) / np.maximum(steepness, 1e-9)


def _capsule(p: Points, a: tuple[float, ...], b: tuple[float, ...], ra: float, rb: float) -> np.ndarray:
    start, axis = np.array(a), np.subtract(b, a)
    along = np.clip((p - start) @ axis / (axis @ axis), 0, 1)
    return np.linalg.norm(p - start - along[:, None] * axis, axis=1) - (ra + (rb - ra) * along)


def _join(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Smooth union: rounds the seam over about ``k`` millimetres."""
    h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
    return b + (a - b) * h - k * h * (1 - h)


def _carve(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Smooth difference: ``a`` without ``b``."""
    return -_join(-a, b, k)


def _mirrored(p: Points) -> Points:
    """Both halves of a symmetric part share one solid, on the positive side of x."""
    return np.column_stack((np.abs(p[:, 0]), p[:, 1], p[:, 2]))


def _step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


class _Noise:
    """Smooth noise in space, about N(0, 1), from a seed: a periodic lattice, interpolated."""

    def __init__(self, seed: int) -> None:
        lattice = gaussian_filter(np.random.default_rng(seed).normal(size=(32, 32, 32)), 0.8, mode="wrap")
        self.lattice = (lattice / lattice.std()).astype(np.float32)

    def __call__(self, p: Points, wavelength: float | tuple[float, ...]) -> np.ndarray:
        at = (p / (np.asarray(wavelength) / 3.0)).T
        return map_coordinates(self.lattice, at, order=1, mode="grid-wrap")


def _skin(p: Points, who: Identity, neck: bool) -> np.ndarray:
    m = _mirrored(p)
    d = _ellipsoid(p, (0, -32, 42), (74, 102, 96))
    d = _join(d, _ellipsoid(p, (0, 36, 0), (58 * who.jaw, 74, 54)), 34)
    d = _join(d, _ellipsoid(m, (34, 22, -22), (24, 26, 22)), 22)  # cheekbones
    d = _join(d, _ellipsoid(p, (0, 90, -26 - 6 * who.chin), (17 * who.jaw, 15, 15)), 22)
    d = _join(d, _capsule(m, (12, -32, -46), (48, -28, -32), 7.0, 6.0), 12)  # brow ridge
    d = _carve(d, _ellipsoid(m, (who.eye_gap, -8, -58), (15, 10, 12)), 9)
    tip = -60 - 13 * who.nose
    d = _join(d, _capsule(p, (0, -20, -46), (0, 20, tip + 6), 5.5, 9.5), 9)
    d = _join(d, _ellipsoid(p, (0, 24, tip + 5), (10 * who.nose_width, 8, 9)), 6)
    d = _join(d, _ellipsoid(m, (11 * who.nose_width, 28, tip + 14), (7, 6.5, 9)), 5)
    d = _carve(d, _ellipsoid(m, (6.5 * who.nose_width, 34.5, tip + 9), (3.4, 2.6, 4)), 2)
    wide = 23 * who.mouth
    d = _join(d, _ellipsoid(p, (0, 49, -50), (wide, 5.0, 8.5)), 5)
    d = _join(d, _ellipsoid(p, (0, 58, -49), (wide * 0.82, 6.0, 9.0)), 5)
    d = _carve(d, _ellipsoid(p, (0, 53.2, -60), (wide * 0.95, 1.1, 5)), 2.5)
    d = _join(d, _ellipsoid(m, (who.eye_gap, -8, -36), (13 * who.eye_size, 12 * who.eye_size, 12)), 3)
    if neck:
        d = _join(d, _capsule(p, (0, 70, 48), (0, 142, 62), 50, 53), 22)
    # Ears last: their rims stay sharp.
    tilt = np.array([[0.86, 0, 0.5], [0, 1, 0], [-0.5, 0, 0.86]])
    local = (m - (76 * who.width, 2, 42)) @ tilt
    ear = _ellipsoid(local, (0, 0, 0), (6, 31 * who.ears, 19 * who.ears))
    ear = _carve(ear, _ellipsoid(local, (7, -2, -2), (6, 20, 10)), 4)
    return _join(d, ear, 7)


def _hair(p: Points, who: Identity, noise: _Noise) -> np.ndarray:
    """Return the distance to the hair; far outside everywhere for the bald."""
    if who.hair_style == "bald":
        return np.full(len(p), 50.0)
    thick = {"crop": 5.0, "short": 12.0, "tied": 8.0, "bob": 17.0, "long": 18.0}[who.hair_style]
    locks = 1.6 * noise(p, (16, 70, 70)) + 0.6 * noise(p, (6, 40, 40))
    cap = _ellipsoid(p, (0, -33, 44), (74 + thick, 103 + thick * 1.1, 97 + thick)) - locks
    # The hairline: a plane that leaves the face and the ears free, wavy so that it does not look cut.
    side = np.abs(p[:, 0]) / 75
    line = -62 - 14 * side**2 + 44 * _step(side, 0.72, 1.05) + 3.0 * noise(p, 26)
    hidden = (p[:, 1] - line) * 0.8 - (p[:, 2] + 30) * 0.75
    cut = np.maximum(hidden * 0.9, (p[:, 1] - 62) * 0.8)
    d = -_join(-cap, -cut, 10)
    if who.hair_style == "tied":
        d = _join(d, _ellipsoid(p, (0, -70, 150), (34, 34, 30)) - locks, 12)
    if who.hair_style in ("bob", "long"):
        length = 62 if who.hair_style == "bob" else 128
        fall = _ellipsoid(p, (0, 15, 62), (94, length, 72)) - 1.4 * locks
        free = 26 - p[:, 2] + 0.10 * np.abs(p[:, 1]) + 3 * noise(p, 30)  # the face stays in front of it
        d = _join(d, -_join(-fall, -free * 0.9, 12), 14)
    return d


def _surface(distance: Distance, directions: Points, centre: np.ndarray, far: float) -> Points:
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


def _grid(rows: int, columns: int) -> tuple[Points, np.ndarray]:
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


def _occlusion(distance: Distance, vertices: Points, normals: Points) -> np.ndarray:
    """Return ambient light (n,) in [0, 1]: how much free space the distance function sees above a point."""
    blocked = np.zeros(len(vertices))
    for height, weight in ((4.0, 0.5), (10.0, 0.35), (22.0, 0.25)):
        blocked += weight * np.clip((height - distance(vertices + height * normals)) / height, 0, 1)
    return np.clip(1 - 0.75 * blocked, 0.2, 1)


def _mix(colours: np.ndarray, colour: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return colours + (np.asarray(colour) - colours) * np.clip(amount, 0, 1)[:, None]


def _paint(p: Points, who: Identity, noise: _Noise, hairiness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return colours (n, 3) and gloss (n,) of the points of a head."""
    m = _mirrored(p)
    front = _step(-p[:, 2], 0, 25)
    c = np.tile(who.skin, (len(p), 1)) * (1 + 0.03 * noise(p, 40) + 0.015 * noise(p, 12))[:, None]
    blush = np.exp(-(((m - (36, 26, -40)) / (22, 18, 40)) ** 2).sum(1)) + np.exp(
        -(((p - (0, 24, -70)) / (13, 11, 20)) ** 2).sum(1)
    )
    c = _mix(c, who.skin * [0.98, 0.78, 0.76], 0.55 * blush)
    tired = np.exp(-(((m - (who.eye_gap, 3, -45)) / (15, 9, 30)) ** 2).sum(1))
    c = _mix(c, who.skin * [0.78, 0.70, 0.70], 0.5 * tired * front)
    gloss = np.full(len(p), 0.16)

    if who.beard:
        cheek = 32 + 22 * np.exp(-((m[:, 0] / 22) ** 2)) - 20 * _step(m[:, 0], 42, 62)
        area = _step(p[:, 1], cheek - 6, cheek + 7) * _step(p[:, 2], 62, 40) * _step(p[:, 1], 118, 100)
        lip_free = 1 - np.exp(-(((p[:, [0, 1]] - (0, 54)) / (24 * who.mouth, 8)) ** 4).sum(1))
        moustache = np.exp(-(((m[:, [0, 1]] - (13, 41)) / (17, 6)) ** 2).sum(1)) * front
        hairs = np.clip(area * lip_free + moustache, 0, 1)
        texture = 0.78 + 0.22 * np.tanh(noise(p, (3, 9, 9)))
        c = _mix(c, who.hair * 0.9, hairs * texture * (0.35 + 0.55 * who.beard))
        gloss *= 1 - 0.7 * hairs

    lips_at = p[:, [0, 1]] - (0, 53.5)
    bow = 1 + 0.14 * np.cos(np.clip(np.abs(lips_at[:, 0]) / 5, 0, np.pi))
    lips = 1 - _step(np.hypot(lips_at[:, 0] / (24 * who.mouth), lips_at[:, 1] / (9.5 * bow)), 0.78, 1.05)
    c = _mix(c, who.lips, lips * front)
    gloss += 0.2 * lips * front
    gap = np.exp(-((lips_at[:, 0] / (21 * who.mouth)) ** 6) - ((lips_at[:, 1] + 0.3) / 1.5) ** 2)
    c = _mix(c, who.lips * 0.3, gap * front)
    tip = -60 - 13 * who.nose
    nostril = np.exp(-(((((m - (6.5 * who.nose_width, 33, tip + 10)) / (3.8, 3.0, 8)) ** 2).sum(1)) ** 2))
    c = _mix(c, who.skin * 0.2, 0.9 * nostril)

    # Eyes: an almond between the lids; outside of it the ball is skin.
    eye = m[:, [0, 1]] - (who.eye_gap, -8)
    across = eye[:, 0] / (14.5 * who.eye_size)
    lid = 6.6 * who.eye_size * np.clip(1 - across**2, 0, None) ** 0.75
    open_ = _step(lid - np.abs(eye[:, 1] + 0.6), -0.6, 0.8) * front * (np.abs(across) < 1)
    c = _mix(c, np.array([0.90, 0.88, 0.86]), open_)
    radius = np.hypot(eye[:, 0], eye[:, 1] + 0.8)
    c = _mix(c, who.iris, open_ * (1 - _step(radius, 5.4, 6.6)))
    c = _mix(c, np.array([0.02, 0.02, 0.02]), open_ * (1 - _step(radius, 2.4, 3.4)))
    gloss += 0.5 * open_
    edge = np.exp(-(((lid - np.abs(eye[:, 1] + 0.6)) / 1.5) ** 2)) * (np.abs(across) < 1.02) * front
    upper = np.where(eye[:, 1] < 0, 1.0, 0.4)
    c = _mix(c, who.skin * 0.12, edge * upper * (0.95 if who.female else 0.75))
    crease = np.exp(-(((lid + 4.2 + eye[:, 1]) / 1.3) ** 2)) * (np.abs(across) < 1) * front * (eye[:, 1] < 0)
    c = _mix(c, who.skin * 0.6, 0.5 * crease)

    arch = -24 + 5.0 * ((m[:, 0] - 36) / 22) ** 2
    thick = 2.6 + 1.7 * who.brow * (1 - _step(m[:, 0], 30, 56))
    brow = np.exp(-(((p[:, 1] - arch) / thick) ** 4)) * _step(m[:, 0], 9, 15) * (1 - _step(m[:, 0], 50, 58)) * front
    c = _mix(c, who.hair * 0.8, brow * (0.8 + 0.15 * np.tanh(noise(p, (4, 3, 4)))))

    strands = 1 + 0.16 * noise(p, (5, 60, 60)) + 0.10 * noise(p, (14, 90, 90))
    c = np.where(hairiness[:, None] > 0, _mix(c, who.hair, np.ones(len(p))) * strands[:, None] * hairiness[:, None]
                 + c * (1 - hairiness[:, None]), c)  # fmt: skip
    gloss = gloss * (1 - hairiness) + 0.22 * hairiness
    return np.clip(c, 0.01, 1), gloss


def _tube(path: Points, radius: float, closed: bool) -> tuple[Points, np.ndarray]:
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


def _glasses(who: Identity, rng: np.random.Generator) -> tuple[Points, np.ndarray]:
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    power = rng.choice([1.0, 0.6])  # round, or nearer to a rectangle
    rim_x = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power * 24
    rim_y = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power * rng.uniform(15, 20)
    bridge = max(who.eye_gap + 2, 31.0)
    parts = []
    for side in (-1, 1):
        x = side * (bridge + rim_x)
        parts.append((np.column_stack((x, rim_y - 5, -66 + 0.010 * x**2)), 1.5, True))
        hinge = side * (bridge + 25)
        ear = side * 79 * who.width
        parts.append((np.array([[hinge, -10, -38], [ear, -12, 0], [ear, -10, 38], [ear, 4, 52]]), 1.7, False))
    parts.append((np.array([[-8.0, -8, -68], [0, -11, -71], [8, -8, -68]]), 1.6, False))
    vertices, triangles, base = [], [], 0
    for path, radius, closed in parts:
        some_vertices, some_triangles = _tube(path, radius, closed)
        vertices.append(some_vertices)
        triangles.append(some_triangles + base)
        base += len(some_vertices)
    return np.concatenate(vertices), np.concatenate(triangles)


def _merge(meshes: list[Mesh]) -> Mesh:
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    triangles = np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]), triangles,
        *(np.concatenate([mesh[i] for mesh in meshes]) for i in (2, 3, 4)),
    )  # fmt: skip


# From the frame in which the solids are placed to Biwi's, whose origin lies as far below and before the
# middle of the skull as in the mesh of its sequence 01.
_TO_BIWI = np.array([0.0, -11.0, 13.0])


def head_mesh(who: Identity, detail: int, neck: bool) -> Mesh:
    """Return the head of a person; ``detail`` is the number of rows of the mesh (80 coarse, 240 fine)."""
    noise = _Noise(who.seed)
    scale = np.array([who.width, who.height, 1.0])

    def distance(p: Points) -> np.ndarray:
        q = p / scale
        skin = _skin(q, who, neck)
        if who.beard:
            thickness = 5.0 * who.beard * _step(q[:, 1], 40, 75) * _step(q[:, 1], 122, 104) * _step(q[:, 2], 55, 25)
            skin = skin - thickness * (1 + 0.25 * noise(q, 9))
        return np.minimum(skin, _join(skin, _hair(q, who, noise), 3)) * 0.92

    directions, triangles = _grid(detail, detail * 4 // 3)
    centre = np.array([0.0, 0.0, 30.0])
    vertices = _surface(distance, directions, centre, 300.0)
    normals = vertex_normals(vertices, triangles)
    q = vertices / scale
    hairiness = _step(_skin(q, who, neck) - _hair(q, who, noise), -1.5, 2.5)
    colours, gloss = _paint(q, who, noise, hairiness)
    colours = colours * _occlusion(distance, vertices, normals)[:, None]
    parts = [Mesh(vertices, triangles, normals, colours, gloss)]
    if who.glasses:
        rng = np.random.default_rng(who.seed + 1)
        frame_vertices, frame_triangles = _glasses(who, rng)
        colour = np.array([0.05, 0.05, 0.06]) if rng.random() < 0.7 else np.array([0.35, 0.22, 0.12])
        n = len(frame_vertices)
        parts.append(
            Mesh(frame_vertices * scale, frame_triangles, vertex_normals(frame_vertices, frame_triangles),
                 np.tile(colour, (n, 1)), np.full(n, 0.6))
        )  # fmt: skip
    whole = _merge(parts)
    return whole._replace(vertices=whole.vertices + _TO_BIWI)


def body_mesh(who: Identity, detail: int, rng: np.random.Generator) -> Mesh:
    """Return neck and torso in clothes, in a frame with the head's axes and its origin at the neck's root."""
    broad = 0.9 if who.female else 1.05

    def torso(p: Points) -> np.ndarray:
        d = _ellipsoid(p, (0, 250, 20), (165 * broad, 230, 95))
        return _join(d, _capsule(_mirrored(p), (95, 78, 25), (178 * broad, 110, 25), 52, 60), 50)

    def distance(p: Points) -> np.ndarray:
        return _join(torso(p), _capsule(p, (0, -70, -8), (0, 60, 12), 46, 56), 24)

    directions, triangles = _grid(detail, detail * 4 // 3)
    centre = np.array([0.0, 200.0, 20.0])
    vertices = _surface(distance, directions, centre, 600.0)
    normals = vertex_normals(vertices, triangles)
    cloth, trim = (np.clip(rng.uniform(0.08, 0.8) + rng.normal(0, 0.12, 3), 0.03, 0.9) for _ in range(2))
    # Above the collar is skin; some collars are cut in a V.
    v_neck = 34 * rng.integers(2) * np.exp(-((vertices[:, 0] / 26) ** 2)) * (vertices[:, 2] < 20)
    dressed = _step(vertices[:, 1] - 36 + 0.12 * np.abs(vertices[:, 0]) - v_neck, -5, 5)
    stripe = {
        "plain": np.zeros(len(vertices)),
        "stripes": _step(np.sin(vertices[:, 1] / rng.uniform(4, 9)), -0.2, 0.2),
        "checks": 0.5 * _step(np.sin(vertices[:, 0] / 8), -0.2, 0.2)
        + 0.5 * _step(np.sin(vertices[:, 1] / 8), -0.2, 0.2),
    }[str(rng.choice(["plain", "plain", "stripes", "checks"]))]
    clothes = _mix(np.tile(cloth, (len(vertices), 1)), trim, stripe)
    skin = np.tile(who.skin * 0.95, (len(vertices), 1))
    colours = skin + (clothes - skin) * dressed[:, None]
    colours = colours * _occlusion(distance, vertices, normals)[:, None]
    return Mesh(vertices, triangles, normals, np.clip(colours, 0.01, 1), np.full(len(vertices), 0.06))
