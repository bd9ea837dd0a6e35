"""What a file of labels says of itself is believed; what nothing says is asked for."""

import json
import re
import shutil

import numpy as np
import pytest

from benchmark.scoring import protocols, submission
from benchmark.scoring.label_files import LabelsAt
from benchmark.scoring.labels import read_labels
from headposeplus import rotations as rot
from headposeplus.errors import DatasetError, SubmissionError
from headposeplus.raw import biwi

IDS = np.array([f"lab/{i // 8}/{i:03d}" for i in range(24)])
ANGLES = np.random.default_rng(3).normal(0, 20, (24, 3))


def write_csv(path, angles=ANGLES, ids=IDS):
    rows = [f"{name},{','.join(map(repr, map(float, row)))}" for name, row in zip(ids, angles, strict=True)]
    path.write_text("\n".join(["id,pitch,yaw,roll", *rows]))
    return path


@pytest.mark.parametrize("convention", ["pyr", "biwi", "ypr"])
@pytest.mark.parametrize("how", ["user", "toml", "both"])
def test_a_csv_is_read_as_it_is_said(tmp_path, convention, how):
    path = write_csv(tmp_path / "labels.csv")
    if how != "user":
        (tmp_path / "labels.toml").write_text(f'name = "x"\nconvention = "{convention}"\ncamera = "depth"\n')
    labels = read_labels(LabelsAt(path, convention, "depth") if how != "toml" else path)
    assert (labels.convention, labels.camera, labels.unsaid) == (convention, "depth", ())
    assert labels.rotations == pytest.approx(rot.to_matrix(ANGLES, convention))


@pytest.mark.parametrize(
    ("arrays", "convention", "camera"),
    [
        ({"pyr": ANGLES, "calibrated": np.array(False)}, "pyr", "depth"),
        ({"pyr": ANGLES, "calibrated": np.array(True)}, "pyr", "rgb"),
        ({"pyr": ANGLES, "camera": np.array("depth")}, "pyr", "depth"),
        ({"pyr": ANGLES}, "pyr", ""),
        ({"ypr": ANGLES[:, [1, 0, 2]]}, "ypr", ""),
        ({"pitch": ANGLES[:, 0], "yaw": ANGLES[:, 1], "roll": ANGLES[:, 2]}, "", ""),
        ({"rotation": rot.to_matrix(ANGLES, "ypr"), "calibrated": np.array([1])}, "", "rgb"),
    ],
)
def test_what_an_npz_says(tmp_path, arrays, convention, camera):
    np.savez(tmp_path / "labels.npz", id=IDS, **arrays)
    labels = read_labels(tmp_path / "labels.npz")
    assert (labels.convention, labels.camera) == (convention, camera)
    wanted = "ypr" if {"ypr", "rotation"} & arrays.keys() else "pyr"
    assert labels.rotations == pytest.approx(rot.to_matrix(ANGLES, wanted))
    asked = () if convention or "rotation" in arrays else ("convention",)
    assert labels.unsaid == (*asked, *(() if camera else ("camera",)))


@pytest.mark.parametrize(
    ("said", "toml", "says"),
    [
        (
            ("", "rgb"),
            'camera = "depth"',
            "its camera is depth by what the file says, not rgb; leave `labels_camera` out",
        ),
        (("ypr", ""), 'convention = "pyr"', "its convention is pyr by what the file says, not ypr"),
        (("", ""), 'camera = "Kinect"', r"labels\.toml, camera: 'Kinect' is unknown; write one of rgb, depth"),
        (("", ""), "convention = 3", r"labels\.toml, convention: '3' is unknown; write one of pyr, biwi, ypr"),
        (("", ""), "camera", r"labels\.toml: not TOML \(.*\); write convention = "),
    ],
)
def test_contradictions_and_unknown_words(tmp_path, said, toml, says):
    path = write_csv(tmp_path / "labels.csv")
    (tmp_path / "labels.toml").write_text(toml)
    with pytest.raises(DatasetError, match=says):
        read_labels(LabelsAt(path, *said))


def about(**fields):
    return submission.About(
        name="mine", authors="me", training_data="other", selection="last", uses_target_images=False, seed=0, **fields
    )


def test_a_protocol_takes_what_its_labels_are(tmp_path, hpp):
    """A right submission in the labels' own convention and camera scores 0, and is not told to convert."""
    path, own = write_csv(tmp_path / "labels.csv"), tmp_path / "own.toml"
    new = ["protocols", "new", own, "--id", "lab/faces@1", "--title", "Faces", "--labels", path]
    text = hpp(*new, expect=1).output
    assert "of these labels; give --labels-convention and --labels-camera, or write them into a TOML" in text
    assert not own.exists()
    assert "24 frames, convention ypr, depth camera" in hpp(*new, "--convention", "ypr", "--camera", "depth").output
    protocol = protocols.read(own)
    assert (protocol.convention, protocol.camera) == ("ypr", "depth")
    assert protocol.selection == "any that sees no label of the test set; say which"
    mine = tmp_path / "predictions.csv"
    submission.write_predictions(mine, IDS, ANGLES, about(protocol="lab/faces@1", convention="ypr", camera="depth"))
    words = [mine, "--protocol", own, "--labels", path, "--labels-convention", "ypr"]
    text = hpp("check", *words).output
    assert "0 faults, 1 suspicion" in text and "the predictions are the labels themselves" in text
    assert "0.00" in hpp("score", *words, "--resamples", 20).output
    entry = json.loads((tmp_path / "score.json").read_text())
    assert entry["scores"]["mae"] == 0 and (entry["convention"], entry["camera"]) == ("ypr", "depth")
    # Under a protocol its statistics tell a wrong reading; nothing need be said of what fits.
    assert "Say which with --labels-convention and --labels-camera" in hpp("score", *words[:-2], expect=1).output
    (tmp_path / "labels.toml").write_text('convention = "ypr"\ncamera = "depth"\n')
    assert "0.00" in hpp("score", *words[:-2], "--resamples", 20).output
    (tmp_path / "labels.toml").write_text('convention = "ypr"\ncamera = "rgb"\n')
    assert (
        "labels of the rgb camera, but lab/faces@1 is about the depth camera" in hpp("score", *words, expect=1).output
    )


def test_a_task_asks_and_built_datasets_say(tmp_path, built, hpp):
    path, mine = write_csv(tmp_path / "labels.csv"), tmp_path / "predictions.csv"
    submission.write_predictions(mine, IDS, ANGLES, about(task="cross", convention="pyr", camera="rgb"))
    assert "nothing says the convention and camera" in hpp("score", mine, "--labels", path, expect=1).output
    said = ["--labels-convention", "pyr", "--labels-camera", "rgb", "--resamples", 20]
    assert "local-" in hpp("score", mine, "--labels", path, *said).output
    text = hpp("score", mine, "--data", built[0], "--labels-camera", "rgb", expect=1).output
    assert "built datasets say their convention and camera: leave out --labels-convention and --labels-camera" in text
    assert read_labels(built[0]).camera == "rgb" and not read_labels(built[0]).unsaid


@pytest.mark.real
@pytest.mark.parametrize(("name", "camera"), [("Biwi_plus.npz", "rgb"), ("Biwi_plus_non_cal.npz", "depth")])
def test_the_published_files_are_recognised(real, name, camera, tmp_path):
    labels = read_labels(real / name)
    assert (labels.convention, labels.camera, labels.unsaid) == ("pyr", camera, ())
    # And so are the same labels in a CSV of any convention, of one sequence, without a word.
    rows = np.flatnonzero(np.char.startswith(labels.ids, "biwi/19/"))
    for convention in ("biwi", "ypr"):
        angles = rot.from_matrix(labels.rotations[rows], convention)
        again = read_labels(write_csv(tmp_path / "some.csv", angles, labels.ids[rows]))
        assert (again.convention, again.camera, again.unsaid) == (convention, camera, ())
        assert rot.geodesic(again.rotations, labels.rotations[rows]).max() < 1e-5
    part = read_labels(write_csv(tmp_path / "part.csv", angles[1:], labels.ids[rows[1:]]))
    assert part.unsaid == ("convention", "camera")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "said", "says"),
    [
        (
            "Biwi_plus.npz",
            ("", "depth"),
            "its camera is rgb by its labels' statistics, not depth; leave `labels_camera` out",
        ),
        ("Biwi_plus_non_cal.npz", ("", "rgb"), "its camera is depth by its labels' statistics, not rgb"),
        (
            "Biwi_plus.npz",
            ("biwi", ""),
            "holds pyr and ypr, not biwi; leave `labels_convention` out, or give one of those",
        ),
        ("aflw2000", ("pyr", ""), "its convention is ypr by what the file says, not pyr"),
        ("aflw2000", ("", "depth"), "its camera is rgb by what the file says, not depth"),
    ],
)
def test_what_is_known_is_not_overruled(real, name, said, says, hpp, tmp_path):
    with pytest.raises(DatasetError, match=re.escape(f"{real / name}: {says}")):
        read_labels(LabelsAt(real / name, *said))


@pytest.mark.real
def test_a_convention_that_the_statistics_contradict_is_refused(real, tmp_path):
    labels = read_labels(real / "Biwi_plus.npz")
    rows = np.flatnonzero(np.char.startswith(labels.ids, "biwi/19/"))
    path = write_csv(tmp_path / "lab.csv", rot.from_matrix(labels.rotations[rows]), labels.ids[rows])
    with pytest.raises(DatasetError, match="its convention is pyr by its labels' statistics, not biwi"):
        read_labels(LabelsAt(path, "biwi", "rgb"))


@pytest.mark.real
def test_an_export_of_photographs_is_read_back(real, tmp_path, hpp):
    # Of a usual size: photographs are blurred before they shrink, for 8 pixels eight times as long as all else takes.
    hpp("build-datasets", "--aflw2000", real / "aflw2000", "--out", tmp_path / "data", "--size", 96)
    hpp("export", tmp_path / "data/aflw2000", "--out", tmp_path / "af.npz")
    labels = read_labels(tmp_path / "af.npz")
    assert len(labels.ids) == 1969 and labels.ids[0] == "aflw2000/image00002" and len(set(labels.subjects)) == 1969
    assert protocols.reference(protocols.find("aflw2000/cross@1"), labels).protocol.frames == 1969


def test_every_row_has_a_subject_or_none_has(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,pitch,yaw,roll,subject\na/1,1,2,3,ann\na/2,1,2,3, \nb/1,1,2,3,\n")
    with pytest.raises(DatasetError, match=r"labels\.csv, lines 3, 4: no subject; name everybody, or leave"):
        read_labels(LabelsAt(path, "pyr", "rgb"))


def test_photographs_of_ones_own_keep_their_names(tmp_path):
    ids = np.array([f"image{number:05d}.jpg" for number in range(24)])
    path = write_csv(tmp_path / "own.csv", ids=ids)
    assert read_labels(LabelsAt(path, "pyr", "rgb")).ids.tolist() == ids.tolist()


@pytest.mark.parametrize("calibrated", ["maybe", [True, False], 2])
def test_calibrated_is_true_or_false(tmp_path, calibrated):
    np.savez(tmp_path / "labels.npz", id=IDS, pyr=ANGLES, calibrated=calibrated)
    with pytest.raises(DatasetError, match=r"labels\.npz, calibrated: .* is neither true nor false; write one of both"):
        read_labels(tmp_path / "labels.npz")


@pytest.mark.real
def test_right_predictions_in_the_depth_camera_are_right(real, tmp_path, hpp):
    """The published FSA-Net predictions against the labels of sequence 19 in the depth camera, by hand."""
    labels = read_labels(real / "Biwi_plus_non_cal.npz")
    rows = np.flatnonzero(np.char.startswith(labels.ids, "biwi/19/"))
    path = write_csv(tmp_path / "labels.csv", rot.from_matrix(labels.rotations[rows]), labels.ids[rows])
    own = tmp_path / "own.toml"
    text = hpp("protocols", "new", own, "--id", "lab/m11@1", "--title", "M11", "--labels", path).output
    assert "502 frames, convention pyr, depth camera" in text
    for ending in ("csv", "toml"):
        shutil.copy(real / f"predictions/fsanet19.{ending}", tmp_path)
    toml = tmp_path / "fsanet19.toml"
    toml.write_text(toml.read_text().replace("biwi+/cross@1", "lab/m11@1"))
    words = ["score", tmp_path / "fsanet19.csv", "--protocol", own, "--labels", path, "--resamples", 20]
    assert "poses in the rgb camera, but lab/m11@1 scores those in the depth camera" in hpp(*words, expect=1).output
    predicted = submission.read_submission(tmp_path / "fsanet19.csv").rotations
    depth = np.array(biwi.CALIBRATION_ROTATIONS["B"]).T @ predicted
    submission.write_predictions(
        tmp_path / "turned.csv",
        labels.ids[rows],
        rot.from_matrix(depth),
        about(protocol="lab/m11@1", convention="pyr", camera="depth"),
    )
    hpp("score", tmp_path / "turned.csv", "--protocol", own, "--labels", path, "--resamples", 20)
    mae = json.loads((tmp_path / "turned-score.json").read_text())["scores"]["mae"]
    angles = [rot.from_matrix(r) for r in (depth, labels.rotations[rows])]
    assert mae == pytest.approx(np.abs((angles[0] - angles[1] + 180) % 360 - 180).mean(), abs=1e-3)


def test_arrays_say_their_camera(tmp_path):
    from benchmark.scoring.evaluation import evaluate

    rotations = rot.to_matrix(ANGLES)
    with pytest.raises(SubmissionError, match="labels: nothing says the camera of these labels; give `labels_camera`"):
        evaluate(IDS, rotations, labels=(IDS, rotations))
    assert evaluate(IDS, rotations, labels=(IDS, rotations), camera="depth").protocol.camera == "depth"
