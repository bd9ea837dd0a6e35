"""Published results: what papers and repositories report of Biwi, a row each, with its source."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd

PRINTED = 0.0101  # two roundings to 0.005 each, of a mean and of its parts
CAMERAS = {"rgb-calibrated": "rgb", "depth-camera": "depth"}
_IMAGES = 1  # the release that the paper scored lacks one of Biwi's images


@cache
def _rows() -> pd.DataFrame:
    with resources.as_file(resources.files("benchmark.board") / "published_results.csv") as path:
        rows = pd.read_csv(path, dtype={"n_images": "Int64"})
    mean = rows[["pitch", "yaw", "roll"]].mean(axis=1)
    return rows.assign(mean_of_angles=mean, as_printed=(rows["mae"] - mean).abs() > PRINTED)


def published() -> pd.DataFrame:
    """Return the published results, a row each; errors in degrees.

    ``mean_of_angles`` is that of pitch, yaw and roll; ``as_printed`` is True where the printed MAE misses it by more
    than rounding.
    """
    return _rows().copy()


def belongs_to(row: Mapping[str, Any], protocol: Mapping[str, Any]) -> bool:
    """Return whether a published row was scored as a protocol says, on as many images, give or take one."""
    return (
        all(row[key] == protocol.get(key) for key in ("task", "test_set", "convention"))
        and CAMERAS.get(row["labels"]) == protocol.get("camera")
        and not protocol.get("subset")
        and not pd.isna(row["n_images"])
        and abs(int(row["n_images"]) - int(protocol["frames"])) <= _IMAGES
    )


def beside(protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the published rows that belong to a protocol, best first."""
    rows = [row for row in _rows().to_dict("records") if belongs_to(row, protocol)]
    return sorted(rows, key=lambda row: float(row["mae"]))
