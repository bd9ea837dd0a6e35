"""Relative pose consistency with a mean teacher.

Kuhnke, Ihler & Ostermann, "Relative Pose Consistency for Semi-Supervised Head Pose Estimation", FG 2021, and "Domain
Adaptation for Head Pose Estimation Using Relative Pose Consistency", IEEE TBIOM 2023; the teacher is that of
Tarvainen & Valpola, "Mean Teachers Are Better Role Models", NeurIPS 2017. An image that is turned in its plane shows
a pose that is turned as much, and a mirrored one the mirrored pose, whatever the pose is: the target teaches without a
label.

Two things of the papers are left out: their augmentations that keep the pose, of colour and sharpness, and that both
images of a pair are altered; the teacher here sees the image as it is. How far images are turned, how often they are
mirrored and how much the terms weigh is chosen here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from baselines.adversarial import PADACO
from baselines.devices import send
from baselines.losses import pose_loss
from baselines.mean_teacher import Taught
from baselines.method import DomainBatch, Parts, of_target
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


class Alteration(NamedTuple):
    """What is done to images: which are mirrored (n,), bool, and then by how much each is turned clockwise (n,).

    The turns are in degrees.
    """

    mirrored: Tensor
    turned: Tensor

    def images(self, images: Tensor) -> Tensor:
        """Return square images (n, c, s, s) mirrored left to right and turned."""
        return turn(torch.where(self.mirrored[:, None, None, None], images.flip(3), images), self.turned)

    def rotations(self, rotations: Tensor) -> Tensor:
        """Return the rotations (n, 3, 3) that altered images of such ones show: ``Rz(a) M R M``, M = diag(-1, 1, 1)."""
        mirror = rotations.new_tensor([-1, 1, 1])
        signs = torch.where(self.mirrored[:, None, None], mirror[:, None] * mirror, 1)
        return about_z(self.turned) @ (signs * rotations)


def draw_alteration(count: int, largest_turn: float, device: torch.device) -> Alteration:
    """Return an alteration of images: half of them mirrored, turned by up to some degrees either way."""
    # Drawn on the CPU, so that a GPU trains on the same images.
    mirrored, turned = torch.rand(2, count)
    return Alteration(send(mirrored < 0.5, device), send((2 * turned - 1) * largest_turn, device))


def consistency_loss(student: Tensor, teacher: Tensor, alteration: Alteration, angle_std: Tensor) -> Tensor:
    """Return how far the student's rotations are from the teacher's, altered as the student's images are, a scalar.

    The squared chord ``||A - B||²`` of two rotations is about twice their squared angle in radians. A sixth of it is
    thus the mean squared error of the three angles near the frontal pose; times the mean of ``1 / angle_std²``, it is
    the pose loss of an error that is alike in the three.

    Parameters
    ----------
    student, teacher
        Angles (n, 3), ``pyr`` in degrees, of the altered images and of the images as they were.
    alteration
        What was done to the student's images.
    angle_std
        By what the angles are normalised (3,), in degrees.
    """
    chord = to_matrix(student) - alteration.rotations(to_matrix(teacher))
    return chord.square().sum((1, 2)).mean() / 6 * torch.deg2rad(angle_std).pow(-2).mean()


class RelativePose(Taught):
    """The pose loss, and lambda times the inconsistency of the poses of altered images, of both domains.

    On the target a teacher says what the pose was before, on the source the label. The source's altered images leave
    the network's running batch statistics alone, which so see as many batches of either domain as other methods' do.
    """

    name = "rcr"
    strength = 1.0
    largest_turn = 30.0  # degrees

    def loss(self, network: PoseNetwork, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Return the pose loss plus lambda times the inconsistency, a scalar, and its parts for the log."""
        on_source, on_target = (
            draw_alteration(len(images), self.largest_turn, images.device) for images in (batch.images, batch.target)
        )
        source, target = network(batch.images), of_target(network, on_target.images(batch.target), lam)
        own = {name: buffer.clone() for name, buffer in network.named_buffers()}  # that the next pass may move
        again = functional_call(network, own, (on_source.images(batch.images),))
        with torch.no_grad():
            taught = network.degrees(self.teacher(batch.target).angles)
        pose = pose_loss(source.angles, network.normalise(batch.degrees))
        consistency = consistency_loss(network.degrees(target.angles), taught, on_target, network.angle_std)
        altered = consistency_loss(network.degrees(again.angles), batch.degrees, on_source, network.angle_std)
        parts = {"pose_loss": pose, "consistency_loss": consistency, "altered_pose_loss": altered}
        return pose + lam * (consistency + altered), {name: part.detach() for name, part in parts.items()}


class RelativePosePADACO(RelativePose):
    """Relative pose consistency with source samples drawn by PADACO."""

    name = "rcrw"
    looks_at, sampling = PADACO.looks_at, PADACO.sampling
