"""What a method of one's own finds out by counting the rows that it is handed, and that its entry says what it is."""

import itertools

import numpy as np
import pytest
import torch

from baselines.method import Look, Method, Wanted
from baselines.methods import METHODS
from benchmark.scoring import selection
from benchmark.scoring.submission import read_submission
from benchmark.training import run as train
from benchmark.training.draws import draw, endless
from benchmark.training.presets import PRESETS
from benchmark.training.views import is_own, reordered, target_images
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.rotations import from_matrix

pytestmark = pytest.mark.usefixtures("one_thread")

TRIAL = PRESETS["trial"]
HEADS = 10  # that SynBiwi+ has for each image of Biwi+, one after the other, in its order


class Counting(Method):
    """Reads the target's poses off SynBiwi+, from nothing but what it is handed and what it knows of the project."""

    name = "counting"

    def looks_at(self, epoch):
        return Wanted(target=True, source=7)

    def start(self, network, look):
        n, Counting.looks = len(look.angles), [look]
        whole = next(count for count in itertools.count(n) if count - max(round(TRIAL.held_out * count), 1) == n)
        Counting.rows = np.random.default_rng([0, 0]).permutation(whole)[-n:]
        Counting.angles = [look.angles[Counting.rows // HEADS == frame].mean(0) for frame in range(whole // HEADS)]
        Counting.frames, Counting.batches, Counting.found = whole // HEADS, [], ([], [], [])

    def sampling(self, epoch, look):
        rng, batch = np.random.default_rng([0, 2, epoch]), TRIAL.batch
        steps = TRIAL.epoch_samples // batch
        drawn = Counting.rows[draw(rng, np.arange(1, len(Counting.rows) + 1) / len(Counting.rows), steps * batch)]
        targets = itertools.islice(endless(rng, Counting.frames, batch), steps)
        Counting.batches = list(zip(drawn.reshape(steps, batch), targets, strict=True))
        Counting.looks.append(look)

    def loss(self, network, batch, lam):
        sources, targets = Counting.batches.pop(0)
        for found, new in zip(Counting.found, (sources // HEADS, targets, batch.target.clone()), strict=True):
            found.extend(new)
        Counting.batch, Counting.labels = batch, [*getattr(Counting, "labels", []), *batch.degrees.numpy()]
        return super().loss(network, batch, lam)


class Before(Counting):
    """The same as if it were the project's own, which sees the files' order."""

    name = "counting-before"
    __module__ = "baselines.counting"


def errors(job, method):
    """Return the error in degrees of poses by counting: rows of what is looked at, and draws of batches."""
    Counting.labels = []
    train.run(job._replace(method=method, task="da"))
    run = train.load_run(job._replace(task="da"))
    truth = from_matrix(read_labels(open_dataset(job.data / "biwi+"))[1])
    order = np.arange(len(truth)) if is_own(method) else reordered(run).target_order
    by_looking = np.abs(np.array(Counting.angles) - truth[order]).mean()
    images = torch.cat(list(target_images(run))).flatten(1)
    frames, targets, handed = Counting.found
    shown = torch.cdist(torch.stack(handed).flatten(1), images).argmin(dim=1).numpy()
    labels = np.array(Counting.labels)
    of_frame = {frame: labels[np.array(frames) == frame].mean(0) for frame in set(np.array(frames).tolist())}
    told = [(of_frame[frame], truth[which]) for frame, which in zip(targets, shown, strict=True) if frame in of_frame]
    return by_looking, np.mean([np.abs(guess - true).mean() for guess, true in told])


def test_counting_rows_leads_nowhere(job):
    truth = from_matrix(read_labels(open_dataset(job.data / "biwi+"))[1])
    by_chance = np.abs(truth[:, None] - truth[None]).mean()
    before, now = errors(job, Before), errors(job, Counting)
    # The poses of the miniature's SynBiwi+ are 4.4 degrees from the target's; blind guesses are some 25 off.
    assert max(before) < 0.3 * by_chance, (before, by_chance)
    assert min(now) > 0.7 * by_chance, (now, by_chance)


def test_what_is_handed_over_is_plain(job):
    train.run(job._replace(method=Counting, task="da"))
    for look in Counting.looks:
        assert isinstance(look, Look) and len(look.rows) == 7 and len(look.target.angles) == 48
        values = [look.angles, look.rows, *look.source, *look.target]
        assert all(type(value) is np.ndarray and value.dtype.kind in "fi" for value in values)
        assert type(look.rng) is np.random.Generator
    assert len(Counting.looks) == 4 and all(type(value) is torch.Tensor for value in Counting.batch)


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
    assert page.count("(a method of its authors' own)") == 1 and "looks odd" not in page
    assert (board / "index.html").read_text().count("a method of its authors&#39; own: see its page") == 1
