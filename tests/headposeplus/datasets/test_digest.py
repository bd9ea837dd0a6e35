"""The hash of what a dataset says of its images, which is the same on every processor."""

import hashlib
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from headposeplus.datasets import dataset as dataset_file
from headposeplus.datasets.dataset import labels_sha256, open_dataset, read_angles, read_labels
from headposeplus.datasets.info import INFO
from headposeplus.files import content_hash
from headposeplus.rotations import from_matrix, in_plane
from headposeplus.verify import datasets as verify
from headposeplus.verify.describe import describe_data

ROOT = Path(__file__).resolve().parents[3]
# Other arithmetic on the same processor: OpenBLAS, NumPy, OpenCV and the C library choose theirs by what it can do.
OLDER = {
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",
    "OPENCV_CPU_DISABLE": "AVX2,AVX,FP16,AVX512_SKX,SSE4.2,SSE4.1",
    "OPENCV_IPP": "disabled",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F",
}
BUILD = """
import sys
import tracemalloc
from pathlib import Path
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.miniature.write import source_of
source = source_of(Path(sys.argv[1]))._replace(render_order="xzy---")
for dataset in build_datasets(source, Path(sys.argv[2]), Options(size=32)).datasets:
    print(dataset.name, dataset.info.labels_sha256, dataset.info.content_sha256)
"""


@pytest.fixture
def data(built, tmp_path):
    """A copy of the built datasets to change."""
    return shutil.copytree(built[0], tmp_path / "data")


def by_hand(folder):
    """Return the hash as its definition says it, a number after the other."""
    rows = []
    for path in folder.glob("shard-*.h5"):
        with h5py.File(path) as file:
            sources = file["source"][...] if "source" in file else [None] * len(file["id"])
            rows += zip(file["id"][...], file["label/rotation"][...], file["box"][...], sources, strict=True)
    rows.sort(key=lambda row: row[0])
    numbers = [[math.floor(x * 1e4 + 0.381966) for x in row[1].ravel()] + row[2].tolist() for row in rows]
    digest = hashlib.sha256(b"\n".join(row[0] for row in rows))
    digest.update(b"".join(struct.pack("<13i", *row) for row in numbers))
    if rows[0][3] is not None:
        digest.update(b"\n".join(row[3] for row in rows))
    return digest.hexdigest()


def change(path, name, values):
    with h5py.File(path, "r+") as file:
        file[name][...] = values(file[name][...])


def test_it_is_what_its_definition_says(built):
    digests = {name: by_hand(built[0] / name) for name in ("biwi+", "synhead+", "synbiwi+")}
    digests["synhead++"] = content_hash([digests["synhead+"], digests["synbiwi+"]])
    for name, digest in digests.items():
        dataset = open_dataset(built[0] / name)
        assert digest == labels_sha256(dataset) == dataset.info.labels_sha256


def test_the_last_digits_are_not_in_it_and_the_others_are(data):
    dataset = open_dataset(data / "biwi+")
    path, first = data / "biwi+" / dataset.info.shards[0].file, dataset.info.labels_sha256
    change(path, "label/rotation", lambda rotation: rotation * (1 + 4e-16))
    assert labels_sha256(dataset) == first
    change(path, "image/bytes", lambda image: image ^ 1)
    assert labels_sha256(dataset) == first
    change(path, "box", lambda box: box + np.array([1, 0, 0, 0]))
    second = labels_sha256(dataset)
    change(path, "label/rotation", lambda rotation: in_plane(0.05) @ rotation)
    assert len({first, second, labels_sha256(dataset)}) == 3


def test_round_numbers_lie_at_no_edge():
    """Whatever has up to eight digits is further from an edge than a hundred thousand roundings."""
    for digits in range(9):
        numbers = np.concatenate((np.arange(-2000, 2001), np.array([10**digits]))) / 10**digits
        parts = (numbers * 1e4 + 0.381966) % 1
        assert np.minimum(parts, 1 - parts).min() > 1e-6 * (digits <= 8)


@pytest.mark.slow
def test_other_arithmetic_gives_the_same(tiny, built, tmp_path):
    words = [sys.executable, "-c", BUILD, str(tiny), str(tmp_path)]
    environment = os.environ | OLDER | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(line.split()[:2] for line in done.stdout.splitlines())
    assert found == {dataset.name: dataset.info.labels_sha256 for dataset in built[1].datasets}


def test_verify_compares_it_and_build_and_inspect_print_it(data, hpp, tmp_path):
    digests = {name: open_dataset(data / name).info.labels_sha256 for name in ("biwi+", "synhead+", "synhead++")}
    report = verify.verify_data(data)
    assert not report.faults
    listed = f"the same on every processor:\n  biwi+ {digests['biwi+'][:8]}, synhead+ {digests['synhead+'][:8]}, syn"
    assert listed in describe_data(report)
    inspected = hpp("inspect", data, "--out", tmp_path / "inspected").output
    card = (tmp_path / "inspected/card.md").read_text()
    assert len(list((tmp_path / "inspected").glob("*.png"))) == 4 and not list(tmp_path.rglob("*.pdf"))  # none unasked
    for digest in digests.values():
        assert digest[:8] in inspected and f"the same on every processor: SHA-256 `{digest}`" in card
    note = data / "biwi+/dataset.json"
    info = json.loads(note.read_text())
    note.write_text(json.dumps(info | {"labels_sha256": "0" * 64}))
    (fault,) = verify.verify_data(data).faults
    assert str(fault).startswith(
        f"{note}: changed since the build: expected the labels_sha256 {digests['biwi+']}, found"
    )
    del info["labels_sha256"]  # an older build noted none
    note.write_text(json.dumps(info))
    assert not verify.verify_data(data).faults and listed in describe_data(verify.verify_data(data))


def test_that_of_a_union_follows_from_what_its_parts_say_of_themselves(data):
    path = data / "synbiwi+" / INFO
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels_sha256": "ab" * 32}))
    union = open_dataset(data / "synhead++")
    of_first = open_dataset(data / "synhead+").info.labels_sha256
    assert labels_sha256(union, told=True) == content_hash([of_first, "ab" * 32])
    assert labels_sha256(union) == union.info.labels_sha256


def test_blocks_do_not_show_in_it(built, monkeypatch):
    monkeypatch.setattr(dataset_file, "_BLOCK", 7)
    for name in ("biwi+", "synbiwi+"):
        dataset = open_dataset(built[0] / name)
        assert labels_sha256(dataset) == dataset.info.labels_sha256


def test_angles_are_those_of_the_rotations(built):
    for name in ("biwi+", "synhead++"):
        dataset = open_dataset(built[0] / name)
        assert np.array_equal(read_angles(dataset), from_matrix(read_labels(dataset)[1]))


def peak(function, *arguments):
    """Return the most bytes that are held at once while a function runs."""
    function(*arguments)  # what it loads and keeps
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("most", [(labels_sha256, 300), (read_angles, 120)], ids=["hash", "angles"])
def test_rows_take_little_memory(built, monkeypatch, most):
    """There are half a million: what is held of them all is numbers and short texts, else one shard at a time."""
    monkeypatch.setattr(dataset_file, "_BLOCK", 64)
    function, bytes_a_row = most
    dataset = open_dataset(built[0] / "synhead+")
    assert peak(function, dataset) < bytes_a_row * dataset.info.rows
