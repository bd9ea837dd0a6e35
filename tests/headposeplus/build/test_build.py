import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import cv2
import h5py
import msgspec
import numpy as np
import pytest

from headposeplus import rotations as rot
from headposeplus.build import build as building
from headposeplus.build import match
from headposeplus.build.build import build_datasets
from headposeplus.build.record import recorded
from headposeplus.build.work import Options
from headposeplus.datasets import shards
from headposeplus.datasets.dataset import Dataset, open_dataset, read_fields, read_labels
from headposeplus.datasets.info import NAMES
from headposeplus.errors import DatasetError, HeadposeError, RawDataError
from headposeplus.files import locked
from headposeplus.images import decode
from headposeplus.miniature.poses import hidden_order
from headposeplus.miniature.write import source_of
from headposeplus.raw import biwi, synhead
from headposeplus.raw.source import Source
from tests.circumstances import file_limit, small_disk

OPTIONS = Options(size=32)


def hashes(out):
    return {
        name: [shard.sha256 for shard in open_dataset(out / name).info.shards]
        for name in NAMES
        if (out / name / "dataset.json").exists()
    }


def source_in(raw):
    """The raw copies of a miniature, whose rendering order is given."""
    return source_of(raw)._replace(render_order="xzy---")


def rebuild(raw, out, options=OPTIONS):
    return build_datasets(source_in(raw), out, options)


def test_match_is_what_brute_force_finds(built, tiny):
    out, _ = built
    rows = list(
        read_fields(open_dataset(out / "synbiwi+"), "id", "source", "turn", "label/rotation",
                           "residual/geodesic", "residual/euler")
    )  # fmt: skip
    synbiwi = {key: np.concatenate([shard[key] for shard in rows]) for key in rows[0]}
    biwi_ids, targets = read_labels(open_dataset(out / "biwi+"))
    source_ids, sources = read_labels(open_dataset(out / "synhead+"))
    at = {name: i for i, name in enumerate(source_ids)}
    grid = np.arange(-180, 180, 1.0)
    for i in range(0, len(synbiwi["id"]), 7):
        frame, head = str(synbiwi["id"][i]).removeprefix("syn").rsplit("/", 1)
        target = targets[list(biwi_ids).index(frame)]
        mine = [j for j, name in enumerate(source_ids) if name.split("/")[2] == head]
        turned = rot.in_plane(grid)[:, None] @ sources[mine][None]
        assert synbiwi["residual/geodesic"][i] <= rot.geodesic(turned, target).min() + 1e-6
        # What is stored is the turned image's own pose, and the residual is its distance.
        own = rot.in_plane(synbiwi["turn"][i]) @ sources[at[str(synbiwi["source"][i])]]
        assert rot.geodesic(own, synbiwi["label/rotation"][i]) < 1e-6
        assert rot.geodesic(own, target) == pytest.approx(synbiwi["residual/geodesic"][i], abs=1e-6)
        euler = np.abs(rot.angle_difference(rot.from_matrix(own), rot.from_matrix(target))).mean()
        assert euler == pytest.approx(synbiwi["residual/euler"][i], abs=1e-6)
    info = open_dataset(out / "synbiwi+").info
    assert info.residual.euler.after.mean == pytest.approx(synbiwi["residual/euler"].mean(), abs=1e-4)
    assert len(synbiwi["id"]) == 10 * len(biwi_ids)


def test_match_without_a_source():
    with pytest.raises(DatasetError, match="`visible_margin`"):
        match.match(np.eye(3)[None], np.zeros((0, 3, 3)))


@pytest.mark.real
def test_match_of_the_real_poses_under_another_order(real, capsys):
    angles = np.load(real / "Biwi_plus.npz")["pyr"]
    targets, sources = rot.to_matrix(angles), rot.to_matrix(angles, "zyx+++")
    matched = match.match(targets, sources)
    with capsys.disabled():
        euler = matched.euler.mean()
        print(f"\nreal poses against themselves as zyx+++: mean Euler {euler:.3f} (published: 0.15) degrees")
    assert matched.geodesic.mean() < 1


def test_labels_are_the_raw_poses_in_the_rgb_camera(built, tiny):
    out, _ = built
    ids, rotations = read_labels(open_dataset(out / "biwi+"))
    stored = dict(zip(ids.tolist(), rotations, strict=True))
    for name in biwi.sequences(tiny / "hpdb"):
        camera = biwi._read_calibration(tiny / "hpdb" / name / "rgb.cal")
        for frame in biwi.list_frames(tiny / "hpdb", name)[0]:
            raw = camera.rotation @ biwi.read_pose(frame.pose).rotation
            assert rot.geodesic(stored.pop(frame.id), raw) < 1e-4
    assert not stored


def test_synhead_labels_and_visibility(built, tiny):
    out, _ = built
    dataset = open_dataset(out / "synhead+")
    ids, rotations = read_labels(dataset)
    expected = {}
    for track in synhead.tracks(tiny / "synhead2_release"):
        for i, rotation in enumerate(rot.to_matrix(synhead.read_angles(track), hidden_order(0))):
            if -(rotation @ [0, 0, -1])[2] > OPTIONS.visible_margin:  # the face's axis points to the camera
                for head in synhead.HEADS:
                    expected[synhead.image_id(track.group, head, track.name, i)] = rotation
    assert sorted(ids) == sorted(expected)
    assert rot.geodesic(rotations, np.stack([expected[name] for name in ids])).max() < 1e-5
    total = sum(len(synhead.read_angles(track)) for track in synhead.tracks(tiny / "synhead2_release")) * 10
    assert dataset.info.face_not_visible == total - len(ids) > 0


def test_shards_hold_what_they_say(built):
    out, _ = built
    for name in ("biwi+", "synhead+", "synbiwi+"):
        dataset = open_dataset(out / name)
        assert dataset.info.rows == sum(shard.rows for shard in dataset.info.shards)
        for shard in dataset.info.shards:
            with h5py.File(out / name / shard.file) as file:
                n = file["id"].shape[0]
                assert (
                    file["image/offset"].shape == (n + 1,) and file["image/offset"][-1] == file["image/bytes"].shape[0]
                )
                assert file["label/rotation"].shape == (n, 3, 3) and file["label/pyr"].shape == (n, 3)
                assert np.allclose(rot.from_matrix(file["label/rotation"][...]), file["label/pyr"][...])
                assert file["box"].shape == (n, 4) and (file["box"][:, 2:] > 0).all()
                assert ("mask" in file) == (name != "biwi+")
                start, end = file["image/offset"][:2]
                data = file["image/bytes"][start:end]
                assert bytes(data[:4]) == (b"\x89PNG" if name == "biwi+" else b"\xff\xd8\xff\xe0")
                assert decode(data).shape == (32, 32, 3)
                assert all("about" in file[key].attrs for key in ("image/bytes", "label/pyr", "box"))
    union = open_dataset(out / "synhead++").info
    assert union.joins == ["synhead+", "synbiwi+"] and not union.shards
    assert union.rows == sum(open_dataset(out / name).info.rows for name in union.joins)


@pytest.mark.slow
def test_a_killed_build_goes_on_to_the_same_bytes(built, tiny, tmp_path):
    out, _ = built
    code = f"""
from pathlib import Path
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.miniature.write import source_of
build_datasets(source_of(Path({str(tiny)!r})), Path({str(tmp_path)!r}), Options(size=32))
"""
    for number in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
        before, deadline = len(list(tmp_path.rglob("shard-*.h5"))), time.monotonic() + 60
        while len(list(tmp_path.rglob("shard-*.h5"))) <= before + number and time.monotonic() < deadline:
            time.sleep(0.005)
            if process.poll() is not None:
                break
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("shard-*.h5")}
    assert finished
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
    assert hashes(tmp_path) == hashes(out)
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())


def test_damaged_frames_are_left_out_counted_and_listed(tiny_copy, tmp_path):
    image = sorted((tiny_copy / "hpdb/01").glob("*_rgb.png"))[2]
    image.write_bytes(image.read_bytes()[:-30])
    pose = sorted((tiny_copy / "hpdb/03").glob("*_pose.txt"))[1]
    pose.write_text("")
    head = tiny_copy / "synhead2_release/BIWI/f01/00/02.png"
    head.write_bytes(b"")
    summary = rebuild(tiny_copy, tmp_path / "data")
    assert summary.datasets[0].info.rows == 46
    for path in (image, pose, head):
        assert any(fault.file == path for fault in summary.left_out)
    with pytest.raises(RawDataError, match="truncated"):
        rebuild(tiny_copy, tmp_path / "strict", options=OPTIONS._replace(strict=True))
    assert not list((tmp_path / "strict").rglob("*.part"))


def test_a_mended_frame_is_built_when_run_again(tiny, tiny_copy, tmp_path):
    image = sorted((tiny_copy / "hpdb/06").glob("*_rgb.png"))[3]
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2 - 20) + whole[-20:])
    assert len(rebuild(tiny_copy, tmp_path / "data").left_out) == 1
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "data/biwi+").glob("*.h5")}
    image.write_bytes(whole)
    assert not rebuild(tiny_copy, tmp_path / "data").left_out
    assert [path.name for path, when in kept.items() if path.stat().st_mtime_ns != when] == ["shard-00002-of-00004.h5"]
    rebuild(tiny, tmp_path / "undamaged")
    assert hashes(tmp_path / "data") == hashes(tmp_path / "undamaged")


def test_what_is_there_is_looked_at_without_processes_unless_it_is_much(built, tmp_path, tiny, monkeypatch):
    folder = shutil.copytree(built[0], tmp_path / "data")
    before = hashes(folder)

    def refuse(*given):
        raise AssertionError("a process was asked for")

    monkeypatch.setattr(ProcessPoolExecutor, "submit", refuse)
    build_datasets(source_of(tiny), folder, OPTIONS, jobs=2)
    assert hashes(folder) == before
    next(folder.glob("biwi+/*.h5")).unlink()
    with pytest.raises(AssertionError):
        build_datasets(source_of(tiny), folder, OPTIONS, jobs=2)
    shutil.copytree(built[0], folder, dirs_exist_ok=True)
    monkeypatch.setattr(building, "_LITTLE", 1000)
    with pytest.raises(AssertionError):
        build_datasets(source_of(tiny), folder, OPTIONS, jobs=2)


def test_a_sequence_more_leaves_no_old_shard(tiny_copy, tmp_path):
    (tiny_copy / "hpdb/15").rename(tmp_path / "15")
    build_datasets(source_of(tiny_copy)._replace(synhead=None), tmp_path / "data", OPTIONS)
    (tmp_path / "15").rename(tiny_copy / "hpdb/15")
    build_datasets(source_of(tiny_copy)._replace(synhead=None), tmp_path / "data", OPTIONS)
    assert sorted(path.name for path in (tmp_path / "data/biwi+").glob("*.h5")) == [
        f"shard-0000{i}-of-00004.h5" for i in range(4)
    ]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_limit_of_file_size_is_told_and_the_build_goes_on_when_there_is_room(tiny, tmp_path, jobs):
    said = r"biwi\+/shard-0000\d-of-00004\.h5: the system's limit for a file's size is reached.* run the same command"
    with pytest.raises(HeadposeError, match=said), file_limit(20_000):
        build_datasets(source_in(tiny), tmp_path / "data", OPTIONS, jobs=jobs)
    assert not list((tmp_path / "data").rglob("*.part"))
    rebuild(tiny, tmp_path / "data")
    rebuild(tiny, tmp_path / "whole")
    assert hashes(tmp_path / "data") == hashes(tmp_path / "whole")


def test_a_full_disk_is_told(tiny, tmp_path):
    with small_disk(tmp_path / "disk", 1 << 17) as disk:
        with pytest.raises(HeadposeError, match=r"biwi\+/shard-0000\d-of-00004\.h5: the disk is full; make room"):
            rebuild(tiny, disk / "data")
        assert not list(disk.rglob("*.part"))


def test_an_interrupted_rebuild_is_no_dataset(tiny_copy, tmp_path):
    rebuild(tiny_copy, tmp_path / "data")
    for path in sorted((tiny_copy / "hpdb/01").glob("frame_*"))[:3]:
        path.unlink()
    (tiny_copy / "hpdb/15/rgb.cal").write_bytes(b"\xff\xfe")
    with pytest.raises(RawDataError, match=r"15/rgb\.cal: not a text file"):
        rebuild(tiny_copy, tmp_path / "data", options=OPTIONS._replace(strict=True))
    for name in ("biwi+", "synhead++"):
        with pytest.raises(DatasetError, match="build the dataset first"):
            open_dataset(tmp_path / "data" / name)


def test_other_options_are_refused_whatever_the_number_of_shards(tiny_copy, tmp_path):
    rebuild(tiny_copy, tmp_path / "data")
    (tiny_copy / "hpdb/15").rename(tmp_path / "15")
    backgrounds = tmp_path / "data/synhead+/backgrounds.h5"
    before, behind = hashes(tmp_path / "data"), backgrounds.read_bytes()
    for raw in (tiny_copy / "hpdb", None):
        with pytest.raises(DatasetError, match="built with other options"):
            build_datasets(source_in(tiny_copy)._replace(biwi=raw), tmp_path / "data", Options(size=40))
    assert hashes(tmp_path / "data") == before and backgrounds.read_bytes() == behind


def test_synhead_pp_notices_that_a_part_was_built_again(tiny_copy, tmp_path):
    rebuild(tiny_copy, tmp_path / "data")
    union = open_dataset(tmp_path / "data/synhead++")
    assert len(union.parts()) == 2
    (tiny_copy / "synhead2_release/background/a00.png").unlink()
    build_datasets(Source(synhead=tiny_copy, render_order="xzy---"), tmp_path / "data", OPTIONS)
    with pytest.raises(DatasetError, match="its parts were built again since"):
        union.parts()
    rebuild(tiny_copy, tmp_path / "data")
    assert len(open_dataset(tmp_path / "data/synhead++").parts()) == 2


def test_two_builds_into_one_folder(tiny, tmp_path):
    with locked(tmp_path, wait=False), pytest.raises(HeadposeError, match="another process is writing here"):
        rebuild(tiny, tmp_path)


def test_groups_and_heads_without_images_are_told(tiny_copy, tmp_path):
    root = tiny_copy / "synhead2_release"
    for head in synhead.HEADS:
        shutil.rmtree(root / "kinect" / head)
    shutil.rmtree(root / "BIWI/f02")
    summary = rebuild(tiny_copy, tmp_path / "data")
    assert any("kinect/00.csv has no usable images of any head" in note for note in summary.notes)
    assert any("f02 has no usable images of 4 of 8 tracks" in note for note in summary.notes)
    dataset = open_dataset(tmp_path / "data/synbiwi+")
    ids, _ = read_labels(dataset)
    assert len(ids) == 48 * 10
    # A head that lacks tracks is matched over those that it has, which are farther off.
    sources = np.concatenate([fields["source"] for fields in read_fields(dataset, "source")])
    assert not any(name.startswith("synhead/BIWI/f02") for name in sources)
    by_head = dataset.info.residual.by_head
    assert by_head["f02"].geodesic.mean > by_head["f01"].geodesic.mean


def test_what_no_shard_can_use_is_left_out_and_listed(tiny_copy, tmp_path):
    root = tiny_copy / "synhead2_release"
    (root / "BIWI/m02/00/03.png").unlink()
    (root / "kinect/00.csv").write_text("pitch,yaw,roll\n1,2,3\n")
    (tiny_copy / "hpdb/06/rgb.cal").write_text((tiny_copy / "hpdb/01/rgb.cal").read_text())
    summary = rebuild(tiny_copy, tmp_path / "data")
    lines = "\n".join(map(str, summary.left_out))
    assert f"{root}/BIWI/m02/00: 9 images, but" in lines and "BIWI/00.csv has 10 rows" in lines
    assert f"{root}/kinect/00.csv, line 1: expected a row a frame" in lines
    assert lines.count(f"{tiny_copy}/hpdb/06/rgb.cal: not the calibration of this sequence, whose group is B") == 12
    ids, _ = read_labels(open_dataset(tmp_path / "data/synhead+"))
    assert any("BIWI/m01/00" in name for name in ids) and not any("BIWI/m02/00" in name for name in ids)
    assert not any("kinect" in name for name in ids)
    assert len(read_labels(open_dataset(tmp_path / "data/biwi+"))[0]) == 36
    for name in ("biwi+", "synhead+"):  # damage is named by paths that do not depend on where the copy lies
        text = (tmp_path / f"data/{name}/dataset.json").read_text()
        assert str(tiny_copy) not in text and '"left_out": []' not in text
    with pytest.raises(RawDataError, match="not the calibration of this sequence"):
        rebuild(tiny_copy, tmp_path / "strict", options=OPTIONS._replace(strict=True))
    shutil.copy(tiny_copy / "hpdb/15/rgb.cal", tiny_copy / "hpdb/06/rgb.cal")
    with pytest.raises(RawDataError, match="9 images, but"):
        rebuild(tiny_copy, tmp_path / "strict", options=OPTIONS._replace(strict=True))


def test_neighbours(tiny, built, tmp_path):
    rebuild(tiny, tmp_path / "data", options=OPTIONS._replace(neighbours=3))
    fields = ("id", "source", "residual/geodesic", "image/offset")
    folders = (tmp_path / "data", built[0])
    several, best = (next(read_fields(open_dataset(out / "synbiwi+"), *fields)) for out in folders)
    assert len(several["id"]) == 3 * len(best["id"])
    assert [name for name in several["id"] if name.count("/") == 3] == best["id"].tolist()
    assert several["id"][:3].tolist() == [best["id"][0] + rank for rank in ("", "/2", "/3")]
    residual = several["residual/geodesic"].reshape(-1, 3)
    assert (np.diff(residual, axis=1) >= 0).all() and np.allclose(residual[:, 0], best["residual/geodesic"])
    sources = several["source"].reshape(-1, 3)
    assert all(len(set(row)) == 3 for row in sources)
    with pytest.raises(DatasetError, match="`neighbours` 5000"):
        rebuild(tiny, tmp_path / "other", options=OPTIONS._replace(neighbours=5000))


def test_a_head_at_the_camera_or_beyond_the_room_is_a_damaged_pose(tiny_copy, tmp_path):
    poses = sorted((tiny_copy / "hpdb/01").glob("*_pose.txt"))
    for pose, centre in zip(poses, ("0 0 0", "0 0 1e30"), strict=False):
        pose.write_text("\n".join(pose.read_text().splitlines()[:4]) + f"\n{centre}\n")
    summary = rebuild(tiny_copy, tmp_path / "data")
    assert len(summary.left_out) == 2 and all("mm before the camera" in fault.what for fault in summary.left_out)


def test_boxes_of_other_frames(tiny, tmp_path):
    (tmp_path / "boxes.csv").write_text("id,x,y,width,height\nbiwi/24/00003,50,30,41,41\n")
    with pytest.raises(DatasetError, match="holds no box of these frames; expected ids such as biwi/01/"):
        build_datasets(source_in(tiny)._replace(boxes=tmp_path / "boxes.csv"), tmp_path / "data", OPTIONS)


def test_given_boxes_are_used_and_the_rest_is_projected(tiny, tmp_path):
    frames = biwi.list_frames(tiny / "hpdb", "01")[0]
    (tmp_path / "boxes.csv").write_text(f"id,x,y,width,height\n{frames[0].id},50,30,41,41\n")
    source = source_of(tiny)._replace(synhead=None, boxes=tmp_path / "boxes.csv")
    build_datasets(source, tmp_path / "data", OPTIONS)
    info = open_dataset(tmp_path / "data/biwi+").info
    assert info.boxes == {"imported": 1, "projected": 47}
    fields = next(read_fields(open_dataset(tmp_path / "data/biwi+"), "id", "box"))
    assert fields["id"][0] == frames[0].id and fields["box"][0].tolist() == [50, 30, 41, 41]


def test_another_build_is_not_mixed_in(built, tiny):
    out, _ = built
    with pytest.raises(DatasetError, match="was built with other options"):
        rebuild(tiny, out, options=Options(size=40))


def test_nothing_to_build_and_sizes(tmp_path, tiny):
    with pytest.raises(HeadposeError, match="nothing to build from"):
        build_datasets(Source(), tmp_path)
    with pytest.raises(HeadposeError, match="`size` 4"):
        build_datasets(Source(tiny / "hpdb"), tmp_path, Options(size=4))


def test_a_damaged_shard_is_named(built, tmp_path):
    out, _ = built
    dataset = open_dataset(out / "biwi+")
    file = dataset.info.shards[0].file
    (tmp_path / file).write_bytes((out / "biwi+" / file).read_bytes()[:500])
    copy = Dataset(tmp_path, msgspec.structs.replace(dataset.info, shards=dataset.info.shards[:1]))
    with pytest.raises(DatasetError, match=file):
        list(read_fields(copy, "id"))
    with pytest.raises(DatasetError, match=file):
        shards.read_report(tmp_path / file, shards.Origin("", ""))
    shutil.copy(out / "biwi+/dataset.json", tmp_path)
    with pytest.raises(DatasetError, match="the shard is missing"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="build the dataset first"):
        open_dataset(tmp_path / "none")


def test_crops_show_the_head_where_the_box_says(built, tiny):
    """A crop, scaled back, is the raw image inside its box."""
    out, _ = built
    shard = next(read_fields(open_dataset(out / "biwi+"), "id", "box", "image/bytes", "image/offset"))
    name = str(shard["id"][5]).split("/")
    raw = cv2.imread(str(tiny / f"hpdb/{name[1]}/frame_{name[2]}_rgb.png"))[..., ::-1].astype(float)
    x, y, width, height = shard["box"][5]
    crop = decode(shard["image/bytes"][shard["image/offset"][5] : shard["image/offset"][6]])
    inside = cv2.resize(raw[y : y + height, x : x + width], (32, 32), interpolation=cv2.INTER_LINEAR)
    assert np.abs(inside - crop).mean() < 2


def test_a_head_without_images_in_a_group_is_not_an_error(tiny_copy, tmp_path):
    shutil.rmtree(tiny_copy / "synhead2_release/kinect/m05")
    summary = build_datasets(source_in(tiny_copy)._replace(biwi=None), tmp_path, OPTIONS)
    assert [dataset.name for dataset in summary.datasets] == ["synhead+"]
    ids, _ = read_labels(open_dataset(tmp_path / "synhead+"))
    assert not any("kinect/m05" in name for name in ids) and any("BIWI/m05" in name for name in ids)


@pytest.mark.real
def test_the_real_frame(real, tmp_path):
    summary = build_datasets(Source(real / "hpdb", boxes=real / "Biwi_plus.npz"), tmp_path)
    assert summary.notes == ["Biwi: 15,677 of the 15,678 frames of the manifest are absent"]
    fields = next(read_fields(open_dataset(tmp_path / "biwi+"), "id", "subject", "box", "label/pyr"))
    published = np.load(real / "Biwi_plus.npz")
    assert fields["id"].tolist() == ["biwi/01/00003"] and fields["subject"].tolist() == ["F01"]
    assert np.abs(fields["label/pyr"][0] - published["pyr"][0]).max() < 1e-4
    assert fields["box"][0].tolist() == published["bbox"][0].tolist()


def test_records_are_reused_only_for_the_same_key(tmp_path):
    calls = []

    def compute(value):
        calls.append(value)
        return value

    path = tmp_path / "record.json"
    assert [recorded(path, key, lambda key=key: compute(key)) for key in (1, 1, 2, 2)] == [1, 1, 2, 2]
    assert calls == [1, 2]


@pytest.mark.parametrize("content", ["[]", "{}", '{"of": 1}'])
def test_a_record_that_is_none_is_made_anew(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    assert recorded(tmp_path / "record.json", 1, lambda: 2) == 2


def test_building_again_does_not_hide_a_shard_that_changed(tiny, tmp_path):
    rebuild(tiny, tmp_path / "data")
    shard, before = tmp_path / "data/synbiwi+/shard-00002-of-00004.h5", hashes(tmp_path / "data")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DatasetError, match=r"shard-00002-of-00004\.h5: damaged or changed: .*; delete it and run"):
        rebuild(tiny, tmp_path / "data")
    shard.unlink()
    rebuild(tiny, tmp_path / "data")
    assert hashes(tmp_path / "data") == before
