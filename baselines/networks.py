"""Networks: a feature extractor F with a pose regressor R, and a domain discriminator D.

The paper's F is a ResNet18 with ImageNet weights, R one linear layer of 512 to 3, and D two linear layers
with batch normalisation and a leaky rectifier between them (Kuhnke & Ostermann, ICCV 2019, section 4.2).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from baselines import pretrained
from headposeplus.errors import TrainingError
from headposeplus.faults import Fault, said

# Of the images that the ImageNet weights were trained on; RGB in [0, 1].
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
BACKBONES = ("resnet18", "slim")


class Output(NamedTuple):
    """What a network makes of a batch: features (n, d) and normalised angles (n, 3)."""

    features: Tensor
    angles: Tensor


class PoseNetwork(nn.Module):
    """F and R, and the statistics by which the angles are normalised.

    ``angle_mean`` and ``angle_std`` (3,), in degrees, are those of the source labels; ``width`` is d, the number of
    features. With ``low_precision``, the network computes in bfloat16 where that is safe; what it returns is float32.
    """

    angle_mean: Tensor
    angle_std: Tensor

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.regressor = nn.Linear(width, 3)
        self.width = width
        self.low_precision = False
        self.register_buffer("angle_mean", torch.zeros(3))
        self.register_buffer("angle_std", torch.ones(3))

    def forward(self, images: Tensor) -> Output:
        """Return features and normalised angles of images (n, 3, s, s), normalised RGB."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.low_precision):
            features = self.features(images).float()
        # Not in bfloat16, whose steps are a quarter of a degree and more.
        return Output(features, self.regressor(features))

    def normalise(self, degrees: Tensor) -> Tensor:
        """Return angles (n, 3), pitch, yaw, roll in degrees, as the network is asked for them."""
        return (degrees - self.angle_mean) / self.angle_std

    def degrees(self, normalised: Tensor) -> Tensor:
        """Return normalised angles (n, 3) in degrees."""
        return normalised * self.angle_std + self.angle_mean


def make_discriminator(width: int) -> nn.Sequential:
    """Return an untrained D: features (n, width) to logits (n, 1), positive for the source."""
    return nn.Sequential(
        nn.Linear(width, width), nn.BatchNorm1d(width), nn.LeakyReLU(0.2, inplace=True), nn.Linear(width, 1)
    )


class _Block(nn.Module):
    """A residual block of two 3 x 3 convolutions; the first one halves the resolution."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inside, outside, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, 2, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.path(x) + self.shortcut(x))


def _slim() -> tuple[nn.Module, int]:
    """Return a small residual network for small images: a stem and three blocks, 16 to 128 channels."""
    stem = [nn.Conv2d(3, 16, 5, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    blocks = [_Block(16, 32), _Block(32, 64), _Block(64, 128)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 128


def _resnet18(weights: str, tell: Callable[[str], None] | None) -> tuple[nn.Module, int]:
    import torchvision  # takes seconds, and the slim network does without

    network = torchvision.models.resnet18(weights=None)
    width = network.fc.in_features
    network.fc = nn.Identity()
    if weights == "imagenet":
        pretrained.fill(network, _imagenet(), "delete it, and it is downloaded again")
    elif weights != "none":
        taken = pretrained.fill(network, Path(weights))
        if tell:
            tell(taken)
    return network, width


def _imagenet() -> Path:
    """Return where torchvision's cache has the ImageNet weights of ResNet18; they are downloaded if need be."""
    import torchvision

    official = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(official.url).name
    if not path.exists():
        try:
            official.get_state_dict(progress=sys.stderr.isatty(), check_hash=True)
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                Fault(
                    f"the ImageNet weights of ResNet18 are not there and cannot be downloaded ({said(error, 300)})",
                    "put the file there, give another one as `weights`, or train from scratch: `weights` none",
                    path,
                )
            ) from error
    return path


def make_network(backbone: str, weights: str = "none", tell: Callable[[str], None] | None = None) -> PoseNetwork:
    """Return an untrained network.

    Parameters
    ----------
    backbone
        One of :data:`BACKBONES`.
    weights
        For ``resnet18``: ``imagenet``, ``none``, or the path of a file that holds the weights of one.
    tell
        What is called with a line that says what of such a file was taken, and what was left out.

    Raises
    ------
    TrainingError
        If the weights are not to be had, or are not those of the backbone.
    """
    if backbone == "slim":
        if weights != "none":
            what = f"`weights` {weights}: the slim network of the presets miniature and trial begins anew"
            raise TrainingError(Fault(what, "use `weights` none, or the preset paper"))
        return PoseNetwork(*_slim())
    if backbone == "resnet18":
        return PoseNetwork(*_resnet18(weights, tell))
    raise TrainingError(f"unknown network {backbone!r}: expected one of {', '.join(BACKBONES)}")
