"""A SynHead whose images are JPEG: where its heads are is found beside the noise."""

import shutil

import cv2
import numpy as np
import pytest

from headposeplus.datasets.dataset import open_dataset, read_fields
from headposeplus.images import foreground, is_jpeg, read_image, read_rendered
from headposeplus.miniature import write
from headposeplus.miniature.poses import SCALES
from headposeplus.raw import synhead
from headposeplus.rotations import geodesic

SAMPLING = {"420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444}


def to_jpeg(path, target, quality=95, sampling="420"):
    """Save an image as JPEG, black where nothing is, as most programs do."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    options = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[sampling])
    cv2.imwrite(str(target), image[..., :3], options)
    return target


@pytest.fixture(scope="module")
def renders(once):
    """Some of the miniature's heads at the real size, with and without alpha."""

    def render(out):
        scale = SCALES["full"]._replace(detail=72)
        angles = np.array([[10, -20, 5], [-25, 60, -15.0]])
        tracks = [write._Track(group, "00", angles) for group in ("BIWI", "kinect")]
        for head in ("f01", "m02", "m04"):
            write._write_head(write._Head(out, scale, 0, 0, head, tracks))

    return sorted(once("renders400", render)[0].rglob("*.png"))


def edges(mask):
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()])


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("quality", [75, 85, 95, 100])
def test_heads_in_jpeg_are_where_they_are_in_png(renders, tmp_path, quality, sampling):
    assert len(renders) == 12
    before, area, box = [], [], []
    for path in renders:
        expected = foreground(read_image(path)) > 127
        copy = to_jpeg(path, tmp_path / "a.jpg", quality, sampling)
        before.append((foreground(read_image(copy)) > 127).sum() / expected.sum() - 1)
        found = foreground(read_rendered(copy)) > 127
        area.append((found ^ expected).sum() / expected.sum())
        box.append(np.abs(edges(found) - edges(expected)).max())
    assert np.min(before) > 0.01 and (sampling == "444" or quality == 100 or np.min(before) > 0.08)
    assert max(area) < (0.03 if quality < 95 else 0.01) and max(box) <= (5 if quality < 95 else 2)


def test_png_is_read_as_it_is(renders, tiny):
    for path in (*renders, *sorted(tiny.glob("synhead2_release/*/f01/*/*.png"))):
        assert not is_jpeg(path)
        assert (read_rendered(path) == read_image(path)).all()


def test_a_jpeg_without_a_head_is_told(tmp_path):
    path = tmp_path / "a.jpg"
    for picture in (np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)):
        cv2.imwrite(str(path), picture)
        with pytest.raises(synhead.ImageError, match="expected a head before a transparent or black background"):
            synhead.read_head(path)


def test_a_copy_in_jpeg_is_told_and_built(tiny_copy, built, tmp_path, hpp):
    root = tiny_copy / "synhead2_release"
    paths = sorted(root.glob("*/[fm]0*/*/*.png"))
    for path in paths:
        to_jpeg(path, path.with_suffix(".jpg"))
        path.unlink()
    inputs = ("--synhead", root, "--manifest", tiny_copy / "data_manifest.csv", "--jobs", 1)
    line = (
        f"{root}: {len(paths)} of {len(paths)} images are JPEG, which blurs where a head ends: heads are found by "
        "their brightness, from quality 75 within 3 % of their area and 5 pixels of their box; use the PNG originals "
        "if there are any"
    )
    for deep in ([], ["--deep"]):
        lines = hpp("verify", *inputs, *deep).stdout.splitlines()
        assert lines.count(line) == 1 and lines[-1].startswith("raw SynHead: complete: ")
    shutil.rmtree(root / "background")
    (root / synhead.HEAD_PLACES).unlink()  # so that the boxes follow from the images
    order = open_dataset(built[0] / "synhead+").info.parameters.render_order
    output = hpp("build-datasets", *inputs, "--size", 32, "--render-order", order, "--out", tmp_path / "data").stdout
    assert line in output.splitlines()
    jpeg, png = (
        {
            name: np.concatenate([shard[name] for shard in read_fields(open_dataset(data / "synhead+"), *FIELDS)])
            for name in FIELDS
        }
        for data in (tmp_path / "data", built[0])
    )
    assert (jpeg["id"] == png["id"]).all() and geodesic(jpeg["label/rotation"], png["label/rotation"]).max() < 1e-3


FIELDS = ("id", "label/rotation", "box")
