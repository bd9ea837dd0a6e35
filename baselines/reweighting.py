"""Source weights that bring the source closest to the target in the Wasserstein distance, after AR.

Gu, Yu, Yang, Sun & Xu, "Adversarial Reweighting for Partial Domain Adaptation", NeurIPS 2021: a critic tells the
distance of the features, and source samples that the target has no counterpart for lose their weight. AR itself is a
method for classes, and this is not AR. What differs from the paper and from its authors' code:

- the weights of AR are one part of it; the entropy of the target's class predictions, which it minimises as well, has
  no counterpart in regression, nor have its normalised classifier and its smoothed or pseudo-labels of classes;
- a random pool of ``POOL`` source samples is weighed and the others rest; they weigh the whole source, or 72,000
  samples of ImageNet;
- the critic is smaller and takes 300 steps, theirs 3,000 to 6,000, with a penalty that grows meanwhile;
- rho is ``RADIUS`` for good, where they raise or lower it until the distance that is left lies in a given range;
- features are standardised for the critic, where theirs have a fixed length;
- each weighing is one step from uniform weights with a new critic, as in their code, every ``EVERY`` epochs: in the
  preset ``miniature`` three times in 450 steps, where they train for 3,000 to 100,000.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from baselines.method import Look, Method, Wanted
from headposeplus.rotations import Floats

POOL = 3000  # source samples that are weighed at a time
EVERY = 5  # epochs between two weighings
RADIUS = 5.0  # the paper's rho


def reweight(values: Floats, radius: float) -> Floats:
    """Return the weights w (n,) that minimise ``sum w d`` with w >= 0, sum w = n and ``||w - 1||² <= radius n``.

    With a multiplier t > 0 for the ball, w is the projection of ``-d / t`` onto the simplex; it spreads as t grows.
    Since ``||w - 1||² = ||w||² - n``, the ball says that w is worth at least ``n / (1 + radius)`` samples.

    Parameters
    ----------
    values
        d (n,), the critic's value of each source sample.
    radius
        Positive; the paper's rho.
    """
    count = len(values)
    above = values - values.min()
    lowest = above == 0
    if count <= (1 + radius) * lowest.sum():  # all weight on the lowest value lies within the ball
        return lowest * (count / lowest.sum())
    # A projection is no longer than what is projected, so at ``high`` the weights are within the ball.
    low, high = 0.0, float(np.linalg.norm(above - above.mean()) / np.sqrt(radius * count))
    for _ in range(100):
        middle = (low + high) / 2
        if np.square(_on_simplex(-above / middle) - 1).sum() > radius * count:
            low = middle
        else:
            high = middle
    return _on_simplex(-above / high)


def _on_simplex(point: Floats) -> Floats:
    """Return the nearest point (n,) with coordinates that are not negative and sum to n (Held et al. 1974)."""
    count = len(point)
    descending = np.sort(point)[::-1]
    shifts = (descending.cumsum() - count) / np.arange(1, count + 1)
    return np.clip(point - shifts[descending > shifts][-1], 0, None)


def critic_values(
    source: NDArray[np.float32], target: NDArray[np.float32], seed: int, steps: int = 300, width: int = 64
) -> Floats:
    """Return what a new critic makes of the source (n,): low where it resembles the target.

    The critic maximises its mean over the source (n, d) less that over the target (m, d), with a penalty that keeps
    its gradient near length 1 between the two (Gulrajani et al., NeurIPS 2017). The features are standardised, and
    divided by the root of d, so that distances do not grow with the number of features.
    """
    generator = torch.Generator().manual_seed(seed)
    both = torch.from_numpy(np.concatenate([source, target])).float()
    both = (both - both.mean(0)) / (both.std(0) + 1e-6) / both.shape[1] ** 0.5
    sources, targets = both[: len(source)], both[len(source) :]
    critic = _new_critic(both.shape[1], width, generator)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2, betas=(0.5, 0.9))
    for _ in range(steps):
        s, t = (x[torch.randint(len(x), (128,), generator=generator)] for x in (sources, targets))
        share = torch.rand(128, 1, generator=generator)
        between = (share * s + (1 - share) * t).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        loss = critic(t).mean() - critic(s).mean() + 10 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return np.asarray(critic(sources)[:, 0].double().numpy())


def _new_critic(inside: int, width: int, generator: torch.Generator) -> nn.Sequential:
    """Return an untrained critic whose weights come from ``generator`` alone."""
    layers: list[nn.Module] = []
    for before, after in [(inside, width), (width, width), (width, 1)]:
        with torch.random.fork_rng(devices=[]):  # a layer draws weights of its own, which are not kept
            linear = nn.Linear(before, after)
        nn.init.kaiming_normal_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


class Reweighting(Method):
    """The pose loss of source samples that are drawn by how well they bring the source to the target.

    Every ``EVERY`` epochs a random pool of the source is weighed by its features; the others rest until the next one.
    """

    name = "wasserstein-weights"
    strength = 0.0

    def looks_at(self, epoch: int) -> Wanted:
        """Return that it looks at the target and a pool of the source every ``EVERY`` epochs."""
        return Wanted(True, POOL) if epoch >= 0 and epoch % EVERY == 0 else Wanted()

    def sampling(self, epoch: int, look: Look) -> Floats | None:
        """Return probabilities (n,), 0 outside of a random pool, or None between two weighings."""
        if epoch % EVERY:
            return None
        seed = int(look.rng.integers(2**31))
        values = critic_values(look.source.features, look.target.features, seed)
        probabilities = np.zeros(len(look.angles))
        probabilities[look.rows] = reweight(values, RADIUS) / len(look.rows)
        return probabilities
