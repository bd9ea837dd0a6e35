"""DARE-GRAM (Nejjar, Wang & Fink, CVPR 2023): alignment of the inverse Gram matrices of the features.

A linear regressor is fitted through the inverse of the features' Gram matrix, so that is what should agree: the angle
between its columns, and the scale of its spectrum, in the subspace that holds most of both.

It is not tested as published. The authors train for 10,000 to 20,000 steps with the same weight from the first one;
here lambda grows, and the preset ``miniature`` has 450 steps, of which lambda is at its highest for the last 150. Their
labels lie in [0, 1] and their features come from ImageNet weights with batches of 36, so the same weights meet losses
of another scale here; and for each pair of domains they choose the angle's weight (0.01 to 0.5), the scale's (0.00001
to 0.003) and the share of the eigenvalues (0.9 to 0.999), which are one for all here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from baselines.losses import pose_loss
from baselines.method import DomainBatch, Method, Parts, of_target
from baselines.networks import PoseNetwork

SHARE = 0.99  # of the eigenvalues' sum, which the subspace holds
SCALE = 0.02  # weight of the scale beside the angle: the authors' 0.001 and 0.05
FLOOR = 1e-5  # of the largest eigenvalue: what is below is rounding in single precision


def _gram(features: Tensor) -> Tensor:
    """Return the Gram matrix (d + 1, d + 1) of features (n, d) and a column of ones, for a regressor with a bias."""
    extended = functional.pad(features, (1, 0), value=1.0)
    return extended.T @ extended


def _inverse(gram: Tensor, spectrum: Tensor, count: int) -> Tensor:
    """Return the pseudo-inverse (d, d) of a Gram matrix by the first ``count`` of its eigenvalues, largest first."""
    # The cut lies halfway to the first eigenvalue outside: at that eigenvalue itself, rounding would decide. The
    # gradient of pinv, unlike that of eigenvectors, is finite where eigenvalues are equal. The floor is for a domain
    # of a lower rank than the other one needs: rounding, inverted, would be all there is.
    cut = ((spectrum[count - 1] + spectrum[count]) / (2 * spectrum[0])).clamp(min=FLOOR)
    return torch.linalg.pinv(gram, rtol=cut.detach(), hermitian=True)


def dare_gram_loss(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angle and the scale term, scalars, of features (n, d) and (m, d)."""
    grams = [_gram(source), _gram(target)]
    # Eigenvalues, largest first.
    spectra = [torch.linalg.eigvalsh(gram).flip(0) for gram in grams]
    count = max(int((spectrum.cumsum(0) <= SHARE * spectrum.sum()).sum()) for spectrum in spectra)
    count = min(max(count, 1), len(spectra[0]) - 1)
    ours, theirs = (_inverse(gram, spectrum, count) for gram, spectrum in zip(grams, spectra, strict=True))
    angle = (1 - functional.cosine_similarity(ours, theirs, dim=0)).mean()
    scale = torch.linalg.vector_norm(spectra[0][:count] - spectra[1][:count]) / count
    return angle, scale


class DAREGRAM(Method):
    """Alignment of inverse Gram matrices, made for regression."""

    name = "dare-gram"
    strength = 0.05

    def loss(self, network: PoseNetwork, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Return the pose loss plus lambda times the terms of angle and of scale."""
        source, target = network(batch.images), of_target(network, batch.target, lam)
        pose = pose_loss(source.angles, network.normalise(batch.degrees))
        angle, scale = dare_gram_loss(source.features, target.features)
        parts = {"pose_loss": pose, "angle_loss": angle, "scale_loss": scale}
        return pose + lam * (angle + SCALE * scale), {name: part.detach() for name, part in parts.items()}
