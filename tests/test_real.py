"""The real frames, depth images and predictions from end to end; skipped where they are not at hand."""

import json
import shutil

import numpy as np
import pytest

from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import open_dataset, read_crops, read_fields
from headposeplus.raw import biwi
from headposeplus.raw.source import Source

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def frames(real, once):
    """Biwi+ of the 513 real frames."""

    def build(folder):
        source = Source(real / "sequence19/hpdb", boxes=real / "Biwi_plus.npz")
        return build_datasets(source, folder, Options(size=32), jobs=2).left_out

    return once("frames", build)


@pytest.mark.slow
def test_the_real_frames_have_the_published_labels_and_boxes(real, frames):
    folder, left_out = frames
    dataset = open_dataset(folder / "biwi+")
    assert not left_out and dataset.info.rows == 513
    assert dataset.info.boxes == {"imported": 513} and not dataset.info.misplaced
    shards = list(read_fields(dataset, "id", "label/pyr", "box"))
    ids, angles, boxes = (np.concatenate([part[name] for part in shards]) for name in ("id", "label/pyr", "box"))
    published = np.load(real / "Biwi_plus.npz")
    rows = [f"biwi/{name[:2]}/{name[9:14]}" for name in published["images"].tolist()]
    place = np.array([rows.index(name) for name in ids.tolist()])
    # Rows of pose.txt have six digits.
    assert np.abs(angles - published["pyr"][place]).max() < 2e-4
    assert (boxes == published["bbox"][place]).all()
    crops = list(read_crops(dataset, np.arange(513)))
    assert all(10 < crop.image.std() < 100 for crop in crops)
    assert len({crop.encoded.tobytes() for crop in crops}) == 513


def test_depth_images_are_the_heads_that_the_annotations_say(real, annotations, tmp_path):
    """Before a head's centre, which is within it, lies its face: some 5 to 15 cm nearer to the camera."""
    camera = biwi._read_calibration(real / "depth11/depth.cal")
    for path in sorted((real / "depth11").glob("frame_*_depth.bin")):
        depth = biwi.read_depth(path)
        assert depth.shape == (480, 640)
        centre, _ = biwi.read_pose_bin(annotations / "11" / path.name.replace("depth", "pose"))
        x, y = np.rint(camera.project(centre)).astype(int)
        around = depth[y - 10 : y + 11, x - 10 : x + 11]
        seen = around[around > 0]
        assert len(seen) > 200 and 30 < centre[2] - np.median(seen) < 200
        (tmp_path / "again.bin").write_bytes(biwi.encode_depth(depth))
        assert (biwi.read_depth(tmp_path / "again.bin") == depth).all()


def test_the_real_submission_is_scored_as_by_hand(real, tmp_path, hpp):
    for ending in ("csv", "toml"):
        shutil.copy(real / f"predictions/fsanet19.{ending}", tmp_path)
    hpp("score", tmp_path / "fsanet19.csv", "--labels", real / "Biwi_plus.npz", "--subset", "biwi/sequence-19",
        "--resamples", 20)  # fmt: skip
    entry = json.loads((tmp_path / "fsanet19-score.json").read_text())
    published = np.load(real / "Biwi_plus.npz")
    truth = {f"biwi/{n[:2]}/{n[9:14]}": row for n, row in zip(published["images"], published["ypr"], strict=True)}
    rows = [line.split(",") for line in (tmp_path / "fsanet19.csv").read_text().splitlines()[1:]]

    def matrix(pitch, yaw, roll):
        """F R F of a pose in the convention ypr: the negative extrinsic zyx angles, written out."""
        (a, b, c), (d, e, f) = np.cos(np.radians([-roll, -yaw, -pitch])), np.sin(np.radians([-roll, -yaw, -pitch]))
        z, y = np.array([[a, -d, 0], [d, a, 0], [0, 0, 1]]), np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
        return np.array([[1, 0, 0], [0, c, -f], [0, f, c]]) @ y @ z

    def pyr(m):
        """Pitch, yaw and roll of m = Rz Ry Rx."""
        return np.degrees([np.arctan2(m[2, 1], m[2, 2]), np.arcsin(-m[2, 0]), np.arctan2(m[1, 0], m[0, 0])])

    errors, turns = [], []
    for name, *angles in rows:
        yaw, pitch, roll = truth[name]
        mine, theirs = matrix(*map(float, angles)), matrix(pitch, yaw, roll)
        errors.append(np.abs(pyr(mine) - pyr(theirs)))
        turns.append(np.degrees(np.arccos((np.trace(mine.T @ theirs) - 1) / 2)))
    assert len(rows) == 502 and entry["protocol"]["subset"] == "biwi/sequence-19"
    assert entry["scores"]["mae"] == pytest.approx(np.mean(errors), abs=1e-3) == pytest.approx(6.82, abs=0.01)
    assert entry["scores"]["geodesic"] == pytest.approx(np.mean(turns), abs=1e-3) == pytest.approx(13.3, abs=0.05)
