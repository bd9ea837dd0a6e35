"""What predictions score, as values with types. Errors are in degrees, shares from 0 to 1."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct, UnsetType, structs

Degrees = Annotated[float, Meta(ge=0, le=180)]
Share = Annotated[float, Meta(ge=0, le=1)]
Frames = Annotated[int, Meta(ge=1)]
Edge = Annotated[int, Meta(ge=-180, le=180)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Percentiles = Annotated[tuple[Degrees, ...], Meta(min_length=101, max_length=101)]
Interval = tuple[Degrees, Degrees]
Value = TypeVar("Value")


class Figures(Struct, frozen=True, forbid_unknown_fields=True):
    """Figures by name. Those that the service keeps to itself are unset."""


class Scores(Figures, frozen=True):
    """Mean errors: of the Euler angles and their mean ``mae``, of the rotation, and of its three vectors (``maev``).

    Those of the angles are wrapped at 180, and of the two triples that a rotation has, the one nearer to the label's
    counts.
    """

    mae: Degrees
    pitch: Degrees
    yaw: Degrees
    roll: Degrees
    geodesic: Degrees
    maev: Degrees


MEASURES = Scores.__struct_fields__


class Intervals(Figures, frozen=True):
    """The interval (low, high) of each score."""

    mae: Interval
    pitch: Interval
    yaw: Interval
    roll: Interval
    geodesic: Interval
    maev: Interval


class Bootstrap(Figures, frozen=True):
    """How intervals were found: by drawing the ``subjects`` again, ``resamples`` times."""

    over: Literal["subjects"]
    subjects: Annotated[int, Meta(ge=1)]
    resamples: Annotated[int, Meta(ge=0, le=100_000)]
    seed: Seed
    level: Annotated[float, Meta(gt=0, lt=1)]


class Vectors(Figures, frozen=True):
    """The parts of MAEV, by the subject's left, down and front."""

    left: Degrees
    down: Degrees
    front: Degrees


class AngleErrors(Figures, frozen=True):
    """Mean absolute errors of the Euler angles of one convention, and their mean."""

    mae: Degrees
    pitch: Degrees
    yaw: Degrees
    roll: Degrees


class Conventions(Figures, frozen=True):
    """The errors of the angles in every named convention."""

    pyr: AngleErrors
    biwi: AngleErrors
    ypr: AngleErrors


class Spread(Figures, frozen=True):
    """The median and the 95th percentile of the frames' errors, and the shares of frames within 5, 10, 15 degrees."""

    median: Degrees
    p95: Degrees | UnsetType
    within_5: Share | UnsetType
    within_10: Share | UnsetType
    within_15: Share | UnsetType


class Distribution(Figures, frozen=True):
    """How two errors are spread over the frames."""

    mae: Spread
    geodesic: Spread


class Quantiles(Figures, frozen=True):
    """The errors (101,) below which 0, 1, ..., 100 % of the frames lie."""

    mae: Percentiles
    geodesic: Percentiles


class Bin(Figures, frozen=True, rename={"low": "from", "high": "to"}):
    """Frames whose true angle lies in [low, high) degrees."""

    low: Edge
    high: Edge
    frames: Frames
    mae: Degrees
    geodesic: Degrees


class Cell(Figures, frozen=True):
    """Frames of a cell of 15 x 15 degrees of the label space, given by its lower edges."""

    yaw: Edge
    pitch: Edge
    frames: Frames
    mae: Degrees
    geodesic: Degrees


class Group(Figures, frozen=True):
    """The frames of a subject or a sequence."""

    name: Annotated[str, Meta(max_length=100)]
    frames: Frames
    mae: Degrees
    pitch: Degrees
    yaw: Degrees
    roll: Degrees
    geodesic: Degrees
    maev: Degrees


Bins = Annotated[tuple[Bin, ...], Meta(max_length=24)]
Groups = Annotated[tuple[Group, ...], Meta(max_length=10_000)]


class Parts(Figures, frozen=True):
    """The errors of parts of the test set: by bins of each true angle, by cells of two, by sequence and by subject."""

    pitch: Bins
    yaw: Bins
    roll: Bins
    yaw_pitch: Annotated[tuple[Cell, ...], Meta(max_length=576)]
    sequence: Groups
    subject: Groups


def withheld_percent(frames: int, few: int) -> int:
    """Return the least whole percent of ``frames`` that is ``few`` of them or more."""
    return -(-100 * few // frames)


def rounded(figures: Value, digits: int) -> Value:
    """Return figures with their fractions rounded to some digits."""
    value: Any = figures
    if isinstance(value, float):
        value = round(value, digits)
    elif isinstance(value, Struct):
        fields = {name: rounded(getattr(value, name), digits) for name in value.__struct_fields__}
        value = structs.replace(value, **fields)
    elif isinstance(value, tuple):
        value = tuple(rounded(part, digits) for part in value)
    return value
