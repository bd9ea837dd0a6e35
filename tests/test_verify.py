import json
import os
import shutil
import struct

import cv2
import h5py
import numpy as np
import pytest

from headposeplus import biwi, manifest, shards, synhead, verify
from headposeplus import rotations as rot
from headposeplus.errors import DatasetError, HeadposeError, RawDataError
from headposeplus.files import sha256


def check(raw, deep=False, jobs=1):
    return verify.verify_raw(raw / "hpdb", raw / "synhead2_release", raw / "data_manifest.csv", deep, jobs)


def unit_of(report, name):
    return next(unit for unit in report["units"] if unit["unit"] == name)


def only_fault(report, *words):
    """Return the report's one fault, which holds the words."""
    assert len(report["faults"]) == verify.faults(report) == 1, report["faults"]
    line = report["faults"][0]
    assert all(str(word) in line for word in words), line
    assert "\n" not in line and ";" in line
    return line


def files(folder, pattern):
    return sorted(folder.glob(pattern))


def zero_the_middle(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3] + bytes(len(data) // 3) + data[2 * (len(data) // 3) :])


# ---- whole copies


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_copy_is_complete(tiny, deep):
    report = check(tiny, deep)
    assert report["faults"] == [] and report["warnings"] == [] and verify.faults(report) == 0
    assert {unit["state"] for unit in report["units"]} == {"complete"}
    table = manifest.read(tiny / "data_manifest.csv")
    images = len(files(tiny / "synhead2_release", "*/*/*/*.png"))
    assert report["totals"]["biwi"]["expected"] == report["totals"]["biwi"]["present"] == 48
    assert report["totals"]["synhead"]["present"] == report["totals"]["synhead"]["expected"] == images
    assert report["totals"]["synhead"]["tracks"] == (table["dataset"] == "synhead").sum()
    assert report["manifest"]["sha256"] == sha256(tiny / "data_manifest.csv") and report["deep"] == deep
    optional = unit_of(report, "01")["optional"]
    assert (optional["depth"], optional["masks"], optional["mesh"], optional["depth_cal"]) == (12, 12, True, True)
    text = verify.describe_raw(report)
    assert text.endswith(f"raw Biwi: complete: 48 of 48 frames\nraw SynHead: complete: {images:,} of {images:,} images")
    assert "convention pyr, RGB camera; within 0.001): 4 as in the manifest" in text
    assert ("pose.bin against pose.txt (depth camera)" in text) == deep


def test_label_statistics_are_those_of_the_files(tiny):
    """By SciPy's way round: matrix products, then pitch, yaw and roll of F R F."""
    for unit in check(tiny)["units"]:
        if unit["dataset"] == "biwi":
            folder = tiny / "hpdb" / unit["unit"]
            camera = np.loadtxt(folder / "rgb.cal", skiprows=6, max_rows=3)
            poses = np.stack([np.loadtxt(path, max_rows=3) for path in files(folder, "*_pose.txt")])
            angles = rot.Rotation.from_matrix(rot.FLIP @ camera @ poses @ rot.FLIP).as_euler("xyz", degrees=True)
            assert np.abs(angles.mean(0) - unit["labels"]["mean"]).max() < 1e-5
            assert np.abs(np.sqrt(np.cov(angles.T, ddof=0).diagonal()) - unit["labels"]["std"]).max() < 1e-5
            assert unit["labels"]["difference"] < 2e-4 < verify.LABEL_TOLERANCE


def test_reports_are_json_and_do_not_depend_on_jobs(tiny_copy):
    files(tiny_copy / "hpdb/03", "*_pose.txt")[4].unlink()
    files(tiny_copy / "synhead2_release", "BIWI/m02/*/*.png")[7].write_bytes(b"")
    one, two = (check(tiny_copy, deep=True, jobs=jobs) for jobs in (1, 2))
    assert json.loads(json.dumps(one)) == one == two and len(one["faults"]) == 1 and one["warnings"]


def test_roots_are_found_below_and_absent_copies_are_told(tiny, tmp_path):
    report = verify.verify_raw(tiny, None, tiny / "data_manifest.csv")
    assert report["roots"] == {"biwi": str(tiny / "hpdb"), "synhead": None} and set(report["totals"]) == {"biwi"}
    with pytest.raises(RawDataError, match="not raw SynHead"):
        verify.verify_raw(tiny / "hpdb", tmp_path)
    with pytest.raises(RawDataError, match="no such folder"):
        verify.verify_raw(tmp_path / "none", None)
    with pytest.raises(HeadposeError, match="nothing to verify"):
        verify.verify_raw(None, None)
    (tmp_path / "manifest.csv").write_text("dataset\n")
    with pytest.raises(HeadposeError, match="lacks the columns"):
        verify.verify_raw(tiny, None, tmp_path / "manifest.csv")


def test_optional_parts_may_be_absent(tiny_copy):
    for name in ("db_annotations", "head_pose_masks"):
        shutil.rmtree(tiny_copy / name)
    for path in [*files(tiny_copy / "hpdb", "*/*.bin"), *files(tiny_copy / "hpdb", "*.obj")]:
        path.unlink()
    for path in files(tiny_copy / "hpdb", "*/depth.cal"):
        path.unlink()
    report = check(tiny_copy, deep=True)
    assert not report["faults"]
    assert not any(unit_of(report, "01")["optional"][kind] for kind in ("depth", "annotations", "masks", "mesh"))


# ---- raw Biwi


def test_missing_and_extra_frames_are_named_by_number(tiny_copy):
    folder = tiny_copy / "hpdb/01"
    numbers = manifest.biwi_frames(manifest.read(tiny_copy / "data_manifest.csv"))["01"]
    gone = [numbers[0], *numbers[4:6]]
    for number in gone:
        for path in folder.glob(f"frame_{number:05d}_*"):
            path.unlink()
    report = check(tiny_copy)
    only_fault(report, f"{folder}: 3 of 12 frames missing: {manifest.to_ranges(gone)}; restore them")
    unit = unit_of(report, "01")
    assert unit["state"] == "missing 3" and (unit["present"], unit["missing"]) == (9, 3)
    assert unit["labels"]["state"].startswith("not comparable")
    assert "raw Biwi: not complete: 3 of 48 missing (frames); 1 fault" in verify.describe_raw(report)
    for number in gone[:2]:
        for ending in ("rgb.png", "pose.txt"):
            source = files(folder, f"*_{ending}")[0]
            shutil.copy(source, folder / f"frame_{number + 90000:05d}_{ending}")
    report = check(tiny_copy)
    extra = manifest.to_ranges(number + 90000 for number in gone[:2])
    assert any(f"2 frames that the manifest does not list: {extra};" in line for line in report["faults"])
    assert unit_of(report, "01")["state"] == "missing 3, extra 2"


def test_sequences_that_are_absent_files_or_unknown(tiny_copy):
    root = tiny_copy / "hpdb"
    shutil.copytree(root / "01", root / "30")
    shutil.rmtree(root / "03")
    shutil.rmtree(root / "06")
    (root / "06").write_text("")
    shutil.rmtree(root / "15")
    (root / "15").mkdir()
    report = check(tiny_copy)
    starts = [
        f"{root / '03'}: no such folder; expected 12 frames (",
        f"{root / '06'}: expected a folder with 12 frames",
    ]
    starts += [f"{root / '15'}: an empty folder;", f"{root / '30'}: the manifest has no sequence 30;"]
    assert len(report["faults"]) == 4
    assert all(line.startswith(start) for line, start in zip(report["faults"], starts, strict=True))
    assert [unit_of(report, name)["state"] for name in ("03", "06", "15")] == ["absent"] * 3
    assert unit_of(report, "30")["extra"] == 12 and unit_of(report, "30")["state"].endswith("not in the manifest")
    assert report["totals"]["biwi"]["missing"] == 36


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "found nothing"),
        ("nan 0 0\n0 1 0\n0 0 1\n\n0 0 900\n", "expected three rows of a rotation"),
        ("1 0 0\n0 1 0\n0 0 -1\n\n0 0 900\n", "its determinant is not positive"),
        ("1 0 0\n0 2 0\n0 0 1\n\n0 0 900\n", "is not a rotation"),
        ("1 0 0\n0 1 0\n0 0 1\n\n0 0 0\n", "200 mm before the camera"),
        ("1 0 0\n0 1 0\n", "found 2 rows"),
    ],
)
def test_unreadable_poses(tiny_copy, content, message):
    path = files(tiny_copy / "hpdb/03", "*_pose.txt")[2]
    path.write_text(content)
    report = check(tiny_copy)
    only_fault(report, path, message, "restore")
    unit = unit_of(report, "03")
    assert (unit["unreadable"], unit["missing"], unit["state"]) == (1, 0, "unreadable 1")


def test_frames_without_image_or_pose(tiny_copy):
    image, other = files(tiny_copy / "hpdb/03", "*_rgb.png")[2:4]
    pose, other_pose = (path.with_name(path.name.replace("rgb.png", "pose.txt")) for path in (image, other))
    image.unlink()
    other_pose.unlink()
    report = check(tiny_copy)
    only_fault(report, f"{pose}: no {image.name} or .jpg beside it; restore it")
    # As in a build, the annotations stand in for a pose.txt.
    assert report["warnings"] == [
        f"{other.parent}: no pose.txt of 1 frames, whose pose.bin is used instead: {int(other.name[6:11])}"
    ]
    assert unit_of(report, "03")["labels"]["state"] == "as in the manifest"
    shutil.rmtree(tiny_copy / "db_annotations")
    report = check(tiny_copy)
    assert sorted(report["faults"]) == sorted(
        [f"{pose}: no {image.name} or .jpg beside it; {verify.RESTORE}",
         f"{other}: no {other_pose.name} beside it; {verify.RESTORE}"]
    )  # fmt: skip
    assert unit_of(report, "03")["unreadable"] == 2


def damage(path, how):
    data = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to(path)
    else:
        path.write_bytes({"cut": data[:-30], "empty": b"", "text": b"<html>", "zeros": bytes(500),
                          "cut and padded": data[:-30] + bytes(4096)}[how])  # fmt: skip


IMAGE_DAMAGE = [
    ("cut", "truncated", "truncated image ("),
    ("cut and padded", "truncated", "truncated image ("),
    ("empty", "unreadable", "expected a PNG or JPEG image, found an empty file"),
    ("text", "unreadable", "found something else"),
    ("zeros", "unreadable", "found something else"),
    ("folder", "unreadable", "cannot be read: Is a directory"),
    ("link", "unreadable", "cannot be read"),
]


@pytest.mark.parametrize("how, kind, message", IMAGE_DAMAGE)
@pytest.mark.parametrize("place, name", [("hpdb/01", "01"), ("synhead2_release/kinect/f03/00", "kinect/00")])
@pytest.mark.parametrize("deep", [False, True])
def test_damaged_images(tiny_copy, place, name, how, kind, message, deep):
    path = files(tiny_copy / place, "*.png")[1]
    damage(path, how)
    report = check(tiny_copy, deep)
    only_fault(report, path, message, verify.RESTORE)
    unit = unit_of(report, name)
    assert unit[kind] == 1 and unit["missing"] == 0 and unit["state"] == f"{kind} 1"


def test_zeros_after_the_end_are_no_fault(tiny_copy):
    for number, path in enumerate(files(tiny_copy / "hpdb/01", "*_rgb.png")):
        path.write_bytes(path.read_bytes() + bytes(40 * number**3))
    assert not check(tiny_copy)["faults"]


def test_jpeg_mirrors(tiny_copy):
    """A mirror with ``_rgb.jpg``; one of them cut."""
    for path in files(tiny_copy / "hpdb/01", "*_rgb.png"):
        jpeg = path.with_suffix(".jpg")
        cv2.imwrite(str(jpeg), cv2.imread(str(path)))
        path.unlink()
    assert not check(tiny_copy, deep=True)["faults"]
    jpeg.write_bytes(jpeg.read_bytes()[:-10])
    only_fault(check(tiny_copy), jpeg, "truncated")


def test_two_images_of_a_frame(tiny_copy):
    path = files(tiny_copy / "hpdb/01", "*_rgb.png")[3]
    cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))
    report = check(tiny_copy)
    only_fault(report, path.with_suffix(".jpg"), path.name, "has a second image", "delete")
    assert unit_of(report, "01")["state"] == "duplicates 1"


@pytest.mark.parametrize("content", [None, "", "517 0 320\n", "\xff\xfe"])
def test_missing_and_garbled_calibrations(tiny_copy, content):
    path = tiny_copy / "hpdb/06/rgb.cal"
    if content is None:
        path.unlink()
    else:
        path.write_text(content, encoding="latin-1")
    report = check(tiny_copy)
    only_fault(report, path, "restore")
    assert unit_of(report, "06")["state"] == f"rgb.cal {'missing' if content is None else 'unreadable'}"
    assert unit_of(report, "06")["labels"]["state"] == "not comparable: rgb.cal"


def test_the_calibration_of_another_sequence(tiny_copy):
    shutil.copy(tiny_copy / "hpdb/01/rgb.cal", tiny_copy / "hpdb/15/rgb.cal")
    report = check(tiny_copy)
    only_fault(report, tiny_copy / "hpdb/15/rgb.cal", "expected the calibration of group B, found that of group A")
    assert unit_of(report, "15")["state"] == "rgb.cal of group A"
    path = tiny_copy / "hpdb/15/rgb.cal"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:6], "1 0 0", "0 1 0", "0 0 1", *lines[9:]]) + "\n")
    report = check(tiny_copy)
    only_fault(report, "found that of neither group", "1.0441 degrees from A, 1.4894 degrees from B")


def test_the_calibration_tolerance_is_between_rounding_and_the_other_group():
    groups = [np.array(biwi.CALIBRATION_ROTATIONS[group]) for group in "AB"]
    rounded = [np.array([[float(f"{value:.6g}") for value in row] for row in matrix]) for matrix in groups]
    rounding = max(rot.geodesic(*map(rot.nearest_rotation, pair)) for pair in zip(groups, rounded, strict=True))
    apart = rot.geodesic(*map(rot.nearest_rotation, groups))
    assert 100 * rounding < verify.CALIBRATION_TOLERANCE < apart / 100


def test_poses_that_are_not_the_manifests(tiny_copy):
    path = files(tiny_copy / "hpdb/01", "*_pose.txt")[0]
    pose = biwi.read_pose(path)
    turned = rot.in_plane(0.1) @ pose.rotation  # moves the mean roll by about 0.1 / 12 degrees
    rows = "\n".join(" ".join(f"{value:.6g}" for value in row) for row in turned)
    path.write_text(f"{rows}\n\n{' '.join(f'{value:.6g}' for value in pose.centre)}\n")
    report = check(tiny_copy)
    row = manifest.read(tiny_copy / "data_manifest.csv").query("unit == '01' and dataset == 'biwi'").iloc[0]
    line = next(line for line in report["faults"] if "mean roll" in line)
    assert f"expected {row['mean_roll']:.4f} degrees, convention pyr, RGB camera; restore" in line
    assert f"mean roll {unit_of(report, '01')['labels']['mean'][2]:.4f}," in line
    assert unit_of(report, "01")["state"] == "labels deviate"
    # The annotations still hold the pose as it was.
    lines = check(tiny_copy, deep=True)["faults"]
    number = int(path.name[6:11])
    assert any("1 of 12 pose.bin are not their pose.txt" in line and f"frames {number};" in line for line in lines)


def test_folders_and_files_without_permission(tiny_copy, monkeypatch):
    """Refused by the functions that list and open, so that the test holds for root as well."""
    folders = [tiny_copy / "hpdb/01", tiny_copy / "synhead2_release/kinect/f01/00"]
    image = files(tiny_copy / "hpdb/03", "*_rgb.png")[0]
    refused = {str(path) for path in [*folders, image]}
    denied = PermissionError(13, "Permission denied")

    def refuse(function):
        def call(path, *arguments, **more):
            if str(path) in refused:
                raise denied
            return function(path, *arguments, **more)

        return call

    monkeypatch.setattr(os, "listdir", refuse(os.listdir))
    monkeypatch.setattr(type(image), "iterdir", refuse(type(image).iterdir))
    monkeypatch.setattr(type(image), "open", refuse(type(image).open))
    report = check(tiny_copy)
    for path in refused:
        assert any(line.startswith(f"{path}: ") and "give yourself the right to read it" in line
                   for line in report["faults"])  # fmt: skip
    assert unit_of(report, "01")["missing"] == 12 and unit_of(report, "03")["state"] == "unreadable 1"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_without_permission_for_the_system(tiny_copy):
    folder = tiny_copy / "hpdb/01"
    folder.chmod(0)
    try:
        report = check(tiny_copy)
    finally:
        folder.chmod(0o755)
    assert any(line.startswith(f"{folder}: ") and "Permission denied" in line for line in report["faults"])


def test_deep_finds_what_the_ends_do_not_show(tiny_copy):
    damaged = [
        files(tiny_copy / "hpdb/01", "*_rgb.png")[0],
        tiny_copy / "synhead2_release/BIWI/f01/00/1.png",
        files(tiny_copy / "synhead2_release/background", "*.png")[0],
    ]
    for path in damaged:
        zero_the_middle(path)
    small = files(tiny_copy / "hpdb/03", "*_rgb.png")[0]
    cv2.imwrite(str(small), np.zeros((10, 20, 3), np.uint8))
    bare = tiny_copy / "synhead2_release/BIWI/f01/00/2.png"
    cv2.imwrite(str(bare), np.full((40, 40, 3), 200, np.uint8))
    assert check(tiny_copy)["faults"] == []
    report = check(tiny_copy, deep=True)
    assert len(report["faults"]) == 5
    for path in damaged:
        assert any(line == f"{path}: damaged image; {verify.RESTORE}" for line in report["faults"])
    width, height = (tiny_copy / "hpdb/03/rgb.cal").read_text().split()[-2:]
    expected = f"{small}: expected {width} x {height} pixels, as rgb.cal says, found 20 x 10; {verify.RESTORE}"
    assert expected in report["faults"]
    assert any(line.startswith(f"{bare}: expected a head before") for line in report["faults"])
    assert unit_of(report, "01")["unreadable"] == 1 and unit_of(report, "BIWI/00")["unreadable"] == 2


def test_deep_reads_the_optional_parts(tiny_copy):
    depth = files(tiny_copy / "hpdb/01", "*_depth.bin")[0]
    depth.write_bytes(depth.read_bytes()[:-40])
    mask = files(tiny_copy / "head_pose_masks/03", "*.png")[0]
    mask.write_bytes(b"")
    mesh = tiny_copy / "hpdb/06.obj"
    mesh.write_text("nothing")
    short = files(tiny_copy / "db_annotations/15", "*.bin")[0]
    short.write_bytes(b"1234")
    other = files(tiny_copy / "db_annotations/15", "*.bin")[1]
    values = list(struct.unpack("<6f", other.read_bytes()))
    other.write_bytes(struct.pack("<6f", *values[:3], values[3] + 0.5, *values[4:]))
    assert not check(tiny_copy)["faults"]
    lines = check(tiny_copy, deep=True)["faults"]
    assert len(lines) == 5
    for path in (depth, mask, mesh, short):
        assert any(line.startswith(f"{path}: ") and "restore" in line for line in lines)
    assert any("1 of 11 pose.bin are not their pose.txt" in line and other.name in line for line in lines)
    (tiny_copy / "hpdb/01/depth.cal").write_text("?")
    assert any("01/depth.cal: " in line for line in check(tiny_copy)["faults"])


# ---- raw SynHead


def test_missing_extra_and_duplicate_images(tiny_copy):
    root = tiny_copy / "synhead2_release"
    folder = root / "BIWI/f01/00"
    rows = len(synhead.read_angles(synhead.Track("BIWI", "00", root / "BIWI/00.csv")))
    (folder / "0.png").unlink()
    (folder / "5.png").unlink()
    (folder / "6.png").unlink()
    other = root / "BIWI/m05/00"
    shutil.copy(other / "3.png", other / f"{rows}.png")
    shutil.copy(other / "3.png", other / "0003.png")
    report = check(tiny_copy)
    assert len(report["faults"]) == 3
    assert f"{folder}: 3 of {rows} images missing: numbers 0 5-6; restore them from the raw archive" in report["faults"]
    assert any(line.startswith(f"{other}: 1 images more than the {rows} poses of 00.csv: numbers {rows};")
               for line in report["faults"])  # fmt: skip
    assert any(line.startswith(f"{other / '3.png'}: image 3 has a second file, 0003.png;") for line in report["faults"])
    unit = unit_of(report, "BIWI/00")
    assert unit["state"] == "missing 3, extra 1, duplicates 1" and unit["present"] == 10 * rows - 3
    assert unit["heads"]["f01"] == {"images": rows - 3, "missing": "0 5-6", "extra": "", "unreadable": 0,
                                    "truncated": 0, "duplicates": 0}  # fmt: skip


def test_where_the_numbers_begin_is_taken_from_the_images():
    assert verify._track_numbers(4, ["1-4", "1-4", "2-4"]) == {1, 2, 3, 4}
    assert verify._track_numbers(4, ["0-3", "0-2", "1-3"]) == {0, 1, 2, 3}
    assert verify._track_numbers(4, ["1-3", "0-2"]) == {0, 1, 2, 3}
    assert verify._track_numbers(4, ["7-9", "8-10"]) == {7, 8, 9, 10}
    assert verify._track_numbers(3, ["0 2-3", "0 2-3"]) == {0, 2, 3}
    assert verify._track_numbers(3, ["0 2-3", "0-2"]) == {0, 1, 2}
    assert verify._track_numbers(3, []) == {0, 1, 2}


def test_images_counted_from_one(tiny_copy):
    root = tiny_copy / "synhead2_release"
    for folder in files(root, "BIWI/*/00"):
        for path in sorted(folder.iterdir(), key=lambda path: -int(path.stem)):
            path.rename(folder / f"{int(path.stem) + 1}.png")
    assert not check(tiny_copy)["faults"]
    (root / "BIWI/f02/00/1.png").unlink()
    only_fault(check(tiny_copy), root / "BIWI/f02/00", "images missing: numbers 1;")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text.replace(",", ";"), "line 1: expected a row a frame"),
        (lambda text: "pitch,yaw,roll\n" + text, "line 1: expected a row a frame"),
        (lambda text: "nan,0,0\n" + text.split("\n", 1)[1], "line 1: expected a row a frame"),
        (lambda text: "", "empty; expected a row a frame"),
        (lambda text: text.split("\n", 1)[1], "rows, but the manifest says"),
    ],
)
def test_unreadable_angles(tiny_copy, change, message):
    path = tiny_copy / "synhead2_release/kinect/00.csv"
    path.write_text(change(path.read_text()))
    report = check(tiny_copy)
    only_fault(report, path, message, "restore")
    assert unit_of(report, "kinect/00")["state"] != "complete" and unit_of(report, "kinect/00")["missing"] == 0


def test_missing_tracks_heads_and_groups(tiny_copy):
    root = tiny_copy / "synhead2_release"
    (root / "BIWI/00.csv").unlink()
    shutil.rmtree(root / "BIWI/f01")
    shutil.rmtree(root / "breitenstein/m01/00")
    shutil.rmtree(root / "kinect")
    shutil.copytree(root / "softkinetic/m02/00", root / "softkinetic/m02/77")
    (root / "softkinetic/55.csv").write_text("0,0,0\n")
    report = check(tiny_copy)
    lines = report["faults"]
    for path, words in {
        root / "BIWI/00.csv": "no such file; expected the angles of track 00",
        root / "BIWI/f01": "no such folder; expected the images of f01 in ",
        root / "breitenstein/m01/00": "no such folder; expected ",
        root / "kinect": "no such folder; expected the angles and images of ",
        root / "softkinetic/m02/77": "images of a track without angles; restore ",
        root / "softkinetic/55.csv": "the manifest has no track softkinetic/55; move ",
    }.items():
        assert any(line.startswith(f"{path}: {words}") for line in lines), path
    assert unit_of(report, "kinect/00")["state"] == "absent"
    assert "no readable angles" in unit_of(report, "BIWI/00")["state"]
    assert unit_of(report, "softkinetic/55")["state"].endswith("not in the manifest")
    total = report["totals"]["synhead"]
    assert total["tracks"] == total["tracks_expected"] - 1  # kinect/00 and BIWI/00 less, 55 more


def test_backgrounds_are_counted_and_none_is_a_warning(tiny_copy):
    folder = tiny_copy / "synhead2_release/background"
    first, *rest = files(folder, "*")
    first.write_bytes(b"")
    report = check(tiny_copy)
    only_fault(report, first, "empty file")
    assert report["totals"]["synhead"]["backgrounds"] == len(rest) > 0
    shutil.rmtree(folder)
    report = check(tiny_copy)
    assert not report["faults"]
    assert report["warnings"] == [f"{folder}: no readable image; training composites the heads on plain colours"]


def test_the_real_totals_are_those_of_the_manifest(tiny):
    """Without a number of frames for each track, the totals of a full SynHead are known."""
    table = manifest.read()
    tracks = table[table["dataset"] == "synhead"]
    assert len(tracks) == verify.SYNHEAD_TRACKS
    assert all(f"{verify.SYNHEAD_TRACKS} tracks with {verify.SYNHEAD_POSES:,} poses" in s for s in tracks["source"])
    totals = verify.verify_raw(None, tiny)["totals"]["synhead"]
    assert totals["expected"] == 510_960 and totals["missing"] == 510_960 - totals["present"]


def test_many_faults_are_cut_in_print_only(tiny_copy):
    for path in files(tiny_copy / "synhead2_release", "*/f01/*/*.png")[:25]:
        path.write_bytes(b"")
    report = check(tiny_copy)
    text = verify.describe_raw(report)
    assert len(report["faults"]) == 25 and report["faults"] == sorted(report["faults"])
    assert "25 faults:" in text and "and 5 more, in --json" in text and text.count("an empty file") == 20


# ---- the real frame


@pytest.mark.real
def test_the_real_frame(real):
    report = verify.verify_raw(real, None, deep=True)
    assert "15,677 of 15,678 missing" in verify.describe_raw(report)
    assert report["faults"][0].startswith(f"{real / 'hpdb/01'}: 498 of 499 frames missing: 4-501;")
    assert all(": no such folder; expected " in line for line in report["faults"][1:])
    assert len(report["faults"]) == 24 and not report["warnings"]
    unit = unit_of(report, "01")
    assert unit["calibration"] == "A" and unit["optional"]["depth"] == 1 and unit["optional"]["mesh"]


@pytest.mark.real
def test_published_label_statistics_are_the_manifests(real):
    """The manifest's deviation is divided by n: with n - 1 it would be off by more than its four digits."""
    published = np.load(real / "Biwi_plus.npz")
    sequence = np.array([str(name).split("/")[0] for name in published["images"]])
    lines = []
    table = manifest.read()
    for row in table[table["dataset"] == "biwi"].to_dict("records"):
        angles = published["pyr"][sequence == row["unit"]]
        found = verify._compare_labels(rot.to_matrix(angles), row, row["unit"], "", lines)
        assert found["state"] == "as in the manifest" and found["difference"] < 6e-5
        listed = [row[name] for name in manifest.LABEL_STATISTICS]
        assert np.abs(np.concatenate([angles.mean(0), angles.std(0)]) - listed).max() < 6e-5
    assert not lines


# ---- built data


@pytest.fixture
def data(built, tmp_path):
    """A copy of the built datasets to damage."""
    return shutil.copytree(built[0], tmp_path / "data")


def dataset_of(report, name):
    return next(unit for unit in report["datasets"] if unit["name"] == name)


def edit(folder, **changes):
    path = folder / shards.INFO
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_shard(folder, index, field, change):
    """Change a field of a shard, and its hash in dataset.json, as a build with a fault would."""
    info = json.loads((folder / shards.INFO).read_text())
    path = folder / info["shards"][index]["file"]
    with h5py.File(path, "r+") as file:
        values = file[field][...]
        change(values)
        file[field][...] = values
    info["shards"][index]["sha256"] = sha256(path)
    edit(folder, shards=info["shards"])
    return path


@pytest.mark.parametrize("deep", [False, True])
def test_whole_data(built, tiny, deep):
    out, _ = built
    report = verify.verify_data(out, tiny / "data_manifest.csv", deep)
    assert not report["faults"] and not report["warnings"] and json.loads(json.dumps(report)) == report
    assert [unit["name"] for unit in report["datasets"]] == list(shards.NAMES)
    hdf5 = list(out.rglob("*.h5"))
    assert report["hashes_checked"] == len(hdf5)
    assert report["bytes_read"] == sum(path.stat().st_size for path in hdf5)
    states = [entry["state"] for entry in report["statistics"]["biwi+"]]
    assert states == ["as in the manifest"] * 4
    _, rotations = shards.read_labels(shards.open_dataset(out / "synhead++"))
    found = report["statistics"]["synhead++"]["found"]
    angles = rot.from_matrix(rotations)
    assert np.allclose(found["mean"], angles.mean(0), atol=1e-5) and np.allclose(found["std"], angles.std(0), atol=1e-5)
    text = verify.describe_data(report)
    assert "-4.0955, -2.4469, 0.7590" in text and "published with the PADACO weights" in text
    assert "convention pyr, RGB camera" in text and f"whole: {len(hdf5)} hashes checked" in text
    assert ("every crop decoded" in text) == deep


def test_one_dataset_or_a_union_by_its_folder(built, tiny):
    out, _ = built
    report = verify.verify_data(out / "biwi+", tiny / "data_manifest.csv")
    assert [unit["name"] for unit in report["datasets"]] == ["biwi+"] and not report["faults"]
    report = verify.verify_data(out / "synhead++", tiny / "data_manifest.csv")
    assert [unit["name"] for unit in report["datasets"]] == ["synhead+", "synbiwi+", "synhead++"]
    assert not report["faults"] and report["statistics"]["synhead++"]["found"]["rows"] > 0


def test_sequences_with_absent_frames_are_not_compared(built):
    report = verify.verify_data(built[0] / "biwi+")  # the manifest of the real Biwi
    assert not report["faults"]
    assert {entry["state"] for entry in report["statistics"]["biwi+"]} == {"absent", "not comparable: absent frames"}
    assert "not comparable, for frames that are absent: 01 (" in verify.describe_data(report)


def test_flipped_halved_and_missing_shards_are_each_named(data, tiny):
    flipped, halved = files(data / "biwi+", "*.h5")[0], files(data / "synbiwi+", "*.h5")[1]
    gone = files(data / "synhead+", "shard-*.h5")[5]
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    halved.write_bytes(halved.read_bytes()[: halved.stat().st_size // 2])
    gone.unlink()
    report = verify.verify_data(data, tiny / "data_manifest.csv", deep=True)
    assert len(report["faults"]) == 3
    for path in (flipped, halved):
        assert any(line.startswith(f"{path}: damaged or changed: ") and verify.BUILD_AGAIN in line
                   for line in report["faults"])  # fmt: skip
    assert f"{gone}: the shard is missing; run the build again to restore it" in report["faults"]
    states = {unit["name"]: unit["state"] for unit in report["datasets"]}
    assert states["biwi+"] == states["synbiwi+"] == "1 shards damaged" and states["synhead+"] == "1 shards missing"
    assert "synhead++" not in report["statistics"]
    sequences = {entry["unit"]: entry["state"] for entry in report["statistics"]["biwi+"]}
    assert sequences["01"] == "absent" and sequences["03"] == "as in the manifest"


def test_no_data_and_broken_descriptions(data, tmp_path):
    with pytest.raises(DatasetError, match="holds no dataset"):
        verify.verify_data(tmp_path / "none")
    (data / "biwi+/dataset.json").write_text("{")
    edit(data / "synbiwi+", schema=99)
    (data / "synhead+/dataset.json").unlink()
    report = verify.verify_data(data)
    for name, words in {
        "biwi+": "which is JSON",
        "synbiwi+": f"expected a dataset of schema {shards.SCHEMA}",
        "synhead+": "build the dataset first",
    }.items():
        assert any(line.startswith(f"{data / name / 'dataset.json'}: ") and words in line for line in report["faults"])


def test_wrong_rows_statistics_and_stray_files(data):
    edit(data / "biwi+", rows=47)
    edit(data / "synhead++", rows=1)
    info = json.loads((data / "synbiwi+" / shards.INFO).read_text())
    edit(data / "synbiwi+", labels=info["labels"] | {"mean": [1, 2, 3]})
    (data / "biwi+/shard-00000-of-00099.h5").write_bytes(b"")
    (data / "synhead+/.shard-00001-of-00040.h5.123.part").write_bytes(b"")
    (data / "synhead+/backgrounds.h5").write_bytes(b"")
    lines = verify.verify_data(data)["faults"]
    assert len(lines) == 6
    for path, words in {
        data / "biwi+/dataset.json": "says 47 rows, but its shards have 48; build again",
        data / "synhead++/dataset.json": "says 1 rows, but its parts have ",
        data / "synbiwi+/dataset.json": "says that the labels' mean is [1, 2, 3], but it is ",
        data / "biwi+/shard-00000-of-00099.h5": "not named in dataset.json",
        data / "synhead+/.shard-00001-of-00040.h5.123.part": "not named in dataset.json",
        data / "synhead+/backgrounds.h5": "damaged or changed: its SHA-256 is not that in dataset.json",
    }.items():
        assert any(line.startswith(f"{path}: {words}") for line in lines), path


def test_a_union_of_other_parts(data):
    edit(data / "synhead+", content_sha256="0" * 64)
    only_fault(verify.verify_data(data), data / "synhead++", "its parts were built again since")
    edit(data / "biwi+", content_sha256="0" * 64)
    assert any("was matched with another Biwi+" in line for line in verify.verify_data(data)["warnings"])


def set_values(index, value):
    def change(values):
        values[index] = value

    return change


def copy_first(values):
    values[1] = values[0]


@pytest.mark.parametrize(
    "field, change, message",
    [
        ("id", set_values(2, b""), "1 empty ids"),
        ("id", copy_first, "1 ids are in more than one row, such as biwi/03/"),
        ("label/rotation", set_values((0, 0, 0), 2.0), "1 label/rotation are no rotations, the first of biwi/03/"),
        ("label/rotation", set_values((3, 1, 1), np.nan), "1 label/rotation are no rotations"),
        ("label/rotation", set_values(0, -np.eye(3)), "1 label/rotation are no rotations"),
        ("label/pyr", set_values((4, 1), 77.0), "1 label/pyr are not the angles (degrees, convention pyr"),
        ("label/pyr", set_values((4, 1), np.nan), "1 label/pyr are not the angles"),
    ],
)
def test_wrong_labels_in_a_shard(data, tiny, field, change, message):
    edit_shard(data / "biwi+", 1, field, change)
    report = verify.verify_data(data / "biwi+", tiny / "data_manifest.csv")
    only_fault(report, data / "biwi+", message, "build again" if "more" not in message else "run the build again")


def test_labels_of_another_camera_deviate_from_the_manifest(data, tiny):
    angles = []

    def turn(values):
        values[:] = rot.in_plane(0.5) @ values
        angles.append(rot.from_matrix(values))

    def follow(values):
        values[:] = angles[0]

    edit_shard(data / "biwi+", 0, "label/rotation", turn)
    edit_shard(data / "biwi+", 0, "label/pyr", follow)
    report = verify.verify_data(data / "biwi+", tiny / "data_manifest.csv")
    assert any("sequence 01: mean roll " in line and "expected" in line for line in report["faults"])
    assert report["statistics"]["biwi+"][0]["state"] == "deviates"


def test_deep_decodes_every_crop(data, tiny):
    def spoil(values):
        values[: len(values) // 3] = 0

    path = edit_shard(data / "synbiwi+", 2, "image/bytes", spoil)
    assert not verify.verify_data(data / "synbiwi+")["faults"]
    report = verify.verify_data(data / "synbiwi+", deep=True)
    assert report["faults"] and all(
        line.startswith(f"{path}: the crop of synbiwi/") and "cannot be decoded" in line for line in report["faults"]
    )
    info = json.loads((data / "biwi+" / shards.INFO).read_text())
    edit(data / "biwi+", parameters=info["parameters"] | {"size": 64})
    report = verify.verify_data(data / "biwi+", tiny / "data_manifest.csv", deep=True)
    assert len(report["faults"]) == 48 and "is 32 x 32, expected 64 x 64" in report["faults"][0]
