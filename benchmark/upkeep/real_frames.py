"""What a build of real Biwi frames gives, against the published labels and boxes.

``python -m benchmark.upkeep.real_frames HPDB Biwi_plus.npz`` builds the frames of a raw Biwi, some or all, with those
boxes, and writes how far its labels and boxes are from the published ones to ``results/real/frames.json``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmark.scoring.labels import read_labels
from benchmark.upkeep.walk import ROOT
from headposeplus import __version__, tables
from headposeplus.boxes.files import read_boxes
from headposeplus.boxes.geometry import iou
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import open_dataset, read_fields
from headposeplus.files import listing, sha256, write_json
from headposeplus.raw.source import Source
from headposeplus.rotations import from_matrix, geodesic
from headposeplus.tasks import cores

RECORD = ROOT / "results" / "real" / "frames.json"
_SIZE = 224


class RealFrames(msgspec.Struct, frozen=True):
    """How far a build of real frames is from what is published; degrees.

    ``largest_angle`` is the largest difference of a pitch, yaw or roll, ``largest_rotation`` of a rotation;
    ``projected_iou`` is the mean overlap of the boxes that a build without boxes makes with the published ones,
    ``stored_bytes`` what the shards take.
    """

    toolkit: str
    published_sha256: str
    frames: int
    sequences: list[str]
    left_out: int
    largest_angle: float
    largest_rotation: float
    boxes_equal: int
    projected_iou: float
    stored_bytes: int


def measure(raw: Path, published: Path) -> RealFrames:
    """Build the frames of a raw Biwi twice, with the published boxes and with none, and compare."""
    labels, boxes = read_labels(published), read_boxes(published)
    with tempfile.TemporaryDirectory() as temporary:
        with_boxes, without = Path(temporary) / "with", Path(temporary) / "without"
        built = build_datasets(Source(raw, boxes=published), with_boxes, Options(size=_SIZE), cores())
        build_datasets(Source(raw), without, Options(size=_SIZE), cores())
        parts = list(read_fields(open_dataset(with_boxes / "biwi+"), "id", "label/rotation", "box"))
        ids, rotations, given = (np.concatenate([part[name] for part in parts]) for name in parts[0])
        stored = sum(path.stat().st_size for path in listing(with_boxes / "biwi+", ".h5"))
        projected = np.concatenate([part["box"] for part in read_fields(open_dataset(without / "biwi+"), "box")])
    place = {name: row for row, name in enumerate(labels.ids.tolist())}
    truth = labels.rotations[[place[str(name)] for name in ids]]
    wanted = boxes.boxes[boxes.positions(ids)]
    return RealFrames(
        toolkit=__version__,
        published_sha256=sha256(published),
        frames=len(ids),
        sequences=sorted({str(name).split("/")[1] for name in ids}),
        left_out=len(built.left_out),
        largest_angle=float(np.abs(from_matrix(rotations) - from_matrix(truth)).max()),
        largest_rotation=float(geodesic(rotations, truth).max()),
        boxes_equal=int((given == wanted).all(axis=1).sum()),
        projected_iou=round(float(iou(projected, wanted).mean()), 4),
        stored_bytes=stored,
    )


def describe_real_frames(figures: RealFrames, style: str = "simple") -> str:
    """Return the figures as a table."""
    rows = {
        "real frames built": f"{figures.frames:,}, of the sequences {', '.join(figures.sequences)}",
        "left out": f"{figures.left_out:,}",
        "largest difference of a pitch, yaw or roll to the published label": f"{figures.largest_angle:.0e} degrees",
        "largest difference of a rotation": f"{figures.largest_rotation:.0e} degrees",
        "boxes that are the published ones": f"{figures.boxes_equal:,} of {figures.frames:,}",
        "mean IoU of the projected boxes with the published ones": f"{figures.projected_iou:.3f}",
    }
    return tables.pairs(rows, style)


def main(words: Sequence[str]) -> None:
    """Measure, show and keep the figures."""
    figures = measure(*map(Path, words))
    write_json(RECORD, msgspec.to_builtins(figures))
    print(describe_real_frames(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
