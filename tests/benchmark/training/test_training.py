import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from baselines.adabn import in_turn
from baselines.adversarial import DANN
from baselines.method import MethodSettings
from baselines.methods import METHODS
from benchmark.loaders import compose
from benchmark.scoring import score as scoring
from benchmark.scoring import selection
from benchmark.scoring.submission import read_submission
from benchmark.training import presets
from benchmark.training import run as train
from benchmark.training.job import PREDICTIONS, RunOptions, variant
from benchmark.training.log import EpochRecord, StepRecord, read_log
from benchmark.training.predictions import STATISTICS
from benchmark.training.settings import RUN
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.errors import DatasetError, HeadposeError, SubmissionError, TrainingError
from headposeplus.rotations import from_matrix, geodesic, to_matrix
from tests.digests import sign

FAST = presets.PRESETS["trial"]
CPU = RunOptions(device="cpu", threads=1)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_leaves_predictions_log_and_weights(trained, records):
    predictions = train.run(trained)
    assert predictions == trained.out / "pda-trial-seed0/padaco/predictions.csv"
    submission = read_submission(predictions)
    ids, _ = read_labels(open_dataset(trained.data / "biwi+"))
    assert submission.ids.tolist() == ids.tolist() and submission.rotations.shape == (48, 3, 3)
    about = submission.about
    assert about.run["discriminator"] == "joint" and about.run["metric"] == "degrees"
    assert about.run["method"] == "padaco" and about.seed == 0 and about.uses_target_images is True
    assert about.selection == selection.RULES["last"] and about.initial_weights == "none" and about.command == "hpp ..."
    assert 0 < about.run["source_kept"] < 1 and 1 < about.run["effective_source_size"] < 1200
    assert about.run["epoch"] == about.run["epochs"] == 3 and about.batch_statistics == "mixed"

    steps = [record for record in records(predictions.parent) if "loss" in record]
    assert len(steps) == 15 and [record["step"] for record in steps] == list(range(15))
    assert [record["lambda"] for record in steps[:5]] == [0] * 5 and steps[-1]["rate"] < steps[0]["rate"] == 0.03
    ends = [record for record in records(predictions.parents[1] / "stage1") if "held_out_mae" in record]
    best = json.loads((predictions.parents[1] / "stage1/best.json").read_text())
    assert best["held_out_mae"] == pytest.approx(min(end["held_out_mae"] for end in ends)) and len(ends) == 3

    others = [read_submission(predictions.with_name(f"predictions-{kind}.csv")) for kind in STATISTICS]
    assert [other.about.batch_statistics[:6] for other in others] == ["source", "target"]
    assert all(geodesic(other.rotations, submission.rotations).mean() > 0.01 for other in others)

    before = predictions.stat().st_mtime_ns
    assert train.run(trained) == predictions and predictions.stat().st_mtime_ns == before


class Sure(DANN):
    saturation = 0.0


class Unsure(DANN):
    saturation = 1.5


@pytest.mark.parametrize(("method", "began"), [(Sure, 1), (Unsure, 3), (METHODS["coral"], 1)])
def test_lambda_waits_until_the_discriminator_saturates(adapting, records, capsys, method, began):
    """The rates and the number of epochs do not wait."""
    longer = FAST._replace(hold={"da": 1, "pda": 2})
    folder = train.run(adapting._replace(method=method, preset=longer, out=adapting.out / "longer")).parent
    steps = [record for record in records(folder) if "loss" in record]
    ends = [record for record in records(folder) if record.get("epoch_end")]
    highest = 100.0 if method.name == "coral" else 0.3
    expected = [highest * min(max((number / 5 - began) / 1, 0), 1) for number in range(20)]
    assert [record["lambda"] for record in steps] == pytest.approx(expected)
    assert [record["rate"] for record in steps] == pytest.approx(
        [0.03 * (1 - 0.9 * max((number / 20 - 1 / 3) * 1.5, 0)) for number in range(20)]
    )
    about, said = read_submission(folder / PREDICTIONS).about.run, capsys.readouterr().err
    assert about["epochs"] == 4 and about["lambda_began"] == began + 1
    if method.name == "coral":
        assert "domain_accuracy" not in ends[0] and "accuracy_at_lambda" not in about
        return
    means = [np.mean([step["domain_accuracy"] for step in steps[5 * i : 5 * i + 5]]) for i in range(4)]
    assert [end["domain_accuracy"] for end in ends] == pytest.approx(means, abs=1e-5)
    assert about["accuracy_at_lambda"] == pytest.approx(means[began - 1], abs=1e-4)
    line = "unsure (pda, seed 0): lambda began at epoch 4, when it could wait no longer; the discriminator told "
    assert (f"{line}{means[2]:.1%} of" in said) == (method is Unsure)
    assert said.count("lambda began") == (method is Unsure)


def test_without_lambda_nothing_is_told_of_when_it_began(adapting):
    about = read_submission(train.run(adapting._replace(method=METHODS["control-uniform"]))).about
    assert "lambda_began" not in about.run and "accuracy_at_lambda" not in about.run


def test_a_log_is_read_as_it_was_written(trained, records, tmp_path):
    folder = train.run(trained).parent
    steps, epochs = read_log(folder / "log.jsonl")
    assert len(steps) == 15 and len(epochs) == 3
    assert isinstance(steps[0], StepRecord) and isinstance(epochs[0], EpochRecord)
    assert steps[0].losses.keys() == {"loss", "pose_loss", "domain_loss", "domain_accuracy"}
    lines = [record.to_json() for record in sorted([*steps, *epochs], key=lambda record: record.epoch)]
    assert lines == records(folder)  # an epoch's record follows its steps'
    for text in ("[1]\n", "no JSON\n", '{"step": 1}\n'):
        (tmp_path / "log.jsonl").write_text(text)
        with pytest.raises(TrainingError, match=r"log\.jsonl: expected the log of a run"):
            read_log(tmp_path / "log.jsonl")


def test_source_only_is_the_best_epoch_of_stage_1(trained):
    predictions = train.run(trained._replace(method=METHODS["source-only"]))
    about = read_submission(predictions).about
    assert about.uses_target_images is False and about.batch_statistics == "source"
    assert not (predictions.parent / "log.jsonl").exists()


def test_training_runs_on_a_target_without_labels_and_gives_the_same(trained, job, tmp_path):
    expected = pd.read_csv(train.run(trained))
    unlabelled = tmp_path / "data"
    shutil.copytree(job.data, unlabelled)
    for path in (unlabelled / "biwi+").glob("*.h5"):
        with h5py.File(path, "a") as file:
            del file["label"]
    sign(unlabelled)
    blind = pd.read_csv(train.run(job._replace(data=unlabelled)))
    pd.testing.assert_frame_equal(blind, expected)
    assert compose.Target._fields == ("store", "ids")


def test_stage_1_is_shared(adapting, records):
    log = adapting.folder.parent / "stage1/log.jsonl"
    before = log.stat().st_mtime_ns
    control = train.run(adapting._replace(method=METHODS["control-uniform"])).parent
    assert log.stat().st_mtime_ns == before
    lambdas = [record["lambda"] for record in records(control) if "loss" in record]
    assert set(lambdas) == {0.0}


def test_what_stops_a_run(job, copied, tmp_path):
    with pytest.raises(DatasetError, match="crops of 32 pixels, but the preset paper needs 224; build with `size` 224"):
        train.run(job._replace(preset=presets.PRESETS["paper"]))
    with pytest.raises(TrainingError, match="a batch of 45 is larger than an epoch of 40 images; lower `batch`"):
        train.run(job._replace(preset=FAST._replace(batch=45, epoch_samples=40), out=tmp_path / "epoch"))
    with pytest.raises(TrainingError, match="a batch of 49 is larger than the target of 48 images; lower `batch`"):
        train.run(job._replace(preset=FAST._replace(batch=49), out=tmp_path / "target"))
    assert not (tmp_path / "target").exists() or not list((tmp_path / "target").rglob("*.pt"))  # nothing is trained
    with pytest.raises(TrainingError, match="`device` gpu: expected auto"):
        train.run(job._replace(options=CPU._replace(device="gpu")))
    with pytest.raises(TrainingError, match="a batch of 5000 is larger"):
        train.run(job._replace(preset=FAST._replace(batch=5000), out=tmp_path / "large"))
    with pytest.raises(DatasetError, match="build the dataset first"):
        train.run(job._replace(data=tmp_path))
    with pytest.raises(HeadposeError, match="unknown preset"):
        presets.find_preset("papers")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="use `device` cpu"):
            train.run(job._replace(options=CPU._replace(device="cuda")))
    own = copied("padaco")
    note = own.folder / RUN
    whole = note.read_text()
    note.write_text(whole.replace('"weights": "none"', '"weights": "imagenet"'))
    with pytest.raises(TrainingError, match="other settings: weights 'imagenet', not 'none'; choose another `out`"):
        train.run(own)
    note.write_text(f"[{whole}]")
    with pytest.raises(TrainingError, match=r"run\.json: expected the settings of a run"):
        train.run(own)


def test_data_that_stop_a_run(job, tmp_path):
    damaged = shutil.copytree(job.data, tmp_path / "damaged")
    note = damaged / "biwi+/dataset.json"
    whole = note.read_text()
    for old, new, says in (
        ('"convention": "pyr"', '"convention": "ypr"', "labels in convention ypr, rgb camera; expected pyr, rgb"),
        ('"size": 32', '"size": 24', "source crops of 32 and target crops of 24 pixels"),
    ):
        assert old in whole
        note.write_text(whole.replace(old, new))
        with pytest.raises(DatasetError, match=says):
            train.run(job._replace(data=damaged))
    note.write_text(whole)
    next((damaged / "synhead+").glob("shard-*.h5")).unlink()
    with pytest.raises(DatasetError, match="the shard is missing; build again to restore it"):
        train.run(job._replace(data=damaged))


def test_a_loss_that_is_not_finite_stops_with_its_record(job):
    wild = FAST._replace(stage1_rate=1e30, stage1_optimizer="sgd")
    with pytest.raises(
        TrainingError, match=r'the loss is not finite; lower the rate with `rate`.*"stage": 1, "epoch": 0'
    ):
        train.run(job._replace(preset=wild))


def test_what_stops_the_second_stage(adapting, monkeypatch):
    class Nothing(DANN):
        def sampling(self, epoch, look):
            return np.zeros(len(look.angles))

    with pytest.raises(TrainingError, match=r"nothing: expected 1.* probabilities that are not negative"):
        train.run(adapting._replace(method=Nothing))
    dann = adapting._replace(method=METHODS["dann"])
    loading = train.load_target

    def few(count):
        def load_few(*arguments):
            target = loading(*arguments)
            return target._replace(ids=target.ids[:count])

        return load_few

    for count, says in ((1, "1 target images; dann normalises by batches"), (19, "a batch of 20 is larger than the")):
        monkeypatch.setattr(train, "load_target", few(count))
        with pytest.raises(TrainingError, match=says):
            train.run(dann)

    def full(*arguments):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(train, "load_target", full)
    with pytest.raises(TrainingError, match="out of memory; choose `store` stream, which goes on where it was"):
        train.run(dann)
    monkeypatch.undo()
    assert train.run(dann).exists()  # nothing was lost


def test_without_backgrounds_it_says_so(job, tmp_path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(job.data, bare)
    (bare / "synhead+/backgrounds.h5").unlink()
    about = read_submission(train.run(job._replace(data=bare, method=METHODS["source-only"]))).about
    assert "SynHead came without backgrounds" in capsys.readouterr().err and about.run["backgrounds"] == 0


def test_settings_have_folders_of_their_own(trained):
    train.run(trained)
    nearest = train.run(trained._replace(settings=MethodSettings(neighbours=1)))
    assert nearest.parent.name == "padaco-neighbours1"
    assert nearest.read_bytes() != (nearest.parents[1] / "padaco" / PREDICTIONS).read_bytes()
    assert variant("my.module:Mine", MethodSettings(highest_lambda=0.5)) == "my.module-Mine-highest_lambda0.5"
    apart = train.run(trained._replace(settings=MethodSettings(discriminator="separate")))
    assert apart.parent.name == "padaco-discriminator-separate"
    assert variant("padaco", MethodSettings(1, metric="normalised")) == "padaco-neighbours1-metric-normalised"
    assert read_submission(apart).about.run["discriminator"] == "separate"
    assert apart.read_bytes() != (apart.parents[1] / "padaco" / PREDICTIONS).read_bytes()


def test_rules_of_selection_agree_with_the_records(trained, records):
    predictions = train.run(trained)
    epochs = selection.read_epochs(predictions.with_name(selection.EPOCHS))
    ends = [record for record in records(predictions.parent) if record.get("epoch_end")]
    assert epochs.angles.shape == (3, 48, 3) and epochs.probabilities.sum() == pytest.approx(1, abs=1e-5)
    for rule in ("source-val", "consistency", "dev"):
        assert epochs.criteria[rule] == pytest.approx([end[rule] for end in ends], abs=1e-5)
        other = train.run(trained._replace(options=CPU._replace(selection=rule)))
        chosen = int(np.argmin(epochs.criteria[rule]))
        submission = read_submission(other)
        assert other.parent.name == f"padaco-{rule}" and submission.about.run["epoch"] == chosen + 1
        assert geodesic(submission.rotations, to_matrix(epochs.angles[chosen])).max() < 1e-3
    official = read_submission(predictions)
    assert geodesic(official.rotations, to_matrix(epochs.angles[-1])).max() < 1e-3
    with pytest.raises(TrainingError, match=r"selection`? oracle sees the target's labels, training does not"):
        train.run(trained._replace(options=CPU._replace(selection="oracle")))
    truth = read_labels(open_dataset(trained.data / "biwi+"))[1]
    errors = [np.abs(epochs.angles[i] - from_matrix(truth)).mean() for i in range(3)]
    assert selection.find_epoch("oracle", epochs, truth, "pyr") == (int(np.argmin(errors)), selection.ORACLE_TEXT)
    with pytest.raises(SubmissionError, match="expected one of last, source-val, consistency, dev, oracle"):
        selection.find_epoch("best", epochs, truth, "pyr")


def test_another_rule_has_an_entry_of_its_own(copied, tmp_path, hpp):
    own, board = copied("padaco"), tmp_path / "board"
    predictions = own.folder / PREDICTIONS
    for words in ([], ["--selection", "oracle"], ["--selection", "dev"], ["--selection", "oracle"]):
        hpp("score", predictions, "--data", own.data, "--scoreboard", board, "--resamples", 50, *words)
    entries = [json.loads(path.read_text()) for path in board.glob("*.json")]
    said = {entry["selection"] for entry in entries}
    assert len(entries) == 3 and said == {selection.RULES["last"], selection.RULES["dev"], selection.ORACLE_TEXT}
    assert {path.name for path in predictions.parent.glob("score*")} == {
        "score.json",
        "score-oracle.json",
        "score-dev.json",
    }
    page = (board / "scoreboard.md").read_text()
    assert page.count("oracle: lowest error on the target") == 1


def test_predictions_of_epochs_that_cannot_be_scored(copied):
    own = copied("padaco")
    predictions = own.folder / PREDICTIONS
    path = predictions.with_name(selection.EPOCHS)
    whole, epochs = path.read_bytes(), selection.read_epochs(path)
    for damaged in (b"", whole[: len(whole) // 2], b"not an archive"):
        path.write_bytes(damaged)
        with pytest.raises(SubmissionError, match="expected the predictions after every epoch"):
            selection.read_epochs(path)
    selection.write_epochs(path, epochs._replace(ids=epochs.ids[::-1]))
    with pytest.raises(SubmissionError, match="score them on the data that they were made on"):
        scoring.score(predictions, own.data, rule="oracle")
    path.unlink()
    with pytest.raises(SubmissionError, match="expected the predictions after every epoch"):
        scoring.score(predictions, own.data, rule="dev")


def test_features_that_are_not_finite_are_one_line(adapting, monkeypatch):
    def broken(*arguments):
        raise torch.linalg.LinAlgError("linalg.eigh: failed to converge")

    monkeypatch.setattr(train, "adapt", broken)
    with pytest.raises(TrainingError, match="its features are no longer finite"):
        train.run(adapting)


def test_what_a_method_begins_with_does_not_depend_on_who_trained_stage_1(trained, adapting):
    torch.rand(7)
    assert train.run(adapting).read_bytes() == train.run(trained).read_bytes()


def test_consistency_is_zero_for_a_symmetric_predictor():
    angles = np.random.default_rng(0).normal(0, 20, (30, 3))
    assert selection.consistency(angles, selection.mirrored(angles)) == pytest.approx(0, abs=1e-5)
    assert selection.consistency(angles, selection.mirrored(angles + np.array([0, 5, 0]))) == pytest.approx(5, abs=0.2)


def test_deep_embedded_validation_estimates_the_target_risk():
    rng = np.random.default_rng(0)
    source, held_out, target = rng.normal(0, 1, (4000, 2)), rng.normal(0, 1, (4000, 2)), rng.normal(0.7, 1, (4000, 2))

    def risk(x):
        return np.exp(x[:, 0] / 2)  # higher where the target is

    plain, truth = risk(held_out).mean(), risk(target).mean()
    dead = [np.column_stack((part, np.full(len(part), value))) for part, value in ((source, 0), (target, 1))]
    held = np.column_stack((held_out, np.zeros(len(held_out))))
    alive = selection.deep_embedded_validation(*dead, held, risk(held_out))  # a feature that only the target has
    assert risk(held_out).min() <= alive <= risk(held_out).max()
    estimate = selection.deep_embedded_validation(source, target, held_out, risk(held_out))
    assert truth - plain > 0.3 and abs(estimate - truth) < 0.15


def test_batch_statistics_are_estimated_as_they_say(trained):
    """The predictions under target statistics are those of a network whose statistics are the target's."""
    predictions = train.run(trained._replace(method=METHODS["source-only"]))
    adabn = train.run(trained._replace(method=METHODS["adabn"]))
    under_target = read_submission(predictions.with_name("predictions-target.csv"))
    assert geodesic(under_target.rotations, read_submission(adabn).rotations).max() < 1e-3
    assert read_submission(adabn).about.uses_target_images is True
    assert read_submission(adabn).about.batch_statistics == "target"


def test_source_only_with_the_statistics_of_both_domains(trained, adapting, monkeypatch):
    """Nothing is trained; the running means are the average of those under source and under target images."""
    kept = []

    def keeping_images(*domains):
        kept[:] = [[images.clone() for images in domain] for domain in domains]
        return in_turn(*kept)

    mixed = train.run(trained._replace(method=METHODS["source-only-mixed"]))
    monkeypatch.setattr(train, "in_turn", keeping_images)
    keeping = train.run(adapting._replace(method=METHODS["source-only-mixed"]))
    about = read_submission(mixed).about
    assert about.batch_statistics == "mixed" and about.uses_target_images is True
    assert about.selection == selection.RULES["source-val"] and "epoch" not in about.run
    assert not (mixed.parent / "log.jsonl").exists()
    source, target = kept
    assert [len(images) for images in source] == [20, 20, 20] and [len(images) for images in target] == [20, 20, 8]
    stage1, found, again = (
        torch.load(folder / "model.pt", weights_only=True)["network"]
        for folder in (mixed.parents[1] / "stage1", mixed.parent, keeping.parent)
    )
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert all(torch.equal(stage1[name], found[name]) for name in stage1 if name.endswith(("weight", "bias")))
    means = [
        torch.nn.functional.conv2d(torch.cat(images)[:48], stage1["features.0.weight"], stride=2, padding=2).mean(
            (0, 2, 3)
        )
        for images in (source, target)
    ]
    assert torch.allclose(found["features.1.running_mean"], (means[0] + means[1]) / 2, atol=1e-5)
    assert (means[0] - means[1]).abs().max() > 0.01
    assert not torch.equal(*(images[0] for images in kept))
    source_only = train.run(trained._replace(method=METHODS["source-only"]))
    assert geodesic(read_submission(mixed).rotations, read_submission(source_only).rotations).mean() > 0.01


def test_clipping_is_an_option(trained, job):
    clipped = train.run(job._replace(options=CPU._replace(clip=1e-3)))
    assert clipped.read_bytes() != train.run(trained).read_bytes()


def test_determinism_is_an_option(trained, adapting):
    try:
        same = train.run(adapting._replace(options=CPU._replace(deterministic=True)))
    finally:
        torch.use_deterministic_algorithms(False)
    assert same.read_bytes() == train.run(trained).read_bytes()


def test_every_store_trains_alike(trained, job, tmp_path):
    expected = train.run(trained).read_bytes()
    for store in ("host", "stream"):
        predictions = train.run(job._replace(options=CPU._replace(store=store), out=tmp_path / store))
        assert predictions.read_bytes() == expected


def test_tensorboard_gets_the_log(adapting, records):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = train.run(adapting._replace(options=CPU._replace(tensorboard=True))).parent
    board = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    losses = [record["loss"] for record in records(folder) if "loss" in record]
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses, rel=1e-5)
    assert len(board.Scalars("domain_accuracy")) == 15 and len(board.Scalars("epoch/domain_accuracy")) == 3


def test_low_precision_stays_close(trained, job):
    full = read_submission(train.run(trained)).rotations
    half = train.run(job._replace(options=CPU._replace(half=True)))
    assert read_submission(half).about.run["precision"] == "bfloat16"
    assert 0 < geodesic(read_submission(half).rotations, full).mean() < 15


METHOD = """
import torch
from baselines.losses import pose_loss
from baselines.method import Method

class Mean(Method):
    summary = "equal feature means"
    strength = 0.1

    def loss(self, network, batch, lam):
        source, target = network(batch.images), network(batch.target)
        pose = pose_loss(source.angles, network.normalise(batch.degrees))
        distance = (source.features.mean(0) - target.features.mean(0)).square().sum()
        return pose + lam * distance, {"pose_loss": pose.detach(), "distance": distance.detach()}
"""


def test_a_method_of_ones_own_with_several_seeds(job, tmp_path, records, hpp, monkeypatch):
    (tmp_path / "mine.py").write_text(METHOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    hpp("benchmark", "--method", "mine:Mean", "--task", "pda", "--preset", "trial", "--data", job.data,
        "--device", "cpu", "--threads", 1, "--out", "runs", "--seeds", 0, 1)  # fmt: skip
    for seed in (0, 1):
        folder = tmp_path / f"runs/pda-trial-seed{seed}/mean"
        assert read_submission(folder / PREDICTIONS).about.run["method"] == "mean"
        assert any("distance" in record for record in records(folder))
    first, second = (tmp_path / f"runs/pda-trial-seed{seed}/mean" / PREDICTIONS for seed in (0, 1))
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_the_gpu(job, method):
    options, near = RunOptions(device="cuda", augment="all"), MethodSettings(threshold=1000)
    submission = read_submission(train.run(job._replace(method=METHODS[method], options=options, settings=near)))
    assert np.isfinite(submission.rotations).all()
    assert submission.about.run["device"] == torch.cuda.get_device_name()
