"""A picture of what each kind of augmentation makes of crops: ``python -m benchmark.upkeep.augmented DATA``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from baselines.augment import KINDS
from baselines.networks import IMAGE_MEAN, IMAGE_STD
from benchmark.loaders.compose import Composer, load_source
from benchmark.upkeep.pictures import shrink
from benchmark.upkeep.walk import ROOT
from headposeplus.datasets.dataset import open_dataset
from headposeplus.drawing import WIDTH, own_settings, save
from headposeplus.images import Image

PICTURE = ROOT / "docs" / "pictures" / "augment.png"
_COLUMNS = 8


def crops_of(data: Path, count: int, seed: int) -> dict[str, list[Image]]:
    """Return ``count`` crops of the SynHead+ in a folder of datasets, as they are trained on, by augmentation."""
    device = torch.device("cpu")
    source = load_source(open_dataset(data / "synhead+"), device, "stream")
    rows = np.random.default_rng(seed).permutation(len(source.store))[:count]
    composer = Composer(source, device, seed)
    shown = {}
    for kind in KINDS:
        images = composer.source(rows, *_gathered(source.store.gather(rows)), 0, kind)[0].permute(0, 2, 3, 1).numpy()
        shown[kind] = list(np.rint(255 * np.clip(images * IMAGE_STD + IMAGE_MEAN, 0, 1)).astype(np.uint8))
    return shown


def _gathered(batch: tuple[torch.Tensor, torch.Tensor | None]) -> tuple[torch.Tensor, torch.Tensor]:
    crops, masks = batch
    assert masks is not None
    return crops, masks


@own_settings()
def draw(shown: dict[str, list[Image]], path: Path) -> None:
    """Draw crops (s, s, 3) as a grid, a row for each augmentation, PNG."""
    columns, rows, left = len(next(iter(shown.values()))), len(shown), 0.3  # inches for the names
    figure = Figure(figsize=(WIDTH, (WIDTH - left) / columns * rows))
    edges = {"left": left / WIDTH, "right": 1, "bottom": 0, "top": 1, "wspace": 0.03, "hspace": 0.03}
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=edges)
    for row, (kind, images) in zip(grid, shown.items(), strict=True):
        for axes, image in zip(row, images, strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(kind, fontsize=10)
    save(figure, path)


if __name__ == "__main__":
    draw(crops_of(Path(sys.argv[1]), _COLUMNS, seed=0), PICTURE)
    shrink(PICTURE)
