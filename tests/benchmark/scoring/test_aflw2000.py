import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat

from benchmark import evaluate
from benchmark.cli.common import RAW_STILLS
from benchmark.scoring import choice, protocols
from benchmark.scoring import score as scoring
from benchmark.scoring.labels import from_arrays, read_labels
from benchmark.scoring.submission import About, read_about
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.errors import DatasetError, SubmissionError
from headposeplus.raw import manifest, targets
from headposeplus.raw.ids import frame_id
from headposeplus.raw.source import Source
from headposeplus.rotations import from_matrix, to_matrix
from tests.photographs import PHOTOGRAPHS

TESTED = [number for number in sorted(PHOTOGRAPHS) if number not in (40, 41)]
ABOUT = """name = "mine"
authors = "me"
training_data = "300W-LP"
selection = "the last epoch"
uses_target_images = false
convention = "ypr"
camera = "rgb"
"""


@pytest.fixture
def predictions(tmp_path):
    """A function that writes predictions in ``ypr``: the true angles, and an error of each."""

    def write(ids, angles, **fields):
        table = pd.DataFrame(angles, columns=["pitch", "yaw", "roll"])
        table.insert(0, "id", ids)
        table.to_csv(tmp_path / "mine.csv", index=False)
        lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
        (tmp_path / "mine.toml").write_text("\n".join([ABOUT, *lines]))
        return tmp_path / "mine.csv"

    return write


@pytest.fixture
def data(built, photographs, tmp_path):
    """Datasets of the miniature, with the made-up photographs beside them."""
    folder = shutil.copytree(built[0], tmp_path / "data")
    build_datasets(Source(stills={"aflw2000": photographs}), folder, Options(size=32))
    return folder


def names():
    return [f"aflw2000/image{number:05d}" for number in TESTED]


def true_angles():
    return np.array([PHOTOGRAPHS[number] for number in TESTED], float)


def test_the_command_line_knows_the_datasets_of_stills():
    assert {name: stills.title for name, stills in targets.STILLS.items()} == RAW_STILLS


def test_labels_of_a_raw_copy_and_of_a_build_agree(photographs, data):
    raw, made = read_labels(photographs), read_labels(data, "aflw2000")
    assert raw.ids.tolist() == made.ids.tolist() == names()
    np.testing.assert_array_equal(raw.rotations, made.rotations)
    assert raw.subjects.tolist() == made.subjects.tolist() == [name.partition("/")[2] for name in names()]
    assert set(raw.sequences) == set(made.sequences) == {"aflw2000"} and made.dataset.name == "aflw2000"


def test_the_target_says_which_dataset_of_a_folder_is_meant(data):
    assert read_labels(data).ids[0].startswith("biwi/") and read_labels(data, "biwi+").ids[0].startswith("biwi/")
    assert read_labels(data / "aflw2000").ids.tolist() == names()
    shutil.rmtree(data / "biwi+")
    assert read_labels(data).ids.tolist() == read_labels(data, "biwi+").ids.tolist() == names()
    (data / "empty").mkdir()
    with pytest.raises(DatasetError, match="no such file; build the dataset first"):
        read_labels(data / "empty")


@pytest.mark.parametrize(
    ("about", "task", "protocol", "target"),
    [
        (About(protocol="aflw2000/cross@1"), None, None, "aflw2000"),
        (About(protocol="biwi+/pda@1"), None, None, "biwi+"),
        (About(protocol="biwi+/pda@1"), None, "aflw2000/pda@1", "aflw2000"),
        (About(task="pda-aflw2000"), None, None, "aflw2000"),
        (About(task="pda"), None, None, "biwi+"),
        (About(task="pda"), "cross-aflw2000", None, "aflw2000"),
        (About(protocol="lab/faces@1"), None, None, None),
        (About(), None, None, None),
    ],
)
def test_what_predictions_are_meant_for(about, task, protocol, target):
    assert choice.target_of(about, task, protocol) == target


def test_frames_of_other_datasets_share_no_subject():
    ids = np.array(["aflw2000/image00002", "aflw2000/image00004", "biwi/01/00003", "biwi/15/00003", "own/a/1"])
    labels = from_arrays(ids, np.tile(np.eye(3), (5, 1, 1)))
    assert labels.subjects.tolist() == ["image00002", "image00004", "F01", "F03", "own/a"]


def test_errors_are_those_of_yaw_pitch_and_roll(photographs, predictions):
    """With every angle off by known degrees, whatever the pose; yaw 80 off by 20 lies beyond 90 degrees."""
    off = np.array([3.0, 20.0, -5.0])
    path = predictions(names(), true_angles() + off)
    scored = scoring.score(path, photographs, task="cross-aflw2000")
    found = scored.entry.scores
    assert (found.pitch, found.yaw, found.roll) == pytest.approx((3, 20, 5), abs=1e-3)
    protocol = scored.reference.protocol
    assert protocol.id.startswith("local-") and protocol.id.endswith("/cross") and protocol.convention == "ypr"
    assert scored.entry.bootstrap.subjects == 8 and scored.entry.by.subject == () and len(scored.entry.by.sequence) == 1


def test_tasks_of_the_photographs_have_protocols_of_their_own(photographs):
    labels = read_labels(photographs)
    made = protocols.for_test_set("pda-aflw2000", labels)
    assert (made.task, made.convention, made.training_data) == ("pda", "ypr", "SynHead++")
    with pytest.raises(SubmissionError, match=r"unknown task 'da-aflw2000': expected one of .*cross-aflw2000"):
        protocols.for_test_set("da-aflw2000", labels)


def test_a_toml_names_the_task_of_the_photographs(data, predictions, hpp):
    path = predictions(names(), true_angles() + 1, task="pda-aflw2000")
    path.with_suffix(".toml").write_text(ABOUT.replace("300W-LP", "SynHead++") + 'task = "pda-aflw2000"\n')
    told = hpp("score", path, "--data", data, "--resamples", 0).output
    assert "/pda, 8 frames, convention ypr, rgb camera" in told
    assert "0 faults, 0 suspicions" in hpp("check", path, "--data", data).output
    (fault,) = read_about((ABOUT + 'task = "pda-nowhere"').encode())[1]
    assert str(fault).startswith("TOML, task: 'pda-nowhere' is unknown; write one of") and "pda-aflw2000" in fault.mend


def test_other_labels_than_the_protocols_are_told(photographs, predictions, hpp):
    path = predictions(names(), true_angles(), protocol="aflw2000/cross@1")
    told = hpp("score", path, "--labels", photographs, expect=1).output
    assert "not the test set of aflw2000/cross@1: expected its 1,969 frames, found 8, 8 of them its own" in told


# ---- the frozen protocols


@pytest.mark.parametrize("kind", ["cross", "pda"])
def test_frames_are_the_manifests(kind):
    protocol = protocols.find(f"aflw2000/{kind}@1")
    unit = manifest.listed_units(manifest.read(), "aflw2000")["tested"]
    assert protocols.frames_of(protocol).tolist() == [f"aflw2000/image{number:05d}" for number in unit.numbers]
    assert protocol.frames == 1969
    np.testing.assert_allclose([*protocol.label_mean, *protocol.label_std], unit.statistics, atol=1e-3)
    assert protocols.frames_of(protocols.find("biwi+/pda@1"))[0] == frame_id("01", 3)


def test_ids_are_checked_without_labels(predictions, tmp_path, hpp):
    told = hpp("submission", "template", "--protocol", "aflw2000/cross@1", "--out", tmp_path / "t.csv").output
    assert "1,969 frames of aflw2000/cross@1 to fill in" in told
    ids = pd.read_csv(tmp_path / "t.csv")["id"].tolist()
    angles = np.random.default_rng(0).uniform(-60, 60, (len(ids), 3))
    path = predictions(ids, angles, protocol="aflw2000/cross@1")
    assert "0 faults, 0 suspicions; aflw2000/cross@1, 1,969 frames" in hpp("check", path).output
    path = predictions([*ids[1:], "aflw2000/image00032"], angles, protocol="aflw2000/cross@1")
    told = hpp("check", path, expect=3).output
    assert "1 of 1,969 frames is missing, the first aflw2000/image00002" in told
    assert "'aflw2000/image00032'; take this row out; an id reads aflw2000/image00002" in told


def test_protocols_are_shown_with_the_convention_of_their_figures(hpp):
    shown = hpp("protocols", "show", "aflw2000/cross@1").output
    assert "angles in the convention ypr" in shown and "pitch, yaw, roll (pyr): mean 3.39, -1.26, 1.10" in shown


# ---- real data


def literature(real_photographs):
    """FSA-Net's MAE of pitch, yaw and roll, from the files by NumPy alone, as the papers' scripts compute it."""
    kept = np.load(real_photographs.parent / "predictions/fsanet_onnx_aflw2000.npz")
    poses = [loadmat(real_photographs / f"{name}.mat")["Pose_Para"][0, :3].astype(float) for name in kept["ids"]]
    truth = np.rad2deg(poses)
    predicted = kept["pred_ypr"].astype(float)[:, [1, 0, 2]]
    return kept["ids"], predicted, np.abs(predicted - truth).mean(axis=0)


@pytest.mark.real
def test_a_real_network_scores_what_an_independent_computation_gets(real_photographs, predictions, tmp_path, hpp):
    stems, predicted, expected = literature(real_photographs)
    path = predictions([f"aflw2000/{name}" for name in stems], predicted, protocol="aflw2000/cross@1")
    scored = scoring.score(path, real_photographs, resamples=200)
    found = scored.entry.scores
    assert scored.entry.protocol.id == "aflw2000/cross@1"
    assert (found.pitch, found.yaw, found.roll) == pytest.approx(expected, abs=1e-4)
    assert found.mae == pytest.approx(expected.mean(), abs=1e-4) == pytest.approx(5.53, abs=0.005)
    assert scored.entry.bootstrap.subjects == 1969 and scored.entry.intervals.mae[0] < found.mae
    board = tmp_path / "board"
    hpp("scoreboard", "add", path, "--labels", real_photographs, "--scoreboard", board)
    told = hpp("scoreboard", "verify", board, "--labels", real_photographs).output
    assert "1 entry, 0 wrong, 1 scored again" in told


@pytest.mark.real
def test_the_wrong_convention_shows(real_photographs):
    """Read as ``pyr``, the same angles score worse by more than a degree."""
    stems, predicted, _ = literature(real_photographs)
    ids, labels = [f"aflw2000/{name}" for name in stems], read_labels(real_photographs)
    right, wrong = (
        evaluate(ids, to_matrix(predicted, convention), "aflw2000/cross@1", labels, resamples=0).scores.mae
        for convention in ("ypr", "pyr")
    )
    assert right < 5.6 and wrong > right + 1


@pytest.mark.real
def test_every_protocol_of_the_photographs_fits_the_real_labels(real_photographs):
    labels = read_labels(real_photographs)
    for kind in ("cross", "pda"):
        assert protocols.for_test_set(f"{kind}-aflw2000", labels).id == f"aflw2000/{kind}@1"
    turned = labels._replace(rotations=to_matrix(from_matrix(labels.rotations) * [1, -1, 1]))
    with pytest.raises(SubmissionError, match="not the labels of aflw2000/pda@1"):
        protocols.reference(protocols.find("aflw2000/pda@1"), turned)
