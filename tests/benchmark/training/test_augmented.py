"""Runs whose source images are augmented."""

import json
import shutil

import pytest
import torch

from baselines.methods import METHODS
from benchmark.loaders.compose import Composer
from benchmark.scoring.submission import read_submission
from benchmark.training import loop
from benchmark.training import run as train
from benchmark.training.job import PREDICTIONS
from benchmark.training.log import LOG
from benchmark.training.settings import RUN
from headposeplus.errors import TrainingError

pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(BaseException):
    pass


@pytest.fixture
def augmented(job):
    return job._replace(options=job.options._replace(augment="all"))


def test_only_what_is_trained_on_is_augmented(augmented, monkeypatch):
    composing, seen = Composer.source, []

    def noting(self, rows, crops, masks, epoch, augment="none"):
        seen.append((augment, epoch, rows, torch.is_grad_enabled()))
        return composing(self, rows, crops, masks, epoch, augment)

    monkeypatch.setattr(Composer, "source", noting)
    predictions = train.run(augmented)
    assert predictions.parent == augmented.out / "pda-trial-all-seed0/padaco"
    assert {augment for augment, _, _, trains in seen if trains} == {"all"}
    assert {augment for augment, _, _, trains in seen if not trains} == {"none"}  # held-out images, looks, statistics
    assert {epoch for augment, epoch, _, _ in seen if augment == "all"} == set(range(6))  # three a stage
    assert read_submission(predictions).about.augment == "all"
    assert json.loads((predictions.parent / RUN).read_text())["augment"] == "all"
    assert json.loads((predictions.parents[1] / "stage1" / RUN).read_text())["augment"] == "all"


@pytest.mark.parametrize("steps", [8, 23])  # in the midst of an epoch of stage 1, and of stage 2
def test_a_stopped_run_goes_on_as_if_it_had_not_been(trained, augmented, monkeypatch, steps):
    whole = train.run(trained._replace(options=augmented.options)).parent
    part = augmented
    taking, taken = loop.take, []

    def dying(*arguments):
        if len(taken) == steps:
            raise Killed
        taken.append(1)
        return taking(*arguments)

    monkeypatch.setattr(loop, "take", dying)
    with pytest.raises(Killed):
        train.run(part)
    monkeypatch.undo()
    resumed = train.run(part).parent
    assert (resumed / PREDICTIONS).read_bytes() == (whole / PREDICTIONS).read_bytes()
    assert (resumed / LOG).read_bytes() == (whole / LOG).read_bytes()


def test_stores_train_alike(trained, augmented):
    source_only = augmented._replace(method=METHODS["source-only"])
    streamed = source_only._replace(options=source_only.options._replace(store="stream"))
    first, second = train.run(source_only._replace(out=trained.out)), train.run(streamed)
    assert first.read_bytes() == second.read_bytes()


def test_a_folder_belongs_to_one_augmentation(trained, augmented):
    plain = train.run(trained).parents[1]
    assert "augment" not in json.loads((plain / "padaco" / RUN).read_text())  # as before there was any
    assert read_submission(plain / "padaco" / PREDICTIONS).about.augment == "none"
    own = augmented.folder.parent
    shutil.copytree(plain, own)
    with pytest.raises(TrainingError, match="other settings: augment None, not 'all'; choose another `out`"):
        train.run(augmented)
    shutil.rmtree(own / "padaco")
    with pytest.raises(TrainingError, match="stage1: holds a run with other settings: augment None, not 'all'"):
        train.run(augmented)
    shutil.rmtree(own)
    boxes = augmented._replace(options=augmented.options._replace(augment="boxes"))
    finished = train.run(boxes).parents[1]
    shutil.copytree(finished, own)
    with pytest.raises(TrainingError, match="augment 'boxes', not 'all'"):
        train.run(augmented)
    plain_again = boxes._replace(options=boxes.options._replace(augment="none"))
    shutil.copytree(finished, plain_again.folder.parent)
    with pytest.raises(TrainingError, match="augment 'boxes', not None"):
        train.run(plain_again)
    with pytest.raises(TrainingError, match="unknown `augment` 'light'"):
        train.run(boxes._replace(options=boxes.options._replace(augment="light")))
