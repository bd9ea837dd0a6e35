"""Published results: what papers and repositories report of Biwi and AFLW2000-3D, a row each, with its source."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import NamedTuple

import pandas as pd

from benchmark.scoring.protocols import Protocol

PRINTED = 0.0101  # two roundings to 0.005 each, of a mean and of its parts
CAMERAS = {"rgb-calibrated": "rgb", "depth-camera": "depth", "photograph": "rgb"}
_IMAGES = 1  # the release that the paper scored lacks one of Biwi's images


class Published(NamedTuple):
    """A published result; errors in degrees.

    ``n_images`` is None where the source does not say it. ``as_printed`` is True where the printed MAE misses
    ``mean_of_angles``, that of pitch, yaw and roll, by more than rounding.
    """

    task: str
    method: str
    backbone: str
    train_set: str
    test_set: str
    n_images: int | None
    labels: str
    convention: str
    crop: str
    transductive: str
    mae: float
    pitch: float
    yaw: float
    roll: float
    source: str
    mean_of_angles: float
    as_printed: bool

    @property
    def camera(self) -> str:
        """The camera of the labels, ``rgb`` or ``depth``."""
        return CAMERAS[self.labels]

    def belongs_to(self, protocol: Protocol) -> bool:
        """Return whether this was scored as a protocol says, on as many images, give or take one."""
        mine = (self.task, self.test_set, self.convention, self.camera)
        return (
            mine == (protocol.task, protocol.test_set, protocol.convention, protocol.camera)
            and not protocol.subset
            and self.n_images is not None
            and abs(self.n_images - protocol.frames) <= _IMAGES
        )


@cache
def _table() -> pd.DataFrame:
    with resources.as_file(resources.files("benchmark.board") / "published_results.csv") as path:
        rows = pd.read_csv(path, dtype={"n_images": "Int64"})
    mean = rows[["pitch", "yaw", "roll"]].mean(axis=1)
    return rows.assign(mean_of_angles=mean, as_printed=(rows["mae"] - mean).abs() > PRINTED)


def published() -> pd.DataFrame:
    """Return the published results as a table with the columns of :class:`Published`."""
    return _table().copy()


@cache
def published_rows() -> tuple[Published, ...]:
    """Return the published results."""
    rows = (Published(*row) for row in _table().itertuples(index=False))
    return tuple(row._replace(n_images=None if pd.isna(row.n_images) else int(row.n_images or 0)) for row in rows)


def beside(protocol: Protocol) -> list[Published]:
    """Return the published results that belong to a protocol, best first."""
    return sorted((row for row in published_rows() if row.belongs_to(protocol)), key=lambda row: row.mae)


def describe_beside(protocol: Protocol) -> str:
    """Return the published MAE under a protocol as one line with its sources; empty where there is none."""
    rows = beside(protocol)
    if not rows:
        return ""
    errors = ", ".join(f"{row.method} {row.mae:.2f}" for row in rows)
    return f"Published MAE under this protocol: {errors} ({'; '.join(dict.fromkeys(row.source for row in rows))})."
