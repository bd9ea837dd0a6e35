"""Deep CORAL (Sun & Saenko, ECCV workshops 2016): equal covariances of the features of both domains."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.losses import pose_loss
from baselines.method import DomainBatch, Method, Parts, of_target
from baselines.networks import PoseNetwork


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """Return the squared Frobenius distance of the covariances of features (n, d) and (m, d), over 4 d squared."""
    return (torch.cov(source.T) - torch.cov(target.T)).square().sum() / (4 * source.shape[1] ** 2)


class CORAL(Method):
    """A negative control: in regression the features' spread is the labels', and need not be equal."""

    name = "coral"
    strength = 100.0  # so that the term, which the square of d makes small, is of the size of the pose loss

    def loss(self, network: PoseNetwork, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Return the pose loss plus lambda times the distance of the covariances."""
        source, target = network(batch.images), of_target(network, batch.target, lam)
        pose = pose_loss(source.angles, network.normalise(batch.degrees))
        coral = coral_loss(source.features, target.features)
        return pose + lam * coral, {"pose_loss": pose.detach(), "coral_loss": coral.detach()}
