"""What training and scoring read, damaged: one line says so, and a run mended as told ends in the same bytes."""

import io
import random
import re
import shutil

import h5py
import numpy as np
import pytest
import torch

from benchmark.scoring import selection
from benchmark.training import run as train
from benchmark.training.checkpoint import CHECKPOINT, load, save
from benchmark.training.job import MODEL, PREDICTIONS
from benchmark.training.log import LOG, read_log
from benchmark.training.settings import RUN
from headposeplus.errors import HeadposeError, TrainingError
from tests.digests import sign

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
STAGE1 = f"../stage1/{MODEL}"


@pytest.fixture
def stopped(copied):
    """A job that was stopped at the end of its last epoch."""
    job = copied("padaco")
    (job.folder / PREDICTIONS).unlink()
    return job


def benchmark(hpp, job, expect=0):
    words = ["--preset", "trial", "--device", "cpu", "--threads", 1, "--weights", "none"]
    done = hpp(
        "benchmark", "--method", "padaco", "--task", "pda", "--data", job.data, "--out", job.out, *words, expect=expect
    )
    return done.output


def only_error(output):
    (line,) = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in output and output.endswith(line + "\n")
    return line


def flip(path, at=0.5, bit=6):
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1 << bit
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


def emptied(path):
    path.write_bytes(b"")


def saved(change):
    """A damage that torch's checksums do not show: what a file holds, changed and saved again."""

    def damage(path):
        states = torch.load(path, weights_only=True)
        states = change(states) or states
        torch.save(states, path)

    return damage


def put(*names, value):
    """Put a value, or what it makes of the one that was there, into nested states; None takes it out."""

    def change(states):
        for name in names[:-1]:
            states = states[name]
        if value is None:
            del states[names[-1]]
        else:
            states[names[-1]] = value(states[names[-1]]) if callable(value) else value

    return saved(change)


def spoilt(tensor):
    return tensor.clone().index_fill_(0, torch.tensor([0]), float("nan"))


DAMAGED = {
    "a bit of the weights": (CHECKPOINT, flip, "has not its checksum"),
    "cut": (CHECKPOINT, cut, "damaged"),
    "empty": (CHECKPOINT, emptied, "damaged"),
    "no states": (CHECKPOINT, saved(lambda states: [1, 2]), "another version"),
    "version": (CHECKPOINT, put("version", value=3), "another version"),
    "no run": (CHECKPOINT, put("run", value=None), "the checkpoint of another run"),
    "epoch -5": (CHECKPOINT, put("place", "epochs", value=-5), "place: -5 of 3 epochs"),
    "epoch 99": (CHECKPOINT, put("place", "epochs", value=99), "place: 99 of 3 epochs"),
    "epoch 1.5": (CHECKPOINT, put("place", "epochs", value=1.5), "place.epochs: expected int, found float"),
    "place": (CHECKPOINT, put("place", value=[1, 2]), "place: other names"),
    "log -1": (CHECKPOINT, put("place", "log", value=-1), "a log of -1 bytes"),
    "no method": (CHECKPOINT, put("method", value=None), "damaged .'method'"),
    "no optimizer": (CHECKPOINT, put("optimizer", "state", value={}), "optimizer: it remembers nothing"),
    "optimizer": (CHECKPOINT, put("optimizer", "state", 0, "momentum_buffer", value=torch.ones(2)), "optimizer.0.mom"),
    "rates": (CHECKPOINT, put("optimizer", "param_groups", 0, "lr", value="fast"), "expected float, found str"),
    "groups": (CHECKPOINT, put("optimizer", "param_groups", value=[]), "optimizer: expected 1 values"),
    "waited": (CHECKPOINT, put("stage", "waited", value=-1), "stage: waited -1 epochs"),
    "a word": (CHECKPOINT, put("stage", "waited", value="long"), "stage.waited: expected int, found str"),
    "accuracy": (CHECKPOINT, put("stage", "accuracy", value=float("nan")), "stage.accuracy: nan"),
    "angles": (CHECKPOINT, put("stage", "angles", value=spoilt), "stage.angles: values that are not finite"),
    "shape": (CHECKPOINT, put("stage", "angles", value=lambda t: t[:, :5]), r"stage.angles: expected \(3, 48, 3\)"),
    "type": (CHECKPOINT, put("stage", "angles", value=lambda t: t.double()), "stage.angles: expected .* found .*64"),
    "chances": (CHECKPOINT, put("stage", "probabilities", value=lambda t: -t), "stage.probabilities: they are none"),
    "rule": (CHECKPOINT, put("stage", "criteria", "dev", value=None), "stage.criteria: other names"),
    "log": (LOG, flip, "damaged or changed since its checkpoint was written; delete checkpoint.pt beside it"),
    "short log": (LOG, cut, "damaged or changed since"),
    "no log": (LOG, emptied, "damaged or changed since"),
    "stage 1": (STAGE1, flip, "has not its checksum"),
    "stage 1 cut": (STAGE1, cut, "damaged"),
    "stage 1 list": (STAGE1, saved(lambda states: [1]), "other names"),
    "stage 1 named": (STAGE1, put("network", value=None), "other names"),
    "settings": (RUN, lambda path: path.write_text("[]"), "expected the settings of a run"),
    "settings cut": (RUN, cut, "expected the settings of a run"),
    "settings of bytes": (RUN, lambda path: path.write_bytes(b"\xff\xfe{"), "expected the settings of a run"),
    "preset": (RUN, lambda path: path.write_text('{"preset": [null, {}]}'), "holds a run with other settings"),
}  # fmt: skip


def test_every_damage_is_one_line_that_names_the_file(stopped, hpp):
    whole = {name: (stopped.folder / name).read_bytes() for name in {name for name, *_ in DAMAGED.values()}}
    network = torch.load(stopped.folder / CHECKPOINT, weights_only=True)["network"]
    some = next(name for name, tensor in network.items() if tensor.ndim == 4)
    damages = DAMAGED | {
        f"{what} {name}": (name, put("network", some, value=change), f"network.{some}: {says}")
        for name in (CHECKPOINT, STAGE1)
        for what, change, says in (
            ("not a number", spoilt, "values that are not finite"),
            ("another shape", lambda tensor: tensor[:1], "expected"),
            ("another type", lambda tensor: tensor.half(), "expected .*float32, found .*float16"),
            ("a word", "weights", "expected .*, found str"),
        )
    }
    for said, (name, damage, expected) in damages.items():
        path = stopped.folder / name
        damage(path)
        line = only_error(benchmark(hpp, stopped, expect=1))
        place = str(path.parent.resolve() if "other settings" in expected else path.resolve())
        assert place in line.replace("//", "/"), (said, line)
        assert re.search(expected, line), (said, line)
        path.write_bytes(whole[name])


@pytest.mark.parametrize(("name", "deleted"), [(CHECKPOINT, CHECKPOINT), (LOG, CHECKPOINT), (STAGE1, STAGE1)])
def test_a_run_that_is_mended_as_told_ends_in_the_same_bytes(trained, stopped, hpp, name, deleted):
    expected = train.run(trained)
    flip(stopped.folder / name)
    line = only_error(benchmark(hpp, stopped, expect=1))
    assert re.search(f"delete (it|{deleted} beside it) to train this stage again$", line)
    (stopped.folder / deleted).unlink()
    benchmark(hpp, stopped)
    for left in (PREDICTIONS, LOG, selection.EPOCHS):
        assert (stopped.folder / left).read_bytes() == (expected.parent / left).read_bytes()


def test_no_flipped_bit_changes_what_is_loaded(tmp_path):
    content = {"a": torch.arange(6.0), "b": [1, 2.5, None], "c": {"d": torch.ones(2, 2, dtype=torch.int64)}}
    path = tmp_path / "x.pt"
    save(path, content)
    whole = path.read_bytes()
    assert str(torch.load(path, weights_only=True)) == str(content)  # a user needs nothing of ours
    told = 0
    for at in random.Random(0).sample(range(8 * len(whole)), 400):
        data = bytearray(whole)
        data[at // 8] ^= 1 << at % 8
        path.write_bytes(data)
        try:
            assert str(load(path, CPU)) == str(content)  # a date in the zip, or what fills a gap
        except TrainingError as error:
            assert str(error).startswith(f"{path}: damaged (") and "delete it to train" in str(error)
            told += 1
    assert told > 100


def arrays(change):
    """Change the arrays of an npz file, and write it anew."""

    def damage(path):
        with np.load(path) as file:
            kept = dict(file)
        change(kept)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **kept)
        path.write_bytes(buffer.getvalue())

    return damage


@pytest.mark.parametrize(("damage", "says"), [
    (flip, ""),
    (cut, ""),
    (arrays(lambda kept: kept.pop("dev")), "dev"),
    (arrays(lambda kept: kept.update(angles=kept["angles"][0])), "angles of shape"),
    (arrays(lambda kept: kept.update(angles=kept["angles"].astype("U9"))), "angles of shape .* type <U9"),
    (arrays(lambda kept: kept.update(angles=kept["angles"] * np.nan)), "angles that are not finite"),
    (arrays(lambda kept: kept.update(dev=kept["dev"][1:])), "dev of shape"),
    (arrays(lambda kept: kept.update(probabilities=-kept["probabilities"])), "negative probabilities"),
    (arrays(lambda kept: kept.update(ids=np.arange(len(kept["ids"])))), "ids that are no texts"),
])  # fmt: skip
def test_predictions_of_epochs_that_are_damaged_are_one_line(copied, hpp, damage, says):
    job = copied("padaco")
    path = job.folder / selection.EPOCHS
    damage(path)
    words = ("--data", job.data, "--selection", "dev", "--resamples", 0)
    line = only_error(hpp("score", job.folder / PREDICTIONS, *words, expect=1).output)
    assert f"{path}: expected the predictions after every epoch" in line and re.search(says, line)
    with pytest.raises(HeadposeError, match="expected the predictions after every epoch"):
        selection.read_epochs(path)


@pytest.mark.parametrize("line", [
    '{"stage": "one", "epoch": 0, "step": 0, "rate": 0.1, "lambda": 0, "loss": 1}',
    '{"stage": 1, "epoch": 0, "step": 0.5, "rate": 0.1, "lambda": 0, "loss": 1}',
    '{"stage": 1, "epoch": 0, "step": 0, "rate": 0.1, "lambda": 0, "loss": "low"}',
    '{"stage": 1, "epoch": 0, "step": 0, "rate": null, "lambda": 0}',
    '{"stage": 1, "epoch": 0, "epoch_end": true, "moved": [1]}',
    "",
])  # fmt: skip
def test_a_log_of_other_values_is_one_line(tmp_path, line):
    path = tmp_path / LOG
    path.write_text(line)
    with pytest.raises(TrainingError, match=r"log\.jsonl: expected the log of a run \(.*; delete its folder and train"):
        read_log(path)


def a_shard(data, name):
    return sorted((data / name).glob("shard-*.h5"))[1]


def flip_a_label(path, field):
    """Flip a bit of a label in the file, where HDF5 sees nothing wrong."""
    with h5py.File(path) as file:
        at = file[field].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[at + 5] ^= 1 << 4
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["synhead+", "biwi+", "backgrounds"])
def test_flipped_bits_of_data_stop_training(stopped, tmp_path, hpp, name):
    data = shutil.copytree(stopped.data, tmp_path / "data")
    path = data / "synhead+/backgrounds.h5" if name == "backgrounds" else a_shard(data, name)
    whole = path.read_bytes()
    flip(path) if name == "backgrounds" else flip_a_label(path, "label/pyr")
    moved = stopped._replace(data=data)
    line = only_error(benchmark(hpp, moved, expect=1))
    assert f"{path}: damaged or changed: its SHA-256 is not that in dataset.json; delete it and run" in line
    path.write_bytes(whole)
    benchmark(hpp, moved)


def test_flipped_bits_of_labels_are_not_scored_on(copied, tmp_path, hpp):
    job = copied("padaco")
    data = shutil.copytree(job.data, tmp_path / "data")
    path = a_shard(data, "biwi+")
    hpp("score", job.folder / PREDICTIONS, "--data", data, "--resamples", 0)
    flip_a_label(path, "label/rotation")
    for words in (["score"], ["check"]):
        output = hpp(*words, job.folder / PREDICTIONS, "--data", data, expect=1).output
        assert f"{path}: damaged or changed: its SHA-256 is not that in dataset.json" in only_error(output)


@pytest.mark.parametrize(("name", "field", "value", "says"), [
    ("synhead+", "label/pyr", np.nan, "label/pyr holds no angles in degrees in 1 row, the first in row 2"),
    ("synbiwi+", "label/pyr", 400, "label/pyr holds no angles in degrees in 1 row, the first in row 2"),
    ("biwi+", "label/rotation", 0.1, "label/rotation holds no rotation in 1 row, the first in row 2"),
])  # fmt: skip
def test_labels_out_of_their_range_are_not_read(copied, tmp_path, hpp, name, field, value, says):
    """As a faulty builder would have written and signed them."""
    job = copied("padaco")
    (job.folder / PREDICTIONS).rename(tmp_path / PREDICTIONS)
    shutil.copy(job.folder / "predictions.toml", tmp_path)
    data = shutil.copytree(job.data, tmp_path / "data")
    path = a_shard(data, name)
    with h5py.File(path, "r+") as file:
        file[field][2] = value
    sign(data)
    if name == "biwi+":
        output = hpp("score", tmp_path / PREDICTIONS, "--data", data, expect=1).output
    else:
        output = benchmark(hpp, job._replace(data=data), expect=1)
    assert f"{path}: {says}; delete it and run the build again" in only_error(output)
