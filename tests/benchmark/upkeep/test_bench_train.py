import gc
import itertools
import json
import shutil
import threading
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from baselines.method import DomainBatch, Method, MethodSettings
from baselines.networks import make_network
from benchmark.loaders import compose
from benchmark.loaders.open import STORES
from benchmark.studies.records import read_record
from benchmark.training import loop
from benchmark.training.draws import endless
from benchmark.training.loop import Step, make_trainer
from benchmark.training.presets import find_preset
from benchmark.upkeep import bench_train
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.images import decode, encode
from tests.digests import sign

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few rounds, on one core; and no thread may be left."""
    monkeypatch.setattr(bench_train, "ROUNDS", 2)
    monkeypatch.setattr(bench_train, "cores", lambda: 1)
    monkeypatch.setattr(bench_train, "LABELS", 3000)
    monkeypatch.setattr(bench_train, "PREDICTIONS", 200)
    torch.set_num_threads(1)
    before = set(threading.enumerate())
    yield
    if not set(threading.enumerate()) <= before:  # a store that waits to be collected may hold one
        gc.collect()
    assert set(threading.enumerate()) <= before


def opened(folder, kind="device"):
    """Source, target and composer of the miniature."""
    source = compose.load_source(open_dataset(folder / "synhead++"), CPU, kind, 1)
    target = compose.load_target(open_dataset(folder / "biwi+"), CPU, kind, 1)
    return bench_train.LoadedData(source, target, compose.Composer(source, CPU, 0))


@pytest.mark.parametrize("store", STORES[1:])
def test_bench_train_measures_what_it_says(built, tmp_path, hpp, monkeypatch, store):
    folder, kept = built[0], tmp_path / "train.json"
    text = hpp("bench", "train", "--data", folder, "--preset", "trial", "--batch", 10, "--seconds", 0.05,
               "--device", "cpu", "--store", store, "--json", kept).output  # fmt: skip
    record = json.loads(kept.read_text())
    figures = read_record(kept, bench_train.TrainFigures, "figures")
    assert [stage["stage"] for stage in record["stages"]] == [1, 2]
    for stage in record["stages"]:
        real, resident = stage["images_a_second"], stage["resident_images_a_second"]
        assert len(real) == len(resident) == 2 and min(real + resident) > 0 and np.isfinite(real + resident).all()
        ratios = [a / b for a, b in zip(real, resident, strict=True)]
        assert stage["ratio"] == pytest.approx(np.median(ratios), abs=0.01) and 0 < stage["idle"] < 1
        assert f"{np.median(real):,.0f}" in text and f"{stage['ratio']:.2f}" in text
    at_first = [stage["images_a_second_at_first"] for stage in record["stages"]]
    assert not at_first[0] and len(at_first[1]) == 2 and min(at_first[1]) > 0
    totals = {name: sum(1 for _ in read_labels(open_dataset(folder / name))[0])
              for name in ("synhead++", "biwi+")}  # fmt: skip
    assert record["source"] == {"dataset": "synhead++", "crops": totals["synhead++"], "store": store}
    assert record["target"] == {"dataset": "biwi+", "crops": totals["biwi+"], "store": store}
    assert set(record["weights_seconds"]) == {"padaco", "pada-like"}
    assert all(0 < value < np.inf for value in record["weights_seconds"].values())
    assert "slim in float32, crops of 32 pixels" in text and f"{totals['synhead++']:,} of synhead++" in text
    assert f"synhead++ came from its {store} store, biwi+ from its {store} store" in text
    assert "10 images a domain" in text and "3,000 source labels and 200 predictions" in text
    monkeypatch.setenv("COLUMNS", "1000")  # as in the fixture
    assert bench_train.describe_train(figures) in text
    assert bench_train.describe_train(figures, "github").startswith("| stage")


@pytest.mark.parametrize("kind", STORES[1:])
def test_stage_1_is_fed_whole_passes_of_composed_source_images(built, kind):
    made = opened(built[0], kind)
    count = len(made.source.store)
    fed = list(itertools.islice(bench_train.batches(made, 1, 20, seed=4), count // 20))
    # Each batch is of the rows that its labels say; the rows are taken from the plan, and composed by hand.
    plan = list(itertools.islice(endless(np.random.default_rng([4, 1]), count, 20), len(fed)))
    assert len(np.unique(np.concatenate(plan))) == 20 * len(fed)
    for rows, batch in list(zip(plan, fed, strict=True))[:3]:
        images, _ = made.composer.source(rows, *made.source.store.gather(rows), 0)
        assert torch.equal(batch.images, images) and not len(batch.target)
        assert np.allclose(batch.degrees, made.source.angles[rows], atol=1e-4)


def test_stage_2_is_fed_drawn_source_and_passes_of_target_images(built):
    made = opened(built[0])
    count = len(made.target.ids)
    fed = list(itertools.islice(bench_train.batches(made, 2, 12, seed=4), count // 12))
    targets = torch.cat([batch.target for batch in fed])
    every = made.composer.target(made.target.store.gather(np.arange(count))[0])
    distances = torch.cdist(targets.flatten(1), every.flatten(1))
    assert len(set(distances.argmin(1).tolist())) == len(targets) and distances.amin(1).max() < 0.1
    assert all(batch.images.shape == batch.target.shape == (12, 3, 32, 32) for batch in fed)
    assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in fed)


def test_the_resident_batch_stays_as_it_is(built):
    """What the composer lends out again is not what the resident batch holds."""
    real = bench_train.batches(opened(built[0]), 2, 10, seed=0)
    first = next(real)
    kept = [tensor.clone() for tensor in first]
    for _ in range(6):
        next(real)
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


@pytest.mark.parametrize("stage", [1, 2])
def test_a_step_trains_all_there_is(built, stage):
    made = opened(built[0])
    trainer = bench_train.make_stage(stage, find_preset("miniature"), made, CPU)
    step = trainer.step
    before = {name: parameter.clone() for name, parameter in step.named_parameters()}
    loop.take(trainer, next(bench_train.batches(made, stage, 10, 0)), bench_train.LAMBDA)
    assert any("discriminator" in name for name in before) == (stage == 2)
    # A bias before a batch normalisation has no gradient.
    same = [name for name, parameter in step.named_parameters() if torch.equal(parameter, before[name])]
    assert set(same) <= {"method.discriminator.0.bias"}
    assert np.allclose(step.network.angle_std, made.source.angles.std(axis=0), atol=1e-4)


def test_rate_and_share_without_a_step_are_of_the_same_time(monkeypatch):
    """With a clock that a batch moves by 3 s and a step by 1 s."""
    now = [0.0]
    monkeypatch.setattr(bench_train, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def fed():
        while True:
            now[0] += 3
            yield DomainBatch(torch.zeros(5, 3, 8, 8), torch.zeros(5, 3), torch.zeros(2, 3, 8, 8))

    class Slow(Method):
        def loss(self, network, batch, lam):
            now[0] += 1
            return network(batch.images).angles.sum(), {}

    trainer = make_trainer(Step(make_network("slim"), Slow(MethodSettings())), "sgd", 0.0, 0.0)
    rate, share = bench_train.measure(fed(), trainer, 0.0, 40)
    assert rate == pytest.approx(7 / 4) and share == pytest.approx(3 / 4)
    assert now[0] == 4 * (bench_train.WARM + 10)
    bench_train.measure(fed(), trainer, 0.0, 0.01)  # too short for the least number of steps
    assert now[0] == 4 * (2 * bench_train.WARM + 10 + bench_train.LEAST_STEPS)


def test_weights_are_timed_on_poses_of_heads(monkeypatch):
    seen = []
    for name in ("padaco", "pada_like"):
        monkeypatch.setattr(bench_train.weights, name, lambda *given: seen.append(given))
    assert list(bench_train.weights_seconds(3)) == ["padaco", "pada-like"]
    assert len(seen) == 6 and all(given[0] is seen[0][0] for given in seen)
    source, predictions = seen[0]
    assert source.shape == (3000, 3) and predictions.shape == (200, 3)
    assert np.allclose(source.std(axis=0), [23, 31, 11], rtol=0.1) and np.abs(source.mean(axis=0)).max() < 3


@pytest.fixture(scope="module")
def lossless(built, tmp_path_factory):
    """The datasets with PNG in place of the JPEG of SynBiwi+."""
    folder = shutil.copytree(built[0], tmp_path_factory.mktemp("lossless") / "data")
    for path in (folder / "synbiwi+").glob("shard-*.h5"):
        with h5py.File(path, "r+") as file:
            stored, offset = file["image/bytes"][...], file["image/offset"][...]
            crops = [decode(stored[a:b]) for a, b in itertools.pairwise(offset)]
            encoded = [np.frombuffer(encode(crop, lossless=True), np.uint8) for crop in crops]
            del file["image/bytes"], file["image/offset"]
            file["image/bytes"] = np.concatenate(encoded)
            file["image/offset"] = np.cumsum([0] + [len(data) for data in encoded])
    return sign(folder)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--data", "{tmp}"], "{tmp}/synhead++/dataset.json: no such file; build the dataset first"),
        (["train", "--data", "{data}", "--preset", "none"], "unknown preset 'none': expected one of paper"),
        (["train", "--data", "{data}", "--batch", "40000"], "synhead++: holds"),
        (
            ["train", "--data", "{data}", "--batch", "49"],
            "{data}/biwi+: holds 48 images, fewer than a batch of 49; low",
        ),
        (["train", "--data", "{data}", "--device", "gpu"], "--device gpu: expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_bad_input_is_one_line(built, tmp_path, hpp, arguments, says):
    names = {"tmp": tmp_path, "data": built[0]}
    given = [argument.format(**names) for argument in arguments]
    given += [] if "--device" in given else ["--device", "cpu"]
    output = hpp("bench", *given, expect=1).output
    lines = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and says.format(**names) in lines[0] and "Traceback" not in output


def test_crops_of_two_sizes_are_one_line(built, tmp_path, hpp):
    folder = shutil.copytree(built[0], tmp_path / "data")
    info = json.loads((folder / "biwi+/dataset.json").read_text())
    info["parameters"]["size"] = 24
    (folder / "biwi+/dataset.json").write_text(json.dumps(info))
    output = hpp("bench", "train", "--data", folder, "--device", "cpu", expect=1).output
    assert output.startswith(f"Error: {folder}: source crops of 32 and target crops of 24 pixels; build both")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("command", [("loader", "--raw", "raw"), ("train",)])
def test_an_absent_gpu_is_one_line(built, hpp, command):
    output = hpp("bench", *command, "--data", built[0], "--device", "cuda", expect=1).output
    assert output == "Error: --device cuda: this machine has no GPU that torch can use; use --device cpu\n"


def test_lossless_crops_train_as_well(lossless, monkeypatch):
    monkeypatch.setattr(bench_train, "ROUNDS", 1)
    figures = bench_train.bench_train(lossless, "da", "trial", None, 0.01, "cpu", "stream")
    assert figures.source.dataset == "synbiwi+" and figures.batch == 20
    assert all(stage.ratio > 0 for stage in figures.stages)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("store", STORES[1:])
def test_bench_train_on_a_gpu(built, store):
    figures = bench_train.bench_train(built[0], "pda", "trial", 20, 0.05, "cuda", store)
    assert figures.precision == "bfloat16" and figures.device != "cpu"
    for stage in figures.stages:
        assert stage.ratio > 0 and 0 < stage.idle < 1
    assert figures.device in bench_train.describe_train(figures)
