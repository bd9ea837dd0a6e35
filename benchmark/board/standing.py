"""How entries of one protocol stand to each other: their ranks, and which of them chance could part from the first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.scoring.check import ON_HONOUR
from benchmark.scoring.entry import Entry, Headline, Listed, ListedHeadline
from benchmark.scoring.evaluation import FEWEST
from benchmark.scoring.metrics import resampled_means
from headposeplus.faults import plural
from headposeplus.rotations import Floats

DIGITS = 2  # decimals of the figures that a board shows: what looks equal has one rank


def figure(listed: Listed | ListedHeadline) -> float:
    """Return what an entry's place within its protocol follows from, in degrees: lower is better."""
    if isinstance(listed, Listed) and listed.parts and listed.parts.private is not None:
        return listed.parts.private
    return listed.entry.scores.mae


def told(value: float) -> float:
    """Return a figure as far as a board shows it."""
    return round(value, DIGITS)


def looks_odd(entry: Entry | Headline) -> bool:
    """Return whether anything but its authors' word makes an entry suspicious."""
    return isinstance(entry, Entry) and not all(ON_HONOUR in text for text in entry.suspicions)


def ranks(mine: Sequence[Listed | ListedHeadline]) -> list[int | None]:
    """Return the rank of each entry of a protocol, best 1; equal figures have equal ranks.

    None for those that look odd or that nobody can score again.
    """
    figures = [None if looks_odd(one.entry) or _unverified(one) else told(figure(one)) for one in mine]
    ordered = sorted(value for value in figures if value is not None)
    first: dict[float, int] = {}
    for place, value in enumerate(ordered, 1):
        first.setdefault(value, place)
    return [None if value is None else first[value] for value in figures]


def _unverified(listed: Listed | ListedHeadline) -> bool:
    return isinstance(listed, Listed) and bool(listed.unverified)


def level_with_first(mine: Sequence[Listed | ListedHeadline]) -> tuple[set[int], str]:
    """Return which entries (places in ``mine``) cannot be told apart from the first, and a sentence on that.

    The subjects are drawn again for both at once, from the MAE of each subject: an entry is told apart where the
    interval of the paired difference of its MAE leaves out 0. Nothing is said where fewer than two are ranked, the
    private part ranks them, or an entry does not tell the MAE of every subject.
    """
    full = [
        (place, one.entry)
        for place, one in enumerate(mine)
        if isinstance(one, Listed) and not one.parts and isinstance(one.entry, Entry)
    ]
    few = min((entry.bootstrap.subjects for _, entry in full), default=FEWEST)
    if len(full) > 1 and few < FEWEST:
        return set(), f"{plural(few, 'subject is', 'subjects are')} too few to tell entries apart."
    of_all = ranks(mine)
    placed = [(of_all[place] or 0, entry.scores.mae, place) for place, entry in full if of_all[place] is not None]
    if len(placed) < 2:
        return set(), ""
    first = min(placed)[-1]
    best = mine[first].entry
    assert isinstance(best, Entry)
    people = _people(best)
    others = [
        (place, entry)
        for place, entry in full
        if place != first and of_all[place] is not None and _people(entry) == people
    ]
    if not others or sum(frames for _, frames in people) != best.protocol.frames:
        return set(), ""
    drawn = best.bootstrap
    level = {place for (place, _), low in zip(others, _lower_ends(best, others), strict=True) if low <= 0}
    names = "other entry" if len(others) == 1 else "other entries"
    return level, (
        f"Not told apart from the first (≈ 1): {len(level):,} of {len(others):,} {names}, by a paired bootstrap over "
        f"{drawn.subjects:,} subjects at {100 * drawn.level:g} %."
    )


def _lower_ends(best: Entry, others: Sequence[tuple[int, Entry]]) -> Floats:
    """Return the lower end (k,) of the interval by which the MAE of k other entries is larger than that of the best."""
    frames = np.array([group.frames for group in best.by.subject], np.float64)
    errors = np.array([[group.mae for group in entry.by.subject] for _, entry in others])
    sums = (errors - [group.mae for group in best.by.subject]).T * frames[:, None]
    means = resampled_means(sums, frames, best.bootstrap.resamples, best.bootstrap.seed)
    low: Floats = np.percentile(means, 50 - 50 * best.bootstrap.level, axis=0)
    return low


def _people(entry: Entry) -> list[tuple[str, int]]:
    return [(group.name, group.frames) for group in entry.by.subject]
