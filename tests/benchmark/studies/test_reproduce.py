import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark.scoring import selection
from benchmark.studies import reproduce, runs
from benchmark.studies.runs import expected_lines, plan, run_side_by_side
from benchmark.training import run as train
from benchmark.training.presets import PRESETS
from headposeplus.datasets.dataset import open_dataset
from headposeplus.errors import HeadposeError, TrainingError

ARGUMENTS = {"scale": "tiny", "preset": "trial", "device": "cpu", "jobs": 2, "threads": 1}


@pytest.fixture(scope="module")
def table(built, tmp_path_factory):
    """The results of two methods with two seeds, and the folder of their runs."""
    out = tmp_path_factory.mktemp("reproduce")
    methods = ["source-only", "padaco"]
    page = reproduce.reproduce("pda", methods, [0, 1], built[0], out, None, **ARGUMENTS)
    return page, out


@pytest.mark.slow
def test_the_page_has_means_and_deviations_of_the_scores(table, built):
    page, _ = table
    assert page.parent.name == "pda-trial" and {"records.json", "curves.png", "label_spaces.png"} <= {
        path.name for path in page.parent.iterdir()
    }
    about = json.loads((page.parent / "records.json").read_text())
    assert [(r["method"], r["seed"]) for r in about["records"]] == [
        ("source-only", 0), ("source-only", 1), ("padaco", 0), ("padaco", 1),
    ]  # fmt: skip
    for method in ("source-only", "padaco"):
        mae = [r["scores"]["mae"] for r in about["records"] if r["method"] == method]
        text = f"{sum(mae) / 2:.2f} ± {abs(mae[0] - mae[1]) / np.sqrt(2):.2f}"
        assert any(line.startswith(f"| {method} ") and text in line for line in page.read_text().splitlines())
    assert "MAE in the paper" not in page.read_text()  # the data are not the paper's
    source = open_dataset(built[0] / "synhead++").info.rows
    assert about["miniature"] is None and about["data"] == {"source": source, "target": 48}


@pytest.mark.slow
def test_records_agree_with_the_runs(table):
    page, _ = table
    about = json.loads((page.parent / "records.json").read_text())
    record = next(r for r in about["records"] if r["method"] == "padaco")
    assert record["rules"]["last"] == pytest.approx(record["scores"]["mae"], abs=1e-3) == record["mae_of_epochs"][-1]
    assert record["rules"][selection.ORACLE] == min(record["mae_of_epochs"]) and len(record["mae_of_epochs"]) == 3
    assert set(record["statistics"]) == set(train.STATISTICS)
    assert "oracle (sees the labels)" in page.read_text()


@pytest.mark.slow
def test_a_second_time_trains_nothing(table, built):
    page, out = table
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    again = reproduce.reproduce("pda", ["source-only", "padaco"], [0, 1], built[0], out, None, **ARGUMENTS)
    assert again == page
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()} == before


def planned(data, out, method="padaco"):
    options = {"device": "cpu", "threads": 1}
    return plan("pda", [method], {3: data}, out, PRESETS["trial"], options)


def test_a_run_that_fails_says_its_last_line(built, tmp_path):
    (run,) = planned(built[0], tmp_path)
    words = [word if word != "padaco" else "padako" for word in run.words]
    with pytest.raises(TrainingError, match=r"padaco, seed 3: unknown method 'padako'"):
        run_side_by_side([run._replace(words=words)], 1, "runs")


def test_a_killed_run_is_told(built, tmp_path, monkeypatch):
    """A run that a signal ended has printed nothing of use; the message says what to do instead."""

    def killing(command, **options):
        return popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], **options)

    popen = subprocess.Popen
    monkeypatch.setattr(runs.subprocess, "Popen", killing)
    with pytest.raises(TrainingError, match=r"padaco, seed 3: the process was killed \(signal 9\).*lower --jobs or"):
        run_side_by_side(planned(built[0], tmp_path), 1, "runs")


@pytest.mark.slow
def test_runs_with_other_settings_or_data_are_not_taken_for_these(table, built, tmp_path):
    _, out = table
    with pytest.raises(TrainingError, match="holds a run with another preset; choose another --out"):
        reproduce.reproduce("pda", ["padaco"], [0], built[0], out, tmp_path, **ARGUMENTS, batch=50)
    with pytest.raises(TrainingError, match="holds a run with another clip"):
        reproduce.reproduce("pda", ["padaco"], [0], built[0], out, tmp_path, **ARGUMENTS, clip=1.0)
    other = Path(shutil.copytree(built[0], tmp_path / "other"))
    info = json.loads((other / "biwi+/dataset.json").read_text())
    matched = info["content_sha256"]
    for path in other.glob("*/dataset.json"):
        path.write_text(path.read_text().replace(matched, "0" * 64))
    with pytest.raises(TrainingError, match="holds a run with another target"):
        reproduce.reproduce("pda", ["padaco"], [0], other, out, tmp_path, **ARGUMENTS)


@pytest.mark.slow
def test_without_a_second_stage_no_older_picture_is_shown(table, built):
    page, out = table
    again = reproduce.reproduce("pda", ["source-only"], [0, 0], built[0], out, page.parent, **ARGUMENTS)
    assert "png" not in again.read_text() and not list(page.parent.glob("*.png"))
    assert len(json.loads((page.parent / "records.json").read_text())["records"]) == 1


def test_what_cannot_be_reproduced(tmp_path):
    arguments = ARGUMENTS | {"preset": "paper"}
    with pytest.raises(HeadposeError, match="--preset paper needs --data"):
        reproduce.reproduce("pda", None, [0], None, tmp_path, None, **arguments)
    with pytest.raises(TrainingError, match="`selection` best: expected one of last, source-val, consistency, dev"):
        reproduce.reproduce("pda", ["padaco"], [0], None, tmp_path, None, **ARGUMENTS, selection="best")
    with pytest.raises(HeadposeError, match="unknown method 'padako'"):
        reproduce.reproduce("pda", ["padako"], [0], None, tmp_path, None, **ARGUMENTS)


def test_options_are_typed_as_they_are_given(tmp_path):
    options = {"highest_lambda": 0.5, "neighbours": 3, "compiled": True, "device": "cpu", "clip": None}
    (run,) = plan("da", ["padaco"], {4: tmp_path}, tmp_path / "runs", PRESETS["trial"], options)
    assert run.folder == Path(tmp_path / "runs/da-trial-seed4/padaco-neighbours3-highest_lambda0.5")
    text = " ".join(run.words)
    assert "--lambda 0.5 --neighbours 3 --compile --device cpu" in text and "--clip" not in text
    assert expected_lines(run.job) == 3 * (100 // 20 + 1)
    batched = plan("da", ["padaco"], {4: tmp_path}, tmp_path, PRESETS["trial"], options | {"batch": 50})
    assert expected_lines(batched[0].job) == 3 * (100 // 50 + 1)


def test_a_method_of_ones_own_has_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[3])
    own = plan("pda", ["docs.my_method:MMD"], {0: tmp_path}, tmp_path, PRESETS["trial"], {})
    assert own[0].folder == tmp_path / "pda-trial-seed0/mmd"
