"""Methods: which source samples are drawn, and what a step minimises.

A method owns no loop, no loader and no optimizer. It is given source images with labels and target images
without, and it never meets a target label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from baselines import weights
from baselines.losses import domain_loss, pose_loss, reverse_gradient
from baselines.networks import PoseNetwork
from headposeplus.errors import HeadposeError

Floats = weights.Floats
Sampling = Callable[[Floats, Floats], Floats]


class Settings(NamedTuple):
    """What the methods' formulas leave open: N of PADACO, and t of the PADA-like weights in degrees squared."""

    neighbours: int = 10
    threshold: float = 3.5


class Method(NamedTuple):
    """A method of adaptation.

    Attributes
    ----------
    name, summary
        What it is called, and what it does in one line.
    adapts
        Whether it has a second stage, which sees target images.
    adversarial
        Whether the features are trained to deceive the discriminator; lambda is 0 otherwise.
    sampling
        Probabilities (n,) of drawing each source sample, from source labels (n, 3) and the first stage's
        predictions on the target (m, 3), in degrees.
    """

    name: str
    summary: str
    adapts: bool
    adversarial: bool
    sampling: Callable[[Floats, Floats, Settings], Floats]


def _uniform(source: Floats, predictions: Floats, settings: Settings) -> Floats:
    return weights.uniform(len(source))


def _pada_like(source: Floats, predictions: Floats, settings: Settings) -> Floats:
    return weights.pada_like(source, predictions, settings.threshold)


def _padaco(source: Floats, predictions: Floats, settings: Settings) -> Floats:
    return weights.padaco(source, predictions, settings.neighbours)


METHODS = {
    method.name: method
    for method in (
        Method("source-only", "the first stage alone, without a target image", False, False, _uniform),
        Method("dann", "adversarial alignment, every source sample alike (Ganin et al. 2016)", True, True, _uniform),
        Method("pada-like", "DANN with the paper's Eq. 3 as source weights", True, True, _pada_like),
        Method("padaco", "DANN with source samples drawn by label-space neighbours", True, True, _padaco),
        Method("control-uniform", "a second stage with lambda = 0: more training, no adversary", True, False, _uniform),
        Method("control-padaco", "lambda = 0 with PADACO's sampling: its resampling alone", True, False, _padaco),
    )
}


def find_method(name: str) -> Method:
    """Return a method by name; raises HeadposeError if there is none."""
    if name not in METHODS:
        raise HeadposeError(f"unknown method {name!r}: expected one of {', '.join(METHODS)}")
    return METHODS[name]


def source_step(network: PoseNetwork, images: Tensor, degrees: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of stage 1 and its parts: the pose error of source images (n, 3, s, s), labels (n, 3)."""
    loss = pose_loss(network(images).angles, network.normalise(degrees))
    return loss, {"pose_loss": loss.detach()}


def adaptation_step(
    network: PoseNetwork, images: Tensor, degrees: Tensor, target_images: Tensor, lam: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of stage 2 and its parts.

    Source (n, 3, s, s) and target (m, 3, s, s) pass the network one after the other, so each is normalised by
    its own batch's statistics, and the running statistics see both in turn. The discriminator learns at its
    full rate; the features receive its gradient reversed and times ``lam``.
    """
    source, target = network(images), network(target_images)
    pose = pose_loss(source.angles, network.normalise(degrees))
    from_source = network.discriminator(reverse_gradient(source.features, lam))
    from_target = network.discriminator(reverse_gradient(target.features, lam))
    domain = domain_loss(from_source, from_target)
    parts = {
        "pose_loss": pose.detach(),
        "domain_loss": domain.detach(),
        "domain_accuracy": ((from_source > 0).float().mean() + (from_target <= 0).float().mean()).detach() / 2,
    }
    return pose + domain, parts


def lambda_at(progress: float, warm: float, ramp: float, highest: float) -> float:
    """Return lambda after ``progress`` epochs: 0 for ``warm``, then linearly to ``highest`` over ``ramp``."""
    return highest * float(np.clip((progress - warm) / max(ramp, 1e-9), 0, 1))


def rate_at(progress: float, total: float, last: float) -> float:
    """Return the factor of the learning rate: 1 for the first third, then linearly to ``last`` at the end."""
    share = np.clip((progress / max(total, 1e-9) - 1 / 3) / (2 / 3), 0, 1)
    return float(1 + share * (last - 1))
