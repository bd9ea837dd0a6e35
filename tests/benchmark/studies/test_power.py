import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.scoring.submission import read_submission
from benchmark.studies import plan, pool, power, runs
from benchmark.training import presets
from headposeplus.datasets.dataset import open_dataset, read_crops
from headposeplus.rotations import to_matrix
from tests.benchmark.studies.conftest import PEOPLE

ERRORS = ["pitch", "yaw", "roll", "ray pitch", "ray yaw", "ray roll"]
COLUMNS = ["draw", "task", "setting", "method", "person", *ERRORS, "accuracy", "device"]


def target_of(angles, subjects, rays):
    return power.TargetLabels(np.array(subjects), np.array(subjects), np.array(angles, float), np.array(rays))


def test_errors_of_persons_by_hand():
    truth = [[179, 10, 0], [0, 0, -178], [20, 0, 0]]
    predicted = to_matrix(np.array([[-179, 12, 0], [0, -4, 179], [25, 0, 0]], float))
    table = power.errors_by_person(predicted, target_of(truth, ["M02", "M02", "F01"], [np.eye(3)] * 3))
    assert table["subject"].tolist() == ["F01", "M02"]
    # 179 and -179 are two degrees apart, -178 and 179 three.
    assert table[ERRORS[:3]].to_numpy() == pytest.approx(np.array([[5, 0, 0], [1, 3, 1.5]]))
    assert table[ERRORS[3:]].to_numpy() == pytest.approx(table[ERRORS[:3]].to_numpy())


def test_errors_with_the_viewing_ray_are_of_the_turned_poses():
    poses, ray = np.array([[20, 0, 0], [-30, 0, 0]], float), to_matrix(np.array([10.0, 0, 0]))
    table = power.errors_by_person(
        to_matrix(poses), target_of(poses + np.array([10, 0, 0]), ["F01", "F01"], [ray, ray])
    )
    assert table[ERRORS].to_numpy() == pytest.approx(np.array([[10, 0, 0, 0, 0, 0]]), abs=1e-4)


def test_units_are_all_methods_of_each_draw():
    data = {1: Path("a"), 2: Path("b")}
    found = power.units(data, Path("out"), "cpu")
    keys = [(unit.draw, unit.task, unit.setting) for unit in found]
    assert keys == [(draw, task, setting) for draw in data for task in plan.METHODS for setting in plan.SETTINGS]
    assert len({unit.kept for unit in found}) == len(found) and {unit.data for unit in found[:4]} == {Path("a")}
    for unit in found:
        own = (plan.STRONGEST,) if unit.setting == "augmented" else ()
        assert unit.methods == plan.METHODS[unit.task] + own


@pytest.fixture
def small(monkeypatch):
    """A plan of one method on tiny miniatures, trained for a moment."""
    trial = presets.PRESETS["trial"]._replace(epoch_samples=40, stage1_epochs=1)
    monkeypatch.setitem(presets.PRESETS, "trial", trial)
    for name, value in {
        "PRESET": "trial", "PEOPLE": PEOPLE, "METHODS": {"da": ("source-only",), "pda": ("source-only",)},
        "STRONGEST": "source-only-mixed",
    }.items():  # fmt: skip
        monkeypatch.setattr(plan, name, value)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # which the study sets as well; afterwards they are as before


@pytest.mark.slow
def test_a_unit_keeps_a_row_for_each_person_and_method(small, members, tmp_path, monkeypatch, one_thread):
    data = pool.draw_miniature(members, 7, tmp_path / "draw-7")
    unit = power.Unit(data, tmp_path / "runs", 7, "pda", "augmented", ("source-only", "dann"), "cpu")
    kept = power.run_unit(unit)
    rows = pd.read_csv(kept)
    assert kept == unit.kept and rows.columns.tolist() == COLUMNS and len(rows) == 2 * 3
    assert set(zip(rows["draw"], rows["task"], rows["setting"], strict=True)) == {(7, "pda", "augmented")}
    assert rows["device"].str.startswith("cpu").all()
    assert rows["method"].tolist() == ["source-only"] * 3 + ["dann"] * 3
    # Only DANN has a discriminator.
    assert rows["accuracy"].isna().tolist() == [True] * 3 + [False] * 3

    # The errors are those of the predictions, and a person is named after the member whose images were seen.
    target = open_dataset(data / "biwi+")
    crops = {crop.id: crop.encoded.tobytes() for crop in read_crops(target, np.arange(target.info.rows))}
    theirs = []
    for member in members:
        dataset = open_dataset(member / "biwi+")
        theirs.append({crop.id: crop.encoded.tobytes() for crop in read_crops(dataset, np.arange(dataset.info.rows))})
    labels = power.read_target(data)
    for method, table in rows.groupby("method"):
        [predictions] = (tmp_path / "runs").glob(f"pda-trial-*-all-seed7/{method}/predictions.csv")
        submission = read_submission(predictions)
        written = pd.read_csv(predictions).set_index("id")
        assert submission.ids.tolist() == labels.ids.tolist()
        for row in table.itertuples():
            number, subject = row.person.split("-")
            mine = labels.subjects == subject
            assert all(crops[name] == theirs[int(number)][name] for name in labels.ids[mine])
            away = np.abs(written.loc[labels.ids[mine], list(plan.ANGLES)].to_numpy() - labels.angles[mine])
            away = np.minimum(away, 360 - away).mean(axis=0)
            assert [row.pitch, row.yaw, row.roll] == pytest.approx(away, abs=2e-3)

    # What has ended is not run again.
    monkeypatch.setattr(runs, "run", lambda job: pytest.fail(f"{job.label} was trained again"))
    content = kept.read_bytes()
    assert power.run_unit(unit) == kept and kept.read_bytes() == content


@pytest.mark.slow
def test_the_study_keeps_the_errors_of_its_draws(small, members, tmp_path, monkeypatch, capsys, one_thread):
    asked = []
    monkeypatch.setattr(power, "make_pool", lambda *words: asked.append(words) or members)
    words = [str(tmp_path / "out"), "--results", str(tmp_path / "results"), "--draws", "1", "--jobs", "1"]
    power.main(words)
    path = tmp_path / "results/runs.csv"
    assert f"errors {path}" in capsys.readouterr().out
    assert asked == [(tmp_path / "out/pool", plan.SCALE, plan.POSES, PEOPLE, plan.SIZE, 1)]
    rows = pd.read_csv(path)
    assert rows.columns.tolist() == COLUMNS and set(rows["draw"]) == {plan.DRAWS[0]}
    counts = rows.groupby(["task", "setting", "method"]).size().to_dict()
    assert counts == {
        (task, setting, method): 3
        for task in ("da", "pda")
        for setting, method in (
            ("paper", "source-only"),
            ("augmented", "source-only"),
            ("augmented", "source-only-mixed"),
        )
    }
    # Augmentation changes what is learned, and a second look at the same draws changes nothing.
    one = rows[(rows["task"] == "pda") & (rows["method"] == "source-only")]
    assert one[one["setting"] == "paper"]["pitch"].tolist() != one[one["setting"] == "augmented"]["pitch"].tolist()
    monkeypatch.setattr(runs, "run", lambda job: pytest.fail(f"{job.label} was trained again"))
    content = path.read_bytes()
    shutil.rmtree(tmp_path / "results")
    power.main(words)
    assert path.read_bytes() == content


def test_only_whole_draws_are_collected(tmp_path):
    kept, persons = [], ("0-F01", "1-M02")
    for draw in (1001, 1000, 1002):
        for task in plan.METHODS:
            for setting in plan.SETTINGS:
                if (draw, task, setting) == (1002, "pda", "augmented"):
                    continue  # stopped before it ended
                rows = [(draw, task, setting, method, person, 1.0) for method in ("dann", "a") for person in persons]
                kept.append(tmp_path / f"{task}-{setting}-{draw}.csv")
                columns = ["draw", "task", "setting", "method", "person", "pitch"]
                pd.DataFrame(rows, columns=columns).to_csv(kept[-1], index=False)
    rows = pd.read_csv(power.collect(kept, tmp_path / "results"))
    assert rows["draw"].tolist() == [1000] * 16 + [1001] * 16
    assert rows.equals(pd.read_csv(power.collect(kept[::-1], tmp_path / "again")))
    assert rows["method"].tolist()[:4] == ["a", "a", "dann", "dann"]
