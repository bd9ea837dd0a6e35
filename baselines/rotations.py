"""Rotations of predicted angles that a gradient passes through: the counterpart of :mod:`headposeplus.rotations`."""

from __future__ import annotations

import torch
from torch import Tensor


def to_matrix(degrees: Tensor) -> Tensor:
    """Return the rotations (n, 3, 3) of angles (n, 3), ``pyr`` in degrees.

    F R F = Rz(roll) Ry(yaw) Rx(pitch) with F = diag(1, -1, -1). F turns the y and the z axis round, so it changes the
    sign of yaw and of roll, and R = Rz(-roll) Ry(-yaw) Rx(pitch).
    """
    radians = torch.deg2rad(degrees)
    (cp, cy, cr), (sp, sy, sr) = radians.cos().unbind(1), radians.sin().unbind(1)
    rows = [
        [cr * cy, sr * cp - cr * sy * sp, -sr * sp - cr * sy * cp],
        [-sr * cy, cr * cp + sr * sy * sp, -cr * sp + sr * sy * cp],
        [sy, cy * sp, cy * cp],
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def about_z(degrees: Tensor) -> Tensor:
    """Return Rz(a), shape (n, 3, 3), of angles (n,) in degrees: the image turned clockwise, since y points down."""
    radians = torch.deg2rad(degrees)
    cos, sin = radians.cos(), radians.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
