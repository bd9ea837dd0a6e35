import cv2
import numpy as np
import pytest

from baselines.augment import KINDS
from benchmark.upkeep import augmented


def test_the_picture_has_a_row_for_each_kind(built, tmp_path):
    shown = augmented.crops_of(built[0], 3, seed=1)
    assert tuple(shown) == KINDS and all(len(images) == 3 for images in shown.values())
    assert all(image.shape == (32, 32, 3) and image.dtype == np.uint8 for image in shown["all"])
    for kind in KINDS[1:]:
        assert all((a != b).any() for a, b in zip(shown["none"], shown[kind], strict=True))
    augmented.draw(shown, tmp_path / "picture.png")
    height, width = cv2.imread(str(tmp_path / "picture.png")).shape[:2]
    assert width == 1692 and height == pytest.approx(4 * (width - 60) / 3, abs=2)  # twice what a page shows
