"""Procedural heads and bodies: triangle meshes with a colour at each vertex, differing by identity.

A shape is the smooth union of simple solids, in millimetres in the head's frame: x right, y down, z into the head, the
face at negative z, the origin in the middle of the head.
"""

from __future__ import annotations

import numpy as np

from headposeplus.miniature.paint import mix, paint
from headposeplus.miniature.people import Identity
from headposeplus.miniature.solids import (
    Mesh,
    Noise,
    Points,
    capsule,
    carve,
    ellipsoid,
    grid,
    join,
    merge,
    mirrored,
    occlusion,
    step,
    surface,
    tube,
    vertex_normals,
)


def _skin(p: Points, who: Identity, neck: bool) -> np.ndarray:
    m = mirrored(p)
    d = ellipsoid(p, (0, -32, 42), (74, 102, 96))
    d = join(d, ellipsoid(p, (0, 36, 0), (58 * who.jaw, 74, 54)), 34)
    d = join(d, ellipsoid(m, (34, 22, -22), (24, 26, 22)), 22)  # cheekbones
    d = join(d, ellipsoid(p, (0, 90, -26 - 6 * who.chin), (17 * who.jaw, 15, 15)), 22)
    d = join(d, capsule(m, (12, -32, -46), (48, -28, -32), 7.0, 6.0), 12)  # brow ridge
    d = carve(d, ellipsoid(m, (who.eye_gap, -8, -58), (15, 10, 12)), 9)
    tip = -60 - 13 * who.nose
    d = join(d, capsule(p, (0, -20, -46), (0, 20, tip + 6), 5.5, 9.5), 9)
    d = join(d, ellipsoid(p, (0, 24, tip + 5), (10 * who.nose_width, 8, 9)), 6)
    d = join(d, ellipsoid(m, (11 * who.nose_width, 28, tip + 14), (7, 6.5, 9)), 5)
    d = carve(d, ellipsoid(m, (6.5 * who.nose_width, 34.5, tip + 9), (3.4, 2.6, 4)), 2)
    wide = 23 * who.mouth
    d = join(d, ellipsoid(p, (0, 49, -50), (wide, 5.0, 8.5)), 5)
    d = join(d, ellipsoid(p, (0, 58, -49), (wide * 0.82, 6.0, 9.0)), 5)
    d = carve(d, ellipsoid(p, (0, 53.2, -60), (wide * 0.95, 1.1, 5)), 2.5)
    d = join(d, ellipsoid(m, (who.eye_gap, -8, -36), (13 * who.eye_size, 12 * who.eye_size, 12)), 3)
    if neck:
        d = join(d, capsule(p, (0, 70, 48), (0, 142, 62), 50, 53), 22)
    # Ears last: their rims stay sharp.
    tilt = np.array([[0.86, 0, 0.5], [0, 1, 0], [-0.5, 0, 0.86]])
    local = (m - (76 * who.width, 2, 42)) @ tilt
    ear = ellipsoid(local, (0, 0, 0), (6, 31 * who.ears, 19 * who.ears))
    ear = carve(ear, ellipsoid(local, (7, -2, -2), (6, 20, 10)), 4)
    return join(d, ear, 7)


def _hair(p: Points, who: Identity, noise: Noise) -> np.ndarray:
    """Return the distance to the hair; far outside everywhere for the bald."""
    if who.hair_style == "bald":
        return np.full(len(p), 50.0)
    thick = {"crop": 5.0, "short": 12.0, "tied": 8.0, "bob": 17.0, "long": 18.0}[who.hair_style]
    locks = 1.6 * noise(p, (16, 70, 70)) + 0.6 * noise(p, (6, 40, 40))
    cap = ellipsoid(p, (0, -33, 44), (74 + thick, 103 + thick * 1.1, 97 + thick)) - locks
    # The hairline: a plane that leaves the face and the ears free, wavy so that it does not look cut.
    side = np.abs(p[:, 0]) / 75
    line = -62 - 14 * side**2 + 44 * step(side, 0.72, 1.05) + 3.0 * noise(p, 26)
    hidden = (p[:, 1] - line) * 0.8 - (p[:, 2] + 30) * 0.75
    cut = np.maximum(hidden * 0.9, (p[:, 1] - 62) * 0.8)
    d = -join(-cap, -cut, 10)
    if who.hair_style == "tied":
        d = join(d, ellipsoid(p, (0, -70, 150), (34, 34, 30)) - locks, 12)
    if who.hair_style in ("bob", "long"):
        length = 62 if who.hair_style == "bob" else 128
        fall = ellipsoid(p, (0, 15, 62), (94, length, 72)) - 1.4 * locks
        free = 26 - p[:, 2] + 0.10 * np.abs(p[:, 1]) + 3 * noise(p, 30)  # the face stays in front of it
        d = join(d, -join(-fall, -free * 0.9, 12), 14)
    return d


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
        some_vertices, some_triangles = tube(path, radius, closed)
        vertices.append(some_vertices)
        triangles.append(some_triangles + base)
        base += len(some_vertices)
    return np.concatenate(vertices), np.concatenate(triangles)


def _glasses_mesh(who: Identity, scale: np.ndarray) -> Mesh:
    """Return a person's glasses, as wide and high as the head."""
    rng = np.random.default_rng(who.seed + 1)
    vertices, triangles = _glasses(who, rng)
    colour = np.array([0.05, 0.05, 0.06]) if rng.random() < 0.7 else np.array([0.35, 0.22, 0.12])
    normals, count = vertex_normals(vertices, triangles), len(vertices)
    return Mesh(vertices * scale, triangles, normals, np.tile(colour, (count, 1)), np.full(count, 0.6))


# From the frame in which the solids are placed to Biwi's, whose origin lies as far below and before the
# middle of the skull as in the mesh of its sequence 01.
_TO_BIWI = np.array([0.0, -11.0, 13.0])


def head_mesh(who: Identity, detail: int, neck: bool) -> Mesh:
    """Return the head of a person; ``detail`` is the number of rows of the mesh (80 coarse, 240 fine)."""
    noise = Noise(who.seed)
    scale = np.array([who.width, who.height, 1.0])

    def distance(p: Points) -> np.ndarray:
        q = p / scale
        skin = _skin(q, who, neck)
        if who.beard:
            thickness = 5.0 * who.beard * step(q[:, 1], 40, 75) * step(q[:, 1], 122, 104) * step(q[:, 2], 55, 25)
            skin = skin - thickness * (1 + 0.25 * noise(q, 9))
        return np.minimum(skin, join(skin, _hair(q, who, noise), 3)) * 0.92

    directions, triangles = grid(detail, detail * 4 // 3)
    centre = np.array([0.0, 0.0, 30.0])
    vertices = surface(distance, directions, centre, 300.0)
    normals = vertex_normals(vertices, triangles)
    q = vertices / scale
    hairiness = step(_skin(q, who, neck) - _hair(q, who, noise), -1.5, 2.5)
    colours, gloss = paint(q, who, noise, hairiness)
    colours = colours * occlusion(distance, vertices, normals)[:, None]
    parts = [Mesh(vertices, triangles, normals, colours, gloss)]
    if who.glasses:
        parts.append(_glasses_mesh(who, scale))
    whole = merge(parts)
    return whole._replace(vertices=whole.vertices + _TO_BIWI)


def body_mesh(who: Identity, detail: int, rng: np.random.Generator) -> Mesh:
    """Return neck and torso in clothes, in a frame with the head's axes and its origin at the neck's root."""
    broad = 0.9 if who.female else 1.05

    def torso(p: Points) -> np.ndarray:
        d = ellipsoid(p, (0, 250, 20), (165 * broad, 230, 95))
        return join(d, capsule(mirrored(p), (95, 78, 25), (178 * broad, 110, 25), 52, 60), 50)

    def distance(p: Points) -> np.ndarray:
        return join(torso(p), capsule(p, (0, -70, -8), (0, 60, 12), 46, 56), 24)

    directions, triangles = grid(detail, detail * 4 // 3)
    centre = np.array([0.0, 200.0, 20.0])
    vertices = surface(distance, directions, centre, 600.0)
    normals = vertex_normals(vertices, triangles)
    cloth, trim = (np.clip(rng.uniform(0.08, 0.8) + rng.normal(0, 0.12, 3), 0.03, 0.9) for _ in range(2))
    # Above the collar is skin; some collars are cut in a V.
    v_neck = 34 * rng.integers(2) * np.exp(-((vertices[:, 0] / 26) ** 2)) * (vertices[:, 2] < 20)
    dressed = step(vertices[:, 1] - 36 + 0.12 * np.abs(vertices[:, 0]) - v_neck, -5, 5)
    stripe = {
        "plain": np.zeros(len(vertices)),
        "stripes": step(np.sin(vertices[:, 1] / rng.uniform(4, 9)), -0.2, 0.2),
        "checks": 0.5 * step(np.sin(vertices[:, 0] / 8), -0.2, 0.2) + 0.5 * step(np.sin(vertices[:, 1] / 8), -0.2, 0.2),
    }[str(rng.choice(["plain", "plain", "stripes", "checks"]))]
    clothes = mix(np.tile(cloth, (len(vertices), 1)), trim, stripe)
    skin = np.tile(who.skin * 0.95, (len(vertices), 1))
    colours = skin + (clothes - skin) * dressed[:, None]
    colours = colours * occlusion(distance, vertices, normals)[:, None]
    return Mesh(vertices, triangles, normals, np.clip(colours, 0.01, 1), np.full(len(vertices), 0.06))
