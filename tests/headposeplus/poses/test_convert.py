import csv
import gzip
import random

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from headposeplus import rotations as rot
from headposeplus import sheets
from headposeplus.errors import HeadposeError
from headposeplus.poses import convert, tables
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
        ({"yaw": None}, {}, "line 1: no complete pose among the columns 'id', 'pitch', 'roll'; write the header"),
        ({"yaw": [1, 2, "nan", 4]}, {}, "line 4: yaw is 'nan', no number below 100,000; write a finite number"),
        ({"yaw": [1, "", "-", 4]}, {}, "line 3: yaw is empty; .*; also line 4: yaw is '-', no number"),
        ({"id": None, "yaw": [1, 2, 3, "inf"]}, {"from_camera": "rgb"}, "line 5: yaw is 'inf', no number"),
        ({"id": None}, {}, "lacks the column id, from which the camera's calibration is known"),
        ({"id": [*IDS[:2], "synhead/BIWI/f01/00/00012", IDS[3]]}, {}, "line 4: expected an id with a Biwi sequence"),
        ({"id": [*IDS[:2], "x", "y"]}, {}, "lines 4, 5: expected an id with a Biwi sequence.*found 'x'"),
        ({"id": [IDS[0], "biwi/25/00003", *IDS[2:]]}, {}, "line 3: the manifest has no Biwi sequence '25'.*`biwi_f"),
        (
            {"id": [IDS[0], "biwi/25/00003", "biwi/26/00003", "biwi/25/00004"]}, {},
            "lines 3, 5: the manifest has no Biwi sequence '25'.*; also line 4: the manifest has no Biwi sequence '26'",
        ),
        ({" pitch": [0] * 4}, {}, "the column 'pitch' comes twice; keep one"),
        (dict.fromkeys(MATRIX_COLUMNS, [1] * 4), {}, "lines 2, 3, 4, 5: r11 to r33 is no rotation"),
        (dict.fromkeys(QUATERNION_COLUMNS, [0.5] * 4), {}, "lines 2, 3, 4, 5: pitch to roll and qx to qw are"),
        (
            {"yaw": [1, 2, "nan", 4], "pitch": ["-", 0, 0, 0]}, {},
            "a.csv: line 2: pitch is '-', no number .*; also line 4: yaw is 'nan', no number",
        ),
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
        (b"", "an empty file; write the header"),
        (b"pitch,yaw,roll\n", "no row; give a row a frame"),
        (b"pitch,yaw,roll\n1,2,3\n\n1,2\n", "line 4: 2 cells, where the header has 3; give every row a cell a column"),
        (b"\xff\xfe", "no cell that is not empty"),
        (b"PK\x03\x04damaged", "a damaged npz or zip file"),
    ],
)
def test_files_that_are_no_tables(tmp_path, text, says):
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(HeadposeError, match=says):
        convert.convert_file(tmp_path / "a.csv", tmp_path / "b.csv", "pyr", "ypr", "rgb", "rgb")
    with pytest.raises(
        HeadposeError, match=r"none\.csv: cannot be read: No such file or directory; expected a table of poses"
    ):
        convert.convert_file(tmp_path / "none.csv", tmp_path / "b.csv", "pyr", "ypr", "rgb", "rgb")


def test_cells_are_those_of_the_csv_reader():
    """Whatever the quotes and spaces, a line is cut where Python's own reader cuts it, and no character is lost."""
    for _ in range(20_000):
        delimiter = random.choice(",;\t")
        line = "".join(
            random.choices(['"', '"', delimiter, delimiter, " ", "a", ",", ".", "1"], k=random.randint(1, 12))
        )
        cells = list(convert._cells(line, delimiter))
        assert delimiter.join(cells) == line
        expected = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        assert [next(csv.reader([cell], delimiter=delimiter, skipinitialspace=True), []) or [""] for cell in cells] == [
            [cell] for cell in expected
        ]


def test_all_else_in_a_csv_stays_byte_for_byte(tmp_path):
    lines = ["note;Pitch ;yaw; roll;Note", '"a; ""b""";1,0;2,5;3;"007"', " x ;1;0;0;1,50", '"";0;0;0;']
    source, target = tmp_path / "a.csv", tmp_path / "b.csv"
    source.write_bytes("\r\n".join([*lines, "", ""]).encode("utf-16"))
    convert.convert_file(source, target, "pyr", "xyz+--", "rgb", "rgb")
    written = target.read_text(encoding="utf-8").split("\n")
    assert written[0] == lines[0] and written[1] == '"a; ""b""";1,000000;-2,500000;-3,000000;"007"'
    assert written[2] == " x ;1,000000;0,000000;0,000000;1,50" and written[3] == '"";0,000000;0,000000;0,000000;'
    assert written[4:] == [""]
    convert.convert_file(target, target, "xyz+--", "pyr", "rgb", "rgb")
    assert target.read_text().split("\n")[1] == '"a; ""b""";1,000000;2,500000;3,000000;"007"'


def test_any_table_of_poses_can_be_converted(tmp_path):
    """Parquet, npz and packed CSV give the numbers of the plain CSV; their id and subject are kept."""
    frame = pd.DataFrame({"id": IDS, **angle_columns(ANGLES), "subject": list("abcd")})
    matrices = rot.to_matrix(ANGLES)
    ids = np.array(IDS)
    frame.to_csv(tmp_path / "plain.csv", index=False)
    (tmp_path / "packed").write_bytes(gzip.compress((tmp_path / "plain.csv").read_bytes()))
    frame.assign(other=1.5).to_parquet(tmp_path / "a.parquet")
    np.savez(tmp_path / "columns.npz", **{name: frame[name].to_numpy() for name in rot.ANGLES}, id=ids)
    np.savez(tmp_path / "published.npz", images=ids, pyr=np.array(ANGLES))
    np.savez(tmp_path / "matrices.npz", rotation=matrices, id=ids)
    target = tmp_path / "b.csv"
    expected = rot.from_matrix(matrices, "ypr")
    columns = {"plain.csv": frame.columns, "packed": frame.columns, "a.parquet": frame.columns}
    columns["matrices.npz"] = ["id", *MATRIX_COLUMNS, *rot.ANGLES]
    for name in ("plain.csv", "packed", "a.parquet", "columns.npz", "published.npz", "matrices.npz"):
        convert.convert_file(tmp_path / name, target, "pyr", "ypr", "rgb", "rgb")
        table = read(target)
        assert numbers(table, rot.ANGLES) == pytest.approx(expected, abs=1e-5), name
        assert list(table["id"]) == IDS
        assert set(table) == set(columns.get(name, ["id", *rot.ANGLES])), name
        assert "subject" not in table or "".join(table["subject"]) == "abcd"


def test_a_table_of_ones_own_may_be_large(tmp_path):
    """What keeps strangers' files small does not hold here: SynHead alone has half a million images."""
    header = ",".join([*rot.ANGLES, *(f"note{i}" for i in range(70))])
    line = ",".join(["1", "2", "3", *["x" * 99] * 70])
    (tmp_path / "a.csv").write_text(f"{header}\n{line}\n")
    assert tables.read((tmp_path / "a.csv").read_bytes(), "pyr", needs_ids=False).faults and min(sheets.OWN) > 1e15
    convert.convert_file(tmp_path / "a.csv", tmp_path / "b.csv", "pyr", "biwi", "rgb", "rgb")
    assert (tmp_path / "b.csv").read_text() == f"{header}\n{line}\n".replace("1,2,3", "1.000000,-2.000000,-3.000000")


def test_a_table_is_written_as_a_csv(tmp_path):
    with pytest.raises(HeadposeError, match=r"b\.npz: a table is written as a CSV; choose a name that ends in \.csv"):
        convert.convert_file(tmp_path / "a.csv", tmp_path / "b.npz", "pyr", "ypr", "rgb", "rgb")
