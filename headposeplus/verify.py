"""Checks of what is on disk: raw copies against the manifest, and built datasets against their ``dataset.json``.

Nothing here stops at the first fault. A fault is one line that names the file, what was expected and the way
to mend it; a warning is worth knowing but leaves the data whole. A report is made of plain JSON values and
does not depend on the number of processes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tabulate import tabulate

from headposeplus import __version__, biwi, manifest, shards, synhead
from headposeplus.errors import DatasetError, HeadposeError, ImageError, RawDataError
from headposeplus.files import progress, read_json, run_tasks, sha256
from headposeplus.images import decode, foreground, read_image
from headposeplus.rotations import (
    Floats,
    angle_difference,
    from_matrix,
    geodesic,
    nearest_rotation,
    orthonormality_error,
)

Report = dict[str, Any]

# The manifest's four digits and the six of pose.txt move a sequence's mean by less than a tenth of this.
LABEL_TOLERANCE = 1e-3  # degrees
# The database's two calibrations are 1.07 degrees apart; six digits of one move it by 0.00003.
CALIBRATION_TOLERANCE = 0.01  # degrees
# pose.txt has six significant digits: 0.005 mm at a metre and more, and less than 0.001 degrees.
ANNOTATION_TOLERANCE = {"degrees": 0.01, "mm": 0.05}
# As in a build: a head nearer to the camera than this is a damaged pose.
NEAREST_MM = 200.0
# Shards hold doubles.
ROTATION_TOLERANCE = 1e-6
PYR_TOLERANCE = 1e-6  # degrees
# What a full copy holds, by Gu et al. CVPR 2017; the manifest does not know the poses of each track.
SYNHEAD_TRACKS, SYNHEAD_POSES = 70, 51_096
# Of SynHead++, degrees, convention pyr, RGB camera, as published with the weights of PADACO.
PUBLISHED_SYNHEAD_PP = {
    "mean": [-4.0955, -2.4469, 0.7590],
    "std": [23.1782, 30.7491, 10.7432],
    "source": "published with the PADACO weights (Kuhnke & Ostermann, ICCV 2019)",
}
LISTED = 20  # faults that are printed; the report holds all
RESTORE = "restore it from the raw archive"
BUILD_AGAIN = "delete it and run the build again"
DEGREES = "degrees, convention pyr, RGB camera"

_FRAME_FILE = re.compile(r"frame_(\d{5})_(rgb\.png|rgb\.jpg|pose\.txt|depth\.bin)")
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_COUNTS = ("expected", "present", "missing", "extra", "unreadable", "truncated")


class _Sequence(NamedTuple):
    """A Biwi sequence to check; ``row`` is the manifest's, None where it has none."""

    root: Path
    name: str
    row: dict[str, Any] | None
    deep: bool


class _Head(NamedTuple):
    """The images of one head in one group to check, with the names of the tracks."""

    folder: Path
    tracks: list[str]
    deep: bool


def faults(report: Report) -> int:
    """Return how many faults a report lists; 0 means that everything is as it should be."""
    return len(report["faults"])


def _mend(line: str) -> str:
    """Return a reader's message with the way out, where it has none."""
    if "Permission denied" in line or "not permitted" in line:
        return f"{line}; give yourself the right to read it"
    return line if "restore" in line else f"{line}; {RESTORE}"


def _names(folder: Path, lines: list[str]) -> list[str]:
    """Return the names in a folder, sorted; where it cannot be listed, none, and a fault line is added."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        lines.append(_mend(f"{folder}: expected a folder that can be read: {error.strerror}"))
        return []


def _find_root(folder: Path, find: Callable[[Path], Path], holds: Callable[[Path], bool], levels: int) -> Path:
    """Return what ``find`` does, looking past folders that cannot be listed; raises RawDataError if there is none."""
    try:
        return find(folder)
    except (RawDataError, OSError) as error:
        level = [folder]
        for _ in range(levels):
            for candidate in level:
                if holds(candidate):
                    return candidate
            children = [p / name for p in level for name in _names(p, []) if name not in synhead.HEADS]
            level = [child for child in children if os.path.isdir(child)]
        if isinstance(error, RawDataError):
            raise
        raise RawDataError(f"{error.filename}: expected a folder that can be read: {error.strerror}") from error


def _holds_sequences(folder: Path) -> bool:
    found = [folder / name for name in _names(folder, []) if re.fullmatch(r"\d\d", name)]
    return any(_FRAME_FILE.fullmatch(name) for path in found for name in _names(path, []))


def _holds_groups(folder: Path) -> bool:
    return any(name.endswith(".csv") for group in synhead.GROUPS for name in _names(folder / group, []))


def _ends(path: Path) -> tuple[bytes, bytes, int]:
    """Return a file's first bytes, its last ones without the zeros that some copies pad with, and its size."""
    with path.open("rb", buffering=0) as file:
        start, size, length = file.read(len(_PNG_START)), file.seek(0, os.SEEK_END), 64
        while True:
            length = min(length, size)
            file.seek(size - length)
            tail = file.read(length).rstrip(b"\0")
            if len(tail) >= len(_PNG_END) or length == size:
                return start, tail, size
            length *= 64


def _image_fault(path: Path) -> tuple[str, str] | None:
    """Return ``truncated`` or ``unreadable`` and a line, from an image's beginning and end; None if both are right."""
    try:
        start, tail, size = _ends(path)
    except OSError as error:
        return "unreadable", _mend(f"{path}: cannot be read: {error.strerror}")
    if start.startswith(_PNG_START):
        whole = tail.endswith(_PNG_END)
    elif start.startswith(_JPEG_START):
        whole = tail.endswith(_JPEG_END)
    else:
        what = "something else" if size else "an empty file"
        return "unreadable", f"{path}: expected a PNG or JPEG image, found {what}; {RESTORE}"
    return None if whole else ("truncated", f"{path}: truncated image ({size} bytes); {RESTORE}")


def _biwi_image_fault(path: Path, camera: biwi.Calibration | None, deep: bool) -> tuple[str, str] | None:
    fault = _image_fault(path)
    if fault or not deep:
        return fault
    try:
        height, width = read_image(path).shape[:2]
    except ImageError as error:
        return "unreadable", _mend(str(error))
    if camera and (width, height) != (camera.width, camera.height):
        size = f"{camera.width} x {camera.height} pixels, as rgb.cal says"
        return "unreadable", f"{path}: expected {size}, found {width} x {height}; {RESTORE}"
    return None


def _head_image_fault(path: Path, deep: bool) -> tuple[str, str] | None:
    fault = _image_fault(path)
    if fault or not deep:
        return fault
    try:
        head = foreground(read_image(path))
    except ImageError as error:
        return "unreadable", _mend(str(error))
    # The build's own rule for what is a head.
    if not 16 <= np.count_nonzero(head) < 0.97 * head.size:
        what = "expected a head before a transparent or black background, found none"
        return "unreadable", f"{path}: {what}; {RESTORE}"
    return None


# ---- raw Biwi


def _check_calibration(path: Path, group: str, lines: list[str]) -> tuple[biwi.Calibration | None, str]:
    """Return a sequence's camera, None if it is not the sequence's own, and whose it looks like: A, B or neither."""
    try:
        camera = biwi.read_calibration(path)
    except RawDataError as error:
        lines.append(_mend(str(error)))
        return None, "unreadable" if os.path.lexists(path) else "missing"
    away = {
        name: float(geodesic(camera.rotation, nearest_rotation(rotation)))
        for name, rotation in biwi.CALIBRATION_ROTATIONS.items()
    }
    nearest = min(away, key=lambda name: away[name])
    looks = nearest if away[nearest] < CALIBRATION_TOLERANCE else "neither"
    if looks == group or group not in away:
        return camera, looks
    found = f"group {looks}, so it is another sequence's" if looks in away else "neither group"
    distances = ", ".join(f"{degrees:.4f} degrees from {name}" for name, degrees in away.items())
    lines.append(f"{path}: expected the calibration of group {group}, found that of {found} ({distances}); {RESTORE}")
    return None, looks


def _statistics(angles: Floats) -> dict[str, list[float]]:
    """Return mean and deviation (divided by n, as in the manifest) of angles (n, 3), to six digits."""
    return {
        "mean": [round(float(value), 6) for value in angles.mean(axis=0)],
        "std": [round(float(value), 6) for value in angles.std(axis=0)],
    }


def _compare_labels(rotations: Floats, row: dict[str, Any], where: str, mend: str, lines: list[str]) -> Report:
    """Return the statistics (``pyr``, degrees) of a sequence's rotations beside the manifest's; add a fault line."""
    listed = [float(row[name]) for name in manifest.LABEL_STATISTICS]
    found = _statistics(from_matrix(rotations))
    values = [*found["mean"], *found["std"]]
    if not np.isfinite(listed).all():
        return {"state": "not in the manifest", **found}
    off = [i for i, (a, b) in enumerate(zip(values, listed, strict=True)) if abs(a - b) > LABEL_TOLERANCE]
    for i in off:
        name = manifest.LABEL_STATISTICS[i].replace("_", " ")
        lines.append(f"{where}: {name} {values[i]:.4f}, expected {listed[i]:.4f} {DEGREES}; {mend}")
    state = "deviates" if off else "as in the manifest"
    difference = max(abs(a - b) for a, b in zip(values, listed, strict=True))
    return {"state": state, **found, "difference": round(difference, 6)}


def _check_optional(
    task: _Sequence, names: set[str], numbers: list[int], poses: dict[int, biwi.Pose], lines: list[str]
) -> Report:
    """Return how many of a sequence's optional files are there; read them where the check is deep."""
    folder = task.root / task.name
    listing: dict[str, set[str]] = {}
    for kind, place in (("annotations", biwi.annotation), ("masks", biwi.head_mask)):
        beside = place(task.root, task.name, 0).parent
        listing[kind] = set(_names(beside, lines)) if os.path.isdir(beside) else set()
    files = {
        "depth": [folder / f"frame_{n:05d}_depth.bin" for n in numbers if f"frame_{n:05d}_depth.bin" in names],
        "annotations": [p for n in numbers if (p := biwi.annotation(task.root, task.name, n)).name
                        in listing["annotations"]],
        "masks": [p for n in numbers if (p := biwi.head_mask(task.root, task.name, n)).name in listing["masks"]],
    }  # fmt: skip
    mesh = task.root / f"{task.name}.obj"
    found: Report = {kind: len(paths) for kind, paths in files.items()}
    found |= {"depth_cal": "depth.cal" in names, "mesh": os.path.exists(mesh)}
    readers: list[tuple[Callable[[Path], Any], Path]] = []
    if found["depth_cal"]:
        readers.append((biwi.read_calibration, folder / "depth.cal"))
    if task.deep:
        readers += [(biwi.read_depth, path) for path in files["depth"]]
        readers += [(biwi.read_mask, path) for path in files["masks"]]
        readers += [(biwi.read_mesh, mesh)] if found["mesh"] else []
    found["damaged"] = 0
    for reader, path in readers:
        try:
            reader(path)
        except RawDataError as error:
            lines.append(_mend(str(error)))
            found["damaged"] += 1
    if task.deep:
        found |= _compare_annotations(task, files["annotations"], poses, lines)
    return found


def _compare_annotations(task: _Sequence, paths: list[Path], poses: dict[int, biwi.Pose], lines: list[str]) -> Report:
    """Compare each ``pose.bin`` with its ``pose.txt``; return how many were, and the largest differences."""
    largest, off = {"degrees": 0.0, "mm": 0.0}, []
    compared = 0
    for path in paths:
        number = int(path.name[6:11])
        try:
            pose = biwi.read_pose(path)
        except RawDataError as error:
            lines.append(_mend(str(error)))
            continue
        if number not in poses:
            continue
        compared += 1
        degrees = float(geodesic(pose.rotation, poses[number].rotation))
        mm = float(np.linalg.norm(pose.centre - poses[number].centre))
        largest = {"degrees": max(largest["degrees"], degrees), "mm": max(largest["mm"], mm)}
        if degrees > ANNOTATION_TOLERANCE["degrees"] or mm > ANNOTATION_TOLERANCE["mm"]:
            off.append((degrees, mm, number))
    if off:
        degrees, mm, number = max(off)
        path = biwi.annotation(task.root, task.name, number)
        frames = manifest.to_ranges(number for _, _, number in off)
        limits = f"{ANNOTATION_TOLERANCE['degrees']} degrees and {ANNOTATION_TOLERANCE['mm']} mm"
        lines.append(
            f"{path.parent}: {len(off)} of {compared} pose.bin are not their pose.txt within {limits}, by up to "
            f"{degrees:.3f} degrees and {mm:.3f} mm in {path.name}: frames {frames}; restore both from the raw archive"
        )
    return {"compared": compared, "largest_difference": {k: round(v, 6) for k, v in largest.items()}}


class _Listing(NamedTuple):
    """What a sequence's folder holds: its names, the image and pose of each frame, and how many images are second."""

    names: list[str]
    images: dict[int, Path]
    poses: dict[int, Path]
    duplicates: int


def _list_sequence(folder: Path, expected: set[int], lines: list[str]) -> _Listing:
    listed = f"{len(expected)} frames ({manifest.to_ranges(expected)})"
    names: list[str] = []
    if os.path.isdir(folder):
        names = _names(folder, lines)
    elif os.path.lexists(folder):
        lines.append(f"{folder}: expected a folder with {listed}, found a file; move it away and {RESTORE}")
    else:
        lines.append(f"{folder}: no such folder; expected {listed}; {RESTORE}")
    listing, duplicates = _Listing(names, {}, {}, 0), 0
    for name in names:  # sorted, so the .jpg of a frame comes before its .png, which the reader takes
        match = _FRAME_FILE.fullmatch(name)
        if not match or match[2] == "depth.bin":
            continue
        number = int(match[1])
        files = listing.poses if match[2] == "pose.txt" else listing.images
        if number in files:
            duplicates += 1
            lines.append(f"{files[number]}: frame {number} has a second image, {name}; delete the one that is wrong")
        files[number] = folder / name
    return listing._replace(duplicates=duplicates)


def _tell_frames(task: _Sequence, expected: set[int], found: set[int], lines: list[str]) -> None:
    """Add a fault line on the frames that are missing from a folder, and on those that the manifest lacks."""
    folder, missing, extra = task.root / task.name, expected - found, found - expected
    if missing:
        ranges = manifest.to_ranges(missing)
        lines.append(f"{folder}: {len(missing)} of {len(expected)} frames missing: {ranges}; "
                     "restore them from the raw archive")  # fmt: skip
    if task.row is None:
        lines.append(f"{folder}: the manifest has no sequence {task.name}; move the folder away")
    elif extra:
        ranges = manifest.to_ranges(extra)
        lines.append(f"{folder}: {len(extra)} frames that the manifest does not list: {ranges}; move them away")


def _check_images(task: _Sequence, listing: _Listing, camera: biwi.Calibration | None, lines: list[str]) -> Report:
    """Return the frames whose image is ``truncated``, and those whose is missing or ``unreadable``."""
    bad: dict[str, set[int]] = {"truncated": set(), "unreadable": set()}
    for number in sorted(listing.images.keys() | listing.poses.keys()):
        path = listing.images.get(number)
        if path is None:
            bad["unreadable"].add(number)
            lines.append(f"{listing.poses[number]}: no frame_{number:05d}_rgb.png or .jpg beside it; {RESTORE}")
        elif fault := _biwi_image_fault(path, camera, task.deep):
            bad[fault[0]].add(number)
            lines.append(fault[1])
    return bad


def _read_poses(
    task: _Sequence, listing: _Listing, camera: biwi.Calibration | None, lines: list[str], warnings: list[str]
) -> tuple[dict[int, biwi.Pose], set[int]]:
    """Return the poses of the frames (depth camera), and the frames whose pose is missing or unreadable.

    As in a build, ``pose.bin`` stands in for a missing ``pose.txt``.
    """
    read: dict[int, biwi.Pose] = {}
    unreadable, stand_ins = set(), []
    for number in sorted(listing.images.keys() | listing.poses.keys()):
        path = listing.poses.get(number) or biwi.annotation(task.root, task.name, number)
        if number not in listing.poses:
            if not os.path.exists(path):
                unreadable.add(number)
                lines.append(f"{listing.images[number]}: no frame_{number:05d}_pose.txt beside it; {RESTORE}")
                continue
            stand_ins.append(number)
        try:
            pose = biwi.read_pose(path)
            if camera and biwi.to_rgb_camera(pose, camera).centre[2] < NEAREST_MM:
                raise RawDataError(f"{path}: expected a head {NEAREST_MM:.0f} mm before the camera or more")
            read[number] = pose
        except RawDataError as error:
            unreadable.add(number)
            lines.append(_mend(str(error)))
    if stand_ins:
        ranges = manifest.to_ranges(stand_ins)
        warnings.append(f"{task.root / task.name}: no pose.txt of {len(stand_ins)} frames, whose pose.bin is "
                        f"used instead: {ranges}")  # fmt: skip
    return read, unreadable


def _check_sequence(task: _Sequence) -> tuple[Report, list[str], list[str]]:
    """Return the row of one Biwi sequence, its fault lines and its warnings."""
    folder, row = task.root / task.name, task.row
    expected = set(manifest.from_ranges(row["frame_numbers"])) if row else set()
    lines: list[str] = []
    warnings: list[str] = []
    listing = _list_sequence(folder, expected, lines)
    found = set(listing.images.keys() | listing.poses.keys())
    missing, extra = expected - found, found - expected
    camera, looks = None, ""
    if listing.names:
        _tell_frames(task, expected, found, lines)
        camera, looks = _check_calibration(folder / "rgb.cal", str(row["calibration_group"]) if row else "", lines)
    elif os.path.isdir(folder) and not lines:
        lines.append(f"{folder}: an empty folder; expected {len(expected)} frames; {RESTORE}")
    bad = _check_images(task, listing, camera, lines)
    read, without_pose = _read_poses(task, listing, camera, lines, warnings)
    unit: Report = {
        "dataset": "biwi", "unit": task.name, "subject": row["subject"] if row else "",
        "expected": len(expected), "present": len(expected) - len(missing), "missing": len(missing),
        "extra": len(extra), "unreadable": len(bad["unreadable"] | without_pose), "truncated": len(bad["truncated"]),
        "duplicates": listing.duplicates, "missing_frames": manifest.to_ranges(missing),
        "extra_frames": manifest.to_ranges(extra), "calibration": looks,
    }  # fmt: skip
    if row is None:
        unit["labels"] = {"state": "not in the manifest"}
    elif listing.names and camera is None:
        unit["labels"] = {"state": "not comparable: rgb.cal"}
    elif camera is None or not expected or not expected <= read.keys():
        unit["labels"] = {"state": "not comparable: absent or unreadable poses"}
    else:
        rotations = nearest_rotation(camera.rotation @ np.stack([read[number].rotation for number in sorted(expected)]))
        unit["labels"] = _compare_labels(rotations, row, str(folder), "restore its pose.txt and rgb.cal", lines)
    from_text = {number: pose for number, pose in read.items() if number in listing.poses}
    unit["optional"] = _check_optional(task, set(listing.names), sorted(found), from_text, lines)
    unit["state"] = _sequence_state(unit, bool(listing.names))
    return unit, lines, warnings


def _state(unit: Report, more: Iterable[str] = ()) -> str:
    """Return what is wrong with a sequence or track in a few words, or ``complete``."""
    words = [f"{kind} {unit[kind]:,}" for kind in ("missing", "extra", "unreadable", "truncated") if unit[kind]]
    words += [f"duplicates {unit['duplicates']:,}"] if unit["duplicates"] else []
    return ", ".join([*words, *more]) or "complete"


def _sequence_state(unit: Report, there: bool) -> str:
    if not there:
        return "absent"
    more = []
    if unit["calibration"] in ("missing", "unreadable", "neither"):
        more.append(f"rgb.cal {unit['calibration']}".replace("neither", "of neither group"))
    elif unit["labels"]["state"] == "not comparable: rgb.cal":
        more.append(f"rgb.cal of group {unit['calibration']}")
    if unit["labels"]["state"] == "deviates":
        more.append("labels deviate")
    if unit["optional"]["damaged"]:
        more.append(f"optional files damaged {unit['optional']['damaged']:,}")
    if not unit["expected"]:
        more.append("not in the manifest")
    return _state(unit, more)


def _verify_biwi(root: Path, table: pd.DataFrame, deep: bool, jobs: int) -> tuple[list[Report], list[str], list[str]]:
    lines: list[str] = []
    rows = {row["unit"]: row for row in table[table["dataset"] == "biwi"].to_dict("records")}
    there = {name for name in _names(root, lines) if re.fullmatch(r"\d\d", name)}
    tasks = [_Sequence(root, name, rows.get(name), deep) for name in sorted(rows.keys() | there)]
    found = run_tasks(_check_sequence, tasks, jobs, "raw Biwi")
    for _, more, _ in found:
        lines += more
    return [unit for unit, _, _ in found], lines, [line for _, _, more in found for line in more]


# ---- raw SynHead


def _check_head(task: _Head) -> tuple[dict[str, Report], list[str]]:
    """Return what one head has of each track of a group, by the track's name, and fault lines."""
    lines: list[str] = []
    found = {}
    for name in task.tracks:
        folder = task.folder / name
        entry: Report = {"numbers": "", "images": 0, "unreadable": 0, "truncated": 0, "duplicates": 0, "listed": True}
        found[name] = entry
        if not os.path.isdir(folder):
            continue  # told with the number of images that it should hold
        by_number: dict[int, Path] = {}
        before = len(lines)
        names = _names(folder, lines)
        entry["listed"] = len(lines) == before
        for file in names:
            path = folder / file
            digits = re.search(r"(\d+)$", path.stem)
            if path.suffix.lower() not in synhead.IMAGE_SUFFIXES or not digits:
                continue
            number = int(digits[1])
            if number in by_number:
                entry["duplicates"] += 1
                first = by_number[number]
                lines.append(f"{path}: image {number} has a second file, {first.name}; delete the one that is wrong")
                continue
            by_number[number] = path
        for number in sorted(by_number):
            if fault := _head_image_fault(by_number[number], task.deep):
                entry[fault[0]] += 1
                lines.append(fault[1])
        entry |= {"numbers": manifest.to_ranges(by_number), "images": len(by_number)}
    return found, lines


def _track_numbers(rows: int, found: list[str]) -> set[int]:
    """Return the numbers that a track's images should have, from those (ranges) that each head's have.

    Nothing states from which number the images count, so the numbers that most heads with the right count of
    images share are the track's. Where no head has the right count, they begin at 0 if that fits, else at the
    lowest number found.
    """
    whole = Counter(text for text in found if len(manifest.from_ranges(text)) == rows)
    if whole:
        return set(manifest.from_ranges(min(whole, key=lambda text: (-whole[text], " " in text, text))))
    numbers = [number for text in found for number in manifest.from_ranges(text)]
    start = 0 if not numbers or max(numbers) < rows else min(numbers)
    return set(range(start, start + rows))


def _check_track(
    track: synhead.Track, rows: int | None, heads: dict[str, Report | None], lines: list[str], warnings: list[str]
) -> Report:
    """Return the row of one track; ``heads`` holds what each has of it, None where its folder of the group lacks."""
    unit: Report = {"dataset": "synhead", "unit": f"{track.group}/{track.name}", "subject": "", "poses": rows}
    wanted = _track_numbers(rows, [head["numbers"] for head in heads.values() if head]) if rows else None
    if wanted and max(wanted) - min(wanted) + 1 != len(wanted):
        gaps = manifest.to_ranges(set(range(min(wanted), max(wanted))) - wanted)
        warnings.append(f"{track.csv}: the numbers of its images have gaps, at {gaps}; they are taken in order")
    counts: Counter[str] = Counter()
    unit["heads"] = {}
    for name, head in heads.items():
        folder = track.images_folder(name)
        numbers = set(manifest.from_ranges(head["numbers"])) if head else set()
        missing, extra = (wanted - numbers, numbers - wanted) if wanted is not None else (set(), set())
        if head and missing and not os.path.isdir(folder):
            lines.append(f"{folder}: no such folder; expected {len(missing)} images; {RESTORE}")
        elif head and missing and head["listed"]:
            ranges = manifest.to_ranges(missing)
            lines.append(f"{folder}: {len(missing)} of {rows} images missing: numbers {ranges}; "
                         "restore them from the raw archive")  # fmt: skip
        if extra:
            ranges = manifest.to_ranges(extra)
            lines.append(f"{folder}: {len(extra)} images more than the {rows} poses of {track.csv.name}: "
                         f"numbers {ranges}; move them away or restore {track.csv}")  # fmt: skip
        entry = head or {"unreadable": 0, "truncated": 0, "duplicates": 0}
        counts.update({"present": len(numbers) - len(extra), "missing": len(missing), "extra": len(extra)})
        counts.update({kind: entry[kind] for kind in ("unreadable", "truncated", "duplicates")})
        unit["heads"][name] = {
            "images": len(numbers), "missing": manifest.to_ranges(missing), "extra": manifest.to_ranges(extra),
            **{kind: entry[kind] for kind in ("unreadable", "truncated", "duplicates")},
        }  # fmt: skip
    unit["expected"] = rows * len(heads) if rows is not None else None
    return unit | {kind: counts[kind] for kind in (*_COUNTS[1:], "duplicates")}


def _find_tracks(root: Path, table: pd.DataFrame, lines: list[str]) -> list[tuple[synhead.Track, int | None, bool]]:
    """Return the tracks of the copy and of the manifest, each with the manifest's rows and whether that lists it."""
    listed = table[table["dataset"] == "synhead"]
    rows = {
        (group, int(unit)): (unit, None if pd.isna(frames) else int(frames))
        for group, unit, frames in zip(listed["group"], listed["unit"], listed["frames"], strict=True)
    }
    there: dict[tuple[str, int], synhead.Track] = {}
    for track in synhead.tracks(root):
        first = there.setdefault((track.group, int(track.name)), track)
        if first != track:
            lines.append(f"{track.csv}: a second file of track {track.name}, beside {first.csv}; move one away")
    folders = {track.group: track.csv.parent for track in there.values()}
    for group in sorted({group for group, _ in rows} - folders.keys()):
        folder = folders[group] = root / group
        count = sum(key[0] == group for key in rows)
        if not os.path.isdir(folder):
            lines.append(f"{folder}: no such folder; expected the angles and images of {count} tracks; {RESTORE}")
    found = []
    order = [*synhead.GROUPS, *sorted({group for group, _ in rows} - set(synhead.GROUPS))]
    for key in sorted(rows.keys() | there.keys(), key=lambda key: (order.index(key[0]), key[1])):
        name, frames = rows.get(key, ("", None))
        track = there.get(key) or synhead.Track(key[0], name, folders[key[0]] / f"{name}.csv")
        found.append((track, frames, key in rows))
    return found


def _read_rows(track: synhead.Track, frames: int | None, lines: list[str]) -> tuple[int | None, int | None]:
    """Return how many poses a track's file holds, None if it cannot be read, and how many it should hold."""
    if not os.path.lexists(track.csv):
        if os.access(track.csv.parent, os.R_OK | os.X_OK):  # else the folder is told
            lines.append(f"{track.csv}: no such file; expected the angles of track {track.name}; {RESTORE}")
        return None, frames
    try:
        rows = len(synhead.read_angles(track))
    except (RawDataError, OSError) as error:
        lines.append(_mend(str(error)))
        return None, frames
    if frames is not None and rows != frames:
        lines.append(f"{track.csv}: {rows} rows, but the manifest says {frames}; {RESTORE}")
    return rows, rows if frames is None else frames


def _verify_synhead(
    root: Path, table: pd.DataFrame, deep: bool, jobs: int
) -> tuple[list[Report], list[str], list[str], Report]:
    lines: list[str] = []
    warnings: list[str] = []
    tracks = _find_tracks(root, table, lines)
    folders: dict[str, Path] = {track.group: track.csv.parent for track, _, _ in tracks}
    names: dict[str, list[str]] = {group: [t.name for t, _, _ in tracks if t.group == group] for group in folders}
    tasks: dict[tuple[str, str], _Head] = {}
    for group, folder in folders.items():
        before = len(lines)
        if os.path.isdir(folder):
            _names(folder, lines)
        for head in synhead.HEADS if len(lines) == before else ():
            place = folder / head
            if os.path.isdir(place):
                tasks[group, head] = _Head(place, names[group], deep)
                inside = [n for n in _names(place, lines) if n.isdigit() and int(n) not in map(int, names[group])]
                lines += [f"{place / name}: images of a track without angles; restore {folder / name}.csv"
                          for name in inside]  # fmt: skip
            elif os.path.isdir(folder):
                lines.append(f"{place}: no such folder; expected the images of {head} in {len(names[group])} tracks; "
                             f"{RESTORE}")  # fmt: skip
    results = dict(zip(tasks, run_tasks(_check_head, tasks.values(), jobs, "raw SynHead"), strict=True))
    for _, more in results.values():
        lines += more

    units = []
    for track, frames, known in tracks:
        rows, expected = _read_rows(track, frames, lines)
        heads: dict[str, Report | None] = {
            head: results[track.group, head][0][track.name] if (track.group, head) in results else None
            for head in synhead.HEADS
        }
        unit = _check_track(track, expected, heads, lines, warnings)
        more = [] if rows is not None else ["no readable angles"]
        more += [f"{rows} rows for {frames}"] if None not in (rows, frames) and rows != frames else []
        if not known:
            lines.append(f"{track.csv}: the manifest has no track {unit['unit']}; move it and its images away")
            more.append("not in the manifest")
        absent = rows is None and not unit["present"] and not unit["extra"]
        units.append(unit | {"poses": rows, "state": "absent" if absent else _state(unit, more)})
    poses = [unit["poses"] for unit in units]
    full = (table["dataset"] == "synhead").sum() == SYNHEAD_TRACKS and table.loc[
        table["dataset"] == "synhead", "frames"
    ].isna().all()
    if full and None not in poses and len(poses) == SYNHEAD_TRACKS and sum(poses) != SYNHEAD_POSES:
        what = f"{SYNHEAD_TRACKS} tracks hold {sum(poses):,} poses, expected {SYNHEAD_POSES:,} (Gu et al. CVPR 2017)"
        lines.append(f"{root}: {what}; restore the .csv files from the raw archive")
    total = SYNHEAD_POSES * len(synhead.HEADS) if full else sum(unit["expected"] or 0 for unit in units)
    backgrounds = _check_backgrounds(root, lines, warnings, deep)
    about = {
        "expected": total, "tracks": sum(pose is not None for pose in poses), "tracks_expected": sum(
            known for _, _, known in tracks), "poses": sum(pose or 0 for pose in poses), "backgrounds": backgrounds,
    }  # fmt: skip
    return units, lines, warnings, about


def _check_backgrounds(root: Path, lines: list[str], warnings: list[str], deep: bool) -> int:
    """Return how many background images can be read."""
    readable = 0
    for path in synhead.backgrounds(root):
        fault = _image_fault(path)
        if not fault and deep:
            try:
                read_image(path)
            except ImageError as error:
                fault = "unreadable", _mend(str(error))
        if fault:
            lines.append(fault[1])
        readable += not fault
    if not readable:
        warnings.append(f"{root / 'background'}: no readable image; training composites the heads on plain colours")
    return readable


# ---- both


def _totals(units: list[Report]) -> Report:
    totals: Report = {kind: sum(unit[kind] or 0 for unit in units) for kind in (*_COUNTS, "duplicates")}
    totals["units"] = len(units)
    totals["complete"] = sum(unit["state"] == "complete" for unit in units)
    return totals


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
    path = manifest_file or manifest.default_path()
    table = manifest.read(path)
    report: Report = {
        "toolkit": __version__,
        "manifest": {"file": str(path), "sha256": sha256(path)},
        "deep": deep,
        "convention": "pyr",
        "camera": "rgb",
        "tolerances": {
            "label_degrees": LABEL_TOLERANCE,
            "calibration_degrees": CALIBRATION_TOLERANCE,
            "annotation": ANNOTATION_TOLERANCE,
        },
        "roots": {"biwi": None, "synhead": None},
        "totals": {},
    }
    # Both are looked for before either is gone through: that takes minutes.
    biwi_root = _find_root(biwi_folder, biwi.find_root, _holds_sequences, 4) if biwi_folder else None
    synhead_root = _find_root(synhead_folder, synhead.find_root, _holds_groups, 6) if synhead_folder else None
    units: list[Report] = []
    lines: list[str] = []
    warnings: list[str] = []
    if biwi_root:
        found, more, told = _verify_biwi(biwi_root, table, deep, jobs)
        units, lines, warnings = units + found, lines + more, warnings + told
        report["roots"]["biwi"] = str(biwi_root)
        report["totals"]["biwi"] = _totals(found) | {"faults": len(set(more))}
    if synhead_root:
        found, more, told, about = _verify_synhead(synhead_root, table, deep, jobs)
        units, lines, warnings = units + found, lines + more, warnings + told
        report["roots"]["synhead"] = str(synhead_root)
        totals = _totals(found) | about | {"faults": len(set(more))}
        report["totals"]["synhead"] = totals | {"missing": max(totals["expected"] - totals["present"], 0)}
    return report | {"units": units, "warnings": sorted(set(warnings)), "faults": sorted(set(lines))}


def _count(number: int) -> str:
    return f"{number:,} fault{'s' * (number != 1)}"


def _listed(report: Report) -> list[str]:
    """Return the lines on warnings and the first faults."""
    lines = list(report["warnings"])
    if report["faults"]:
        count = len(report["faults"])
        lines += ["", f"{_count(count)}:", *report["faults"][:LISTED]]
        more = count - LISTED
        lines += [f"and {more:,} more, in --json"] if more > 0 else []
    return lines


def _verdict(name: str, totals: Report, what: str) -> str:
    counted = f"{totals['present']:,} of {totals['expected']:,} {what}"
    if not totals["faults"] and not totals["missing"]:
        return f"{name}: complete: {counted}"
    words = [f"{totals['missing']:,} of {totals['expected']:,} missing ({what})"] if totals["missing"] else [counted]
    words += [f"{totals[kind]:,} {kind}" for kind in (*_COUNTS[3:], "duplicates") if totals[kind]]
    return f"{name}: not complete: {', '.join(words)}; {_count(totals['faults'])}"


def describe_raw(report: Report) -> str:
    """Return a report of :func:`verify_raw` as text: a table, then the faults and a verdict on each dataset."""
    rows = [
        {
            "dataset": unit["dataset"],
            "unit": unit["unit"],
            "subject": unit["subject"],
            **{kind: "?" if unit[kind] is None else f"{unit[kind]:,}" for kind in _COUNTS},
            "state": unit["state"],
        }
        for unit in report["units"]
    ]
    for dataset, totals in report["totals"].items():
        total = {kind: f"{totals[kind]:,}" for kind in _COUNTS}
        state = f"{totals['complete']} of {totals['units']} complete"
        rows.append({"dataset": dataset, "unit": "total", "subject": "", **total, "state": state})
    align = ("left", "left", "left", *("right" for _ in _COUNTS), "left")
    lines = [tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True, colalign=align), ""]
    lines += [f"raw {name} found at {root}" for name, root in report["roots"].items() if root]
    how = "every file was decoded" if report["deep"] else "of images, the beginning and end were read; --deep decodes"
    lines += [f"manifest {report['manifest']['file']}, SHA-256 {report['manifest']['sha256'][:12]}; {how}"]
    if "biwi" in report["totals"]:
        lines += _describe_biwi(report)
    if about := report["totals"].get("synhead"):
        lines.append(
            f"SynHead: {about['poses']:,} poses in {about['tracks']} of {about['tracks_expected']} tracks, "
            f"{about['backgrounds']:,} background images"
        )
    lines += [*_listed(report), ""]
    for key, name, what in (("biwi", "raw Biwi", "frames"), ("synhead", "raw SynHead", "images")):
        if key in report["totals"]:
            lines.append(_verdict(name, report["totals"][key], what))
    return "\n".join(lines)


def _describe_biwi(report: Report) -> list[str]:
    units = [unit for unit in report["units"] if unit["dataset"] == "biwi"]
    states = Counter(unit["labels"]["state"].partition(":")[0] for unit in units)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    differences = [unit["labels"]["difference"] for unit in units if "difference" in unit["labels"]]
    largest = f"; largest difference {max(differences):.5f}" if differences else ""
    optional = [unit["optional"] for unit in units]
    have = {kind: sum(int(entry[kind]) for entry in optional) for kind in optional[0] if kind != "largest_difference"}
    lines = [
        f"Biwi labels, mean and deviation of a sequence ({DEGREES}; within {LABEL_TOLERANCE}): {counted}{largest}",
        f"Biwi's optional parts, whose absence is no fault: depth of {have['depth']:,} frames, "
        f"pose.bin of {have['annotations']:,}, masks of {have['masks']:,}; "
        f"depth.cal of {have['depth_cal']} sequences, meshes of {have['mesh']}",
    ]
    if report["deep"] and have["compared"]:
        degrees, mm = (max(e["largest_difference"][kind] for e in optional) for kind in ("degrees", "mm"))
        lines.append(
            f"pose.bin against pose.txt (depth camera): {have['compared']:,} compared, largest difference "
            f"{degrees:.5f} degrees (geodesic) and {mm:.5f} mm"
        )
    return lines


# ---- built data


class _Labels(NamedTuple):
    """Ids (n,), rotations (n, 3, 3) and whether every shard of the dataset could be read."""

    ids: np.ndarray
    rotations: Floats
    whole: bool


def _open(folder: Path, lines: list[str]) -> shards.Dataset | None:
    """Return the dataset in a folder without its missing shards, which are told; None if it is no dataset."""
    try:
        return shards.open_dataset(folder)
    except HeadposeError as error:
        try:
            info = read_json(folder / shards.INFO, "the description of a dataset")
            listed = [(str(shard["file"]), int(shard["rows"])) for shard in info["shards"]]
            missing = [file for file, _ in listed if not (folder / file).exists()]
            known = info["schema"] == shards.SCHEMA and info["name"] in shards.NAMES
        except (HeadposeError, KeyError, TypeError, ValueError):
            missing, known = [], False
        if not missing or not known:
            lines.append(f"{error}")
            return None
        lines += [f"{folder / file}: the shard is missing; run the build again to restore it" for file in missing]
        rest = [shard for shard in info["shards"] if shard["file"] not in missing]
        return shards.Dataset(folder, {**info, "shards": rest, "shards_missing": len(missing)})


def _check_labels(fields: dict[str, np.ndarray], rows: int, path: Path, lines: list[str]) -> bool:
    """Check a shard's ids and labels; return whether they can be used."""
    before = len(lines)
    ids, rotations, angles = fields["id"], fields["label/rotation"], fields["label/pyr"]
    if not len(ids) == len(rotations) == len(angles) == rows:
        lines.append(f"{path}: {len(ids)} ids, {len(rotations)} rotations and {len(angles)} angles, but dataset.json "
                     f"says {rows} rows; {BUILD_AGAIN}")  # fmt: skip
        return False
    if not all(ids):
        lines.append(f"{path}: {sum(not name for name in ids)} empty ids; {BUILD_AGAIN}")
    finite = np.isfinite(rotations).all(axis=(1, 2))
    off = ~finite
    off[finite] = orthonormality_error(rotations[finite]) > ROTATION_TOLERANCE
    if off.any():
        lines.append(f"{path}: {off.sum()} label/rotation are no rotations, the first of {ids[off][0]}; {BUILD_AGAIN}")
        return False
    difference = np.abs(angle_difference(from_matrix(rotations), angles)).max(axis=1)
    apart = ~(difference <= PYR_TOLERANCE)
    if apart.any():
        lines.append(f"{path}: {apart.sum()} label/pyr are not the angles ({DEGREES}) of their label/rotation, "
                     f"the first of {ids[apart][0]}; {BUILD_AGAIN}")  # fmt: skip
    return len(lines) == before


def _check_crops(dataset: shards.Dataset, shard: Report, path: Path, lines: list[str]) -> int:
    """Decode every crop of a shard; return how many are as they should be."""
    one = shards.Dataset(dataset.folder, {**dataset.info, "shards": [shard], "joins": None})
    fields = next(shards.read_fields(one, "image/bytes", "image/offset", "id"))
    data, offset, side = fields["image/bytes"], fields["image/offset"], dataset.size
    if len(offset) != shard["rows"] + 1 or (np.diff(offset) < 0).any() or offset[0] != 0 or offset[-1] != len(data):
        lines.append(f"{path}: image/offset does not fit {shard['rows']} rows and the image bytes; {BUILD_AGAIN}")
        return 0
    good = 0
    for index, name in enumerate(fields["id"]):
        try:
            height, width = decode(data[offset[index] : offset[index + 1]]).shape[:2]
        except ImageError:
            lines.append(f"{path}: the crop of {name} cannot be decoded; {BUILD_AGAIN}")
            continue
        if (height, width) != (side, side):
            lines.append(f"{path}: the crop of {name} is {width} x {height}, expected {side} x {side}; {BUILD_AGAIN}")
            continue
        good += 1
    return good


def _check_shard(
    dataset: shards.Dataset, shard: Report, deep: bool, lines: list[str]
) -> tuple[Report, dict[str, np.ndarray] | None]:
    """Return what is known of one shard, and its ids and labels if they can be used."""
    path = dataset.folder / shard["file"]
    entry: Report = {"file": shard["file"], "rows": shard["rows"], "bytes": 0, "state": "damaged"}
    try:
        found, entry["bytes"] = sha256(path), path.stat().st_size
    except OSError as error:
        lines.append(f"{path}: cannot be read: {error.strerror}; {BUILD_AGAIN}")
        return entry, None
    if found != shard["sha256"]:
        told = f"damaged or changed: the SHA-256 of its {entry['bytes']:,} bytes is not that in dataset.json"
        lines.append(f"{path}: {told}; {BUILD_AGAIN}")
        return entry, None
    if not shard["rows"]:
        return entry | {"state": "whole"}, None
    one = shards.Dataset(dataset.folder, {**dataset.info, "shards": [shard], "joins": None})
    try:
        fields = next(shards.read_fields(one, "id", "label/rotation", "label/pyr"))
        usable = _check_labels(fields, shard["rows"], path, lines)
        if deep:
            entry["crops"] = _check_crops(dataset, shard, path, lines)
    except DatasetError as error:
        lines.append(str(error))
        return entry, None
    whole = usable and (not deep or entry["crops"] == shard["rows"])
    return entry | {"state": "whole" if whole else "damaged"}, fields if usable else None


def _stray(dataset: shards.Dataset, names: set[str]) -> list[str]:
    """Return a line for each file that a build left but ``dataset.json`` does not name."""
    lines: list[str] = []
    leftover = [n for n in _names(dataset.folder, lines) if n.endswith((".h5", ".part")) and n not in names]
    return lines + [
        f"{dataset.folder / name}: not named in dataset.json, so of another or a stopped build; delete it"
        for name in leftover
    ]


def _check_dataset(dataset: shards.Dataset, deep: bool, lines: list[str], bar: Any) -> tuple[Report, _Labels]:
    """Return the row of one dataset that holds pixels, and its labels."""
    info, folder = dataset.info, dataset.folder
    entries, labels = [], []
    for shard in info["shards"]:
        entry, fields = _check_shard(dataset, shard, deep, lines)
        entries.append(entry)
        labels += [fields] if fields else []
        bar.update()
    missing = info.get("shards_missing", 0)
    damaged = sum(entry["state"] != "whole" for entry in entries)
    unit: Report = {"name": dataset.name, "folder": str(folder), "rows": info.get("rows"), "shards": entries,
                    "shards_missing": missing, "shards_damaged": damaged,
                    "bytes": sum(entry["bytes"] for entry in entries), "hashes": len(entries)}  # fmt: skip
    listed = sum(int(shard["rows"]) for shard in info["shards"])
    if not missing and listed != info.get("rows"):
        lines.append(f"{folder / shards.INFO}: says {info.get('rows')} rows, but its shards have {listed}; build again")
    names = {shard["file"] for shard in info["shards"]}
    if info.get("backgrounds_sha256"):
        path = folder / shards.BACKGROUNDS
        names.add(path.name)
        try:
            unit["bytes"] += path.stat().st_size
            unit["hashes"] += 1
            if sha256(path) != info["backgrounds_sha256"]:
                told = "damaged or changed: its SHA-256 is not that in dataset.json"
                lines.append(f"{path}: {told}; {BUILD_AGAIN}")
        except OSError as error:
            lines.append(f"{path}: cannot be read: {error.strerror}; run the build again to restore it")
    lines += _stray(dataset, names)
    ids = np.concatenate([fields["id"] for fields in labels]) if labels else np.zeros(0, "U1")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        twice = unique[counts > 1]
        lines.append(f"{folder}: {len(twice)} ids are in more than one row, such as {twice[0]}; delete the folder and "
                     "run the build again")  # fmt: skip
    rotations = np.concatenate([f["label/rotation"] for f in labels]) if labels else np.zeros((0, 3, 3))
    whole = not missing and not damaged
    if len(ids):
        unit["labels"] = _statistics(from_matrix(rotations)) | {"rows": len(ids)}
    if whole and len(ids):
        for key in ("mean", "std"):
            said = info.get("labels", {}).get(key)
            if said is None or np.abs(np.array(said) - unit["labels"][key]).max() > LABEL_TOLERANCE:
                lines.append(f"{folder / shards.INFO}: says that the labels' {key} is {said}, but it is "
                             f"{np.round(unit['labels'][key], 4).tolist()} {DEGREES}; build again")  # fmt: skip
    return unit, _Labels(ids, rotations, whole)


def _check_union(union: shards.Dataset, labels: dict[str, _Labels], lines: list[str]) -> Report:
    """Return the row of a dataset that joins others, whose own rows were checked before."""
    unit: Report = {"name": union.name, "folder": str(union.folder), "rows": union.info.get("rows"), "shards": [],
                    "joins": union.info["joins"], "shards_missing": 0, "shards_damaged": 0, "bytes": 0,
                    "hashes": 0}  # fmt: skip
    lines += _stray(union, set())
    try:
        parts = shards.parts(union)
    except HeadposeError as error:
        if "shard is missing" not in str(error):  # told with the part
            lines.append(str(error))
        return unit
    rows = sum(part.info["rows"] for part in parts)
    if rows != unit["rows"]:
        lines.append(f"{union.folder / shards.INFO}: says {unit['rows']} rows, but its parts have {rows}; build again")
    found = [labels[part.name] for part in parts if part.name in labels]
    if len(found) == len(parts) and all(part.whole for part in found) and rows:
        rotations = np.concatenate([part.rotations for part in found])
        unit["labels"] = _statistics(from_matrix(rotations)) | {"rows": len(rotations)}
    return unit


def _compare_biwi_plus(labels: _Labels, table: pd.DataFrame, folder: Path, lines: list[str]) -> list[Report]:
    """Return each sequence's statistics in Biwi+ beside the manifest's, where all its frames are there."""
    found: dict[str, dict[int, Floats]] = {}
    for name, rotation in zip(labels.ids, labels.rotations, strict=True):
        match = re.fullmatch(r"biwi/(\d\d)/(\d+)", str(name))
        if match:
            found.setdefault(match[1], {})[int(match[2])] = rotation
    rows = []
    listed = manifest.biwi_frames(table)
    for row in table[table["dataset"] == "biwi"].to_dict("records"):
        name = row["unit"]
        mine, wanted = found.get(name, {}), listed[name]
        entry = {"unit": name, "expected": len(wanted), "present": len(mine.keys() & set(wanted))}
        if set(wanted) != mine.keys():
            rows.append(entry | {"state": "not comparable: absent frames" if mine else "absent"})
            continue
        mend = "check the raw copy with hpp verify --biwi, then delete the folder and build again"
        rotations = np.stack([mine[number] for number in wanted])
        rows.append(entry | _compare_labels(rotations, row, f"{folder}: sequence {name}", mend, lines))
    return rows


def _dataset_folders(folder: Path, lines: list[str]) -> list[Path]:
    """Return the folders of the datasets: a build's, or one dataset with those that it joins."""
    if (folder / shards.INFO).exists():
        found = [folder]
        try:
            joins = read_json(folder / shards.INFO, "the description of a dataset").get("joins") or []
            found = [*(folder.parent / str(name) for name in joins), folder]
        except (HeadposeError, AttributeError, TypeError):
            pass  # told when it is opened
        return found
    found = [folder / name for name in shards.NAMES if (folder / name).is_dir()]
    if not found:
        raise DatasetError(f"{folder}: holds no dataset; give the --out of a build, or one dataset's folder in it")
    return found


def verify_data(folder: Path, manifest_file: Path | None = None, deep: bool = False) -> Report:
    """Check built datasets against their ``dataset.json``; return a report of plain JSON values.

    Parameters
    ----------
    folder
        The ``--out`` of a build, or one dataset's folder.
    manifest_file
        Has the label statistics of Biwi's sequences; the project's own if None.
    deep
        Decode every crop too.

    Raises
    ------
    HeadposeError
        If there is no dataset at all, or the manifest cannot be read.
    """
    path = manifest_file or manifest.default_path()
    table = manifest.read(path)
    lines: list[str] = []
    warnings: list[str] = []
    opened = [_open(place, lines) for place in _dataset_folders(folder, lines)]
    datasets = [dataset for dataset in opened if dataset]
    units: list[Report] = []
    labels: dict[str, _Labels] = {}
    statistics: Report = {"convention": "pyr", "camera": "rgb", "unit": "degrees"}
    with progress(sum(len(dataset.info["shards"]) for dataset in datasets), "built datasets", "shard") as bar:
        for dataset in datasets:
            if not dataset.info.get("joins"):
                unit, labels[dataset.name] = _check_dataset(dataset, deep, lines, bar)
                units.append(unit)
    units += [_check_union(dataset, labels, lines) for dataset in datasets if dataset.info.get("joins")]
    by_name = {dataset.name: dataset for dataset in datasets}
    if "biwi+" in labels:
        statistics["biwi+"] = _compare_biwi_plus(labels["biwi+"], table, by_name["biwi+"].folder, lines)
    for unit in units:
        if unit["name"] == "synhead++" and "labels" in unit:
            statistics["synhead++"] = {"found": unit["labels"], "published": PUBLISHED_SYNHEAD_PP}
    matched = by_name["synbiwi+"].info.get("matched_sha256") if "synbiwi+" in by_name else None
    if matched and "biwi+" in by_name and by_name["biwi+"].info["content_sha256"] != matched:
        place = by_name["synbiwi+"].folder
        warnings.append(f"{place}: was matched with another Biwi+ than that beside it; build with both raw datasets")
    for unit in units:
        unit["state"] = _data_state(unit, lines)
    return {
        "toolkit": __version__,
        "folder": str(folder),
        "manifest": {"file": str(path), "sha256": sha256(path)},
        "deep": deep,
        "datasets": units,
        "statistics": statistics,
        "bytes_read": sum(unit["bytes"] for unit in units),
        "hashes_checked": sum(unit["hashes"] for unit in units),
        "warnings": sorted(set(warnings)),
        "faults": sorted(set(lines)),
    }


def _data_state(unit: Report, lines: list[str]) -> str:
    words = [f"{unit[f'shards_{what}']} shards {what}" for what in ("missing", "damaged") if unit[f"shards_{what}"]]
    if words:
        return ", ".join(words)
    mine = sum(line.startswith((f"{unit['folder']}/", f"{unit['folder']}:")) for line in lines)
    return _count(mine) if mine else "whole"


def _three(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def describe_data(report: Report) -> str:
    """Return a report of :func:`verify_data` as text: tables, then the faults and a verdict."""
    rows = [
        {
            "dataset": unit["name"],
            "rows": f"{unit['rows']:,}" if isinstance(unit["rows"], int) else "?",
            "shards": f"{len(unit['shards']):,}",
            "MB": f"{unit['bytes'] / 1e6:,.1f}",
            "mean pitch, yaw, roll": _three(unit["labels"]["mean"]) if "labels" in unit else "",
            "deviation": _three(unit["labels"]["std"]) if "labels" in unit else "",
            "state": unit["state"],
        }
        for unit in report["datasets"]
    ]
    align = ("left", "right", "right", "right", "left", "left", "left")
    lines = []
    if rows:
        lines = [tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True, colalign=align)]
    lines += [f"Angles in {DEGREES}.", ""]
    if sequences := report["statistics"].get("biwi+"):
        states = Counter(entry["state"].partition(":")[0] for entry in sequences)
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        differences = [entry["difference"] for entry in sequences if "difference" in entry]
        largest = f"; largest difference {max(differences):.5f}" if differences else ""
        lines.append(
            f"Biwi+ labels, mean and deviation of a sequence ({DEGREES}; within {LABEL_TOLERANCE}): {counted}{largest}"
        )
        partial = [entry for entry in sequences if entry["state"].startswith("not comparable")]
        if partial:
            some = ", ".join(f"{entry['unit']} ({entry['present']} of {entry['expected']})" for entry in partial)
            lines.append(f"not comparable, for frames that are absent: {some}")
    if pair := report["statistics"].get("synhead++"):
        beside = [
            {"SynHead++": name, "mean pitch, yaw, roll": _three(values["mean"]), "deviation": _three(values["std"])}
            for name, values in (("these data", pair["found"]), (pair["published"]["source"], pair["published"]))
        ]
        lines += [tabulate(beside, headers="keys", tablefmt="simple", disable_numparse=True), f"({DEGREES})"]
    lines += [*_listed(report), ""]
    read = f"{report['hashes_checked']:,} hashes checked, {report['bytes_read']:,} bytes read"
    read += ", every crop decoded" if report["deep"] else ""
    verdict = _count(faults(report)) if faults(report) else "whole"
    return "\n".join([*lines, f"{report['folder']}: {verdict}: {read}"])
