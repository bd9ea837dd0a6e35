import csv

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from headposeplus import rotations as rot
from headposeplus.errors import HeadposeError
from headposeplus.poses import convert
from headposeplus.poses.columns import MATRIX_COLUMNS, QUATERNION_COLUMNS
from headposeplus.raw import biwi

ANGLES = [[5.0, -20, 3], [-41.503, 62.064, 12.802], [0, 0, 0], [30, -75, -40]]
IDS = ["biwi/01/00003", "biwi/06/00000", "24/frame_00622_rgb.png", "x/hpdb/15/frame_00000_rgb.jpg"]


def write(path, columns):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, zip(*rows, strict=True), strict=True))


def numbers(table, names):
    return np.array([[float(value) for value in table[name]] for name in names]).T


def angle_columns(angles, names=rot.ANGLES):
    return dict(zip(names, np.asarray(angles).T.tolist(), strict=True))


@pytest.mark.real
def test_published_labels_of_the_depth_camera_become_those_of_the_rgb_camera(real, tmp_path):
    depth, rgb = np.load(real / "Biwi_plus_non_cal.npz"), np.load(real / "Biwi_plus.npz")
    source = write(tmp_path / "depth.csv", {"id": depth["images"].tolist(), **angle_columns(depth["pyr"])})
    for convention, expected in (("pyr", rgb["pyr"]), ("ypr", rgb["ypr"][:, [1, 0, 2]])):
        target = tmp_path / f"{convention}.csv"
        done = convert.convert_file(source, target, "pyr", convention, "depth", "rgb")
        assert done.startswith(f"{target}: 15,678 rows, from pyr in the depth camera to {convention} in the rgb camera")
        found = numbers(read(target), rot.ANGLES)
        assert np.abs(rot.angle_difference(found, expected)).max() < 2e-4  # degrees
        assert rot.geodesic(rot.to_matrix(found, convention), rot.to_matrix(rgb["pyr"])).max() < 1e-4


@pytest.mark.real
def test_the_sequences_own_calibration(real, tmp_path):
    pose = biwi.read_pose(real / "hpdb/01/frame_00003_pose.txt")
    source = write(tmp_path / "a.csv", {"id": ["biwi/01/00003"], **angle_columns(rot.from_matrix(pose.rotation)[None])})
    target = tmp_path / "b.csv"
    done = convert.convert_file(source, target, "pyr", "pyr", "depth", "rgb", biwi_folder=real)
    assert f"rgb.cal in {real}" in done
    assert numbers(read(target), rot.ANGLES)[0] == pytest.approx([-8.58916, -3.55111, 2.29379], abs=1e-4)
    write(source, {"id": ["biwi/02/00003"], **angle_columns([[0, 0, 0]])})
    with pytest.raises(HeadposeError, match="hpdb/02: cannot be read"):
        convert.convert_file(source, target, "pyr", "pyr", "depth", "rgb", biwi_folder=real)


def test_conventions_by_scipy_and_other_columns_as_they_are(tmp_path):
    other = {"note": ["a, b", 'say "x"', "", " 1.50 "], "n": ["007", "NA", "1e3", "nan"]}
    columns = angle_columns(ANGLES)
    source = write(
        tmp_path / "a.csv", {"yaw": columns["yaw"], **other, "roll": columns["roll"], "pitch": columns["pitch"]}
    )
    source.write_bytes("\ufeff".encode() + source.read_bytes())
    target = tmp_path / "b.csv"
    convert.convert_file(source, target, "pyr", "ypr", "rgb", "rgb")
    found = read(target)
    assert list(found) == ["yaw", "note", "n", "roll", "pitch"]
    assert {name: list(found[name]) for name in other} == other
    roll, yaw, pitch = -Rotation.from_euler("xyz", ANGLES, degrees=True).as_euler("zyx", degrees=True).T
    assert numbers(found, rot.ANGLES) == pytest.approx(np.stack((pitch, yaw, roll), axis=1), abs=1e-5)
    convert.convert_file(target, target, "ypr", "pyr", "rgb", "rgb")
    assert numbers(read(target), rot.ANGLES) == pytest.approx(np.array(ANGLES), abs=1e-5)
    assert target.read_bytes().count(b"\r") == 0
    convert.convert_file(source, target, "pyr", "xyz+--", "rgb", "rgb")
    assert numbers(read(target), rot.ANGLES) == pytest.approx(np.array(ANGLES) * [1, -1, -1], abs=1e-5)


def test_cameras_there_and_back_by_each_sequences_calibration(tmp_path):
    source = write(tmp_path / "a.csv", {"id": IDS, **angle_columns(ANGLES)})
    target = tmp_path / "b.csv"
    convert.convert_file(source, target, "pyr", "pyr", "depth", "rgb")
    turned = [
        Rotation.from_matrix(biwi.CALIBRATION_ROTATIONS[group]).as_matrix() @ matrix
        for group, matrix in zip("ABBB", rot.to_matrix(ANGLES), strict=True)
    ]
    assert numbers(read(target), rot.ANGLES) == pytest.approx(rot.from_matrix(turned), abs=1e-3)
    convert.convert_file(target, target, "pyr", "pyr", "rgb", "depth")
    assert numbers(read(target), rot.ANGLES) == pytest.approx(np.array(ANGLES), abs=1e-5)


def test_matrices_and_quaternions_are_turned_and_get_angles(tmp_path):
    matrices = rot.to_matrix(ANGLES)
    quaternions = Rotation.from_matrix(matrices).as_quat()
    forms = {
        "matrix": dict(zip(MATRIX_COLUMNS, matrices.reshape(-1, 9).T.tolist(), strict=True)),
        "quaternion": dict(zip(QUATERNION_COLUMNS, quaternions.T.tolist(), strict=True)),
    }
    expected = tmp_path / "expected.csv"
    convert.convert_file(
        write(tmp_path / "a.csv", {"id": IDS, **angle_columns(ANGLES)}), expected, "pyr", "ypr", "depth", "rgb"
    )
    expected = numbers(read(expected), rot.ANGLES)
    target = tmp_path / "b.csv"
    for columns in (*forms.values(), {**forms["matrix"], **angle_columns(ANGLES), **forms["quaternion"]}):
        source = write(tmp_path / "a.csv", {"id": IDS, **columns})
        convert.convert_file(source, target, "pyr", "ypr", "depth", "rgb")
        found = read(target)
        assert list(found) == list(dict.fromkeys(["id", *columns, *rot.ANGLES]))
        assert numbers(found, rot.ANGLES) == pytest.approx(expected, abs=1e-5)
        if "r11" in columns:
            turned = numbers(found, MATRIX_COLUMNS).reshape(-1, 3, 3)
            assert rot.geodesic(turned, rot.to_matrix(expected, "ypr")).max() < 1e-5
        if "qx" in columns:
            turned = Rotation.from_quat(numbers(found, QUATERNION_COLUMNS)).as_matrix()
            assert rot.geodesic(turned, rot.to_matrix(expected, "ypr")).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        ({}, {"from_convention": "rpy"}, "unknown angle convention 'rpy'"),
        ({}, {"to_convention": "xyz"}, "unknown angle convention 'xyz'"),
        ({}, {"from_camera": "left"}, "unknown camera 'left': expected rgb or depth"),
        ({"yaw": None}, {}, "expected the columns id and pitch, yaw, roll"),
        ({"yaw": [1, 2, "nan", 4]}, {}, "line 4: 24/frame_00622_rgb.png has a value that is not a finite number"),
        ({"yaw": [1, "", "-", 4]}, {}, r"line 3: biwi/06/00000 has .* \(2 such rows\)"),
        ({"id": None, "yaw": [1, 2, 3, "inf"]}, {"from_camera": "rgb"}, "line 5: the row has a value"),
        ({"id": None}, {}, "lacks the column id, from which the camera's calibration is known"),
        ({"id": [*IDS[:2], "synhead/BIWI/f01/00/00012", IDS[3]]}, {}, "line 4: expected an id with a Biwi sequence"),
        ({"id": [IDS[0], "biwi/25/00003", *IDS[2:]]}, {}, "line 3: the manifest has no Biwi sequence '25'.*--biwi"),
        ({" pitch": [0] * 4}, {}, "the column pitch comes twice"),
        (dict.fromkeys(MATRIX_COLUMNS, [1] * 4), {}, "line 2: r11 to r33 are not a rotation"),
        (dict.fromkeys(QUATERNION_COLUMNS, [0.5] * 4), {}, "line .: qx, qy, qz ... and pitch, yaw, roll are"),
    ],
)  # fmt: skip
def test_faulty_files(tmp_path, change, arguments, says):
    columns = {"id": IDS, **angle_columns(ANGLES)} | change
    source = write(tmp_path / "a.csv", {name: cells for name, cells in columns.items() if cells is not None})
    arguments = {
        "from_convention": "pyr", "to_convention": "ypr", "from_camera": "depth", "to_camera": "rgb",
    } | arguments  # fmt: skip
    with pytest.raises(HeadposeError, match=says) as error:
        convert.convert_file(source, tmp_path / "b.csv", **arguments)
    assert "unknown" in str(error.value) or str(source) in str(error.value)
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "a header and a row for each"),
        (b"pitch,yaw,roll\n", "a header and a row for each"),
        (b"pitch,yaw,roll\n1,2,3\n\n1,2\n", "line 4: expected 3 cells as in the header, found 2"),
        (b"\xff\xfe", "expected a CSV file of poses"),
    ],
)
def test_files_that_are_no_tables(tmp_path, text, says):
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(HeadposeError, match=says):
        convert.convert_file(tmp_path / "a.csv", tmp_path / "b.csv", "pyr", "ypr", "rgb", "rgb")
    with pytest.raises(HeadposeError, match=r"none\.csv: expected a CSV file of poses: No such file"):
        convert.convert_file(tmp_path / "none.csv", tmp_path / "b.csv", "pyr", "ypr", "rgb", "rgb")
