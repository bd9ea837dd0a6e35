"""Where Biwi's face boxes come from: the projected head, which never fails, and dlib's detectors, which do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.boxes import files as box_files
from headposeplus.boxes import geometry
from headposeplus.boxes.geometry import BoxTable
from headposeplus.errors import DatasetError, HeadposeError, RawDataError
from headposeplus.faults import Fault
from headposeplus.images import Image, read_image
from headposeplus.raw import biwi, manifest
from headposeplus.rotations import Floats, from_matrix
from headposeplus.tasks import run_tasks

HOG, CNN = "dlib-hog", "dlib-cnn"
# A face found must overlap the projected head by this much (IoU): a detector's box is about half as wide.
MIN_AGREEMENT = 0.1


class Found(NamedTuple):
    """Boxes, and what is wrong with the frames that have none."""

    table: BoxTable
    faults: list[Fault]


class _Sequence(NamedTuple):
    root: Path
    name: str
    group: str
    detector: str | None  # None to project, "" for dlib's HOG detector, else the file of a CNN
    upsample: int


def project(root: Path, jobs: int = 1, manifest_file: Path | None = None) -> Found:
    """Return the boxes of the projected heads of a raw Biwi, each through its sequence's own calibration.

    Raises
    ------
    DatasetError
        If no frame can be read.
    """
    return _all_sequences(root, None, 0, jobs, manifest_file)


def detect(
    root: Path, model: Path | None = None, upsample: int = 1, jobs: int = 1, manifest_file: Path | None = None
) -> Found:
    """Return the boxes of dlib's face detector: HOG (Dalal & Triggs 2005), or a CNN from the file ``model``.

    Of several faces the one that agrees best with the projected head counts. A frame without a face near it gets
    the projection's box, marked :data:`headposeplus.boxes.files.NOT_DETECTED`.

    Raises
    ------
    HeadposeError
        If dlib is not installed, or the model is not one of its detectors.
    DatasetError
        If no frame can be read.
    """
    _load_detector(str(model or ""))  # a wrong model is told before the work begins
    return _all_sequences(root, str(model or ""), upsample, jobs, manifest_file)


def read_angles(folder: Path, manifest_file: Path | None = None) -> tuple[dict[str, Floats], list[Fault]]:
    """Return the ``pyr`` angles (3,), degrees, RGB camera, of a raw Biwi's frames by id, and what cannot be read."""
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    rotations, faults = biwi.rgb_rotations(biwi.find_root(folder), groups)
    angles = {
        biwi.frame_id(name, number): angles
        for name, (numbers, of_frames) in rotations.items()
        for number, angles in zip(numbers, from_matrix(of_frames), strict=True)
    }
    return angles, faults


def _all_sequences(root: Path, detector: str | None, upsample: int, jobs: int, manifest_file: Path | None) -> Found:
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    tasks = [_Sequence(root, name, groups.get(name, ""), detector, upsample) for name in biwi.sequences(root)]
    parts = run_tasks(_sequence, tasks, jobs, "boxes")
    faults = [fault for part in parts for fault in part.faults]
    if not any(len(part.table.ids) for part in parts):
        raise DatasetError(f"{root}: no frame can be read{f'; the first fault: {faults[0]}' if faults else ''}")
    columns = [np.concatenate(arrays) for arrays in zip(*(part.table for part in parts), strict=True)]
    return Found(BoxTable(*columns), faults)


def _sequence(task: _Sequence) -> Found:
    detector = _load_detector(task.detector) if task.detector is not None else None
    try:
        sequence = biwi.open_sequence(task.root, task.name, task.group)
    except RawDataError as error:
        return Found(box_files.make([], np.zeros((0, 4)), geometry.PROJECTED), [error.fault])
    ids, found, sources, faults = [], [], [], list(sequence.faults)
    for frame, pose in sequence.poses():
        if isinstance(pose, Fault):
            faults.append(pose)
            continue
        try:
            faces = detector(read_image(frame.image)[..., :3], task.upsample) if detector else None
        except RawDataError as error:
            faults.append(error.fault)
            continue
        projected = geometry.projected(pose.centre, sequence.camera)
        source = geometry.PROJECTED
        if faces is not None:
            agreement = geometry.iou(faces, projected)
            if len(faces) and agreement.max() >= MIN_AGREEMENT:
                projected, source = faces[int(agreement.argmax())], CNN if task.detector else HOG
            else:
                source = box_files.NOT_DETECTED
        ids.append(frame.id)
        found.append(projected)
        sources.append(source)
    table = BoxTable(
        np.array(ids, dtype=str), np.array(found, np.float64).reshape(-1, 4), np.array(sources, dtype=str),
        np.zeros(len(ids), bool),
    )  # fmt: skip
    return Found(table, faults)


def _load_detector(model: str) -> Callable[[Image, int], Floats]:
    """Return a function from an image and how often it is doubled first to the boxes (n, 4) of its faces."""
    try:
        import dlib
    except ImportError as error:
        raise HeadposeError("face detection needs dlib: pip install 'headposeplus[detect]'") from error
    if model:
        if not Path(model).is_file():
            raise HeadposeError(f"{model}: no such file; expected a CNN face detector of dlib, .dat")
        try:
            network = dlib.cnn_face_detection_model_v1(model)
        except RuntimeError as error:
            raise HeadposeError(f"{model}: not a CNN face detector of dlib: {error}") from error
        return lambda image, upsample: _boxes([face.rect for face in network(np.ascontiguousarray(image), upsample)])
    hog = dlib.get_frontal_face_detector()
    return lambda image, upsample: _boxes(hog(np.ascontiguousarray(image), upsample))


def _boxes(rectangles: list) -> Floats:
    """Return dlib's rectangles, whose right and bottom are their last pixels, as boxes (n, 4)."""
    found = [(r.left(), r.top(), r.right() - r.left() + 1, r.bottom() - r.top() + 1) for r in rectangles]
    return np.array(found, np.float64).reshape(-1, 4)
