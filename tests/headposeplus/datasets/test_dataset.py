import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from headposeplus.datasets.dataset import layout_of, open_dataset, read_backgrounds, read_crops, read_fields
from headposeplus.datasets.info import INFO, NAMES, read_info, write_info
from headposeplus.errors import DatasetError
from headposeplus.images import decode
from headposeplus.raw.targets import STILLS

BUILT = [name for name in NAMES if name not in STILLS]  # of the miniature
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", BUILT)
def test_a_description_comes_back_byte_for_byte(built, tmp_path, name):
    folder = built[0] / name
    write_info(tmp_path, read_info(folder))
    assert (tmp_path / INFO).read_bytes() == (folder / INFO).read_bytes()


def test_what_a_dataset_knows_of_itself(built):
    folder, summary = built
    for dataset in summary.datasets:
        assert dataset == open_dataset(folder / dataset.name) and dataset.size == 32
        assert dataset.rendered == (dataset.name != "biwi+")
        assert dataset.backgrounds == folder / "synhead+/backgrounds.h5"
    parts = open_dataset(folder / "synhead++").parts()
    assert [part.name for part in parts] == ["synhead+", "synbiwi+"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 1}, "expected a dataset of schema 2, found '1'; build it again with this version"),
        ({"name": "biwi"}, "expected a dataset of schema 2, but: Invalid enum value 'biwi'"),
        ({"rows": "48"}, "but: Expected 'int', got 'str' - at '$.rows'; build it again with this version"),
        ({"shards": [{"file": "a.h5", "rows": -1, "sha256": ""}]}, "Expected 'int' >= 0"),
        ({"parameters": {}}, "Object missing required field 'size'"),
    ],
)
def test_descriptions_of_something_else_are_told(built, tmp_path, change, says):
    info = json.loads((built[0] / "biwi+" / INFO).read_text())
    (tmp_path / INFO).write_text(json.dumps(info | change))
    with pytest.raises(DatasetError) as error:
        open_dataset(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / INFO}: ") and says in str(error.value)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"schema": [[]]}'])
def test_json_that_describes_no_dataset(tmp_path, text):
    (tmp_path / INFO).write_text(text)
    with pytest.raises(DatasetError, match=r"dataset\.json: expected a dataset of schema 2, found"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", BUILT)
def test_crops_by_row_are_those_of_the_shards(built, name):
    dataset = open_dataset(built[0] / name)
    ids, encoded, masks = [], [], []
    for part in dataset.parts():
        for shard in part.info.shards:
            with h5py.File(part.folder / shard.file) as file:
                offset, data = file["image/offset"][...], file["image/bytes"][...]
                ids += [value.decode() for value in file["id"][...]]
                encoded += [data[offset[i] : offset[i + 1]].tobytes() for i in range(shard.rows)]
                masks += [*file["mask/bits"][...]] if name != "biwi+" else [None] * shard.rows
    assert layout_of(dataset).rows == len(ids)
    rows = np.random.default_rng(0).permutation(len(ids))[:40]
    for row, crop in zip(rows, read_crops(dataset, rows), strict=True):
        assert crop.id == ids[row] and crop.encoded.tobytes() == encoded[row]
        assert crop.image.shape == (32, 32, 3) and crop.shard.exists()
        if name == "biwi+":
            assert crop.mask is None
        else:
            assert (crop.mask.ravel() == np.unpackbits(masks[row])[: 32 * 32]).all()


def test_backgrounds_are_read_whole_or_told(built, tmp_path):
    folder = shutil.copytree(built[0], tmp_path / "data")
    dataset = open_dataset(folder / "synbiwi+")
    with h5py.File(dataset.backgrounds) as file:
        first = decode(file["image/bytes"][: file["image/offset"][1]])
    backgrounds = read_backgrounds(dataset)
    assert backgrounds.shape == (4, 64, 64, 3) and (backgrounds[0] == first).all()
    dataset.backgrounds.write_bytes(dataset.backgrounds.read_bytes()[:300])
    with pytest.raises(DatasetError, match=r"backgrounds\.h5: damaged .*; delete it and run the build again"):
        read_backgrounds(dataset)
    dataset.backgrounds.unlink()
    assert read_backgrounds(dataset).shape == (0, 64, 64, 3)


def test_fields_that_only_some_shards_have(built):
    union = open_dataset(built[0] / "synhead++")
    turned = ["turn" in fields for fields in read_fields(union, "id", optional=("turn",))]
    assert turned == sorted(turned) and set(turned) == {False, True}  # SynHead+ first
    with pytest.raises(DatasetError, match="damaged"):
        list(read_fields(union, "turn"))


def test_shards_are_opened_in_one_place():
    files = [path for package in ("headposeplus", "baselines", "benchmark") for path in (ROOT / package).rglob("*.py")]
    assert {path.name for path in files if "import h5py" in path.read_text()} == {"hdf5.py"}
