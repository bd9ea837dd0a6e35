"""Where Biwi's face boxes come from: the projected head, which never fails, and dlib's detectors, which do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.boxes.compare import apply_mapping, read_mapping
from headposeplus.boxes.files import read_boxes
from headposeplus.boxes.formats import NOT_DETECTED
from headposeplus.boxes.geometry import PROJECTED, BoxTable, iou, join_boxes, make_boxes, projected
from headposeplus.boxes.placement import check_boxes
from headposeplus.errors import DatasetError, HeadposeError, RawDataError
from headposeplus.faults import Fault
from headposeplus.images import Image, read_image
from headposeplus.raw import biwi, manifest
from headposeplus.raw.ids import frame_id
from headposeplus.rotations import Floats, from_matrix
from headposeplus.tasks import run_tasks

HOG, CNN = "dlib-hog", "dlib-cnn"
# A detected face must overlap the projected head by this much (IoU): a detector's box is about half as wide.
MIN_AGREEMENT = 0.1

Detector = Callable[[Image], Floats]  # from an image to the boxes (n, 4) of its faces


class FrameBoxes(NamedTuple):
    """Boxes of a raw Biwi's frames, what is wrong with the frames that have none, and the width of the images."""

    table: BoxTable
    faults: list[Fault]
    width: int = biwi.WIDTH


class _Detection(NamedTuple):
    """Which of dlib's detectors to use: HOG, or the CNN of a file; and how often an image is doubled first."""

    model: str
    upsample: int

    @property
    def source(self) -> str:
        return CNN if self.model else HOG


class _Task(NamedTuple):
    """A sequence whose boxes are wanted; without a detection the heads are projected."""

    root: Path
    sequence: str
    group: str
    detection: _Detection | None


def project_heads(root: Path, jobs: int = 1, manifest_file: Path | None = None) -> FrameBoxes:
    """Return the boxes of the projected heads of a raw Biwi, each through its sequence's own calibration.

    Raises
    ------
    DatasetError
        If no frame can be read.
    """
    return _all_sequences(root, None, jobs, manifest_file)


def detect_faces(
    root: Path, model: Path | None = None, upsample: int = 1, jobs: int = 1, manifest_file: Path | None = None
) -> FrameBoxes:
    """Return the boxes of dlib's face detector: HOG (Dalal & Triggs 2005), or a CNN from the file ``model``.

    Of several faces the one that agrees best with the projected head counts. A frame without a face near it gets
    the projection's box, marked :data:`headposeplus.boxes.files.NOT_DETECTED`. An image is doubled ``upsample`` times
    first, for small faces.

    Raises
    ------
    HeadposeError
        If dlib is not installed, or the model is not one of its detectors.
    DatasetError
        If no frame can be read.
    """
    detection = _Detection(str(model or ""), upsample)
    _load_detector(detection)  # a wrong model is told before the work begins
    return _all_sequences(root, detection, jobs, manifest_file)


class Imported(NamedTuple):
    """Boxes of a file, and what comparing them with the heads of a raw copy told.

    ``misplaced`` are the ids of those that cannot be, ``compared`` is how many were compared, ``overlap`` their mean
    IoU with the boxes that the poses give, and ``faults`` are what is wrong with the frames that were to tell it.
    """

    table: BoxTable
    misplaced: list[str]
    compared: int = 0
    overlap: float = 0.0
    faults: tuple[Fault, ...] = ()


def import_boxes(
    path: Path,
    corners: bool = False,
    image_width: int | None = None,
    transform: Path | None = None,
    biwi_folder: Path | None = None,
    manifest_file: Path | None = None,
    jobs: int = 1,
) -> Imported:
    """Return the boxes of a file in raw pixels, compared with the heads of a raw Biwi where that is given.

    Parameters
    ----------
    path
        The file.
    corners
        Read x, y, width and height as x1, y1, x2 and y2.
    image_width
        Of the images that the boxes are of; None means that of the raw images.
    transform
        A mapping (:func:`headposeplus.boxes.compare.read_mapping`) to apply.
    biwi_folder, manifest_file, jobs
        The raw Biwi, what a full copy holds, and the number of processes.

    Raises
    ------
    DatasetError
        If the file cannot be read, or most of its boxes cannot be.
    """
    mapping = read_mapping(transform) if transform else None
    table = read_boxes(path, corners)
    heads = project_heads(biwi.find_root(biwi_folder), jobs, manifest_file) if biwi_folder else None
    width = heads.width if heads else biwi.WIDTH
    if image_width:
        table = table._replace(boxes=table.boxes * (width / image_width))
    misplaced = check_boxes(table, path, heads.table if heads else None, width)
    imported = Imported(apply_mapping(mapping, table) if mapping else table, misplaced)
    if heads is None:
        return imported
    rows = heads.table.positions(table.ids)
    overlap = float(iou(table.boxes[rows >= 0], heads.table.boxes[rows[rows >= 0]]).mean())
    return imported._replace(compared=int((rows >= 0).sum()), overlap=overlap, faults=tuple(heads.faults))


def read_angles(folder: Path, manifest_file: Path | None = None) -> tuple[dict[str, Floats], list[Fault]]:
    """Return the ``pyr`` angles (3,), degrees, RGB camera, of a raw Biwi's frames by id, and what cannot be read."""
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    rotations, faults = biwi.rgb_rotations(biwi.find_root(folder), groups)
    angles = {
        frame_id(name, number): angles
        for name, (numbers, of_frames) in rotations.items()
        for number, angles in zip(numbers, from_matrix(of_frames), strict=True)
    }
    return angles, faults


def _all_sequences(root: Path, detection: _Detection | None, jobs: int, manifest_file: Path | None) -> FrameBoxes:
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    tasks = [_Task(root, name, groups.get(name, ""), detection) for name in biwi.sequences(root)]
    parts = run_tasks(_boxes_of_sequence, tasks, jobs, "boxes")
    faults = [fault for part in parts for fault in part.faults]
    if not any(len(part.table.ids) for part in parts):
        first = f"; the first fault: {faults[0]}" if faults else ""
        raise DatasetError(Fault(f"no frame can be read{first}", file=root))
    width = next(part.width for part in parts if len(part.table.ids))
    return FrameBoxes(join_boxes([part.table for part in parts]), faults, width)


def _boxes_of_sequence(task: _Task) -> FrameBoxes:
    detector = _load_detector(task.detection) if task.detection else None
    try:
        sequence = biwi.open_sequence(task.root, task.sequence, task.group)
    except RawDataError as error:
        return FrameBoxes(make_boxes([], np.zeros((0, 4)), PROJECTED), [error.fault])
    ids, boxes, sources, faults = [], [], [], list(sequence.faults)
    for frame, pose in sequence.poses():
        if isinstance(pose, Fault):
            faults.append(pose)
            continue
        box, source = projected(pose, sequence.camera), PROJECTED
        if detector and task.detection:
            try:
                faces = detector(read_image(frame.image)[..., :3])
            except RawDataError as error:
                faults.append(error.fault)
                continue
            face = _nearest_face(faces, box)
            box, source = (box, NOT_DETECTED) if face is None else (face, task.detection.source)
        ids.append(frame.id)
        boxes.append(box)
        sources.append(source)
    table = make_boxes(ids, np.array(boxes), PROJECTED)
    return FrameBoxes(table._replace(sources=np.array(sources, dtype=str)), faults, sequence.camera.width)


def _nearest_face(faces: Floats, head: Floats) -> Floats | None:
    """Return that of some faces (n, 4) which agrees best with the projected head (4,); None if none is near it."""
    agreement = iou(faces, head)
    if not len(faces) or agreement.max() < MIN_AGREEMENT:
        return None
    return faces[int(agreement.argmax())]


def _load_detector(detection: _Detection) -> Detector:
    """Return one of dlib's detectors; raises HeadposeError if dlib is not installed, or the model is none of its."""
    try:
        import dlib
    except ImportError as error:
        raise HeadposeError("face detection needs dlib: pip install 'headposeplus[detect]'") from error
    model, upsample = detection
    if not model:
        hog = dlib.get_frontal_face_detector()
        return lambda image: _boxes(hog(np.ascontiguousarray(image), upsample))
    if not Path(model).is_file():
        raise HeadposeError(Fault("no such file", "expected a CNN face detector of dlib, .dat", model))
    try:
        network = dlib.cnn_face_detection_model_v1(model)
    except RuntimeError as error:
        raise HeadposeError(Fault(f"not a CNN face detector of dlib: {error}", file=model)) from error
    return lambda image: _boxes([face.rect for face in network(np.ascontiguousarray(image), upsample)])


def _boxes(rectangles: list) -> Floats:
    """Return dlib's rectangles, whose right and bottom are their last pixels, as boxes (n, 4)."""
    boxes = [(r.left(), r.top(), r.right() - r.left() + 1, r.bottom() - r.top() + 1) for r in rectangles]
    return np.array(boxes, np.float64).reshape(-1, 4)
