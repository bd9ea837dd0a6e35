import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from baselines.adversarial import DANN
from baselines.method import MethodSettings
from baselines.methods import METHODS
from benchmark.loaders import compose
from benchmark.scoring import score as scoring
from benchmark.scoring import selection
from benchmark.scoring.submission import read_submission
from benchmark.training import loop, presets, ranks
from benchmark.training import run as train
from benchmark.training.job import PREDICTIONS, RUN, Job, Options, variant
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.errors import DatasetError, HeadposeError, SubmissionError, TrainingError
from headposeplus.rotations import from_matrix, geodesic, to_matrix

FAST = presets.PRESETS["trial"]
CPU = Options(device="cpu", threads=1)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def job(built, tmp_path):
    folder, _ = built
    return Job(METHODS["padaco"], "pda", FAST, folder, tmp_path, 0, "none", MethodSettings(), CPU, "hpp ...")


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_predictions_log_and_weights(job, built):
    predictions = train.run(job)
    assert predictions == job.out / "pda-trial-seed0/padaco/predictions.csv"
    submission = read_submission(predictions)
    ids, _ = read_labels(open_dataset(job.data / "biwi+"))
    assert submission.ids.tolist() == ids.tolist() and submission.rotations.shape == (48, 3, 3)
    about = submission.about
    assert about["run"]["method"] == "padaco" and about["seed"] == 0 and about["uses_target_images"] is True
    assert (
        about["selection"] == selection.RULES["last"]
        and about["initial_weights"] == "none"
        and about["command"] == "hpp ..."
    )
    assert 0 < about["run"]["source_kept"] < 1 and 1 < about["run"]["effective_source_size"] < 1200
    assert about["run"]["epoch"] == about["run"]["epochs"] == 3 and about["batch_statistics"] == "mixed"

    steps = [record for record in records(predictions.parent) if "loss" in record]
    assert len(steps) == 15 and [record["step"] for record in steps] == list(range(15))
    assert [record["lambda"] for record in steps[:5]] == [0] * 5 and steps[-1]["lambda"] == pytest.approx(0.3)
    assert steps[7]["lambda"] == pytest.approx(0.3 * 0.4) and steps[-1]["rate"] < steps[0]["rate"] == 0.03
    ends = [record for record in records(predictions.parents[1] / "stage1") if "held_out_mae" in record]
    best = json.loads((predictions.parents[1] / "stage1/best.json").read_text())
    assert best["held_out_mae"] == pytest.approx(min(end["held_out_mae"] for end in ends)) and len(ends) == 3

    others = [read_submission(predictions.with_name(f"predictions-{kind}.csv")) for kind in train.STATISTICS]
    assert [other.about["batch_statistics"][:6] for other in others] == ["source", "target"]
    assert all(geodesic(other.rotations, submission.rotations).mean() > 0.01 for other in others)

    before = predictions.stat().st_mtime_ns
    assert train.run(job) == predictions and predictions.stat().st_mtime_ns == before


def test_source_only_is_the_best_epoch_of_stage_1(job):
    predictions = train.run(job._replace(method=METHODS["source-only"]))
    about = read_submission(predictions).about
    assert about["uses_target_images"] is False and about["batch_statistics"] == "source"
    assert not (predictions.parent / "log.jsonl").exists()


def test_training_runs_on_a_target_without_labels_and_gives_the_same(job, tmp_path):
    expected = pd.read_csv(train.run(job))
    unlabelled = tmp_path / "data"
    shutil.copytree(job.data, unlabelled)
    for path in (unlabelled / "biwi+").glob("*.h5"):
        with h5py.File(path, "a") as file:
            del file["label"]
    found = pd.read_csv(train.run(job._replace(data=unlabelled, out=tmp_path / "blind")))
    pd.testing.assert_frame_equal(found, expected)
    assert compose.Target._fields == ("store", "ids")


@pytest.mark.parametrize(
    ("method", "stage", "epoch"), [("padaco", 1, 1), ("padaco", 2, 2), ("padaco-updated", 2, 1), ("rcrw", 2, 2)]
)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(job, tmp_path, monkeypatch, method, stage, epoch):
    job = job._replace(method=METHODS[method])
    whole = train.run(job).parent
    part = job._replace(out=tmp_path / "part")
    reading = loop._read_records

    class Killed(BaseException):
        pass

    def dying(pending, among):
        if (pending[0][0]["stage"], pending[0][0]["epoch"]) == (stage, epoch):
            raise Killed
        return reading(pending, among)

    monkeypatch.setattr(loop, "_read_records", dying)
    with pytest.raises(Killed):
        train.run(part)
    monkeypatch.undo()
    resumed = train.run(part).parent
    assert (resumed / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    for folder in (method, "stage1"):
        a, b = resumed.parent / folder, whole.parent / folder
        assert (a / "log.jsonl").read_bytes() == (b / "log.jsonl").read_bytes()
        mine, theirs = (torch.load(x / "model.pt", weights_only=True)["network"] for x in (a, b))
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_stage_1_is_shared(job):
    train.run(job)
    log = job.out / "pda-trial-seed0/stage1/log.jsonl"
    before = log.stat().st_mtime_ns
    train.run(job._replace(method=METHODS["control-uniform"]))
    assert log.stat().st_mtime_ns == before
    lambdas = [r["lambda"] for r in records(job.out / "pda-trial-seed0/control-uniform") if "loss" in r]
    assert set(lambdas) == {0.0}


def test_what_stops_a_run(job, tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match="crops of 32 pixels, but the preset paper needs 224"):
        train.run(job._replace(preset=presets.PRESETS["paper"]))
    with pytest.raises(TrainingError, match="a batch of 101 is larger than an epoch of 100 images"):
        train.run(job._replace(preset=FAST._replace(batch=101), out=tmp_path / "epoch"))
    with pytest.raises(TrainingError, match="--device gpu: expected auto"):
        train.run(job._replace(options=CPU._replace(device="gpu")))
    with pytest.raises(TrainingError, match="a batch of 5000 is larger"):
        train.run(job._replace(preset=FAST._replace(batch=5000), out=tmp_path / "large"))
    with pytest.raises(DatasetError, match="build the dataset first"):
        train.run(job._replace(data=tmp_path))
    damaged = Path(shutil.copytree(job.data, tmp_path / "damaged"))
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
    with pytest.raises(HeadposeError, match="unknown preset"):
        presets.find_preset("papers")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="use --device cpu"):
            train.run(job._replace(options=CPU._replace(device="cuda")))
    train.run(job)
    note = job.out / "pda-trial-seed0/padaco" / RUN
    note.write_text(note.read_text().replace('"weights": "none"', '"weights": "imagenet"'))
    with pytest.raises(TrainingError, match="another preset, weights; choose another --out"):
        train.run(job)
    checkpoint = tmp_path / "broken/pda-trial-seed0/stage1/checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"half")
    with pytest.raises(TrainingError, match="damaged checkpoint"):
        train.run(job._replace(out=tmp_path / "broken"))


def test_a_loss_that_is_not_finite_stops_with_its_record(job):
    wild = FAST._replace(stage1_rate=1e30, stage1_optimizer="sgd")
    with pytest.raises(TrainingError, match=r"the loss is not finite.*'stage': 1, 'epoch': 0"):
        train.run(job._replace(preset=wild))


def test_seeds_differ_and_repeat(job, tmp_path):
    first = train.run(job).read_bytes()
    assert train.run(job._replace(out=tmp_path / "again")).read_bytes() == first
    assert train.run(job._replace(seed=1)).read_bytes() != first


def test_the_checkpoint_of_another_run_is_refused(job, tmp_path):
    dann = train.run(job._replace(method=METHODS["dann"])).parent
    other = dann.with_name("control-uniform")
    other.mkdir()
    shutil.copy(dann / loop.CHECKPOINT, other)
    with pytest.raises(TrainingError, match="the checkpoint of another run"):
        train.run(job._replace(method=METHODS["control-uniform"]))


def test_what_stops_the_second_stage(job, tmp_path, monkeypatch):
    class Nothing(DANN):
        name = "nothing"

        def sampling(self, epoch, look):
            return np.zeros(len(look.angles))

    with pytest.raises(TrainingError, match=r"nothing: expected 1.* probabilities that are not negative"):
        train.run(job._replace(method=Nothing))
    train.run(job._replace(method=METHODS["source-only"]))
    loading = train.load_target

    def few(count):
        def load_few(*arguments):
            target = loading(*arguments)
            return target._replace(ids=target.ids[:count])

        return load_few

    for count, says in ((1, "1 target images; dann normalises by batches"), (19, "a batch of 20 is larger than the")):
        monkeypatch.setattr(train, "load_target", few(count))
        with pytest.raises(TrainingError, match=says):
            train.run(job._replace(method=METHODS["dann"]))

    def full(*arguments):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(train, "load_target", full)
    with pytest.raises(TrainingError, match="out of memory; choose --store stream, which goes on where it was"):
        train.run(job._replace(method=METHODS["dann"]))
    monkeypatch.undo()
    assert train.run(job._replace(method=METHODS["dann"])).exists()  # nothing was lost


def test_without_backgrounds_it_says_so(job, tmp_path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(job.data, bare)
    (bare / "synhead+/backgrounds.h5").unlink()
    about = read_submission(train.run(job._replace(data=bare, method=METHODS["source-only"]))).about
    assert "SynHead came without backgrounds" in capsys.readouterr().err and about["run"]["backgrounds"] == 0


def test_settings_have_folders_of_their_own(job):
    train.run(job)
    one = train.run(job._replace(settings=MethodSettings(neighbours=1)))
    assert one.parent.name == "padaco-neighbours1"
    assert one.read_bytes() != (one.parents[1] / "padaco" / PREDICTIONS).read_bytes()
    assert variant("my.module:Mine", MethodSettings(highest_lambda=0.5)) == "my.module-Mine-highest_lambda0.5"


def test_rules_of_selection_agree_with_the_records(job):
    predictions = train.run(job)
    epochs = selection.read_epochs(predictions.with_name(selection.EPOCHS))
    ends = [record for record in records(predictions.parent) if record.get("epoch_end")]
    assert epochs.angles.shape == (3, 48, 3) and epochs.probabilities.sum() == pytest.approx(1, abs=1e-5)
    for rule in ("source-val", "consistency", "dev"):
        assert epochs.criteria[rule] == pytest.approx([end[rule] for end in ends], abs=1e-5)
        other = train.run(job._replace(options=CPU._replace(selection=rule)))
        chosen = int(np.argmin(epochs.criteria[rule]))
        submission = read_submission(other)
        assert other.parent.name == f"padaco-{rule}" and submission.about["run"]["epoch"] == chosen + 1
        assert geodesic(submission.rotations, to_matrix(epochs.angles[chosen])).max() < 1e-3
    official = read_submission(predictions)
    assert geodesic(official.rotations, to_matrix(epochs.angles[-1])).max() < 1e-3
    with pytest.raises(TrainingError, match="--selection oracle sees the target's labels, training does not"):
        train.run(job._replace(options=CPU._replace(selection="oracle")))
    truth = read_labels(open_dataset(job.data / "biwi+"))[1]
    errors = [np.abs(epochs.angles[i] - from_matrix(truth)).mean() for i in range(3)]
    assert selection.find_epoch("oracle", epochs, truth, "pyr") == (int(np.argmin(errors)), selection.ORACLE_TEXT)
    with pytest.raises(SubmissionError, match="expected one of last, source-val, consistency, dev, oracle"):
        selection.find_epoch("best", epochs, truth, "pyr")


def test_another_rule_has_an_entry_of_its_own(job, tmp_path, hpp):
    predictions, board = train.run(job), tmp_path / "board"
    for words in ([], ["--selection", "oracle"], ["--selection", "dev"], ["--selection", "oracle"]):
        hpp("score", predictions, "--data", job.data, "--scoreboard", board, *words)
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


def test_predictions_of_epochs_that_cannot_be_scored(job, tmp_path):
    predictions = train.run(job)
    path = predictions.with_name(selection.EPOCHS)
    whole, epochs = path.read_bytes(), selection.read_epochs(path)
    for damaged in (b"", whole[: len(whole) // 2], b"not an archive"):
        path.write_bytes(damaged)
        with pytest.raises(SubmissionError, match="expected the predictions after every epoch"):
            selection.read_epochs(path)
    selection.write_epochs(path, epochs._replace(ids=epochs.ids[::-1]))
    with pytest.raises(SubmissionError, match="score them on the data that they were made on"):
        scoring.score(predictions, job.data, rule="oracle")
    path.unlink()
    with pytest.raises(SubmissionError, match="expected the predictions after every epoch"):
        scoring.score(predictions, job.data, rule="dev")


def test_features_that_are_not_finite_are_one_line(job, monkeypatch):
    def broken(*arguments):
        raise torch.linalg.LinAlgError("linalg.eigh: failed to converge")

    monkeypatch.setattr(train, "_stage2", broken)
    with pytest.raises(TrainingError, match="its features are no longer finite"):
        train.run(job)


def test_what_a_method_begins_with_does_not_depend_on_who_trained_stage_1(job, tmp_path):
    alone = train.run(job).read_bytes()
    after = job._replace(out=tmp_path / "after")
    train.run(after._replace(method=METHODS["source-only"]))
    torch.rand(7)
    assert train.run(after).read_bytes() == alone


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


def test_batch_statistics_are_estimated_as_they_say(job):
    """The predictions under target statistics are those of a network whose statistics are the target's."""
    predictions = train.run(job._replace(method=METHODS["source-only"]))
    adabn = train.run(job._replace(method=METHODS["adabn"]))
    found = read_submission(predictions.with_name("predictions-target.csv"))
    assert geodesic(found.rotations, read_submission(adabn).rotations).max() < 1e-3
    assert read_submission(adabn).about["uses_target_images"] is True
    assert read_submission(adabn).about["batch_statistics"] == "target"


def test_clipping_and_determinism_are_options(job, tmp_path):
    clipped = train.run(job._replace(options=CPU._replace(clip=1e-3), out=tmp_path / "clipped"))
    assert clipped.read_bytes() != train.run(job).read_bytes()
    try:
        same = train.run(job._replace(options=CPU._replace(deterministic=True), out=tmp_path / "deterministic"))
    finally:
        torch.use_deterministic_algorithms(False)
    assert same.read_bytes() == train.run(job).read_bytes()


def test_every_store_trains_alike(job, tmp_path):
    expected = train.run(job).read_bytes()
    for store in ("host", "stream"):
        found = train.run(job._replace(options=CPU._replace(store=store), out=tmp_path / store))
        assert found.read_bytes() == expected


def test_tensorboard_gets_the_log(job):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = train.run(job._replace(options=CPU._replace(tensorboard=True))).parent
    board = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    losses = [record["loss"] for record in records(folder) if "loss" in record]
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses, rel=1e-5)


def test_low_precision_stays_close(job, tmp_path):
    full = read_submission(train.run(job)).rotations
    half = train.run(job._replace(options=CPU._replace(half=True), out=tmp_path / "half"))
    assert read_submission(half).about["run"]["precision"] == "bfloat16"
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


def command(job, *words, ranks_of=1, **environment):
    """The command line of a run, and what it takes to start it."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks_of), "--master-port", str(free_port())]
    start = [sys.executable, *(torchrun if ranks_of > 1 else []), "-m", "benchmark"]
    options = ["--task", "pda", "--preset", "trial", "--data", str(job.data), "--device", "cpu", "--threads", "1"]
    root = str(Path(__file__).resolve().parents[3])
    return [*start, "benchmark", *options, *words], os.environ | {"PYTHONPATH": root} | environment


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_a_method_of_ones_own_with_several_seeds(job, tmp_path):
    (tmp_path / "mine.py").write_text(METHOD)
    words, environment = command(job, "--method", "mine:Mean", "--out", "runs", "--seeds", "0", "1")
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        folder = tmp_path / f"runs/pda-trial-seed{seed}/mean"
        assert read_submission(folder / PREDICTIONS).about["run"]["method"] == "mean"
        assert any("distance" in record for record in records(folder))


@pytest.mark.slow
def test_kill_dash_nine(job, tmp_path):
    """A run that is killed from outside ends as an uninterrupted one when it is started again."""
    whole = train.run(job).parent
    words, environment = command(job, "--method", "padaco", "--out", str(tmp_path / "killed"))
    base = tmp_path / "killed/pda-trial-seed0"
    for sign in (base / "stage1" / loop.LOG, base / "stage1" / loop.CHECKPOINT, base / "padaco" / loop.CHECKPOINT):
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and not sign.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (base / "padaco" / PREDICTIONS).exists()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = tmp_path / "killed/pda-trial-seed0/padaco"
    for name in ("predictions.csv", "log.jsonl"):
        assert (found / name).read_bytes() == (whole / name).read_bytes()
    mine, theirs = (torch.load(x / "model.pt", weights_only=True)["network"] for x in (found, whole))
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


LEAVING = """
import os
import torch
from baselines.adversarial import PADACO

class Leaving(PADACO):
    name = "leaving"

    def finish(self, network, target):
        torch.save({**network.state_dict(), **self.state_dict()}, f"rank{os.environ['RANK']}.pt")
"""


@pytest.mark.slow
def test_two_processes_draw_the_same_images_and_end_with_equal_weights(job, tmp_path):
    (tmp_path / "leave.py").write_text(LEAVING)
    words, environment = command(job, "--method", "leave:Leaving", "--out", str(tmp_path / "two"), ranks_of=2)
    words += ["--seeds", "0", "1"]  # two runs by the same two processes
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("predictions ") == 2  # the first process speaks for both
    mine, theirs = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
    two, one = tmp_path / "two/pda-trial-seed0", train.run(job).parents[1]
    for ours, alone in (("stage1", "stage1"), ("leaving", "padaco")):
        mine, theirs = records(two / ours), records(one / alone)
        assert len(mine) == len(theirs)
        if ours == "stage1":  # later draws depend on predictions, which differ a little
            drawn = [[r["drawn"] for r in found if "drawn" in r] for found in (mine, theirs)]
            assert drawn[0] == drawn[1] and len(drawn[0]) == 3
    assert read_submission(two / "leaving" / PREDICTIONS).about["run"]["processes"] == 2


def test_ranks_share_a_batch():
    rows = np.arange(21)
    shares = [ranks.Ranks(rank, 4).share(rows) for rank in range(4)]
    assert sorted(np.concatenate(shares)) == rows.tolist() and max(map(len, shares)) - min(map(len, shares)) == 1


def gloo(rank, port, folder):
    """One of two processes that train a step together; each leaves its weights."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    here = ranks.Ranks(rank, 2, rank)
    with ranks.connected(here, torch.device("cpu")):
        torch.manual_seed(rank)  # so that they begin apart
        network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        ranks.same(here, network)
        trained = nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)
        images = here.share(np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32))
        trained(torch.from_numpy(images)).square().mean().backward()
        own = {name: value.clone() for name, value in network[1].named_buffers()}
        ranks.average_statistics(here, network)
        gradients = [parameter.grad for parameter in network.parameters()]
        mean = ranks.mean(here, torch.tensor([1.0 + rank, np.nan if rank else 1.0]))
        torch.save([network.state_dict(), gradients, own, mean, images], Path(folder) / f"{rank}.pt")


@pytest.mark.slow
def test_gradients_and_statistics_are_averages_over_the_ranks(tmp_path):
    torch.multiprocessing.spawn(gloo, (free_port(), str(tmp_path)), nprocs=2)
    (a, b) = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    assert all(torch.equal(a[0][key], b[0][key]) for key in a[0])
    for name in ("running_mean", "running_var"):
        assert torch.allclose(a[0][f"1.{name}"], (a[2][name] + b[2][name]) / 2)
        assert not torch.allclose(a[2][name], b[2][name])
    assert a[3][0] == b[3][0] == 1.5 and a[3][1].isnan() and b[3][1].isnan()
    # By hand: the mean of the gradients of both shares, each normalised by itself.
    expected = []
    for images in (a[4], b[4]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        network(torch.from_numpy(images)).square().mean().backward()
        expected.append([parameter.grad for parameter in network.parameters()])
    for found, one, two in zip(a[1], *expected, strict=True):
        assert torch.allclose(found, (one + two) / 2, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_run_on_the_gpu(job):
    about = read_submission(train.run(job._replace(options=Options(device="cuda")))).about
    assert about["run"]["device"] == torch.cuda.get_device_name()
