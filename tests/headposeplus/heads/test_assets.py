import re

import numpy as np
import pytest
from click.testing import CliRunner

from benchmark.cli.main import main
from headposeplus.heads import assets
from headposeplus.heads.assets import AssetError
from headposeplus.heads.model import triangulated
from tests.headposeplus.heads.made_up import base_text, obj_text, picture, write

SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0.0]]


def mesh_text(faces):
    return obj_text(SQUARE, faces, [[[0.1 * k, 0.2] for k in range(len(face))] for face in faces], ["a"] * len(faces))


def test_triangles_and_quadrilaterals_mix(tmp_path):
    path = tmp_path / "mixed.obj"
    path.write_text(mesh_text([[0, 1, 2, 3], [1, 4, 2]]))
    mesh = assets.read_mesh(path)
    triangles, uv = triangulated(mesh.corners, mesh.uv)
    area = np.linalg.norm(
        np.cross(*(mesh.vertices[triangles[:, k]] - mesh.vertices[triangles[:, 0]] for k in (1, 2))), axis=1
    )
    assert sorted(area / 2) == [0.5, 0.5, 0.5]  # a square of 1 and a triangle of a half
    assert {tuple(sorted(t)) for t in triangles.tolist()} == {(0, 1, 2), (0, 2, 3), (1, 2, 4)}
    assert uv.shape == (3, 3, 2) and uv[0, 1].tolist() == [0.1, 0.2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (mesh_text([[0, 1, 2, 3], [0, 1]]), "a face of 3 or 4 corners among 5 vertices"),
        (mesh_text([[0, 1, 2, 3, 4]]), "a face of 3 or 4 corners"),
        (mesh_text([[0, 1, 2, 3]]).replace("f 1/1", "f 9/1"), "found 'f 9/1"),
        (mesh_text([[0, 1, 2, 3]]).replace("f 1/1", "f 0/1"), "found 'f 0/1"),
        (mesh_text([[0, 1, 2, 3]]).replace("f 1/1", "f -6/1"), "found 'f -6/1"),
        (mesh_text([[0, 1, 2, 3]]).replace("f 1/1", "f 1/-9"), "found 'f 1/-9"),
        (mesh_text([[0, 1, 2, 3]]).replace("v 1.000000", "v nan", 1), "three numbers"),
        (mesh_text([[0, 1, 2, 3]]).replace("f 1/1", "f one/1"), "a face of 3 or 4 corners"),
        (mesh_text([[0, 1, 2, 3]]).replace("v 1.000000", "v x", 1), "three numbers"),
        (mesh_text([[0, 1, 2, 3]]).replace("v 1.000000 0.000000 0.000000", "v 1 0", 1), "three numbers"),
        ("# nothing\n", "vertices and faces"),
        ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_a_damaged_mesh_is_told(tmp_path, text, words):
    path = tmp_path / "bad.obj"
    path.write_text(text)
    with pytest.raises(AssetError, match=re.escape(words)) as caught:
        assets.read_mesh(path)
    assert str(path) in str(caught.value)


def test_numbers_below_zero_count_from_the_last(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text(mesh_text([[0, 1, 2, 3], [1, 4, 2]]))
    mesh = assets.read_mesh(path)

    def from_the_last(match):
        return f"f {int(match[1]) - 1 - 5}/{int(match[2]) - 1 - 7}"

    text, count = re.subn(r"^f (\d)/(\d)", from_the_last, path.read_text(), flags=re.MULTILINE)
    path.write_text(text)
    again = assets.read_mesh(path)
    assert count == 2 and (again.corners == mesh.corners).all() and (again.uv == mesh.uv).all()


def test_a_target_is_an_addition(tmp_path):
    path = tmp_path / "a.target"
    path.write_text("# made up\n2 .5 -.25 0\n0 1 2 3\n")
    target = assets.read_target(path, 5)
    moved = np.array(SQUARE, float)
    np.add.at(moved, target.vertices, 2 * target.offsets)
    assert moved.tolist() == [[2, 4, 6], [1, 0, 0], [2, 0.5, 0], [0, 1, 0], [2, 0, 0]]


@pytest.mark.parametrize("line", ["5 0 0 0", "-1 0 0 0", "1 0 0", "1 0 0 nan", "one 0 0 0"])
def test_a_damaged_target_is_told(tmp_path, line):
    path = tmp_path / "a.target"
    path.write_text(f"0 0 0 0\n{line}\n")
    with pytest.raises(AssetError, match=r"a\.target, line 2: expected a vertex from 0 to 4 and its offset"):
        assets.read_target(path, 5)


def test_an_empty_target_and_one_that_moves_metres(tmp_path):
    path = tmp_path / "a.target"
    path.write_bytes(b"")
    with pytest.raises(AssetError, match=r"a\.target: an empty file; copy it anew"):
        assets.read_target(path, 5)
    path.write_text("# moves nothing, as some do\n")
    assert not len(assets.read_target(path, 5).vertices)
    path.write_text("1 1e9 0 0\n")
    with pytest.raises(AssetError, match=r"a\.target, line 1: expected offsets of at most 10 decimetres"):
        assets.read_target(path, 5)


def test_a_fitting_hangs_on_the_base_mesh(tmp_path):
    path = tmp_path / "a.mhclo"
    path.write_text("name a\nx_scale 0 4 1.0\nverts 0\n3\n0 1 2 0.5 0.25 0.25 0.1 0.2 0.3\ndelete_verts\n0 1 2\n")
    base = np.array(SQUARE)
    hung = assets.fitted(assets.read_fitting(path, 5), base)
    # The base mesh is twice as wide as the offsets are meant for.
    assert np.allclose(hung, [base[3], 0.5 * base[0] + 0.25 * base[1] + 0.25 * base[2] + [0.2, 0.2, 0.3]])


@pytest.mark.parametrize("line", ["7", "0 1 5 1 0 0 0 0 0", "0 1 2 1 0 0 0 0", "0 1 2 1 0 0 0 0 inf", "0 1"])
def test_a_damaged_fitting_is_told(tmp_path, line):
    path = tmp_path / "a.mhclo"
    path.write_text(f"verts 0\n0\n{line}\n")
    with pytest.raises(AssetError, match=r"a\.mhclo, line 3: expected three vertices from 0 to 4"):
        assets.read_fitting(path, 5)


def test_a_fitting_without_vertices_is_told(tmp_path):
    (tmp_path / "a.mhclo").write_text("name a\n")
    with pytest.raises(AssetError, match="a line a vertex after the line verts"):
        assets.read_fitting(tmp_path / "a.mhclo", 5)
    (tmp_path / "a.mhclo").write_text("x_scale 0 9 1\n")
    with pytest.raises(AssetError, match="line 1"):
        assets.read_fitting(tmp_path / "a.mhclo", 5)


def test_a_mesh_and_its_fitting_agree(tmp_path):
    (tmp_path / "a.obj").write_text(mesh_text([[0, 1, 2, 3]]))
    (tmp_path / "a.mhclo").write_text("verts 0\n0\n1\n")
    with pytest.raises(AssetError, match=r"ties 2 vertices, but a\.obj has 5"):
        assets.read_part(tmp_path / "a.obj", tmp_path / "a.mhclo", 5)


def test_textures(tmp_path):
    rng = np.random.default_rng(0)
    image = picture(rng, 16, opaque=False)
    write(tmp_path / "a.png", image)
    write(tmp_path / "b.png", image[..., :3])
    assert (assets.read_texture(tmp_path / "a.png") == image[..., [2, 1, 0, 3]]).all()
    assert (assets.read_texture(tmp_path / "b.png")[..., 3] == 255).all()
    (tmp_path / "c.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(AssetError, match="git lfs pull"):
        assets.read_texture(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    with pytest.raises(AssetError, match=r"d\.png: truncated image .*; copy it anew from makehumancommunity"):
        assets.read_texture(tmp_path / "d.png")
    (tmp_path / "a.mhmat").write_text("name a\n// diffuseTexture no.png\n")
    with pytest.raises(AssetError, match=r"a\.mhmat: expected a line diffuseTexture"):
        assets.texture_of(tmp_path / "a.mhclo")


def test_files_are_found_by_the_end_of_their_path(tmp_path):
    write(tmp_path / "a/3dobjs/base.obj", base_text(2)[0])
    write(tmp_path / "a/x/targets/nose/long.target", "0 0 0 0\n")
    write(tmp_path / "b/targets/chin/long.target", "0 0 0 0\n")
    write(tmp_path / ".git/chin/other.target", "0 0 0 0\n")
    copy = assets.open_assets(tmp_path)
    assert assets.find(copy, "nose/long.target").parts[-3:] == ("targets", "nose", "long.target")
    assert assets.find(copy, "chin/long.target").parts[-3:] == ("targets", "chin", "long.target")
    assert assets.find(copy, "absent.obj", "base.obj").name == "base.obj"
    for tail in ("mouth/long.target", "chin/other.target"):
        with pytest.raises(AssetError, match=f"the asset {tail} is missing; copy it anew"):
            assets.find(copy, tail)


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_no_assets_are_told(tmp_path, kind):
    folder = tmp_path / "none"
    if kind == "empty":
        folder.mkdir()
    done = CliRunner().invoke(main, ["render", str(tmp_path / "out"), "--heads", str(folder)])
    assert done.exit_code == 1 and "expected copies of makehumancommunity/makehuman and" in done.output
    assert done.output.count("\n") == 1 and not (tmp_path / "out").exists()
