"""Attacks on secret labels by what is told of predictions: what do they make of the answers?

Each asks what is told of some predictions (n, 3), in degrees, and returns better ones. Where the whole figure is told
they gain; what they gain of a service says what its answers tell.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from benchmark.upkeep.soak_record import Attack
from headposeplus.rotations import Floats

Ask = Callable[[Floats], float]
OFFSET = 40.0  # degrees
WRONG = 12.0  # degrees by which the yaw of a sequence is off, for an attack that finds it


class Base(NamedTuple):
    """Predictions (n, 3) that an attack begins with, and the sequence (n,) of each frame, which its id tells."""

    angles: Floats
    sequences: np.ndarray


def guesses(angles: Floats, sequences: np.ndarray, error: float = 3.0, bias: float = 3.0, seed: int = 0) -> Floats:
    """Return predictions (n, 3) as networks make them: with errors of each frame, and some of a whole sequence."""
    rng = np.random.default_rng(seed)
    _, of = np.unique(sequences, return_inverse=True)
    whole = rng.normal(0, bias, (of.max() + 1, 3))
    return angles + whole[of] + rng.normal(0, error, angles.shape)


def mae(predicted: Floats, true: Floats) -> float:
    """Return the mean absolute error of predictions (n, 3), in degrees."""
    return float(np.abs((predicted - true + 180) % 360 - 180).mean())


def by_offsets(base: Base, ask: Ask, sequences: int = 8) -> Floats:
    """Solve for the mean error of each of the first sequences: angles moved up and down tell it by their difference."""
    found = base.angles.copy()
    ask(base.angles)
    for name in np.unique(base.sequences)[:sequences]:
        rows = base.sequences == name
        for axis in range(3):
            told = []
            for offset in (OFFSET, -OFFSET):
                asked = base.angles.copy()
                asked[rows, axis] += offset
                told.append(ask(asked))
            found[rows, axis] -= (told[0] - told[1]) / 2 * len(rows) * 3 / rows.sum()
    return found


def by_climbing(base: Base, ask: Ask, steps: int = 60, seed: int = 1) -> Floats:
    """Move the poses of three frames at a time, and keep that where the figure falls."""
    rng, kept = np.random.default_rng(seed), base.angles
    best = ask(kept)
    for _ in range(steps):
        asked = kept.copy()
        rows = rng.choice(len(asked), 3, replace=False)
        asked[rows] += rng.normal(0, 4, (3, 3))
        told = ask(asked)
        if told < best:
            kept, best = asked, told
    return kept


def by_shifts(base: Base, ask: Ask, sequence: str) -> Floats:
    """Turn the yaw of a sequence back by half a degree at a time, and keep the last turn at which the figure fell."""
    rows = base.sequences == sequence
    best, found = ask(base.angles), 0.0
    for shift in np.arange(0.5, 2 * WRONG + 0.5, 0.5):
        told = ask(_turned(base.angles, rows, shift))
        if told < best:
            best, found = told, shift
    return _turned(base.angles, rows, found)


def _turned(angles: Floats, rows: np.ndarray, shift: float) -> Floats:
    turned = angles.copy()
    turned[rows, 1] -= shift
    return turned


class Secret(NamedTuple):
    """Labels that an attack is after: their name, the poses (n, 3), and the sequence (n,) of each frame."""

    name: str
    angles: Floats
    sequences: np.ndarray


def _listening(ask: Ask, told: list[float]) -> Ask:
    """Return what asks and writes down the answers."""

    def listen(angles: Floats) -> float:
        told.append(ask(angles))
        return told[-1]

    return listen


def play(name: str, attack: Callable[[Base, Ask], Floats], angles: Floats, secret: Secret, ask: Ask) -> Attack:
    """Play an attack that begins with predictions (n, 3), and again where the whole figure is told of all frames."""
    base, told = Base(angles, secret.sequences), list[float]()
    after = attack(base, _listening(ask, told))
    in_full = attack(base, lambda asked: mae(asked, secret.angles))
    return Attack(
        name=name,
        labels=secret.name,
        frames=len(angles),
        queries=len(told),
        informative=sum(one != before for before, one in pairwise(told)),
        before=round(mae(angles, secret.angles), 3),
        after=round(mae(after, secret.angles), 3),
        in_full=round(mae(in_full, secret.angles), 3),
    )


def attacks_on(secret: Secret, new_asker: Callable[[str], Ask], step: Callable[[], object]) -> list[Attack]:
    """Play all attacks, each as another submitter; of the sequences, the first is turned back that is told of."""
    base = guesses(secret.angles, secret.sequences)
    found = [play("sequences moved by 40 degrees and back", by_offsets, base, secret, new_asker("offsets"))]
    step()
    found.append(play("three frames moved, kept if better", by_climbing, base, secret, new_asker("climbing")))
    step()
    shifted: list[Attack] = []
    for sequence in np.unique(secret.sequences).tolist():
        close = guesses(secret.angles, secret.sequences, error=1.0, bias=0.0)
        close[secret.sequences == sequence, 1] += WRONG
        name = f"a sequence that is {WRONG:g} degrees off turned back"
        ask = new_asker(f"shifts of {sequence}")
        shifted.append(play(name, partial(by_shifts, sequence=sequence), close, secret, ask))
        if shifted[-1].informative:
            break
    step()
    return [*found, shifted[-1]]
