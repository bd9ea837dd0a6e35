"""Files of predictions that are no plain CSV: archives, Arrow's, arrays, and what is told of other kinds."""

import gzip
import io
import json
import struct
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from headposeplus import archives
from headposeplus.poses import tables
from headposeplus.sheets import OWN, STRANGERS

IDS = [f"biwi/01/{number:05d}" for number in range(3, 63)]
ANGLES = np.random.default_rng(0).normal(0, 20, (60, 3))
NAMES = ("pitch", "yaw", "roll")
CSV = "id,pitch,yaw,roll\n" + "".join(f"{a},{p},{y},{r}\n" for a, (p, y, r) in zip(IDS, ANGLES.tolist(), strict=True))


def told(data, convention="pyr"):
    return [str(fault) for fault in tables.read(data, convention).faults]


def test_a_fault_names_the_text_that_stands_in_the_file():
    """And not what reading has made of it: NaN of what is missing or no number, or Python's words for bytes."""
    words = [*map(str, ANGLES[:, 1])]
    words[2:7] = ["abc", "", "  ", "x\x1b[31m", "nan"]
    lines = ["id,pitch,yaw,roll", *(f"{name},1,{word},3" for name, word in zip(IDS, words, strict=True))]
    of_texts = ["yaw is empty", "yaw is 'abc' and others, no number below 100,000"]
    mend = "write a finite number, with a point for the decimals"
    assert told("\n".join(lines).encode()) == [
        f"lines 5, 6: {of_texts[0]}; {mend}",
        f"lines 4, 7, 8: {of_texts[1]}; {mend}",
    ]
    others = {name: ANGLES[:, place] for place, name in enumerate(NAMES)} | {"id": IDS}
    of_rows = [f"rows 4, 5: {of_texts[0]}; {mend}", f"rows 3, 6, 7: {of_texts[1]}; {mend}"]
    for data in (
        saved(**others | {"yaw": np.array(words)}),
        saved(**others | {"yaw": np.array(words).astype("S")}),
        parquet(others | {"yaw": words}),
        feather(others | {"yaw": words}),
    ):
        assert told(data) == of_rows
    for make in (parquet, feather):
        data = make(others | {"yaw": pa.array([None, np.nan, *ANGLES[2:, 1]])})
        first, second = told(data)
        assert first.startswith("row 1: yaw is empty") and second.startswith("row 2: yaw is 'nan', no number")
    assert told(b"id,pitch,yaw,roll\na,x\x1b[31m,2,3\nb,x\x1b[31m,2,3\n")[0].startswith(
        "lines 2, 3: pitch is 'x\\x1b[31m'"
    )
    assert told(b"id,qx,qy,qz,qw\na,0,0,0,2.50\n") == [
        "line 2: qx, qy, qz, qw is not of length 1: '0 0 0 2.50'; divide it by its length"
    ]
    assert told(b"id,pitch,yaw,roll\na\x07,1,2,3\n") == [
        "line 2: hidden characters in an id: 'a\\x07'; use ids such as biwi/01/00003"
    ]


def zipped(*files, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return file.getvalue()


def saved(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def feather(columns, **options):
    file = io.BytesIO()
    pyarrow.feather.write_feather(pa.table(columns), file, **options)
    return file.getvalue()


def parquet(columns):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def columns(ids):
    return {"id": ids, **dict(zip(NAMES, ANGLES.T, strict=True))}


def forms():
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        ids = pa.array(IDS).cast(kind)
        yield f"Parquet of {kind}", parquet(columns(ids))
        for packed in ("uncompressed", "lz4", "zstd"):
            yield f"Feather of {kind}, {packed}", feather(columns(ids), compression=packed, chunksize=25)
    yield "Feather of a dictionary", feather(columns(pa.array(IDS).dictionary_encode()), compression="zstd")
    yield "a zip", zipped(("mine.csv", CSV))
    yield "a zip as macOS makes it", zipped(("a/", ""), ("a/mine.CSV", CSV), ("__MACOSX/a/._mine.CSV", b"\0\5"))
    yield (
        "a zip with all around it",
        zipped(("README.txt", "x"), (".DS_Store", "x"), ("m.toml", ""), ("m.txt", CSV)),
    )
    yield "a zip with other files", zipped(("predict.py", "x"), ("LICENSE", "x"), ("m.tsv", CSV.replace(",", "\t")))
    yield "a zip of a file without an ending", zipped(("predictions", CSV))
    yield "a stored zip", zipped(("mine.csv", CSV), method=zipfile.ZIP_STORED)
    yield "a zip of gzip", zipped(("mine.csv.gz", gzip.compress(CSV.encode())))
    yield "a zip of Parquet", zipped(("mine.parquet", parquet(columns(IDS))))
    yield "a zip of npz", zipped(("mine.npz", saved(id=IDS, pyr=ANGLES)))
    pixels = pa.array([{"bytes": b"a", "path": "b"}] * 60)
    yield "Parquet with images", parquet({"image": pixels, **columns(IDS)})
    yield "Parquet with images and files", parquet({**columns(pixels), "file": IDS})
    yield "npz with images", saved(images=IDS, pyr=ANGLES, image=np.zeros((60, 2, 2, 3)))
    yield "npz of paths", saved(image_path=[f"01/frame_{name[8:]}.png" for name in IDS], pyr=ANGLES)
    yield "names that say the convention", CSV.replace("pitch,yaw,roll", "pyr_pitch,pyr_yaw,pyr_roll").encode()


@pytest.mark.parametrize(("name", "data"), list(forms()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_form_gives_the_same_poses(name, data):
    found = tables.read(data, "pyr")
    assert not found.faults, found.faults
    assert found.ids.tolist() == IDS and found.values == pytest.approx(ANGLES)


def array(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (array(ANGLES), "a NumPy array (.npy), which has no place for ids; save it with its ids, numpy.savez("),
        (json.dumps([{"id": "a", "pitch": 1}]).encode(), "JSON, no table; write a CSV, as pandas does: DataFrame("),
        (b'\xef\xbb\xbf\n {"biwi/01/00003": [1, 2, 3]}', "JSON, no table; write a CSV, as pandas does: DataFrame("),
        (zipped(("a.json", "[1]")), "JSON, no table; write a CSV"),
        (b"FEA1\0\0", "an old Feather file; save it as a CSV"),
        (zipped(), "a zip without a table; pack one table, and at most its TOML"),
        (zipped(("__MACOSX/a.csv", CSV), (".a.csv", CSV)), "a zip without a table; pack one table"),
        (zipped(("a.csv", CSV), ("b/c.csv", CSV)), "a zip of 2 tables, 'a.csv', 'b/c.csv'; pack one table, and at"),
        (zipped(("a.zip", zipped(("a.csv", CSV)))), "an archive in an archive; pack one table"),
        (zipped(("a.csv", CSV), method=zipfile.ZIP_LZMA), "a zip packed in a rare way; pack it by deflation, as zip"),
        (zipped(("[Content_Types].xml", "")), "an Excel file, or another spreadsheet; save it as a CSV"),
        (zipped(("mimetype", ""), ("content.xml", "")), "an Excel file, or another spreadsheet; save it as a CSV"),
        (b"PK\x05\x06" + b"\0" * 18, "a zip without a table"),
        (zipped(("a.csv", CSV))[:-30], "a damaged npz or zip file (it has no end); write it again"),
        (zipped(("a.csv", CSV)).replace(b"PK\x03\x04", b"PK\x03\x05"), "a damaged npz or zip file ("),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_kinds_are_named_with_the_way_to_mend_them(data, says):
    faults = told(data)
    assert len(faults) == 1 and faults[0].startswith(says), faults


@pytest.mark.parametrize(
    ("data", "convention", "says"),
    [
        (saved(id=IDS, pyr=ANGLES), "ypr", 'pyr: named for the convention pyr, where ypr is said; write convention = '),
        (saved(id=IDS, ypr=ANGLES), "pyr", 'ypr: named for the convention ypr, where pyr is said; write convention = '),
        (saved(id=IDS, pyr=ANGLES, ypr=ANGLES), "biwi", "pyr: named for the convention pyr, where biwi is said; write"),
        (
            CSV.replace("pitch,yaw,roll", "pitch_ypr,yaw_ypr,roll_ypr").encode(), "pyr",
            "line 1: pitch_ypr, yaw_ypr, roll_ypr: named for the convention ypr, where pyr is said; write convention",
        ),
    ],
    ids=["pyr", "ypr", "both", "columns"],
)  # fmt: skip
def test_a_name_that_contradicts_the_convention_is_told(data, convention, says):
    faults = told(data, convention)
    assert len(faults) == 1 and faults[0].startswith(says) and faults[0].endswith("if the name is wrong"), faults


def test_angles_beside_an_array_of_another_convention_are_read():
    beside = saved(id=IDS, ypr=ANGLES, **dict(zip(NAMES, ANGLES.T, strict=True)))
    assert told(beside) == [] and told(saved(id=IDS, ypr=ANGLES, rotation=np.tile(np.eye(3), (60, 1, 1)))) == []


# What is made to break a reader


def test_zips_that_are_bombs_are_refused():
    large = zipped(("a.csv", b"\0" * (STRANGERS.bytes + 1)))
    assert len(large) < 100_000 and told(large) == ["more than 64 MiB unpacked; keep only the id and the pose"]
    # One that lies about the size, and one whose parts are small, each a tenth of what is too much.
    lying = bytearray(large)
    for place in (large.rfind(b"PK\x01\x02") + 24, 22):
        lying[place : place + 4] = struct.pack("<I", 1000)
    (fault,) = told(bytes(lying))
    assert fault.startswith("a damaged npz or zip file (")
    many = zipped(*((f"{number}.csv", b"\0" * (STRANGERS.bytes // 10)) for number in range(11)))
    assert told(many)[0].startswith("more than 64 MiB unpacked")
    nested = zipped(("a.csv.gz", gzip.compress(b"\0" * (STRANGERS.bytes + 1))))
    assert len(nested) < 100_000 and told(nested)[0].startswith("more than 64 MiB unpacked")
    arrays = zipped(("a.npz", saved(id=np.zeros(STRANGERS.bytes // 8 + 1))))
    assert len(arrays) < 100_000 and told(arrays)[0].startswith("more than 64 MiB unpacked")
    assert told(zipped(*((f"{n}.csv", "") for n in range(40))))[0].startswith(
        "an npz or zip file of more than 32 files"
    )
    assert told(zipped(("a" * 17_000 + ".csv", CSV)))[0].startswith("an npz or zip file of more than 32 files")


def test_a_toml_in_a_zip_is_cut_off():
    data = zipped(("a.csv", CSV), ("a.toml", b"#" * 10**7))
    assert len(archives.unzipped(data, STRANGERS, 1000).about) == 1001
    assert archives.unzipped(data, OWN).about_name == "a.toml"


def test_a_zip_with_a_password_is_refused():
    data = bytearray(zipped(("a.csv", CSV)))
    data[6] |= 1
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    assert told(bytes(data)) == ["a zip with a password; pack it without one"]


def test_names_that_lead_out_of_a_zip_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert told(zipped(("../../etc/a.csv", CSV))) == []  # nothing is unpacked to a disk
    assert list(tmp_path.iterdir()) == []


def test_feather_files_that_are_bombs_are_refused():
    count = 9_000_000  # of eight bytes each
    assert told(feather({**columns(IDS), "other": [[{"x": 1}]] * 60})) == []
    for packed in ("lz4", "zstd"):
        many = {"id": pa.array(["a"] * count).dictionary_encode(), "pitch": np.zeros(count)}
        bomb = feather(many, compression=packed, chunksize=count)
        assert len(bomb) < 1_000_000 and told(bomb) == ["more than 64 MiB unpacked; keep only the id and the pose"]
    tall = feather(
        {"id": pa.array(["a"] * 200_001).dictionary_encode(), "pitch": np.zeros(200_001)}, compression="zstd"
    )
    assert told(tall)[0].startswith("more than 200,000 rows")
    tiny = feather({name: np.resize(value, 10_100) for name, value in columns(IDS).items()}, chunksize=1)
    assert told(tiny)[0].startswith("batches of less than 20 rows; write it as one batch")
    assert told(feather({"id": [[1]]}))[0].startswith("the column 'id' holds list<")
    assert told(feather(columns(IDS))[:300])[0].startswith("a damaged Feather file (")


def test_many_long_views_of_one_text_are_refused():
    """Five thousand texts of ten megabytes take as little room as one of twenty."""
    views = b"".join(struct.pack("<i4sii", 10 << 20, b"aaaa", 0, start) for start in range(5000))
    ids = pa.Array.from_buffers(pa.string_view(), 5000, [None, pa.py_buffer(views), pa.py_buffer(b"a" * (20 << 20))])
    file = io.BytesIO()
    table = pa.table({"id": ids, "pitch": np.zeros(5000)})
    with pa.ipc.new_file(file, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    assert told(file.getvalue())[0].startswith("a text of more than 100 characters in 'id'; use ids such as")
