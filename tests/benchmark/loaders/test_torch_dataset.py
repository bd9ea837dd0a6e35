import gc
import os
import pickle
import shutil

import cv2
import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from baselines.networks import IMAGE_MEAN, IMAGE_STD
from benchmark.loaders import compose, torch_dataset
from benchmark.loaders.torch_dataset import HeadPoseDataset
from headposeplus.datasets.dataset import open_dataset
from headposeplus.errors import DatasetError
from headposeplus.raw import subsets
from tests.digests import sign

pytestmark = pytest.mark.usefixtures("one_thread")


def open_files():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def rows_by_h5py(folder, name):
    """Yield the rows of a dataset, read without the toolkit."""
    for path in sorted((folder / name).glob("shard-*.h5")):
        with h5py.File(path) as file:
            for i in range(len(file["id"])):
                start, end = file["image/offset"][i : i + 2]
                yield {
                    "image": cv2.imdecode(file["image/bytes"][start:end], cv2.IMREAD_COLOR)[..., ::-1],
                    "rotation": file["label/rotation"][i],
                    "angles": file["label/pyr"][i],
                    "box": file["box"][i],
                    "id": file["id"][i].decode(),
                    "subject": file["subject"][i].decode(),
                    "mask": np.unpackbits(file["mask/bits"][i])[: 32 * 32].reshape(32, 32) if "mask" in file else None,
                }


def same(sample, row):
    assert sample["image"].dtype == torch.uint8 and sample["image"].shape == (3, 32, 32)
    assert (sample["image"].permute(1, 2, 0).numpy() == row["image"]).all()
    for key in ("rotation", "angles"):
        assert sample[key].dtype == torch.float32 and sample[key].numpy() == pytest.approx(row[key], abs=1e-4)
    assert sample["box"].tolist() == row["box"].tolist()
    assert (sample["id"], sample["subject"]) == (row["id"], row["subject"])
    assert ("mask" in sample) == (row["mask"] is not None)
    if "mask" in sample:
        assert sample["mask"].dtype == torch.bool and (sample["mask"].numpy() == row["mask"]).all()


@pytest.mark.parametrize("name", ["biwi+", "synbiwi+", "synhead++"])
def test_samples_are_the_rows_in_any_order(built, name):
    folder, _ = built
    parts = ("synhead+", "synbiwi+") if name == "synhead++" else (name,)
    rows = [row for part in parts for row in rows_by_h5py(folder, part)]
    dataset = HeadPoseDataset(str(folder / name))
    assert len(dataset) == len(rows)
    chosen = np.random.default_rng(0).permutation(len(rows))[:60]
    for index in (*chosen, 0, len(rows) - 1):
        same(dataset[index], rows[index])
    same(dataset[-1], rows[-1])
    for index in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError, match=f"no sample {index} among {len(rows)}"):
            dataset[index]


def test_workers_open_their_own_files(built):
    folder, _ = built
    rows = {row["id"]: row for part in ("synhead+", "synbiwi+") for row in rows_by_h5py(folder, part)}
    dataset, other = HeadPoseDataset(folder / "synhead++"), HeadPoseDataset(folder / "synhead++")
    assert dataset[0]["id"] == other[0]["id"]  # both now hold open files, which workers must not share
    loader = DataLoader(dataset, batch_size=50, shuffle=True, num_workers=2)
    seen = []
    for _ in range(2):
        for batch in loader:
            assert batch["rotation"].shape[1:] == (3, 3) and batch["mask"].shape[1:] == (32, 32)
            for i, name in enumerate(batch["id"]):
                same({key: values[i] for key, values in batch.items()}, rows[name])
                seen.append(name)
    assert sorted(seen) == sorted([*rows, *rows])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_holds_no_file_of_its_parent(built):
    before = open_files()
    dataset = HeadPoseDataset(built[0] / "biwi+")
    dataset[0], dataset[-1]
    assert len(dataset._files) == 2
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if not dataset._files and open_files() == before else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert dataset[0]["id"] and len(dataset._files) == 2
    dataset.close()
    assert not dataset._files and dataset[0]["id"]


def test_files_close_with_the_dataset_and_pickles_hold_none(built):
    gc.collect()
    before, others = open_files(), len(torch_dataset._open_datasets)
    dataset = HeadPoseDataset(built[0] / "biwi+")
    same(dataset[1], list(rows_by_h5py(built[0], "biwi+"))[1])
    copy = pickle.loads(pickle.dumps(dataset))
    assert not copy._files and copy[1]["id"] == dataset[1]["id"] and copy in torch_dataset._open_datasets
    file = dataset._files[0]
    del dataset, copy
    gc.collect()
    assert file and len(torch_dataset._open_datasets) == others
    del file
    gc.collect()
    assert open_files() == before


def test_a_target_is_read_without_its_labels(built, tmp_path):
    folder = shutil.copytree(built[0] / "biwi+", tmp_path / "biwi+")
    for path in folder.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            del file["label"]
    sign(folder)
    sample = HeadPoseDataset(folder, labels=False)[7]
    assert sorted(sample) == ["box", "id", "image", "subject"]
    with pytest.raises(DatasetError, match=r"shard-00000-of-00004\.h5: damaged .*delete it and run the build again"):
        HeadPoseDataset(folder)[7]


def test_subsets_and_transforms(built, tiny):
    folder, _ = built
    subset = subsets.find("biwi/leave-F03-out/test", tiny / "data_manifest.csv")
    dataset = HeadPoseDataset(folder / "biwi+", subset, transform=lambda sample: (sample["id"], sample["angles"]))
    rows = [row for row in rows_by_h5py(folder, "biwi+") if row["id"] in subset.ids]
    assert len(dataset) == len(rows) == 24
    for index, (name, angles) in enumerate(dataset[i] for i in range(24)):
        assert name == rows[index]["id"] and angles.numpy() == pytest.approx(rows[index]["angles"], abs=1e-4)
    with pytest.raises(DatasetError, match="of its 9,804 frames are not in the dataset"):
        HeadPoseDataset(folder / "biwi+", "biwi/male")


@pytest.mark.parametrize("backgrounds", [True, False])
def test_backgrounds_are_those_of_the_benchmarks_training(built, tmp_path, backgrounds):
    folder = shutil.copytree(built[0], tmp_path / "data")
    if not backgrounds:
        (folder / "synhead+/backgrounds.h5").unlink()
    cpu = torch.device("cpu")
    source = compose.load_source(open_dataset(folder / "synhead++"), cpu, threads=1)
    composer = compose.Composer(source, cpu, seed=3)
    dataset = HeadPoseDataset(folder / "synhead++", composite=True, seed=3)
    indices = np.array([0, 700, 5, len(dataset) - 1])
    pictures = []
    for epoch in (0, 4):
        dataset.set_epoch(epoch)
        images, _ = composer.source(indices, *source.store.gather(indices), epoch)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (IMAGE_MEAN, IMAGE_STD))
        expected = (images * std + mean).round().to(torch.uint8)
        composed = torch.stack([dataset[index]["image"] for index in indices])
        assert (composed == expected).all()
        pictures.append(composed)
    assert (pictures[0] != pictures[1]).any()
    plain = HeadPoseDataset(folder / "synhead++")[700]
    assert (pictures[0][1][:, plain["mask"]] == plain["image"][:, plain["mask"]]).all()


def test_a_target_has_no_heads_to_cut_out(built):
    with pytest.raises(DatasetError, match="its images are not rendered"):
        HeadPoseDataset(built[0] / "biwi+", composite=True)
