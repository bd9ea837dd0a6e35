"""Scores that are corrected for the viewing ray of each box."""

import json
import shutil

import h5py
import msgspec
import numpy as np
import pytest
from msgspec import UNSET
from msgspec.structs import replace
from scipy.spatial.transform import Rotation

from benchmark.board import entries as scoreboard
from benchmark.board import site
from benchmark.scoring import ray
from benchmark.scoring import score as scoring
from benchmark.scoring.labels import read_labels
from benchmark.scoring.protocols import find_frozen
from benchmark.scoring.protocols import reference as reference_of
from benchmark.scoring.submission import About, write_predictions
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import open_dataset
from headposeplus.errors import DatasetError, SubmissionError
from headposeplus.raw.source import Source
from headposeplus.rotations import from_matrix

ABOUT = About(
    name="relative", authors="me", training_data="none", task="cross", convention="pyr", camera="rgb",
    selection="none", uses_target_images=False,
)  # fmt: skip


def by_scipy(boxes, cameras):
    """The smallest rotations from (0, 0, 1) to the rays, by their rotation vectors."""
    turned = []
    for (x, y, width, height), camera in zip(boxes, cameras, strict=True):
        u, v = x + (width - 1) / 2, y + (height - 1) / 2
        seen = np.linalg.inv(camera) @ (u, v, 1)
        seen /= np.linalg.norm(seen)
        axis = np.cross((0, 0, 1), seen)
        angle = np.arccos(seen[2])
        turned.append(Rotation.from_rotvec(axis / max(np.linalg.norm(axis), 1e-12) * angle).as_matrix())
    return np.array(turned)


def of_the_miniature(built, tiny):
    """Ids, true rotations and boxes of Biwi+ by h5py, and K of each from the raw copy's rgb.cal."""
    columns = {"id": [], "label/rotation": [], "box": []}
    for path in sorted((built / "biwi+").glob("shard-*.h5")):
        with h5py.File(path) as file:
            for name, values in columns.items():
                values.append(file[name][...])
    ids, rotations, boxes = (np.concatenate(values) for values in columns.values())
    ids = ids.astype(str)
    cameras = [np.loadtxt(tiny / "hpdb" / name.split("/")[1] / "rgb.cal", max_rows=3) for name in ids]
    return ids, rotations, boxes.astype(float), np.array(cameras)


@pytest.fixture
def relative(built, tiny, tmp_path):
    """Predictions of a network that knows each pose exactly, relative to the viewing ray."""
    ids, rotations, boxes, cameras = of_the_miniature(built[0], tiny)
    seen = by_scipy(boxes, cameras).transpose(0, 2, 1) @ rotations
    write_predictions(tmp_path / "relative.csv", ids, from_matrix(seen), ABOUT)
    return tmp_path / "relative.csv"


def test_the_correction_is_that_of_scipy():
    rng = np.random.default_rng(0)
    boxes = np.column_stack((rng.uniform(-50, 600, (50, 2)), rng.uniform(20, 200, (50, 2))))
    cameras = np.array([[[f, 0, 320], [0, f + 3, 240.5], [0, 0, 1]] for f in rng.uniform(300, 700, 50)])
    found = ray.ray_rotations(boxes, cameras)
    assert found == pytest.approx(by_scipy(boxes, cameras), abs=1e-12)
    assert np.linalg.det(found) == pytest.approx(np.ones(50))
    straight = np.array([[320 - 99.5, 240.5 - 99.5, 200, 200]])  # its middle is the principal point
    assert ray.ray_rotations(straight, cameras[:1])[0] == pytest.approx(np.eye(3), abs=1e-12)


def test_a_build_notes_the_cameras_of_its_sequences(built, tiny):
    cameras = open_dataset(built[0] / "biwi+").info.cameras
    ids, _, _, matrices = of_the_miniature(built[0], tiny)
    assert set(cameras) == {name.split("/")[1] for name in ids}
    for name, matrix in zip(ids, matrices, strict=True):
        assert cameras[name.split("/")[1]] == matrix.tolist()
    assert "cameras" not in json.loads((built[0] / "synhead+/dataset.json").read_text())


def test_poses_relative_to_the_ray_score_nothing_with_it(relative, built, hpp):
    entry = scoring.score(relative, built[0], ray=True).entry
    assert entry.ray.mae < 1e-3 and entry.ray.geodesic < 1e-3
    assert entry.scores.mae > 1 and entry.scores.geodesic > 2
    plain = scoring.score(relative, built[0]).entry
    assert plain.ray is UNSET and replace(entry, ray=UNSET) == plain
    said = hpp("score", relative, "--data", built[0], "--ray").output
    assert "With the viewing ray: mae 0.00, pitch 0.00, yaw 0.00, roll 0.00, geodesic 0.00, maev 0.00." in said
    assert "viewing ray" not in hpp("score", relative, "--data", built[0]).output
    with_ray, without = (site.entry_page(one) for one in (entry, plain))
    assert "With the viewing ray of each box" in with_ray and "viewing ray" not in without


def test_several_seeds_and_a_subset(relative, built, tiny, tmp_path):
    ids, rotations, boxes, cameras = of_the_miniature(built[0], tiny)
    paths = []
    for seed in range(2):
        turned = Rotation.from_euler("z", 3 + 4 * seed, degrees=True).as_matrix()
        seen = by_scipy(boxes, cameras).transpose(0, 2, 1) @ turned @ rotations
        paths.append(tmp_path / f"seed{seed}.csv")
        write_predictions(paths[-1], ids, from_matrix(seen), msgspec.structs.replace(ABOUT, seed=seed))
    assert scoring.score(paths, built[0], ray=True).entry.ray.geodesic == pytest.approx((3 + 7) / 2, abs=1e-3)
    (tmp_path / "few.txt").write_text("\n".join(ids[5:9]) + "\n")
    few = scoring.score(paths[0], built[0], subset=str(tmp_path / "few.txt"), ray=True).entry
    assert few.protocol.frames == 4 and few.ray.geodesic == pytest.approx(3, abs=1e-3)


def test_the_scores_with_the_ray_are_verified_where_there_are_boxes(relative, built, tmp_path, hpp):
    board = tmp_path / "board"
    path = scoreboard.add(board, scoring.score(relative, built[0], ray=True).entry, [relative])
    assert "1 entry, 0 wrong, 1 scored again" in hpp("scoreboard", "verify", board, "--data", built[0]).output
    labels = tmp_path / "labels.csv"
    hpp("export", built[0] / "biwi+", "--out", labels)
    assert "1 entry, 0 wrong, 1 scored again" in hpp("scoreboard", "verify", board, "--labels", labels).output
    changed = json.loads(path.read_text())
    changed["ray"]["mae"] = 0.5
    path.write_text(json.dumps(changed))
    found = hpp("scoreboard", "verify", board, "--data", built[0], expect=3).output
    assert 'ray is {"mae": 0.5' in found


def test_where_no_ray_is_known(relative, built, photographs, tmp_path, hpp):
    labels = tmp_path / "labels.csv"
    hpp("export", built[0] / "biwi+", "--out", labels)
    said = hpp("score", relative, "--labels", labels, "--ray", expect=1).output
    assert "--ray needs the boxes and the cameras of a build: give the labels by --data" in said
    data = tmp_path / "stills"
    build_datasets(Source(stills={"aflw2000": photographs}), data, Options(size=32))
    truth = read_labels(data)
    stills = tmp_path / "stills.csv"
    about = msgspec.structs.replace(ABOUT, task="cross-aflw2000", convention="ypr")
    write_predictions(stills, truth.ids, from_matrix(truth.rotations, "ypr"), about)
    said = hpp("score", stills, "--data", data, "--ray", expect=1).output
    assert "AFLW2000-3D has no calibrated camera, so its viewing rays are not known; leave out --ray" in said
    assert said.count("\n") == 1


def test_a_build_of_before_says_no_cameras(relative, built, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(built[0] / "biwi+", data / "biwi+")
    note = data / "biwi+/dataset.json"
    info = json.loads(note.read_text())
    del info["cameras"]
    note.write_text(json.dumps(info))
    with pytest.raises(
        DatasetError, match=r"does not say the cameras of its sequences 01, 03, 06 and others; build it again"
    ):
        scoring.score(relative, data, ray=True)
    # The cameras of the real Biwi are known all the same.
    known = ray._cameras(open_dataset(data / "biwi+"), "biwi+/cross@1")
    assert len(known) == 24 and np.array(known["07"])[0] == pytest.approx([517.679, 0, 320])


def test_a_protocol_of_the_depth_camera_is_refused(built):
    truth = read_labels(built[0])
    reference = reference_of(None, truth, "cross")
    depth = msgspec.structs.replace(reference.protocol, camera="depth")
    with pytest.raises(SubmissionError, match="scores poses in the depth camera, and boxes are those of the rgb"):
        ray.ray_scores(truth.rotations[None], reference._replace(protocol=depth))
    stills = reference._replace(protocol=find_frozen("aflw2000/cross@1"), labels=truth._replace(dataset=None))
    with pytest.raises(SubmissionError, match="AFLW2000-3D has no calibrated camera"):
        ray.ray_scores(truth.rotations[None], stills)
