"""Checks a track of raw SynHead against the manifest."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from headposeplus.errors import RawDataError
from headposeplus.faults import RESTORE, Fault, plural
from headposeplus.images import check_whole, is_jpeg
from headposeplus.raw import manifest, synhead
from headposeplus.raw.folders import listing
from headposeplus.raw.manifest import ListedTrack
from headposeplus.verify.reading import RESTORE_THEM, TRUNCATED, look_at, mended, state_of
from headposeplus.verify.report import HeadCheck, TrackCheck


class TrackTask(NamedTuple):
    """A track of the copy or of the manifest, the poses and heads that the manifest says, and whether that lists it."""

    track: synhead.Track
    poses: int | None
    listed: bool
    heads: tuple[str, ...]


def _list_images(folder: Path) -> dict[int, list[Path]] | Fault:
    """Return the images of a head in a track by number, more than one where files share it; or why none is listed."""
    images: dict[int, list[Path]] = {}
    try:
        # The group and the head first, so that of all that is absent below one, only that is told.
        paths = [listing(place) for place in (folder.parents[1], folder.parent, folder)][-1]
    except RawDataError as error:
        return mended(error.fault)
    for path in paths:
        number = synhead.image_number(path)
        if number is not None:
            images.setdefault(number, []).append(path)
    return images


def _track_numbers(rows: int, numbers_of_heads: list[set[int]]) -> set[int]:
    """Return the numbers that a track's images should have, from those that each head's have.

    Nothing states from which number the images count, so it is the numbers that most heads with the right count
    share; where no head has it, they begin at 0 if that fits, else at the lowest number found.
    """
    whole = Counter(frozenset(numbers) for numbers in numbers_of_heads if len(numbers) == rows)
    if whole:
        return set(whole.most_common(1)[0][0])
    every = set().union(*numbers_of_heads)
    start = 0 if max(every, default=0) < rows else min(every)
    return set(range(start, start + rows))


def _read_rows(task: TrackTask) -> tuple[int | None, list[Fault]]:
    """Return how many rows of angles a track has, None if they cannot be read; and what is wrong with its file."""
    track, rows, faults = task.track, None, []
    try:
        listing(track.csv.parent)  # of an absent group, the folder is told
        rows = len(synhead.read_angles(track))
    except RawDataError as error:
        faults.append(mended(error.fault))
    if None not in (rows, task.poses) and rows != task.poses:
        faults.append(Fault(f"{rows} rows, but the manifest says {task.poses}", RESTORE, track.csv))
    if not task.listed:
        what = f"the manifest has no track {track.group}/{track.name}"
        faults.append(Fault(what, "move it and its images away", track.csv))
    return rows, faults


def _read_head(path: Path) -> bool:
    """Return whether the image of a head is a JPEG; raises ImageError if it cannot be decoded, or shows none."""
    synhead.read_head(path)
    return is_jpeg(path)


def _check_head(
    folder: Path, images: dict[int, list[Path]], extra: set[int], expected: int | None, csv: Path, deep: bool
) -> tuple[Counter[str], list[Fault]]:
    """Count what is wrong with the images of a head in a track, of which some are extra; return the faults, too."""
    counts: Counter[str] = Counter()
    faults = []
    if extra:
        numbers = manifest.to_ranges(extra)
        what = f"{plural(len(extra), 'image')} more than the {expected} poses of {csv.name}: numbers {numbers}"
        faults.append(Fault(what, f"move them away or restore {csv}", folder))
    for number, (first, *others) in sorted(images.items()):
        found = look_at(first, _read_head if deep else check_whole)
        if isinstance(found, Fault):
            faults.append(found)
            counts["truncated" if found.kind == TRUNCATED else "unreadable"] += 1
        elif found:
            counts["lossy"] += 1
        counts["duplicates"] += len(others)
        what = f"image {number} has a second file, {first.name}"
        faults += [Fault(what, "delete the one that is wrong", path) for path in others]
    return counts, faults


def check_track(task: TrackTask, deep: bool) -> tuple[TrackCheck, list[Fault]]:
    """Check a track and the images of all heads in it."""
    track = task.track
    rows, faults = _read_rows(task)
    expected = rows or task.poses
    listings = {head: _list_images(track.images_folder(head)) for head in task.heads}
    numbers = [set() if isinstance(images, Fault) else set(images) for images in listings.values()]
    wanted = _track_numbers(expected, numbers) if expected else set()
    counts: Counter[str] = Counter()
    heads = {}
    for head, images in listings.items():
        folder = track.images_folder(head)
        present = {} if isinstance(images, Fault) else images
        missing, extra = wanted - present.keys(), present.keys() - wanted if expected else set()
        heads[head] = HeadCheck(len(present), manifest.to_ranges(missing), manifest.to_ranges(extra))
        counts.update(present=len(present) - len(extra), missing=len(missing), extra=len(extra))
        if isinstance(images, Fault):
            faults.append(images)
        elif missing:
            what = f"{len(missing)} of {expected} images missing: numbers {heads[head].missing}"
            faults.append(Fault(what, RESTORE_THEM, folder))
        counts_of_head, faults_of_head = _check_head(folder, present, extra, expected, track.csv, deep)
        counts += counts_of_head
        faults += faults_of_head
    check = TrackCheck(
        unit=f"{track.group}/{track.name}",
        poses=rows,
        expected=expected * len(heads) if expected else None,
        heads=heads,
        present=counts["present"],
        missing=counts["missing"],
        extra=counts["extra"],
        unreadable=counts["unreadable"],
        truncated=counts["truncated"],
        duplicates=counts["duplicates"],
        lossy=counts["lossy"],
    )
    remarks = {
        "no readable angles": rows is None,
        f"{rows} rows for {task.poses}": None not in (rows, task.poses) and rows != task.poses,
        "not in the manifest": not task.listed,
    }
    state = "absent" if rows is None and not check.present else state_of(check, remarks)
    return msgspec.structs.replace(check, state=state), faults


def find_tracks(root: Path, listed: list[ListedTrack]) -> list[TrackTask]:
    """Return the tracks of the copy and of the manifest."""
    folders = synhead.groups(root)
    present: dict[tuple[str, int], synhead.Track] = {}
    for group, folder in folders.items():
        with suppress(RawDataError):  # told with each of its tracks
            present |= {(group, int(track.name)): track for track in synhead.group_tracks(group, folder)}
    of_manifest = {(row.group, int(row.name)): row for row in listed}
    tasks = []
    for group, number in sorted(present.keys() | of_manifest.keys()):
        row = of_manifest.get((group, number))
        absent = synhead.Track(group, f"{number:02d}", folders.get(group, root / group) / f"{number:02d}.csv")
        heads = (row.heads if row else ()) or synhead.HEADS
        poses = row.poses if row else None
        tasks.append(TrackTask(present.get((group, number), absent), poses, row is not None, heads))
    return tasks
