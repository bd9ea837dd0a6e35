import json
import re
import shutil

import cv2
import numpy as np
import pytest

from headposeplus.errors import HeadposeError, RawDataError
from headposeplus.files import sha256
from headposeplus.heads import assets, kernels, write
from headposeplus.heads.people import draw_person
from headposeplus.heads.write import Options
from headposeplus.images import foreground, read_image
from headposeplus.miniature.poses import hidden_order
from headposeplus.raw import biwi, render_order, synhead
from headposeplus.rotations import to_matrix

pytest.importorskip("numba", reason="numba is not installed: pip install -e .[render]")

OPTIONS = Options(women=2, men=1, images=150, size=96)


@pytest.fixture(scope="module")
def rendered(made_up, once):
    return once("rendered", lambda out: write.write_heads(out, made_up, OPTIONS, jobs=1))[0]


@pytest.fixture
def rendered_copy(rendered, tmp_path):
    return shutil.copytree(rendered, tmp_path / "open")


def hashes(folder):
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_layout_is_synheads(rendered):
    root = rendered / "synhead2_release"
    copy = synhead.look_through(synhead.find_root(rendered))
    assert copy.root == root and copy.heads == ["f01", "f02", "m01"] and not copy.faults
    assert [(track.group, track.name) for track in copy.tracks] == [("BIWI", "30"), ("kinect", "00")]
    assert sum(len(copy.angles[track]) for track in copy.tracks) * 3 == 150
    for (track, head), names in copy.names.items():
        assert names == sorted(names) and len({len(name) for name in names}) == 1, (track, head)
    images = [read_image(path) for path in sorted(root.glob("*/*/*/*.png"))]
    assert {image.shape for image in images} == {(96, 96, 4)}
    for image in images:
        assert 0.1 < (foreground(image) > 127).mean() < 0.8
        assert 10 < image[..., :3][image[..., 3] > 200].mean() < 245
    pictures = [read_image(path) for path in synhead.backgrounds(root)]
    assert len(pictures) == 60 and {picture.shape for picture in pictures} == {(480, 640, 3)}


def test_the_copy_says_in_which_order_it_was_rendered(rendered, made_up, tiny, tmp_path):
    order = str(hidden_order(0))
    options = Options(women=1, men=0, images=4, size=32, biwi=tiny / "hpdb")
    write.write_heads(tmp_path / "open", made_up, options, jobs=1)
    said = "those of the test set"
    assert said in (tmp_path / "open/README.md").read_text() and said not in (rendered / "README.md").read_text()
    assert json.loads((rendered / "render.json").read_text())["render_order"] == order
    assert f"it is {order}" in (rendered / "README.md").read_text()


def test_the_order_is_found_from_the_pixels(rendered, tiny):
    """Random tracks are no sequence's, so nothing of Biwi speaks against them."""
    copy = synhead.look_through(rendered / "synhead2_release")
    report = render_order.infer(copy, biwi.depth_rotations(tiny / "hpdb"))
    assert report.order == hidden_order(0) and report.margin > render_order.MIN_MARGIN
    assert report.biwi == "not compared with Biwi's angles"


def test_biwis_poses_make_tracks_that_agree_with_biwi(made_up, tiny, tmp_path):
    """As SynHead's BIWI tracks do: the same numbers, in an order of axes of their own."""
    options = Options(women=1, men=0, images=240, size=48, biwi=tiny / "hpdb")
    write.write_heads(tmp_path / "open", made_up, options, jobs=1)
    copy = synhead.look_through(tmp_path / "open/synhead2_release")
    assert [track.name for track in copy.tracks if track.group == "BIWI"] == ["00", "02", "05", "14"]
    report = render_order.judge(copy, biwi.depth_rotations(tiny / "hpdb"))
    assert report.order == hidden_order(0) and "4 BIWI tracks agree in sign with Biwi's angles" in report.biwi


def test_heads_look_where_their_pose_says(rendered):
    """The patch of an eye is on the side to which the head is turned."""
    made, order = [], hidden_order(0)
    for track in synhead.tracks(rendered / "synhead2_release"):
        rotations = to_matrix(synhead.read_angles(track), order)
        for path, rotation in zip(synhead.list_images(track, "f01", len(rotations)), rotations, strict=True):
            image = read_image(path)
            columns = np.nonzero(foreground(image) > 127)[1]
            made.append((columns.mean(), rotation[0, 1]))  # the long axis of the ball leans as the head does
    shifts, lean = np.array(made).T
    assert np.corrcoef(shifts, lean)[0, 1] > 0.5


def test_an_image_that_was_cut_off_is_rendered_again(rendered, rendered_copy, made_up):
    paths = sorted(rendered_copy.rglob("f01/*/*.png"))
    before = paths[1].read_bytes()
    paths[1].write_bytes(before[:100])
    half = paths[1].with_name(f".{paths[1].name}.99999999.part")
    half.write_bytes(before[:100])
    write.write_heads(rendered_copy, made_up, OPTIONS, jobs=1)
    assert paths[1].read_bytes() == before and not half.exists()


def test_resumed_with_other_jobs_it_gives_the_same_files(rendered, rendered_copy, made_up):
    before = hashes(rendered)
    root = rendered_copy / "synhead2_release"
    for path in [*sorted(root.glob("*/f02/*/*.png"))[3:9], *root.glob("BIWI/m01/30/*"), root / "background/a03.jpg"]:
        path.unlink()
    (root / "BIWI.csv").write_text("kept")
    write.write_heads(rendered_copy, made_up, OPTIONS, jobs=2)
    (root / "BIWI.csv").unlink()
    assert hashes(rendered_copy) == before


def test_another_seed_gives_others(rendered, tmp_path, made_up):
    whos = [draw_person(0, True, 0), draw_person(0, True, 1), draw_person(1, True, 0)]
    assert len({str(sorted(who.targets.items())) for who in whos}) == 3
    assert len({str(hidden_order(seed)) for seed in range(40)}) > 20


def test_it_goes_with_no_other_settings(rendered_copy, made_up, hpp):
    before = hashes(rendered_copy)
    arguments = ("render", rendered_copy, "--heads", made_up, "--women", 2, "--men", 1, "--images", 150, "--size", 64)
    output = hpp(*arguments, expect=1).output
    assert "holds heads rendered with other settings: size 96, not 64; choose another folder" in output
    assert output.count("\n") == 1 and hashes(rendered_copy) == before
    output = hpp(*arguments[:-3], 210, "--size", 96, expect=1).output
    assert re.search(r"images \d+, not \d+, other tracks; choose another folder", output)  # and no hash


def test_it_does_not_overwrite_what_is_there(tmp_path, made_up):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(HeadposeError, match="not empty and holds no rendered heads; choose another folder"):
        write.write_heads(tmp_path, made_up, OPTIONS, jobs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_missing_asset_is_told_before_anything_is_written(tmp_path, made_up):
    broken = shutil.copytree(made_up, tmp_path / "heads")
    skin = draw_person(0, False, 0).skin
    assets.find(assets.open_assets(broken), skin).unlink()
    with pytest.raises(HeadposeError, match=f"the asset {skin} is missing; copy it anew"):
        write.write_heads(tmp_path / "out", broken, OPTIONS, jobs=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("tail", "text", "words"),
    [
        (".target", "99999 0 0 0\n", "line 1: expected a vertex from 0 to"),
        (".mhclo", "verts 0\n0 1 99999 1 0 0 0 0 0\n", "line 2: expected three vertices from 0 to"),
        ("base.obj", "v 0 0 0\nvt 0 0\nf 1/1 1/1\n", "line 3: expected a face of 3 or 4 corners among 1 vertices"),
        ("_eye.png", "", "expected a PNG or JPEG image, found an empty file"),
    ],
)
def test_a_damaged_asset_is_told_before_anything_is_written(tmp_path, made_up, hpp, tail, text, words):
    broken = shutil.copytree(made_up, tmp_path / "heads")
    who = draw_person(0, False, 0)
    paths = write.files_of(assets.open_assets(broken), who)
    path = next(path for path in paths if path.name.endswith(tail))
    path.write_text(text)
    done = hpp("render", tmp_path / "out", "--heads", broken, "--women", 0, "--men", 1, "--images", 3, expect=1)
    assert f"{path}" in done.output and words in done.output and "copy it anew" in done.output
    assert done.output.count("\n") == 1 and not (tmp_path / "out").exists()


def test_without_numba_the_extra_is_named(tmp_path, made_up, monkeypatch):
    monkeypatch.setattr(kernels, "numba", None)
    with pytest.raises(HeadposeError, match=r"needs numba: pip install 'headposeplus\[render\]'"):
        write.write_heads(tmp_path / "out", made_up, OPTIONS, jobs=1)


def test_nobody_is_told(tmp_path, made_up):
    with pytest.raises(HeadposeError, match="give `women`, `men` or both"):
        write.write_heads(tmp_path / "out", made_up, Options(women=0, men=0), jobs=1)


def test_backgrounds_are_copied(tmp_path, made_up):
    folder = tmp_path / "pictures"
    folder.mkdir()
    out, options = tmp_path / "copy", Options(women=1, men=0, images=2, size=96, backgrounds=folder)
    with pytest.raises(HeadposeError, match="no pictures; expected"):
        write.write_heads(out, made_up, options, jobs=1)
    cv2.imwrite(str(folder / "wall.png"), np.zeros((120, 97, 3), np.uint8))
    root = write.write_heads(out, made_up, options, jobs=1)
    assert synhead.backgrounds(root) == [root / "background/wall.png"]
    assert (root / "background/wall.png").read_bytes() == (folder / "wall.png").read_bytes()
    cv2.imwrite(str(folder / "small.png"), np.zeros((120, 95, 3), np.uint8))
    with pytest.raises(HeadposeError, match=r"small\.png: 95 x 120 pixels; expected no side below 96"):
        write.write_heads(out, made_up, options, jobs=1)


def test_a_dry_run_writes_nothing_and_measures(tmp_path, made_up, hpp, rendered):
    out = tmp_path / "out"
    common = ("--heads", made_up, "--women", 2, "--men", 1, "--size", 96, "--dry-run", "--jobs", 2)
    output = hpp("render", out, *common).output
    assert output.startswith("153,288 images, about ") and "153,288 of them are still to render" in output
    assert "with 2 processes" in output and not out.exists()
    assert (
        hpp("render", rendered, *common, "--images", 150).output == "150 images, about 0.0 GB; all of them are there\n"
    )
    assert "in less than two minutes with 1 process " in write.describe_estimate(write.Estimate(9, 10**6, 9, 3.0), 1)
    assert "in about 5.0 hours with 2 processes" in write.describe_estimate(write.Estimate(9, 10**6, 9, 36e3), 2)


def test_the_tools_read_it(rendered, tiny, tmp_path, hpp):
    """Verified against its own manifest, and built together with a Biwi."""
    table = rendered / "data_manifest.csv"
    output = hpp("verify", "--synhead", rendered, "--deep").output
    assert f"manifest {table}, which lies beside the raw folders" in output
    assert "SynHead: 50 poses in 2 of 2 tracks, 60 background images" in output and "complete" in output
    out = tmp_path / "data"
    order = str(hidden_order(0))
    hpp("build-datasets", "--biwi", tiny, "--synhead", rendered, "--out", out, "--size", 24, "--jobs", 1,
        "--render-order", order, "--manifest", tiny / "data_manifest.csv")  # fmt: skip
    for name in ("biwi+", "synhead+", "synbiwi+", "synhead++"):
        assert (out / name / "dataset.json").exists(), name


def test_a_garbled_track_is_told(tmp_path, made_up):
    (tmp_path / "t.csv").write_text("1,2\n")
    with pytest.raises(RawDataError, match="line 1"):
        write.write_heads(tmp_path / "out", made_up, OPTIONS._replace(tracks=tmp_path / "t.csv"), jobs=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.real
def test_whatever_a_person_is_made_of_is_makehumans(makehuman):
    copy = assets.open_assets(makehuman)
    used = set()
    for seed in range(40):
        for number in range(5):
            used |= {
                path for female in (True, False) for path in write.files_of(copy, draw_person(seed, female, number))
            }
    assert len({path for path in used if "hair" in path.parts and path.suffix == ".mhclo"}) == 8
    assert len({path.name for path in used if "skins" in path.parts}) == 11


@pytest.mark.real
def test_real_people(makehuman, tmp_path):
    """The whole chain on MakeHuman's assets; the order of axes is found from few images."""
    out = tmp_path / "open"
    write.write_heads(out, makehuman, Options(women=1, men=1, images=120, size=96), jobs=1)
    report = render_order.infer(synhead.look_through(out / "synhead2_release"))
    assert report.order == hidden_order(0)
