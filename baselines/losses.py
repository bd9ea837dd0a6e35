"""Losses as pure functions of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def pose_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of normalised angles (n, 3), a scalar."""
    return functional.mse_loss(predicted, target)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return -ctx.scale * gradients[0], None


def reverse_gradient(x: Tensor, scale: float) -> Tensor:
    """Return x; its gradient is multiplied by ``-scale`` (Ganin & Lempitsky, ICML 2015)."""
    return _Reverse.apply(x, scale)


def domain_loss(source_logits: Tensor, target_logits: Tensor) -> Tensor:
    """Return the mean binary cross-entropy, a scalar, of telling source (1) from target (0); logits (n, 1)."""
    source = functional.binary_cross_entropy_with_logits(source_logits, torch.ones_like(source_logits))
    target = functional.binary_cross_entropy_with_logits(target_logits, torch.zeros_like(target_logits))
    return (source + target) / 2
