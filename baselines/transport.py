"""Unbalanced mini-batch optimal transport, JUMBOT.

Fatras, Sejourne, Flamary & Courty, "Unbalanced Minibatch Optimal Transport; Applications to Domain Adaptation",
ICML 2021. Their cost of moving a source sample to a target sample adds the distance of the features to the
cross-entropy of the source's label under the target's prediction; for poses, a squared error takes the place of the
cross-entropy. Mass that is dear to move is destroyed instead, so that a sample need not have a counterpart in the
other domain.

It is not tested as published. For partial domain adaptation the authors take squared distances of features, summed and
times 0.003, cross-entropies times 0.75, a regularisation of 0.01, a price of destroyed mass of 0.06 and ten times the
cost of the plan, the same from the first of 2,000 to 40,000 steps, and draw the source's classes alike in every batch.
Here the costs are means of squares, lambda grows, and the preset ``miniature`` has 450 steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from baselines.losses import pose_loss
from baselines.method import DomainBatch, Method, Parts, of_target
from baselines.networks import PoseNetwork


def unbalanced_sinkhorn(cost: Tensor, regularisation: float, marginal: float, iterations: int) -> Tensor:
    """Return the plan P (n, m) of entropic unbalanced optimal transport between uniform masses a (n,) and b (m,).

    It minimises ``<P, C> + regularisation KL(P | a bᵀ) + marginal (KL(P 1 | a) + KL(Pᵀ 1 | b))``, where KL(p | q) is
    the sum of ``p log(p / q) - p + q``, by Sinkhorn's iterations in the log domain.

    Parameters
    ----------
    cost
        C (n, m), of moving a unit of mass.
    regularisation
        Larger values blur the plan; in the units of the cost.
    marginal
        The price of creating or destroying mass; infinite for balanced transport, else in the units of the cost.
    iterations
        How often both potentials are updated.
    """
    n, m = cost.shape
    damping = 1 / (1 + regularisation / marginal)
    scaled = -cost / regularisation
    f, g = scaled.new_zeros(n, 1), scaled.new_zeros(1, m)
    for _ in range(iterations):
        f = -damping * (torch.logsumexp(scaled + g, dim=1, keepdim=True) - math.log(m))
        g = -damping * (torch.logsumexp(scaled + f, dim=0, keepdim=True) - math.log(n))
    return torch.exp(scaled + f + g) / (n * m)


class Transport(Method):
    """The pose loss, and lambda times the cost of moving the source batch to the target batch.

    A pair costs ``feature_cost`` times the mean squared difference of its features, plus ``pose_cost`` times the mean
    squared difference of the source's label and the target's prediction, both in normalised angles. The plan is found
    without a gradient; its cost passes one to the features of both and to the predictions on the target.

    How much a plan moves is in the log (``transported_mass``, of 1). With this ``marginal`` that is far more than the
    share of the source's poses that the target has: the rest of what is moved joins poses that differ.
    """

    name = "jumbot"
    strength = 1.0
    feature_cost = 1.0
    pose_cost = 1.0
    regularisation = 0.05
    marginal = 0.5
    iterations = 50

    def loss(self, network: PoseNetwork, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Return the pose loss plus lambda times the cost of the plan, a scalar, and its parts for the log."""
        source, target = network(batch.images), of_target(network, batch.target, lam)
        labels = network.normalise(batch.degrees)
        pose = pose_loss(source.angles, labels)
        features = _mean_squares(source.features, target.features)
        cost = self.feature_cost * features + self.pose_cost * _mean_squares(labels, target.angles)
        plan = unbalanced_sinkhorn(cost.detach(), self.regularisation, self.marginal, self.iterations)
        transport = (plan * cost).sum()
        parts = {"pose_loss": pose, "transport_loss": transport, "transported_mass": plan.sum()}
        return pose + lam * transport, {name: part.detach() for name, part in parts.items()}


def _mean_squares(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared differences (n, m) of rows (n, d) and (m, d)."""
    products = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return products.clamp_min(0) / a.shape[1]
