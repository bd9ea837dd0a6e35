import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from benchmark.studies import plan, real_pixels, runs
from benchmark.training import presets
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.rotations import to_matrix


def test_errors_by_hand(built):
    data = built[0]
    truth = read_labels(open_dataset(data / "biwi+"))[1]
    turn = Rotation.from_euler("y", 3, degrees=True).as_matrix()
    found = real_pixels.score(turn @ truth, data, "biwi+")
    assert found["geodesic"] == pytest.approx(3, abs=1e-3)
    assert found["mae"] == pytest.approx(np.mean([found[angle] for angle in plan.ANGLES]), abs=1e-3)
    assert real_pixels.score(truth, data, "biwi+")["mae"] == 0
    assert real_pixels.score(truth, data, "biwi+")["ray mae"] > 1  # the heads are off the axis
    assert "ray mae" not in real_pixels.score(read_labels(open_dataset(data / "synhead+"))[1], data, "synhead+")


def test_errors_go_around_the_circle(built, monkeypatch):
    ids = read_labels(open_dataset(built[0] / "biwi+"))[0]
    monkeypatch.setattr(real_pixels, "read_labels", lambda _: (ids[:1], to_matrix([[0.0, 0, 179]])))
    assert real_pixels.score(to_matrix([[0.0, 0, -179]]), built[0], "biwi+")["roll"] == pytest.approx(2, abs=1e-3)
    monkeypatch.setattr(real_pixels, "read_labels", lambda _: (ids[:1], to_matrix([[0.0, 88, 0]])))
    found = real_pixels.score(to_matrix([[0.0, 92, 0]]), built[0], "biwi+")
    assert [found[angle] for angle in plan.ANGLES] == pytest.approx([0, 4, 0], abs=1e-3)


def test_runs_are_kept_and_added_to(tiny, tmp_path, monkeypatch):
    trial = presets.PRESETS["trial"]._replace(epoch_samples=40, stage1_epochs=1)
    monkeypatch.setitem(presets.PRESETS, "trial", trial)
    monkeypatch.setattr(real_pixels, "METHODS", {"paper": ("source-only",), "augmented": ("source-only-mixed",)})
    words = [str(tmp_path / "out"), "--source", f"miniature={tiny / 'synhead2_release'}", "--biwi", str(tiny / "hpdb"),
             "--results", str(tmp_path), "--size", "32", "--preset", "trial", "--jobs", "1"]  # fmt: skip
    real_pixels.main([*words, "--settings", "paper"])
    first = pd.read_csv(tmp_path / real_pixels.RUNS)
    assert first[["task", "method"]].to_numpy().tolist() == [["da", "source-only"], ["pda", "source-only"]]
    monkeypatch.setattr(runs, "run", None)  # what has ended is not trained again
    real_pixels.main([*words, "--settings", "paper"])
    assert pd.read_csv(tmp_path / real_pixels.RUNS).equals(first)
    monkeypatch.undo()
    monkeypatch.setitem(presets.PRESETS, "trial", trial)
    monkeypatch.setattr(real_pixels, "METHODS", {"augmented": ("source-only-mixed",)})
    real_pixels.main([*words, "--settings", "augmented"])
    both = pd.read_csv(tmp_path / real_pixels.RUNS)
    assert both["setting"].tolist() == ["augmented", "paper"] * 2 and both["source"].unique().tolist() == ["miniature"]
