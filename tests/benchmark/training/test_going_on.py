"""A run that was stopped goes on as if it had not been."""

import multiprocessing
import shutil
import signal
import time

import pytest
import torch

from baselines.adversarial import DANN
from baselines.methods import METHODS
from benchmark.training import loop
from benchmark.training import run as train
from benchmark.training.checkpoint import CHECKPOINT
from benchmark.training.job import PREDICTIONS
from benchmark.training.log import LOG
from headposeplus.errors import TrainingError

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_same(folder, whole):
    """Both folders hold the same run: predictions and log by their bytes, weights by their values."""
    for name in (PREDICTIONS, LOG):
        assert (folder / name).exists() == (whole / name).exists()
        assert not (whole / name).exists() or (folder / name).read_bytes() == (whole / name).read_bytes()
    mine, theirs = (torch.load(path / "model.pt", weights_only=True)["network"] for path in (folder, whole))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in theirs)


class Killed(BaseException):
    pass


class NeverSure(DANN):
    """Its discriminator never tells as much as lambda waits for."""

    name = "never-sure"
    saturation = 1.5


TRAINED = METHODS | {NeverSure.name: NeverSure}


@pytest.mark.parametrize(("method", "stage", "epoch"), [
    ("padaco", 1, 1), ("padaco", 2, 2), ("padaco-updated", 2, 1), ("rcrw", 2, 2),
    ("never-sure", 2, 2),
])  # fmt: skip
def test_a_stopped_run_goes_on_as_if_it_had_not_been(trained, job, request, monkeypatch, method, stage, epoch):
    whole = train.run(trained._replace(method=TRAINED[method])).parent
    part = (job if stage == 1 else request.getfixturevalue("adapting"))._replace(method=TRAINED[method])
    taking, steps = loop.take, []

    def dying(*arguments):
        if len(steps) == 5 * epoch + 3:  # in the midst of the epoch
            raise Killed
        steps.append(arguments)
        return taking(*arguments)

    monkeypatch.setattr(loop, "take", dying)
    with pytest.raises(Killed):
        train.run(part)
    monkeypatch.undo()
    assert (part.folder.parent / ("stage1" if stage == 1 else method) / CHECKPOINT).exists()
    resumed = train.run(part).parent
    assert_same(resumed, whole)
    assert_same(resumed.parent / "stage1", whole.parent / "stage1")


def test_a_checkpoint_holds_states_by_name(trained):
    folder = train.run(trained).parent
    stage2 = torch.load(folder / CHECKPOINT, weights_only=True)
    assert set(stage2) == {"version", "run", "place", "network", "method", "optimizer", "stage"}
    assert set(stage2["stage"]) == {"waited", "accuracy", "probabilities", "angles", "criteria", "network"}
    assert set(stage2["stage"]["criteria"]) == {"source-val", "consistency", "dev"}
    assert stage2["stage"]["network"].keys() == stage2["network"].keys() and stage2["place"]["epochs"] == 3
    stage1 = torch.load(folder.parent / "stage1" / CHECKPOINT, weights_only=True)
    assert set(stage1["stage"]) == {"epoch", "held_out_mae", "network"} and stage1["run"] != stage2["run"]


def test_a_checkpoint_that_is_not_taken_up(job, copied):
    dann = copied("dann")
    control = dann._replace(method=METHODS["control-uniform"])
    control.folder.mkdir()
    shutil.copy(dann.folder / CHECKPOINT, control.folder)
    with pytest.raises(TrainingError, match="the checkpoint of another run; choose another `out`"):
        train.run(control)
    checkpoint = job.folder.parent / "stage1" / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"half")
    with pytest.raises(
        TrainingError, match=r"stage1/checkpoint\.pt: damaged \(File is not a zip file\); delete it to train this"
    ):
        train.run(job)
    # As the toolkit wrote them before what a stage keeps had names of its own.
    older = {"epoch": 1, "log": 0, "run": "0" * 64, "kept": {"best": torch.tensor([0.0, 9.0]), "best/x": torch.ones(1)}}
    torch.save(older, checkpoint)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: a checkpoint of another version of the toolkit; delete"):
        train.run(job)


@pytest.mark.slow
def test_kill_dash_nine(trained, job):
    """A run that is killed from outside ends as an uninterrupted one when it is started again."""
    whole = train.run(trained).parent
    context = multiprocessing.get_context("forkserver")  # fresh processes that need not import torch anew
    context.set_forkserver_preload(["torch._dynamo", "benchmark.training.run"])
    base = job.folder.parent
    for sign in (base / "stage1" / LOG, base / "stage1" / CHECKPOINT, job.folder / CHECKPOINT):
        process = context.Process(target=train.run, args=(job,))
        process.start()
        while process.is_alive() and not sign.exists():
            time.sleep(0.002)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL and sign.exists()
    assert not (job.folder / PREDICTIONS).exists()
    process = context.Process(target=train.run, args=(job,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert_same(job.folder, whole)
