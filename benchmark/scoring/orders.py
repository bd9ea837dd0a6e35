"""Ids and poses that lie in another order than they should: shifted by some rows, sorted as text, reversed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from benchmark.scoring.labels import Labels
from headposeplus.faults import plural
from headposeplus.rotations import Floats, geodesic

_NUMBERS = re.compile(r"([0-9]+)")
_DIGITS = 20  # of the longest number that names are sorted by
_FARTHEST = 10  # rows, or frames, that a shift is looked for
_SHORTEST = 8  # times a shift: in a shorter sequence it gives too many frames one pose
_GAIN, _LEAST = 0.8, 0.5  # the right order has at most this share of the error, and this many degrees less
# A shift by a row changes little, but alike in every sequence; in a few sequences it may do so by chance.
_SHIFT_GAIN, _SHIFT_LEAST, _SEQUENCES, _FEW_GAIN = 0.97, 0.1, 4, 0.9
_AGREE = 0.75  # share of the sequences in which it is better
# Blocks are as many as to be sequences, and long enough to be told from each other.
_BLOCKS, _BLOCK, _BLOCKS_GAIN = 100, 20, 0.7
# Fewer frames may be as far from their poses as from others' by chance.
_FRAMES, _DRAWS, _NO_WORSE = 200, 8, 0.04
MEND = "give each row the pose of the image that its id names"


class Order(NamedTuple):
    """Another order of poses: the row (m,) of the pose that each frame gets, what that says, and how to mend it."""

    rows: np.ndarray
    what: str
    mend: str = MEND
    gain: float = _GAIN
    least: float = _LEAST


def natural(name: str) -> str:
    """Return what sorts names by the numbers in them: ``frame_2`` before ``frame_10``."""
    return _NUMBERS.sub(lambda number: number[0].zfill(_DIGITS), name)


def find_order(rotations: Floats, rows: np.ndarray, labels: Labels) -> Order | None:
    """Return the order in which poses (m, 3, 3) of the labels' frames fit these far better; None if there is none.

    ``rows`` (m,) are those of the file in which the poses stand.
    """
    truth, sequences = labels.rotations, np.unique(labels.sequences, return_inverse=True)[1].ravel()
    present = geodesic(rotations, truth)
    counts = np.bincount(sequences)
    before = np.bincount(sequences, present) / counts
    best, least = None, present.mean()
    for order in _orders(rotations, rows, labels):
        errors = geodesic(rotations[order.rows], truth)
        error = errors.mean()
        change = np.bincount(sequences, errors) / counts - before
        changed = np.abs(change) > 1e-6  # degrees
        better = (change[changed] < 0).mean() if changed.any() else 0
        fits = error <= order.gain * present.mean() and error <= present.mean() - order.least and better >= _AGREE
        if fits and error < least - 0.01:
            best, least = order, error
    return best


def look_shuffled(rotations: Floats, truth: Floats) -> bool:
    """Return whether poses (m, 3, 3) are spread as the labels (m, 3, 3) are, and owe nothing to their own frames."""
    if len(truth) < _FRAMES:
        return False
    middle, right_middle = (Rotation.from_matrix(both).mean().as_matrix() for both in (rotations, truth))
    spread, right_spread = geodesic(rotations, middle).mean(), geodesic(truth, right_middle).mean()
    like_labels = spread >= right_spread / 2 and geodesic(middle, right_middle) <= right_spread
    rng = np.random.default_rng(0)
    in_any_order = np.mean([geodesic(rng.permutation(rotations), truth).mean() for _ in range(_DRAWS)])
    return bool(like_labels and abs(geodesic(rotations, truth).mean() / in_any_order - 1) <= _NO_WORSE)


def _orders(rotations: Floats, rows: np.ndarray, labels: Labels) -> Iterator[Order]:
    """Yield the orders that poses may well have, the plainest first."""
    ids, sequences = labels.ids.tolist(), labels.sequences.tolist()
    keys = [natural(name) for name in ids]
    sorted_rows = np.array(sorted(range(len(ids)), key=keys.__getitem__))
    blocks: dict[str, list[int]] = {}
    for row in sorted_rows.tolist():
        blocks.setdefault(sequences[row], []).append(row)
    parts = [np.array(block) for block in blocks.values()]
    yield from _shifts(parts, len(ids))

    def moved(frames: np.ndarray, poses: np.ndarray, what: str) -> Order:
        places = np.empty(len(ids), int)
        places[frames] = poses
        return Order(places, what)

    in_file = np.argsort(rows, kind="stable")
    if (in_file != sorted_rows).any():
        yield moved(
            sorted_rows, in_file, "poses look as if they were those of the sorted frames, not of their rows' ids"
        )
    yield moved(sorted_rows, sorted_rows[::-1], "poses look reversed")
    turned = np.concatenate([part[::-1] for part in parts])
    yield moved(np.concatenate(parts), turned, "poses look reversed within each sequence")
    example = "as text (frame_1, frame_10, frame_2), not by number"
    for as_text in _sorted_as_text(ids, sequences):
        yield moved(as_text, sorted_rows, f"poses look as if their images had been sorted {example}")
        yield moved(sorted_rows, as_text, f"ids look as if they had been sorted {example}")
    if 1 < len(parts) <= _BLOCKS and min(map(len, parts)) >= _BLOCK:
        frames, names = _blocks_in_order(rotations[np.concatenate(parts)], labels.rotations, blocks)
        what = f"sequences look as if their poses came in the order {', '.join(names[:6])}{', ...' * (len(names) > 6)}"
        yield moved(frames, np.concatenate(parts), what)._replace(gain=_BLOCKS_GAIN)


def _shifts(parts: list[np.ndarray], count: int) -> Iterator[Order]:
    """Yield the poses of the rows before and after each, within its sequence."""
    gain = _SHIFT_GAIN if len(parts) >= _SEQUENCES else _FEW_GAIN
    farthest = min(_FARTHEST, min(map(len, parts)) // _SHORTEST)
    for distance in sorted(range(-farthest, farthest + 1), key=abs):
        if not distance:
            continue
        places = np.empty(count, int)
        for part in parts:
            places[part] = part[np.clip(np.arange(len(part)) + distance, 0, len(part) - 1)]
        size, way = plural(abs(distance), "row"), "after" if distance > 0 else "before"
        what = f"poses look shifted by {size}: each frame fits the pose {size} {way} it in its sequence"
        mend = f"{MEND}, which stands {size} {way} it"
        yield Order(places, what, mend, gain, _SHIFT_LEAST)


def _sorted_as_text(ids: list[str], sequences: list[str]) -> Iterator[np.ndarray]:
    """Yield the rows (m,) of ids sorted as names whose numbers have no zeros before them would be."""
    plain = [re.sub(r"(?<![0-9])0+(?=[0-9])", "", name) for name in ids]
    padded = {name: natural(name) for name in set(sequences)}
    whole = [padded[name] for name in sequences]
    for ending in ("", "_"):  # frame_1.png comes before frame_10.png, frame_1_rgb.png does not
        texts = [name + ending for name in plain]
        by_sequence = list(zip(whole, texts, strict=True))
        yield np.array(sorted(range(len(ids)), key=by_sequence.__getitem__))
        yield np.array(sorted(range(len(ids)), key=texts.__getitem__))


def _blocks_in_order(poses: Floats, truth: Floats, blocks: dict[str, list[int]]) -> tuple[np.ndarray, list[str]]:
    """Return the frames (m,) of a run of poses (m, 3, 3) by the sequences that fit best, and the names of those."""
    left, names, start = dict(blocks), [], 0
    while left:

        def error(name: str) -> float:
            rows = np.array(left[name])
            some = np.linspace(0, len(rows) - 1, min(len(rows), 100)).round().astype(int)
            return float(geodesic(poses[start + some], truth[rows[some]]).mean())  # noqa: B023

        names.append(min(left, key=error))
        start += len(left.pop(names[-1]))
    return np.concatenate([np.array(blocks[name]) for name in names]), names


def renumbered(ids: Sequence[str], wanted: Sequence[str]) -> tuple[str, str]:
    """Return what makes ids that are not the test set's its own, and how to mend it; empty if nothing plain does."""
    known = set(wanted)
    for from_end, noun in ((1, "frame"), (2, "sequence")):
        groups, right = _by_number(ids, from_end), _by_number(wanted, from_end)
        wrong = {group: found for group, found in groups.items() if not known.issuperset(found.values())}
        for shift in sorted(range(-_FARTHEST, _FARTHEST + 1), key=abs):
            if (
                shift
                and wrong
                and all(number - shift in right.get(group, {}) for group in wrong for number in wrong[group])
            ):
                step, way = abs(shift), ("from", "high") if shift > 0 else ("to", "low")
                what = f"their {noun} numbers look {step} too {way[1]}"
                verb = "subtract" if shift > 0 else "add"
                return what, f"{verb} {step} {way[0]} the number of each {noun}, and take no row out"
        counted = wrong and all(_is_counted(numbers, right.get(group, {})) for group, numbers in wrong.items())
        if counted and noun == "frame":
            first = min(min(numbers) for numbers in wrong.values())
            what = f"their frames look counted from {first} in each sequence, where the images have other numbers"
            return what, "take the numbers from the images' names, and take no row out"
    return "", ""


def _is_counted(numbers: dict[int, str], right: dict[int, str]) -> bool:
    """Return whether numbers count as many frames as a sequence has, from 0 or 1."""
    return min(numbers) in (0, 1) and len(numbers) == len(right) == max(numbers) - min(numbers) + 1


def _by_number(ids: Sequence[str], from_end: int) -> dict[tuple[str, ...], dict[int, str]]:
    """Return ids by one of their numbers, the last or the one before it, in groups of what else is in them."""
    groups: dict[tuple[str, ...], dict[int, str]] = {}
    for name in ids:
        parts = _NUMBERS.split(name)
        place = len(parts) - 2 * from_end
        if place > 0:
            groups.setdefault((*parts[:place], *parts[place + 1 :]), {})[int(parts[place])] = name
    return groups
