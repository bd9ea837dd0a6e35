"""A method of one's own: the maximum mean discrepancy of the features (Gretton et al., JMLR 2012; Long et al., 2015).

hpp benchmark --method docs.my_method:MMD --task pda --data DATA --out RUNS --preset miniature

A method is handed no label of the target and nothing that leads to one. It is code all the same, which nobody watches:
its entry says that it is its author's own, and on whose honour its figures are.
"""

import torch

from baselines.losses import pose_loss
from baselines.method import Method


def mmd(source, target):
    """Return the squared discrepancy of features (n, d) and (m, d) under a Gaussian kernel, a scalar."""
    both = torch.cat((source, target))
    squares = torch.cdist(both, both).square()
    kernel = torch.exp(-squares / squares.mean().detach())
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


class MMD(Method):
    """The pose loss on the source, plus lambda times the discrepancy of source and target."""

    strength = 1.0  # the highest lambda

    def loss(self, network, batch, lam):
        """Return what a step minimises, and its parts for the log."""
        source, target = network(batch.images), network(batch.target)
        pose = pose_loss(source.angles, network.normalise(batch.degrees))
        discrepancy = mmd(source.features, target.features)
        return pose + lam * discrepancy, {"pose_loss": pose.detach(), "discrepancy": discrepancy.detach()}
