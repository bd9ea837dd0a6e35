"""What hpp benchmark says when training has ended: the score, or what is lacking to score."""

import json
import shutil

import h5py
import pytest

from benchmark.scoring import finished
from benchmark.scoring.score import score
from benchmark.training import run as train
from headposeplus.errors import SubmissionError
from tests.digests import sign

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def benchmark(job, hpp):
    """A function that trains source-only on some data, and returns what is printed."""

    def run(data, *words):
        asked = ("--method", "source-only", "--preset", "trial", "--data", data, "--out", job.out)
        return hpp("benchmark", *asked, "--device", "cpu", "--threads", 1, *words).stdout.splitlines()

    return run


def test_training_ends_with_its_score(job, benchmark, hpp):
    lines = benchmark(job.data)
    predictions = job.out / "pda-trial-seed0/source-only/predictions.csv"
    entry = score(predictions, job.data).entry
    low, high = entry.intervals.mae
    assert lines[0] == f"predictions {predictions}"
    assert lines[1].startswith(f"MAE {entry.scores.mae:.2f} (95 % interval {low:.2f} to {high:.2f}); pitch ")
    assert len(lines[1]) <= 78 and lines[2] == f"degrees, {entry.protocol.id}: 48 frames, pyr, rgb camera"
    assert lines[3] == f"entry {predictions.with_name('score.json')}"
    assert lines[4] == f"all figures: hpp score {predictions} --data {job.data}"
    assert json.loads(predictions.with_name("score.json").read_text())["scores"]["mae"] == entry.scores.mae
    assert benchmark(job.data) == lines  # a finished run is not trained again, and tells its score


def test_the_labels_are_read_when_all_seeds_are_trained(job, benchmark, monkeypatch):
    ended, trained, scored = [], train.run, finished.score
    monkeypatch.setattr(train, "run", lambda asked: ended.append(asked.seed) or trained(asked))
    monkeypatch.setattr(finished, "score", lambda *asked: ended.append("scored") or scored(*asked))
    lines = benchmark(job.data, "--seeds", 0, 1)
    assert ended == [0, 1, "scored", "scored"]
    assert [line.split()[0] for line in lines] == [
        "predictions", "predictions", *("MAE", "degrees,", "entry") * 2, "the"
    ]  # fmt: skip
    assert lines[-1].startswith("the seeds as one entry: hpp score ") and lines[-1].count("predictions.csv") == 2


def test_without_labels_it_says_what_is_lacking(job, benchmark, hpp, tmp_path):
    data = shutil.copytree(job.data, tmp_path / "data")
    for path in (data / "biwi+").glob("*.h5"):
        with h5py.File(path, "a") as file:
            del file["label"]
    sign(data)
    first, last = benchmark(data)
    predictions = first.removeprefix("predictions ")
    line = f"not scored: {data}/biwi+: holds no labels; with labels at hand: hpp score {predictions} --labels LABELS"
    assert last == line and not list(job.out.rglob("score*.json"))
    refused = hpp("score", predictions, "--data", data, expect=1).output
    assert "biwi+: holds no labels; give them by --labels, or build it again" in refused


def test_what_keeps_predictions_from_a_score_does_not_end_the_others(job, benchmark, monkeypatch):
    def refusing(predictions, data):
        if "seed0" in str(predictions):
            raise SubmissionError("not the test set")
        return score(predictions, data)

    monkeypatch.setattr(finished, "score", refusing)
    lines = benchmark(job.data, "--seeds", 0, 1)
    assert sum(line.startswith("not scored: not the test set; with labels") for line in lines) == 1
    assert sum(line.startswith("entry ") for line in lines) == 1 and lines[-1].startswith("entry ")
