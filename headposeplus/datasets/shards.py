"""Writing built datasets: a folder with ``dataset.json`` and HDF5 shards.

A shard holds ``image/bytes`` (the encoded crops end to end), ``image/offset`` (n + 1), ``mask/bits`` (the
packed foreground, of rendered images only), ``label/rotation`` (n, 3, 3), ``label/pyr`` (n, 3) in degrees,
``id``, ``subject``, ``box`` (x, y, width, height in raw pixels) and ``box_source``. SynBiwi+ adds ``source``
(the SynHead id), ``turn`` (degrees in the image plane), and what remains between its pose and the Biwi frame's:
``residual/geodesic`` and ``residual/euler`` (degrees).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from headposeplus.datasets.hdf5 import Field, NewFile, created, opened, unread
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault
from headposeplus.files import listing
from headposeplus.rotations import Floats, from_matrix

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
SUBJECT, LONG_SUBJECT = "S8", "S32"  # how long the name of a subject may be
CHUNK_ROWS = 256  # rows held in memory before they are written, and of a chunk in the file
CHUNK_BYTES = 1 << 20  # of a chunk of image bytes
ROW_BYTES = 300  # about what a row's labels take


class Origin(NamedTuple):
    """What a shard was built from: hashes of the options and of the raw data."""

    options: str
    raw: str


class Turned(NamedTuple):
    """What only SynBiwi+ says of a sample.

    ``source`` is the id of the SynHead image, ``turn`` its turn in the image plane, ``geodesic`` and ``euler`` are
    what remains to the Biwi pose, all in degrees.
    """

    source: str
    turn: float
    geodesic: float
    euler: float


class Row(NamedTuple):
    """One sample on its way into a shard: its encoded image, its foreground, and its labels."""

    id: str
    subject: str
    image: np.ndarray
    mask: np.ndarray | None
    rotation: Floats
    box: Floats
    box_source: str
    turned: Turned | None = None


class ShardReport(NamedTuple):
    """What became of a shard: its rows, how many boxes come from each source, and the raw files left out.

    ``hidden`` is the number of SynHead frames that show no face, ``beyond`` has a line for each photograph that a
    dataset of stills leaves out by its rule; both are None in the other datasets.
    """

    rows: int
    boxes: dict[str, int]
    left_out: list[Fault]
    hidden: int | None = None
    beyond: list[str] | None = None


class _StoredReport(msgspec.Struct, omit_defaults=True):
    """A report as a shard holds it."""

    rows: int
    left_out: list[str]
    boxes: dict[str, int]
    face_not_visible: int | None = None
    beyond: list[str] | None = None


def relative(fault: Fault, raw: Path) -> str:
    """Return a fault of a raw copy as a line, with paths relative to its parent: wherever it lies, the text is one."""
    return str(fault).replace(f"{raw.parent}/", "")


class ShardWriter:
    """Writes rows into an open shard, a few at a time. The same rows give the same bytes: no times are stored."""

    def __init__(self, new: NewFile, origin: Origin, subject: str = SUBJECT) -> None:
        self._new, self._file, self._subject = new, new.hdf5, subject
        self._origin = origin
        self._rows: list[Row] = []
        # Open until the file is closed: HDF5 places a dataset's bytes when its last handle goes, and a profiler that
        # holds on to a frame would move that.
        self._fields: dict[str, Field] = {}
        self._offset = np.zeros(1, np.int64)
        self.count = 0

    def add(self, row: Row) -> None:
        """Add a sample."""
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == CHUNK_ROWS:
            self._flush()

    def finish(self, report: ShardReport, raw: Path) -> None:
        """Write the last rows and the shard's report, which a resumed build reads back; ``raw`` is the raw copy."""
        self._flush()
        self._append("image/offset", self._offset)
        self._file.attrs["options"], self._file.attrs["raw"] = self._origin
        lines = [relative(fault, raw) for fault in report.left_out]
        stored = _StoredReport(report.rows, lines, report.boxes, report.hidden, report.beyond)
        self._file.attrs["report"] = json.dumps(msgspec.to_builtins(stored), sort_keys=True)
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
        self._new.check()
        ends = self._offset[-1] + np.cumsum([len(row.image) for row in rows])
        self._offset = np.concatenate((self._offset, ends))
        self._append("image/bytes", np.concatenate([row.image for row in rows]))
        if rows[0].mask is not None:
            self._append("mask/bits", np.stack([np.packbits(row.mask) for row in rows if row.mask is not None]))
        rotations = np.stack([row.rotation for row in rows])
        self._append("label/rotation", rotations)
        self._append("label/pyr", from_matrix(rotations))
        self._append("id", np.array([row.id for row in rows], _TEXT))
        self._append("subject", np.array([row.subject for row in rows], self._subject))
        self._append("box", np.stack([row.box for row in rows]).astype(np.int32))
        self._append("box_source", np.array([row.box_source for row in rows], "S24"))
        if turned := [row.turned for row in rows if row.turned is not None]:
            self._append("source", np.array([image.source for image in turned], _TEXT))
            self._append("turn", np.array([image.turn for image in turned], np.float64))
            self._append("residual/geodesic", np.array([image.geodesic for image in turned], np.float64))
            self._append("residual/euler", np.array([image.euler for image in turned], np.float64))
        self._rows = []


@contextmanager
def write_shard(path: Path, origin: Origin, subject: str = SUBJECT) -> Iterator[ShardWriter]:
    """Yield a writer of a shard, which exists under its name only once it is whole; ``subject`` is a name's type."""
    with created(path) as new:
        yield ShardWriter(new, origin, subject)


def shard_name(index: int, count: int) -> str:
    """Return a shard's file name, such as ``shard-00000-of-00024.h5``."""
    return f"shard-{index:05d}-of-{count:05d}.h5"


def written_shards(folder: Path) -> list[Path]:
    """Return the shards in a dataset's folder, sorted, whoever wrote them; none if there is no such folder."""
    return [path for path in listing(folder, ".h5") if path.name.startswith("shard-")] if folder.is_dir() else []


def write_backgrounds(path: Path, encoded: list[np.ndarray]) -> None:
    """Write encoded images to the file that lies beside SynHead+'s shards."""
    with created(path) as new:
        new.hdf5["image/bytes"] = np.concatenate(encoded)
        new.hdf5["image/offset"] = np.concatenate(([0], np.cumsum([len(data) for data in encoded])))


def read_report(path: Path, origin: Origin) -> ShardReport | None:
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
        with opened(path) as file:
            built_from = Origin(str(file.attrs["options"]), str(file.attrs["raw"]))
            stored = msgspec.json.decode(str(file.attrs["report"]), type=_StoredReport)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise unread(path, error) from error
    if built_from.options != origin.options:
        what, mend = "was built with other options", "choose another `out` or delete the folder"
        raise DatasetError(Fault(what, mend, path.parent))
    if built_from.raw != origin.raw or stored.left_out:
        return None
    return ShardReport(stored.rows, stored.boxes, [], stored.face_not_visible, stored.beyond)
