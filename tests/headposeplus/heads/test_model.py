import numpy as np
import pytest
from scipy.special import sph_harm_y

from headposeplus.heads import kernels, model, shade
from headposeplus.heads.assets import AssetError, open_assets
from headposeplus.heads.people import draw_person
from headposeplus.rotations import to_matrix
from tests.headposeplus.heads.made_up import ball

pytest.importorskip("numba", reason="numba is not installed: pip install -e .[render]")


def test_subdivision_follows_catmull_and_clark():
    """By hand, on a closed cube: 8 corners of valence 3, 12 edges, 6 faces."""
    vertices, faces, uv = ball(1)
    matrix, finer = model.refinement(faces, len(vertices))
    assert matrix.shape == (26, 8) and finer.shape == (24, 4)
    assert np.allclose(np.asarray(matrix.sum(axis=1)).ravel(), 1)  # it moves and turns with the mesh
    # A step takes a corner to (F + 2E) / 3, F and E the means of its faces' and edges' middles: 5/9 of the way out.
    # What it takes is added beforehand.
    assert np.allclose((matrix @ vertices)[:8], (2 - 5 / 9) * (5 / 9) * vertices)
    assert model.refined_uv(uv, faces).shape == (24, 4, 2)


def test_subdivision_keeps_a_plane_and_its_border():
    grid = np.array([[x, y, 0.0] for y in range(4) for x in range(4)])
    faces = np.array([[4 * y + x, 4 * y + x + 1, 4 * y + x + 5, 4 * y + x + 4] for y in range(3) for x in range(3)])
    matrix, finer = model.refinement(faces, 20)
    points = matrix @ np.vstack((grid, np.full((4, 3), 9.0)))  # vertices that no face has are left out
    assert len(points) == 49 and np.abs(points[:, 2]).max() < 1e-12
    inner = points[finer].mean(axis=1)
    assert np.allclose(sorted(inner[:, 0].round(6))[::6], [0.25, 0.75, 1.25, 1.75, 2.25, 2.75], atol=0.2)
    uv = np.stack([grid[face][:, :2] for face in faces])
    assert np.allclose(model.refined_uv(uv, faces)[0], [[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]])
    # Corners and uv of a finer face go round in the same order.
    assert np.allclose(points[finer][:, :, :2], model.refined_uv(uv, faces), atol=0.3)


def volume(points, quads):
    """The volume within quadrilaterals that face outwards, by the divergence theorem."""
    a, b, c, d = (points[quads[:, k]] for k in range(4))
    return (np.einsum("ni,ni->", a, np.cross(b, c)) + np.einsum("ni,ni->", a, np.cross(c, d))) / 6


def test_triangles_are_subdivided_too():
    """A cube with one side in two triangles stays closed: each edge has two faces, and it is about as large."""
    vertices, faces, uv = ball(1)
    first = faces[0]
    faces = np.vstack((faces[1:], [[*first[[0, 1, 2]], -1], [*first[[0, 2, 3]], -1]]))
    uv = np.concatenate((uv[1:], uv[:1], uv[:1]))
    matrix, finer = model.refinement(faces, len(vertices))
    assert len(finer) == 5 * 4 + 2 * 3 == len(model.refined_uv(uv, faces))
    edges = np.sort(np.stack((finer, np.roll(finer, -1, axis=1)), -1).reshape(-1, 2), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}
    whole = model.refinement(ball(1)[1], len(vertices))
    assert volume(matrix @ vertices, finer) == pytest.approx(volume(whole[0] @ vertices, whole[1]), rel=0.1)
    # The middle of a triangle is the mean of three corners.
    triangle = model.refined_uv(uv, faces)[-6]
    assert np.allclose(triangle[2], uv[-2][:3].mean(axis=0)) and np.allclose(triangle[0], uv[-2][0])


def test_harmonics_are_scipys():
    directions = model.sphere(40)
    theta, phi = np.arccos(directions[:, 2]), np.arctan2(directions[:, 1], directions[:, 0])
    column = 0
    for degree in range(3):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), theta, phi)
            expected = (
                value.real if order == 0 else (-1) ** order * np.sqrt(2) * (value.imag if order < 0 else value.real)
            )
            assert np.allclose(model.harmonics(directions)[:, column], expected), (degree, order)
            column += 1


def test_a_sky_lights_as_its_integral_does():
    """Against a sum over 20,000 directions, for a ball that nothing shades."""
    rng = np.random.default_rng(0)
    ambient, towards, colours = np.array([0.2, 0.3, 0.4]), rng.normal(size=(2, 3)), rng.uniform(0, 1, (2, 3))
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    sky = shade.sky_of(ambient, towards, colours)
    many, normal = model.sphere(20000), np.array([0.36, -0.48, 0.8])
    radiance = ambient + np.clip(many @ towards.T, 0, None) @ colours
    cosine = np.clip(many @ normal, 0, None)
    expected = (cosine[:, None] * radiance).sum(axis=0) * 4 / 20000  # irradiance over pi
    received = (cosine[:, None] * model.harmonics(many)).sum(axis=0) * 4 / 20000
    assert np.allclose(received @ sky, expected, rtol=0.03)
    rotation = to_matrix([20, -50, 35])
    turned = shade.turned_sky(sky, rotation)
    assert np.allclose(model.harmonics(many[:50]) @ turned, model.harmonics(many[:50] @ rotation.T) @ sky)


def test_views_are_right_handed_towards_what_is_seen():
    for direction in model.sphere(9):
        right, down = model.beside(direction)
        assert np.allclose(np.cross(right, down), -direction)


@pytest.fixture(scope="module")
def head(made_up):
    return model.build_head(open_assets(made_up), draw_person(0, True, 0))


def test_a_head_is_about_its_middle_in_millimetres(head):
    skin = head.vertices[np.unique(head.triangles[(head.kind == kernels.SKIN)])]
    skin = skin[skin[:, 1] < 100]
    assert np.abs((skin.min(axis=0) + skin.max(axis=0))[[0, 2]]).max() < 20
    assert 80 < np.abs(skin[:, 0]).max() * 1.3 < 160 and head.radius < 260
    assert set(head.kind) == {kernels.SKIN, kernels.EYE, kernels.HAIR, kernels.BROW, kernels.LASH}
    eyes = head.vertices[np.unique(head.triangles[head.kind == kernels.EYE])]
    assert eyes[:, 2].mean() < -60  # the face looks along -z
    assert all(move.shape == head.vertices.shape and np.abs(move).max() > 0.1 for move in head.moves.values())


def test_its_skin_is_closed_and_faces_outwards(head):
    """The volume above the cut, by the divergence theorem, with the lid: positive, and a ball's."""
    skin = head.triangles[head.kind == kernels.SKIN]
    lid = skin[skin.min(axis=1) >= len(head.vertices) - (np.bincount(skin.ravel())[-1] + 1)]
    assert len(lid) > 8
    normals = np.cross(*(head.vertices[lid[:, k]] - head.vertices[lid[:, 0]] for k in (1, 2)))
    assert (normals[:, 1] > 0).all()  # the lid faces downwards
    outside = skin[(head.above[skin] > 0).all(axis=1)]
    a, b, c = (head.vertices[outside[:, k]] for k in range(3))
    assert np.einsum("ni,ni->", a, np.cross(b, c)) / 6 > 1e6


def test_what_is_open_to_the_sky_is_lit_most(head):
    even = np.zeros(9)
    even[0] = np.sqrt(4 * np.pi)
    lit = head.sky @ even
    skin = np.unique(head.triangles[head.kind == kernels.SKIN])
    face = skin[(head.vertices[skin][:, 2] < -60) & (head.above[skin] > 20)]
    assert 0.9 < np.median(lit[face]) < 1.1
    assert lit.min() >= -1e-9 and lit.max() < 1.3


def test_locks_are_cut_off_before_the_face():
    places = np.array([[0, 30, -90], [0, -60, -90], [0, 30, 80], [70, 30, -60.0]])
    assert (model._fringe(places) > 0).tolist() == [False, True, True, True]


def test_a_base_mesh_without_its_groups_is_told(tmp_path, made_up):
    text = (made_up / "makehuman/makehuman/data/3dobjs/base.obj").read_text()
    (tmp_path / "base.obj").write_text(text.replace("joint-jaw", "joint-knee"))
    with pytest.raises(AssetError, match="expected MakeHuman's base mesh, with a group joint-jaw"):
        model.read_base(tmp_path / "base.obj")
