"""Reading built datasets: a folder with ``dataset.json`` and HDF5 shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from headposeplus.errors import DatasetError
from headposeplus.files import content_hash, read_json
from headposeplus.rotations import Floats

SCHEMA = 2
INFO = "dataset.json"
BACKGROUNDS = "backgrounds.h5"
NAMES = ("biwi+", "synhead+", "synbiwi+", "synhead++")


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
