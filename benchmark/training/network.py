"""A trained network, as a run leaves it in ``model.pt``: its weights, its batch statistics, and what they are of.

The file is enough by itself: it says which images the network takes and what it answers, and may be copied anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from baselines.adabn import statistics_of
from baselines.networks import BACKBONES, IMAGE_MEAN, IMAGE_STD, PoseNetwork, make_network
from benchmark.scoring.submission import About, read_about
from benchmark.training.checkpoint import check_alike, load, save
from benchmark.training.job import MODEL, PREDICTIONS, find_device
from benchmark.training.settings import RUN
from headposeplus import __version__
from headposeplus.errors import DatasetError, HeadposeError, ImageError, TrainingError
from headposeplus.faults import RESTORE, Fault, said, shown
from headposeplus.images import Image, crop, crop_matrix, read_image
from headposeplus.rotations import Floats, to_matrix

STATISTICS = ("source", "target")  # estimated anew; the running statistics of training are ``mixed``
OFFICIAL = "run"  # the batch statistics by which predictions.csv was made
BATCH = 64  # images that pass the network at once
_VERSION = 1  # of the file's shape
_ANEW = f"delete {PREDICTIONS} in its run's folder and type the run's command again, which trains nothing twice"
_LEFT = f"expected the folder of a method that hpp benchmark has left, or its {MODEL}"
_VALUES = tuple[float, float, float]


class NetworkStates(NamedTuple):
    """The state of a network, and the batch statistics, of each of :data:`STATISTICS`, that it may have instead."""

    network: dict[str, Tensor]
    statistics: dict[str, dict[str, Tensor]]


class NetworkFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a network takes and answers.

    Attributes
    ----------
    backbone
        One of :data:`baselines.networks.BACKBONES`.
    size
        The crops' side in pixels.
    box_rule
        The boxes that its source was cropped by (:data:`headposeplus.boxes.geometry.RULE`).
    image_mean, image_std
        By which RGB in [0, 1] is normalised.
    convention, camera
        Of its answers.
    toolkit
        The version that trained it.
    """

    backbone: str
    size: Annotated[int, msgspec.Meta(ge=8, le=1024)]
    box_rule: str
    image_mean: _VALUES = IMAGE_MEAN
    image_std: _VALUES = IMAGE_STD
    convention: Literal["pyr"] = "pyr"
    camera: Literal["rgb"] = "rgb"
    toolkit: str = __version__


class Predicted(NamedTuple):
    """The poses in n images: ``angles`` (n, 3), pitch, yaw, roll in degrees, ``pyr``; ``rotations`` (n, 3, 3)."""

    angles: Floats
    rotations: Floats


class Predictor(nn.Module):
    """From crops to angles: normalisation and network in one module.

    It takes RGB (n, 3, s, s), float32 from 0 to 255, and returns pitch, yaw, roll (n, 3) in degrees, ``pyr``.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: PoseNetwork, facts: NetworkFacts) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (facts.image_mean, facts.image_std))
        self.register_buffer("scale", (1 / (255 * std)).float().view(3, 1, 1))
        self.register_buffer("shift", (-mean / std).float().view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the angles."""
        output: Tensor = self.network.degrees(self.network(images * self.scale + self.shift).angles)
        return output


class TrainedNetwork(NamedTuple):
    """A network that predicts.

    Attributes
    ----------
    predictor
        Crops to angles, in evaluation mode.
    facts
        What it takes and answers.
    about
        What the TOML beside the run's predictions says.
    """

    predictor: Predictor
    facts: NetworkFacts
    about: About

    def predict(self, images: Sequence[Image | Path | str], boxes: ArrayLike | None = None) -> Predicted:
        """Return the poses in images: paths, or RGB arrays (height, width, 3), uint8.

        ``boxes`` (n, 4) are x, y, width, height in pixels; without them each image is taken whole, as the crop of a
        face. A crop is the square about a box, as datasets are built: beyond the image, its border is repeated.

        Raises
        ------
        ImageError
            If an image cannot be read, or is no RGB.
        DatasetError
            If there is not a box for each image, or one is not of its image.
        """
        chosen = None if boxes is None else np.asarray(boxes, np.float64)
        if chosen is not None and chosen.shape != (len(images), 4):
            what = f"boxes of shape {chosen.shape} for {len(images)} images"
            raise DatasetError(Fault(what, "expected x, y, width, height for each"))

        def crop_of(row: int) -> Image:
            return _cropped(images[row], None if chosen is None else chosen[row], row, self.facts.size)

        starts = range(0, len(images), BATCH)
        parts = [self.poses([crop_of(row) for row in range(len(images))[start : start + BATCH]]) for start in starts]
        angles = np.concatenate([np.zeros((0, 3)), *(part.angles for part in parts)])
        return Predicted(angles, to_matrix(angles))

    @torch.inference_mode()
    def poses(self, crops: Sequence[Image]) -> Predicted:
        """Return the poses in crops (s, s, 3), RGB, uint8, of the network's size, all in one batch."""
        images = torch.from_numpy(np.stack(crops)).to(self.predictor.scale.device)
        angles = self.predictor(images.permute(0, 3, 1, 2).float()).double().cpu().numpy()
        return Predicted(angles, to_matrix(angles))


def _cropped(image: Image | Path | str, box: Floats | None, row: int, size: int) -> Image:
    place = f"image {row}" if isinstance(image, np.ndarray) else Path(image)
    try:
        return cut(image if isinstance(image, np.ndarray) else read_upright(Path(image)), box, size)
    except HeadposeError as error:
        raise type(error)(error.fault._replace(file=place)) from error


def read_upright(path: Path) -> Image:
    """Return a picture (height, width, 3), RGB, turned as its EXIF says; raises ImageError if it cannot be read."""
    try:
        return read_image(path, upright=True)
    except ImageError as error:
        mend = "save it as PNG or JPEG" if error.fault.mend == RESTORE else error.fault.mend
        raise ImageError(error.fault._replace(mend=mend)) from error


def cut(image: Image, box: Floats | None, size: int) -> Image:
    """Return the crop (size, size, 3) of an RGB image about a box (4,), or of the whole image.

    Raises
    ------
    ImageError
        If the image is none.
    DatasetError
        If the box has no area, or its middle lies outside the image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4) or not image.size:
        raise ImageError(Fault(f"{image.shape}, {image.dtype}", "expected RGB (height, width, 3), uint8"))
    sides = np.array(image.shape[1::-1], np.float64)
    box = np.concatenate((np.zeros(2), sides)) if box is None else box
    middle = box[:2] + box[2:] / 2
    if not (np.isfinite(box).all() and (box[2:] > 0).all() and (middle >= 0).all() and (middle <= sides).all()):
        numbers, (width, height) = ", ".join(f"{value:g}" for value in box), image.shape[1::-1]
        what = f"the box {numbers} is not one of an image of {width} x {height} pixels"
        raise DatasetError(Fault(what, "expected x, y, width, height in its pixels, turned as a viewer shows it"))
    return crop(np.ascontiguousarray(image[..., :3]), crop_matrix(box, size), size)


def save_network(path: Path, states: NetworkStates, facts: NetworkFacts, about: About) -> None:
    """Write a network and what it is."""
    described = {"version": _VERSION, "facts": msgspec.to_builtins(facts), "about": about.to_toml()}
    save(path, {**described, "network": states.network, "statistics": states.statistics})


def load_network(model: str | Path, statistics: str = OFFICIAL, device: str = "auto") -> TrainedNetwork:
    """Return the network of a run: of a method's folder that ``hpp benchmark`` has left, or of its ``model.pt``.

    Nothing in the file is executed, and its checksums are compared.

    Parameters
    ----------
    model
        The folder or the file.
    statistics
        By whose batch statistics it predicts: ``run`` as in ``predictions.csv``, ``source`` or ``target`` as in
        ``predictions-source.csv`` and ``predictions-target.csv``.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. It computes in float32.

    Raises
    ------
    TrainingError
        If there is no such file, or it is damaged, of another version, or lacks those statistics.
    """
    path, where = _file_of(Path(model)), find_device(device)
    try:
        content = load(path, torch.device("cpu"))
    except TrainingError as error:
        raise TrainingError(error.fault._replace(mend=_ANEW if path.name == MODEL else _LEFT)) from error
    facts, about = _described(path, content)
    network, kept = make_network(facts.backbone), content["statistics"]
    try:
        check_alike(content["network"], network.state_dict(), "network")
        check_alike(kept, dict.fromkeys(STATISTICS, statistics_of(network)), "statistics")
    except ValueError as error:
        raise TrainingError(Fault(f"damaged ({said(error, 160)})", _ANEW, path)) from error
    if statistics not in (OFFICIAL, *STATISTICS):
        raise TrainingError(f"`statistics` {statistics}: expected one of {', '.join((OFFICIAL, *STATISTICS))}")
    network.load_state_dict(content["network"])
    if statistics != OFFICIAL:
        network.load_state_dict(kept[statistics], strict=False)
        about = msgspec.structs.replace(about, batch_statistics=anew(statistics))
    return TrainedNetwork(Predictor(network.requires_grad_(False), facts).to(where).eval(), facts, about)


def anew(kind: str) -> str:
    """Return how the TOML beside predictions tells batch statistics that were estimated anew."""
    return f"{kind}, estimated anew"


def _file_of(model: Path) -> Path:
    """Return the file of a network, or of the one in a run's folder; raises TrainingError if that has none."""
    path = model / MODEL
    if not model.is_dir() or path.exists():
        return path if model.is_dir() else model
    if not (model / RUN).exists():
        raise TrainingError(Fault(f"holds no {MODEL}", _LEFT, model))
    if (model / PREDICTIONS).exists():
        raise TrainingError(Fault(f"holds no {MODEL}, which an older version of the toolkit left out", _ANEW, model))
    raise TrainingError(Fault("the run has not ended", "type its command again, and it goes on", model))


def _described(path: Path, content: Any) -> tuple[NetworkFacts, About]:
    """Return what a file says of its network; raises TrainingError if it is no network's, or another version's."""
    if not isinstance(content, dict) or "network" not in content:
        raise TrainingError(Fault("holds no network of a run", _LEFT, path))
    if content.keys() == {"network"}:
        what = "holds weights alone, as the first stage and an older version of the toolkit left them"
        raise TrainingError(Fault(what, f"name the folder of a method; if this is one's, {_ANEW}", path))
    if content.get("version") != _VERSION:
        raise TrainingError(Fault("of another version of the toolkit", "predict with that one", path))
    try:
        facts = msgspec.convert(content["facts"], NetworkFacts)
        about, faults = read_about(content["about"].encode())
        if faults or facts.backbone not in BACKBONES or not content.keys() >= {"statistics"}:
            raise ValueError(f"network {shown(facts.backbone)}, {len(faults)} faults in what is said of it")
    except (ValueError, LookupError, AttributeError) as error:
        raise TrainingError(Fault(f"damaged ({said(error, 160)})", _ANEW, path)) from error
    return facts, about
