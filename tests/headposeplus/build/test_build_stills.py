import os
import shutil

import cv2
import h5py
import numpy as np
import pytest

from benchmark.upkeep.manifest_rows import rows
from headposeplus.build.build import build_datasets
from headposeplus.build.estimate import estimate_build
from headposeplus.build.summary import describe
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import open_dataset, read_crops, read_fields
from headposeplus.datasets.export import export
from headposeplus.errors import HeadposeError, RawDataError
from headposeplus.files import sha256
from headposeplus.images import crop, crop_matrix, read_image
from headposeplus.raw import manifest
from headposeplus.raw.source import Source
from headposeplus.rotations import to_matrix
from headposeplus.verify.datasets import verify_data
from headposeplus.verify.describe import describe as report_text
from headposeplus.verify.raw import verify_raw
from tests.photographs import PHOTOGRAPHS

TESTED = [number for number in sorted(PHOTOGRAPHS) if number not in (40, 41)]


def build(raw, out, **options):
    return build_datasets(Source(stills={"aflw2000": raw}), out, Options(size=24, **options))


def read(folder, *names):
    shards = list(read_fields(open_dataset(folder), *names))
    return [np.concatenate([fields[name] for fields in shards]) for name in names]


@pytest.fixture(scope="module")
def made(photographs, tmp_path_factory):
    out = tmp_path_factory.mktemp("stills")
    return out, build(photographs, out)


@pytest.fixture(scope="module")
def listed(photographs, tmp_path_factory):
    """A manifest of the made-up copy alone."""
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    header = ",".join(manifest.COLUMNS)
    path.write_text(f"{header}\n{rows('aflw2000', photographs)}")
    return path


def test_the_dataset_holds_the_photographs_with_their_poses(made, photographs):
    out, summary = made
    ids, subjects, rotations, boxes = read(out / "aflw2000", "id", "subject", "label/rotation", "box")
    assert ids.tolist() == [f"aflw2000/image{number:05d}" for number in TESTED]
    assert subjects.tolist() == [name.partition("/")[2] for name in ids.tolist()]
    np.testing.assert_allclose(rotations, to_matrix([PHOTOGRAPHS[number] for number in TESTED], "ypr"), atol=1e-6)
    crops = read_crops(open_dataset(out / "aflw2000"), np.arange(len(ids)))
    for number, box, stored in zip(TESTED, boxes, crops, strict=True):
        assert box[2] == box[3] and abs(box[2] - 1.2 * 254.4) < 30
        image = read_image(photographs / f"image{number:05d}.jpg")
        np.testing.assert_array_equal(stored.image, crop(image, crop_matrix(box, 24), 24))  # stored without loss
    info = summary.datasets[0].info
    assert (info.name, info.rows, info.boxes, info.left_out) == ("aflw2000", 8, {"landmarks": 8}, [])
    assert info.parameters.boxes == "landmarks" and not summary.left_out


def test_what_the_rule_leaves_out_is_counted_and_named(made):
    out, summary = made
    assert open_dataset(out / "aflw2000").info.beyond == [
        "image00040.mat: pitch 100.0, yaw 10.0, roll 5.0",
        "image00041.mat: pitch -300.0, yaw 95.0, roll 297.0",
    ]
    text = describe(summary, out)
    assert "aflw2000: 2 images left out for an angle (convention ypr) beyond 99 degrees" in text
    assert "image00041.mat: pitch -300.0, yaw 95.0, roll 297.0" in text and "damaged" not in text


def test_a_second_run_keeps_what_is_there_and_says_the_same(made, photographs, tmp_path):
    shutil.copytree(made[0], tmp_path / "data")
    again = build(photographs, tmp_path / "data")
    assert [dataset.info for dataset in again.datasets] == [dataset.info for dataset in made[1].datasets]
    with pytest.raises(HeadposeError, match="was built with other options"):
        build_datasets(Source(stills={"aflw2000": photographs}), tmp_path / "data", Options(size=32))


def test_the_bytes_depend_on_neither_the_place_nor_the_processes(made, photographs_copy, tmp_path, monkeypatch):
    monkeypatch.setattr("headposeplus.build.plan._PER_SHARD", 3)
    one, two = tmp_path / "one", tmp_path / "two"
    build(photographs_copy, one)
    moved = photographs_copy.rename(photographs_copy.with_name("there"))
    (moved.parent / "x").mkdir()
    moved = moved.rename(moved.parent / "x/AFLW2000")
    build_datasets(Source(stills={"aflw2000": moved}), two, Options(size=24), jobs=2)
    hashes = [[sha256(path) for path in sorted((out / "aflw2000").iterdir())] for out in (one, two)]
    assert hashes[0] == hashes[1] and len(hashes[0]) == 5
    assert read(one / "aflw2000", "id")[0].tolist() == read(made[0] / "aflw2000", "id")[0].tolist()


def test_damaged_photographs_are_left_out_counted_and_listed(photographs_copy, tmp_path, hpp):
    os.remove(photographs_copy / "image00002.mat")
    (photographs_copy / "image00004.mat").write_bytes((photographs_copy / "image00004.mat").read_bytes()[:900])
    (photographs_copy / "image00006.jpg").write_bytes(b"\xff\xd8 no more")
    cv2.imwrite(str(photographs_copy / "image00008.jpg"), np.zeros((10, 20, 3), np.uint8))
    os.remove(photographs_copy / "image00013.jpg")
    summary = build(photographs_copy, tmp_path / "data")
    info = summary.datasets[0].info
    assert info.rows == len(TESTED) - 5 and len(info.left_out) == len(summary.left_out) == 5
    lines = sorted(info.left_out)
    assert [line.partition(": ")[0] for line in lines] == [
        "AFLW2000/image00002.jpg",
        "AFLW2000/image00004.mat",
        "AFLW2000/image00006.jpg",
        "AFLW2000/image00008.jpg",
        "AFLW2000/image00013.mat",
    ]
    for line, words in zip(
        lines,
        ("no image00002.mat beside", "damaged (ends", "truncated image", "expected 450 x 450", "no image00013.jpg"),
        strict=True,
    ):
        assert words in line and "from the raw archive" in line
    told = hpp("build-datasets", "--aflw2000", photographs_copy, "--out", tmp_path / "data", "--size", 24, expect=3)
    assert "5 damaged or incomplete frames were left out" in told.output
    with pytest.raises(RawDataError, match="beside it"):
        build(photographs_copy, tmp_path / "strict", strict=True)


def test_a_trial_builds_nothing(photographs, tmp_path):
    (estimate,), notes = estimate_build(Source(stills={"aflw2000": photographs}), tmp_path / "data", Options(size=24))
    assert (estimate.name, estimate.images, estimate.missing) == ("aflw2000", 10, 1) and estimate.bytes > 0
    absent = "AFLW2000-3D: 1,990 of the 2,000 images of the manifest are absent"
    assert notes == [f"raw aflw2000 found at {photographs}", absent]
    assert not (tmp_path / "data").exists()


def test_a_build_beside_the_others_leaves_them_alone(built, photographs, tmp_path):
    data = shutil.copytree(built[0], tmp_path / "data")
    before = {path: sha256(path) for path in data.rglob("*.*")}
    build_datasets(Source(stills={"aflw2000": photographs}), data, Options(size=32))
    assert {path: sha256(path) for path in before} == before
    assert open_dataset(data / "aflw2000").size == 32


# ---- verify


def test_a_whole_copy_is_complete(photographs, listed, hpp):
    report = verify_raw(None, None, listed, deep=True, stills={"aflw2000": photographs})
    assert not report.faults and report.totals["aflw2000"].complete == 2
    assert [(unit.unit, unit.present, unit.labels.state) for unit in report.units] == [
        ("tested", 8, "as in the manifest"),
        ("beyond", 2, "not in the manifest"),
    ]
    told = hpp("verify", "--aflw2000", photographs, "--manifest", listed)
    assert "raw AFLW2000-3D: complete: 10 of 10 images" in told.output


def test_what_is_wrong_with_a_copy_is_told(photographs_copy, listed, hpp):
    os.remove(photographs_copy / "image00002.mat")
    os.remove(photographs_copy / "image00041.jpg")
    os.remove(photographs_copy / "image00041.mat")
    (photographs_copy / "image00006.jpg").write_bytes(b"\xff\xd8 no more")
    (photographs_copy / "image00008.mat").write_bytes(b"x")
    for ending in ("jpg", "mat"):
        shutil.copy(photographs_copy / f"image00004.{ending}", photographs_copy / f"image00099.{ending}")
    report = verify_raw(None, None, listed, stills={"aflw2000": photographs_copy})
    tested, beyond = report.units
    assert (tested.missing, tested.extra, tested.unreadable, tested.truncated) == (1, 1, 1, 1)
    assert (beyond.present, beyond.missing, tested.labels.state) == (1, 1, "not comparable: other images")
    text = report_text(report)
    for words in (
        "image00002.jpg: no image00002.mat beside it",
        "image00006.jpg: truncated image",
        "image00008.mat: damaged (not a MATLAB file of version 5)",
        "1 of 8 images of the part tested missing: 2",
        "1 of 2 images of the part beyond missing: 41",
        "1 image that the manifest does not list: 99",
    ):
        assert words in text
    hpp("verify", "--aflw2000", photographs_copy, "--manifest", listed, expect=3)


def test_labels_of_another_copy_are_told(photographs_copy, listed):
    shutil.copy(photographs_copy / "image00004.mat", photographs_copy / "image00002.mat")
    report = verify_raw(None, None, listed, stills={"aflw2000": photographs_copy})
    assert report.faults and all("part tested: " in fault.what and "expected" in fault.what for fault in report.faults)


def test_built_data_are_compared_with_the_manifest(made, listed, tmp_path):
    report = verify_data(made[0], listed, deep=True)
    assert not report.faults and report.statistics.stills["aflw2000"][0].state == "as in the manifest"
    other = tmp_path / "manifest.csv"
    first, *rest = manifest.read(listed)
    manifest.write(other, [first._replace(mean_yaw=12.3456), *rest])
    (fault,) = verify_data(made[0], other).faults
    assert "mean yaw" in fault.what and "expected 12.3456" in fault.what


def test_damaged_shards_are_told(made, tmp_path):
    data = shutil.copytree(made[0], tmp_path / "data")
    with h5py.File(next(data.rglob("*.h5")), "r+") as file:
        file["label/pyr"][0, 0] += 1
    assert any("SHA-256" in fault.what for fault in verify_data(data).faults)


# ---- export, inspect


def test_exports_name_the_raw_images(made, tmp_path):
    assert "8 rows" in export(made[0] / "aflw2000", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["images"].tolist() == [f"image{number:05d}.jpg" for number in TESTED]
        wanted = np.array([PHOTOGRAPHS[number] for number in TESTED])[:, [1, 0, 2]]
        # Angles with a yaw within 90 degrees come back as they were.
        np.testing.assert_allclose(arrays["ypr"], wanted, atol=1e-4)
    export(made[0] / "aflw2000", tmp_path / "images")
    assert (tmp_path / "images/aflw2000/image00002.png").is_file()


def test_a_file_of_photographs_is_a_subset(made, tmp_path):
    (tmp_path / "some.txt").write_text("image00004.jpg\naflw2000/image00013\n")
    assert "2 rows of file:some" in export(made[0] / "aflw2000", tmp_path / "a.csv", str(tmp_path / "some.txt"))
    (tmp_path / "some.txt").write_text("aflw2000/image00032\n")
    with pytest.raises(HeadposeError, match=r"aflw2000/image00032 is not among the 1,969 frames of the manifest"):
        export(made[0] / "aflw2000", tmp_path / "b.csv", str(tmp_path / "some.txt"))


def test_the_card_says_what_is_left_out_and_how_to_cite(made, tmp_path, hpp):
    hpp("inspect", made[0], "--out", tmp_path / "card")
    card = (tmp_path / "card/card.md").read_text()
    assert "images left out for an angle (convention ypr) beyond 99 degrees" in card and "image00041.mat" in card
    assert "Face Alignment Across Large Poses" in card and "Biwi Kinect" not in card
    assert (tmp_path / "card/crops.png").stat().st_size > 1000
