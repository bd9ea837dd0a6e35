"""Scores that allow for where in the image a face was, which a crop of it does not show.

A network that reads crops sees a pose relative to the ray that the camera sees the box's middle along; labels are
relative to the camera's axis. With K of the camera and the box's middle (u, v), the ray is d = K^-1 (u, v, 1), made as
long as 1, and the smallest rotation S that takes (0, 0, 1) to d takes a pose relative to the ray, R, to the camera's:
S R.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec import UNSET

from benchmark.scoring import metrics
from benchmark.scoring.entry import Entry
from benchmark.scoring.figures import MEASURES, Scores
from benchmark.scoring.protocols import Reference
from headposeplus.boxes.geometry import middles
from headposeplus.errors import DatasetError, SubmissionError
from headposeplus.faults import Fault
from headposeplus.raw import biwi, manifest
from headposeplus.raw.targets import BIWI_PLUS, TITLES, of_protocol
from headposeplus.rotations import Floats, to_ray

if TYPE_CHECKING:
    from headposeplus.datasets.dataset import Dataset


def ray_rotations(boxes: Floats, cameras: Floats) -> Floats:
    """Return the rotations S (n, 3, 3) of boxes (n, 4), x, y, width and height in pixels, and K of each (n, 3, 3)."""
    pixels = np.column_stack((middles(boxes), np.ones(len(boxes))))
    return to_ray(np.asarray(np.linalg.solve(cameras, pixels[:, :, None])[:, :, 0], np.float64))


def rays_of(dataset: Dataset, ids: np.ndarray, protocol: str = "") -> Floats:
    """Return the rotations (n, 3, 3) to the viewing rays of a built Biwi+'s frames (n,).

    Raises
    ------
    DatasetError
        If the dataset does not say its cameras, and they do not follow from the protocol's name.
    """
    return ray_rotations(*_boxes_and_cameras(dataset, ids, protocol))


def ray_scores(rotations: Floats, reference: Reference) -> Scores:
    """Return the scores of rotations (s, n, 3, 3) of s seeds, taken as relative to the viewing ray of each box.

    Raises
    ------
    SubmissionError
        If the test set has no calibrated camera, its labels are not a built dataset, or the protocol's camera is not
        the one that the boxes are of.
    DatasetError
        If the dataset does not say its cameras.
    """
    labels, protocol = reference.labels, reference.protocol
    assert labels is not None
    turned = rays_of(_dataset_of(reference), labels.ids, protocol.id) @ rotations
    tables = [metrics.frame_errors(of_seed, labels.rotations, protocol.convention).table for of_seed in turned]
    return metrics.named(np.mean(tables, axis=(0, 1)))


def describe(entry: Entry) -> str:
    """Return the scores with the viewing ray as a line; empty where an entry has none."""
    if entry.ray is UNSET:
        return ""
    errors = ", ".join(f"{name} {getattr(entry.ray, name):.2f}" for name in MEASURES)
    return f"With the viewing ray: {errors}."


def _dataset_of(reference: Reference) -> Dataset:
    """Return the built Biwi+ that the labels are from; raises SubmissionError if they are not."""
    labels, protocol = reference.labels, reference.protocol
    dataset = labels.dataset if labels is not None else None
    target = of_protocol(protocol.id) if dataset is None else dataset.name
    if target is not None and target != BIWI_PLUS:
        what = f"{TITLES.get(target, target)} has no calibrated camera, so its viewing rays are not known"
        raise SubmissionError(Fault(what, "leave out `ray`"))
    if dataset is None:
        raise SubmissionError("`ray` needs the boxes and the cameras of a build: give the labels by `data`")
    if protocol.camera != "rgb":
        what = f"{protocol.id} scores poses in the {protocol.camera} camera, and boxes are those of the rgb camera"
        raise SubmissionError(Fault(what, "leave out `ray`"))
    return dataset


def _boxes_and_cameras(dataset: Dataset, ids: np.ndarray, protocol: str) -> tuple[Floats, Floats]:
    """Return the boxes (n, 4) and camera matrices (n, 3, 3) of frames (n,)."""
    from headposeplus.datasets.dataset import read_fields  # h5py, which scores of files do without

    shards = list(read_fields(dataset, "id", "box"))
    names, boxes = (np.concatenate([fields[name] for fields in shards]) for name in ("id", "box"))
    position = {name: row for row, name in enumerate(names.tolist())}
    known = _cameras(dataset, protocol)
    sequences = [name.split("/")[1] for name in ids.tolist()]
    unknown = sorted(set(sequences) - known.keys())
    if unknown:
        some = ", ".join(unknown[:3]) + (" and others" if len(unknown) > 3 else "")
        what = f"does not say the cameras of its sequences {some}"
        raise DatasetError(Fault(what, "build it again with this version", dataset.folder))
    rows = [position[name] for name in ids.tolist()]
    return boxes[rows].astype(np.float64), np.array([known[name] for name in sequences])


def _cameras(dataset: Dataset, protocol: str) -> dict[str, list[list[float]]]:
    """Return K of each sequence; of the real Biwi they are known where the build does not say them."""
    if dataset.info.cameras is not None:
        return dataset.info.cameras
    if not protocol.startswith(f"{BIWI_PLUS}/"):
        return {}
    groups = manifest.calibration_groups(manifest.read())
    return {name: biwi.known_camera(group).matrix.tolist() for name, group in groups.items()}
