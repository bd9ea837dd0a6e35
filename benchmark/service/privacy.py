"""What the service may tell of scores on secret labels: while a challenge is open, and afterwards."""

from __future__ import annotations

from typing import TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from benchmark.scoring.entry import Entry, Headline, ToldScore
from benchmark.scoring.figures import (
    Bin,
    Cell,
    Distribution,
    Group,
    Parts,
    Quantiles,
    Share,
    Spread,
    rounded,
    withheld_percent,
)
from benchmark.scoring.metrics import WITHIN
from benchmark.service.store import Told

SMALLEST_GROUP = 50  # frames: figures of fewer do not leave
_OF_TOLD = ("scores", "step", "improved")  # the fields of a headline that do not come from the entry
_Part = TypeVar("_Part", Bin, Cell, Group)


def headline(entry: Entry, told: Told) -> Headline:
    """Return an entry as it may leave while its challenge is open: the authors' words, and the one figure told."""
    words = {name: getattr(entry, name) for name in Headline.__struct_fields__ if name not in _OF_TOLD}
    return Headline(**words, scores=ToldScore(told.mae), step=told.step, improved=told.improved)


def publishable(entry: Entry) -> Entry:
    """Return an entry as it may leave once its challenge is closed: without the figures of a few frames.

    Groups of fewer than 50 frames are left out. An error at a share of the frames is that of one frame: where fewer
    than 50 frames lie beyond it, the nearest is given that has as many. The shares of frames within an error are read
    off these, so they are whole percents and tell no more. Degrees have two decimals.
    """
    first = withheld_percent(entry.protocol.frames, SMALLEST_GROUP)
    return replace(
        rounded(entry, 2),
        protocol=entry.protocol,
        by=_large_parts(rounded(entry.by, 2)),
        quantiles=UNSET if first > 50 else _quantiles(entry, first),
        distribution=UNSET if first > 50 else _distribution(entry, first),
    )


def _large_parts(by: Parts) -> Parts:
    pitch, yaw, roll = (_large(bins) for bins in (by.pitch, by.yaw, by.roll))
    return Parts(pitch, yaw, roll, _large(by.yaw_pitch), _large(by.sequence), _large(by.subject))


def _large(parts: tuple[_Part, ...]) -> tuple[_Part, ...]:
    return tuple(part for part in parts if part.frames >= SMALLEST_GROUP)


def _quantiles(entry: Entry, first: int) -> Quantiles:
    """Return the quantiles, each that lies outside the percents ``first`` to ``100 - first`` as the nearest in it."""
    assert entry.quantiles is not UNSET, "entries are stored with all their figures"
    places = [min(max(percent, first), 100 - first) for percent in range(101)]
    kept = rounded(entry.quantiles, 2)
    mae, geodesic = (tuple(errors[place] for place in places) for errors in (kept.mae, kept.geodesic))
    return Quantiles(mae, geodesic)


def _distribution(entry: Entry, first: int) -> Distribution:
    assert entry.distribution is not UNSET, "entries are stored with all their figures"

    def spread(full: Spread, errors: tuple[float, ...]) -> Spread:
        within = [_share_within(errors, limit, first) for limit in WITHIN]
        few = rounded(full, 2)
        return Spread(few.median, UNSET if first > 5 else few.p95, *within)

    told = _quantiles(entry, first)
    return Distribution(spread(entry.distribution.mae, told.mae), spread(entry.distribution.geodesic, told.geodesic))


def _share_within(errors: tuple[float, ...], limit: float, first: int) -> Share | UnsetType:
    """Return the share of frames within an error, read off the quantiles that are told; nothing outside of these."""
    if errors[first] > limit or errors[100 - first] < limit:
        return UNSET
    return max(percent for percent in range(first, 101 - first) if errors[percent] <= limit) / 100
