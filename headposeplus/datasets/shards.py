"""Built datasets on disk: a folder with ``dataset.json`` and HDF5 shards.

A shard holds ``image/bytes`` (the encoded crops end to end), ``image/offset`` (n + 1), ``mask/bits`` (the
packed foreground, of rendered images only), ``label/rotation`` (n, 3, 3), ``label/pyr`` (n, 3) in degrees,
``id``, ``subject``, ``box`` (x, y, width, height in raw pixels) and ``box_source``. SynBiwi+ adds ``source``
(the SynHead id), ``turn`` (degrees in the image plane), and what remains between its pose and the Biwi frame's:
``residual/geodesic`` and ``residual/euler`` (degrees).
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from headposeplus.errors import DatasetError
from headposeplus.files import content_hash, read_json, whole_or_absent
from headposeplus.rotations import Floats, from_matrix

SCHEMA = 2
INFO = "dataset.json"
BACKGROUNDS = "backgrounds.h5"
NAMES = ("biwi+", "synhead+", "synbiwi+", "synhead++")

_ABOUT = {
    "image/bytes": "encoded crops (PNG or JPEG), end to end",
    "image/offset": "crop i is image/bytes[offset[i]:offset[i + 1]]",
    "mask/bits": "foreground of each crop, row by row, packed eight pixels to a byte, first pixel highest",
    "label/rotation": "R: head to RGB camera (x right, y down, z forward)",
    "label/pyr": "pitch, yaw, roll in degrees, convention pyr: the extrinsic xyz angles of F R F",
    "id": "dataset/sequence/frame, or dataset/group/head/track/frame",
    "subject": "who is seen",
    "box": "x, y, width, height in raw pixels; the last pixel is at x + width - 1",
    "box_source": "where the box comes from: projected, imported, corrected, a detector, or the head's outline",
    "source": "the SynHead image that was turned",
    "turn": "its turn in the image plane, clockwise, in degrees",
    "residual/geodesic": "degrees between this pose and the Biwi frame's",
    "residual/euler": "mean absolute difference of pitch, yaw and roll to the Biwi frame's, in degrees",
}
_TEXT = "S40"
CHUNK_ROWS = 256  # rows held in memory before they are written, and of a chunk in the file
CHUNK_BYTES = 1 << 20  # of a chunk of image bytes
ROW_BYTES = 300  # about what a row's labels take
# Kept free on the disk: HDF5 crashes the process, rather than raising, when a write of its own fails.
_RESERVE = 64 << 20


class Origin(NamedTuple):
    """What a shard was built from: hashes of the options and of the raw data."""

    options: str
    raw: str


class Row(NamedTuple):
    """One sample on its way into a shard; ``extra`` holds the fields that only SynBiwi+ has."""

    id: str
    subject: str
    image: np.ndarray
    mask: np.ndarray | None
    rotation: Floats
    box: Floats
    box_source: str
    extra: dict[str, Any]


class ShardWriter:
    """Writes rows into an open shard, a few at a time. The same rows give the same bytes: no times are stored."""

    def __init__(self, file: h5py.File, origin: Origin) -> None:
        self._file = file
        self._origin = origin
        self._rows: list[Row] = []
        # Open until the file is closed: HDF5 places a dataset's bytes when its last handle goes, and a profiler that
        # holds on to a frame would move that.
        self._fields: dict[str, h5py.Dataset] = {}
        self._offset = np.zeros(1, np.int64)
        self.count = 0

    def add(self, row: Row) -> None:
        """Add a sample."""
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == CHUNK_ROWS:
            self._flush()

    def finish(self, report: dict[str, Any]) -> None:
        """Write the last rows and the shard's report, which a resumed build reads back."""
        self._flush()
        self._append("image/offset", self._offset)
        self._file.attrs["options"], self._file.attrs["raw"] = self._origin
        self._file.attrs["report"] = json.dumps(report, sort_keys=True)
        self._file.attrs["rows"] = self.count

    def _append(self, name: str, values: np.ndarray) -> None:
        if name not in self._fields:
            chunk = (CHUNK_BYTES,) if values.ndim == 1 and values.dtype == np.uint8 else (CHUNK_ROWS, *values.shape[1:])
            self._fields[name] = self._file.create_dataset(
                name, shape=(0, *values.shape[1:]), maxshape=(None, *values.shape[1:]), dtype=values.dtype, chunks=chunk
            )
            self._fields[name].attrs["about"] = _ABOUT[name]
        dataset = self._fields[name]
        start = dataset.shape[0]
        dataset.resize(start + len(values), axis=0)
        dataset[start:] = values

    def _flush(self) -> None:
        rows = self._rows
        if not rows:
            return
        if shutil.disk_usage(Path(self._file.filename).parent).free < _RESERVE + 2 * sum(
            len(row.image) for row in rows
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
        ends = self._offset[-1] + np.cumsum([len(row.image) for row in rows])
        self._offset = np.concatenate((self._offset, ends))
        self._append("image/bytes", np.concatenate([row.image for row in rows]))
        if rows[0].mask is not None:
            self._append("mask/bits", np.stack([np.packbits(row.mask) for row in rows if row.mask is not None]))
        rotations = np.stack([row.rotation for row in rows])
        self._append("label/rotation", rotations)
        self._append("label/pyr", from_matrix(rotations))
        self._append("id", np.array([row.id for row in rows], _TEXT))
        self._append("subject", np.array([row.subject for row in rows], "S8"))
        self._append("box", np.stack([row.box for row in rows]).astype(np.int32))
        self._append("box_source", np.array([row.box_source for row in rows], "S24"))
        for name in rows[0].extra:
            values = [row.extra[name] for row in rows]
            self._append(name, np.array(values, _TEXT if isinstance(values[0], str) else np.float64))
        self._rows = []


@contextmanager
def write_shard(path: Path, origin: Origin) -> Iterator[ShardWriter]:
    """Yield a writer of a shard, which exists under its name only once it is whole."""
    with whole_or_absent(path) as temporary, h5py.File(temporary, "w") as file:
        yield ShardWriter(file, origin)


def shard_name(index: int, count: int) -> str:
    """Return a shard's file name, such as ``shard-00000-of-00024.h5``."""
    return f"shard-{index:05d}-of-{count:05d}.h5"


def read_report(path: Path, origin: Origin) -> dict[str, Any] | None:
    """Return the report of a finished shard; None if it has to be built.

    That is where there is none, where the raw data have changed, and where files were left out: they may
    have been mended since.

    Raises
    ------
    DatasetError
        If the shard was built with other options, or is damaged.
    """
    if not path.exists():
        return None
    try:
        with h5py.File(path, "r") as file:
            found = Origin(file.attrs["options"], file.attrs["raw"])
            report: dict[str, Any] = json.loads(file.attrs["report"])
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(f"{path}: damaged shard ({error}); delete it and run the same command again") from error
    if found.options != origin.options:
        raise DatasetError(f"{path.parent}: was built with other options; choose another --out or delete the folder")
    return None if found.raw != origin.raw or report["left_out"] else report


class MissingShardError(DatasetError):
    """A built dataset lacks one of its shards."""


def damaged(path: Path, error: Exception) -> DatasetError:
    """Return what to raise where a shard cannot be read."""
    return DatasetError(f"{path}: damaged shard ({error}); delete it and build again")


def content_sha256(info: dict[str, Any]) -> str:
    """Return the hash of what a dataset holds, from its description: of its shards or parts, and backgrounds."""
    return content_hash([info["shards"], info.get("joined"), info.get("backgrounds_sha256")])


def unpack_mask(bits: np.ndarray, size: int) -> np.ndarray:
    """Return a crop's foreground (size, size), bool, from its packed bits."""
    return np.unpackbits(bits)[: size * size].reshape(size, size).astype(bool)


class Dataset(NamedTuple):
    """A built dataset: its folder and what its ``dataset.json`` says."""

    folder: Path
    info: dict[str, Any]

    @property
    def name(self) -> str:
        """One of :data:`NAMES`."""
        return str(self.info["name"])

    @property
    def size(self) -> int:
        """The crops' side in pixels."""
        return int(self.info["parameters"]["size"])


def open_dataset(folder: Path) -> Dataset:
    """Return the dataset in a folder.

    Raises
    ------
    DatasetError
        If there is none, it is of another schema, or a shard is missing.
    """
    path = folder / INFO
    if not path.exists():
        raise DatasetError(f"{path}: no such file; build the dataset first: hpp build-datasets --help")
    info = read_json(path, "the description of a dataset")
    try:
        fitting = info["schema"] == SCHEMA and info["name"] in NAMES and int(info["parameters"]["size"]) > 0
        fitting &= isinstance(info["content_sha256"], str) and all(int(shard["rows"]) >= 0 for shard in info["shards"])
    except (KeyError, TypeError, ValueError):
        fitting = False
    if not fitting:
        raise DatasetError(f"{path}: expected a dataset of schema {SCHEMA}; build it again with this version")
    for shard in info["shards"]:
        if not (folder / shard["file"]).exists():
            raise MissingShardError(f"{folder / shard['file']}: the shard is missing; build again to restore it")
    return Dataset(folder, info)


def parts(dataset: Dataset) -> list[Dataset]:
    """Return the datasets that hold the rows: itself, or those that SynHead++ joins.

    Raises
    ------
    DatasetError
        If one of those was built again since they were joined.
    """
    if not dataset.info.get("joins"):
        return [dataset]
    found = [open_dataset(dataset.folder.parent / name) for name in dataset.info["joins"]]
    if [part.info["content_sha256"] for part in found] != dataset.info["joined"]:
        raise DatasetError(
            f"{dataset.folder}: its parts were built again since; build with both raw datasets once more"
        )
    return found


def read_fields(dataset: Dataset, *names: str) -> Iterator[dict[str, np.ndarray]]:
    """Yield the named fields of each shard, whole, in order; texts come as str.

    Raises
    ------
    DatasetError
        If a shard is damaged or lacks a field.
    """
    for part in parts(dataset):
        for shard in part.info["shards"]:
            path = part.folder / shard["file"]
            if not shard["rows"]:
                continue
            try:
                with h5py.File(path, "r") as file:
                    fields = {name: file[name][...] for name in names}
            except (OSError, KeyError) as error:
                raise damaged(path, error) from error
            yield {k: v.astype("U") if v.dtype.kind == "S" else v for k, v in fields.items()}


def read_labels(dataset: Dataset) -> tuple[np.ndarray, Floats]:
    """Return the ids (n,) and rotations (n, 3, 3) of all rows."""
    shards = list(read_fields(dataset, "id", "label/rotation"))
    if not shards:
        return np.zeros(0, "U40"), np.zeros((0, 3, 3))
    return np.concatenate([s["id"] for s in shards]), np.concatenate([s["label/rotation"] for s in shards])


def read_row(dataset: Dataset, file: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return image bytes, packed mask (or None), rotation and id of a random row of one shard."""
    path = dataset.folder / file
    try:
        with h5py.File(path, "r") as shard:
            index = int(rng.integers(shard["id"].shape[0]))
            start, end = shard["image/offset"][index : index + 2]
            return {
                "image": shard["image/bytes"][start:end],
                "mask": shard["mask/bits"][index] if "mask" in shard else None,
                "rotation": shard["label/rotation"][index],
                "id": shard["id"][index].decode(),
            }
    except (OSError, KeyError) as error:
        raise damaged(path, error) from error
