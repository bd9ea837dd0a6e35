"""Where Biwi's face boxes come from: the projected head, which never fails, and files of others.

Detectors, which do fail, are in :mod:`headposeplus.boxes.detection`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.boxes.compare import apply_mapping, read_mapping
from headposeplus.boxes.files import read_boxes
from headposeplus.boxes.geometry import PROJECTED, BoxTable, iou, join_boxes, make_boxes, projected
from headposeplus.boxes.placement import check_boxes
from headposeplus.errors import DatasetError, RawDataError
from headposeplus.faults import Fault
from headposeplus.raw import biwi, manifest
from headposeplus.raw.ids import frame_id
from headposeplus.rotations import Floats, from_matrix
from headposeplus.tasks import run_tasks

# From a frame and its projected head (4,) to its box (4,) and the source; raises RawDataError if it cannot be read.
Find = Callable[[biwi.Frame, Floats], tuple[Floats, str]]


class FrameBoxes(NamedTuple):
    """Boxes of a raw Biwi's frames, what is wrong with the frames that have none, and the width of the images."""

    table: BoxTable
    faults: list[Fault]
    width: int = biwi.WIDTH


NO_BOXES = make_boxes([], np.zeros((0, 4)), PROJECTED)


class _Task(NamedTuple):
    """A sequence whose heads are projected."""

    root: Path
    sequence: str
    group: str


def project_heads(root: Path, jobs: int = 1, manifest_file: Path | None = None) -> FrameBoxes:
    """Return the boxes of the projected heads of a raw Biwi, each through its sequence's own calibration.

    Raises
    ------
    DatasetError
        If no frame can be read.
    """
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    tasks = [_Task(root, name, groups.get(name, "")) for name in biwi.sequences(root)]
    return joined(root, run_tasks(_project_sequence, tasks, jobs, "boxes"))


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


def _project_sequence(task: _Task) -> FrameBoxes:
    try:
        return boxes_of(biwi.open_sequence(task.root, task.sequence, task.group))
    except RawDataError as error:
        return FrameBoxes(NO_BOXES, [error.fault])


def boxes_of(sequence: biwi.Sequence, find: Find | None = None) -> FrameBoxes:
    """Return the boxes of a sequence's frames: those that ``find`` gives, or the projected heads."""
    ids, boxes, sources, faults = [], [], [], list(sequence.faults)
    for frame, pose in sequence.poses():
        if isinstance(pose, Fault):
            faults.append(pose)
            continue
        box, source = projected(pose, sequence.camera), PROJECTED
        if find:
            try:
                box, source = find(frame, box)
            except RawDataError as error:
                faults.append(error.fault)
                continue
        ids.append(frame.id)
        boxes.append(box)
        sources.append(source)
    table = make_boxes(ids, np.array(boxes), PROJECTED)
    return FrameBoxes(table._replace(sources=np.array(sources, dtype=str)), faults, sequence.camera.width)


def joined(root: Path, parts: Sequence[FrameBoxes]) -> FrameBoxes:
    """Return the boxes of a raw Biwi from those of its parts; raises DatasetError if no frame can be read."""
    faults = [fault for part in parts for fault in part.faults]
    filled = [part for part in parts if len(part.table.ids)]
    if not filled:
        first = f"; the first fault: {faults[0]}" if faults else ""
        raise DatasetError(Fault(f"no frame can be read{first}", file=root))
    return FrameBoxes(join_boxes([part.table for part in filled]), faults, filled[0].width)
