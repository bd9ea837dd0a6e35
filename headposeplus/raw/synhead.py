"""Reader of raw SynHead (Gu et al. 2017), release ``synhead2_release``.

A track is a file of poses that ten heads were rendered with: ``GROUP/TT.csv`` holds pitch, yaw and roll in
degrees, a row a frame, and ``GROUP/HEAD/TT/`` the images. In which order of axes the angles were used is
not stated anywhere; :mod:`headposeplus.raw.render_order` infers it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from headposeplus import sheets
from headposeplus.errors import DatasetError, ImageError, RawDataError
from headposeplus.faults import RESTORE, Fault, plural, unreadable
from headposeplus.files import content_hash, files_hash, folders, read_file, sha256
from headposeplus.images import SUFFIXES, foreground, read_rendered
from headposeplus.raw.folders import find, listing, spelled
from headposeplus.rotations import Floats

GROUPS = ("BIWI", "breitenstein", "kinect", "softkinetic")
_ALIASES = {"softkinect": "softkinetic"}
HEADS = (*(f"f{i:02d}" for i in range(1, 6)), *(f"m{i:02d}" for i in range(1, 6)))
HEAD_PLACES = "head_places.csv"
LAYOUT = "a folder background and groups such as BIWI, with BIWI/00.csv and BIWI/f01/00/*.png"


class Track(NamedTuple):
    """A track of poses: its group, its number as written, and its file of angles."""

    group: str
    name: str
    csv: Path

    def images_folder(self, head: str) -> Path:
        """Return the folder of the images of one head."""
        return self.csv.parent / head / self.name


def image_id(group: str, head: str, track: str, frame: int) -> str:
    """Return an image's id, such as ``synhead/BIWI/f01/00/00012``; ``frame`` counts rows from 0."""
    return f"synhead/{group}/{head}/{track}/{frame:05d}"


def image_name(index: int, count: int) -> str:
    """Return the file name of one of ``count`` images of a track; sorted as text, the names are in order."""
    return f"{index:0{max(2, len(str(count - 1)))}d}.png"


def _root_of(folder: Path, names: list[str]) -> Path | None:
    """Return the folder above a group."""
    is_group = _ALIASES.get(folder.name, folder.name) in GROUPS
    return folder.parent if is_group and any(name.lower().endswith(".csv") for name in names) else None


def _count(root: Path) -> dict[str, int]:
    present = tracks(root)
    places = [track.images_folder(head) for track in present for head in _heads(root)]
    images = sum(len(listing(place, *SUFFIXES)) for place in places if place.is_dir())
    return {"tracks": len(present), "images": images}


def find_root(folder: Path) -> Path:
    """Return the folder that holds the groups: ``folder`` or one below it (copies bury it under ``media/``).

    Of several copies it is that with the most tracks, then the most images.

    Raises
    ------
    RawDataError
        If there is no such folder, or ``folder`` itself cannot be listed.
    TwoCopiesError
        If two copies are the fullest.
    """
    return find(folder, "raw SynHead", LAYOUT, _root_of, _count, levels=5)


def groups(root: Path) -> dict[str, Path]:
    """Return the folders of the groups present, by the group's name; raises RawDataError if ``root`` is unreadable."""
    present = {_ALIASES.get(path.name, path.name): path for path in listing(root) if os.path.isdir(path)}
    return {group: present[group] for group in GROUPS if group in present}


def group_tracks(group: str, folder: Path) -> list[Track]:
    """Return the tracks of a group, by number; raises RawDataError if its folder cannot be listed."""
    files = {path.stem: path for path in listing(folder, ".csv") if path.stem.isdigit()}
    return sorted((Track(group, name, path) for name, path in files.items()), key=lambda track: int(track.name))


def tracks(root: Path) -> list[Track]:
    """Return the tracks present, by group and number; raises RawDataError if a folder cannot be listed."""
    return [track for group, folder in groups(root).items() for track in group_tracks(group, folder)]


def heads(root: Path) -> list[str]:
    """Return the heads of which any group holds images, women first; SynHead has ten, rendered copies may have more.

    Raises
    ------
    RawDataError
        If there is none, or ``root`` is unreadable.
    """
    present = _heads(root)
    if not present:
        raise RawDataError(Fault(f"no folders of heads ({HEADS[0]} to {HEADS[-1]}) in any group", file=root))
    return present


def _heads(root: Path) -> list[str]:
    names = {name for folder in groups(root).values() for name in folders(folder)}
    return sorted(name for name in names if re.fullmatch(r"[fm]\d\d", name))


def read_angles(track: Track) -> Floats:
    """Return a track's angles (n, 3), degrees, columns as written: pitch, yaw, roll.

    Raises
    ------
    RawDataError
        If a row has not three finite numbers; the message says which.
    """
    expected = "a row a frame: pitch,yaw,roll in degrees, without a header"
    try:
        lines = read_file(track.csv).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise RawDataError(unreadable(track.csv, error, expected)) from error
    except UnicodeDecodeError as error:
        raise RawDataError(Fault(f"not a text file; expected {expected}", RESTORE, track.csv)) from error
    while lines and not lines[-1].strip():
        lines.pop()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = [float(cell) for cell in line.split(",")]
        except ValueError:
            row = []
        if len(row) != 3 or not all(map(math.isfinite, row)):
            raise RawDataError(Fault(f"expected {expected}; found {line[:60]!r}", RESTORE, track.csv, rows=(number,)))
        rows.append(row)
    if not rows:
        raise RawDataError(Fault(f"empty; expected {expected}", RESTORE, track.csv))
    return np.array(rows)


def image_number(path: Path) -> int | None:
    """Return the number at the end of an image's name; None if it is no image or has none."""
    digits = re.search(r"(\d+)$", path.stem)
    return int(digits[1]) if digits and path.suffix.lower() in SUFFIXES else None


def list_images(track: Track, head: str, rows: int) -> list[Path]:
    """Return the images of a head in a track, sorted by their number, one for each of ``rows`` poses.

    Raises
    ------
    RawDataError
        If the folder is missing, two files have one number, or the count differs from the rows.
    """
    folder = track.images_folder(head)
    if not os.path.isdir(folder):
        raise RawDataError(Fault(f"missing; expected {rows} images, one for each row of {track.csv}", file=folder))
    by_number: dict[int, Path] = {}
    for path in listing(folder):
        number = image_number(path)
        if number is None:
            continue
        if number in by_number:
            what = f"has the number {number}, as {by_number[number].name} has"
            raise RawDataError(Fault(what, "keep the right one", path))
        by_number[number] = path
    if len(by_number) != rows:
        what = f"{plural(len(by_number), 'image')}, but {track.csv} has {plural(rows, 'row')}"
        raise RawDataError(Fault(what, "restore the missing", folder))
    return [by_number[number] for number in sorted(by_number)]


class HeadPlace(NamedTuple):
    """Where a head is in its images: in a pose R, its middle, as Biwi calls it, is at ``pivot + R[:2] offset``.

    Attributes
    ----------
    pivot
        The point (2,) about which the head turns, x and y in pixels.
    offset
        From the pivot to the middle (3,), in the head's frame, in pixels.
    pixels_per_mm
        The scale there.
    """

    pivot: Floats
    offset: Floats
    pixels_per_mm: float


def read_head_places(root: Path) -> dict[str, HeadPlace] | None:
    """Return where each head is, which copies that were rendered by others may say; None if this one does not.

    ``head_places.csv`` has the columns head, x, y and pixels_per_mm: the pixel at which every image of a head shows its
    middle, and the scale there. The released SynHead has no such file.

    Raises
    ------
    RawDataError
        If a row is none of these, or a head has two; the message says which.
    """
    path = spelled(root / HEAD_PLACES)
    if not path.exists():
        return None
    expected, mend = "a line head,x,y,pixels_per_mm and a row a head", "mend it, or delete it to have the heads found"
    try:
        sheet = sheets.read_sheet(sheets.read_text(read_file(path), mend), mend)
    except OSError as error:
        raise RawDataError(unreadable(path, error, expected)) from error
    except DatasetError as error:
        raise RawDataError(error.fault._replace(file=path)) from error
    if sheet.faults or sheet.names != ["head", "x", "y", "pixels_per_mm"]:
        rows = sheet.faults[0].rows if sheet.faults else ()
        raise RawDataError(Fault(f"expected {expected}", mend, path, rows=rows))
    numbers = [sheets.read_numbers(sheet.columns[name], sheet.decimal).tolist() for name in sheet.names[1:]]
    places: dict[str, HeadPlace] = {}
    for cell, line, text, x, y, scale in zip(
        sheet.columns["head"], sheet.lines.tolist(), sheet.text, *numbers, strict=True
    ):
        head = cell.strip()
        if not (np.isfinite([x, y, scale]).all() and scale > 0):
            raise RawDataError(Fault(f"expected {expected}; found {text[:60]!r}", mend, path, rows=(line,)))
        if head in places:
            raise RawDataError(Fault(f"a second row of {head}", "keep the right one", path, rows=(line,)))
        places[head] = HeadPlace(np.array([x, y]), np.zeros(3), scale)
    return places


class Copy(NamedTuple):
    """What a raw SynHead holds, looked through once: half a million files take a while.

    Attributes
    ----------
    root
        Its folder.
    tracks
        The tracks of which any head has its images.
    heads
        The heads that have images.
    angles
        Each track's angles (n, 3), as written.
    tracks_sha256
        The hash of each track's file.
    folders
        For each track and head with its images, a hash of their names and sizes.
    names
        And those names, one for each row of the track's angles.
    faults
        One for each track, or images of a head in a track, that cannot be used.
    """

    root: Path
    tracks: list[Track]
    heads: list[str]
    angles: dict[Track, Floats]
    tracks_sha256: dict[Track, str]
    folders: dict[tuple[Track, str], str]
    names: dict[tuple[Track, str], list[str]]
    faults: list[Fault]

    def tracks_of(self, head: str) -> dict[Track, Floats]:
        """Return the tracks in which a head has its images, with their angles (n, 3)."""
        return {track: self.angles[track] for track in self.tracks if (track, head) in self.folders}

    def paths(self, track: Track, head: str) -> list[Path]:
        """Return a head's images in a track, one for each row of its angles."""
        folder = track.images_folder(head)
        return [folder / name for name in self.names[track, head]]

    def fingerprint(self, tracks: Iterable[Track], heads: list[str]) -> str:
        """Return a hash of the angles of some tracks, and of the images of some heads in them."""
        tracks = list(tracks)
        images = [self.folders.get((track, head), "") for track in tracks for head in heads]
        angles = [[track.group, track.name, self.tracks_sha256[track]] for track in tracks]
        return content_hash([angles, heads, images])


def look_through(root: Path) -> Copy:
    """Return what a raw SynHead holds.

    Raises
    ------
    RawDataError
        If no track has images that go with its angles.
    """
    present = heads(root)
    angles: dict[Track, Floats] = {}
    hashes_of, names, faults = {}, {}, []
    for track in tracks(root):
        try:
            angles[track] = read_angles(track)
        except RawDataError as error:
            faults.append(error.fault)
            continue
        for head in present:
            if not os.path.isdir(track.images_folder(head)):
                continue
            try:
                images = list_images(track, head, len(angles[track]))
            except RawDataError as error:
                faults.append(error.fault)
                continue
            hashes_of[track, head] = files_hash(images)
            names[track, head] = [path.name for path in images]
    usable = list(dict.fromkeys(track for track, _ in hashes_of))
    if not usable:
        why = f"; the first fault: {faults[0]}" if faults else ""
        raise RawDataError(Fault(f"no track with images; expected {LAYOUT}{why}", file=root))
    used = [head for head in present if any((track, head) in hashes_of for track in usable)]
    hashes = {track: sha256(track.csv) for track in usable}
    return Copy(root, usable, used, angles, hashes, hashes_of, names, faults)


def backgrounds(root: Path) -> list[Path]:
    """Return the background images, sorted by name; empty if the copy has none."""
    folder = root / "background"
    return listing(folder, *SUFFIXES) if os.path.isdir(folder) else []


def lossy_fault(count: int, of: int, root: Path) -> Fault:
    """Return what to know of a copy of which some images are JPEG; the bounds were measured on rendered heads."""
    what = (
        f"{plural(count, f'of {of:,} images is', f'of {of:,} images are')} JPEG, which blurs where a head ends: "
        "heads are found by their brightness, from quality 75 within 3 % of their area and 5 pixels of their box"
    )
    return Fault(what, "use the PNG originals if there are any", root)


def check_head(path: Path, inside: np.ndarray) -> None:
    """Raise ImageError if a foreground (height, width), 255 or 0, can be no head's."""
    if not 16 <= cv2.countNonZero(inside) < 0.97 * inside.size:
        raise ImageError(Fault("expected a head before a transparent or black background, found none", RESTORE, path))


def read_head(path: Path) -> np.ndarray:
    """Return where the head is in a rendered image (height, width), 255 or 0; raises ImageError if it shows none."""
    inside = cv2.threshold(foreground(read_rendered(path)), 127, 255, cv2.THRESH_BINARY)[1]
    check_head(path, inside)
    return inside
