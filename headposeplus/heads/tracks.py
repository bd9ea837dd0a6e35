"""Which poses are rendered: random ones, those of Biwi, or anyone's, as tracks of SynHead.

A track's file holds pitch, yaw and roll as the hidden order takes them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from headposeplus.errors import DatasetError, HeadposeError, RawDataError
from headposeplus.faults import Fault, shown, unreadable
from headposeplus.files import read_file
from headposeplus.raw import biwi, synhead
from headposeplus.raw.folders import find, listing
from headposeplus.rotations import ANGLES, EulerOrder, Floats, convert, from_matrix
from headposeplus.sheets import read_numbers, read_rows, read_text

POSES = 51_096  # of SynHead
COUNTS = {"BIWI": 24, "breitenstein": 26, "kinect": 5, "softkinetic": 15}  # tracks of each of its groups
_BIWI_POSES = 15_678  # of them, the frames of Biwi
_FOLLOWS_NONE = 30  # random tracks of the group BIWI count from here: those below follow Biwi's sequences, by number
_SHORTEST = 20  # poses of a track, where there are few: neighbours tell the order of axes
_FIRST = ("kinect", "BIWI", "softkinetic", "breitenstein")  # groups, of which one with frontal poses
_SMOOTH = 3.0  # frames: the deviation of the window that smooths Biwi's poses
# Within which a group's random angles lie, degrees: all of Biwi's, profiles and beyond, the front, and heads that lean.
_LIMITS = {
    "BIWI": [80, 82, 50], "breitenstein": [60, 115, 35], "kinect": [35, 45, 30], "softkinetic": [70, 75, 75],
}  # fmt: skip
_POSE_FILE = re.compile(r"frame_(\d{5})_pose\.(bin|txt)", re.IGNORECASE)
_ANNOTATIONS = "folders 01 to 24 with frame_00003_pose.bin or frame_00003_pose.txt and so on"
_ROWS = "a row a pose: pitch,yaw,roll in degrees"


class Track(NamedTuple):
    """A track: its group, its number as written, and its angles (n, 3) as its file has them."""

    group: str
    name: str
    angles: Floats

    @property
    def text(self) -> str:
        """What its file holds."""
        return "".join("{:.6f},{:.6f},{:.6f}\n".format(*row) for row in self.angles)


def _as_written(group: str, number: int, angles: Floats) -> Track:
    """Return a track whose angles are rounded as its file rounds them: what is rendered are its file's numbers."""
    return Track(group, f"{number:02d}", np.round(angles, 6) + 0.0)


def _random_angles(group: str, number: int, count: int, seed: int) -> Floats:
    """Return angles (count, 3) that wander to and fro within a group's limits, each at a pace of its own.

    So they fill the limits evenly, and from one pose to the next an angle changes by a few degrees.
    """
    rng = np.random.default_rng([seed, 2, synhead.GROUPS.index(group), number])
    limits = np.array(_LIMITS[group], float)
    pace = np.clip(240 / count, 2, 4) * rng.uniform(0.6, 1.4, 3)  # degrees from a pose to the next
    turns = rng.uniform(0, 1, 3) + np.arange(count)[:, None] * pace / (4 * limits)
    there_and_back = 4 * np.abs(turns % 1 - 0.5) - 1
    return gaussian_filter1d(there_and_back * limits, 1.5, axis=0, mode="nearest")


def _sampled(angles: Floats, count: int) -> Floats:
    return angles[np.linspace(0, len(angles) - 1, count).round().astype(int)]


def _shares(total: int, sizes: list[int]) -> list[int]:
    """Return how many of ``total`` poses each track gets, in proportion to their ``sizes`` as whole numbers."""
    ends = np.rint(np.cumsum([0, *sizes]) * (total / max(sum(sizes), 1))).astype(int)
    return np.minimum(np.diff(ends), sizes).tolist()


def random_tracks(poses: int, groups: tuple[str, ...], order: EulerOrder, seed: int) -> list[Track]:
    """Return tracks of random poses in some groups, as many as SynHead has, or fewer where there are few poses."""
    places = sorted(
        (number / COUNTS[group], _FIRST.index(group), group, number)
        for group in groups
        for number in range(COUNTS[group])
    )
    places = places[: max(min(len(places), poses // _SHORTEST), 1)]
    lengths = np.diff(np.rint(np.linspace(0, poses, len(places) + 1)).astype(int)).tolist()
    tracks = [
        _as_written(
            group,
            number + _FOLLOWS_NONE * (group == "BIWI"),
            _random_angles(group, number, length, seed) * order.signs,
        )
        for (_, _, group, number), length in zip(places, lengths, strict=True)
        if length
    ]
    return sorted(tracks, key=lambda track: (groups.index(track.group), track.name))


def _smoothed(numbers: np.ndarray, angles: Floats) -> Floats:
    """Return angles (n, 3) of frames, each averaged with its neighbours by a Gaussian of their numbers (n,)."""
    weights = np.exp(-0.5 * ((numbers[:, None] - numbers) / _SMOOTH) ** 2)
    smooth: Floats = np.einsum("ij,jk->ik", weights, angles) / weights.sum(axis=1, keepdims=True)
    return smooth


def _root_of(folder: Path, names: list[str]) -> Path | None:
    """Return the folder above a sequence's poses."""
    is_sequence = re.fullmatch(r"\d\d", folder.name) and any(map(_POSE_FILE.fullmatch, names))
    return folder.parent if is_sequence else None


def _pose_files(root: Path) -> dict[str, dict[int, Path]]:
    """Return the poses of each sequence by number."""
    sequences: dict[str, dict[int, Path]] = {}
    for place in listing(root):
        if re.fullmatch(r"\d\d", place.name) and place.is_dir():
            # A text holds more digits than the annotations: it comes later.
            files = {int(path.name[6:11]): path for path in listing(place) if _POSE_FILE.fullmatch(path.name)}
            sequences |= {place.name: files} if files else {}
    return sequences


def _count(root: Path) -> dict[str, int]:
    sequences = _pose_files(root)
    files = [path for numbers in sequences.values() for path in numbers.values()]
    texts = sum(path.suffix.lower() == ".txt" for path in files)
    return {"sequences": len(sequences), "poses": len(files), "of these as text": texts}


def biwi_tracks(folder: Path, poses: int | None, order: EulerOrder) -> list[Track]:
    """Return the tracks that follow the sequences of a raw Biwi, or of its annotations alone, smoothed.

    As in SynHead, a track's numbers are the angles of its sequence (``pyr``, depth camera, but for the signs), and the
    hidden order makes other poses of them.

    Raises
    ------
    RawDataError
        If the folder holds no poses of Biwi, or one is damaged.
    """

    root = find(folder, "raw Biwi or its annotations", _ANNOTATIONS, _root_of, _count, levels=3)
    sequences = {}
    for name, files in _pose_files(root).items():
        rotations = np.stack([biwi.read_pose(files[number]).rotation for number in sorted(files)])
        sequences[name] = _smoothed(np.array(sorted(files)), from_matrix(rotations))
    sizes = [len(angles) for angles in sequences.values()]
    counts = _shares(sum(sizes) if poses is None else poses, sizes)
    return [
        _as_written("BIWI", int(name) - 1, _sampled(angles, count) * order.signs)
        for (name, angles), count in zip(sequences.items(), counts, strict=True)
        if count
    ]


def _read_rows(path: Path) -> Floats:
    """Return the angles (n, 3) of a user's track; a first line that names the columns may be there."""
    mend = f"expected {_ROWS}"
    try:
        rows = read_rows(read_text(read_file(path), mend), mend)
    except OSError as error:
        raise RawDataError(unreadable(path, error, _ROWS)) from error
    except DatasetError as error:
        raise RawDataError(error.fault._replace(file=path)) from error
    if rows and [cell.strip().lower() for cell in rows[0].cells] == list(ANGLES):
        del rows[0]
    angles = [read_numbers(row.cells, ",") for row in rows]
    for row, numbers in zip(rows, angles, strict=True):
        if len(numbers) != 3 or not (np.abs(numbers) <= 360).all():
            what = f"expected {_ROWS}; found {shown(row.text)}"
            raise RawDataError(Fault(what, "write such a file", path, rows=(row.line,)))
    if not rows:
        raise RawDataError(Fault("holds no row", mend, path))
    return np.array(angles)


def given_tracks(path: Path, poses: int | None, order: EulerOrder) -> list[Track]:
    """Return the tracks of a CSV, or of a folder of them, by name: poses (``pyr``) as the hidden order writes them.

    Raises
    ------
    RawDataError
        If a row has not three numbers, or there is no CSV; the message says which line.
    """
    files = listing(path, ".csv") if path.is_dir() else [path]
    if not files:
        raise RawDataError(Fault(f"holds no .csv; expected {_ROWS}", "give a CSV, or a folder of them", path))
    given = [_read_rows(file) for file in files]
    sizes = [len(angles) for angles in given]
    counts = _shares(sum(sizes) if poses is None else poses, sizes)
    return [
        _as_written("softkinetic", number, convert(_sampled(angles, count), "pyr", order))
        for number, (angles, count) in enumerate(zip(given, counts, strict=True))
        if count
    ]


def plan_tracks(
    poses: int | None, order: EulerOrder, seed: int, biwi_folder: Path | None = None, given: Path | None = None
) -> list[Track]:
    """Return the tracks of a copy: those that are given, and random ones in the groups that are left.

    ``poses`` is how many a person is rendered in; None: as many as SynHead has, or all of those given. With ``given``
    there are no random ones.

    Raises
    ------
    RawDataError
        If what is given is damaged.
    HeadposeError
        If there are no poses to render.
    """
    tracks: list[Track] = []
    share = None if poses is None else round(poses * _BIWI_POSES / POSES)
    if biwi_folder:
        tracks += biwi_tracks(biwi_folder, share, order)
    if given:
        left = None if poses is None else poses - sum(len(track.angles) for track in tracks)
        tracks += given_tracks(given, left, order)
    else:
        groups = synhead.GROUPS[1:] if biwi_folder else synhead.GROUPS
        left = (POSES if poses is None else poses) - sum(len(track.angles) for track in tracks)
        tracks += random_tracks(left, groups, order, seed) if left > 0 else []
    if not tracks:
        raise HeadposeError("no pose to render: give more `images`")
    return tracks
