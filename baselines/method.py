"""What a method of adaptation is: which source samples it draws, and what a step minimises.

A method owns no loop, no loader and no optimizer. It is handed source images with labels and target images without:
arrays and tensors, none of which holds a target label, an id, or a path, or leads to one. The rows that a method of
one's own is handed have an order that says nothing of the files' (:mod:`benchmark.training.views`), since a source
like SynBiwi+ has the target's poses in the target's order. That is all that is promised: a method is code, which can
read files, so that it used no target label is on its author's honour.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.losses import pose_loss
from baselines.networks import Output, PoseNetwork
from headposeplus.rotations import Floats

Parts = dict[str, Tensor]


class MethodSettings(NamedTuple):
    """What the formulas leave open.

    Attributes
    ----------
    neighbours
        N of PADACO.
    threshold
        t of the PADA-like weights, in degrees squared.
    highest_lambda
        None for the method's own, or, where it has none, the preset's.
    discriminator
        ``joint`` or ``separate``: whether one pass of both domains sets the discriminator's batch statistics.
    metric
        ``degrees`` or ``normalised``: in what PADACO measures how near two poses are.
    """

    neighbours: int = 10
    threshold: float = 3.5
    highest_lambda: float | None = None
    discriminator: str = "joint"
    metric: str = "degrees"


class DomainBatch(NamedTuple):
    """What a step sees: source images (n, 3, s, s), their angles (n, 3) in degrees, and target images (m, 3, s, s)."""

    images: Tensor
    degrees: Tensor
    target: Tensor


class Seen(NamedTuple):
    """What the network makes of samples: features (n, d) and angles (n, 3), ``pyr`` in degrees."""

    features: NDArray[np.float32]
    angles: Floats


class Wanted(NamedTuple):
    """What a method wants to look at before an epoch, which takes time.

    Attributes
    ----------
    target
        Whether it wants what the network makes of the target.
    source
        Of how many source samples, drawn at random, it wants that.
    """

    target: bool = False
    source: int = 0


_NOTHING = Seen(np.zeros((0, 0), np.float32), np.zeros((0, 3)))


class Look(NamedTuple):
    """What a method may look at between epochs. The network's running batch statistics are used.

    Attributes
    ----------
    angles
        Labels of the source samples (n, 3), ``pyr`` in degrees.
    rng
        Random numbers of this epoch.
    target
        What the network makes of the target's m images, whose order is the same in all epochs; of none if not wanted.
    rows, source
        Rows of ``angles`` (k,), drawn at random, and what the network makes of those samples; none if not wanted.
    """

    angles: Floats
    rng: np.random.Generator
    target: Seen = _NOTHING
    rows: NDArray[np.int64] = np.zeros(0, np.int64)
    source: Seen = _NOTHING


class Method(nn.Module):
    """A second stage of plain training: the base of all methods, and by itself the control without an adversary.

    What a method learns or remembers are its modules, parameters and buffers, made in :meth:`start`: those that require
    a gradient are trained with the network, all are part of a checkpoint. A method's lambda is 0 for the first
    epochs of the second stage and then grows to its highest: that of the settings, ``strength``, or else the preset's.
    A method with a discriminator gives its ``domain_accuracy`` among the parts of its loss; lambda stays 0 for more
    epochs, as many as the preset allows, until the mean of an epoch's is at least ``saturation``.
    A class that gives itself no ``name`` goes by its name in the code, in small letters.
    """

    name = ""
    trains = True  # whether it has a second stage
    uses_target = True  # whether it sees target images
    batch_statistics = "mixed"  # whose images its running statistics have seen in the end: source, target or both
    estimated = ""  # whose images they are estimated anew on after the last step: those of ``target`` or ``both``
    strength: float | None = None
    saturation: float | None = None  # what share of the samples a discriminator is to tell right before lambda begins

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):  # what it inherits is the name of another method
            cls.name = cls.__name__.lower()

    def __init__(self, settings: MethodSettings) -> None:
        super().__init__()
        self.settings = settings

    def looks_at(self, epoch: int) -> Wanted:
        """Return what ``look`` shall hold for :meth:`sampling` in an epoch, or, if that is -1, for :meth:`start`."""
        return Wanted()

    def start(self, network: PoseNetwork, look: Look) -> None:
        """Prepare for the second stage, with the network of the first one."""

    def sampling(self, epoch: int, look: Look) -> Floats | None:
        """Return the probabilities (n,) of drawing each source sample from this epoch on; None: as before.

        The first epoch is 0; until there are any, all samples are drawn alike. They need not sum to 1.
        """
        return None

    def loss(self, network: PoseNetwork, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Return what a step minimises, a scalar, and its parts for the log.

        Source and target pass the network one after the other, so each is normalised by its own batch's statistics,
        and the running statistics see both in turn.
        """
        source, _ = network(batch.images), of_target(network, batch.target, 0)
        pose = pose_loss(source.angles, network.normalise(batch.degrees))
        return pose, {"pose_loss": pose.detach()}

    def after_step(self, network: PoseNetwork) -> None:
        """Do what follows each step of the optimizer."""

    def predictor(self, network: PoseNetwork) -> PoseNetwork:
        """Return the network that predicts: the one that is trained, or another of its kind."""
        return network

    def finish(self, network: PoseNetwork) -> None:
        """Do what follows the last step, and the estimation of batch statistics, where there is one."""

    def facts(self) -> dict[str, float]:
        """Return numbers worth a place in the log of each epoch."""
        return {}


def of_target(network: PoseNetwork, images: Tensor, lam: float) -> Output:
    """Return what a network makes of target images (m, 3, s, s).

    While lambda is 0 they take no gradient back: all of it would be zeros, a quarter of a step's time.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and lam != 0):
        return network(images)


class FirstStage(Method):
    """What the first stage minimises: the pose error of source images."""

    def loss(self, network: PoseNetwork, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Return the pose loss; the batch has no target images."""
        pose = pose_loss(network(batch.images).angles, network.normalise(batch.degrees))
        return pose, {"pose_loss": pose.detach()}
