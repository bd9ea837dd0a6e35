"""Which samples a batch draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headposeplus.errors import TrainingError
from headposeplus.rotations import Floats


def cumulative(probabilities: Floats) -> Floats:
    """Return what :func:`draw` draws by: the summed probabilities (n,)."""
    summed = np.cumsum(probabilities)
    return summed / summed[-1]


def draw(rng: np.random.Generator, summed: Floats, count: int) -> np.ndarray:
    """Return ``count`` indices drawn with replacement by the :func:`cumulative` probabilities (n,).

    They are those of ``rng.choice(n, count, p=probabilities)``, which would sum all of them up again.
    """
    return np.searchsorted(summed, rng.random(count), side="right")


def endless(rng: np.random.Generator, count: int, batch: int) -> Iterator[np.ndarray]:
    """Yield batches of indices without end: whole passes over ``count`` samples, shuffled anew for each.

    Raises
    ------
    TrainingError
        If the batch is larger than the dataset.
    """
    if batch > count:
        raise TrainingError(f"a batch of {batch} is larger than the dataset of {count} images; lower `batch`")
    left = np.zeros(0, np.int64)
    while True:
        if len(left) < batch:
            left = np.concatenate((left, rng.permutation(count)))
        yield left[:batch]
        left = left[batch:]
