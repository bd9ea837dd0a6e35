"""Relative pose consistency with a mean teacher.

Kuhnke, Ihler & Ostermann, "Relative Pose Consistency for Semi-Supervised Head Pose Estimation", FG 2021, and "Domain
Adaptation for Head Pose Estimation Using Relative Pose Consistency", IEEE TBIOM 2023; the teacher is that of
Tarvainen & Valpola, "Mean Teachers Are Better Role Models", NeurIPS 2017. An image that is turned in its plane shows
a pose that is turned as much, whatever the pose is: the target teaches without a label.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn import functional

from baselines.adversarial import PADACO
from baselines.losses import pose_loss
from baselines.method import DomainBatch, Look, Method, Parts
from baselines.networks import PoseNetwork
from baselines.rotations import about_z, to_matrix


def turn(images: Tensor, degrees: Tensor) -> Tensor:
    """Return square images (n, c, s, s) turned clockwise about their centres by angles (n,) in degrees.

    The corners that come from outside are filled by reflection.
    """
    # The grid asks where each pixel of the result comes from, so it is turned the other way.
    theta = about_z(-degrees)[:, :2]
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def consistency_loss(student: Tensor, teacher: Tensor, turned: Tensor, angle_std: Tensor) -> Tensor:
    """Return how far the student's rotations are from ``Rz(a)`` times the teacher's, a scalar.

    The squared chord ``||A - B||²`` of two rotations is about twice their squared angle in radians. A sixth of it is
    thus the mean squared error of the three angles near the frontal pose; times the mean of ``1 / angle_std²``, it is
    the pose loss of an error that is alike in the three.

    Parameters
    ----------
    student, teacher
        Angles (n, 3), ``pyr`` in degrees, of the turned images and of the unturned ones.
    turned
        By how much the images were turned clockwise (n,), in degrees.
    angle_std
        By what the angles are normalised (3,), in degrees.
    """
    chord = to_matrix(student) - about_z(turned) @ to_matrix(teacher)
    return chord.square().sum((1, 2)).mean() / 6 * torch.deg2rad(angle_std).pow(-2).mean()


class RelativePose(Method):
    """The pose loss, and lambda times the inconsistency of the poses of turned target images.

    The teacher's parameters are an exponential moving average of the network's. Its running batch statistics are the
    network's own of the moment, and it predicts by them, as the network does when it is tested: those of a target
    batch would absorb the shift between the labels of source and target.
    """

    name = "rcr"
    summary = "consistency of the poses of turned target images (Kuhnke & Ostermann 2021, 2023)"
    strength = 1.0
    decay = 0.99
    largest_turn = 30.0  # degrees

    def start(self, network: PoseNetwork, look: Look) -> None:
        """Make the teacher, a copy of the network of the first stage."""
        self.teacher = copy.deepcopy(network).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> RelativePose:
        """Set the mode of all but the teacher, which keeps to its running statistics."""
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, network: PoseNetwork, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Return the pose loss plus lambda times the inconsistency, a scalar, and its parts for the log."""
        # Drawn on the CPU, so that a GPU trains on the same angles.
        degrees = ((2 * torch.rand(len(batch.target)) - 1) * self.largest_turn).to(batch.target.device)
        source, target = network(batch.images), network(turn(batch.target, degrees))
        with torch.no_grad():
            taught = self.teacher(batch.target)
        pose = pose_loss(source.angles, network.normalise(batch.degrees))
        consistency = consistency_loss(
            network.degrees(target.angles), network.degrees(taught.angles), degrees, network.angle_std
        )
        return pose + lam * consistency, {"pose_loss": pose.detach(), "consistency_loss": consistency.detach()}

    @torch.no_grad()
    def after_step(self, network: PoseNetwork) -> None:
        """Move the teacher's parameters towards the network's, and take over its running statistics."""
        for mean, parameter in zip(self.teacher.parameters(), network.parameters(), strict=True):
            mean.lerp_(parameter, 1 - self.decay)
        for own, buffer in zip(self.teacher.buffers(), network.buffers(), strict=True):
            own.copy_(buffer)


class RelativePosePADACO(RelativePose):
    """Relative pose consistency with source samples drawn by PADACO."""

    name = "rcrw"
    summary = "rcr with PADACO's sampling"
    sampling = PADACO.sampling
