import re

import cv2
import h5py
import numpy as np
import pytest

from headposeplus import rotations as rot
from headposeplus.datasets import card as inspection
from headposeplus.datasets import plots
from headposeplus.datasets.dataset import open_dataset, read_fields, read_labels
from headposeplus.errors import DatasetError
from headposeplus.images import read_image
from headposeplus.miniature.poses import hidden_order
from headposeplus.raw import biwi, synhead


@pytest.fixture(scope="module")
def inspected(built, tiny, tmp_path_factory):
    """The folder of a card with all pictures and the diagrams as PDF, and what was said."""
    out = tmp_path_factory.mktemp("inspect")
    return out, inspection.inspect_data(built[0], out, tiny / "hpdb", pdf=True)


def test_axes_end_where_hopenet_draws_them():
    """Against the formula of draw_axis, which takes ypr angles, and whose third axis leads out of the face."""
    for pitch, yaw, roll in np.random.default_rng(0).uniform(-80, 80, (50, 3)):
        rotation, box = rot.to_matrix([pitch, yaw, roll], "ypr"), np.array([30.0, 50, 60, 100])
        p, y, r = np.deg2rad([pitch, -yaw, roll])
        right = np.cos(y) * np.cos(r), np.cos(p) * np.sin(r) + np.cos(r) * np.sin(p) * np.sin(y)
        down = -np.cos(y) * np.sin(r), np.cos(p) * np.cos(r) - np.sin(p) * np.sin(y) * np.sin(r)
        out = np.sin(y), -np.cos(y) * np.sin(p)
        expected = np.array([59.5, 99.5]) + 42 * np.array([right, down, out])
        assert np.abs(plots.axis_tips(rotation, box) - expected).max() < 1e-9


def test_axes_are_drawn_to_their_tips_and_a_box_about_them():
    grey = np.full((200, 220, 3), 128, np.uint8)
    rotation, box = rot.to_matrix([20.0, 35, -15]), np.array([60.0, 40, 100, 100])
    drawn = plots.draw_pose(grey, rotation, box).astype(int)
    assert (grey == 128).all() and drawn.shape == grey.shape
    middle = np.array([109.5, 89.5])
    for channel, tip in enumerate(plots.axis_tips(rotation, box)):
        coloured = np.argwhere(drawn[..., channel] - np.delete(drawn, channel, axis=2).max(axis=2) > 60)[:, ::-1]
        farthest = coloured[np.linalg.norm(coloured - middle, axis=1).argmax()]
        assert np.linalg.norm(farthest - tip) < 2, channel
    for corner in ((60, 40), (159, 40), (60, 139), (159, 139)):
        assert drawn[corner[1], corner[0]].min() > 200
    assert (drawn[:, :58] == 128).all() and (plots.draw_pose(grey, rotation)[40, 60:100] == 128).all()


def rows_by_h5py(folder):
    rows = 0
    for path in folder.glob("shard-*.h5"):
        with h5py.File(path) as file:
            rows += len(file["id"]) if "id" in file else 0
    return rows


def test_every_picture_is_there_and_shows_something(inspected):
    out, said = inspected
    names = {"crops.png", "meshes.png", "label_spaces.png", "histograms.png", "residual.png"}
    assert {path.name for path in out.iterdir() if path.suffix != ".pdf"} == {*names, "card.md"}
    for name in names:
        assert (out / name).read_bytes().startswith(b"\x89PNG") and str(out / name) in said
        picture = cv2.imread(str(out / name))
        assert min(picture.shape[:2]) > 200 and picture.std() > 10
        blue, _, red = cv2.split(picture.astype(int))
        assert (np.abs(blue - red) > 60).mean() > 0.002, name  # axes, meshes, or source and target in their colours


def test_the_card_counts_what_is_there_and_names_its_sources(inspected, built):
    out, said = inspected
    card = (out / "card.md").read_text()
    counts = {name: rows_by_h5py(built[0] / name) for name in ("biwi+", "synhead+", "synbiwi+")}
    counts["synhead++"] = counts["synhead+"] + counts["synbiwi+"]
    for name, count in counts.items():
        assert re.search(rf"^\| {re.escape(name)} +\| {count:,} +\| 32 px", card, re.MULTILINE)
        assert re.search(rf"^{re.escape(name)} +{count:,} +32 px", said, re.MULTILINE)
        assert f"## {name}\n" in card and open_dataset(built[0] / name).info.content_sha256 in card
    for words in ("non-commercial use", "under the terms that come with its download", "Fanelli", "CVPR 2017",
                  "ICCV 2019", "convention `pyr`, in the RGB camera"):  # fmt: skip
        assert words in card
    links = re.findall(r"\]\(([^)]+)\)", card)
    assert len(links) == 5 and all((out / link).is_file() for link in links)


def test_one_dataset_alone_and_the_default_folder(built, tmp_path, hpp):
    text = hpp("inspect", built[0] / "biwi+", "--out", tmp_path / "card").output
    assert sorted(path.name for path in (tmp_path / "card").iterdir()) == ["card.md", "crops.png", "histograms.png"]
    assert "biwi+" in text and "synhead" not in text.replace(str(built[0]), "")
    card = (tmp_path / "card/card.md").read_text()
    assert "Biwi Kinect Head Pose Database" in card and "CVPR 2017" not in card


def test_diagrams_come_as_pdf_for_a_paper(inspected, built, tmp_path, hpp):
    out, _ = inspected
    found = {path.stem for path in out.iterdir() if path.suffix == ".pdf"}
    assert found == {"label_spaces", "histograms", "residual"}
    for name in found:
        data = (out / f"{name}.pdf").read_bytes()
        assert data.startswith(b"%PDF") and b"/Subtype /Type3" not in data  # letters that publishers take
        assert (out / f"{name}.png").exists() and f"]({name}.png)" in (out / "card.md").read_text()
    hpp("inspect", built[0] / "biwi+", "--out", tmp_path, "--pdf")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".pdf"] == ["histograms.pdf"]


def test_a_plot_of_another_kind_is_told_before_the_work(tiny, tmp_path, hpp):
    output = hpp("render-order", "--synhead", tiny / "synhead2_release", "--plot", tmp_path / "a.jpg", expect=1).output
    assert output.splitlines() == [
        f"Error: {tmp_path / 'a.jpg'}: a picture's file ends in .png, .pdf or .svg; name it so"
    ]


def test_no_dataset_is_one_line(tmp_path, hpp):
    output = hpp("inspect", tmp_path, expect=1).output
    assert output.splitlines() == [
        f"Error: {tmp_path}: no dataset; expected folders such as {tmp_path / 'biwi+'} of hpp build-datasets"
    ]
    with pytest.raises(DatasetError, match="no dataset"):
        inspection.inspect_data(tmp_path, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_residuals_before_the_turn_are_those_of_the_source_poses(built, tiny):
    synbiwi, biwi_plus = (open_dataset(built[0] / name) for name in ("synbiwi+", "biwi+"))
    residuals = inspection.read_residuals(synbiwi, biwi_plus)
    targets = dict(zip(*read_labels(biwi_plus), strict=True))
    sources = {}
    for track in synhead.tracks(tiny / "synhead2_release"):
        for i, rotation in enumerate(rot.to_matrix(synhead.read_angles(track), hidden_order(0))):
            sources[f"{track.group}/{track.name}/{i:05d}"] = rotation
    fields = list(read_fields(synbiwi, "id", "source"))
    ids, names = (np.concatenate([f[key] for f in fields]) for key in ("id", "source"))
    assert len(ids) == len(residuals["geodesic_before"]) == 480
    euler, geodesic = [], []
    for name, source in zip(ids, names, strict=True):
        _, group, _, track, frame = source.split("/")
        a, b = sources[f"{group}/{track}/{frame}"], targets[name.removeprefix("syn").rsplit("/", 1)[0]]
        geodesic.append(np.rad2deg(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))
        difference = (rot.from_matrix(a) - rot.from_matrix(b) + 180) % 360 - 180
        euler.append(np.abs(difference).mean())
    assert residuals["geodesic_before"] == pytest.approx(np.array(geodesic), abs=1e-3)
    # Of two triples of angles the nearer one counts, so a mirrored one may be less.
    same = np.abs(residuals["euler_before"] - euler) < 1e-3
    assert same.mean() > 0.9 and (residuals["euler_before"] <= np.array(euler) + 1e-3).all()
    for measure in ("euler", "geodesic"):
        report = getattr(synbiwi.info.residual, measure)
        assert report.before.mean == pytest.approx(residuals[f"{measure}_before"].mean(), abs=1e-3)
        assert report.after.p95 == pytest.approx(np.percentile(residuals[measure], 95), abs=1e-3)
    assert (residuals["geodesic"] <= residuals["geodesic_before"] + 1e-6).all()


@pytest.mark.real
def test_the_mesh_lies_on_the_real_head(real):
    (frame,), remark = inspection.mesh_frames(real / "hpdb")
    assert frame.id == "biwi/01/00003" and not remark
    drawn = plots.draw_mesh(frame)
    covered = (drawn != frame.image).any(axis=-1)
    assert drawn.shape == (480, 640, 3) and covered[275, 342]  # where the head's centre is seen
    assert (drawn[~covered] == frame.image[~covered]).all()

    # Every depth pixel near the head, taken into the RGB camera by hand, against what the mesh covers.
    root = real / "hpdb"
    raw = biwi.read_pose(root / "01/frame_00003_pose.txt")
    depth_camera, camera = (biwi._read_calibration(root / f"01/{name}.cal") for name in ("depth", "rgb"))
    depth = biwi.read_depth(root / "01/frame_00003_depth.bin").astype(float)
    v, u = np.nonzero(depth)
    points = np.column_stack((u, v, np.ones(len(u)))) @ np.linalg.inv(depth_camera.matrix).T * depth[v, u][:, None]
    head = points[np.linalg.norm(points - raw.centre, axis=1) < 80]
    seen = head @ camera.rotation.T + camera.translation
    x, y = np.rint(camera.project(seen)).astype(int).T
    assert len(head) > 1000 and covered[y, x].mean() > 0.9
    outside = points[np.linalg.norm(points - raw.centre, axis=1) > 200]
    x, y = np.rint(camera.project(outside @ camera.rotation.T + camera.translation)).astype(int).T
    inside = (x >= 0) & (x < 640) & (y >= 0) & (y < 480)
    assert inside.sum() > 10_000 and covered[y[inside], x[inside]].mean() < 0.05
    assert read_image(root / "01/frame_00003_rgb.png").tobytes() == frame.image.tobytes()


def test_meshes_that_are_absent_or_damaged(tiny_copy):
    root = tiny_copy / "hpdb"
    assert len(inspection.mesh_frames(root)[0]) == 4
    (root / "03.obj").unlink()
    (root / "06.obj").write_text("v 1 2\n")
    frames, remark = inspection.mesh_frames(root)
    assert [frame.id.split("/")[1] for frame in frames] == ["01", "15"]
    assert remark.startswith(
        f" (1 of 4 sequences has none; 1 left out, the first: {root / '06.obj'}, line 1: expected a tri"
    )
