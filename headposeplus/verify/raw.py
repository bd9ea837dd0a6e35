"""Checks raw copies of Biwi and SynHead against the manifest. Nothing stops at the first fault."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from headposeplus.errors import HeadposeError, ImageError, RawDataError
from headposeplus.faults import Fault
from headposeplus.images import TruncatedImageError, check_whole, read_image
from headposeplus.raw import biwi, manifest, synhead
from headposeplus.raw.folders import listing
from headposeplus.raw.synhead import read_head
from headposeplus.rotations import geodesic
from headposeplus.tasks import run_tasks
from headposeplus.verify.report import COUNTS, Report, begin, compare_labels

# pose.txt has six significant digits: 0.005 mm at a metre and more, and less than 0.001 degrees.
ANNOTATION_DEGREES, ANNOTATION_MM = 0.01, 0.05
# What a full copy holds, by Gu et al. CVPR 2017; the manifest does not know the poses of each track.
SYNHEAD_POSES = 51_096
RESTORE = "restore it from the raw archive"


def _mend(fault: Fault) -> Fault:
    """Return a reader's fault with the way out, where it has none."""
    return fault if fault.mend else fault._replace(mend=RESTORE)


def _image_fault(path: Path, reader: Callable[[Path], Any], lines: list[str]) -> str:
    """Return whether an image is "truncated", "unreadable" or, where it is whole, ""; add a fault line."""
    try:
        reader(path)
    except ImageError as error:
        lines.append(str(_mend(error.fault)))
        return "truncated" if isinstance(error, TruncatedImageError) else "unreadable"
    return ""


def _readable(paths: Iterable[Path], reader: Callable[[Path], Any], lines: list[str]) -> Iterator[tuple[Path, Any]]:
    """Yield each file that can be read, and its content; add a fault line on each other."""
    for path in paths:
        try:
            yield path, reader(path)
        except RawDataError as error:
            lines.append(str(_mend(error.fault)))


# ---- raw Biwi


def _check_sequence(task: tuple[str, dict[str, Any] | None], root: Path, deep: bool) -> tuple[Report, list[str]]:
    """Return a sequence's row of the report and its faults, given its name and, if any, its row of the manifest."""
    name, row = task
    folder = root / name
    expected = set(manifest.from_ranges(row["frame_numbers"])) if row else set()
    frames: list[biwi.Frame] = []
    sequence = None
    lines: list[str] = []
    try:
        frames, incomplete = biwi.list_frames(root, name)
        lines += map(str, incomplete)
        if absent := expected - {frame.number for frame in frames}:
            lines.append(f"{folder}: {len(absent)} of {len(expected)} frames missing: {manifest.to_ranges(absent)}; "
                         "restore them from the raw archive")  # fmt: skip
        sequence = biwi.open_sequence(root, name, row["calibration_group"] if row else "")
    except RawDataError as error:
        lines.append(str(_mend(error.fault)))
    found = {frame.number for frame in frames}
    missing, extra = expected - found, found - expected
    if row is None:
        lines.append(f"{folder}: the manifest has no sequence {name}; move the folder away")
    elif extra:
        lines.append(f"{folder}: {len(extra)} frames that the manifest does not list: {manifest.to_ranges(extra)}; "
                     "move them away")  # fmt: skip
    read_pose = sequence.read_pose if sequence else biwi.read_pose
    decode = partial(biwi.read_rgb_image, rgb=sequence.camera) if sequence else read_image
    image_faults = {f.number: _image_fault(f.image, decode if deep else check_whole, lines) for f in frames}
    poses = {}
    for frame, pose in sequence.poses() if sequence else biwi.depth_poses(frames):
        if isinstance(pose, Fault):
            lines.append(str(_mend(pose)))
        else:
            poses[frame.number] = pose
    unreadable = {number for number in found if number not in poses or image_faults[number] == "unreadable"}
    labels: Report = {"state": "not comparable: absent or unreadable poses or rgb.cal"}
    if row and sequence and expected and expected <= poses.keys():
        labels = compare_labels(np.stack([poses[n].rotation for n in sorted(expected)]), row, str(folder), lines)
    before = len(lines)
    optional = _check_optional(root, name, frames, deep, lines)
    if deep:
        optional |= _compare_annotations(root, name, poses, read_pose, lines)
    unit = {
        "dataset": "biwi", "unit": name, "subject": row["subject"] if row else "",
        "expected": len(expected), "present": len(expected & found), "missing": len(missing), "extra": len(extra),
        "unreadable": len(unreadable), "truncated": sum(fault == "truncated" for fault in image_faults.values()),
        "missing_frames": manifest.to_ranges(missing), "extra_frames": manifest.to_ranges(extra),
        "stand_ins": manifest.to_ranges(frame.number for frame in frames if frame.pose.suffix == ".bin"),
        "labels": labels, "optional": optional,
    }  # fmt: skip
    words = {
        "rgb.cal faulty": not sequence,
        "labels deviate": labels["state"] == "deviates",
        "optional files damaged": len(lines) > before,
        "not in the manifest": not row,
    }
    return unit | {"state": _state(unit, words) if frames else "absent"}, lines


def _check_optional(root: Path, name: str, frames: list[biwi.Frame], deep: bool, lines: list[str]) -> Report:
    """Return how many of a sequence's optional files are there; read them where the check is deep."""
    files: dict[str, tuple[Callable[[Path], Any], list[Path]]] = {
        "depth": (biwi.read_depth, [root / name / f"frame_{frame.number:05d}_depth.bin" for frame in frames]),
        "masks": (biwi.read_mask, [biwi.head_mask(root, name, frame.number) for frame in frames]),
        "depth_cal": (lambda path: biwi.read_depth_camera(root, name), [root / name / "depth.cal"]),
        "meshes": (biwi.read_mesh, [root / f"{name}.obj"]),
        "annotations": (biwi.read_pose, [biwi.annotation(root, name, frame.number) for frame in frames]),
    }
    found = {}
    for kind, (reader, paths) in files.items():
        there = [path for path in paths if os.path.exists(path)]
        found[kind] = len(there)
        for _ in _readable(there if deep else (), reader, lines):
            pass  # the faults are what is looked for
    return found


def _compare_annotations(
    root: Path, name: str, poses: dict[int, biwi.Pose], read_pose: Callable[[Path], biwi.Pose], lines: list[str]
) -> Report:
    """Compare each ``pose.bin`` with the frame's pose in the same camera; return how many, and the most they differ."""
    numbers = {biwi.annotation(root, name, number): number for number in poses}
    away = {}
    for path, pose in _readable(filter(os.path.exists, numbers), read_pose, lines):
        given = poses[numbers[path]]
        away[numbers[path]] = (
            float(geodesic(pose.rotation, given.rotation)),
            float(np.linalg.norm(pose.centre - given.centre)),
        )
    if off := [number for number, (degrees, mm) in away.items() if degrees > ANNOTATION_DEGREES or mm > ANNOTATION_MM]:
        place = biwi.annotation(root, name, off[0]).parent
        lines.append(f"{place}: {len(off)} of {len(away)} pose.bin are not their pose.txt within {ANNOTATION_DEGREES} "
                     f"degrees and {ANNOTATION_MM} mm: frames {manifest.to_ranges(off)}; restore both from the raw "
                     "archive")  # fmt: skip
    degrees, mm = np.max(list(away.values()), axis=0).round(6).tolist() if away else (0.0, 0.0)
    return {"compared": len(away), "largest_degrees": degrees, "largest_mm": mm}


def _state(unit: Report, more: dict[str, Any]) -> str:
    """Return what is wrong with a sequence or track in a few words, or ``complete``."""
    words = [f"{kind} {unit[kind]:,}" for kind in (*COUNTS[2:], "duplicates") if unit.get(kind)]
    return ", ".join([*words, *(word for word, true in more.items() if true)]) or "complete"


# ---- raw SynHead


def _list_images(folder: Path, lines: list[str]) -> dict[int, list[Path]] | None:
    """Return the images of a head in a track by number, more than one where files share it; None if unlistable."""
    images: dict[int, list[Path]] = {}
    try:
        # The group and the head first, so that of all that is absent below one, only that is told.
        paths = [listing(place) for place in (folder.parents[1], folder.parent, folder)][-1]
    except RawDataError as error:
        lines.append(str(_mend(error.fault)))
        return None
    for path in paths:
        number = synhead.image_number(path)
        if number is not None:
            images.setdefault(number, []).append(path)
    return images


def _track_numbers(rows: int, found: list[set[int]]) -> set[int]:
    """Return the numbers that a track's images should have, from those that each head's have.

    Nothing states from which number the images count, so it is the numbers that most heads with the right count
    share; where no head has it, they begin at 0 if that fits, else at the lowest number found.
    """
    whole = Counter(frozenset(numbers) for numbers in found if len(numbers) == rows)
    if whole:
        return set(whole.most_common(1)[0][0])
    every = set().union(*found)
    start = 0 if max(every, default=0) < rows else min(every)
    return set(range(start, start + rows))


def _check_track(task: tuple[synhead.Track, int | None, bool], deep: bool) -> tuple[Report, list[str]]:
    """Return a track's row of the report and its faults, given the manifest's poses and whether that lists it."""
    track, frames, listed = task
    lines: list[str] = []
    rows = None
    try:
        listing(track.csv.parent)  # of an absent group, the folder is told
        rows = len(synhead.read_angles(track))
    except RawDataError as error:
        lines.append(str(_mend(error.fault)))
    other_rows = None not in (rows, frames) and rows != frames
    if other_rows:
        lines.append(f"{track.csv}: {rows} rows, but the manifest says {frames}; {RESTORE}")
    if not listed:
        lines.append(f"{track.csv}: the manifest has no track {track.group}/{track.name}; move it and its images away")
    expected = rows or frames
    found = {head: _list_images(track.images_folder(head), lines) for head in synhead.HEADS}
    wanted = _track_numbers(expected, [set(images or ()) for images in found.values()]) if expected else set()
    counts: Counter[str] = Counter()
    heads = {}
    for head, images in found.items():
        folder, there = track.images_folder(head), images or {}
        missing, extra = wanted - there.keys(), there.keys() - wanted if expected else set()
        heads[head] = {"images": len(there), "missing": manifest.to_ranges(missing), "extra": manifest.to_ranges(extra)}
        counts.update(present=len(there) - len(extra), missing=len(missing), extra=len(extra))
        if missing and images is not None:
            lines.append(f"{folder}: {len(missing)} of {expected} images missing: numbers {heads[head]['missing']}; "
                         "restore them from the raw archive")  # fmt: skip
        if extra:
            lines.append(f"{folder}: {len(extra)} images more than the {expected} poses of {track.csv.name}: numbers "
                         f"{heads[head]['extra']}; move them away or restore {track.csv}")  # fmt: skip
        for number, (first, *others) in sorted(there.items()):
            counts[_image_fault(first, read_head if deep else check_whole, lines)] += 1
            counts["duplicates"] += len(others)
            lines += [f"{path}: image {number} has a second file, {first.name}; delete the one that is wrong"
                      for path in others]  # fmt: skip
    unit: Report = {
        "dataset": "synhead", "unit": f"{track.group}/{track.name}", "subject": "", "poses": rows,
        "expected": expected * len(heads) if expected else None,
        **{kind: counts[kind] for kind in (*COUNTS[1:], "duplicates")}, "heads": heads,
    }  # fmt: skip
    words = {
        "no readable angles": rows is None,
        f"{rows} rows for {frames}": other_rows,
        "not in the manifest": not listed,
    }
    state = "absent" if rows is None and not counts["present"] else _state(unit, words)
    return unit | {"state": state}, lines


def _find_tracks(root: Path, rows: list[dict[str, Any]]) -> list[tuple[synhead.Track, int | None, bool]]:
    """Return the tracks of the copy and of the manifest's rows, for :func:`_check_track`."""
    folders = synhead.groups(root)
    there: dict[tuple[str, int], synhead.Track] = {}
    for group, folder in folders.items():
        with suppress(RawDataError):  # told with each of its tracks
            there |= {(group, int(track.name)): track for track in synhead.group_tracks(group, folder)}
    listed = {(row["group"], int(row["unit"])): row for row in rows}
    found = []
    for group, number in sorted(there.keys() | listed.keys()):
        row = listed.get((group, number))
        absent = synhead.Track(group, f"{number:02d}", folders.get(group, root / group) / f"{number:02d}.csv")
        frames = int(row["frames"]) if row and pd.notna(row["frames"]) else None
        found.append((there.get((group, number), absent), frames, row is not None))
    return found


def _verify_biwi(
    root: Path, rows: list[dict[str, Any]], deep: bool, jobs: int
) -> tuple[list[Report], list[str], list[str], Report]:
    """Return the rows of the report, faults, warnings and what else the totals say."""
    listed = {row["unit"]: row for row in rows}
    names = listed.keys() | {path.name for path in listing(root) if re.fullmatch(r"\d\d", path.name)}
    tasks = [(name, listed.get(name)) for name in sorted(names)]
    checked = run_tasks(partial(_check_sequence, root=root, deep=deep), tasks, jobs, "raw Biwi")
    units = [unit for unit, _ in checked]
    warnings = [
        f"{root / unit['unit']}: no pose.txt of frames {unit['stand_ins']}; their pose.bin is used instead"
        for unit in units
        if unit["stand_ins"]
    ]
    return units, [line for _, lines in checked for line in lines], warnings, {}


def _verify_synhead(
    root: Path, rows: list[dict[str, Any]], deep: bool, jobs: int
) -> tuple[list[Report], list[str], list[str], Report]:
    """Return the rows of the report, faults, warnings and what else the totals say."""
    checked = run_tasks(partial(_check_track, deep=deep), _find_tracks(root, rows), jobs, "raw SynHead")
    units = [unit for unit, _ in checked]
    lines = [line for _, lines in checked for line in lines]
    poses = [unit["poses"] for unit in units if unit["poses"] is not None]
    about = {"tracks": len(poses), "tracks_expected": len(rows), "poses": sum(poses)}
    if all(pd.isna(row["frames"]) for row in rows):
        about["expected"] = SYNHEAD_POSES * len(synhead.HEADS)
        if len(poses) == len(units) and sum(poses) != SYNHEAD_POSES:
            lines.append(f"{root}: the tracks have {sum(poses):,} poses, expected {SYNHEAD_POSES:,} (Gu et al. CVPR "
                         "2017); restore the .csv files from the raw archive")  # fmt: skip
    reader = read_image if deep else check_whole
    about["backgrounds"] = sum(not _image_fault(path, reader, lines) for path in synhead.backgrounds(root))
    none = f"{root / 'background'}: no readable image; training composites the heads on plain colours"
    return units, lines, [] if about["backgrounds"] else [none], about


# ---- both


def verify_raw(
    biwi_folder: Path | None,
    synhead_folder: Path | None,
    manifest_file: Path | None = None,
    deep: bool = False,
    jobs: int = 1,
) -> Report:
    """Check raw copies of Biwi and SynHead against the manifest; return a report of plain JSON values.

    Parameters
    ----------
    biwi_folder, synhead_folder
        The raw copies, or folders up to a few levels above them; at least one.
    manifest_file
        What a full copy holds; the project's own if None.
    deep
        Decode every image, and read depth images, masks and meshes, instead of each image's beginning and end.
    jobs
        Number of processes.

    Raises
    ------
    HeadposeError
        If a raw copy is not found at all, or the manifest cannot be read.
    """
    if not biwi_folder and not synhead_folder:
        raise HeadposeError("nothing to verify: give --biwi, --synhead or both")
    table = manifest.read(manifest_file)
    # Both are looked for before either is gone through: that takes minutes.
    roots = {
        "biwi": biwi.find_root(biwi_folder) if biwi_folder else None,
        "synhead": synhead.find_root(synhead_folder) if synhead_folder else None,
    }
    report = begin(manifest_file, deep) | {"roots": {}, "totals": {}, "units": [], "warnings": [], "faults": []}
    for dataset, root in roots.items():
        if not root:
            continue
        rows = table[table["dataset"] == dataset].to_dict("records")
        verify = _verify_biwi if dataset == "biwi" else _verify_synhead
        units, lines, warnings, about = verify(root, rows, deep, jobs)
        totals = {kind: sum(unit[kind] or 0 for unit in units) for kind in COUNTS} | about
        totals["missing"] = max(totals["expected"] - totals["present"], 0)
        complete = sum(unit["state"] == "complete" for unit in units)
        totals |= {"units": len(units), "complete": complete, "faults": len(set(lines))}
        report["roots"][dataset], report["totals"][dataset] = str(root), totals
        report["units"] += units
        report["warnings"] += warnings
        report["faults"] += sorted(set(lines))
    return report
