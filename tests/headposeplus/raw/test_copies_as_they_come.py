"""Raw copies and datasets as they come from sticks, cameras and other systems."""

import os
import re
import shutil
import subprocess
import sys

import cv2
import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from benchmark.cli.main import main
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import open_dataset
from headposeplus.errors import RawDataError
from headposeplus.files import below, leftovers, listing
from headposeplus.miniature.write import source_of
from headposeplus.raw import biwi, synhead
from headposeplus.raw.aflw2000 import AFLW2000
from headposeplus.raw.folders import TwoCopiesError

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(4072)


def add_litter(folder):
    """Put beside all that a folder holds what macOS and Windows put there."""
    for place in [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())]:
        for path in list(place.iterdir()):
            (place / f"._{path.name}").write_bytes(APPLE_DOUBLE)
        (place / "__MACOSX").mkdir()
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._0001.png"):
            (place / name).write_bytes(APPLE_DOUBLE)


def write_endings_in_capitals(folder):
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.name not in ("data_manifest.csv", "miniature.json"):
            path.rename(path.with_name(path.stem + path.suffix.upper()))


def append_to_images(folder):
    for number, path in enumerate(path for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".jpg")):
        path.write_bytes(path.read_bytes() + (b"\n", bytes(100), b"SEFT\xff\xd8 trailer")[number % 3])


def contents(data):
    """All that the shards of datasets hold, by dataset and file."""
    found = {}
    for path in sorted(data.glob("*/*.h5")):
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item, path=path: (
                    found.update({(path.parent.name, path.name, name): item[()].tolist()})
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
    return found


@pytest.fixture(scope="module")
def of_built(built):
    return contents(built[0])


@pytest.fixture(scope="module")
def verified(tiny):
    """What is said of the whole miniature, whose folder is called RAW there."""
    words = ["verify", "--biwi", tiny / "hpdb", "--synhead", tiny / "synhead2_release",
             "--manifest", tiny / "data_manifest.csv", "--jobs", 1, "--deep"]  # fmt: skip
    done = CliRunner(env={"COLUMNS": "1000"}).invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout.replace(str(tiny), "RAW")


@pytest.mark.parametrize("alter", [add_litter, write_endings_in_capitals, append_to_images])
def test_a_copy_as_it_comes_is_whole_and_builds_the_same(alter, verified, of_built, built, tiny_copy, tmp_path, hpp):
    alter(tiny_copy)
    copies = ("--biwi", tiny_copy / "hpdb", "--synhead", tiny_copy / "synhead2_release",
              "--manifest", tiny_copy / "data_manifest.csv", "--jobs", 1)  # fmt: skip
    assert hpp("verify", *copies, "--deep").stdout.replace(str(tiny_copy), "RAW") == verified
    order = open_dataset(built[0] / "synhead+").info.parameters.render_order
    output = hpp("build-datasets", *copies, "--size", 32, "--render-order", order, "--out", tmp_path / "data").output
    assert "left out:" not in output
    assert f"raw biwi found at {tiny_copy / 'hpdb'}\nraw synhead found at {tiny_copy / 'synhead2_release'}\n" in output
    assert contents(tmp_path / "data") == of_built and len(of_built) > 200


def test_pipes_and_devices_in_the_place_of_files_are_left_out_without_waiting(tiny_copy, tmp_path):
    frames, _ = biwi.list_frames(tiny_copy / "hpdb", "01")
    for path in (frames[0].image, frames[1].pose):
        path.unlink()
        os.mkfifo(path)
    frames[2].image.unlink()
    frames[2].image.symlink_to("/dev/zero")
    words = ["--biwi", tiny_copy / "hpdb", "--manifest", tiny_copy / "data_manifest.csv", "--jobs", "1"]
    command = [sys.executable, "-m", "benchmark", "build-datasets", *words, "--size", "32", "--out", tmp_path / "data"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 3 and "Traceback" not in told, told
    for path, kind in ((frames[0].image, "pipe"), (frames[1].pose, "pipe"), (frames[2].image, "device")):
        assert f"{path}: cannot be read: it is a {kind}, not a file" in told, told
    left = {frame.id for frame in frames[:3]}
    ids = {name for (_, _, field), names in contents(tmp_path / "data").items() if field == "id" for name in names}
    assert ids and not left & {name.decode() for name in ids}


def test_litter_beside_a_built_dataset_does_no_harm(tiny, built, tmp_path, hpp):
    data = shutil.copytree(built[0], tmp_path / "data")
    leftover = data / "biwi+/.shard-00000-of-00004.h5.123.part"
    leftover.write_bytes(b"")
    add_litter(data)
    told = hpp("verify", data, "--manifest", tiny / "data_manifest.csv", expect=3).output
    assert "1 fault:" in told and f"{leftover}: not named in dataset.json" in told
    build_datasets(source_of(tiny), data, Options(size=32))  # which removes that, and what is not of its own stays
    assert leftovers(data / "biwi+") == [] and (data / "biwi+/._dataset.json").exists()
    assert "whole" in hpp("verify", data, "--manifest", tiny / "data_manifest.csv").output


def test_photographs_with_endings_in_capitals(photographs_copy, photographs):
    add_litter(photographs_copy)
    before, _ = AFLW2000.list_stills(photographs)
    for path in photographs_copy.glob("image*"):
        path.rename(path.with_suffix({".jpg": ".JPEG", ".mat": ".MAT"}[path.suffix]))
    assert AFLW2000.find_root(photographs_copy.parent) == photographs_copy
    stills, faults = AFLW2000.list_stills(photographs_copy)
    assert not faults and [still.number for still in stills] == [still.number for still in before]
    assert {still.image.suffix for still in stills} == {".JPEG"} and {s.label.suffix for s in stills} == {".MAT"}


def test_frames_with_endings_in_both_ways_are_one(tiny_copy):
    folder = tiny_copy / "hpdb/01"
    frames, _ = biwi.list_frames(tiny_copy / "hpdb", "01")
    for frame in frames:
        cv2.imwrite(str(frame.image.with_suffix(".JPG")), np.zeros((48, 64, 3), np.uint8))
        shutil.copy(frame.pose, folder / frame.pose.name.replace(".txt", ".TXT"))
    again, faults = biwi.list_frames(tiny_copy / "hpdb", "01")
    assert [frame.id for frame in again] == [frame.id for frame in frames] and not faults
    assert {frame.image.suffix for frame in again} == {".png"}


def test_listing(tmp_path):
    for name in ("b.PNG", "a.png", "._a.png", ".hidden.png", "Thumbs.db", "c.txt", "d.JPEG"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "__MACOSX/deep").mkdir(parents=True)
    (tmp_path / "e/deep").mkdir(parents=True)
    (tmp_path / "__MACOSX/deep/f.png").write_bytes(b"")
    (tmp_path / "e/deep/G.Png").write_bytes(b"")
    assert [path.name for path in listing(tmp_path)] == ["a.png", "b.PNG", "c.txt", "d.JPEG", "e"]
    assert [path.name for path in listing(tmp_path, ".png", ".jpeg")] == ["a.png", "b.PNG", "d.JPEG"]
    assert [path.name for path in below(tmp_path, ".png")] == ["a.png", "b.PNG", "G.Png"]


# ---- several copies


def some_sequences(tiny, folder, *names, frames=None):
    """A raw Biwi of some sequences, and of the first frames of them."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for path in sorted((tiny / "hpdb" / name).glob("frame_*"))[: frames and 3 * frames]:
            shutil.copy(path, folder / name)
        shutil.copy(tiny / "hpdb" / name / "rgb.cal", folder / name)
    return folder


def test_the_fullest_of_several_copies_is_taken(tiny, tmp_path, hpp):
    some_sequences(tiny, tmp_path / "a_backup_of_hpdb", "01", frames=3)
    some_sequences(tiny, tmp_path / "hpdb", "01", "03", frames=2)
    full = some_sequences(tiny, tmp_path / "hpdb/hpdb", "01", "03")
    (tmp_path / "a_link").symlink_to(full)
    (tmp_path / "links").mkdir()
    for name in ("01", "03"):
        (tmp_path / "links" / name).symlink_to(full / name)
    for given in (tmp_path, tmp_path / "hpdb", full):
        assert biwi.find_root(given).resolve() == full
    manifest = ("--manifest", tiny / "data_manifest.csv", "--jobs", 1)
    output = hpp("verify", "--biwi", tmp_path / "hpdb", *manifest, expect=3).output
    assert f"raw biwi found at {full}\n" in output
    output = hpp(
        "build-datasets", "--biwi", tmp_path / "hpdb", "--out", tmp_path / "out", "--size", 24, *manifest
    ).output
    assert f"raw biwi found at {full}\n" in output and re.search(r"biwi\+ +24 ", output)
    output = hpp("build-datasets", "--biwi", tmp_path / "hpdb", "--out", tmp_path / "no", "--dry-run", *manifest).output
    assert f"raw biwi found at {full}\n" in output


def test_copies_as_full_as_each_other_are_refused(tiny, photographs, tmp_path, hpp):
    a = some_sequences(tiny, tmp_path / "a", "01", frames=2)
    b = some_sequences(tiny, tmp_path / "b/faces_0", "03", frames=2)
    some_sequences(tiny, tmp_path / "c", "06", frames=1)
    output = hpp("verify", "--biwi", tmp_path, expect=1).output
    assert output == (
        f"Error: {tmp_path}: two copies of raw Biwi, as full as each other: {a} and {b} (sequences: 1, frames: 2); "
        "give the one that is meant\n"
    )
    assert biwi.find_root(a) == a
    inner = some_sequences(tiny, a / "hpdb", "01", frames=2)  # of the copy that is given, another one lies within
    assert biwi.find_root(a) == a and biwi.find_root(inner) == inner
    for name in ("one", "two"):
        shutil.copytree(photographs, tmp_path / "AFLW" / name)
    output = hpp("verify", "--aflw2000", tmp_path / "AFLW", expect=1).output
    assert "two copies of raw AFLW2000-3D" in output and "(photographs with their labels: 10)" in output
    with pytest.raises(TwoCopiesError):
        AFLW2000.find_root(tmp_path / "AFLW")
    (tmp_path / "AFLW/two/image00002.mat").unlink()
    assert AFLW2000.find_root(tmp_path / "AFLW") == tmp_path / "AFLW/one"


def test_the_fullest_synhead_has_the_most_tracks_then_the_most_images(tiny, tmp_path):
    source = tiny / "synhead2_release"
    for name, group in (("a", "kinect"), ("b", "BIWI"), ("c", "BIWI")):
        shutil.copytree(source / group, tmp_path / name / group)
    tracks = {name: len(synhead.tracks(tmp_path / name)) for name in "abc"}
    assert tracks["a"] < tracks["b"]
    with pytest.raises(
        TwoCopiesError, match=r"raw SynHead, as full as each other: .*/b and .*/c \(tracks: \d+, images: \d+\)"
    ):
        synhead.find_root(tmp_path)
    next((tmp_path / "b/BIWI").glob("f01/*/*.png")).unlink()
    assert synhead.find_root(tmp_path) == tmp_path / "c"
    next((tmp_path / "c/BIWI").glob("*.csv")).unlink()
    assert synhead.find_root(tmp_path) == tmp_path / "b"


def test_a_copy_above_the_given_folder_is_not_taken(tiny):
    with pytest.raises(RawDataError, match="not raw Biwi"):
        biwi.find_root(tiny / "hpdb/01")
