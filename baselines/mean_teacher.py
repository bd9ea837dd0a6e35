"""A mean teacher for poses: a network should say of a changed or mirrored image what its teacher says of the image.

Tarvainen & Valpola, "Mean Teachers Are Better Role Models", NeurIPS 2017, with the augmentations of
:mod:`baselines.augment` on the student's side. A mirrored image shows the mirrored pose, so the teacher answers by the
mean of what it says of an image and of its mirror image, which takes out much of its error of yaw and roll.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from baselines.augment import DRAWS, augment, change_of
from baselines.devices import send
from baselines.losses import pose_loss
from baselines.method import DomainBatch, Look, Method, Parts, of_target
from baselines.networks import IMAGE_MEAN, IMAGE_STD, PoseNetwork

MIRRORED = (1.0, -1.0, -1.0)  # what mirroring does to pitch, yaw and roll


def changed(images: Tensor) -> Tensor:
    """Return normalised images (n, 3, s, s) in another light, from another camera and of another box.

    What happens is drawn from torch's random numbers on the CPU, so a GPU trains on the same images.
    """
    mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    draws = torch.rand(len(images), DRAWS, dtype=torch.float64).numpy()
    return (augment(images * std + mean, change_of(draws, images.device), "all") - mean) / std


def symmetric(network: PoseNetwork, images: Tensor) -> Tensor:
    """Return the angles (n, 3) of images in degrees, the mean over each image and its mirror image."""
    both = network.degrees(network(torch.cat((images, images.flip(3)))).angles)
    return (both[: len(images)] + both[len(images) :] * both.new_tensor(MIRRORED)) / 2


class Taught(Method):
    """The base of methods with a mean teacher.

    The teacher's parameters are an exponential moving average of the network's. Its running batch statistics are the
    network's own of the moment, and it predicts by them, as the network does when it is tested: those of a target
    batch would absorb the shift between the labels of source and target.
    """

    decay = 0.99

    def start(self, network: PoseNetwork, look: Look) -> None:
        """Make the teacher, a copy of the network of the first stage."""
        self.teacher = copy.deepcopy(network).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Taught:
        """Set the mode of all but the teacher, which keeps to its running statistics."""
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def after_step(self, network: PoseNetwork) -> None:
        """Move the teacher's parameters towards the network's, and take over its running statistics."""
        for mean, parameter in zip(self.teacher.parameters(), network.parameters(), strict=True):
            mean.lerp_(parameter, 1 - self.decay)
        for own, buffer in zip(self.teacher.buffers(), network.buffers(), strict=True):
            own.copy_(buffer)


class MeanTeacher(Taught):
    """The pose loss, and lambda times the squared difference between the student and a teacher on the target.

    It is the teacher that predicts in the end.
    """

    name = "mean-teacher"
    strength = 3.0

    def loss(self, network: PoseNetwork, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Return the pose loss plus lambda times the difference to the teacher, a scalar, and its parts for the log."""
        target = batch.target
        mirrored = send(torch.rand(len(target)) < 0.5, target.device)
        seen = torch.where(mirrored[:, None, None, None], target.flip(3), target)
        source, student = network(batch.images), of_target(network, changed(seen), lam)
        with torch.no_grad():
            taught = symmetric(self.teacher, target)
            taught = torch.where(mirrored[:, None], taught * taught.new_tensor(MIRRORED), taught)
        pose = pose_loss(source.angles, network.normalise(batch.degrees))
        difference = pose_loss(student.angles, network.normalise(taught))
        parts = {"pose_loss": pose, "consistency_loss": difference}
        return pose + lam * difference, {name: part.detach() for name, part in parts.items()}

    def predictor(self, network: PoseNetwork) -> PoseNetwork:
        """Return the teacher."""
        return self.teacher
