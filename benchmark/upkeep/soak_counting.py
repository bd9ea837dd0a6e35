"""A method that counts the rows which it is handed, to read the target's poses off the source.

SynBiwi+ has the target's poses in the target's order, and what is drawn follows from the seed.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from baselines.method import DomainBatch, Look, Method, MethodSettings, Parts, Wanted
from baselines.networks import PoseNetwork
from benchmark.training import run as train
from benchmark.training.draws import draw, endless
from benchmark.training.job import RunOptions, TrainingJob
from benchmark.training.presets import PRESETS
from benchmark.training.views import is_own, reordered, target_images
from benchmark.upkeep.soak_record import Counted
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.rotations import Floats, from_matrix

TRIAL = PRESETS["trial"]
_HEADS = 10  # that SynBiwi+ has for each image of Biwi+, one after the other, in its order


class Count:
    """What was counted in a run: looks, batches, and the poses ``angles`` (n, 3) that the target's images shall have.

    ``rows`` are the training samples in the order of the files, ``frames`` is how many images the target has. ``drawn``
    are the rows of source and target of the batches to come. Of each sample that was in a batch, ``source`` is the
    target's image which has its pose and ``labels`` is that pose, ``target`` the image that is said to be beside it and
    ``handed`` that which was.
    """

    def __init__(self, look: Look) -> None:
        n = len(look.angles)
        whole = next(count for count in itertools.count(n) if count - max(round(TRIAL.held_out * count), 1) == n)
        self.rows = np.random.default_rng([0, 0]).permutation(whole)[-n:]
        self.frames = whole // _HEADS
        self.angles = np.array([look.angles[self.rows // _HEADS == frame].mean(0) for frame in range(self.frames)])
        self.looks, self.batches = [look], list[DomainBatch]()
        self.drawn = list[tuple[np.ndarray, np.ndarray]]()
        self.source, self.target = list[int](), list[int]()
        self.labels, self.handed = list[np.ndarray](), list[Tensor]()

    def plan(self, epoch: int) -> None:
        """Draw what an epoch of seed 0 draws, which everybody can read in the project's code."""
        rng, batch = np.random.default_rng([0, 2, epoch]), TRIAL.batch
        steps = (TRIAL.epoch_samples or 0) // batch
        n = len(self.rows)
        sources = self.rows[draw(rng, np.arange(1, n + 1) / n, steps * batch)].reshape(steps, batch)
        self.drawn = list(zip(sources, itertools.islice(endless(rng, self.frames, batch), steps), strict=True))

    def add(self, batch: DomainBatch) -> None:
        """Count the rows of a batch."""
        sources, targets = self.drawn.pop(0)
        self.batches.append(batch)
        self.source += (sources // _HEADS).tolist()
        self.target += targets.tolist()
        self.labels += list(batch.degrees.numpy())
        self.handed += list(batch.target.clone())


class Counting(Method):
    """Reads the target's poses off SynBiwi+, from nothing but what it is handed and what it knows of the project.

    As it stands here, it is one of the project's own, and sees the files' order; in a stranger's file it does not.
    """

    name = "counting"
    count: ClassVar[Count]

    def looks_at(self, epoch: int) -> Wanted:
        """Ask for what there is."""
        return Wanted(target=True, source=7)

    def start(self, network: PoseNetwork, look: Look) -> None:
        """Begin to count."""
        Counting.count = Count(look)

    def sampling(self, epoch: int, look: Look) -> Floats | None:
        """Plan what will be drawn."""
        self.count.plan(epoch)
        self.count.looks.append(look)
        return None

    def loss(self, network: PoseNetwork, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Count a batch's rows."""
        self.count.add(batch)
        return super().loss(network, batch, lam)


class Strangers(Counting):
    """The same as if a user had written it."""

    name = "counting-stranger"
    __module__ = "strangers"


class Off(NamedTuple):
    """How far off poses are that were counted, in degrees: by rows that are looked at, and by those of batches."""

    looking: float
    drawing: float


def counted_off(job: TrainingJob, method: type[Counting]) -> Off:
    """Return how far off the target's poses are that a method counts in a run of the task ``da`` and seed 0."""
    job = job._replace(method=method, task="da")
    train.run(job)
    run, count = train.load_run(job), method.count
    truth = target_angles(job.data)
    order = np.arange(len(truth)) if is_own(method) else reordered(run).target_order
    images = torch.cat(list(target_images(run))).flatten(1)
    shown = torch.cdist(torch.stack(count.handed).flatten(1), images).argmin(dim=1).numpy()
    labels, frames = np.array(count.labels), np.array(count.source)
    guesses = {frame: labels[frames == frame].mean(0) for frame in set(count.source)}
    told = [
        (guesses[frame], truth[which]) for frame, which in zip(count.target, shown, strict=True) if frame in guesses
    ]
    by_drawing = np.mean([np.abs(guess - true).mean() for guess, true in told])
    return Off(float(np.abs(count.angles - truth[order]).mean()), float(by_drawing))


def target_angles(data: Path) -> Floats:
    """Return the target's poses (n, 3), in degrees."""
    return from_matrix(read_labels(open_dataset(data / "biwi+"))[1])


def blind(angles: Floats) -> float:
    """Return how far off all poses (n, 3) are from their mean, in degrees."""
    return float(np.abs(angles - angles.mean(axis=0)).mean())


def count_rows(data: Path, out: Path, labels: str) -> Counted:
    """Train on built datasets with the method, as a stranger's and as the project's own."""
    options = RunOptions(device="cpu", threads=1)
    job = TrainingJob(Counting, "da", TRIAL, data, out, 0, "none", MethodSettings(), options, "soak")
    strangers, ours = counted_off(job, Strangers), counted_off(job, Counting)
    angles = target_angles(data)
    return Counted(
        labels=labels,
        poses=len(angles),
        looking=round(strangers.looking, 2),
        drawing=round(strangers.drawing, 2),
        ours=round(max(ours), 2),
        blind=round(blind(angles), 2),
    )
