import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmark.scoring.submission import About, write_predictions
from benchmark.studies import demo
from headposeplus import rotations as rot
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.miniature.write import source_of

METHODS = ("source-only (slim)", "source-only-mixed (slim)", "dann (slim)", "padaco (slim)", "mean-teacher (slim)")


def predict(jobs, *_):
    """Write noisy labels in place of what training would predict, the same amount of noise for each method."""
    for job in jobs:
        ids, rotations = read_labels(open_dataset(job.data / "biwi+"))
        noise = np.random.default_rng(len(job.folder.name)).normal(0, 4, (len(ids), 3))
        name = next(name for name in METHODS if name.startswith(f"{job.folder.name} "))
        about = About(
            name=name, authors="us", link="", training_data="synhead++", task="pda", convention="pyr", camera="rgb",
            selection="last epoch of the fixed schedule", uses_target_images=job.folder.name != "source-only", seed=0,
        )  # fmt: skip
        write_predictions(job.folder / demo.PREDICTIONS, ids, rot.from_matrix(rotations) + noise, about)


@pytest.fixture
def told(built, tiny, tmp_path, monkeypatch):
    """The lines that a demo prints whose miniature is there, and whose networks are made up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(demo, "write_miniature", lambda *_: source_of(tiny))
    monkeypatch.setattr(demo, "build_datasets", lambda _, out, *__: shutil.copytree(built[0], out) and built[1])
    monkeypatch.setattr(demo, "run_side_by_side", predict)
    lines = []
    demo.run_demo(Path("demo"), 0, lines.append)
    return "\n".join(lines)


def test_what_the_demo_prints(told):
    assert all(len(line) <= 78 for line in told.splitlines()) and len(told.splitlines()) < 64
    assert re.findall(r"^step (\d) of 6: ", told, re.MULTILINE) == list("123456")
    assert len(re.findall(r"^  done in \d+ s$", told, re.MULTILINE)) == 6
    head = next(line for line in told.splitlines() if line.startswith("#  "))
    for column in ("method", "MAE", "95 %", "pitch", "yaw", "roll", "target"):
        assert column in head
    above, _, below = told.partition(head)
    for fact in ("protocol", "test set", "trained on", "convention", "seeds"):
        assert re.search(rf"^{fact}  +\w", above, re.MULTILINE), fact
    assert all(re.search(rf"^[\d≈ ]+{re.escape(name)} +\d+\.\d\d  +\d", below, re.MULTILINE) for name in METHODS)
    assert "xzy" not in told and "95th percentile" not in told  # candidates of the rendering order, and the like
    for words in ("What was shown: ", "What to believe: ", "What to do next: open demo/scoreboard/index.html"):
        assert words in below
    assert Path("demo/scoreboard/index.html").exists()


def test_details_go_to_the_log(told):
    assert told.splitlines()[-1] == "details  demo/demo.log"
    log = Path("demo/demo.log").read_text(encoding="utf-8")
    assert "All candidates by error" in log and "95th percentile" in log and "step 6 of 6: score" in log
    words = " ".join(log.split())
    assert " ".join(told.partition("Errors in degrees.")[2].split()) in words
    assert list(demo.read_times(Path("demo/times.json")).seconds) == list(demo.STEPS)


def test_what_was_shown_says_what_one_run_cannot():
    class Scored:
        def __init__(self, name, mae):
            self.name, self.scores = name, type("Scores", (), {"mae": mae})

    first = Scored("source-only", 6.0)
    assert demo.shown([first, Scored("dann", 5.7)]).endswith("dann, by 5.70, which one run cannot tell apart.")
    assert demo.shown([first, Scored("dann", 4.0)]).endswith("dann, by 4.00.")
    assert demo.shown([first, Scored("dann", 7.0)]).endswith(
        "errs by 6.00 degrees, and none that saw some does better."
    )
