"""Checks the shards of a built dataset against its ``dataset.json``."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.datasets.dataset import Dataset, read_shard
from headposeplus.datasets.hdf5 import BUILD_AGAIN, changed, unread
from headposeplus.datasets.info import ShardInfo
from headposeplus.errors import DatasetError, ImageError
from headposeplus.faults import Fault, plural
from headposeplus.files import sha256
from headposeplus.images import decode
from headposeplus.rotations import Floats, angle_difference, from_matrix, orthonormality_error
from headposeplus.verify.report import DEGREES

# Shards hold doubles: orthonormality without unit, and degrees.
LABEL_ERROR = 1e-6


class Hashed(NamedTuple):
    """A file whose SHA-256 was looked for: its bytes, how many hashes were read, and what is wrong."""

    bytes: int
    hashes: int
    faults: list[Fault]


class ShardCheck(NamedTuple):
    """A shard that was checked, and of its rows the ids (n,), bytes, and angles (n, 3), degrees; None if faulty."""

    hashed: Hashed
    faults: list[Fault]
    labels: tuple[np.ndarray, Floats] | None = None


def check_hash(path: Path, expected: str) -> Hashed:
    """Compare a file's SHA-256 with that in ``dataset.json``."""
    try:
        digest, size = sha256(path), path.stat().st_size
    except OSError as error:
        return Hashed(0, 0, [unread(path, error).fault])
    if digest == expected:
        return Hashed(size, 1, [])
    return Hashed(size, 1, [changed(path, expected)])


def _check_labels(fields: dict[str, np.ndarray], rows: int, path: Path) -> tuple[Floats, list[Fault]]:
    """Return the angles (n, 3) of a shard's rotations, none where they have faults; and those of its ids and labels."""
    none = np.zeros((0, 3))
    ids, rotations, angles = fields["id"], fields["label/rotation"], fields["label/pyr"]
    if not len(ids) == len(rotations) == len(angles) == rows:
        counts = f"{plural(len(ids), 'id')}, {plural(len(rotations), 'rotation')}, {plural(len(angles), 'pose')}"
        return none, [Fault(f"expected {plural(rows, 'row')}, as dataset.json says, found {counts}", BUILD_AGAIN, path)]
    faults = []
    if (ids == "").any():
        faults.append(Fault(plural(int((ids == "").sum()), "empty id"), BUILD_AGAIN, path))
    with np.errstate(invalid="ignore"):
        off = ~(orthonormality_error(rotations) <= LABEL_ERROR)
    if off.any():
        number = plural(int(off.sum()), "label/rotation is no rotation", "label/rotation are no rotations")
        what = f"{number}, the first of {ids[off][0]}"
        return none, [*faults, Fault(what, BUILD_AGAIN, path)]
    found = from_matrix(rotations)
    difference = np.abs(angle_difference(found, angles)).max(axis=1)
    off = ~(difference <= LABEL_ERROR)
    if off.any():
        number = plural(int(off.sum()), "label/pyr is", "label/pyr are")
        what = f"{number} not the angles ({DEGREES}) of the label/rotation"
        faults.append(Fault(f"{what}, the first of {ids[off][0]}", BUILD_AGAIN, path))
    return found, faults


def _check_crops(fields: dict[str, np.ndarray], side: int, path: Path) -> list[Fault]:
    """Return the faults of a shard's crops, each of which is decoded."""
    data, offset, ids = fields["image/bytes"], fields["image/offset"], fields["id"]
    if len(offset) != len(ids) + 1 or (np.diff(offset) < 0).any() or offset[0] != 0 or offset[-1] != len(data):
        return [Fault(f"image/offset does not fit {len(ids)} rows and the image bytes", BUILD_AGAIN, path)]
    faults = []
    for name, start, end in zip(ids, offset[:-1], offset[1:], strict=True):
        try:
            height, width = decode(data[start:end]).shape[:2]
        except ImageError:
            faults.append(Fault(f"the crop of {name} cannot be decoded", BUILD_AGAIN, path))
            continue
        if (height, width) != (side, side):
            what = f"the crop of {name} is {width} x {height}, expected {side} x {side}"
            faults.append(Fault(what, BUILD_AGAIN, path))
    return faults


def check_shard(dataset: Dataset, shard: ShardInfo, deep: bool) -> ShardCheck:
    """Check a shard's hash, and, if it is whole, its labels; where the check is deep, its crops too."""
    path = dataset.folder / shard.file
    hashed = check_hash(path, shard.sha256)
    if hashed.faults or not shard.rows:
        return ShardCheck(hashed, hashed.faults)
    names = ["id", "label/rotation", "label/pyr"]
    if deep:
        names += ["image/bytes", "image/offset"]
    try:
        fields = read_shard(path, *names)
    except DatasetError as error:
        return ShardCheck(hashed, [error.fault])
    angles, faults = _check_labels(fields, shard.rows, path)
    labels = None if faults else (fields["id"].astype("S"), angles)
    if deep:
        faults += _check_crops(fields, dataset.size, path)
    return ShardCheck(hashed, faults, labels)
