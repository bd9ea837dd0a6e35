import cv2
import numpy as np

from benchmark.upkeep import crops_shown
from headposeplus.datasets.dataset import open_dataset


def test_the_picture_has_a_row_of_the_target_and_one_of_the_source(built, tmp_path):
    crops_shown.draw(built[0], tmp_path / "picture.jpg", 3)
    assert cv2.imread(str(tmp_path / "picture.jpg")).shape == (2 * 32 + 8, 3 * 32, 3)
    tiles = crops_shown.with_poses(open_dataset(built[0] / "synhead+"), 3)
    assert all((tile == 128).all(axis=2).any() for tile in tiles)  # nothing is behind a rendered head
    assert len(np.unique(np.array(tiles), axis=0)) == 3


def test_the_kept_picture_shows_crops_of_the_real_size():
    height, width = cv2.imread(str(crops_shown.PICTURE)).shape[:2]
    assert height == 2 * 224 + 8 and width % 224 == 0
