import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from headposeplus import rotations as rot
from headposeplus.errors import HeadposeError, ImageError, RawDataError
from headposeplus.files import sha256
from headposeplus.images import check_whole, read_image
from headposeplus.raw import biwi, manifest, synhead
from headposeplus.raw.biwi import CALIBRATION_TOLERANCE
from headposeplus.verify import raw as verify_raw
from headposeplus.verify import tracks
from headposeplus.verify.describe import describe_raw
from headposeplus.verify.report import LABEL_TOLERANCE, HeadCheck, compare_labels, to_json


def check(raw, deep=False, jobs=1):
    return verify_raw.verify_raw(raw / "hpdb", raw / "synhead2_release", raw / "data_manifest.csv", deep, jobs)


def unit_of(report, name):
    return next(unit for unit in report.units if unit.unit == name)


def files(folder, pattern):
    return sorted(folder.glob(pattern))


def zero_the_middle(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3] + bytes(len(data) // 3) + data[2 * (len(data) // 3) :])
    return path


# ---- whole raw copies


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_copy_is_complete(tiny, deep):
    report = check(tiny, deep)
    assert report.faults == report.warnings == []
    assert {unit.state for unit in report.units} == {"complete"}
    images = len(files(tiny / "synhead2_release", "*/*/*/*.png"))
    of_biwi, of_synhead = report.totals["biwi"], report.totals["synhead"]
    assert of_biwi.expected == of_biwi.present == 48
    assert of_synhead.present == of_synhead.expected == images
    assert of_synhead.tracks == 9 and of_synhead.backgrounds == 4
    assert report.manifest.sha256 == sha256(tiny / "data_manifest.csv") and report.deep == deep
    files_of_01 = unit_of(report, "01").optional
    kinds = ("depth", "masks", "annotations", "meshes", "depth_cal")
    assert [getattr(files_of_01, kind) for kind in kinds] == [12, 12, 12, 1, 1]
    text = describe_raw(report)
    assert text.endswith(f"raw Biwi: complete: 48 of 48 frames\nraw SynHead: complete: {images:,} of {images:,} images")
    text = " ".join(text.split())
    assert "convention pyr, RGB camera; within 0.001): 4 as in the manifest" in text
    assert ("pose.bin against pose.txt: 48 compared" in text) == deep
    for unit in report.units[:4]:  # the label statistics by SciPy's way round
        folder = tiny / "hpdb" / unit.unit
        camera = np.loadtxt(folder / "rgb.cal", skiprows=6, max_rows=3)
        poses = np.stack([np.loadtxt(path, max_rows=3) for path in files(folder, "*_pose.txt")])
        angles = Rotation.from_matrix(rot.FLIP @ camera @ poses @ rot.FLIP).as_euler("xyz", degrees=True)
        assert np.abs(angles.mean(0) - unit.labels.mean).max() < 1e-5
        assert np.abs(np.sqrt(np.cov(angles.T, ddof=0).diagonal()) - unit.labels.std).max() < 1e-5
        assert unit.labels.difference < 2e-4 < LABEL_TOLERANCE


def test_roots_are_found_below_and_absent_copies_are_told(tiny, tmp_path):
    report = verify_raw.verify_raw(tiny, None, tiny / "data_manifest.csv")
    assert report.roots == {"biwi": str(tiny / "hpdb")} and set(report.totals) == {"biwi"}
    with pytest.raises(RawDataError, match="not raw SynHead"):
        verify_raw.verify_raw(tiny / "hpdb", tmp_path)
    with pytest.raises(RawDataError, match="no such folder"):
        verify_raw.verify_raw(tmp_path / "none", None)
    with pytest.raises(HeadposeError, match="nothing to verify"):
        verify_raw.verify_raw(None, None)
    (tmp_path / "manifest.csv").write_text("dataset\n")
    with pytest.raises(HeadposeError, match="lacks the columns"):
        verify_raw.verify_raw(tiny, None, tmp_path / "manifest.csv")


def test_a_mirror_with_jpeg_and_without_optional_parts(tiny, tmp_path):
    skip = shutil.ignore_patterns("*.bin", "*.obj", "depth.cal")
    root = shutil.copytree(tiny / "hpdb", tmp_path / "faces_0", ignore=skip)
    for path in files(root, "01/*_rgb.png"):
        cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))
        path.unlink()
    report = verify_raw.verify_raw(tmp_path, None, tiny / "data_manifest.csv", deep=True)
    assert not report.faults and report.totals["biwi"].complete == 4
    assert not any(to_json(report)["units"][0]["optional"].values())


def test_the_real_totals_are_those_of_the_manifest(tiny):
    """Without a number of frames for each track, the totals of a full SynHead are known."""
    tracks = [row for row in manifest.read() if row.dataset == "synhead"]
    assert all(f"{len(tracks)} tracks with {verify_raw.SYNHEAD_POSES:,} poses" in row.source for row in tracks)
    report = verify_raw.verify_raw(None, tiny)
    totals = report.totals["synhead"]
    assert totals.expected == 510_960 and totals.missing == 510_960 - totals.present
    assert "510,960 images missing" in describe_raw(report).splitlines()[-1]


def test_the_calibration_tolerance_is_between_rounding_and_the_other_group():
    groups = [np.array(biwi.CALIBRATION_ROTATIONS[group]) for group in "AB"]
    rounded = [np.array([[float(f"{value:.6g}") for value in row] for row in matrix]) for matrix in groups]
    rounding = max(rot.geodesic(*map(rot.nearest_rotation, pair)) for pair in zip(groups, rounded, strict=True))
    apart = rot.geodesic(*map(rot.nearest_rotation, groups))
    assert 100 * rounding < CALIBRATION_TOLERANCE < apart / 100


def test_where_the_numbers_begin_is_taken_from_the_images():
    def of(rows, *found):
        return manifest.to_ranges(tracks._track_numbers(rows, [set(manifest.from_ranges(r)) for r in found]))

    assert of(4, "1-4", "1-4", "2-4") == "1-4" and of(4, "0-3", "0-2", "1-3") == "0-3"
    assert of(4, "1-3", "0-2") == "0-3" and of(4, "7-9", "8-10") == "7-10"
    assert of(3, "0 2-3", "0 2-3", "0-2") == "0 2-3" and of(3) == "0-2"


# ---- one damaged raw copy, with everything at once

IMAGE_DAMAGE = [  # how, kind of fault, words
    ("cut", "truncated", "truncated image ("),
    ("cut and padded", "truncated", "truncated image ("),
    ("empty", "unreadable", "expected a PNG or JPEG image, found an empty file"),
    ("text", "unreadable", "found something else"),
    ("zeros", "unreadable", "found something else"),
    ("folder", "unreadable", "cannot be read: Is a directory"),
    ("link", "unreadable", "cannot be read"),
]
POSE_DAMAGE = [
    ("", "found nothing"),
    ("nan 0 0\n0 1 0\n0 0 1\n\n0 0 900\n", "expected three rows of a rotation"),
    ("1 0 0\n0 1 0\n0 0 -1\n\n0 0 900\n", "its determinant is not positive"),
    ("1 0 0\n0 1 0\n0 0 1\n\n0 0 0\n", "mm before the camera"),
    ("1 0 0\n0 1 0\n", "found 2 rows"),
]


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
    return path


@pytest.mark.parametrize("how, kind, words", [*IMAGE_DAMAGE, ("none", None, "")])
@pytest.mark.parametrize("padding", [0, 40, 57, 64, 5000])
def test_images_are_judged_by_their_ends_as_the_reader_does(tiny, tmp_path, how, kind, words, padding):
    path = shutil.copy(files(tiny / "hpdb/01", "*_rgb.png")[0], tmp_path)
    path = Path(path) if how == "none" else damage(Path(path), how)
    if path.is_file():
        path.write_bytes(path.read_bytes() + bytes(padding))
    found = []
    for reader in (check_whole, read_image):
        try:
            reader(path)
        except ImageError as error:
            found.append(str(error))
    assert len(found) == 2 * bool(kind) and len(set(found)) <= 1
    assert kind is None or (how == "empty" and padding) or words in found[0]


def damage_biwi(raw):
    """Damage raw Biwi; return what each fault says, by its file, and what only a deep check says."""
    root, table = raw / "hpdb", pd.read_csv(raw / "data_manifest.csv", dtype=str)
    shutil.copytree(root / "01", root / "30")
    for name in ("40", "41", "42"):
        shutil.copytree(root / "06", root / name)
    (root / "32").write_text("")
    (root / "33").mkdir()
    shutil.copy(root / "01/rgb.cal", root / "33")
    for name, like in (("31", "01"), ("32", "01"), ("33", "01"), ("40", "06"), ("41", "06"), ("42", "06")):
        table = pd.concat([table, table[(table["unit"] == like) & (table["dataset"] == "biwi")].assign(unit=name)])
    table.to_csv(raw / "data_manifest.csv", index=False)
    (root / "40/rgb.cal").unlink()
    (root / "41/rgb.cal").write_text("517 0 320\n")
    shutil.copy(root / "01/rgb.cal", root / "42")
    images, poses = files(root, "01/*_rgb.png"), files(root, "01/*_pose.txt")
    numbers = [int(path.name[6:11]) for path in images]
    gone = manifest.to_ranges([numbers[0], *numbers[4:6]])
    for path in (images[0], poses[0]):
        path.rename(path.with_name(path.name.replace(f"{numbers[0]:05d}", "90000")))
    for path in (*images[4:6], *poses[4:6]):
        path.unlink()
    quick = [
        (root / "30", "the manifest has no sequence 30; move"),
        (root / "31", "cannot be read: No such file or directory; expected a folder; restore"),
        (root / "32", "cannot be read: Not a directory; expected a folder; restore"),
        (root / "33", "12 of 12 frames missing: "),
        (root / "40/rgb.cal", "No such file"),
        (root / "41/rgb.cal", "expected a calibration"),
        (root / "42/rgb.cal", "not the calibration of this sequence, whose group is B; restore"),
        (root / "01", f"3 of 12 frames missing: {gone}; restore"),
        (root / "01", "1 frame that the manifest does not list: 90000; move"),
        (root / "03", "2 of 12 frames missing"),
    ]
    images, poses = files(root, "03/*_rgb.png"), files(root, "03/*_pose.txt")
    for path, (how, _, words) in zip(images, IMAGE_DAMAGE, strict=False):
        quick.append((damage(path, how), words))
    for path, (content, words) in zip(poses, POSE_DAMAGE, strict=False):
        path.write_text(content)
        quick.append((path, words))
    for path in (images[10], poses[11], biwi.annotation(root, "03", int(poses[11].name[6:11]))):
        path.unlink()
    quick.append((poses[10], f"no {images[10].name} or .jpg beside it; restore"))
    quick.append((images[11], f"no {poses[11].name} beside it; restore"))
    deep = [(zero_the_middle(images[8]), "damaged image; restore")]
    cv2.imwrite(str(images[9]), np.zeros((10, 20, 3), np.uint8))
    deep.append((images[9], "20 x 10 pixels, but the calibration says 160 x 120; restore"))
    files(root, "06/*_pose.txt")[0].unlink()  # the annotations have it
    turned, other = files(root, "15/*_pose.txt")[:2]
    pose = biwi.read_pose(turned)
    rows = [" ".join(f"{value:.6g}" for value in row) for row in rot.in_plane(0.1) @ pose.rotation]
    turned.write_text("\n".join([*rows, "", " ".join(map(str, pose.centre))]))  # moves the mean by about 0.1 / 12
    row = table[(table["unit"] == "15") & (table["dataset"] == "biwi")].iloc[0]
    expected = f"expected {float(row['mean_roll']):.4f} degrees, convention pyr, RGB camera; restore"
    quick += [(root / "15: mean roll", expected), (root / "15: std roll", "expected ")]
    annotations = biwi.annotation(root, "15", 0).parent
    deep.append((annotations, "1 of 11 pose.bin is not its pose.txt within 0.01 degrees and 0.05 mm: frames "
                 f"{int(turned.name[6:11])};"))  # fmt: skip
    short = annotations / other.name.replace("pose.txt", "pose.bin")
    depth, mask = files(root, "15/*_depth.bin")[0], files(raw, "head_pose_masks/15/*.png")[0]
    for path in (short, depth, mask, root / "15.obj", root / "15/depth.cal"):
        path.write_bytes(path.read_bytes()[:10])
        deep.append((path, "; restore it"))
    return quick, deep


def damage_synhead(root):
    """As :func:`damage_biwi`."""
    tracks = [track for track in synhead.tracks(root) if track.group == "BIWI"]
    gaps, counted, absent, garbled = (track.csv.with_suffix("") for track in tracks)
    group = root / "BIWI"
    f01, m05 = (group / head / gaps.name for head in ("f01", "m05"))
    for name in ("00", "05", "06"):
        (f01 / f"{name}.png").unlink()
    shutil.copy(m05 / "03.png", m05 / "10.png")
    shutil.copy(m05 / "03.png", m05 / "0003.png")
    for folder in files(group, f"*/{counted.name}"):
        for path in sorted(folder.iterdir(), key=lambda path: -int(path.stem)):
            path.rename(folder / f"{int(path.stem) + 1}.png")
    (group / "f02" / counted.name / "1.png").unlink()
    absent.with_suffix(".csv").unlink()
    garbled.with_suffix(".csv").write_text("0;0;0\n")
    first, second = files(root / "breitenstein", "*.csv")
    rows = len(second.read_text().split())
    second.write_text(second.read_text().split("\n", 1)[1])
    shutil.rmtree(root / "breitenstein/m01" / first.stem)
    shutil.rmtree(root / "kinect")
    shutil.rmtree(root / "softkinetic/f04")
    (root / "softkinetic/55.csv").write_text("0,0,0\n")
    other, background = files(root, "background/*.png")[0], files(root, "background/*.jpg")[0]
    background.write_bytes(b"")
    quick = [
        (f01, "3 of 10 images missing: numbers 0 5-6; restore"),
        (m05, "1 image more than the 10 poses of"),
        (m05 / "03.png", "image 3 has a second file, 0003.png; delete"),
        (group / "f02" / counted.name, "1 of 10 images missing: numbers 1; restore"),
        (absent.with_suffix(".csv"), "No such file"),
        (garbled.with_suffix(".csv"), "line 1: expected a row a frame"),
        (second, f"{rows - 1} rows, but the manifest says {rows}; restore"),
        (root / "breitenstein/m01" / first.stem, "cannot be read: No such file or directory; expected a folder"),
        (root / "kinect", "cannot be read: No such file or directory; expected a folder; restore"),
        (root / "softkinetic/f04", "cannot be read: No such file or directory; expected a folder"),
        (root / "softkinetic/55.csv", "the manifest has no track softkinetic/55; move"),
        (background, "empty file"),
    ]
    # A head with a row less has an image more, and no head has images of the track that is not in the manifest.
    quick += [
        (folder, f"1 image more than the {rows - 1} poses") for folder in files(root, f"breitenstein/*/{second.stem}")
    ]
    quick += [(root / "softkinetic" / head / "55", "expected a folder") for head in synhead.HEADS if head != "f04"]
    bare = f01 / "02.png"
    deep = [(zero_the_middle(f01 / "01.png"), "damaged image"), (bare, "expected a head before")]
    cv2.imwrite(str(bare), np.full((40, 40, 3), 200, np.uint8))
    return quick, [*deep, (zero_the_middle(other), "damaged image")]


@pytest.fixture(scope="module")
def damaged(tiny, tmp_path_factory):
    """A copy with every damage: its folder, what each fault says (quick, deep), and the reports (quick, deep)."""
    raw = shutil.copytree(tiny, tmp_path_factory.mktemp("damaged") / "raw")
    told = [[*a, *b] for a, b in zip(damage_biwi(raw), damage_synhead(raw / "synhead2_release"), strict=True)]
    return raw, (told[0], told[0] + told[1]), (check(raw), check(raw, deep=True))


@pytest.mark.parametrize("deep", [False, True])
def test_every_fault_is_one_line_and_there_is_no_other(damaged, deep):
    _, told, reports = damaged
    lines = [str(fault) for fault in reports[deep].faults]
    for start, words in told[deep]:
        assert any(line.startswith(str(start)) and words in line for line in lines), (start, words)
    unknown = [line for line in lines if not any(line.startswith(str(s)) and w in line for s, w in told[deep])]
    assert not unknown and len(set(lines)) == len(lines)
    assert all("\n" not in line and "; " in line for line in lines)


def test_states_and_totals(damaged):
    raw, _, (report, deep) = damaged
    states = {unit.unit: unit.state for unit in report.units}
    assert states["01"] == "missing 3, extra 1" and states["03"] == "missing 2, unreadable 7, truncated 2"
    assert states["06"] == "complete" and states["15"] == "labels deviate"
    assert [states[name] for name in ("31", "32", "33", "kinect/00")] == ["absent"] * 4
    assert states["30"].endswith("not in the manifest") and states["softkinetic/55"].endswith("not in the manifest")
    assert [states[name] for name in ("40", "41", "42")] == ["rgb.cal faulty"] * 3
    (warning,) = report.warnings
    assert report.warnings == deep.warnings and str(warning).startswith(str(raw / "hpdb/06: no pose.txt of"))
    gaps = next(unit for unit in report.units if unit.unit.startswith("BIWI/"))
    assert gaps.state == "missing 3, extra 1, duplicates 1" and gaps.present == 97
    assert gaps.heads["f01"] == HeadCheck(images=7, missing="0 5-6", extra="")
    assert [state.partition(",")[0] for name, state in states.items() if name.startswith("BIWI/")][1:] == [
        "missing 1", "no readable angles", "no readable angles",
    ]  # fmt: skip
    assert unit_of(report, "01").labels.state.startswith("not comparable")
    assert unit_of(deep, "15").state == "labels deviate, optional files damaged"
    assert unit_of(deep, "03").unreadable == unit_of(report, "03").unreadable + 2
    totals = report.totals["biwi"]
    assert totals.missing == 3 + 2 + 36 and totals.expected == 120 and totals.present == 79
    assert report.totals["synhead"].backgrounds == 3 and deep.totals["synhead"].backgrounds == 2
    lines = describe_raw(report).splitlines()
    assert lines[-2].startswith("raw Biwi: not complete: 41 of 120 frames missing; ")
    count = len(report.faults)
    at = lines.index(f"{count} faults:")
    assert lines[at + 1 : at + 21] == [str(fault) for fault in report.faults[:20]]
    assert lines[at + 21] == f"and {count - 20} more, in --json"


def test_reports_are_json_and_do_not_depend_on_jobs(damaged):
    raw, _, (report, _) = damaged
    assert report == check(raw, jobs=2)
    content = to_json(report)
    assert json.loads(json.dumps(content)) == content
    for fault, told in zip(report.faults, content["faults"], strict=True):
        assert Path(told["file"]) == fault.file and told["what"] == fault.what and told["mend"] == fault.mend
        assert str(fault) == f"{told['where']}: {told['what']}; {told['mend']}"
    assert content["units"][-1]["heads"]["f01"].keys() == {"images", "missing", "extra"}
    assert "truncated" in {fault["kind"] for fault in content["faults"]}


def test_folders_and_files_without_permission(tiny, monkeypatch):
    """Refused by the functions that list and open, so that the test holds for root as well."""
    image = files(tiny / "hpdb/03", "*_rgb.png")[0]
    head = tiny / "synhead2_release/kinect/f01/00"
    refused = {tiny / "hpdb/01", head, tiny / "synhead2_release/softkinetic", image}

    def refuse(function):
        def call(path, *arguments, **more):
            if Path(path) in refused:
                raise PermissionError(13, "Permission denied")
            return function(path, *arguments, **more)

        return call

    for place, name in ((os, "listdir"), (os, "open")):
        monkeypatch.setattr(place, name, refuse(getattr(place, name)))
    report = check(tiny)
    assert {fault.file for fault in report.faults} == refused and len(report.faults) == len(refused)
    assert {fault.mend for fault in report.faults} == {"give yourself the right to read it"}
    assert unit_of(report, "01").missing == 12 and unit_of(report, "03").state == "unreadable 1"
    assert unit_of(report, "softkinetic/00").state == "absent"


# ---- the real frame


@pytest.mark.real
def test_the_real_frame(real):
    report = verify_raw.verify_raw(real / "hpdb", None, deep=True)
    assert "15,677 of 15,678 frames missing; 24 faults" in describe_raw(report)
    assert str(report.faults[0]).startswith(f"{real / 'hpdb/01'}: 498 of 499 frames missing: 4-501;")
    assert not report.warnings
    unit = unit_of(report, "01")
    assert unit.state == "missing 498" and unit.optional.depth == unit.optional.meshes == 1


@pytest.mark.real
def test_published_label_statistics_are_the_manifests(real):
    """The manifest's deviation is divided by n: with n - 1 it would be off by more than its four digits."""
    published = np.load(real / "Biwi_plus.npz")
    sequence = np.array([str(name).split("/")[0] for name in published["images"]])
    listed = manifest.listed_sequences(manifest.read())
    assert len(listed) == 24
    for name, row in listed.items():
        angles = published["pyr"][sequence == name]
        labels, faults = compare_labels(angles, row, real)
        assert not faults and labels.state == "as in the manifest" and labels.difference < 6e-5
        assert np.abs(np.concatenate([angles.mean(0), angles.std(0)]) - row.statistics).max() < 6e-5
