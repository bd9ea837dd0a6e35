import os
import random
import zlib

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from headposeplus.boxes.geometry import of_face
from headposeplus.errors import DatasetError, ImageError, RawDataError
from headposeplus.raw import manifest, stills, targets
from headposeplus.raw.aflw2000 import AFLW2000, read_label
from headposeplus.raw.matlab import read_arrays
from headposeplus.rotations import from_matrix
from tests.photographs import PHOTOGRAPHS, write_photograph

PARTS = {"Pose_Para": np.full((1, 7), 1e-3, np.float32), "pt3d_68": np.full((3, 68), 200.0)}


def by_hand(angles):
    """Rotations (n, 3, 3) of pitch, yaw and roll in radians, by the formula of the papers: Rx(-p) Ry(-y) Rz(-r)."""
    (cp, cy, cr), (sp, sy, sr) = np.cos(angles.T), np.sin(angles.T)
    zero, one = np.zeros(len(angles)), np.ones(len(angles))
    x = np.array([[one, zero, zero], [zero, cp, sp], [zero, -sp, cp]])
    y = np.array([[cy, zero, -sy], [zero, one, zero], [sy, zero, cy]])
    z = np.array([[cr, sr, zero], [-sr, cr, zero], [zero, zero, one]])
    flip = np.diag([1, -1, -1])  # their y points up and their z to the viewer
    return np.einsum("ab,bcn,cdn,den,ef->naf", flip, x, y, z, flip)


def test_labels_are_the_rotations_of_the_angles(photographs):
    for number, angles in PHOTOGRAPHS.items():
        label = read_label(photographs / f"image{number:05d}.mat")
        np.testing.assert_allclose(label.rotation, by_hand(np.deg2rad(np.array([angles])))[0], atol=1e-6)
        assert label.scale == pytest.approx(1.2)
        # 56 mm behind the nose, seen from the front, is behind the nose; seen from the side, beside it.
        assert label.centre[0] == pytest.approx(230 + 1.2 * (label.rotation @ [0.3, -0.6, 56.4])[0])
    assert read_label(photographs / "image00002.mat").centre == pytest.approx([230.36, 239.28])


def test_photographs_beyond_99_degrees_are_told_with_their_angles(photographs):
    beyond = {number: read_label(photographs / f"image{number:05d}.mat").beyond for number in PHOTOGRAPHS}
    assert {number for number, words in beyond.items() if words} == {40, 41}
    assert beyond[41] == "pitch -300.0, yaw 95.0, roll 297.0"


def test_a_copy_is_found_and_listed_by_number(photographs, tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/AFLW2000").symlink_to(photographs)
    assert AFLW2000.find_root(tmp_path).resolve() == photographs
    found, faults = AFLW2000.list_stills(AFLW2000.find_root(photographs))
    assert [still.number for still in found] == sorted(PHOTOGRAPHS) and not faults
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RawDataError, match=r"not raw AFLW2000-3D; expected files such as image00002\.jpg and"):
        AFLW2000.find_root(empty)


@pytest.mark.parametrize(
    "text",
    [
        "aflw2000/image00021",
        "image00021",
        "AFLW2000/image00021",
        "image00021.jpg",
        "x/y/image00021.mat",
        r"x\image00021.jpg",
    ],
)
def test_names_of_photographs(text):
    assert targets.parse_frame(text) == "aflw2000/image00021"
    assert targets.file_of("aflw2000/image00021") == "image00021.jpg"


@pytest.mark.parametrize(
    "text", ["ximage00021", "aflw2000/image21", "image00021.png", "aflw2000/image00021.jpg x", "", "é"]
)
def test_what_is_no_name_of_a_photograph(text):
    assert targets.parse_frame(text) is None


def test_tasks_name_their_target():
    assert targets.split_task("pda") == ("pda", "biwi+") and targets.split_task("pda-aflw2000") == ("pda", "aflw2000")
    for kind, target in (("da", "biwi+"), ("cross", "aflw2000")):
        assert targets.split_task(targets.join_task(kind, target)) == (kind, target)
    assert targets.of_protocol("aflw2000/cross@1") == "aflw2000" and targets.of_protocol("lab/faces@1") is None


# ---- damaged files


def saved(folder, **parts):
    savemat(folder / "image00002.mat", {name: values for name, values in (PARTS | parts).items() if values is not None})
    return folder / "image00002.mat"


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"Pose_Para": None}, r"holds no Pose_Para; expected a MATLAB file with Pose_Para \(1, 7\)"),
        ({"pt3d_68": None}, "holds no pt3d_68; expected"),
        ({"Pose_Para": np.zeros((1, 6))}, r"Pose_Para is \(1, 6\); expected \(1, 7\)"),
        ({"pt3d_68": np.zeros((2, 68))}, r"pt3d_68 is \(2, 68\); expected \(3, 68\)"),
        ({"Pose_Para": np.full((1, 7), np.nan)}, "Pose_Para holds numbers that are not finite"),
        ({"Pose_Para": np.full((1, 7), "x")}, "holds no Pose_Para"),
        ({"Pose_Para": np.full((1, 7), 1j)}, "holds no Pose_Para"),
        ({"Pose_Para": np.zeros((1, 7))}, "the scale of Pose_Para is 0 pixels per millimetre; expected 0.1 to 50"),
        ({"pt3d_68": np.full((3, 68), 1e6)}, "has the nose at .*; expected a place in the image"),
    ],
)
def test_labels_that_are_none(tmp_path, parts, says):
    path = saved(tmp_path, **parts)
    with pytest.raises(RawDataError, match=says) as error:
        read_label(path)
    assert str(error.value).startswith(f"{path}: ") and str(error.value).endswith("restore it from the raw archive")


def test_labels_that_cannot_be_read(tmp_path):
    (tmp_path / "image00002.mat").mkdir()
    with pytest.raises(RawDataError, match=r"image00002\.mat: cannot be read: Is a directory; expected a MATLAB file"):
        read_label(tmp_path / "image00002.mat")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_labels_are_told_or_read_never_worse(tmp_path, compressed):
    """SciPy's own reader brings the process down on some of these."""
    path = tmp_path / "image00002.mat"
    savemat(path, PARTS, do_compression=compressed)
    whole, rng = path.read_bytes(), random.Random(0)
    cases = [whole[:length] for length in range(0, len(whole), 61)]
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 8, 50))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cases.append(bytes(data))
    told = 0
    for data in cases:
        path.write_bytes(data)
        try:
            label = read_label(path)
        except RawDataError as error:
            told += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            assert np.isfinite(label.rotation).all()
    assert told > 600


def test_a_variable_that_unpacks_without_end_is_refused():
    packed = bytearray(b"MATLAB 5.0".ljust(124) + b"\0\1IM")
    content = zlib.compress(bytes(64 << 20))
    packed += (15).to_bytes(4, "little") + len(content).to_bytes(4, "little") + content
    with pytest.raises(ValueError, match="cut off or too large"):
        read_arrays(bytes(packed), ("x",))


def test_numbers_are_those_that_scipy_reads(tmp_path):
    rng = np.random.default_rng(0)
    kinds = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64)
    arrays = {f"a{i}": rng.integers(0, 100, (i + 1, 3)).astype(kind) for i, kind in enumerate(kinds)}
    for compressed in (False, True):
        savemat(tmp_path / "a.mat", {**arrays, "text": "words", "cell": {"x": 1}}, do_compression=compressed)
        found = read_arrays((tmp_path / "a.mat").read_bytes(), (*arrays, "text", "cell"))
        assert found.keys() == arrays.keys()
        for name, values in arrays.items():
            np.testing.assert_array_equal(found[name], values)


def test_files_without_the_other_are_told(photographs_copy):
    os.remove(photographs_copy / "image00004.mat")
    os.remove(photographs_copy / "image00008.jpg")
    (photographs_copy / "image00004_notes.txt").write_text("")
    found, faults = AFLW2000.list_stills(photographs_copy)
    assert [still.number for still in found] == [number for number in sorted(PHOTOGRAPHS) if number not in (4, 8)]
    assert list(map(str, faults)) == [
        f"{photographs_copy / 'image00004.jpg'}: no image00004.mat beside it; restore both from the raw archive",
        f"{photographs_copy / 'image00008.mat'}: no image00008.jpg beside it; restore both from the raw archive",
    ]
    with pytest.raises(DatasetError, match=r"image00004\.jpg: no image00004\.mat beside it.*\(faults in all: 2\)"):
        stills.read_rotations(AFLW2000, photographs_copy)


def test_images_of_another_size(tmp_path):
    write_photograph(tmp_path, 2, (0, 0, 0))
    cv2.imwrite(str(tmp_path / "image00002.jpg"), np.zeros((450, 300, 3), np.uint8))
    with pytest.raises(ImageError, match="expected 450 x 450 pixels, found 300 x 450; restore it"):
        AFLW2000.read_image(tmp_path / "image00002.jpg")


def test_a_copy_of_nothing_but_outliers_is_no_test_set(tmp_path):
    write_photograph(tmp_path, 2, (120, 0, 0))
    with pytest.raises(DatasetError, match="no photograph of AFLW2000-3D is part of the test set"):
        stills.read_rotations(AFLW2000, tmp_path)


# ---- the real one


@pytest.mark.real
def test_the_real_copy_is_what_the_manifest_says(real_photographs):
    ids, rotations = stills.read_rotations(AFLW2000, real_photographs)
    parts = manifest.listed_units(manifest.read(), "aflw2000")
    assert [AFLW2000.id(number) for number in parts["tested"].numbers] == ids.tolist() and len(ids) == 1969
    angles = from_matrix(rotations)
    np.testing.assert_allclose([*angles.mean(0), *angles.std(0)], parts["tested"].statistics, atol=1e-4)
    found = {still.number: still for still in AFLW2000.list_stills(real_photographs)[0]}
    assert len(found) == 2000
    raw = {number: loadmat(still.label)["Pose_Para"][0, :3].astype(float) for number, still in found.items()}
    beyond = {number for number, pose in raw.items() if np.abs(np.rad2deg(pose)).max() > 99}
    assert beyond == set(parts["beyond"].numbers) == found.keys() - set(parts["tested"].numbers)
    expected = by_hand(np.array([raw[number] for number in parts["tested"].numbers]))
    np.testing.assert_allclose(rotations, expected, atol=1e-12)


@pytest.mark.real
def test_real_landmarks_lie_where_the_rotations_say(real_photographs):
    """Turned back by its rotation, every face has its landmarks in the same places, whatever its pose."""
    upright, mirrored = [], []
    for still in AFLW2000.list_stills(real_photographs)[0][::20]:
        label, points = read_label(still.label), loadmat(still.label)["pt3d_68"].astype(float)
        if label.beyond:
            continue
        # Down and away from the camera in the picture; the file's third row points to the viewer.
        seen = (points - points.mean(axis=1, keepdims=True)) * np.array([[1], [1], [-1]]) / label.scale
        upright.append(label.rotation.T @ seen)
        mirrored.append(label.rotation @ seen)
    assert np.std(upright, axis=0).mean() < 4 and np.std(mirrored, axis=0).mean() > 20  # mm
    nose, chin = np.mean(upright, axis=0)[:, [30, 8]].T
    assert chin[1] - nose[1] > 60 and nose[2] < chin[2] - 20


@pytest.mark.real
def test_real_boxes_hold_every_landmark(real_photographs):
    """Hidden ones as well; and what they frame has about the size that it has in Biwi+."""
    sides = []
    for still in AFLW2000.list_stills(real_photographs)[0]:
        label = read_label(still.label)
        if label.beyond:
            continue
        x, y, width, height = of_face(label.rotation, label.centre, label.scale)
        across, down, _ = loadmat(still.label)["pt3d_68"]
        assert x < across.min() and across.max() < x + width and y < down.min() and down.max() < y + height, still
        assert width == height
        sides.append(width / label.scale)
    assert min(sides) > 200 and max(sides) < 290 and len(sides) == 1969  # mm
