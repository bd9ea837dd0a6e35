"""Built datasets from a stranger: files that name others, pipes in a file's place, shapes and kinds no build writes."""

import json
import os
import shutil
import signal
import socket

import h5py
import numpy as np
import pytest

SECRET = "root-of-all-evil"
SHARD = "shard-00001-of-00004.h5"


@pytest.fixture(autouse=True)
def no_hang():
    """End a test that waits for the other end of a pipe."""

    def late(number, frame):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def dataset(built, tmp_path):
    """A copy of Biwi+, to change; and beside it a file with a secret and a pipe."""
    folder = tmp_path / "biwi+"
    shutil.copytree(built[0] / "biwi+", folder)
    (tmp_path / "secret").write_text(SECRET * 100)
    os.mkfifo(tmp_path / "pipe")
    return folder


def put(name, **how):
    """Replace a field of a shard by another one."""

    def change(file, outside):
        count = len(file["id"])
        del file[name]
        file.create_dataset(name, **{"shape": (count,), "dtype": "S8"} | how)

    return change


def external(file, outside):
    put("subject", external=[(str(outside / "secret"), 0, h5py.h5s.UNLIMITED)])(file, outside)


def virtual(source, unlimited):
    def change(file, outside):
        count = None if unlimited else len(file["id"])
        whole = (h5py.h5s.UNLIMITED if unlimited else count,)
        spaces = [h5py.h5s.create_simple((4,), (h5py.h5s.UNLIMITED,)) for _ in range(2)]
        if unlimited:
            for space in spaces:
                space.select_hyperslab((0,), (1,), (1,), whole)
        else:
            spaces = [h5py.h5s.create_simple((count,)) for _ in range(2)]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_virtual(spaces[0], str(outside / source).encode(), b"x", spaces[1])
        del file["subject"]
        h5py.h5d.create(file.id, b"subject", h5py.h5t.py_create(np.dtype("S8")), spaces[0], dcpl=plan)

    return change


def link(made):
    def change(file, outside):
        del file["subject"]
        file["subject"] = made(outside)

    return change


def loop(file, outside):
    file["label/label"] = file["label"]


def reference(file, outside):
    place = file["id"].ref
    put("subject", dtype=h5py.ref_dtype, data=[place] * len(file["id"]))(file, outside)


def many(file, outside):
    for number in range(100):
        file[f"x{number}"] = np.zeros(1)


CHANGES = {
    "external": (external, "'subject' lies in another file"),
    "virtual": (virtual("secret", False), "'subject' lies in another file"),
    "virtual of a pipe": (virtual("pipe", True), "'subject' lies in another file"),
    "external link": (link(lambda outside: h5py.ExternalLink(outside / "secret", "/x")), "'subject' is a link"),
    "external link to a pipe": (link(lambda outside: h5py.ExternalLink(outside / "pipe", "/x")), "'subject' is a link"),
    "soft link": (link(lambda outside: h5py.SoftLink("/id")), "'subject' is a link"),
    "loop": (loop, "'label/label' is no field"),
    "named type": (lambda file, outside: file.__setitem__("t", np.dtype("f8")), "'t' is no field"),
    "many": (many, "it has 64 fields or more"),
    "compressed": (put("subject", compression="gzip", chunks=(4,)), "'subject' is compressed or filtered"),
    "checksum": (put("subject", fletcher32=True, chunks=(4,)), "'subject' is compressed or filtered"),
    "reference": (reference, "'subject' holds neither numbers nor texts of one length"),
    "texts": (put("subject", dtype=h5py.string_dtype()), "'subject' holds neither numbers nor texts of one length"),
    "lists": (put("box", dtype=h5py.vlen_dtype("i4")), "'box' holds neither numbers"),
    "records": (put("subject", dtype=[("a", "f8")]), "'subject' holds neither numbers"),
    "petabyte": (
        put("label/pyr", shape=(1 << 47, 3), chunks=(9, 3), dtype="f8"),
        "'label/pyr' has the shape (140737488355328, 3)",
    ),
    "long texts": (
        put("subject", dtype=f"S{1 << 30}", chunks=(1,)),
        "'subject' has the shape (12,) of |S1073741824, more",
    ),
    "shape": (put("label/pyr", dtype="f8"), "'label/pyr' has the shape (12,) and the type float64"),
    "scalar": (put("label/pyr", shape=(), dtype="f8"), "'label/pyr' has the shape () and the type float64"),
    "kind": (put("subject", dtype="i4"), "'subject' has the shape (12,) and the type int32"),
    "rows": (put("label/pyr", shape=(5, 3), dtype="f8"), "its fields have 5 and 12 rows"),
}


def refused(hpp, dataset, says):
    """Demand one line, which names the file, and nothing written."""
    out = dataset.parent / "out.csv"
    output = hpp("export", dataset, "--out", out, expect=1).output
    assert output.startswith(f"Error: {dataset}/") and output.count("\n") == 1 and says in output, output
    assert SECRET not in output and not out.exists() and not out.with_suffix(".toml").exists()


@pytest.mark.parametrize("case", CHANGES)
def test_what_no_build_writes_is_refused_before_anything_is_read(hpp, dataset, case):
    change, says = CHANGES[case]
    with h5py.File(dataset / SHARD, "r+") as file:
        change(file, dataset.parent)
    says = f"{SHARD}: not as a build writes it: {says}"
    refused(hpp, dataset, says)


def a_socket(path):
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(path.name)


@pytest.mark.parametrize(
    ("put_there", "says"),
    [
        (os.mkfifo, "it is a pipe, not a file"),
        (lambda path: path.symlink_to("/dev/null"), "it is a device, not a file"),
        (os.mkdir, "Is a directory"),
        (a_socket, "it is a socket, not a file"),
        (lambda path: path.symlink_to(path.parent.parent / "pipe"), "it is a pipe, not a file"),
    ],
)
def test_what_is_no_file_is_not_waited_for(hpp, dataset, monkeypatch, put_there, says):
    monkeypatch.chdir(dataset)
    (dataset / SHARD).unlink()
    put_there(dataset / SHARD)
    refused(hpp, dataset, f"{SHARD}: cannot be read: {says}")
    (dataset / "dataset.json").unlink()
    put_there(dataset / "dataset.json")
    refused(hpp, dataset, "dataset.json")


def described(dataset, **changes):
    path = dataset / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b.h5", "..", ".h5", "secret", "a\0.h5", "a\n.h5", ""])
def test_a_shard_elsewhere_is_not_followed(hpp, dataset, name):
    told = json.loads((dataset / "dataset.json").read_text())["shards"]
    described(dataset, shards=[told[0] | {"file": name}, *told[1:]])
    refused(hpp, dataset, "dataset.json, shards: names the shard ")
    hpp("verify", dataset, expect=3)


@pytest.mark.parametrize("name", ["../secret", "/etc", "biwi+/../biwi+", "."])
def test_a_joined_dataset_elsewhere_is_not_followed(hpp, dataset, name):
    described(dataset, joins=[name], joined=["0"])
    refused(hpp, dataset, "dataset.json: expected a dataset of schema 2, but: Invalid enum value")
    hpp("verify", dataset, expect=3)


def test_a_link_in_the_folder_is_followed(hpp, dataset):
    (dataset / SHARD).rename(dataset.parent / "elsewhere.h5")
    (dataset / SHARD).symlink_to(dataset.parent / "elsewhere.h5")
    hpp("export", dataset, "--out", dataset.parent / "out.csv")
    assert (dataset.parent / "out.csv").exists()
