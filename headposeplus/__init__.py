"""The dataset toolkit: Biwi+, SynHead+, SynBiwi+ and SynHead++ from raw Biwi and SynHead.

What people use is here: ``from headposeplus import open_dataset``. Its rooms are the folders. What people use of the
harness is here, too, since a project of theirs may have a folder ``benchmark`` of its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from benchmark.scoring.evaluation import Comparison as Comparison
    from benchmark.scoring.evaluation import Evaluation as Evaluation
    from benchmark.scoring.evaluation import compare as compare
    from benchmark.scoring.evaluation import evaluate as evaluate
    from benchmark.training.network import load_network as load_network
    from headposeplus.boxes.files import read_boxes as read_boxes
    from headposeplus.build.build import build_datasets as build_datasets
    from headposeplus.build.work import Options as Options
    from headposeplus.datasets.dataset import open_dataset as open_dataset
    from headposeplus.datasets.dataset import read_crops as read_crops
    from headposeplus.datasets.dataset import read_labels as read_labels
    from headposeplus.errors import HeadposeError as HeadposeError
    from headposeplus.miniature.write import write_miniature as write_miniature
    from headposeplus.raw.source import Source as Source
    from headposeplus.rotations import convert as convert
    from headposeplus.rotations import from_matrix as from_matrix
    from headposeplus.rotations import geodesic as geodesic
    from headposeplus.rotations import to_matrix as to_matrix
    from headposeplus.verify.datasets import verify_data as verify_data
    from headposeplus.verify.raw import verify_raw as verify_raw

_ROOMS = {
    "Comparison": "benchmark.scoring.evaluation",
    "Evaluation": "benchmark.scoring.evaluation",
    "HeadposeError": "headposeplus.errors",
    "Options": "headposeplus.build.work",
    "Source": "headposeplus.raw.source",
    "build_datasets": "headposeplus.build.build",
    "compare": "benchmark.scoring.evaluation",
    "convert": "headposeplus.rotations",
    "evaluate": "benchmark.scoring.evaluation",
    "from_matrix": "headposeplus.rotations",
    "geodesic": "headposeplus.rotations",
    "load_network": "benchmark.training.network",
    "open_dataset": "headposeplus.datasets.dataset",
    "read_boxes": "headposeplus.boxes.files",
    "read_crops": "headposeplus.datasets.dataset",
    "read_labels": "headposeplus.datasets.dataset",
    "to_matrix": "headposeplus.rotations",
    "verify_data": "headposeplus.verify.datasets",
    "verify_raw": "headposeplus.verify.raw",
    "write_miniature": "headposeplus.miniature.write",
}
__all__ = list(_ROOMS)


def __getattr__(name: str) -> object:
    """Import what is asked for only then: with h5py, OpenCV and SciPy it takes a second."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'headposeplus' has no attribute {name!r}")
    room = _ROOMS[name]
    if room.startswith("headposeplus."):
        return getattr(importlib.import_module(room), name)
    from headposeplus.beside import load

    return getattr(load(room), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return [*_ROOMS, "__version__"]
