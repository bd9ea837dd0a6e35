import shutil
import zipfile

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest

from benchmark.scoring.submission import tomllib
from headposeplus import rotations as rot
from headposeplus.boxes.files import read_boxes
from headposeplus.build.build import Options, build_datasets
from headposeplus.datasets import export
from headposeplus.datasets.dataset import open_dataset
from headposeplus.errors import DatasetError
from headposeplus.raw import subsets
from headposeplus.raw.source import Source

NAMES = ("biwi+", "synhead+", "synbiwi+", "synhead++")


def by_h5py(folder, field, name):
    """A field of all shards of a dataset, read without the toolkit."""
    parts = ("synhead+", "synbiwi+") if name == "synhead++" else (name,)
    of_shards = []
    for path in [path for part in parts for path in sorted((folder / part).glob("shard-*.h5"))]:
        with h5py.File(path) as file:
            if field in file:
                of_shards.append(file[field][...])
    values = np.concatenate(of_shards)
    return np.array([value.decode() for value in values]) if values.dtype.kind == "S" else values


@pytest.mark.parametrize("name", NAMES)
def test_npz_holds_what_the_shards_hold(built, tmp_path, name):
    folder, _ = built
    path = tmp_path / "labels.npz"
    count = export.export_npz(open_dataset(folder / name), path)
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["bbox", "calibrated", "images", "pyr", "ypr"] and arrays["calibrated"]
        ids = by_h5py(folder, "id", name)
        assert count == len(ids) and arrays["bbox"].dtype == np.int32 and arrays["pyr"].dtype == np.float64
        images = [f"{i[5:7]}/frame_{i[8:]}_rgb.png" for i in ids] if name == "biwi+" else ids.tolist()
        assert arrays["images"].tolist() == images
        assert (arrays["pyr"] == by_h5py(folder, "label/pyr", name)).all()
        assert (arrays["bbox"] == by_h5py(folder, "box", name)).all()
        pitch_first = arrays["ypr"][:, [1, 0, 2]]
        assert rot.geodesic(rot.to_matrix(pitch_first, "ypr"), by_h5py(folder, "label/rotation", name)).max() < 1e-6
    if name == "biwi+":
        boxes = read_boxes(path)
        assert boxes.ids.tolist() == ids.tolist() and (boxes.boxes == by_h5py(folder, "box", name)).all()
    before, made = path.read_bytes(), [info.date_time for info in zipfile.ZipFile(path).infolist()]
    assert set(made) == {(1980, 1, 1, 0, 0, 0)}
    export.export_npz(open_dataset(folder / name), path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["labels.npz"]


@pytest.mark.real
def test_npz_of_the_real_frame_is_the_published_row(real, tmp_path):
    source = Source(real / "hpdb", boxes=real / "Biwi_plus.npz")
    build_datasets(source, tmp_path / "data", Options(size=32))
    path = tmp_path / "ours.npz"
    assert export.export_npz(open_dataset(tmp_path / "data/biwi+"), path) == 1
    with np.load(path) as ours, np.load(real / "Biwi_plus.npz") as published:
        assert set(ours) <= {*published, "calibrated"} and ours["images"].tolist() == published["images"][:1].tolist()
        for key in set(ours) & set(published):
            assert ours[key].dtype == published[key].dtype and ours[key].shape[1:] == published[key].shape[1:]
        assert ours["pyr"] == pytest.approx(published["pyr"][:1], abs=1e-4)
        assert ours["ypr"] == pytest.approx(published["ypr"][:1], abs=1e-4)
        assert (ours["bbox"] == published["bbox"][:1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_csv_holds_what_the_shards_hold(built, tmp_path, name):
    folder, _ = built
    path = tmp_path / "labels.csv"
    count = export.export_csv(open_dataset(folder / name), path)
    table = pd.read_csv(path)
    assert count == len(table) and table["id"].tolist() == by_h5py(folder, "id", name).tolist()
    assert table["subject"].tolist() == by_h5py(folder, "subject", name).tolist()
    assert table[["pitch", "yaw", "roll"]].to_numpy() == pytest.approx(by_h5py(folder, "label/pyr", name), abs=1e-6)
    matrix = table[[f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]].to_numpy().reshape(-1, 3, 3)
    assert matrix == pytest.approx(by_h5py(folder, "label/rotation", name), abs=1e-8)
    assert (table[["x", "y", "width", "height"]].to_numpy() == by_h5py(folder, "box", name)).all()
    assert table["box_source"].tolist() == by_h5py(folder, "box_source", name).tolist()
    more = ["source", "turn", "residual_geodesic", "residual_euler"]
    assert [column in table for column in more] == [name.startswith("syn") and name != "synhead+"] * 4
    if "source" in table:
        turned = table[table["id"].str.startswith("synbiwi/")]
        assert turned["source"].tolist() == by_h5py(folder, "source", name).tolist()
        assert turned["turn"].to_numpy() == pytest.approx(by_h5py(folder, "turn", name), abs=1e-6)
        assert turned["residual_euler"].to_numpy() == pytest.approx(by_h5py(folder, "residual/euler", name), abs=1e-6)
        assert table[table["id"].str.startswith("synhead/")][more].isna().all(axis=None)
    about = tomllib.loads(path.with_suffix(".toml").read_text())
    assert (about["dataset"], about["rows"], about["convention"], about["camera"]) == (name, count, "pyr", "rgb")


def test_subsets_are_exported_alone_and_whole(built, tiny, tmp_path):
    folder, _ = built
    dataset = open_dataset(folder / "biwi+")
    subset = subsets.find("biwi/leave-F03-out/test", tiny / "data_manifest.csv")
    assert export.export_npz(dataset, tmp_path / "a.npz", subset) == 24
    assert export.export_csv(dataset, tmp_path / "a.csv", subset) == 24
    assert sorted(pd.read_csv(tmp_path / "a.csv")["id"]) == list(subset.ids)
    with np.load(tmp_path / "a.npz") as arrays:
        assert {image[:2] for image in arrays["images"]} == {"03", "15"}
    assert tomllib.loads((tmp_path / "a.toml").read_text())["ids_sha256"] == subset.sha256
    rendered = open_dataset(folder / "synhead+")
    for where, wanted in ((dataset, subsets.find("biwi/female")), (rendered, subset)):
        with pytest.raises(DatasetError, match="frames are not in the dataset, the first biwi/0"):
            export.export_csv(where, tmp_path / "b.csv", wanted)
    with pytest.raises(DatasetError, match=r"labels\.toml: expected a name for a CSV"):
        export.export_csv(dataset, tmp_path / "labels.toml")
    assert not (tmp_path / "b.csv").exists()


def test_images_are_the_stored_crops(built, tiny, tmp_path):
    folder, _ = built
    subset = subsets.find("biwi/leave-F01-out/test", tiny / "data_manifest.csv")
    assert export.export_images(open_dataset(folder / "biwi+"), tmp_path, subset) == 12
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == [".lock", *(f"{name}.png" for name in subset.ids)]
    with h5py.File(folder / "biwi+/shard-00000-of-00004.h5") as file:
        end = file["image/offset"][1]
        name, data = file["id"][0].decode(), file["image/bytes"][:end].tobytes()
    assert (tmp_path / f"{name}.png").read_bytes() == data


def test_what_a_killed_export_left_half_written_goes(built, tmp_path):
    dataset, other = open_dataset(built[0] / "biwi+"), tmp_path / "mine/.01.png.99999999.part"
    export.export_images(dataset, tmp_path)
    whole = sorted(tmp_path.rglob("*"))
    (tmp_path / "biwi/03/.00213.png.99999999.part").write_bytes(b"half")
    other.parent.mkdir()
    other.write_bytes(b"")
    export.export_images(dataset, tmp_path)
    assert sorted(tmp_path.rglob("*")) == sorted([*whole, other.parent, other])  # what it does not write to stays


def test_images_of_a_union_and_their_masks(built, tmp_path):
    folder, _ = built
    count = export.export_images(open_dataset(folder / "synhead++"), tmp_path)
    ids = by_h5py(folder, "id", "synhead++")
    assert count == len(ids) and len(list(tmp_path.rglob("*.jpg"))) == len(list(tmp_path.rglob("*_mask.png"))) == count
    for index in (0, count // 2, count - 1):
        mask = cv2.imread(str(tmp_path / f"{ids[index]}_mask.png"), cv2.IMREAD_UNCHANGED)
        bits = np.unpackbits(by_h5py(folder, "mask/bits", "synhead++")[index])[: 32 * 32].reshape(32, 32)
        assert (mask == bits * 255).all() and cv2.imread(str(tmp_path / f"{ids[index]}.jpg")).shape == (32, 32, 3)


def test_damaged_shards_are_told(built, tmp_path):
    folder = shutil.copytree(built[0] / "biwi+", tmp_path / "biwi+")
    shard = folder / "shard-00001-of-00004.h5"
    with h5py.File(shard, "r+") as file:
        file["id"][2] = b"../../outside"
        file["image/bytes"][:2] = 0
    with pytest.raises(DatasetError, match="is damaged; delete it and build again"):
        export.export_images(open_dataset(folder), tmp_path / "out")
    assert not (tmp_path / "outside.png").exists()
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(DatasetError, match=f"{shard.name}: damaged"):
        export.export_npz(open_dataset(folder), tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()
