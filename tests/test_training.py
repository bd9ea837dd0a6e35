import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from baselines.methods import METHODS, Settings
from benchmark import data, presets, train
from benchmark.submission import read_submission
from headposeplus import shards
from headposeplus.errors import DatasetError, HeadposeError, TrainingError
from headposeplus.images import encode

FAST = presets.PRESETS["miniature"]._replace(
    batch=20, epoch_samples=100, stage1_epochs=3, warm=1, ramp=1, hold={"da": 1, "pda": 1}
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def job(built, tmp_path):
    folder, _ = built
    return train.Job(METHODS["padaco"], "pda", FAST, folder, tmp_path, 0, "none", Settings(), "cpu", "hpp ...")


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_predictions_log_and_weights(job, built):
    predictions = train.run(job)
    assert predictions == job.out / "pda-miniature-seed0/padaco/predictions.csv"
    submission = read_submission(predictions)
    ids, _ = shards.read_labels(shards.open_dataset(job.data / "biwi+"))
    assert submission.ids.tolist() == ids.tolist() and submission.rotations.shape == (48, 3, 3)
    about = submission.about
    assert about["method"] == "padaco" and about["seed"] == 0 and about["uses_target_images"] is True
    assert (
        about["selection"] == train.SELECTION and about["initial_weights"] == "none" and about["command"] == "hpp ..."
    )
    assert 0 < about["source_kept"] < 1 and 1 < about["effective_source_size"] < 1200

    steps = [record for record in records(predictions.parent) if "loss" in record]
    assert len(steps) == 15 and [record["step"] for record in steps] == list(range(15))
    assert [record["lambda"] for record in steps[:5]] == [0] * 5 and steps[-1]["lambda"] == pytest.approx(0.3)
    assert steps[7]["lambda"] == pytest.approx(0.3 * 0.4) and steps[-1]["rate"] < steps[0]["rate"] == 0.03
    ends = [record for record in records(predictions.parents[1] / "stage1") if "held_out_mae" in record]
    best = json.loads((predictions.parents[1] / "stage1/best.json").read_text())
    assert best["held_out_mae"] == min(end["held_out_mae"] for end in ends) and len(ends) == 3

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
    assert data.Target._fields == ("crops", "ids")


@pytest.mark.parametrize(("stage", "epoch"), [(1, 1), (2, 2)])
def test_a_killed_run_goes_on_as_if_it_had_not_been(job, tmp_path, monkeypatch, stage, epoch):
    whole = train.run(job).parent
    part = job._replace(out=tmp_path / "part")
    reading = train._read_records

    class Killed(BaseException):
        pass

    def dying(pending):
        if (pending[0][0]["stage"], pending[0][0]["epoch"]) == (stage, epoch):
            raise Killed
        return reading(pending)

    monkeypatch.setattr(train, "_read_records", dying)
    with pytest.raises(Killed):
        train.run(part)
    monkeypatch.undo()
    resumed = train.run(part).parent
    assert (resumed / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    for folder in ("padaco", "stage1"):
        a, b = resumed.parent / folder, whole.parent / folder
        assert (a / "log.jsonl").read_bytes() == (b / "log.jsonl").read_bytes()
        mine, theirs = (torch.load(x / "model.pt", weights_only=True)["network"] for x in (a, b))
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_stage_1_is_shared(job):
    train.run(job)
    log = job.out / "pda-miniature-seed0/stage1/log.jsonl"
    before = log.stat().st_mtime_ns
    train.run(job._replace(method=METHODS["control-uniform"]))
    assert log.stat().st_mtime_ns == before
    lambdas = [r["lambda"] for r in records(job.out / "pda-miniature-seed0/control-uniform") if "loss" in r]
    assert set(lambdas) == {0.0}


def test_what_stops_a_run(job, tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match="crops of 32 pixels, but the preset paper needs 224"):
        train.run(job._replace(preset=presets.PRESETS["paper"]))
    with pytest.raises(TrainingError, match="a batch of 101 is larger than an epoch of 100 images"):
        train.run(job._replace(preset=FAST._replace(batch=101), out=tmp_path / "epoch"))
    with pytest.raises(TrainingError, match="--device gpu: expected auto"):
        train.run(job._replace(device="gpu"))
    with pytest.raises(TrainingError, match="a batch of 5000 is larger"):
        train.run(job._replace(preset=FAST._replace(batch=5000), out=tmp_path / "large"))
    with pytest.raises(DatasetError, match="build the dataset first"):
        train.run(job._replace(data=tmp_path))
    with pytest.raises(HeadposeError, match="unknown preset"):
        presets.find_preset("papers")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="use --device cpu"):
            train.run(job._replace(device="cuda"))
    train.run(job)
    with pytest.raises(TrainingError, match="another settings; choose another --out"):
        train.run(job._replace(settings=Settings(neighbours=3)))
    checkpoint = tmp_path / "broken/pda-miniature-seed0/stage1/checkpoint.pt"
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


def test_keyed_random_depends_on_its_keys_alone():
    numbers = data.keyed_random(3, 5, np.arange(20_000), 3)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert numbers.mean(axis=0) == pytest.approx([0.5] * 3, abs=0.01)
    assert np.abs(np.corrcoef(numbers.T) - np.eye(3)).max() < 0.03
    assert np.abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.03
    some = np.array([7, 3, 19_999])
    assert (data.keyed_random(3, 5, some, 3) == numbers[some]).all()
    for seed, epoch in ((4, 5), (3, 6)):
        assert (
            np.abs(np.corrcoef(data.keyed_random(seed, epoch, np.arange(20_000), 1)[:, 0], numbers[:, 0])[0, 1]) < 0.03
        )


def test_sampler_draws_by_the_stated_probabilities():
    probabilities = np.array([0.5, 0.25, 0.25, 0])
    drawn = data.draw(np.random.default_rng(0), probabilities, 20_000)
    assert np.bincount(drawn, minlength=4) / 20_000 == pytest.approx(probabilities, abs=0.012)
    batches = data.endless(np.random.default_rng(0), 7, 3)
    seen = np.concatenate([next(batches) for _ in range(7)])
    assert (np.bincount(seen) == 3).all()
    with pytest.raises(TrainingError, match="lower --batch"):
        next(data.endless(np.random.default_rng(0), 7, 8))


def test_batches_keep_the_head_and_draw_a_background(built):
    folder, _ = built
    source = data.load_source(shards.open_dataset(folder / "synhead++"))
    composer = data.Composer(source, torch.device("cpu"), seed=1)
    indices = np.array([0, 5, 17, len(source.angles) - 1])
    images, angles = composer.source(indices, epoch=2)
    assert images.shape == (4, 3, 32, 32) and angles.numpy() == pytest.approx(source.angles[indices], abs=1e-4)
    pixels = images * composer._std + composer._mean
    crops = source.crops.gather(indices)
    again, _ = composer.source(indices[::-1].copy(), epoch=2)
    assert torch.equal(again.flip(0), images)
    assert not torch.equal(composer.source(indices, epoch=3)[0], images)
    for i, index in enumerate(indices):
        mask = np.unpackbits(source.masks[index])[: 32 * 32].reshape(32, 32).astype(bool)
        shown = pixels[i].permute(1, 2, 0).numpy()
        assert np.abs(shown[mask] - crops[i][mask]).max() < 0.01
        behind = [
            np.abs(shown[~mask] - b[y : y + 32, x : x + 32][~mask]).max()
            for b in source.backgrounds for y in range(33) for x in range(33)
        ]  # fmt: skip
        assert min(behind) < 0.01  # one crop of one background, exactly
    # Mask and crop are aligned: the colours inside are the head's own, those outside were bled.
    assert 0.2 < np.mean(np.unpackbits(source.masks[0])[: 32 * 32]) < 0.95


def test_without_backgrounds_the_colour_is_plain(built):
    folder, _ = built
    source = data.load_source(shards.open_dataset(folder / "synhead+"))
    bare = source._replace(backgrounds=source.backgrounds[:0])
    images, _ = data.Composer(bare, torch.device("cpu"), 0).source(np.arange(3), 0)
    mask = np.unpackbits(source.masks[0])[: 32 * 32].reshape(32, 32).astype(bool)
    outside = images[0].permute(1, 2, 0).numpy()[~mask]
    assert np.ptp(outside, axis=0) == pytest.approx([0, 0, 0], abs=1e-6)


def test_crops_are_the_same_decoded_once_or_for_each_batch(monkeypatch):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (9, 8, 8, 3), np.uint8)
    groups = [[encode(p, lossless=True) for p in part] for part in (pictures[:4], pictures[4:])]
    encoded = [np.concatenate(group) for group in groups]
    offsets = [np.concatenate(([0], np.cumsum([len(p) for p in group]))) for group in groups]
    order = np.array([8, 0, 3, 4, 4])
    for free in (1 << 40, 0):
        monkeypatch.setattr(data, "_free_memory", lambda free=free: free)
        crops = data.Crops(encoded, offsets, 8, threads=2)
        assert len(crops) == 9 and (crops.gather(order) == pictures[order]).all()
        assert (crops._decoded is None) == (free == 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_run_on_the_gpu(job):
    about = read_submission(train.run(job._replace(device="cuda"))).about
    assert about["device"] == torch.cuda.get_device_name()
