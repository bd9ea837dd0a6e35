import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from benchmark.scoring import metrics, protocols, submission
from benchmark.scoring import score as scoring
from benchmark.scoring.labels import from_arrays
from headposeplus import rotations as rot
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.errors import SubmissionError
from headposeplus.poses.columns import ANGLE_COLUMNS, MATRIX_COLUMNS, QUATERNION_COLUMNS

ABOUT = {
    "name": "mine", "authors": "me", "link": "", "training_data": "synhead++", "task": "pda", "convention": "pyr",
    "camera": "rgb", "selection": "last epoch", "uses_target_images": True, "seed": 0,
}  # fmt: skip


@pytest.fixture
def perfect(built, tmp_path):
    """The true labels as predictions."""
    ids, rotations = read_labels(open_dataset(built[0] / "biwi+"))
    path = tmp_path / "predictions.csv"
    submission.write_predictions(path, ids, rot.from_matrix(rotations), submission.About(**ABOUT))
    return path


def edit(path, change):
    table = pd.read_csv(path)
    change(table).to_csv(path, index=False)


def test_scores_by_hand_for_two_frames():
    truth = rot.to_matrix([[0, 0, 179], [10, 20, 30]])
    predicted = rot.to_matrix([[3, 0, -179], [10, 26, 30]])
    found = metrics.scores(predicted, truth)
    assert [found.pitch, found.yaw, found.roll, found.mae] == pytest.approx([1.5, 3, 1, (1.5 + 3 + 1) / 3])
    relative = [Rotation.from_matrix(a.T @ b).magnitude() for a, b in zip(predicted, truth, strict=True)]
    assert found.geodesic == pytest.approx(np.rad2deg(np.mean(relative)))


def test_beyond_90_degrees_of_yaw_the_nearer_triple_counts():
    predicted, truth = np.array([[-10.0, 97, 5], [20, -93, 0]]), np.array([[-12.0, 85, 4], [18, -80, 3]])
    for convention in ("pyr", "ypr", "biwi"):
        errors = np.abs(predicted - truth)
        found = metrics.scores(rot.to_matrix(predicted, convention), rot.to_matrix(truth, convention), convention)
        assert [found.pitch, found.yaw, found.roll] == pytest.approx(errors.mean(axis=0))
    rng = np.random.default_rng(0)
    angles = rng.uniform([-60, -85, -60], [60, 85, 60], (500, 3))
    moved = angles + rng.normal(0, 12, angles.shape)
    plain = np.abs(moved - angles).mean(axis=0)
    found = metrics.scores(rot.to_matrix(moved), rot.to_matrix(angles))
    assert [found.pitch, found.yaw, found.roll] == pytest.approx(plain, abs=0.02)


@pytest.mark.real
def test_uncalibrated_labels_cost_080_degrees(real):
    truth, other = (rot.to_matrix(np.load(real / name)["pyr"]) for name in ("Biwi_plus.npz", "Biwi_plus_non_cal.npz"))
    assert metrics.scores(other, truth).mae == pytest.approx(0.80, abs=0.005)
    assert metrics.scores(truth, truth).mae == pytest.approx(0, abs=1e-12)


@pytest.mark.real
def test_reading_ypr_as_pyr_costs_56_degrees(real):
    published = np.load(real / "Biwi_plus.npz")
    misread = rot.to_matrix(published["ypr"][:, [1, 0, 2]] * [-1, -1, 1], "pyr")
    aligned = min(
        np.abs(rot.angle_difference(published["ypr"][:, [1, 0, 2]] * signs, published["pyr"])).mean()
        for signs in np.array([[a, b, c] for a in (1, -1) for b in (1, -1) for c in (1, -1)])
    )
    assert aligned == pytest.approx(5.6, abs=0.1)
    assert metrics.scores(misread, rot.to_matrix(published["pyr"])).mae > 5


@pytest.mark.real
def test_frozen_protocols_are_those_of_the_published_frames(real):
    published = np.load(real / "Biwi_plus.npz")
    ids = np.array([f"biwi/{name[:2]}/{name[9:14]}" for name in published["images"].tolist()])
    labels = from_arrays(ids, rot.to_matrix(published["pyr"]), camera="rgb")
    uncalibrated = from_arrays(ids, rot.to_matrix(np.load(real / "Biwi_plus_non_cal.npz")["pyr"]), camera="depth")
    for task in ("da", "pda"):
        assert protocols.for_test_set(task, labels).id == f"biwi+/{task}@1"
        local = protocols.for_test_set(task, uncalibrated)
        assert local.id.startswith("local-") and local.camera == "depth"
        assert protocols.for_test_set(task, labels.take(np.arange(1, len(ids)))).id.startswith("local-")


def test_perfect_predictions_score_zero_in_every_form(perfect, built):
    entry = scoring.score(perfect, built[0]).entry
    assert entry.protocol.id.startswith("local-") and entry.protocol.id.endswith("/pda")
    assert entry.scores.mae == pytest.approx(0, abs=1e-4)
    rotations = submission.read_submission(perfect).rotations

    def as_matrix(table):
        columns = pd.DataFrame(rotations.reshape(-1, 9), columns=MATRIX_COLUMNS)
        return pd.concat((table[["id"]], columns), axis=1).sample(frac=1, random_state=0)

    original = perfect.read_text()
    edit(perfect, as_matrix)
    assert scoring.score(perfect, built[0]).entry.scores.geodesic == pytest.approx(0, abs=1e-3)
    quaternions = Rotation.from_matrix(rotations).as_quat()
    perfect.write_text(original)
    edit(
        perfect,
        lambda t: pd.concat((t[["id"]], pd.DataFrame(-quaternions, columns=QUATERNION_COLUMNS)), axis=1),
    )
    assert scoring.score(perfect, built[0]).entry.scores.geodesic == pytest.approx(0, abs=1e-3)
    perfect.write_text(original)
    edit(
        perfect,
        lambda t: t.assign(**dict(zip(ANGLE_COLUMNS, rot.from_matrix(rotations, "ypr").T, strict=True))),
    )
    perfect.with_suffix(".toml").write_text(perfect.with_suffix(".toml").read_text().replace('"pyr"', '"ypr"'))
    assert scoring.score(perfect, built[0]).entry.scores.mae == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t[1:], "predictions.csv: 1 of 48 frames is missing, the first biwi/01/"),
        (
            lambda t: pd.concat((t, t[:1].assign(id="biwi/99/00001"))),
            "predictions.csv, line 50: 1 id is not in the test set, the first 'biwi/99/00001'",
        ),
        (lambda t: pd.concat((t, t[:1])), "predictions.csv, line 50: 'biwi/01/"),
        (lambda t: t.assign(yaw=t["yaw"].where(t.index != 4)), "predictions.csv, line 6: yaw is empty; write a finite"),
        (
            lambda t: t.assign(yaw="left"),
            "predictions.csv, lines 2, 3, 4, 5, 6 and 43 more: yaw is 'left', no number below 100,000",
        ),
        (lambda t: t.drop(columns="roll"), "line 1: no complete pose among the columns 'id', 'pitch', 'yaw'"),
        (lambda t: t.rename(columns={"id": "name"}), "line 1: no column id, but 'name', 'pitch', 'yaw', 'roll'"),
    ],
)
def test_faulty_predictions(perfect, built, change, says):
    edit(perfect, change)
    with pytest.raises(SubmissionError) as error:
        scoring.score(perfect, built[0])
    assert str(perfect) in str(error.value) and says in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'camera = "rgb"',
            'camera = "depth"',
            "predictions.toml, camera: poses in the depth camera, but local-.* --from-camera depth",
        ),
        ('camera = "rgb"', 'camera = "left"', "camera: 'left' is unknown; write one of rgb, depth"),
        ('"pyr"', '"rpy"', "convention: 'rpy' is unknown; write one of pyr, biwi, ypr"),
        ("authors =", "author =", r"authors: missing; .* \(the first of 2 faults: hpp check lists them all\)"),
        ('camera = "rgb"', 'camera = ["rgb"]', "camera: .* is no text"),
        (
            "uses_target_images = true",
            'uses_target_images = "yes"',
            "uses_target_images: 'yes' is no true or false; write .* or false",
        ),
        ("authors =", "authors", "not TOML"),
        ('"pda"', '"none"', "task: 'none' is unknown; write one of da, pda, cross, intra"),
        ('"pda"', '"intra"', "unknown task 'intra': expected one of da, pda, cross"),
    ],
)
def test_faulty_descriptions(perfect, built, old, new, says):
    path = perfect.with_suffix(".toml")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SubmissionError, match=says):
        scoring.score(perfect, built[0])


def test_rotations_that_are_none(perfect, built):
    ids = pd.read_csv(perfect)[["id"]]
    for columns, value in ((MATRIX_COLUMNS, 1.0), (QUATERNION_COLUMNS, 0.9)):
        ids.assign(**dict.fromkeys(columns, value)).to_csv(perfect, index=False)
        with pytest.raises(SubmissionError, match="lines 2, 3"):
            scoring.score(perfect, built[0])
