import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

from benchmark.scoring import score as scoring
from benchmark.studies.reproduce import reproduce
from benchmark.training import run as train
from benchmark.training.presets import PRESETS, TASKS
from benchmark.training.settings import open_data
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.errors import HeadposeError, TrainingError
from headposeplus.raw.source import Source
from tests.digests import sign

# Eight photographs are enough for batches of four.
TRIAL = PRESETS["trial"]._replace(batch=4, epoch_samples=16)


@pytest.fixture(scope="module")
def data(built, photographs, tmp_path_factory):
    """Datasets of the miniature, with made-up photographs beside them and no Biwi+."""
    folder = shutil.copytree(built[0], tmp_path_factory.mktemp("photographs") / "data")
    shutil.rmtree(folder / "biwi+")
    build_datasets(Source(stills={"aflw2000": photographs}), folder, Options(size=32))
    return folder


@pytest.fixture
def on_photographs(job, data):
    """A job whose target are the photographs."""
    return job._replace(task="pda-aflw2000", data=data, preset=TRIAL)


def test_every_task_names_its_source_and_target():
    assert TASKS["pda-aflw2000"] == ("synhead++", "aflw2000", "pda") and str(TASKS["da"]) == "synbiwi+ to biwi+"
    for preset in PRESETS.values():
        assert {task.kind for task in TASKS.values()} <= set(preset.warm) & set(preset.hold)


def test_the_paper_trains_without_lambda_for_a_third_of_the_epochs():
    paper = PRESETS["paper"]
    assert [paper.stage2_epochs(kind) for kind in ("da", "pda")] == [30, 19]
    assert paper.warm["da"] == 30 / 3 and paper.warm["pda"] == pytest.approx(19 / 3, abs=1)


def test_a_run_adapts_to_the_photographs_and_is_scored_on_them(on_photographs, data):
    """Biwi+ is not needed, though SynBiwi+ was matched with it."""
    source, target = open_data(on_photographs)
    assert (source.name, target.name) == ("synhead++", "aflw2000")
    predictions = train.run(on_photographs)
    assert predictions.parents[1].name == "pda-aflw2000-trial-seed0"
    table = pd.read_csv(predictions)
    assert table["id"].str.startswith("aflw2000/image").all() and len(table) == 8
    assert np.isfinite(table[["pitch", "yaw", "roll"]].to_numpy()).all()
    entry = scoring.score(predictions, data, resamples=0).entry
    assert (entry.protocol.task, entry.convention, entry.protocol.frames) == ("pda", "ypr", 8)
    other = scoring.score(predictions, data, rule="consistency", resamples=0).entry
    assert other.selected_epoch >= 1 and other.selection != entry.selection


def test_labels_of_the_photographs_are_out_of_reach(on_photographs, tmp_path):
    """A run with other labels in the shards gives the same bytes."""
    first = train.run(on_photographs).read_bytes()
    data = shutil.copytree(on_photographs.data, tmp_path / "others")
    for path in (data / "aflw2000").glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file["label/pyr"][...] = 0
            file["label/rotation"][...] = np.eye(3)
    sign(data)
    assert train.run(on_photographs._replace(data=data, out=tmp_path / "again")).read_bytes() == first


def test_a_batch_larger_than_the_target_is_told(on_photographs):
    with pytest.raises(TrainingError, match="a batch of 20 is larger than the target of 8 images"):
        train.run(on_photographs._replace(preset=PRESETS["trial"]))


def test_a_study_of_the_photographs_needs_data(tmp_path):
    with pytest.raises(HeadposeError, match="`task` pda-aflw2000 needs `data`: a miniature has no AFLW2000-3D"):
        reproduce("pda-aflw2000", ["padaco"], [0], None, tmp_path, None, "tiny", "trial", "cpu", 1, 1)
