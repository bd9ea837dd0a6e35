"""The README's picture: crops of the target and of the source of a miniature, of 224 pixels, with their poses.

``python -m benchmark.upkeep.crops_shown`` writes a miniature of few images in the real sizes, builds its datasets and
draws it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmark.upkeep.walk import ROOT
from headposeplus.build.build import build_datasets
from headposeplus.datasets.dataset import Dataset, open_dataset, read_crops, read_labels
from headposeplus.datasets.plots import draw_pose
from headposeplus.files import write_bytes
from headposeplus.images import Image
from headposeplus.miniature.poses import hidden_order
from headposeplus.miniature.write import write_miniature

PICTURE = ROOT / "docs" / "pictures" / "target-and-source.jpg"
_COLUMNS, _GAP, _BACKGROUND, _QUALITY = 7, 8, 128, 85


def with_poses(dataset: Dataset, count: int) -> list[Image]:
    """Return ``count`` crops (s, s, 3) spread over a dataset, with the axes of their poses drawn."""
    _, rotations = read_labels(dataset)
    rows = (np.arange(count) + 0.5) * len(rotations) // count
    tiles = []
    for row, stored in zip(rows.astype(int), read_crops(dataset, rows.astype(int)), strict=True):
        image = stored.image
        if stored.mask is not None:
            image = np.where(stored.mask[..., None], image, np.uint8(_BACKGROUND))
        tiles.append(draw_pose(image, rotations[row]))
    return tiles


def draw(data: Path, path: Path, columns: int = _COLUMNS) -> None:
    """Draw crops of the Biwi+ in a folder of datasets, and below them as many of its SynHead+, JPEG."""
    rows = [np.concatenate(with_poses(open_dataset(data / name), columns), axis=1) for name in ("biwi+", "synhead+")]
    gap = np.full((_GAP, *rows[0].shape[1:]), 255, np.uint8)
    sheet = cv2.cvtColor(np.concatenate((rows[0], gap, rows[1])), cv2.COLOR_RGB2BGR)
    write_bytes(path, cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes())


def main() -> None:
    """Write the miniature, build it and draw the picture."""
    with tempfile.TemporaryDirectory() as folder:
        source = write_miniature(Path(folder, "raw"), "shown", jobs=2)
        # So few images do not tell in which order they were rendered.
        build_datasets(source._replace(render_order=str(hidden_order(0))), Path(folder, "data"), jobs=2)
        draw(Path(folder, "data"), PICTURE)


if __name__ == "__main__":
    main()
