"""Checks a sequence of raw Biwi against the manifest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from headposeplus.errors import RawDataError
from headposeplus.faults import Fault, plural
from headposeplus.images import check_whole, read_image
from headposeplus.raw import biwi, manifest
from headposeplus.raw.folders import by_name, present
from headposeplus.raw.manifest import ListedSequence
from headposeplus.raw.meshes import mesh_file, read_mesh
from headposeplus.rotations import from_matrix, geodesic
from headposeplus.verify.reading import RESTORE_THEM, TRUNCATED, image_fault, mended, read, state_of
from headposeplus.verify.report import LabelCheck, OptionalFiles, SequenceCheck, compare_labels

# pose.txt has six significant digits: 0.005 mm at a metre and more, and less than 0.001 degrees.
ANNOTATION_DEGREES, ANNOTATION_MM = 0.01, 0.05


class _Frames(NamedTuple):
    """The frames of a sequence's folder, the sequence if it could be opened, and what is wrong."""

    frames: list[biwi.Frame]
    sequence: biwi.Sequence | None
    faults: list[Fault]


def check_sequence(
    task: tuple[str, ListedSequence | None], root: Path, deep: bool
) -> tuple[SequenceCheck, list[Fault]]:
    """Check a sequence, given its name and, if any, its row of the manifest."""
    name, listed = task
    expected = set(listed.numbers) if listed else set()
    frames, sequence, faults = _find_frames(root, name, listed)
    present = {frame.number for frame in frames}
    missing, extra = expected - present, present - expected
    image_faults = _check_images(frames, sequence, deep)
    poses, pose_faults = _read_poses(frames, sequence)
    unreadable = present - poses.keys()
    unreadable |= {number for number, fault in image_faults.items() if fault.kind != TRUNCATED}
    labels, label_faults = _check_labels(root / name, sequence, poses, listed)
    optional, optional_faults = _check_optional(root, name, frames, deep)
    if deep:
        read_pose = sequence.read_pose if sequence else biwi.read_pose
        optional, annotation_faults = _compare_annotations(root, name, poses, read_pose, optional)
        optional_faults += annotation_faults
    check = SequenceCheck(
        unit=name,
        subject=listed.subject if listed else "",
        expected=len(expected),
        present=len(expected & present),
        missing=len(missing),
        extra=len(extra),
        unreadable=len(unreadable),
        truncated=sum(fault.kind == TRUNCATED for fault in image_faults.values()),
        missing_frames=manifest.to_ranges(missing),
        extra_frames=manifest.to_ranges(extra),
        stand_ins=manifest.to_ranges(frame.number for frame in frames if frame.pose.suffix.lower() == ".bin"),
        labels=labels,
        optional=optional,
    )
    remarks = {
        "rgb.cal faulty": not sequence,
        "labels deviate": bool(label_faults),
        "optional files damaged": bool(optional_faults),
        "not in the manifest": not listed,
    }
    state = state_of(check, remarks) if frames else "absent"
    faults += [*image_faults.values(), *pose_faults, *label_faults, *optional_faults]
    return msgspec.structs.replace(check, state=state), faults


def _find_frames(root: Path, name: str, listed: ListedSequence | None) -> _Frames:
    """Return the frames of a sequence beside those that the manifest lists."""
    folder = root / name
    expected = set(listed.numbers) if listed else set()
    frames: list[biwi.Frame] = []
    faults: list[Fault] = []
    sequence = None
    try:
        frames, faults = biwi.list_frames(root, name)
        if absent := expected - {frame.number for frame in frames}:
            what = f"{len(absent)} of {len(expected)} frames missing: {manifest.to_ranges(absent)}"
            faults.append(Fault(what, RESTORE_THEM, folder))
        sequence = biwi.open_sequence(root, name, listed.calibration_group if listed else "")
    except RawDataError as error:
        faults.append(mended(error.fault))
    if listed is None:
        faults.append(Fault(f"the manifest has no sequence {name}", "move the folder away", folder))
    elif extra := {frame.number for frame in frames} - expected:
        what = f"{plural(len(extra), 'frame')} that the manifest does not list: {manifest.to_ranges(extra)}"
        faults.append(Fault(what, "move them away", folder))
    return _Frames(frames, sequence, faults)


def _check_images(frames: list[biwi.Frame], sequence: biwi.Sequence | None, deep: bool) -> dict[int, Fault]:
    """Return the faults of the frames' images by number."""
    decode = partial(biwi.read_rgb_image, rgb=sequence.camera) if sequence else read_image
    checks = {frame.number: image_fault(frame.image, decode if deep else check_whole) for frame in frames}
    return {number: fault for number, fault in checks.items() if fault}


def _read_poses(frames: list[biwi.Frame], sequence: biwi.Sequence | None) -> tuple[dict[int, biwi.Pose], list[Fault]]:
    """Return the frames' poses by number, in the depth camera if there is no sequence; and the faults of the others."""
    poses, faults = {}, []
    for frame, pose in sequence.poses() if sequence else biwi.depth_poses(frames):
        if isinstance(pose, Fault):
            faults.append(mended(pose))
        else:
            poses[frame.number] = pose
    return poses, faults


def _check_labels(
    folder: Path, sequence: biwi.Sequence | None, poses: dict[int, biwi.Pose], listed: ListedSequence | None
) -> tuple[LabelCheck, list[Fault]]:
    """Compare a sequence's labels with the manifest, where all frames that it lists have a pose in the RGB camera."""
    if not (listed and sequence and listed.numbers and poses.keys() >= set(listed.numbers)):
        return LabelCheck("not comparable: absent or unreadable poses or rgb.cal"), []
    rotations = np.stack([poses[number].rotation for number in sorted(listed.numbers)])
    return compare_labels(from_matrix(rotations), listed, folder)


def _check_optional(root: Path, name: str, frames: list[biwi.Frame], deep: bool) -> tuple[OptionalFiles, list[Fault]]:
    """Count a sequence's optional files; a deep check also reads them."""
    wanted = [frame.number for frame in frames]
    files: dict[str, tuple[Callable[[Path], object], list[Path]]] = {
        "depth": (biwi.read_depth, [root / name / f"frame_{number:05d}_depth.bin" for number in wanted]),
        "masks": (biwi.read_mask, [biwi.head_mask(root, name, number) for number in wanted]),
        "depth_cal": (lambda path: biwi.read_depth_camera(root, name), [root / name / "depth.cal"]),
        "meshes": (read_mesh, [mesh_file(root, name)]),
        "annotations": (biwi.read_pose, [biwi.annotation(root, name, number) for number in wanted]),
    }
    counts, faults = {}, []
    for kind, (reader, paths) in files.items():
        there = present(paths)
        counts[kind] = len(there)
        contents = [read(reader, path) for path in (there if deep else ())]
        faults += [content for content in contents if isinstance(content, Fault)]
    return OptionalFiles(**counts), faults


def _compare_annotations(
    root: Path,
    name: str,
    poses: dict[int, biwi.Pose],
    read_pose: Callable[[Path], biwi.Pose],
    optional: OptionalFiles,
) -> tuple[OptionalFiles, list[Fault]]:
    """Compare each ``pose.bin`` with the frame's pose in the same camera; add how many, and how much they differ."""
    faults, differences = [], {}
    annotations = by_name(biwi.annotation(root, name, 0).parent)
    for number, pose in poses.items():
        path = annotations.get(biwi.annotation(root, name, number).name)
        if path is None:
            continue
        annotated = read(read_pose, path)
        if isinstance(annotated, Fault):
            faults.append(annotated)
            continue
        degrees = float(geodesic(annotated.rotation, pose.rotation))
        differences[number] = degrees, float(np.linalg.norm(annotated.centre - pose.centre))
    off = [n for n, (degrees, mm) in differences.items() if degrees > ANNOTATION_DEGREES or mm > ANNOTATION_MM]
    if off:
        of_all = f"of {len(differences)} pose.bin"
        what = (
            f"{plural(len(off), f'{of_all} is not its', f'{of_all} are not their')} pose.txt within "
            f"{ANNOTATION_DEGREES} degrees and {ANNOTATION_MM} mm: frames {manifest.to_ranges(off)}"
        )
        faults.append(Fault(what, "restore both from the raw archive", biwi.annotation(root, name, off[0]).parent))
    largest = np.max(list(differences.values()), axis=0).round(6).tolist() if differences else (0.0, 0.0)
    return msgspec.structs.replace(
        optional, compared=len(differences), largest_degrees=largest[0], largest_mm=largest[1]
    ), faults
