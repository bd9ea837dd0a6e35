import json
import shutil

import h5py
import numpy as np
import pytest

from headposeplus import rotations as rot
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.datasets.info import INFO, NAMES, SCHEMA
from headposeplus.errors import DatasetError
from headposeplus.files import content_hash, sha256
from headposeplus.raw.ids import frame_id
from headposeplus.raw.targets import STILLS
from headposeplus.verify import datasets as verify_data
from headposeplus.verify import shards
from headposeplus.verify.describe import describe_data
from headposeplus.verify.report import to_json


def files(folder, pattern):
    return sorted(folder.glob(pattern))


@pytest.fixture
def data(built, tmp_path):
    """A copy of the built datasets to damage."""
    return shutil.copytree(built[0], tmp_path / "data")


def info_of(folder):
    return json.loads((folder / INFO).read_text())


def edit(folder, **changes):
    (folder / INFO).write_text(json.dumps(info_of(folder) | changes))


def edit_shard(folder, index, **fields):
    """Change fields of a shard, and the hashes in dataset.json, as a build with a fault would."""
    info = info_of(folder)
    path = folder / info["shards"][index]["file"]
    with h5py.File(path, "r+") as file:
        for name, change in fields.items():
            file[name.replace("_", "/")][...] = change(file[name.replace("_", "/")][...])
    info["shards"][index]["sha256"] = sha256(path)
    content = content_hash([info["shards"], info.get("joined"), info.get("backgrounds_sha256")])
    edit(folder, shards=info["shards"], content_sha256=content)
    return path


def tells(report, *expected):
    """Assert that a report's faults are one for each (beginning, words)."""
    lines = [str(fault) for fault in report.faults]
    for start, words in expected:
        assert any(line.startswith(f"{start}: ") and words in line for line in lines), (start, words, lines)
    assert len(lines) == len(expected), lines


@pytest.mark.parametrize("deep", [False, True])
def test_whole_data(built, tiny, deep):
    out, _ = built
    report = verify_data.verify_data(out, tiny / "data_manifest.csv", deep)
    assert not report.faults and not report.warnings
    assert json.loads(json.dumps(to_json(report))) == to_json(report)
    assert [check.name for check in report.datasets] == [name for name in NAMES if name not in STILLS]
    hdf5 = list(out.rglob("*.h5"))
    assert report.hashes_checked == len(hdf5)
    assert report.bytes_read == sum(path.stat().st_size for path in hdf5)
    assert [check.state for check in report.statistics.biwi] == ["as in the manifest"] * 4
    angles = rot.from_matrix(read_labels(open_dataset(out / "synhead++"))[1])
    labels = report.statistics.union.found
    assert np.allclose(labels.mean, angles.mean(0), atol=1e-5) and np.allclose(labels.std, angles.std(0), atol=1e-5)
    text = " ".join(describe_data(report).split())
    assert "-4.0955 -2.4469 0.7590" in text and "PADACO weights (Kuhnke &" in text
    assert "convention pyr, RGB camera" in text and f"whole: {len(hdf5)} hashes checked" in text
    assert ("every crop decoded" in text) == deep


def test_one_dataset_or_a_union_by_its_folder(built, tmp_path):
    out, _ = built
    report = verify_data.verify_data(out / "synhead++")
    assert [check.name for check in report.datasets] == ["synhead+", "synbiwi+", "synhead++"]
    assert not report.faults and report.statistics.union.found
    report = verify_data.verify_data(out / "biwi+")  # with the manifest of the real Biwi
    assert [check.name for check in report.datasets] == ["biwi+"] and not report.faults
    assert {check.state for check in report.statistics.biwi} == {"absent", "not comparable: absent frames"}
    assert "not comparable, for frames that are absent: 01 (" in describe_data(report)
    with pytest.raises(DatasetError, match="holds no dataset"):
        verify_data.verify_data(tmp_path / "none")


def test_damaged_and_stray_files_are_each_named(data, tiny):
    flipped, halved = files(data / "biwi+", "*.h5")[0], files(data / "synbiwi+", "*.h5")[1]
    gone = files(data / "synhead+", "shard-*.h5")[5]
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    halved.write_bytes(halved.read_bytes()[: halved.stat().st_size // 2])
    gone.unlink()
    strays = data / "biwi+/shard-00000-of-00099.h5", data / "synhead+/.shard-00001-of-00040.h5.123.part"
    for path in (*strays, data / "synhead+/backgrounds.h5"):
        path.write_bytes(b"")
    spoilt = edit_shard(data / "synbiwi+", 2, image_bytes=np.zeros_like)
    edit(data / "synhead++", joined=[info_of(data / name)["content_sha256"] for name in ("synhead+", "synbiwi+")])
    report = verify_data.verify_data(data, tiny / "data_manifest.csv", deep=True)
    crops = [str(fault) for fault in report.faults if fault.file == spoilt]
    assert crops and all(line.startswith(f"{spoilt}: the crop of synbiwi/") for line in crops)
    assert all("cannot be decoded; delete it" in line for line in crops)
    changed = "damaged or changed: its SHA-256 is not that in dataset.json; delete it"
    expected = [(path, changed) for path in (flipped, halved, data / "synhead+/backgrounds.h5")]
    expected += [(path, "not named in dataset.json") for path in strays]
    expected += [(gone, "is missing; build again to restore it"), (data / "synhead++/dataset.json", "changed")]
    tells(report, *expected, *((spoilt, line[-80:]) for line in crops))
    states = {check.name: check.state for check in report.datasets}
    assert states["biwi+"] == "2 faults" and report.statistics.union is None
    assert states["synhead+"] == "3 faults" and states["synhead++"] == "1 fault"
    assert states["synbiwi+"] == f"{1 + len(crops)} faults"
    sequences = {check.unit: check.state for check in report.statistics.biwi}
    assert sequences["01"] == "absent" and sequences["03"] == "as in the manifest"


def test_wrong_descriptions(data):
    edit(data / "biwi+", rows=47, parameters=info_of(data / "biwi+")["parameters"] | {"size": 64})
    edit(data / "synhead++", rows=1)
    edit(data / "synbiwi+", labels=info_of(data / "synbiwi+")["labels"] | {"mean": [1.0, 2.0, 3.0]})
    tells(
        verify_data.verify_data(data),
        (data / "biwi+/dataset.json", "says 47 rows, but its shards have 48; build again"),
        (data / "synhead++/dataset.json", "says 1 rows, but its parts have "),
        (data / "synbiwi+/dataset.json", "says that the labels' mean is [1.0, 2.0, 3.0], but it is "),
    )
    deep = verify_data.verify_data(data / "biwi+", deep=True).faults
    assert sum("is 32 x 32, expected 64 x 64" in fault.what for fault in deep) == 48
    edit(data / "synhead+", content_sha256="0" * 64)
    edit(data / "biwi+", content_sha256="0" * 64, rows=48)
    edit(data / "synbiwi+", schema=99)
    report = verify_data.verify_data(data)
    tells(
        report,
        (data / "biwi+/dataset.json", "expected the content_sha256 "),
        (data / "synhead+/dataset.json", "expected the content_sha256 "),
        (data / "synbiwi+/dataset.json", f"expected a dataset of schema {SCHEMA}"),
    )


def test_unions_and_matches_of_other_parts(data, tiny):
    edit(data / "synhead++", joined=["0" * 64, "1" * 64])
    edit_shard(
        data / "biwi+", 0, label_rotation=lambda values: rot.in_plane(0.5) @ values,
        label_pyr=lambda values: rot.from_matrix(rot.in_plane(0.5) @ rot.to_matrix(values)),
    )  # fmt: skip
    report = verify_data.verify_data(data, tiny / "data_manifest.csv")
    lines = [str(fault) for fault in report.faults]
    assert any(line.startswith(f"{data / 'synhead++'}: its parts were built again") for line in lines)
    assert "was matched with another Biwi+" in report.warnings[0].what
    assert any("sequence 01: mean roll " in line and "expected" in line for line in lines)
    assert report.statistics.biwi[0].state == "deviates"
    (data / "biwi+/dataset.json").write_text("{")
    (data / "synhead+/dataset.json").unlink()
    lines = "\n".join(map(str, verify_data.verify_data(data).faults))
    assert "which is JSON" in lines and "build the dataset first" in lines


@pytest.mark.parametrize(
    "field, index, value, message",
    [
        ("id", 2, "", "1 empty id"),
        ("label/rotation", (0, 0, 0), 2.0, "1 label/rotation is no rotation, the first of biwi/01/00000"),
        ("label/rotation", (3, 1, 1), np.nan, "1 label/rotation is no rotation, the first of biwi/01/00003"),
        ("label/rotation", (3, 1, 1), np.inf, "1 label/rotation is no rotation"),
        ("label/rotation", 0, -np.eye(3), "1 label/rotation is no rotation"),
        ("label/pyr", (4, 1), 77.0, "1 label/pyr is not the angles (degrees, convention pyr"),
        ("label/pyr", (4, 1), np.nan, "1 label/pyr is not the angles"),
    ],
)
def test_wrong_labels_in_a_shard(tmp_path, field, index, value, message):
    angles = np.random.default_rng(0).uniform(-60, 60, (6, 3))
    ids = np.array([frame_id("01", number) for number in range(6)])
    fields = {"id": ids, "label/rotation": rot.to_matrix(angles), "label/pyr": angles}
    found, faults = shards._check_labels(fields, 6, tmp_path)
    assert not faults and np.allclose(found, angles)
    assert "expected 7 rows" in shards._check_labels(fields, 7, tmp_path)[1][0].what
    fields[field][index] = value
    (fault,) = shards._check_labels(fields, 6, tmp_path)[1]
    assert message in fault.what and fault.mend.endswith("again") and fault.file == tmp_path


def test_ids_that_are_in_two_rows(data):
    edit_shard(data / "biwi+", 1, id=lambda values: values[[0, 0, *range(2, len(values))]])
    tells(verify_data.verify_data(data / "biwi+"), (data / "biwi+", "1 id is in more than one row, such as biwi/03/"))
