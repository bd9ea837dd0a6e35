"""Checks raw copies of Biwi, SynHead and datasets of stills against the manifest. Nothing stops at the first fault."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from headposeplus.boxes.files import read_boxes
from headposeplus.boxes.placement import check_boxes, misplaced_fault
from headposeplus.boxes.sources import project_heads
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault
from headposeplus.images import check_whole, read_image
from headposeplus.raw import biwi, manifest, synhead
from headposeplus.raw.folders import listing
from headposeplus.raw.manifest import ListedSequence, ListedTrack
from headposeplus.raw.source import RAW_COPIES
from headposeplus.raw.stills import StillSet
from headposeplus.raw.targets import STILLS
from headposeplus.tasks import run_tasks
from headposeplus.verify.reading import image_fault
from headposeplus.verify.report import (
    COUNTS,
    RawReport,
    SequenceCheck,
    StillsCheck,
    Totals,
    TrackCheck,
    in_order,
    manifest_used,
)
from headposeplus.verify.sequences import check_sequence
from headposeplus.verify.stills import check_stills
from headposeplus.verify.tracks import check_track, find_tracks

# What a full copy holds, by Gu et al. CVPR 2017; the manifest does not know the poses of each track.
SYNHEAD_POSES = 51_096


class _Part(NamedTuple):
    """The part of a report that is about one raw copy."""

    root: Path
    units: Sequence[SequenceCheck | TrackCheck | StillsCheck]
    totals: Totals
    warnings: list[Fault]
    faults: list[Fault]


def _sums(units: Sequence[SequenceCheck | TrackCheck | StillsCheck]) -> dict[str, int]:
    """Return the sum of each of :data:`COUNTS` over sequences or tracks."""
    return {kind: sum(getattr(unit, kind) or 0 for unit in units) for kind in COUNTS}


def _totals(
    units: Sequence[SequenceCheck | TrackCheck | StillsCheck],
    sums: dict[str, int],
    faults: list[Fault],
    **of_synhead: int,
) -> Totals:
    sums = sums | {"missing": max(sums["expected"] - sums["present"], 0)}
    complete = sum(unit.state == "complete" for unit in units)
    return Totals(**sums, **of_synhead, units=len(units), complete=complete, faults=len(faults))


def _verify_biwi(root: Path, listed: dict[str, ListedSequence], deep: bool, jobs: int) -> _Part:
    names = listed.keys() | {path.name for path in listing(root) if re.fullmatch(r"\d\d", path.name)}
    tasks = [(name, listed.get(name)) for name in sorted(names)]
    checked = run_tasks(partial(check_sequence, root=root, deep=deep), tasks, jobs, "raw Biwi")
    units = [check for check, _ in checked]
    faults = in_order(fault for _, faults in checked for fault in faults)
    warnings = [
        Fault(f"no pose.txt of frames {check.stand_ins}", "their pose.bin is used instead", root / check.unit)
        for check in units
        if check.stand_ins
    ]
    return _Part(root, units, _totals(units, _sums(units), faults), warnings, faults)


def _verify_synhead(root: Path, listed: list[ListedTrack], deep: bool, jobs: int) -> _Part:
    checked = run_tasks(partial(check_track, deep=deep), find_tracks(root, listed), jobs, "raw SynHead")
    units = [check for check, _ in checked]
    faults = [fault for _, faults in checked for fault in faults]
    poses = [check.poses for check in units if check.poses is not None]
    sums = _sums(units)
    if all(row.poses is None for row in listed):
        sums["expected"] = SYNHEAD_POSES * len(synhead.HEADS)
        if len(poses) == len(units) and sum(poses) != SYNHEAD_POSES:
            what = f"the tracks have {sum(poses):,} poses, expected {SYNHEAD_POSES:,} (Gu et al. CVPR 2017)"
            faults.append(Fault(what, "restore the .csv files from the raw archive", root))
    images = synhead.backgrounds(root)
    of_images = [image_fault(path, read_image if deep else check_whole) for path in images]
    damaged = [fault for fault in of_images if fault]
    backgrounds = len(images) - len(damaged)
    none = Fault("no readable image", "training composites the heads on plain colours", root / "background")
    faults = in_order([*faults, *damaged])
    totals = _totals(
        units,
        sums,
        faults,
        tracks=len(poses),
        tracks_expected=len(listed),
        poses=sum(poses),
        backgrounds=backgrounds,
    )
    warnings = [] if backgrounds else [none]
    if lossy := sum(check.lossy for check in units):
        warnings.append(synhead.lossy_fault(lossy, sum(check.present + check.extra for check in units), root))
    return _Part(root, units, totals, warnings, faults)


def _verify_boxes(path: Path, root: Path, manifest_file: Path | None, jobs: int) -> list[Fault]:
    """Return the fault of a file of boxes of which some cannot be; raises DatasetError if it cannot be read."""
    table = read_boxes(path)
    try:
        heads = project_heads(root, jobs, manifest_file)
        ids = check_boxes(table, path, heads.table, heads.width)
    except HeadposeError as error:
        return [error.fault]
    return [misplaced_fault(ids, path, "mend or remove them")] if ids else []


def _verify_stills(stills: StillSet, root: Path, listed: dict[str, ListedSequence], deep: bool, jobs: int) -> _Part:
    units, faults = check_stills(stills, root, listed, deep, jobs)
    faults = in_order(faults)
    return _Part(root, units, _totals(units, _sums(units), faults), [], faults)


def verify_raw(
    biwi_folder: Path | str | None,
    synhead_folder: Path | str | None,
    manifest_file: Path | str | None = None,
    deep: bool = False,
    jobs: int = 1,
    boxes: Path | str | None = None,
    stills: Mapping[str, Path | str] | None = None,
) -> RawReport:
    """Check raw copies against the manifest.

    Parameters
    ----------
    biwi_folder, synhead_folder
        The raw copies, or folders up to a few levels above them; at least one, or one of ``stills``.
    manifest_file
        What a full copy holds; the project's own if None.
    deep
        Decode every image, and read depth images, masks and meshes, instead of each image's beginning and end.
    jobs
        Number of processes.
    boxes
        A file of Biwi's face boxes, each of which is to be about the head that the pose gives.
    stills
        The raw copies of datasets of stills by name, or folders above them.

    Raises
    ------
    HeadposeError
        If a raw copy is not found at all, or the manifest cannot be read.
    """
    if not biwi_folder and not synhead_folder and not stills:
        raise HeadposeError(f"nothing to verify: give {RAW_COPIES}")
    if boxes and not biwi_folder:
        raise HeadposeError("`boxes` are compared with Biwi's poses: give `biwi`, too")
    manifest_file = Path(manifest_file) if manifest_file else None
    table = manifest.read(manifest_file)
    # Both are looked for before either is gone through: that takes minutes.
    biwi_root = biwi.find_root(Path(biwi_folder)) if biwi_folder else None
    synhead_root = synhead.find_root(Path(synhead_folder)) if synhead_folder else None
    still_roots = {name: STILLS[name].find_root(Path(folder)) for name, folder in (stills or {}).items()}
    parts: dict[str, _Part] = {}
    if biwi_root:
        misfits = _verify_boxes(Path(boxes), biwi_root, manifest_file, jobs) if boxes else []
        part = _verify_biwi(biwi_root, manifest.listed_sequences(table), deep, jobs)
        parts["biwi"] = part._replace(faults=[*misfits, *part.faults])
    if synhead_root:
        parts["synhead"] = _verify_synhead(synhead_root, manifest.listed_tracks(table), deep, jobs)
    for name, root in still_roots.items():
        parts[name] = _verify_stills(STILLS[name], root, manifest.listed_units(table, name), deep, jobs)
    return RawReport(
        manifest=manifest_used(manifest_file),
        deep=deep,
        roots={name: str(part.root) for name, part in parts.items()},
        totals={name: part.totals for name, part in parts.items()},
        units=[unit for part in parts.values() for unit in part.units],
        warnings=[warning for part in parts.values() for warning in part.warnings],
        faults=[fault for part in parts.values() for fault in part.faults],
    )
