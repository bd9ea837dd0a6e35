"""AdaBN: the network of the first stage with the target's own batch statistics, and nothing trained.

Beside it a control, the same with the statistics of both domains.

Li, Wang, Shi, Hou & Liu, "Adaptive Batch Normalization for practical domain adaptation", Pattern Recognition 80, 2018.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from baselines.method import Method


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of every batch normalisation by those of images (n, 3, s, s) in batches.

    A running mean becomes the mean over all images, a running variance the mean of the batches' variances, each batch
    weighted by its images. So what one layer is given is normalised by its own batch in the layers before, as it is in
    training; with small batches the variances leave out how much the batches' means differ. An image that is left over
    for a last batch of its own is left out, since one image has no spread.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    momenta, training = [layer.momentum for layer in layers], network.training
    for layer in layers:
        layer.reset_running_stats()
    network.train()
    try:
        seen = largest = 0
        for images in batches:
            largest = max(largest, len(images))
            if len(images) == 1 < largest:
                continue
            seen += len(images)
            for layer in layers:
                layer.momentum = len(images) / seen  # a plain cumulative average would ignore the size of the batch
            network(images)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        network.train(training)


def statistics_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the running statistics of every batch normalisation, by their names in the network's state."""
    layers = {name for name, layer in network.named_modules() if isinstance(layer, _BatchNorm)}
    return {name: value.clone() for name, value in network.named_buffers() if name.rpartition(".")[0] in layers}


class AdaBN(Method):
    """The batch statistics of the target, after the first stage."""

    name = "adabn"
    trains = False
    batch_statistics = estimated = "target"


def in_turn(source: Iterable[Tensor], target: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield a batch of either domain in turn, a source batch no larger than the target's that follows it."""
    for images, others in zip(source, target, strict=True):
        yield images[: len(others)]
        yield others


class SourceOnlyMixed(Method):
    """The control for the batch statistics of a second stage, whose running ones see both domains in turn.

    Source-only is tested by the source's statistics. What a method gains over this one is not theirs.
    """

    name = "source-only-mixed"
    trains = False
    estimated = "both"
