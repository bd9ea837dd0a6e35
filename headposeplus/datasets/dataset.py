"""Reading built datasets: a folder with ``dataset.json`` and HDF5 shards."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.datasets.hdf5 import BUILD_AGAIN, Shard, check_unchanged, opened, unread
from headposeplus.datasets.info import INFO, Info, read_info
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, plural
from headposeplus.files import bytes_sha256, content_hash
from headposeplus.images import Image, decode
from headposeplus.raw.targets import TARGETS
from headposeplus.rotations import Floats, from_matrix, orthonormality_error

BACKGROUNDS = "backgrounds.h5"
_ANGLES = (180, 90, 180)  # degrees: what pitch, yaw and roll in pyr can be, either way
_ROUNDING = 1e-6  # of labels, which are doubles
_STEP, _BEGIN = 1e-4, 0.381966  # of a rotation's entries in a hash, and where the steps begin: at no round number
_BLOCK = 1 << 16  # rows that are hashed at once


class MissingShardError(DatasetError):
    """A built dataset lacks one of its shards."""


def unpack_mask(bits: np.ndarray, size: int) -> np.ndarray:
    """Return a crop's foreground (size, size), bool, from its packed bits."""
    return np.unpackbits(bits)[: size * size].reshape(size, size).astype(bool)


class Dataset(NamedTuple):
    """A built dataset: its folder and what its ``dataset.json`` says."""

    folder: Path
    info: Info

    @property
    def name(self) -> str:
        """One of :data:`headposeplus.datasets.info.NAMES`."""
        return self.info.name

    @property
    def size(self) -> int:
        """The crops' side in pixels."""
        return self.info.parameters.size

    @property
    def rendered(self) -> bool:
        """Whether its images are rendered heads, which come with their foreground."""
        return self.name not in TARGETS

    @property
    def backgrounds(self) -> Path:
        """The file of backgrounds for rendered heads; absent where SynHead came without any."""
        return self.folder.parent / "synhead+" / BACKGROUNDS

    def parts(self) -> list[Dataset]:
        """Return the datasets that hold the rows: itself, or those that SynHead++ joins.

        Raises
        ------
        DatasetError
            If one of those is missing, or was built again since they were joined.
        """
        if not self.info.joins:
            return [self]
        parts = [open_dataset(self.folder.parent / name) for name in self.info.joins]
        if [part.info.content_sha256 for part in parts] != self.info.joined:
            what = "its parts were built again since"
            raise DatasetError(Fault(what, "build with both raw datasets once more", self.folder))
        return parts


class Layout(NamedTuple):
    """Where the rows of a dataset lie: row ``starts[i]`` is the first of the shard at ``paths[i]``, none is empty.

    ``starts`` (shards + 1,) ends in the number of rows, ``size`` is the crops' side in pixels, and ``rendered`` says
    whether there are masks.
    """

    paths: list[Path]
    starts: np.ndarray
    size: int
    rendered: bool

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.starts[-1])

    @property
    def mask_bytes(self) -> int:
        """What the packed mask of a crop takes."""
        return (self.size**2 + 7) // 8

    @property
    def decoded_bytes(self) -> int:
        """What all rows take, decoded, with their masks."""
        return self.rows * (3 * self.size**2 + self.rendered * self.mask_bytes)

    def locate(self, row: int) -> tuple[int, int]:
        """Return the number of the shard that holds a row, and the row's number in it."""
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        return shard, row - int(self.starts[shard])


class Crop(NamedTuple):
    """A crop as it is stored: its id, its shard, its encoded bytes (n,), and its packed mask, where there is one."""

    id: str
    shard: Path
    encoded: np.ndarray
    bits: np.ndarray | None
    size: int

    @property
    def image(self) -> Image:
        """The decoded crop (size, size, 3), RGB; raises ImageError if it is damaged."""
        return decode(self.encoded)

    @property
    def mask(self) -> np.ndarray | None:
        """Where the head is (size, size), bool; None where the whole image was recorded."""
        return None if self.bits is None else unpack_mask(self.bits, self.size)


def open_dataset(folder: Path | str) -> Dataset:
    """Return the dataset in a folder.

    Raises
    ------
    DatasetError
        If there is none, it is of another schema, or a shard is missing.
    """
    folder = Path(folder)
    info = read_info(folder)
    for shard in info.shards:
        path = folder / shard.file
        if not path.exists():
            raise MissingShardError(Fault("the shard is missing", "build again to restore it", path))
    return Dataset(folder, info)


def check_digests(dataset: Dataset) -> None:
    """Compare the files of a dataset with the SHA-256 that ``dataset.json`` says, once in a process.

    Raises
    ------
    DatasetError
        If a shard, or the backgrounds behind rendered heads, are damaged or were changed since the build.
    """
    files = {part.folder / shard.file: shard.sha256 for part in dataset.parts() for shard in part.info.shards}
    if dataset.rendered and dataset.backgrounds.exists() and (dataset.backgrounds.parent / INFO).exists():
        expected = read_info(dataset.backgrounds.parent).backgrounds_sha256
        files |= {dataset.backgrounds: expected} if expected else {}
    check_unchanged(files)


def layout_of(dataset: Dataset) -> Layout:
    """Return where the rows of a dataset lie; raises DatasetError if it joins crops of different sizes."""
    parts = dataset.parts()
    sizes = {part.size for part in parts}
    if len(sizes) != 1:
        what = f"joins datasets with crops of {sizes} pixels"
        raise DatasetError(Fault(what, "build them with one `size`", dataset.folder))
    shards = [(part.folder / shard.file, shard.rows) for part in parts for shard in part.info.shards if shard.rows]
    starts = np.cumsum([0] + [rows for _, rows in shards])
    return Layout([path for path, _ in shards], starts, sizes.pop(), dataset.rendered)


@contextmanager
def open_shard(path: Path) -> Iterator[Shard]:
    """Yield an open shard; whatever cannot be read of it is a DatasetError.

    It is closed again after each visit, so no process inherits it.
    """
    try:
        with opened(path) as file:
            yield file
    except (OSError, KeyError, ValueError, RuntimeError, MemoryError) as error:
        raise unread(path, error) from error


def read_offset(file: Shard, rows: int) -> np.ndarray:
    """Return where in a shard's ``image/bytes`` each crop begins, and the last one ends (rows + 1,)."""
    offset: np.ndarray = file["image/offset"][...]
    if offset.shape != (rows + 1,):
        raise ValueError(f"{len(offset) - 1} rows where {rows} were expected")
    return offset


def read_fields(dataset: Dataset, *names: str, optional: tuple[str, ...] = ()) -> Iterator[dict[str, np.ndarray]]:
    """Yield the named fields of each shard, whole, in order; texts come as str.

    Those of ``optional`` come only from the shards that have them.

    Raises
    ------
    DatasetError
        If a shard is damaged or lacks a field.
    """
    for part in dataset.parts():
        for shard in part.info.shards:
            if not shard.rows:
                continue
            path = part.folder / shard.file
            fields = read_shard(path, *names, optional=optional)
            if fault := _fault_in(fields, shard.rows):
                raise DatasetError(Fault(fault, BUILD_AGAIN, path))
            yield fields


def read_shard(path: Path, *names: str, optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Return the named fields of a shard, as :func:`read_fields` does, whatever is in them."""
    with open_shard(path) as file:
        wanted = [*names, *(name for name in optional if name in file)]
        return {name: _text(file[name][...]) for name in wanted}


def _fault_in(fields: dict[str, np.ndarray], rows: int) -> str:
    """Return what is wrong with the values of fields of a shard with some rows; empty if nothing is."""
    for name, values in fields.items():
        count = {"image/offset": rows + 1, "image/bytes": len(values)}.get(name, rows)
        if len(values) != count:
            return f"expected {count} {name}, as dataset.json says, found {len(values)}"
        told, wrong = _wrong(name, values)
        if wrong.any():
            return f"{name} holds {told} in {plural(int(wrong.sum()), 'row')}, the first in row {wrong.argmax()}"
    return ""


def _wrong(name: str, values: np.ndarray) -> tuple[str, np.ndarray]:
    """Return what the values (n, ...) of a field may not be, and which are (n,), bool."""
    shape = {"label/rotation": (3, 3), "label/pyr": (3,), "box": (4,)}.get(name)
    if shape is None:
        return "", np.zeros(len(values), bool)
    if values.shape[1:] != shape or values.dtype.kind not in "fi":
        return f"what are no numbers of the shape {shape}", np.ones(len(values), bool)
    with np.errstate(invalid="ignore", over="ignore"):
        if name == "label/rotation":
            return "no rotation", np.asarray(~(orthonormality_error(values) <= _ROUNDING))
        if name == "label/pyr":
            return "no angles in degrees", np.asarray(~(np.abs(values) <= np.array(_ANGLES) + _ROUNDING).all(axis=1))
    return "a box without a pixel", np.asarray(~(values[:, 2:] >= 1).all(axis=1))


def _text(values: np.ndarray) -> np.ndarray:
    return values.astype("U") if values.dtype.kind == "S" else values


def read_labels(dataset: Dataset) -> tuple[np.ndarray, Floats]:
    """Return the ids (n,) and rotations (n, 3, 3) of all rows."""
    shards = list(read_fields(dataset, "id", "label/rotation"))
    if not shards:
        return np.zeros(0, "U40"), np.zeros((0, 3, 3))
    return np.concatenate([s["id"] for s in shards]), np.concatenate([s["label/rotation"] for s in shards])


def read_angles(dataset: Dataset) -> Floats:
    """Return pitch, yaw and roll of all rows (n, 3), ``pyr``, in degrees; a third of what rotations take."""
    angles = [from_matrix(fields["label/rotation"]) for fields in read_fields(dataset, "label/rotation")]
    return np.concatenate([np.zeros((0, 3)), *angles])


def labels_sha256(dataset: Dataset, told: bool = False) -> str:
    """Return a hash of what a dataset says of its images, whose pixels are not in it: the same on every processor.

    It is the SHA-256 of the sorted ids, one a line; of thirteen int32, little-endian, for each in that order, which are
    the entries of its rotation, row by row, each in steps of 0.0001, and its box; and of the sorted rows' sources, one
    a line, where there are any. That of a union is the :func:`headposeplus.files.content_hash` of its parts', with
    ``told`` as their ``dataset.json`` says them. A rotation's last digits are a processor's own. So the steps begin
    where no rotation is that follows from round numbers, and two builds disagree only if an entry lies within 1e-15 of
    such a place.

    Raises
    ------
    DatasetError
        If a shard, or a part of a union, is missing or damaged.
    """
    if dataset.info.joins:
        digests = [(told and part.info.labels_sha256) or labels_sha256(part) for part in dataset.parts()]
        return content_hash(digests)
    ids, numbers, sources = [], [], []
    for fields in read_fields(dataset, "id", "label/rotation", "box", optional=("source",)):
        # Half a million rows are held at once: as bytes, texts take a fourth, and sort alike.
        ids.append(fields["id"].astype("S"))
        steps = np.floor(fields["label/rotation"].reshape(-1, 9) / _STEP + _BEGIN)
        numbers.append(np.column_stack((steps, fields["box"])).astype("<i4"))
        sources += [fields["source"].astype("S")] if "source" in fields else []
    if not ids:
        return bytes_sha256(b"")
    order = np.argsort(np.concatenate(ids))
    parts = [ids, numbers, *([sources] if len(sources) == len(ids) else [])]
    digest = hashlib.sha256()
    for part in parts:
        for block in _in_blocks(np.concatenate(part), order):
            digest.update(block)
    return digest.hexdigest()


def _in_blocks(values: np.ndarray, order: np.ndarray) -> Iterator[bytes]:
    """Yield the bytes of values in an order (n,), some rows at a time: of texts (n,) a line each, of others as is."""
    for start in range(0, len(order), _BLOCK):
        rows = values[order[start : start + _BLOCK]]
        if values.dtype.kind == "S":
            yield (b"\n" if start else b"") + b"\n".join(rows.tolist())
        else:
            yield rows.tobytes()


def read_crops(dataset: Dataset, rows: np.ndarray) -> Iterator[Crop]:
    """Yield the crops of rows (n,), in their order; each shard is opened once where the rows are sorted.

    Raises
    ------
    DatasetError
        If a shard is damaged, or the dataset joins crops of different sizes.
    """
    layout = layout_of(dataset)
    places = (layout.locate(int(row)) for row in rows)
    for shard, of_shard in itertools.groupby(places, key=lambda place: place[0]):
        path = layout.paths[shard]
        with open_shard(path) as file:
            offset = read_offset(file, int(layout.starts[shard + 1] - layout.starts[shard]))
            ids = file["id"][...]
            for _, row in of_shard:
                encoded = file["image/bytes"][offset[row] : offset[row + 1]]
                bits = file["mask/bits"][row] if layout.rendered else None
                yield Crop(ids[row].decode(), path, encoded, bits, layout.size)


def read_backgrounds(dataset: Dataset) -> np.ndarray:
    """Return the decoded backgrounds (b, 2 size, 2 size, 3) for a dataset's heads; none where there is no file.

    Raises
    ------
    DatasetError
        If the file is damaged.
    """
    path, side = dataset.backgrounds, 2 * dataset.size
    if not path.exists():
        return np.zeros((0, side, side, 3), np.uint8)
    with open_shard(path) as file:
        data, offset = file["image/bytes"][...], file["image/offset"][...]
    return np.stack([decode(data[start:end]) for start, end in itertools.pairwise(offset)])
