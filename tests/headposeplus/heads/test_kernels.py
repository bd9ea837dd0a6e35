import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from headposeplus.heads import kernels, shade
from headposeplus.heads.assets import open_assets
from headposeplus.heads.model import build_head, make_textures
from headposeplus.heads.people import draw_person
from headposeplus.heads.views import Projected
from headposeplus.rotations import to_matrix

pytest.importorskip("numba", reason="numba is not installed: pip install -e .[render]")


def scene(rng, triangles, cut=1):
    """Return triangles at random before a pinhole camera, each with its own corners, and their places (n, 3)."""
    points = np.column_stack((rng.uniform(-40, 40, (3 * triangles, 2)), rng.uniform(80, 160, 3 * triangles)))
    x, y = points[:, 0] / points[:, 2] * 60 + 30, points[:, 1] / points[:, 2] * 60 + 24
    uv = rng.uniform(0, 1, (triangles, 3, 2))
    zeros = np.zeros(triangles, np.int32)
    corners = np.arange(3 * triangles, dtype=np.int32).reshape(-1, 3)
    inverse = 1 / points[:, 2]
    above = np.ones(len(points))
    return Projected(x, y, inverse, inverse, corners, uv, zeros, np.full(triangles, cut), above), points


def cast(points, x, y):
    """Return the depth, or NaN, and the barycentric weights (t, 3) at which a pixel's ray meets each triangle."""
    ray = np.array([(x - 30) / 60, (y - 24) / 60, 1.0])
    a, b, c = points.reshape(-1, 3, 3).transpose(1, 0, 2)
    # Solve depth * ray = wa * a + wb * b + wc * c with weights of sum 1 (Moller and Trumbore).
    solved = np.linalg.solve(np.stack((np.broadcast_to(-ray, a.shape), b - a, c - a), -1), -a[..., None])[..., 0]
    weights = np.column_stack((1 - solved[:, 1] - solved[:, 2], solved[:, 1], solved[:, 2]))
    inside = (weights >= 0).all(axis=1) & (solved[:, 0] > 0)
    return np.where(inside, solved[:, 0], np.nan), weights


def empty(shape=(48, 60)):
    return np.full(shape, -np.inf), np.full(shape, -1, np.int32)


@pytest.mark.parametrize("cut", [1, 0])
def test_what_is_seen_is_what_rays_meet(cut):
    rng = np.random.default_rng(3)
    projected, points = scene(rng, 60, cut)
    near, seen = empty()
    textures = make_textures([np.full((8, 8, 4), 255, np.uint8)])
    kernels.draw(projected, textures, rng.permutation(60), near, seen)
    a, b, c = points.reshape(-1, 3, 3).transpose(1, 0, 2)
    faces_away = np.einsum("ni,ni->n", np.cross(b - a, c - a), a) > 0
    for y, x in np.ndindex(seen.shape):
        depth, _ = cast(points, x, y)
        if cut == 0:
            depth = np.where(faces_away, np.nan, depth)
        if np.isnan(depth).all():
            assert seen[y, x] == -1
        else:
            assert seen[y, x] == np.nanargmin(depth)
            assert near[y, x] == pytest.approx(1 / np.nanmin(depth))
    assert 0.2 < (seen >= 0).mean() < 0.99


def test_what_the_texture_leaves_open_is_seen_through():
    rng = np.random.default_rng(4)
    projected, points = scene(rng, 40, cut=128)
    projected.above[:] = rng.uniform(-1, 3, len(points))
    image = cv2.resize(rng.integers(0, 255, (8, 8, 4), dtype=np.uint8), (64, 64))
    near, seen = empty()
    kernels.draw(projected, make_textures([image]), np.arange(40), near, seen)
    for y, x in np.ndindex(seen.shape):
        depth, weights = cast(points, x, y)
        uv = np.einsum("tk,tkc->tc", weights, projected.uv)
        height = np.einsum("tk,tk->t", weights, projected.above.reshape(-1, 3))
        alpha = map_coordinates(
            image[..., 3].astype(float), [(1 - uv[:, 1]) * 64 - 0.5, uv[:, 0] * 64 - 0.5], order=1, mode="grid-wrap"
        )
        if (np.abs(alpha - 128) < 60)[np.isfinite(depth)].any():
            continue  # a coarser copy of the texture may say otherwise
        depth[(alpha < 128) | (height < 0)] = np.nan
        assert seen[y, x] == (-1 if np.isnan(depth).all() else np.nanargmin(depth))


def test_textures_are_looked_up_as_scipy_does():
    rng = np.random.default_rng(5)
    image = rng.integers(0, 255, (24, 16, 4), dtype=np.uint8)
    textures = make_textures([np.zeros((8, 8, 4), np.uint8), image])
    u, v = rng.uniform(-1, 2, (2, 200))
    ours = np.array([kernels.look_up(textures, 1, 0, *at) for at in zip(u, v, strict=True)])
    for channel in range(4):
        at = [(1 - v) * 24 - 0.5, u * 16 - 0.5]
        theirs = map_coordinates(image[..., channel].astype(float), at, order=1, mode="grid-wrap")
        assert np.allclose(ours[:, channel], theirs)
    half = cv2.resize(image, (8, 12), interpolation=cv2.INTER_AREA)
    start, width, height = textures.levels[1, 1]
    assert (textures.texels[start : start + width * height].reshape(12, 8, 4) == half).all()
    assert textures.levels[1, 2].tolist()[1:] == [4, 6] and textures.levels[1, 3:].max() == 0  # not halved below 4


def test_coarser_copies_serve_smaller_triangles():
    textures = make_textures([np.zeros((256, 256, 4), np.uint8)])
    for side, level in ((256, 0), (128, 1), (64, 2), (4, 6), (2, 6)):
        x, y = np.array([0.0, side, 0]), np.array([0.0, 0, side])
        uv = np.array([[[0, 0], [1, 0], [0, 1.0]]])
        one = np.ones(3)
        corners = np.array([[0, 1, 2]], np.int32)
        view = Projected(x, y, one, one, corners, uv, np.zeros(1, np.int32), np.ones(1), one)
        assert kernels.level_of(view, textures, 0, 1.0) == level


def test_normals_and_products():
    rng = np.random.default_rng(6)
    vertices, triangles = rng.normal(size=(9, 3)), rng.integers(0, 9, (20, 3)).astype(np.int32)
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    expected = np.zeros((9, 3))
    np.add.at(expected, triangles, np.cross(b - a, c - a)[:, None])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(kernels.vertex_normals(vertices, triangles), expected)
    matrix = rng.normal(size=(3, 5))
    assert np.allclose(kernels.times(vertices, matrix), vertices @ matrix)


@pytest.fixture(scope="module")
def head(made_up):
    return build_head(open_assets(made_up), draw_person(0, False, 0))


CAMERA = shade.Camera(96, 0.24 * 900, 900.0, np.array([47.5, 47.5]))


def lit(direction, key=1.0, ambient=0.0):
    direction = np.array(direction, float) / np.linalg.norm(direction)
    sky = shade.sky_of(np.full(3, ambient), np.array([[0.0, -1, 0]]), np.zeros((1, 3)))
    return shade.Light(direction, np.full(3, key), sky)


def test_the_outline_is_that_of_the_projected_head(head):
    rotation = to_matrix([10, 30, -5])
    image = shade.render(head, head.vertices, rotation, CAMERA, lit([0, 0, -1]))
    skin = head.triangles[(head.kind == kernels.SKIN) & (head.above[head.triangles] > 0).all(axis=1)]
    places = head.vertices[np.unique(skin)] @ rotation.T + [0, 0, 900.0]
    x, y = (places[:, axis] / places[:, 2] * CAMERA.focal + 47.5 for axis in (0, 1))
    rows, columns = np.nonzero(image[..., 3] > 127)
    assert image.shape == (96, 96, 4) and image.dtype == np.uint8
    assert abs(columns.min() - x.min()) < 1.5 and abs(columns.max() - x.max()) < 1.5
    assert abs(rows.min() - y.min()) < 4 and abs(rows.max() - y.max()) < 4  # hair above, the lid below
    assert (image[..., :3][image[..., 3] == 0] == 0).all()


def test_light_comes_from_the_lamp(head):
    left = shade.render(head, head.vertices, np.eye(3), CAMERA, lit([-1, 0, -0.3]))
    right = shade.render(head, head.vertices, np.eye(3), CAMERA, lit([1, 0, -0.3]))
    for image, bright in ((left, slice(20, 47)), (right, slice(49, 76))):
        dark = slice(49, 76) if bright.start == 20 else slice(20, 47)
        assert image[30:60, bright, :3].mean() > 2.5 * image[30:60, dark, :3].mean()
    behind = shade.render(head, head.vertices, np.eye(3), CAMERA, lit([0, 0, 1]))
    assert behind[40:56, 40:56, :3].max() < 12  # what the lamp does not reach is black without a sky
    twice = shade.render(head, head.vertices, np.eye(3), CAMERA, lit([-1, 0, -0.3]))
    assert (twice == left).all()


def test_the_sky_lights_what_no_lamp_does(head):
    image = shade.render(head, head.vertices, np.eye(3), CAMERA, lit([0, 0, 1], ambient=0.6))
    assert image[40:56, 40:56, :3].mean() > 60


def test_colours_are_developed_as_srgb():
    """An even grey of linear 0.18 is the code 118 of sRGB, and half a pixel of it half as opaque."""
    colour = np.zeros((4, 4, 4))
    colour[..., :3], colour[..., 3] = 0.18, 1
    colour[:2, 1] = 0
    image = np.zeros((2, 2, 4), np.uint8)
    kernels.develop(colour, image)
    assert image[1, 1].tolist() == [118, 118, 118, 255] and image[0, 0].tolist() == [118, 118, 118, 128]
