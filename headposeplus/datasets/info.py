"""What a built dataset says of itself: the content of its ``dataset.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, said, shown, unreadable
from headposeplus.files import content_hash, read_json, write_json
from headposeplus.raw.targets import BIWI_PLUS, STILLS

SCHEMA = 2
INFO = "dataset.json"
NAMES = (BIWI_PLUS, "synhead+", "synbiwi+", "synhead++", *STILLS)

# A stranger's dataset must not lead to other folders, or to other files than those of HDF5.
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.h5")

if TYPE_CHECKING:
    Name = str
else:  # one of those, to the reader
    Name = Literal[NAMES]


class Spread(msgspec.Struct, frozen=True):
    """Mean, median and 95th percentile of some residuals, in degrees."""

    mean: float
    median: float
    p95: float


class BeforeAfter(msgspec.Struct, frozen=True):
    """What remains before and after the turn in the image plane."""

    before: Spread
    after: Spread


class Measures(msgspec.Struct, frozen=True):
    """What remains in a part of the data: the mean Euler error and the geodesic error."""

    euler: Spread
    geodesic: Spread


class Residuals(msgspec.Struct, frozen=True):
    """What remains between SynBiwi+ and the Biwi poses: over all, and after the turn by head and by sequence."""

    euler: BeforeAfter
    geodesic: BeforeAfter
    by_head: dict[str, Measures]
    by_sequence: dict[str, Measures]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The build's parameters, those of :class:`headposeplus.build.work.Options` and others; None where there is none.

    ``boxes`` is the SHA-256 of the file of boxes, or ``projected``; ``box_rule`` names the numbers by which boxes
    follow from poses (:data:`headposeplus.boxes.geometry.RULE`).
    """

    size: Annotated[int, msgspec.Meta(gt=0)]
    visible_margin: float | None = None
    neighbours: int | None = None
    boxes: str | None = None
    box_rule: str | None = None
    lossless: bool | None = None
    render_order: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the parameters that there are, by name."""
        return msgspec.to_builtins(self)


class ShardInfo(msgspec.Struct, frozen=True):
    """A shard: its file's name, its number of rows, and its SHA-256."""

    file: str
    rows: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class Info(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ``dataset.json`` says, in the order of its keys; None where a dataset has no such thing.

    Attributes
    ----------
    name, schema, toolkit
        One of :data:`NAMES`, :data:`SCHEMA`, and the version of the toolkit that built it.
    convention, camera
        Those of the labels: ``pyr`` and ``rgb``.
    parameters
        What the build was asked for.
    boxes
        How many boxes come from each source.
    left_out
        A line for each damaged raw file.
    misplaced
        The frames whose given box cannot be theirs; they have the box that follows from the pose.
    face_not_visible
        How many frames of SynHead show no face, and so are not part of SynHead+.
    beyond
        Of a dataset of stills: a line for each photograph that it leaves out by its rule.
    render_order_from
        Where SynHead's rendering order comes from, in words.
    backgrounds_sha256
        Of the file of backgrounds beside the shards; empty where SynHead came without any.
    residual
        What remains between SynBiwi+ and the Biwi poses.
    cameras
        Of Biwi+: the matrix K (3 rows of 3, in raw pixels) of each sequence's RGB camera; None where the version that
        built it did not note them.
    matched_sha256
        The content of the Biwi+ with which SynBiwi+ was matched.
    joins, joined
        Of SynHead++: the names of the datasets that it joins, and their contents.
    shards, rows
        The shards, and the number of rows of all, or of the datasets that it joins.
    content_sha256
        See :func:`content_sha256`. It is this build's: JPEG and resampling round otherwise on other processors.
    labels_sha256
        See :func:`headposeplus.datasets.dataset.labels_sha256`, which is the same on all; None where the version that
        built it did not note it.
    labels
        ``mean``, ``std``, ``min`` and ``max`` of pitch, yaw and roll in degrees; empty where there are no rows.
    """

    name: Name
    schema: int
    toolkit: str
    convention: str
    camera: str
    parameters: Parameters
    boxes: dict[str, int]
    left_out: list[str]
    misplaced: list[str] = msgspec.field(default_factory=list)
    face_not_visible: int | None = None
    beyond: list[str] | None = None
    render_order_from: str | None = None
    backgrounds_sha256: str | None = None
    residual: Residuals | None = None
    cameras: dict[str, list[list[float]]] | None = None
    matched_sha256: str | None = None
    joins: list[Name] | None = None
    joined: list[str] | None = None
    shards: list[ShardInfo]
    rows: int
    content_sha256: str
    labels_sha256: str | None = None
    labels: dict[str, list[float]]


def content_sha256(info: Info) -> str:
    """Return the hash of what a dataset holds: of its shards or the datasets that it joins, and its backgrounds."""
    return content_hash([msgspec.to_builtins(info.shards), info.joined, info.backgrounds_sha256])


def describe_digests(digests: Mapping[str, str]) -> list[str]:
    """Return the ``labels_sha256`` of datasets by name as lines."""
    listed = ", ".join(f"{name} {digest[:8]}" for name, digest in digests.items())
    return ["SHA-256 of ids, poses and boxes, the same on every processor:", f"  {listed}"]


def write_info(folder: Path, info: Info) -> None:
    """Write ``dataset.json`` into a dataset's folder."""
    write_json(folder / INFO, msgspec.to_builtins(info))


def read_info(folder: Path) -> Info:
    """Return what the ``dataset.json`` in a folder says.

    Raises
    ------
    DatasetError
        If there is none, or it is of another schema.
    HeadposeError
        If the file cannot be read or is no JSON.
    """
    path = folder / INFO
    try:
        path.stat()
    except FileNotFoundError as error:
        mend = "build the dataset first: hpp build-datasets --help"
        raise DatasetError(Fault("no such file", mend, path)) from error
    except OSError as error:
        raise DatasetError(unreadable(path, error)) from error
    content = read_json(path, "the description of a dataset")
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise DatasetError(_other_schema(path, f"found {shown(schema)}" if schema else "found none"))
    try:
        info = msgspec.convert(content, Info)
    except msgspec.ValidationError as error:
        raise DatasetError(_other_schema(path, f"but: {said(error)}")) from error
    for shard in info.shards:
        if not _SHARD.fullmatch(shard.file):
            what = f"names the shard {shown(shard.file)}; expected the name of a file beside it"
            raise DatasetError(Fault(what, "build it again with this version", path, "shards"))
    return info


def _other_schema(path: Path, difference: str) -> Fault:
    what = f"expected a dataset of schema {SCHEMA}, {difference}"
    return Fault(what, "build it again with this version", path)
