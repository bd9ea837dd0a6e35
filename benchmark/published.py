"""Published results: what papers and repositories report of Biwi, a row each, with its source."""

from __future__ import annotations

from importlib import resources

import pandas as pd

PRINTED = 0.0101  # two roundings to 0.005 each, of a mean and of its parts


def published() -> pd.DataFrame:
    """Return the published results, a row each; errors in degrees.

    ``mean_of_angles`` is that of pitch, yaw and roll; ``as_printed`` is True where the printed MAE misses it by more
    than rounding.
    """
    with resources.as_file(resources.files("benchmark") / "published_results.csv") as path:
        rows = pd.read_csv(path, dtype={"n_images": "Int64"})
    mean = rows[["pitch", "yaw", "roll"]].mean(axis=1)
    return rows.assign(mean_of_angles=mean, as_printed=(rows["mae"] - mean).abs() > PRINTED)
