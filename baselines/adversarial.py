"""DANN, and the paper's two ways of drawing its source samples: PADA-like and PADACO, with a control for each.

The discriminator learns at its full rate to tell source from target; the features receive its gradient reversed and
times lambda (Ganin et al., JMLR 2016; Kuhnke & Ostermann, ICCV 2019, sections 3 and 4.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from baselines import weights
from baselines.losses import domain_loss, pose_loss, reverse_gradient
from baselines.method import DomainBatch, Look, Method, Parts, Wanted, of_target
from baselines.networks import PoseNetwork, make_discriminator
from headposeplus.errors import TrainingError
from headposeplus.rotations import Floats

_PASSES = ("joint", "separate")  # of the features through the discriminator


class DANN(Method):
    """Adversarial alignment of the features, every source sample alike.

    The features of both domains pass the discriminator together. Were each domain normalised by statistics of its own,
    no difference of the means and spreads of its hidden units would be left to tell the domains by. The paper
    separates the batches for the features, and says nothing of the discriminator; ``separate`` does so for both.
    """

    name = "dann"
    saturation = 0.95  # the paper's lambda is 0 at first "to let D saturate", and it does not say how much that is

    def start(self, network: PoseNetwork, look: Look) -> None:
        """Make the discriminator; raises TrainingError if the settings name no way to pass it."""
        if self.settings.discriminator not in _PASSES:
            raise TrainingError(f"`discriminator` {self.settings.discriminator}: expected {' or '.join(_PASSES)}")
        self.discriminator = make_discriminator(network.width)

    def loss(self, network: PoseNetwork, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Return the pose loss plus that of the discriminator, whose gradient reaches the features reversed."""
        source, target = network(batch.images), of_target(network, batch.target, lam)
        pose = pose_loss(source.angles, network.normalise(batch.degrees))
        from_source, from_target = self.tell_apart(
            reverse_gradient(source.features, lam), reverse_gradient(target.features, lam)
        )
        domain = domain_loss(from_source, from_target)
        accuracy = ((from_source > 0).float().mean() + (from_target <= 0).float().mean()) / 2
        parts = {"pose_loss": pose, "domain_loss": domain, "domain_accuracy": accuracy}
        return pose + domain, {name: part.detach() for name, part in parts.items()}

    def tell_apart(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the discriminator's logits (n, 1) and (m, 1) of features (n, d) and (m, d)."""
        if self.settings.discriminator == "separate":
            return self.discriminator(source), self.discriminator(target)
        logits = self.discriminator(torch.cat((source, target)))
        return logits[: len(source)], logits[len(source) :]


class PADALike(DANN):
    """DANN with source samples drawn by the paper's Eq. 3."""

    name = "pada-like"

    def looks_at(self, epoch: int) -> Wanted:
        """Return that it looks at the target before the first epoch."""
        return Wanted(target=epoch == 0)

    def sampling(self, epoch: int, look: Look) -> Floats | None:
        """Return the probabilities (n,) of Eq. 3, from the first stage's predictions."""
        if epoch:
            return None
        return weights.pada_like(look.angles, look.target.angles, self.settings.threshold)


class PADACO(DANN):
    """DANN with source samples drawn by how often they are a neighbour of a prediction on the target."""

    name = "padaco"

    def looks_at(self, epoch: int) -> Wanted:
        """Return that it looks at the target before the first epoch."""
        return Wanted(target=epoch == 0)

    def sampling(self, epoch: int, look: Look) -> Floats | None:
        """Return PADACO's probabilities (n,), from the first stage's predictions."""
        if epoch:
            return None
        return weights.padaco(look.angles, look.target.angles, self.settings.neighbours, self.settings.metric)


class ControlUniform(Method):
    """A second stage without an adversary, whose running batch statistics see both domains.

    It trains on the source alone, as the first stage did; the target's images reach nothing but the statistics.
    """

    name = "control-uniform"
    strength = 0.0


class ControlPADALike(ControlUniform):
    """The resampling of PADA-like alone."""

    name = "control-pada-like"
    looks_at, sampling = PADALike.looks_at, PADALike.sampling


class ControlPADACO(ControlUniform):
    """PADACO's resampling alone."""

    name = "control-padaco"
    looks_at, sampling = PADACO.looks_at, PADACO.sampling
