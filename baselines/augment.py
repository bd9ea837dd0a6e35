"""Augmentation of source images: another light and camera, and another box, drawn anew for every image and epoch.

All functions take what is drawn as numbers, so the same numbers give the same images on every device, up to rounding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from baselines.devices import send
from headposeplus.errors import TrainingError
from headposeplus.rotations import Floats

KINDS = ("none", "photometric", "boxes", "all")
DRAWS = 14  # numbers in [0, 1) that an image needs


class Strengths(NamedTuple):
    """How far an image is changed at most; the draws are uniform up to there.

    Attributes
    ----------
    brightness, cast
        Each channel's values are multiplied by up to 1 ± brightness, the same for all three, and by up to 1 ± cast.
    contrast, gamma
        The lowest and the highest factor of the distance to the image's mean, and exponent of values in [0, 1].
    light
        By how much of itself the light falls or grows from the image's middle to its border, as under another lamp.
    blur
        Standard deviation of a Gaussian as a share of the image's side: 1 pixel of 32.
    noise
        Standard deviation, of values in [0, 1].
    shift, scale
        How far the box's middle moves along x and along y, and its side grows or shrinks, as shares of its side.
    """

    brightness: float = 0.25
    cast: float = 0.1
    contrast: tuple[float, float] = (0.7, 1.3)
    gamma: tuple[float, float] = (0.7, 1.4)
    light: float = 0.4
    blur: float = 1 / 32
    noise: float = 0.04
    shift: float = 0.05
    scale: float = 0.05


STRENGTHS = Strengths()


class Change(NamedTuple):
    """What happens to each of n images.

    Attributes
    ----------
    gain
        The factor of each channel (n, 3): brightness and colour cast.
    light
        The lamp's direction in the image times its strength (n, 2), x and y.
    contrast, gamma, blur, noise
        (n,), the blur as a share of the side.
    seed
        Of the noise of each pixel (n,), int64.
    box
        The shift along x and y in shares of the side, and the factor of the side (n, 3).
    """

    gain: Tensor
    light: Tensor
    contrast: Tensor
    gamma: Tensor
    blur: Tensor
    noise: Tensor
    seed: Tensor
    box: Tensor


def check(kind: str) -> None:
    """Raise TrainingError if there is no such augmentation."""
    if kind not in KINDS:
        raise TrainingError(f"unknown `augment` {kind!r}: expected one of {', '.join(KINDS)}")


def change_of(draws: Floats, device: torch.device) -> Change:
    """Return the change that numbers (n, :data:`DRAWS`) in [0, 1) stand for, on a device."""
    most = STRENGTHS
    brightness, contrast, gamma, blur, noise, turn, light, scale = draws[:, :8].T
    around, seed = 2 * draws - 1, np.floor(draws[:, 13] * 2.0**53).astype(np.int64)  # a draw has 53 bits
    columns = (
        (1 + most.brightness * (2 * brightness[:, None] - 1)) * (1 + most.cast * around[:, 8:11]),
        most.light * light[:, None] * np.stack((np.cos(2 * math.pi * turn), np.sin(2 * math.pi * turn)), axis=1),
        most.contrast[0] + (most.contrast[1] - most.contrast[0]) * contrast[:, None],
        most.gamma[0] + (most.gamma[1] - most.gamma[0]) * gamma[:, None],
        most.blur * blur[:, None],
        most.noise * noise[:, None],
        most.shift * around[:, 11:13],
        1 + most.scale * (2 * scale[:, None] - 1),
    )
    together = send(torch.from_numpy(np.concatenate(columns, axis=1)).float(), device)  # in one go
    gain, lamp, contrasts, gammas, blurs, noises, box = together.split((3, 2, 1, 1, 1, 1, 3), dim=1)
    return Change(
        gain=gain,
        light=lamp,
        contrast=contrasts[:, 0],
        gamma=gammas[:, 0],
        blur=blurs[:, 0],
        noise=noises[:, 0],
        seed=send(torch.from_numpy(seed), device),
        box=box,
    )


def augment(images: Tensor, change: Change, kind: str) -> Tensor:
    """Return changed images (n, 3, s, s) with values in [0, 1]; ``kind`` is one of :data:`KINDS`.

    The order is that in which an image comes about: the box, the light, the lens, the camera's tones, its noise.
    """
    if kind in ("boxes", "all"):
        images = other_box(images, change.box)
    if kind in ("photometric", "all"):
        images = lit(images, change.gain, change.light)
        images = blurred(images, change.blur, STRENGTHS.blur)
        images = toned(images, change.contrast, change.gamma)
        images = keyed_noise(change.seed, images.shape[-1]).mul_(change.noise.view(-1, 1, 1, 1)).add_(images)
    return images.clamp_(0, 1) if kind != "none" else images


def other_box(images: Tensor, box: Tensor) -> Tensor:
    """Return the crops (n, 3, s, s) of other boxes: ``box`` (n, 3) is the shift in x and y, and the factor of the side.

    A crop samples the raw image on a grid that its box spans, and a shifted and scaled box spans a shifted and scaled
    grid. To sample the crop itself there is the same, up to one more linear interpolation and to what lies outside
    the crop, which is not known and stands mirrored at the border.
    """
    matrices = torch.zeros(len(images), 2, 3, device=images.device)
    matrices[:, 0, 0] = matrices[:, 1, 1] = box[:, 2]
    matrices[:, :, 2] = 2 * box[:, :2]  # the side goes from -1 to 1
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def lit(images: Tensor, gain: Tensor, light: Tensor) -> Tensor:
    """Return images (n, 3, s, s) under a light that changes along a line, times a gain (n, 3) of each channel.

    ``light`` (n, 2) is by how much of itself the light grows from the middle to the right and to the lower border.
    """
    count, channels, size, _ = images.shape
    line = (torch.arange(size, device=images.device) + 0.5) * (2 / size) - 1
    one = torch.ones(size, size, device=images.device)
    basis = torch.stack((one, one * line, one * line[:, None])).view(3, -1)
    factors = gain[:, :, None] * torch.cat((torch.ones_like(light[:, :1]), light), dim=1)[:, None]
    return images * (factors.view(-1, 3) @ basis).view(count, channels, size, size)


def blurred(images: Tensor, blur: Tensor, most: float) -> Tensor:
    """Return images (n, c, s, s) after a Gaussian of standard deviation ``blur`` (n,), in shares of the side.

    It reaches two standard deviations of ``most``, the largest blur, and the image is mirrored about its first and
    last pixels.
    """
    size = images.shape[-1]
    reach = math.ceil(2 * most * size)
    steps = torch.arange(reach + 1, device=images.device)
    sigma = (blur * size).clamp(min=1e-3)[:, None]  # no blur at all
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    weights = (weights / (2 * weights.sum(dim=1, keepdim=True) - 1))[:, :, None, None, None]
    for axis, padding in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        padded = functional.pad(images, padding, mode="reflect")
        images = images * weights[:, 0]
        # A sum of shifted images: on a CPU many times as fast as a convolution with a kernel an image.
        for step in range(1, reach + 1):
            both = padded.narrow(axis, reach - step, size) + padded.narrow(axis, reach + step, size)
            images.addcmul_(both, weights[:, step])
    return images


def toned(images: Tensor, contrast: Tensor, gamma: Tensor) -> Tensor:
    """Return images (n, 3, s, s): the distance to the mean times ``contrast``, cut to [0, 1], to the power ``gamma``.

    Both are (n,).
    """
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    spread = (images - mean).mul_(contrast.view(-1, 1, 1, 1)).add_(mean)
    return spread.clamp_(0, 1).pow_(gamma.view(-1, 1, 1, 1))


_LANES = 0x00FF00FF00FF00FF  # the lower byte of each 16 bits
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_BYTES_MEAN, _BYTES_STD = 4 * 127.5, math.sqrt(4 * (256**2 - 1) / 12)  # of the sum of four


def keyed_noise(seed: Tensor, size: int) -> Tensor:
    """Return noise (n, 3, s, s) of mean 0 and deviation 1 that depends on the seeds (n,), int64, and the place alone.

    A value is the sum of four random bytes, which is nearly normal (within 3.5 deviations). The bytes are those of a
    counter mixed by SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), in whole numbers: the same on every device.
    """
    values = 3 * size * size
    words = -(-values // 4)
    places = torch.arange(1, words + 1, device=seed.device) * _GOLDEN
    mixed = _mix(seed[:, None] + places)
    sums = (mixed & _LANES).add_((mixed >> 8) & _LANES)
    mixed = _mix(mixed)
    sums.add_(mixed & _LANES).add_((mixed >> 8) & _LANES)  # four sums side by side, none of which overflows
    lanes = sums.view(torch.int16)[:, :values].reshape(-1, 3, size, size)
    return lanes.float().sub_(_BYTES_MEAN).div_(_BYTES_STD)


def _mix(numbers: Tensor) -> Tensor:
    """Return what SplitMix64 makes of int64 numbers, in their place; sums and products wrap around."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        numbers ^= (numbers >> shift).bitwise_and_((1 << 64 - shift) - 1)  # a shift that fills in zeros
        numbers *= factor - (1 << 64) * (factor >> 63)
    return numbers
