"""Tables that people edit, as a spreadsheet or an editor leaves them."""

import gzip
import io
import re
import zipfile

import numpy as np
import pandas as pd
import pytest

from benchmark.scoring.label_files import LabelsAt, read_label_file
from headposeplus import sheets
from headposeplus.boxes.files import read_boxes
from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.heads import tracks
from headposeplus.poses import convert, tables
from headposeplus.raw import manifest, subsets
from headposeplus.rotations import EulerOrder

BOXES = """# headposeplus boxes 1
id,x,y,width,height,source,checked
biwi/01/00003,50.5,-30,41,42,dlib-hog,yes
biwi/01/00004,51,-31.25,40,43,imported,no
"""
POSES = """id,pitch,yaw,roll,subject
biwi/01/00003,1.5,-20.25,3,F01
biwi/24/00622,-4,5.125,-6.5,M14
"""
FRAMES = """id,note
biwi/01/00003,a
biwi/24/00622,b
"""
LISTED = "biwi/01/00003\nbiwi/24/00622\n"
TRACK = "pitch,yaw,roll\n1.5,-20.25,3\n-4,5.125,-6.5\n"
MANIFEST = "\n".join(manifest.default_path().read_text(encoding="utf-8").splitlines()[:30]) + "\n"


def in_cells(text, change):
    return "\n".join(change(line) for line in text.split("\n"))


def with_semicolons(text):
    """As a spreadsheet writes it whose language has a decimal comma."""
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, header=None, comment="#")
    decimal = frame.map(lambda cell: cell.replace(".", ",") if cell.replace(".", "").lstrip("-").isdigit() else cell)
    remark = text.split("\n")[0] + ";" * (frame.shape[1] - 1) + "\n" if text.startswith("#") else ""
    return remark + decimal.to_csv(header=False, index=False, sep=";", lineterminator="\n")


def quoted(text):
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, header=None, comment="#")
    remark = f'"{text.split(chr(10))[0]}"\n' if text.startswith("#") else ""
    return remark + frame.to_csv(header=False, index=False, quoting=1, lineterminator="\n")


def zipped(data, *names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, data)
    return file.getvalue()


DISGUISES = {
    "as it is": lambda text: text.encode(),
    "BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Windows lines": lambda text: text.replace("\n", "\r\n").encode(),
    "old Mac lines": lambda text: text.replace("\n", "\r").encode(),
    "trailing commas": lambda text: in_cells(text, lambda line: f"{line},,").encode(),
    "thousands of empty columns": lambda text: in_cells(text, lambda line: f"{line}{',' * 3000}").encode(),
    "empty lines at the end": lambda text: (text + "\n" * 500 + ",,,,\n" * 500).encode(),
    "a million empty lines": lambda text: (text + "\n" * 1_000_000).encode(),
    "quotes": lambda text: quoted(text).encode(),
    "semicolons and decimal commas": lambda text: with_semicolons(text).encode(),
    "sep=;": lambda text: ("sep=;\n" + with_semicolons(text)).encode(),
    "sep=; in UTF-16": lambda text: ("sep=;\r\n" + with_semicolons(text).replace("\n", "\r\n")).encode("utf-16"),
    "a minus": lambda text: text.replace(",-", ",\u2212").encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "numpy.savetxt": lambda text: re.sub(r"^(id,|pitch,yaw,roll$)", r"# \1", text, count=1, flags=re.M).encode(),
}


def boxes(path):
    return [column.tolist() for column in read_boxes(path)]


def poses(path):
    found = tables.read(path.read_bytes(), "pyr")
    assert not found.faults, found.faults
    return [found.ids.tolist(), found.values.tolist(), found.subjects.tolist()]


def labels(path):
    found = read_label_file(LabelsAt(path, "pyr", "rgb"))
    return [found.ids.tolist(), found.rotations.tolist(), found.subjects.tolist()]


def converted(path):
    target = path.with_name("converted.csv")
    convert.convert_file(path, target, "pyr", "ypr", "rgb", "rgb")
    return poses(target)


def frames(path):
    return list(subsets.find(path).ids)


def track(path):
    return [one.angles.tolist() for one in tracks.given_tracks(path, None, EulerOrder("xyz", (1, 1, 1)))]


def listed(path):
    return [list(row) for row in manifest.read(path)]


READERS = {
    "boxes": (boxes, BOXES),
    "predictions": (poses, POSES),
    "labels": (labels, POSES),
    "convert": (converted, POSES),
    "subset": (frames, FRAMES),
    "frames without a header": (frames, LISTED),
    "track": (track, TRACK),
    "manifest": (listed, MANIFEST),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("reader", READERS)
def test_every_table_survives_a_spreadsheet(tmp_path, reader, disguise):
    read, text = READERS[reader]
    path = tmp_path / "table.csv"
    path.write_text(text)
    expected = read(path)
    path.write_bytes(DISGUISES[disguise](text))
    assert read(path) == expected


@pytest.mark.parametrize("reader", [name for name in READERS if name not in ("track", "manifest")])
def test_a_zip_with_the_table_is_the_table(tmp_path, reader):
    read, text = READERS[reader]
    path = tmp_path / "table.csv"
    path.write_text(text)
    expected = read(path)
    path.write_bytes(zipped(text, "table.csv", "__MACOSX/._table.csv", "README.txt", ".DS_Store"))
    assert read(path) == expected


@pytest.mark.parametrize(
    ("reader", "change", "says"),
    [
        ("boxes", ("50.5", "wide"), "table.csv, line 3: expected a number for x, found 'wide'"),
        (
            "boxes",
            (",no\n", ',no,"7"\n'),
            "table.csv, line 4: 8 cells, where the header has 7; give every row a cell a",
        ),
        ("boxes", ("imported", '"imported'), "table.csv, line 4: a quote that is not closed in its line; close it"),
        ("predictions", ("5.125", "5.1.25"), "line 3: yaw is '5.1.25', no number below 100,000"),
        ("predictions", (",M14", ""), "line 3: 4 cells, where the header has 5; give every row a cell a column"),
        ("labels", ("5.125", "east"), "table.csv, line 3: yaw is 'east', no number below 100,000"),
        ("convert", ("5.125", "east"), "table.csv, line 3: yaw is 'east', no number below 100,000"),
        ("subset", ("biwi/24/00622", "biwi/24/99999"), "table.csv, line 3: biwi/24/99999 is not among the 15,678"),
        ("track", ("5.125", "east"), "table.csv, line 3: expected a row a pose: pitch,yaw,roll in degrees; found '-4"),
        (
            "manifest",
            (",499,3", ",many,3"),
            "table.csv, frames, line 2: 'many' is no whole number; write a whole number",
        ),
        (
            "manifest",
            (",499,3", ",,3"),
            "table.csv, frames, line 2: no number of frames, or none of their numbers, of",
        ),
        (
            "manifest",
            (",499,3", ",4.98e2,3"),
            "table.csv, frame_numbers, line 2: 01: frames is '4.98e2', frame_numbers '3-501'",
        ),
        (
            "manifest",
            (",499,3", ",498,3"),
            "table.csv, frame_numbers, line 2: 01: frames is '498', frame_numbers '3-501'",
        ),
        (
            "manifest",
            (",3-501,", ",03. Mai,"),
            "table.csv, frame_numbers, line 2: 01: frames is '499', frame_numbers '03.",
        ),
        ("manifest", (",3-501,", ",,"), "table.csv, frames, line 2: no number of frames, or none of their numbers, of"),
        ("manifest", ("frame_list_sha256,", ""), "table.csv, line 1: the manifest lacks the columns frame_list_sha256"),
    ],
)
def test_faults_name_the_file_and_the_line(tmp_path, reader, change, says):
    read, text = READERS[reader]
    path = tmp_path / "table.csv"
    path.write_text(text.replace(*change))
    if reader == "predictions":
        told = [str(fault) for fault in tables.read(path.read_bytes(), "pyr").faults]
    else:
        with pytest.raises(HeadposeError) as error:
            read(path)
        told = [str(error.value).removeprefix(f"{tmp_path}/")]
    assert len(told) == 1 and told[0].startswith(says), told


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel file; save it as a CSV"),
        (
            zipped("", "[Content_Types].xml", "xl/workbook.xml"),
            "an Excel file, or another spreadsheet; save it as a CSV",
        ),
        (b"\x80\x04\x95\x01", "a pickle; reading it may run anything; save it as a CSV"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file; save it as a CSV"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive; leave it unpacked"),
        (zipped("a", "a.csv", "b.csv"), "a zip of 2 tables, 'a.csv', 'b.csv'; pack one table, and at most its TOML"),
    ],
)
@pytest.mark.parametrize("reader", ["boxes", "labels", "convert", "subset", "predictions"])
def test_files_of_other_kinds_are_named(tmp_path, reader, data, says):
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    if reader == "predictions":
        assert str(tables.read(data, "pyr").faults[0]).startswith(says)
        return
    with pytest.raises(DatasetError) as error:
        READERS[reader][0](path)
    assert str(error.value).startswith(f"{path}: {says}")


@pytest.mark.parametrize("column", ["id", "image", "images", "image_path", "filename", "file_name", "file", "Image"])
def test_the_columns_that_name_a_frame(tmp_path, column):
    for reader in ("boxes", "predictions", "labels", "subset"):
        read, text = READERS[reader]
        path = tmp_path / "table.csv"
        path.write_text(text)
        expected = read(path)
        named = text.replace("id,", f"{column},").replace("biwi/01/00003", "faces/01/frame_00003_rgb.png")
        path.write_text(named)
        assert read(path) == expected, reader


def test_a_converted_sheet_keeps_its_first_line_and_its_other_cells(tmp_path):
    path, target = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_bytes(
        'sep=;\r\nimage;pitch;yaw;roll;note;;\r\n"a";1,0;\u22122,0;3,0;"x; y";;\r\n;;;;;;\r\n'.encode("utf-16")
    )
    convert.convert_file(path, target, "pyr", "xyz+--", "rgb", "rgb")
    assert target.read_text() == 'sep=;\nimage;pitch;yaw;roll;note\n"a";1,000000;2,000000;-3,000000;"x; y"\n'


def test_units_that_a_spreadsheet_made_numbers(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text(MANIFEST.replace("\nbiwi,0", "\nbiwi,").replace("\nsynhead,0", "\nsynhead,"))
    assert [row.unit for row in manifest.read(path)] == [row.unit for row in manifest.read()[:29]]


def test_the_real_manifest_is_as_pandas_reads_it():
    mine, theirs = pd.DataFrame(manifest.read()), pd.read_csv(manifest.default_path(), dtype={"unit": str})
    for name in manifest.COLUMNS:
        if name in ("frames", "first_frame", "last_frame", *manifest.LABEL_STATISTICS):
            assert np.array_equal(mine[name].astype(float), theirs[name], equal_nan=True), name
        else:
            assert mine[name].tolist() == theirs[name].fillna("").astype(str).tolist(), name


@pytest.mark.parametrize(
    "text", ["#\n", "#,\n1,2\n", '"#"', "# \n\n", "'", '""', ",", "sep=;", "sep=;\n;;", "# a\n# b\n"]
)
def test_what_has_no_header_is_told(text):
    (fault,) = tables.read(text.encode(), "pyr").faults
    assert str(fault).startswith("no cell that is not empty; write the header id,pitch,yaw,roll")


def test_what_parts_the_cells():
    for text, cells in (
        ("a;b\n1;2,5", ["1", "2,5"]),
        ("x\ty\n1,5\t2,5", ["1,5", "2,5"]),
        ('"a,b";"c"\n1;2', ["1", "2"]),
        ("sep=\t\na;b\tc\n1\t2", ["1", "2"]),
        ("SEP=,\na;b,c\n1,2", ["1", "2"]),
    ):
        sheet = sheets.read_sheet(text, "")
        assert [column[0] for column in sheet.columns.values()] == cells, text
    rows = sheets.read_rows("biwi/01/00003;1,5;2,5;3,5\n", "")
    assert rows[0].cells == ["biwi/01/00003", "1,5", "2,5", "3,5"]


def test_numbers():
    texts = ["1", " -2.5 ", "\u22123", "\u20134.5", "1e3", "", "x", "1_0", "1,5", "\u00a07", "1.234,5"]
    nan = float("nan")
    expected = [1, -2.5, -3, -4.5, 1000, nan, nan, nan, 1.5, 7, nan]
    assert np.array_equal(sheets.read_numbers(texts, ","), expected, equal_nan=True)
    expected[8] = nan
    assert np.array_equal(sheets.read_numbers(texts), expected, equal_nan=True)
