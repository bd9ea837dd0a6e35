"""Jobs for the tests of training, and runs that several of them read."""

import json
import shutil
from pathlib import Path

import pytest

from baselines.method import MethodSettings
from baselines.methods import METHODS
from benchmark.training import run as train
from benchmark.training.job import RunOptions, TrainingJob
from benchmark.training.presets import PRESETS

CPU = RunOptions(device="cpu", threads=1)


@pytest.fixture(scope="session")
def trained(built, tmp_path_factory):
    """A job whose runs several tests read: each is trained once, as a finished run is not trained again.

    Tests that change what it leaves, or look at how it is made, take ``job`` or ``adapting``.
    """
    out = tmp_path_factory.mktemp("trained")
    return TrainingJob(
        METHODS["padaco"], "pda", PRESETS["trial"], built[0], out, 0, "none", MethodSettings(), CPU, "hpp ..."
    )


@pytest.fixture
def job(trained, tmp_path):
    """A job with a folder of its own, in which nothing was trained yet."""
    return trained._replace(out=tmp_path / "runs")


@pytest.fixture
def adapting(job, trained):
    """A job with a folder of its own, in which stage 1 has ended."""
    train.run(trained._replace(method=METHODS["source-only"]))
    shutil.copytree(trained.folder.parent / "stage1", job.folder.parent / "stage1")
    return job


@pytest.fixture
def copied(trained, tmp_path):
    """A function that trains a method once and returns a job with a copy of its run, to be changed."""

    def copy(method):
        predictions = train.run(trained._replace(method=METHODS[method]))
        own = trained._replace(method=METHODS[method], out=tmp_path / "copied")
        for name in ("stage1", predictions.parent.name):
            shutil.copytree(predictions.parents[1] / name, own.folder.parent / name, dirs_exist_ok=True)
        return own

    return copy


@pytest.fixture
def records():
    """A function that returns the lines of a log as they are."""

    def read(folder):
        return [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]

    return read
