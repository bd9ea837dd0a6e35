"""What the commands say of damaged input: the file, the way to mend it, the exit status, and nothing else is lost."""

import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from headposeplus.build.match import visible
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.files import sha256
from headposeplus.miniature.poses import hidden_order
from headposeplus.raw import biwi, synhead
from headposeplus.rotations import to_matrix
from tests.circumstances import file_limit

HEADS = ("f01", "f02", "m01")  # a few are enough, and quicker


@pytest.fixture
def raw(tiny, tmp_path):
    """A copy of the tiny miniature with fewer heads, to damage."""
    others = shutil.ignore_patterns(*(head for head in synhead.HEADS if head not in HEADS))
    return Path(shutil.copytree(tiny, tmp_path / "raw", ignore=others))


@pytest.fixture
def build(raw, tmp_path, hpp):
    """Build from raw Biwi or SynHead by the command line; return what it prints and the ids that were built."""

    def run(which, expect, *more):
        folder = {"biwi": "hpdb", "synhead": "synhead2_release"}[which]
        known = [] if which == "biwi" else ["--render-order", hidden_order(0)]
        output = hpp("build-datasets", f"--{which}", raw / folder, *known, "--out", tmp_path / "data", "--size", 16,
                     "--jobs", 1, "--manifest", raw / "data_manifest.csv", *more, expect=expect).output  # fmt: skip
        assert "Traceback" not in output
        dataset = tmp_path / "data" / f"{which}+"
        ids = read_labels(open_dataset(dataset))[0].tolist() if expect != 1 else []
        return output, set(ids)

    return run


def all_frames(raw):
    return [frame for name in biwi.sequences(raw / "hpdb") for frame in biwi.list_frames(raw / "hpdb", name)[0]]


def all_images(raw):
    """The ids that SynHead+ should have: every image in which the face looks at the camera."""
    found = set()
    for track in synhead.tracks(raw / "synhead2_release"):
        seen = np.flatnonzero(visible(to_matrix(synhead.read_angles(track), hidden_order(0)), 0.1))
        found |= {synhead.image_id(track.group, head, track.name, int(i)) for head in HEADS for i in seen}
    return found


def only_line(output, path):
    """The one line that names the file."""
    lines = [line for line in output.splitlines() if str(path) in line]
    assert len(lines) == 1, output
    return lines[0]


def write(text):
    return lambda path: path.write_text(text)


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("kind", "damage", "says"),
    [
        ("image", cut, "truncated image .* restore it from the raw archive"),
        ("image", lambda path: path.write_bytes(b""), "expected a PNG or JPEG image, found an empty file"),
        ("pose", write(""), "expected three rows of a rotation and the head's centre, found nothing"),
        (
            "pose",
            write("1 0 0\n0 1.2 0\n0 0 1\n\n0 0 900\n"),
            "R times its transpose is off .* restore it",
        ),
        ("pose", write("1 0 0\n0 -1 0\n0 0 1\n\n0 0 900\n"), "its determinant is not positive; restore it"),
        ("pose", write("1 0 0\n0 1 0\n0 0 1\n\n0 0 nan\n"), "expected three rows of a rotation"),
    ],
)
def test_a_damaged_biwi_frame_costs_itself_alone(raw, build, kind, damage, says):
    frames = all_frames(raw)
    path = getattr(frames[17], kind)
    damage(path)
    output, ids = build("biwi", 3)
    assert re.search(says, only_line(output, path))
    assert "1 damaged or incomplete frame was left out" in output
    assert ids == {frame.id for frame in frames} - {frames[17].id}


@pytest.mark.parametrize(
    ("kind", "other", "end"), [("image", "pose", "rgb.png or .jpg"), ("pose", "image", "pose.txt")]
)
def test_half_a_biwi_frame_is_named_by_its_other_half(raw, build, kind, other, end):
    shutil.rmtree(raw / "db_annotations")  # which has the poses too
    frames = all_frames(raw)
    getattr(frames[17], kind).unlink()
    output, ids = build("biwi", 3)
    line = only_line(output, getattr(frames[17], other))
    assert line.endswith(f"no frame_{frames[17].number:05d}_{end} beside it; restore it")
    assert ids == {frame.id for frame in frames} - {frames[17].id}


def test_the_calibration_of_another_sequence(raw, build):
    shutil.copy(raw / "hpdb/01/rgb.cal", raw / "hpdb/06/rgb.cal")
    frames = all_frames(raw)
    output, ids = build("biwi", 3)
    told = f"{raw}/hpdb/06/rgb.cal: not the calibration of this sequence, whose group is B; restore it from the raw"
    assert output.count(told) == 12 == sum(frame.sequence == "06" for frame in frames)
    assert ids == {frame.id for frame in frames if frame.sequence != "06"}


def test_a_sequence_that_is_a_file(raw, build):
    (raw / "hpdb/07").write_text("")
    output, _ = build("biwi", 1)
    says = "expected a folder with a Biwi sequence, found a file; move it elsewhere"
    assert only_line(output, raw / "hpdb/07").endswith(says)
    (raw / "hpdb/07").unlink()
    assert len(build("biwi", 0)[1]) == 48


def test_of_two_images_of_a_biwi_frame_the_png_is_read(raw, build):
    frame = all_frames(raw)[3]
    frame.image.with_suffix(".jpg").write_bytes(b"no image")
    output, ids = build("biwi", 0)
    assert "left out:" not in output and frame.id in ids and len(ids) == 48


@pytest.mark.parametrize("kind", ["image", "pose"])
def test_a_file_that_may_not_be_read(raw, build, monkeypatch, kind):
    frames = all_frames(raw)
    path, real = getattr(frames[5], kind), os.open

    def refuse(opened, *args, **kwargs):
        if not isinstance(opened, int) and Path(opened) == path:
            raise PermissionError(13, "Permission denied", str(opened))
        return real(opened, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    output, ids = build("biwi", 3)
    assert "cannot be read: Permission denied" in only_line(output, path)
    assert ids == {frame.id for frame in frames} - {frames[5].id}


def test_a_folder_that_may_not_be_read(raw, build, monkeypatch):
    real = os.listdir

    def refuse(folder):
        if folder == raw / "hpdb/03":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    output, _ = build("biwi", 1)
    assert only_line(output, raw / "hpdb/03").endswith("expected a folder; give yourself the right to read it")


def first_row(change):
    def damage(root):
        path = root / "kinect/00.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join(change(lines)) + "\n")
        return path

    return damage


def damage_image(change):
    def damage(root):
        change(root / "kinect/f02/00/04.png")
        return root / "kinect/f02/00"

    return damage


TRACK, FOLDER, FRAME = "/kinect/", "/kinect/f02/", "synhead/kinect/f02/00/00004"


@pytest.mark.parametrize(
    ("damage", "says", "lost"),
    [
        (first_row(lambda lines: ["nan,0,0", *lines[1:]]), "line 1: expected a row a frame: pitch,yaw,roll", TRACK),
        (first_row(lambda lines: ["pitch,yaw,roll", *lines]), "without a header; found 'pitch,yaw,roll'", TRACK),
        (first_row(lambda lines: [line.replace(",", ";") for line in lines]), "line 1: expected a row", TRACK),
        (damage_image(Path.unlink), "7 images, but", FOLDER),
        (damage_image(lambda p: shutil.copy(p, p.with_name("004.png"))), "has the number 4, as", FOLDER),
        (damage_image(cut), "truncated image", FRAME),
        (damage_image(lambda p: p.write_bytes(b"")), "found an empty file", FRAME),
    ],
)
def test_damaged_synhead_costs_what_it_belongs_to_alone(raw, build, damage, says, lost):
    expected = all_images(raw)
    gone = {name for name in expected if lost in name}
    path = damage(raw / "synhead2_release")
    output, ids = build("synhead", 3)
    assert says in only_line(output, path)
    assert gone and ids == expected - gone


def test_a_limit_of_file_size_and_then_room(raw, build, tmp_path):
    with file_limit(9_000):
        output, _ = build("biwi", 1)
    assert re.search(r"shard-0000\d-of-00004\.h5: the system's limit for a file's size is reached", output)
    assert "raise it and run the same command again" in output
    assert not list((tmp_path / "data/biwi+").iterdir())
    assert len(build("biwi", 0)[1]) == 48


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(path):
    with h5py.File(path) as file:  # somewhere in the middle of the images
        at = file["image/bytes"].id.get_chunk_info(0).byte_offset + 1000
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_in_half, flip_a_byte])
def test_a_damaged_shard_is_found_and_mended(raw, build, hpp, tmp_path, damage):
    build("biwi", 0)
    path = tmp_path / "data/biwi+/shard-00002-of-00004.h5"
    before, told = sha256(path), (tmp_path / "data/biwi+/dataset.json").read_bytes()
    check = ("verify", tmp_path / "data", "--manifest", raw / "data_manifest.csv")
    hpp(*check)
    damage(path)
    line = only_line(hpp(*check, expect=3).output, path)
    assert "damaged or changed" in line and "delete it and run the build again" in line
    path.unlink()
    build("biwi", 0)
    assert sha256(path) == before and (tmp_path / "data/biwi+/dataset.json").read_bytes() == told
    hpp(*check)


@pytest.mark.parametrize("sides", [(",", "a.csv"), ("a.csv", ""), ("a.csv", " , ")])
def test_names_between_commas_may_not_all_be_empty(tmp_path, hpp, sides):
    output = hpp("compare", *sides, "--data", tmp_path, expect=1).output
    assert output == "Error: give two files of predictions, or for each those of several seeds: a.csv,b.csv\n"
