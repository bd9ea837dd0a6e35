"""What a method of one's own finds out by counting the rows that it is handed, and that its entry says what it is."""

import numpy as np
import pytest
import torch

from baselines.method import Look
from baselines.methods import METHODS
from benchmark.loaders.compose import Target
from benchmark.loaders.stores import ReorderedStore
from benchmark.scoring import selection
from benchmark.scoring.submission import read_submission
from benchmark.training import run as train
from benchmark.training.views import reordered
from benchmark.upkeep import soak_counting
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.rotations import from_matrix

pytestmark = pytest.mark.usefixtures("one_thread")


class Counting(soak_counting.Counting):
    """The method that counts rows, in a file of one's own."""

    name = "counting-own"


def test_counting_rows_leads_nowhere(job):
    blind = soak_counting.blind(soak_counting.target_angles(job.data))
    before, now = (soak_counting.counted_off(job, method) for method in (soak_counting.Counting, Counting))
    # The poses of the miniature's SynBiwi+ are 4.4 degrees from the target's; who says their mean of all is 18 off.
    assert max(before) < 0.3 * blind, (before, blind)
    assert min(now) > 0.95 * blind, (now, blind)


def test_the_order_of_rows_follows_from_what_they_hold(adapting):
    """Files in another order, and the same seed, give the same labels and images in the same rows."""
    run = train.load_run(adapting._replace(task="da"))
    rng = np.random.default_rng(1)
    source, target = (rng.permutation(len(rows)) for rows in (run.source.angles, run.target.ids))
    other = run._replace(
        source=run.source._replace(store=ReorderedStore(run.source.store, source), angles=run.source.angles[source]),
        target=Target(ReorderedStore(run.target.store, target), run.target.ids[target]),
    )
    first, second = reordered(run), reordered(other)
    assert np.array_equal(first.source.angles, second.source.angles)
    assert not np.array_equal(first.source.angles, run.source.angles)
    assert first.target.ids.tolist() == second.target.ids.tolist() != run.target.ids.tolist()


def test_what_is_handed_over_is_plain(job):
    train.run(job._replace(method=Counting, task="da"))
    for look in Counting.count.looks:
        assert isinstance(look, Look) and len(look.rows) == 7 and len(look.target.angles) == 48
        values = [look.angles, look.rows, *look.source, *look.target]
        assert all(type(value) is np.ndarray and value.dtype.kind in "fi" for value in values)
        assert type(look.rng) is np.random.Generator
    assert len(Counting.count.looks) == 4
    assert all(type(value) is torch.Tensor for value in Counting.count.batches[-1])


def test_a_method_of_ones_own_gives_the_same_again_in_the_order_of_the_files(trained, job, tmp_path):
    class Own(METHODS["padaco"]):
        name = "own"

    first = train.run(job._replace(method=Own))
    assert train.run(job._replace(method=Own, out=tmp_path / "again")).read_bytes() == first.read_bytes()
    ids, _ = read_labels(open_dataset(job.data / "biwi+"))
    epochs = selection.read_epochs(first.with_name(selection.EPOCHS))
    submission = read_submission(first)
    assert submission.ids.tolist() == ids.tolist() == epochs.ids.tolist()
    assert from_matrix(submission.rotations) == pytest.approx(epochs.angles[-1], abs=1e-3)
    # The weights are PADACO's; which of the ten heads in one pose is the nearest is the order's to say.
    padaco = train.run(trained)
    mine, theirs = (selection.read_epochs(path.with_name(selection.EPOCHS)) for path in (first, padaco))
    _, poses = np.unique(read_labels(open_dataset(job.data / "synhead++"))[1].round(9), axis=0, return_inverse=True)
    weights = [np.bincount(poses.ravel(), epochs.probabilities) for epochs in (mine, theirs)]
    assert weights[0] == pytest.approx(weights[1], abs=1e-6)
    assert not np.array_equal(mine.angles, theirs.angles)


def test_an_entry_of_a_method_of_ones_own_says_so(job, hpp, tmp_path):
    ours, theirs = (train.run(job._replace(method=method)) for method in (METHODS["source-only"], Counting))
    words = "suspicion: a method of the authors' own ('tests.benchmark.training.test_secrets:Counting'), which is code"
    words += " that training does not watch; that it used no label of the target is on their honour"
    board = tmp_path / "board"
    for path, expected in ((ours, False), (theirs, True)):
        asked = ("--data", job.data, "--resamples", 0, "--scoreboard", board)
        assert (words in hpp("score", path, *asked).output) == expected
        assert (words.removeprefix("suspicion: ") in hpp("check", path, "--data", job.data).output) == expected
    page = (board / "scoreboard.md").read_text()
    assert page.count("(a method of its authors' own)") == 2 and "looks odd" not in page
    assert (board / "index.html").read_text().count("a method of its authors&#39; own: see its page") == 1
