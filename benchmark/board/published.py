"""Published results: what papers and repositories report of Biwi and AFLW2000-3D, a row each, with its source."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from benchmark.scoring.protocols import Protocol
from headposeplus import tables

PRINTED = 0.0101  # two roundings to 0.005 each, of a mean and of its parts
CAMERAS = {"rgb-calibrated": "rgb", "depth-camera": "depth", "photograph": "rgb"}
IMAGES = 1  # the release that the paper scored lacks one of Biwi's images
_ADDRESS = re.compile(r"github\.com/[\w.-]+/[\w.-]*\w|(?<=doi )10\.\d+/[^\s),;]*\w")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")


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

    @property
    def cited(self) -> str:
        """The work that the source names first, without what else it says of the row."""
        return self.source.partition(", ")[0]

    @property
    def year(self) -> str:
        """The year of the source; empty where it has none."""
        found = _YEAR.search(self.source)
        return found[0] if found else ""

    @property
    def link(self) -> str:
        """The address that the source names first; empty where it names none."""
        found = _ADDRESS.search(self.source)
        if not found:
            return ""
        return f"https://doi.org/{found[0]}" if found[0].startswith("10.") else f"https://{found[0]}"

    def belongs_to(self, protocol: Protocol) -> bool:
        """Return whether this was scored as a protocol says, on as many images, give or take one."""
        mine = (self.task, self.test_set, self.convention, self.camera)
        return (
            mine == (protocol.task, protocol.test_set, protocol.convention, protocol.camera)
            and not protocol.subset
            and self.n_images is not None
            and abs(self.n_images - protocol.frames) <= IMAGES
        )


@cache
def published_rows() -> tuple[Published, ...]:
    """Return the published results."""
    text = (resources.files("benchmark.board") / "published_results.csv").read_text(encoding="utf-8")
    return tuple(map(_published, csv.DictReader(text.splitlines())))


def _published(row: dict[str, str]) -> Published:
    numbers = {name: float(row[name]) for name in ("mae", "pitch", "yaw", "roll")}
    mean = (numbers["pitch"] + numbers["yaw"] + numbers["roll"]) / 3
    images = int(row["n_images"]) if row["n_images"] else None
    known: dict[str, Any] = row | numbers | {"n_images": images}
    return Published(**known, mean_of_angles=mean, as_printed=abs(numbers["mae"] - mean) > PRINTED)


def beside(protocol: Protocol) -> list[Published]:
    """Return the published results that belong to a protocol, best first."""
    return sorted((row for row in published_rows() if row.belongs_to(protocol)), key=lambda row: row.mae)


class Cited(NamedTuple):
    """Published results, each with its work as a table names it, and all sources in full by number."""

    works: list[str]
    sources: list[str]


def cited(results: Sequence[Published]) -> Cited:
    """Return the works of published results as tables name them, with the number of a source that says more."""
    longer = list(dict.fromkeys(row.source for row in results if row.source != row.cited))
    works = [
        row.cited if row.source == row.cited else f"{row.cited} [{longer.index(row.source) + 1}]" for row in results
    ]
    return Cited(works, [f"[{number}] {source}." for number, source in enumerate(longer, 1)])


def describe_beside(protocol: Protocol) -> str:
    """Return the published errors under a protocol as a table with its sources; empty where there is none."""
    results = beside(protocol)
    if not results:
        return ""
    works, sources = cited(results)
    angles = ("mae", "pitch", "yaw", "roll")
    rows = [
        {
            "published": row.method,
            **{{"mae": "MAE"}.get(name, name): f"{getattr(row, name):.2f}" for name in angles},
            "source": work,
        }
        for row, work in zip(results, works, strict=True)
    ]
    table = tables.table(rows, right=("MAE", "pitch", "yaw", "roll"))
    return "\n".join([table, *(["", *tables.prose(*sources)] if sources else [])])
