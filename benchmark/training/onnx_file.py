"""A trained network as an ONNX file, for programs without torch: normalisation, network and rotations in one graph."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.training.network import Predictor, TrainedNetwork
from headposeplus.errors import HeadposeError, TrainingError
from headposeplus.faults import Fault
from headposeplus.files import whole_or_absent
from headposeplus.rotations import to_matrix

INPUT, OUTPUTS = "images", ("angles", "rotations")
TOLERANCE = 1e-3  # degrees between the file's answers and torch's
_COMPARED = (1, 2, 7)  # images in the batches that are compared


class Exported(NamedTuple):
    """How far the answers of an ONNX file are from torch's, at most, in degrees, and of how many random images."""

    degrees: float
    images: int


class _WithRotations(nn.Module):
    """Angles (n, 3), ``pyr`` in degrees, and their rotations (n, 3, 3) of crops (n, 3, s, s)."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        angles = self.predictor(images)
        return angles, _rotations(angles)


def _rotations(angles: Tensor) -> Tensor:
    """Return F Rz(roll) Ry(yaw) Rx(pitch) F (n, 3, 3) of pitch, yaw, roll (n, 3) in degrees; F = diag(1, -1, -1)."""
    radians = torch.deg2rad(angles)
    (a, b, c), (sa, sb, sc) = torch.cos(radians).unbind(1), torch.sin(radians).unbind(1)
    rows = (
        (b * c, a * sc - sa * sb * c, -sa * sc - a * sb * c),
        (-b * sc, a * c + sa * sb * sc, a * sb * sc - sa * c),
        (sb, sa * b, a * b),
    )
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def _metadata(network: TrainedNetwork) -> dict[str, str]:
    """Return what the file says of itself."""
    facts, about, digest = network.facts, network.about, hashlib.sha256()
    for name, value in sorted(network.predictor.network.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return {
        "name": about.name,
        "size": str(facts.size),
        "input": "RGB, 0 to 255, the square about a face box; beyond the image its border is repeated",
        "box_rule": facts.box_rule,
        "convention": facts.convention,
        "camera": facts.camera,
        "angles": "pitch, yaw, roll in degrees",
        "training_data": about.training_data,
        "batch_statistics": about.batch_statistics or "",
        "toolkit": facts.toolkit,
        "weights_sha256": digest.hexdigest(),
    }


def export_onnx(network: TrainedNetwork, path: Path) -> Exported:
    """Write a network as ONNX, and compare the file's answers with torch's.

    Its input ``images`` (n, 3, s, s) is float32, RGB from 0 to 255; its outputs are ``angles`` (n, 3), pitch, yaw, roll
    in degrees (``pyr``), and ``rotations`` (n, 3, 3). Its metadata say the size, the convention and the rest.

    Raises
    ------
    HeadposeError
        If the packages onnx, onnxscript and onnxruntime are not installed, or the file cannot be written.
    TrainingError
        If the answers differ.
    """
    try:
        import onnx  # noqa: F401 - torch's exporter needs it
        import onnxruntime
        import onnxscript  # noqa: F401 - likewise
    except ImportError as error:
        raise HeadposeError("ONNX needs other packages: pip install 'headposeplus[onnx]'") from error
    if path.suffix.lower() != ".onnx":
        raise HeadposeError(Fault("a network is written as ONNX", "choose a name that ends in .onnx", path))
    module, size = _WithRotations(copy.deepcopy(network.predictor)).cpu().eval(), network.facts.size
    program = torch.onnx.export(
        module, (torch.zeros(2, 3, size, size),), dynamo=True, input_names=[INPUT], output_names=OUTPUTS,
        dynamic_shapes=({0: torch.export.Dim("n", min=1)},), verbose=False,
    )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(_metadata(network))
    with whole_or_absent(path) as temporary:
        program.save(str(temporary))
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        rng, largest = np.random.default_rng(0), 0.0
        for count in _COMPARED:
            images = rng.integers(0, 256, (count, 3, size, size)).astype(np.float32)
            angles, rotations = session.run(OUTPUTS, {INPUT: images})
            with torch.inference_mode():
                expected = module.predictor(torch.from_numpy(images)).numpy()
            off = np.abs(angles - expected).max(), np.rad2deg(np.abs(rotations - to_matrix(expected)).max())
            largest = max(largest, *map(float, off))
        if not largest < TOLERANCE:
            what = f"ONNX answers otherwise than torch, by {largest:g} degrees"
            raise TrainingError(Fault(what, "install other versions of onnx, onnxscript or torch", path))
    return Exported(largest, sum(_COMPARED))
