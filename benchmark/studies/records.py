"""What studies keep of their runs, as JSON in ``results/``: read once, with types."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, said
from headposeplus.files import parse_json, read_file, write_json

Record = TypeVar("Record", bound=msgspec.Struct)


class PoseErrors(msgspec.Struct, frozen=True, omit_defaults=True):
    """Errors on the target, in degrees: the mean over the angles, each angle's, the geodesic one and the vectors'."""

    mae: float
    pitch: float
    yaw: float
    roll: float
    geodesic: float
    maev: float | None = None  # older records have none


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told of a finished run; errors are in degrees.

    Attributes
    ----------
    method
        The name of its folder: the method, and what is not as it is by default.
    statistics
        The MAE under batch statistics that were estimated anew, by their kind.
    rules
        The MAE of the epoch that each rule of selection takes. As all below, only of methods with a second stage.
    mae_of_epochs
        The MAE after each epoch.
    source_kept
        The share of the source samples that can be drawn.
    effective_source_size
        The number of equally likely samples that would vary as much as what is drawn.
    moved
        The total variation of each epoch's update of the probabilities, where the method tells it.
    """

    method: str
    seed: int
    protocol: str
    frames: int
    uses_target_images: bool
    device: str
    scores: PoseErrors
    statistics: dict[str, float]
    rules: dict[str, float] = {}
    mae_of_epochs: list[float] = []
    source_kept: float | None = None
    effective_source_size: float | None = None
    moved: list[float] = []


class Sizes(msgspec.Struct, frozen=True):
    """How many images source and target have."""

    source: int
    target: int


class TaskRecords(msgspec.Struct, frozen=True):
    """All runs of a task; ``miniature`` is the scale of the miniatures, None where the data were given.

    ``changes`` says how the two stages differ from a preset of the toolkit; it is empty where they do not.
    """

    task: str
    preset: str
    seeds: list[int]
    miniature: str | None
    data: Sizes
    options: dict[str, bool | int | float | str]
    torch: str
    records: list[RunRecord]
    changes: str = ""


def read_record(path: Path, kind: type[Record], expected: str) -> Record:
    """Return a JSON file as a record; raises HeadposeError, which says what was expected, if it is none."""
    try:
        data = read_file(path)
        parse_json(data)  # msgspec sees no key that comes twice
        return msgspec.json.decode(data, type=kind)
    except OSError as error:
        raise HeadposeError(Fault(f"expected {expected}: {error.strerror}", file=path)) from error
    except ValueError as error:
        raise HeadposeError(Fault(f"expected {expected}: {said(error, 200)}", "make it anew", path)) from error


def write_record(path: Path, record: msgspec.Struct) -> None:
    """Write a record as JSON, indented, whole or not at all."""
    write_json(path, msgspec.to_builtins(record))
