"""Ray casting of meshes through a pinhole camera, and the shading of what the rays meet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headposeplus.errors import HeadposeError
from headposeplus.miniature.solids import Mesh

try:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene
except ImportError:
    TriangleMesh = EmbreeScene = None


class Scene(NamedTuple):
    """A mesh ready for rays: the tree, its triangles, and a row a vertex of what is interpolated."""

    tree: object
    triangles: np.ndarray
    attributes: np.ndarray  # (n, 7): normal, colour, gloss
    radius: float


class Light(NamedTuple):
    """A lamp in the camera's frame: the direction towards it, its colour, its size, and the ambient light."""

    direction: np.ndarray
    colour: np.ndarray
    ambient: np.ndarray
    softness: float
    shadow: float


class Hits(NamedTuple):
    """What the rays of an image met: flat pixel indices (n,), depth along z (n,) and colour (n, 3)."""

    pixels: np.ndarray
    depth: np.ndarray
    colour: np.ndarray


def make_scene(mesh: Mesh) -> Scene:
    """Return the mesh with its search tree; raises HeadposeError where embreex is not installed."""
    if EmbreeScene is None:
        raise HeadposeError("the miniature needs embreex to cast rays: pip install 'headposeplus[miniature]'")
    tree = EmbreeScene()
    TriangleMesh(tree, mesh.vertices.astype(np.float32), mesh.triangles.astype(np.int32))
    attributes = np.column_stack((mesh.normals, mesh.colours, mesh.gloss)).astype(np.float32)
    return Scene(tree, mesh.triangles, attributes, float(np.linalg.norm(mesh.vertices, axis=1).max()))


def _rays(
    scene: Scene, centre: np.ndarray, camera: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels inside the mesh's bounding sphere and their rays in the camera's frame."""
    f, cx, cy = camera[0, 0], camera[0, 2], camera[1, 2]
    reach = f * scene.radius / max(centre[2] - scene.radius, 1.0)
    u, v = f * centre[0] / centre[2] + cx, f * centre[1] / centre[2] + cy
    x0, x1 = max(int(u - reach), 0), min(int(u + reach) + 2, width)
    y0, y1 = max(int(v - reach), 0), min(int(v + reach) + 2, height)
    if x0 >= x1 or y0 >= y1:
        return np.zeros(0, np.int64), np.zeros((0, 3), np.float32)
    x, y = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
    rays = np.stack(((x - cx) / f, (y - cy) / f, np.ones(x.shape)), -1).reshape(-1, 3).astype(np.float32)
    return (y * width + x).ravel(), rays


def cast(
    scene: Scene, rotation: np.ndarray, centre: np.ndarray, camera: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels (n,) at which a camera K (3, 3) sees the mesh, and their depth (n,) along z, in mm."""
    pixels, rays = _rays(scene, centre, camera, width, height)
    if not pixels.size:
        return pixels, np.zeros(0, np.float32)
    origin = np.broadcast_to((-rotation.T @ centre).astype(np.float32), rays.shape)
    far = scene.tree.run(np.ascontiguousarray(origin), rays @ rotation.astype(np.float32), query="DISTANCE")  # type: ignore[attr-defined]
    hit = far < 1e20
    return pixels[hit], far[hit]


def render(
    scene: Scene,
    rotation: np.ndarray,
    centre: np.ndarray,
    camera: np.ndarray,
    width: int,
    height: int,
    light: Light,
    rng: np.random.Generator,
) -> Hits:
    """Return what a camera K (3, 3) sees of the mesh, whose pose is ``rotation`` and ``centre`` (mm)."""
    pixels, rays = _rays(scene, centre, camera, width, height)
    if not pixels.size:
        return Hits(pixels, np.zeros(0, np.float32), np.zeros((0, 3), np.float32))
    turn = rotation.astype(np.float32)
    origin = (-rotation.T @ centre).astype(np.float32)
    directions = np.ascontiguousarray(rays @ turn)
    met = scene.tree.run(np.broadcast_to(origin, rays.shape).copy(), directions, output=1)  # type: ignore[attr-defined]
    hit = np.flatnonzero(met["primID"] >= 0)
    u, v, depth = met["u"][hit], met["v"][hit], met["tfar"][hit]
    corners = scene.triangles[met["primID"][hit]]
    weights = np.stack((1 - u - v, u, v), -1)
    values = np.einsum("nk,nkc->nc", weights, scene.attributes[corners])
    normals = values[:, :3] / np.maximum(np.linalg.norm(values[:, :3], axis=1, keepdims=True), 1e-6)
    albedo, gloss = values[:, 3:6], values[:, 6]

    toward = (light.direction @ rotation).astype(np.float32)
    lit = np.clip(normals @ toward, 0, None)
    if light.shadow:
        points = origin + depth[:, None] * directions[hit] + 0.8 * normals
        jitter = rng.normal(0, light.softness, (len(hit), 3)).astype(np.float32)
        blocked = scene.tree.run(points.astype(np.float32), toward + jitter, query="OCCLUDED") == 0  # type: ignore[attr-defined]
        lit = lit * (1 - light.shadow * blocked)
    view = -directions[hit] / np.linalg.norm(directions[hit], axis=1, keepdims=True)
    half = view + toward
    half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
    shine = gloss * np.clip((normals * half).sum(1), 0, 1) ** 24 * (lit > 0)
    # The sky light falls from above (the camera's -y).
    sky = 0.75 - 0.25 * (normals @ turn[1])
    colour = albedo * (light.colour * lit[:, None] + light.ambient * sky[:, None]) + light.colour * shine[:, None]
    return Hits(pixels[hit], depth, colour)
