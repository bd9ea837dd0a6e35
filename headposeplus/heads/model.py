"""A person's head as one mesh: skin, eyes, brows, lashes and hair, with what expressions move, and its textures."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse import csr_matrix, diags, eye_array, vstack
from scipy.spatial import cKDTree

from headposeplus.heads import assets as files
from headposeplus.heads.assets import Assets, Mesh
from headposeplus.heads.kernels import BROW, EYE, HAIR, LASH, SKIN, draw, vertex_normals
from headposeplus.heads.people import Person
from headposeplus.heads.views import Projected, Textures
from headposeplus.rotations import Floats

MILLIMETRES = 100.0  # of MakeHuman's unit
DIRECTIONS = 96  # from which the sky is looked for
_HARD = 150  # alpha from which hair is solid
_HANGING = 45.0  # mm that hair may hang below the cut of the neck
_SKY_SIDE = 256
_LEVELS = 12  # that a texture is halved at most
# From MakeHuman's axes, x to the person's left, y up, z to the front, to those of Biwi: y down, z into the head.
AXES = np.array([1.0, -1.0, -1.0])


class Head(NamedTuple):
    """A head, in millimetres in Biwi's frame of it: x right in the image, y down, z into the head; upright at rest.

    Attributes
    ----------
    vertices
        (n, 3) at rest.
    triangles, uv, texture, kind
        (t, 3), (t, 3, 2), (t,) and (t,): corners, where they lie in the texture, which texture, and of what it is.
    cut
        (t,): the least alpha at which a triangle hides what is behind it.
    above
        (n,): how far above the cut of the neck.
    tint
        (n, 3): by which the texture's linear colour is multiplied.
    sky
        (n, 9): what a vertex receives from a sky of each spherical harmonic.
    moves
        For each expression, how far each vertex moves (n, 3).
    textures
        Of all parts.
    """

    vertices: Floats
    triangles: np.ndarray
    uv: np.ndarray
    texture: np.ndarray
    kind: np.ndarray
    cut: np.ndarray
    above: Floats
    tint: Floats
    sky: Floats
    moves: dict[str, Floats]
    textures: Textures

    @property
    def radius(self) -> float:
        """How far the head reaches from its middle, mm."""
        return float(np.linalg.norm(self.vertices[self.above > 0], axis=1).max())


class Base(NamedTuple):
    """The base mesh, what of it is the head (corners (m, 4)), and its refinement: a matrix and finer corners and uv."""

    mesh: Mesh
    refine: csr_matrix
    corners: np.ndarray
    uv: np.ndarray


class _Part(NamedTuple):
    """A part of a head: its kind, corners, uv and texture, and the matrix and offsets that hang it on the base mesh."""

    kind: int
    corners: np.ndarray
    uv: np.ndarray
    image: np.ndarray
    hang: csr_matrix
    offsets: Floats


def make_textures(images: list[np.ndarray]) -> Textures:
    """Return textures (height, width, 4), uint8, with copies halved in size again and again."""
    levels = np.zeros((len(images), _LEVELS, 3), np.int64)
    parts, start = [], 0
    for number, image in enumerate(images):
        picture = image
        for level in range(_LEVELS):
            height, width = picture.shape[:2]
            levels[number, level] = start, width, height
            parts.append(picture.reshape(-1, 4))
            start += width * height
            if min(width, height) < 8:
                break
            picture = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return Textures(np.concatenate(parts), levels)


def triangulated(corners: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the triangles (t, 3) and their uv (t, 3, 2) of faces (m, 4) of three or four corners."""
    four = corners[:, 3] >= 0
    triangles = np.concatenate((corners[:, [0, 1, 2]], corners[four][:, [0, 2, 3]]))
    return triangles, np.concatenate((uv[:, [0, 1, 2]], uv[four][:, [0, 2, 3]]))


def _scaled(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    """Return the matrix that takes means: row i is 1/k at each of the k columns listed beside i."""
    matrix = csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
    counts = np.asarray(matrix.sum(axis=1)).ravel()
    return diags(1 / np.maximum(counts, 1)) @ matrix


def _neighbours(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the column after and the column before each corner (m, 4) of faces of three or four corners."""
    columns = np.broadcast_to(np.arange(4), faces.shape)
    count = (faces >= 0).sum(axis=1, keepdims=True)
    return (columns + 1) % count, (columns - 1) % count


def refinement(corners: np.ndarray, count: int) -> tuple[csr_matrix, np.ndarray]:
    """Return the matrix (k, count) and the corners (c, 4) of one step of subdivision of faces (m, 4) with c corners.

    The rule is Catmull and Clark's (Computer-Aided Design 10, 1978, pages 350-355). It shrinks a mesh, so what it takes
    from the vertices is added to them beforehand: they stay nearly where they were. Only used vertices keep a row.
    """
    valid = corners >= 0
    used, numbers = np.unique(corners[valid], return_inverse=True)
    faces = np.full(corners.shape, -1)
    faces[valid] = numbers.ravel()
    n, m, face, corner = len(used), len(faces), np.nonzero(valid)[0], faces[valid]
    after, before = _neighbours(faces)
    edges = np.sort(np.stack((faces, np.take_along_axis(faces, after, 1)), axis=-1)[valid], axis=1)
    edges, edge, sides = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    edge, e = edge.ravel(), len(edges)
    centres = _scaled(face, corner, (m, n))
    ends, of = edges.ravel(), np.repeat(np.arange(e), 2)
    middles = _scaled(of, ends, (e, n))
    inner = diags((sides > 1).astype(float))
    points = inner @ (0.5 * middles + 0.5 * _scaled(edge, face, (e, m)) @ centres) + (eye_array(e) - inner) @ middles

    valence = np.maximum(np.bincount(ends, minlength=n), 1).astype(float)
    smooth = (
        diags(1 / valence) @ _scaled(corner, face, (n, m)) @ centres
        + diags(2 / valence) @ _scaled(ends, of, (n, e)) @ middles
        + diags((valence - 3) / valence)
    )
    border = np.repeat(sides == 1, 2)
    rim = np.isin(np.arange(n), ends[border]).astype(float)
    along = 0.5 * eye_array(n) + 0.5 * _scaled(ends[border], of[border], (n, e)) @ middles
    kept = diags(1 - rim) @ smooth + diags(rim) @ along
    step = csr_matrix(vstack([kept, points, centres])) @ (2 * eye_array(n) - kept)
    keep = csr_matrix((np.ones(n), (np.arange(n), used)), (n, count))
    edge_of = np.zeros(faces.shape, int)
    edge_of[valid] = edge
    finer = np.column_stack((corner, n + edge, n + e + face, n + np.take_along_axis(edge_of, before, 1)[valid]))
    return csr_matrix(step @ keep), finer


def refined_uv(uv: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the uv (c, 4, 2) of what :func:`refinement` makes of ``corners`` (m, 4) with ``uv`` (m, 4, 2)."""
    valid = corners >= 0
    after, before = (np.take_along_axis(uv, columns[..., None], 1) for columns in _neighbours(corners))
    middle = (uv * valid[..., None]).sum(axis=1, keepdims=True) / valid.sum(axis=1)[:, None, None]
    four = (uv, (uv + after) / 2, np.broadcast_to(middle, uv.shape), (uv + before) / 2)
    return np.stack(four, axis=2)[valid]


def joint(mesh: Mesh, vertices: Floats, name: str) -> Floats:
    """Return the middle (3,) of the base mesh's group ``joint-NAME``, for its ``vertices`` (n, 3)."""
    middle: Floats = vertices[np.unique(mesh.corners[mesh.groups == f"joint-{name}"])].mean(axis=0)
    return middle


@lru_cache(maxsize=1)
def read_base(path: Path) -> Base:
    """Return the base mesh of a file, and the head's part of it; raises AssetError if it lacks a group."""
    mesh = files.read_mesh(path)
    for group in ("body", "joint-neck", "joint-head", "joint-jaw"):
        if not (mesh.groups == group).any():
            raise files.AssetError(files.Fault(f"expected MakeHuman's base mesh, with a group {group}", file=path))
    # Half of the neck's length is kept below its joint, for the heads of those whose neck is long; the rest is cut.
    neck, head = (joint(mesh, mesh.vertices, name)[1] for name in ("neck", "head"))
    lowest = neck - 0.5 * (head - neck)
    above = (mesh.vertices[mesh.corners][..., 1] > lowest) | (mesh.corners < 0)
    inside = (mesh.groups == "body") & above.all(axis=1)
    refine, corners = refinement(mesh.corners[inside], len(mesh.vertices))
    return Base(mesh, refine, corners, refined_uv(mesh.uv[inside], mesh.corners[inside]))


def _hung(fitting: files.Fitting, base: Floats) -> tuple[csr_matrix, Floats]:
    """Return the matrix (n, k) and the offsets (n, 3) with which a fitting hangs on the base mesh ``base`` (k, 3)."""
    n = len(fitting.vertices)
    rows = np.repeat(np.arange(n), 3)
    matrix = csr_matrix((fitting.weights.ravel(), (rows, fitting.vertices.ravel())), (n, len(base)))
    return matrix, files.fitted(fitting, base) - matrix @ base


def _parts(base: Base, assets: Assets, who: Person, shape: Floats) -> list[_Part]:
    """Return the parts of a person's head, whose base mesh has the vertices ``shape`` (k, 3)."""
    skin = files.read_texture(files.find(assets, who.skin))
    none = np.zeros((base.refine.shape[0], 3))
    parts = [_Part(SKIN, base.corners, base.uv, skin, base.refine, none)]
    wanted = [(EYE, who.eyes, who.iris), (BROW, who.brows, ""), (LASH, who.lashes, ""), (HAIR, who.hair, "")]
    for kind, tail, image in wanted:
        fitting = files.find(assets, tail)
        mesh, tie = files.read_part(fitting.with_suffix(".obj"), fitting, len(base.mesh.vertices))
        picture = files.read_texture(files.find(assets, image or files.texture_of(fitting)))
        if kind == HAIR:
            picture = _undyed(picture)
        parts.append(_Part(kind, mesh.corners, mesh.uv, picture, *_hung(tie, shape)))
    return parts


def _undyed(image: np.ndarray) -> np.ndarray:
    """Return a texture of hair in grey, whose see-through texels have the grey of the hair around them.

    A person's hair has one colour; the textures differ in theirs, and are black or white beside a lock.
    """
    solid = (image[..., 3] > 127).astype(np.float32)
    grey = cv2.cvtColor(image[..., :3], cv2.COLOR_RGB2GRAY).astype(np.float32) * solid
    around = grey.sum() / max(solid.sum(), 1.0)
    for width in (65, 9):  # from far to near
        spread, weight = cv2.blur(grey, (width, width)), cv2.blur(solid, (width, width))
        around = np.where(weight > 1e-3, spread / np.maximum(weight, 1e-3), around)
    grey = np.rint(np.where(solid > 0, grey, around)).astype(np.uint8)
    return np.dstack((grey, grey, grey, image[..., 3]))


def _cuts(part: _Part, uv: np.ndarray) -> np.ndarray:
    """Return the least alpha at which each triangle of a part, whose corners lie at ``uv`` (t, 3, 2), is seen.

    Where a lock is solid all over, or nothing is there, no texture needs to be asked.
    """
    if part.kind != HAIR:
        return np.full(len(uv), {SKIN: 0, EYE: 128}.get(part.kind, 256))
    alpha = part.image[..., 3]
    height, width = alpha.shape
    low, high = uv.min(axis=1) % 1.0, uv.max(axis=1) - uv.min(axis=1)
    cuts = np.full(len(uv), _HARD)
    for number, ((left, bottom), (across, up)) in enumerate(zip(low, high, strict=True)):
        columns = np.arange(int(left * width) - 2, int((left + across) * width) + 3) % width
        rows = np.arange(int((1 - bottom - up) * height) - 2, int((1 - bottom) * height) + 3) % height
        some = alpha[rows[:, None], columns]
        if some.min() >= _HARD:
            cuts[number] = 1
        elif some.max() < 8:
            cuts[number] = 256
    return cuts


def _cap(vertices: Floats, triangles: np.ndarray, above: Floats) -> tuple[Floats, np.ndarray]:
    """Return the vertices (c, 3) and triangles of a lid on a neck cut where ``above`` is 0; the last is its middle."""
    pairs = np.concatenate([triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    pairs = pairs[(above[pairs[:, 0]] >= 0) & (above[pairs[:, 1]] < 0)]
    high, low = above[pairs[:, 0]], above[pairs[:, 1]]
    share = (high / (high - low))[:, None]
    ring = vertices[pairs[:, 0]] * (1 - share) + vertices[pairs[:, 1]] * share
    middle = ring.mean(axis=0)
    ring = ring[np.argsort(np.arctan2(ring[:, 2] - middle[2], ring[:, 0] - middle[0]), kind="stable")]
    count = len(ring)
    fan = np.column_stack((np.roll(np.arange(count), -1), np.arange(count), np.full(count, count)))
    return np.vstack((ring, middle)), fan


def _smooth_step(values: Floats, low: float, high: float) -> Floats:
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def harmonics(directions: Floats) -> Floats:
    """Return the first nine real spherical harmonics (n, 9) of unit directions (n, 3), by degree and order."""
    x, y, z = directions.T
    return np.column_stack([
        np.full(len(x), 0.28209479177387814),
        0.4886025119029199 * y, 0.4886025119029199 * z, 0.4886025119029199 * x,
        1.0925484305920792 * x * y, 1.0925484305920792 * y * z, 0.31539156525252005 * (3 * z * z - 1),
        1.0925484305920792 * x * z, 0.5462742152960396 * (x * x - y * y),
    ])  # fmt: skip


def sphere(count: int) -> Floats:
    """Return unit directions (count, 3), spread evenly along a spiral."""
    step = np.arange(count) + 0.5
    z, turn = 1 - 2 * step / count, step * math.pi * (3 - math.sqrt(5))
    across = np.sqrt(1 - z * z)
    return np.column_stack((across * np.cos(turn), across * np.sin(turn), z))


def beside(direction: Floats) -> tuple[Floats, Floats]:
    """Return right and down, unit vectors (3,), of a view against a unit direction: their product points away."""
    other = np.eye(3)[int(np.abs(direction).argmin())]
    first = np.cross(direction, other)
    first /= np.linalg.norm(first)
    return first, np.cross(first, direction)


def _sky(head: Head, normals: Floats, is_hair: np.ndarray) -> Floats:
    """Return what each vertex receives from a sky of each spherical harmonic (n, 9), where the head lets it through.

    Divided by pi: a sky that is 1 everywhere lights what lies open by 1.
    """
    directions, side = sphere(DIRECTIONS), _SKY_SIDE
    scale = (side / 2 - 2) / head.radius
    received = np.zeros((len(head.vertices), 9))
    one, every = np.ones(len(head.vertices)), np.arange(len(head.triangles))
    for direction, basis in zip(directions, harmonics(directions), strict=True):
        right, down = beside(direction)
        x, y = (head.vertices @ axis * scale + side / 2 for axis in (right, down))
        near = head.vertices @ direction
        buffer, seen = np.full((side, side), -np.inf), np.full((side, side), -1, np.int32)
        view = Projected(x, y, near, one, head.triangles, head.uv, head.texture, head.cut, head.above)
        draw(view, head.textures, every, buffer, seen)
        columns, rows = (np.clip(np.rint(axis).astype(int), 0, side - 1) for axis in (x, y))
        open_ = near > buffer[rows, columns] - np.where(is_hair, 6.0, 2.5)
        facing = normals @ direction
        lit = np.where(is_hair, 0.25 + 0.35 * np.abs(facing), np.maximum(facing, 0))
        received += (open_ * lit)[:, None] * basis
    return received * (4 / DIRECTIONS)


def _tint(vertices: Floats, kinds: np.ndarray, who: Person, images: dict[int, np.ndarray]) -> Floats:
    """Return by which each vertex's texture is multiplied (n, 3): the skin's tone, hair's colour, hair on the scalp."""
    tint = np.ones((len(vertices), 3))
    skin, hair = kinds == SKIN, kinds == HAIR
    tint[skin] = who.tone
    tint[kinds == BROW] = 0.6 * who.hair_colour
    tint[kinds == LASH] = 0.006
    if not hair.any():
        return tint
    picture = images[HAIR].reshape(-1, 4)
    solid = picture[picture[:, 3] > 128][:, :3] / 255.0
    tint[hair] = who.hair_colour / np.maximum((solid**2.2).mean(axis=0), 1e-3)
    # Where locks part, what shows is a scalp full of hair.
    away = cKDTree(vertices[hair]).query(vertices[skin])[0]
    _, y, z = vertices[skin].T
    scalp = _smooth_step(-away, -28, -10) * _smooth_step((-y - 45) + 0.8 * (z + 60), 0, 22)
    tint[skin] += scalp[:, None] * (np.clip(2.2 * who.hair_colour + 0.02, 0, 0.6) - tint[skin])
    return tint


def _fringe(vertices: Floats) -> Floats:
    """Return how far, mm, hair (n, 3) is outside of the face, an oval below the brows; locks in it are cut off."""
    x, y, z = vertices.T
    outside = (np.hypot(x / 56, (y - 32) / 58) - 1) * 50
    return np.where(z < -20, outside, 100.0)


def _upright(vertices: Floats, shape: Floats, mesh: Mesh, skin: np.ndarray) -> tuple[Floats, Floats]:
    """Return the vertices (n, 3) in Biwi's frame, mm, about the middle of the head, and how far above the cut (n,)."""
    neck, jaw = joint(mesh, shape, "neck"), joint(mesh, shape, "jaw")
    above = (vertices[:, 1] - neck[1] + 0.22 * (vertices[:, 2] - neck[2]) - 0.12) * MILLIMETRES
    skull = vertices[skin & (vertices[:, 1] > jaw[1])]
    middle = (skull.min(axis=0) + skull.max(axis=0)) / 2
    return (vertices - middle) * MILLIMETRES * AXES, above


def _moves(assets: Assets, who: Person, parts: list[_Part], count: int) -> dict[str, Floats]:
    """Return how far each vertex of the parts (n, 3) moves with each expression, mm, in Biwi's frame."""
    moves = {}
    for name, units in who.units().items():
        delta = np.zeros((count, 3))
        for unit, weight in units.items():
            target = files.read_target(files.find(assets, unit), count)
            np.add.at(delta, target.vertices, weight * target.offsets)
        moves[name] = np.concatenate([part.hang @ delta for part in parts]) * MILLIMETRES * AXES
    return moves


def build_head(assets: Assets, who: Person) -> Head:
    """Return the head of a person; raises AssetError if a file of theirs is missing or damaged."""
    base = read_base(files.find(assets, "3dobjs/base.obj", "base.obj"))
    shape = base.mesh.vertices.copy()
    for name, weight in who.targets.items():
        target = files.read_target(files.find(assets, name), len(shape))
        np.add.at(shape, target.vertices, weight * target.offsets)
    parts = _parts(base, assets, who, shape)
    hung = [part.hang @ shape + part.offsets for part in parts]
    kinds = np.repeat([part.kind for part in parts], [len(points) for points in hung])
    starts = np.cumsum([0, *map(len, hung)])
    vertices, above = _upright(np.concatenate(hung), shape, base.mesh, kinds == SKIN)
    hair = kinds == HAIR
    above[hair] = np.minimum(above[hair] + _HANGING, _fringe(vertices[hair]))
    faces = [triangulated(part.corners, part.uv) for part in parts]
    kind = np.repeat([part.kind for part in parts], [len(corners) for corners, _ in faces]).astype(np.int32)
    head = Head(
        vertices=vertices,
        triangles=np.concatenate([corners + start for (corners, _), start in zip(faces, starts, strict=False)]),
        uv=np.concatenate([uv for _, uv in faces]),
        texture=kind,
        kind=kind,
        cut=np.concatenate([_cuts(part, uv) for part, (_, uv) in zip(parts, faces, strict=True)]),
        above=above,
        tint=_tint(vertices, kinds, who, {part.kind: part.image for part in parts}),
        sky=np.zeros((len(vertices), 9)),
        moves=_moves(assets, who, parts, len(shape)),
        textures=make_textures([part.image for part in sorted(parts, key=lambda part: part.kind)]),
    )
    head = _with_cap(head)
    normals = vertex_normals(head.vertices, head.triangles)
    is_hair = np.concatenate((kinds == HAIR, np.zeros(len(head.vertices) - len(kinds), bool)))
    return head._replace(sky=_sky(head, normals, is_hair))


def _with_cap(head: Head) -> Head:
    """Return a head with a lid on its neck, of the skin's colour beside the cut."""
    skin = head.triangles[head.kind == SKIN]
    points, fan = _cap(head.vertices, skin, head.above)
    corner = int(np.abs(np.where(head.above >= 0, head.above, np.inf)[skin]).min(axis=1).argmin())
    uv = np.broadcast_to(head.uv[head.kind == SKIN][corner][0], (len(fan), 3, 2))
    count, extra = len(points), np.zeros(len(fan), np.int32)
    nearest = cKDTree(head.vertices).query(points)[1]
    return head._replace(
        vertices=np.vstack((head.vertices, points)),
        triangles=np.vstack((head.triangles, (fan + len(head.vertices)).astype(np.int32))),
        uv=np.concatenate((head.uv, uv)), texture=np.concatenate((head.texture, extra)),
        kind=np.concatenate((head.kind, extra)), cut=np.concatenate((head.cut, extra)),
        above=np.concatenate((head.above, np.ones(count))), tint=np.vstack((head.tint, 0.6 * head.tint[nearest])),
        sky=np.zeros((len(head.vertices) + count, 9)),
        moves={name: np.vstack((move, move[nearest])) for name, move in head.moves.items()},
    )  # fmt: skip
