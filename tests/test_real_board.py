"""The scoreboard with real entries: its form, its figures where the labels are, and the scripts that made it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from headposeplus.datasets.dataset import open_dataset, read_crops

ROOT = Path(__file__).resolve().parents[1]
BOARD = ROOT / "results" / "board"


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_entries_are_of_real_protocols_and_well_formed(hpp):
    text = hpp("scoreboard", "verify", BOARD).output
    assert "3 entries, 0 wrong, 0 scored again" in text
    names = [path.name for path in BOARD.glob("*.json")]
    assert len(names) == 3 and not any("miniature" in name or "local" in name for name in names)
    assert "sequence-19" in " ".join(names) and "aflw2000-cross-1-fsa-net" in " ".join(names)


@pytest.mark.real
@pytest.mark.parametrize(("labels", "count"), [("Biwi_plus.npz", 2), ("aflw2000", 1)])
def test_its_figures_are_what_the_real_labels_give(real, labels, count, hpp):
    text = hpp("scoreboard", "verify", BOARD, "--labels", real / labels).output
    assert f"3 entries, 0 wrong, {count} scored again" in text


@pytest.mark.real
def test_the_kept_predictions_are_what_the_script_writes(real, tmp_path):
    script("real_entries").write(real / "predictions", tmp_path)
    kept = {path.read_bytes() for path in BOARD.glob("predictions/*/*.csv")}
    assert {path.read_bytes() for path in tmp_path.glob("*.csv")} == kept and len(kept) == 3
    commands = re.findall(r"hpp scoreboard add SUBMISSIONS/(\S+)", script("real_entries").__doc__)
    assert sorted(commands) == sorted(path.name for path in tmp_path.glob("*.csv"))


def test_frames_without_a_face_have_the_last_ones_pose():
    gap = [np.nan] * 3
    angles = np.array([gap, [1, 2, 3], gap, gap, [4, 5, 6], gap])
    filled = script("mediapipe_predictions").filled(angles)
    assert filled[:, 0].tolist() == [1, 1, 1, 1, 4, 4]
    with pytest.raises(ValueError, match="no face was found in any"):
        script("mediapipe_predictions").filled(np.array([gap]))


@pytest.mark.parametrize("name", ["fsanet_predictions", "mediapipe_predictions", "real_entries"])
def test_without_arguments_a_script_says_how_it_is_run(name):
    words = [sys.executable, ROOT / "docs" / f"{name}.py"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and f"python docs/{name}.py" in done.stderr and "Traceback" not in done.stderr


def test_mediapipes_matrix_is_pyr():
    matrix = np.eye(4)
    matrix[:3, :3] = 2.5 * Rotation.from_euler("xyz", [10, -20, 5], degrees=True).as_matrix()
    assert script("mediapipe_predictions").angles_of(matrix) == pytest.approx([10, -20, 5])


def test_fsanet_is_asked_as_it_was_trained(built):
    """Two networks that answer with means of what they see: BGR, 64 pixels, from -1 to 1; yaw, pitch, roll out."""
    seen = []

    class Network:
        def __init__(self, turn):
            self.turn = turn

        def get_inputs(self):
            return [type("Input", (), {"name": "input"})]

        def run(self, outputs, inputs):
            seen.append(inputs["input"])
            return [inputs["input"].mean(axis=(2, 3)) + self.turn]

    dataset = open_dataset(built[0] / "biwi+")
    ids, angles = script("fsanet_predictions").predict(read_crops(dataset, np.arange(3)), [Network(0), Network(2)])
    crops = [crop.image for crop in read_crops(dataset, np.arange(3))]
    assert seen[0].shape == (1, 3, 64, 64) and seen[0].dtype == np.float32 and np.abs(seen[0]).max() <= 1
    for row, image in zip(angles, crops, strict=True):
        blue, green, red = (image[..., channel].astype(float).mean() / 128 - 127.5 / 128 + 1 for channel in (2, 1, 0))
        assert row == pytest.approx([green, blue, red], abs=0.02)  # pitch, yaw, roll of yaw, pitch, roll
    assert ids.tolist() == [crop.id for crop in read_crops(dataset, np.arange(3))]
