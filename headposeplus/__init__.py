"""The dataset toolkit: Biwi+, SynHead+, SynBiwi+ and SynHead++ from raw Biwi and SynHead.

What people use is here: ``from headposeplus import open_dataset``. Its rooms are the folders.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
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
    "HeadposeError": "errors",
    "Options": "build.work",
    "Source": "raw.source",
    "build_datasets": "build.build",
    "convert": "rotations",
    "from_matrix": "rotations",
    "geodesic": "rotations",
    "open_dataset": "datasets.dataset",
    "read_boxes": "boxes.files",
    "read_crops": "datasets.dataset",
    "read_labels": "datasets.dataset",
    "to_matrix": "rotations",
    "verify_data": "verify.datasets",
    "verify_raw": "verify.raw",
    "write_miniature": "miniature.write",
}
__all__ = list(_ROOMS)


def __getattr__(name: str) -> object:
    """Import what is asked for only then: with h5py, OpenCV and SciPy it takes a second."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'headposeplus' has no attribute {name!r}")
    return getattr(importlib.import_module(f"headposeplus.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return [*_ROOMS, "__version__"]
