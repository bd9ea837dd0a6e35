import os
import struct
from collections import Counter

import numpy as np
import pytest

from headposeplus.boxes import geometry
from headposeplus.errors import RawDataError
from headposeplus.raw import biwi, manifest
from headposeplus.raw.meshes import read_mesh
from headposeplus.rotations import from_matrix, geodesic, to_matrix


@pytest.mark.real
def test_real_frame_has_the_golden_values(real):
    frames, faults = biwi.list_frames(biwi.find_root(real / "hpdb"), "01")
    assert [frame.id for frame in frames] == ["biwi/01/00003"] and not faults
    pose = biwi.read_pose(frames[0].pose)
    camera = biwi._read_calibration(real / "hpdb/01/rgb.cal")
    seen = biwi.to_rgb_camera(pose, camera)
    assert from_matrix(pose.rotation) == pytest.approx([-7.70527, -3.05309, 1.99114], abs=1e-4)
    assert from_matrix(seen.rotation) == pytest.approx([-8.58916, -3.55111, 2.29379], abs=1e-4)
    assert camera.project(seen.centre) == pytest.approx([341.65, 274.63], abs=0.01)
    assert geometry.iou(geometry.projected(seen, camera), np.array([274, 209, 132, 132])) > 0.75


@pytest.mark.real
def test_real_depth_and_mesh_meet_in_the_depth_camera(real):
    depth = biwi.read_depth(real / "hpdb/01/frame_00003_depth.bin")
    pose = biwi.read_pose(real / "hpdb/01/frame_00003_pose.txt")
    camera = biwi._read_calibration(real / "hpdb/01/depth.cal")
    vertices, _ = read_mesh(real / "hpdb/01.obj")
    assert depth.shape == (480, 640) and 500 < depth[depth > 0].min() < depth.max() < 2000
    points = vertices @ pose.rotation.T + pose.centre
    face = points[vertices[:, 2] < 0]  # the front of the mesh, which the camera sees
    x, y = np.rint(camera.project(face)).astype(int).T
    gaps = np.abs(depth[y, x] - face[:, 2])[depth[y, x] > 0]
    assert len(gaps) > 1000 and np.median(gaps) < 10


@pytest.mark.real
def test_manifest_hashes_are_those_of_the_published_frames(real):
    images = [str(name) for name in np.load(real / "Biwi_plus.npz")["images"]]
    rows = manifest.biwi_rows(manifest.read()).values()
    assert len(images) == sum(row.frames for row in rows) == 15678
    for row in rows:
        numbers = [int(name[9:14]) for name in images if name.startswith(f"{row.unit}/")]
        assert manifest.frame_list_sha256(row.unit, numbers) == row.frame_list_sha256
        assert [len(numbers), min(numbers), max(numbers)] == [row.frames, row.first_frame, row.last_frame]


def test_manifest_knows_synhead():
    found = Counter(track.group for track in manifest.listed_tracks(manifest.read()))
    assert found == {
        "breitenstein": 26,
        "BIWI": 24,
        "softkinetic": 15,
        "kinect": 5,
    }


def test_depth_round_trip_and_by_hand(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "depth.bin"
    for fill in (0.0, 0.3, 1.0):
        depth = (rng.integers(400, 3000, (48, 64)) * (rng.random((48, 64)) < fill)).astype(np.int16)
        path.write_bytes(biwi.encode_depth(depth))
        assert (biwi.read_depth(path) == depth).all()
    path.write_bytes(struct.pack("<2i 2i 2h 2i h", 3, 2, 1, 2, 700, 701, 2, 1, 702))
    assert biwi.read_depth(path).tolist() == [[0, 700, 701], [0, 0, 702]]


@pytest.mark.parametrize("cut", [0, 7, 8, 13, 20])
def test_truncated_depth(tmp_path, cut):
    path = tmp_path / "depth.bin"
    path.write_bytes(biwi.encode_depth(np.full((4, 5), 900, np.int16))[:cut])
    with pytest.raises(RawDataError, match=r"depth\.bin"):
        biwi.read_depth(path)


def test_pose_txt_and_pose_bin_agree(tiny):
    root = biwi.find_root(tiny)
    frames, _ = biwi.list_frames(root, "06")
    for frame in frames:
        pose = biwi.read_pose(frame.pose)
        by_annotation = biwi.read_pose(biwi.annotation(root, "06", frame.number))
        assert geodesic(pose.rotation, by_annotation.rotation) < 1e-3
        assert pose.centre == pytest.approx(by_annotation.centre, abs=0.01)
        centre, angles = biwi.read_pose_bin(biwi.annotation(root, "06", frame.number))
        assert geodesic(to_matrix(angles, "biwi"), pose.rotation) < 1e-3 and centre[2] > 500


def test_mask_is_where_the_head_is(tiny):
    root = biwi.find_root(tiny)
    camera = biwi._read_calibration(root / "03/depth.cal")
    for frame in biwi.list_frames(root, "03")[0]:
        mask = biwi.read_mask(biwi.head_mask(root, "03", frame.number))
        depth = biwi.read_depth(frame.pose.with_name(f"frame_{frame.number:05d}_depth.bin"))
        x, y = np.rint(camera.project(biwi.read_pose(frame.pose).centre)).astype(int)
        assert mask[y, x] and (depth[mask] > 0).all() and mask.shape == depth.shape


@pytest.mark.parametrize("name", ["faces_0", "some/where/else"])
def test_mirrors_are_found_by_what_they_hold(tiny_copy, tmp_path, name):
    other = tmp_path / "mirror" / name
    other.parent.mkdir(parents=True)
    (tiny_copy / "hpdb").rename(other)
    assert biwi.find_root(tmp_path / "mirror") == other
    assert biwi.sequences(other) == ["01", "03", "06", "15"]


def test_a_mirror_with_jpeg_and_without_depth(tiny_copy):
    root = tiny_copy / "hpdb"
    for path in (root / "01").glob("*_rgb.png"):
        path.rename(path.with_suffix(".jpg"))
    for path in (root / "01").glob("*_depth.bin"):
        path.unlink()
    frames, faults = biwi.list_frames(root, "01")
    assert len(frames) == 12 and not faults and frames[0].image.suffix == ".jpg"


def test_a_pose_that_only_the_annotations_have(tiny_copy):
    path = sorted((tiny_copy / "hpdb/06").glob("*_pose.txt"))[0]
    before = biwi.read_pose(path)
    path.unlink()
    frames, faults = biwi.list_frames(tiny_copy / "hpdb", "06")
    assert not faults and geodesic(biwi.read_pose(frames[0].pose).rotation, before.rotation) < 1e-3


GOOD_POSE = "1 0 0 \n0 1 0 \n0 0 1 \n\n1 2 900 \n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "found nothing"),
        ("1 0 0\n0 1 0\n", "found 2 rows"),
        (
            GOOD_POSE.replace("900", "nan"),
            "line 5: expected three rows of a rotation and the head's centre, found 'nan', no finite number",
        ),
        (
            GOOD_POSE.replace("900", "far"),
            "line 5: expected three rows of a rotation and the head's centre, found 'far', no finite number",
        ),
        (GOOD_POSE.replace("0 1 0", "0 2 0"), "not a rotation: R times its transpose is off the identity"),
        (GOOD_POSE.replace("0 1 0", "0 -1 0"), "determinant is not positive"),
    ],
)
def test_faulty_pose(tmp_path, text, says):
    path = tmp_path / "frame_00003_pose.txt"
    path.write_text(text)
    with pytest.raises(RawDataError) as error:
        biwi.read_pose(path)
    assert str(path) in str(error.value) and says in str(error.value)


def test_faulty_calibration_and_folders(tiny_copy, tmp_path):
    path = tiny_copy / "hpdb/01/rgb.cal"
    path.write_text(path.read_text().replace("160 120", "160"))
    with pytest.raises(RawDataError, match=r"rgb\.cal: expected a calibration"):
        biwi._read_calibration(path)
    with pytest.raises(RawDataError, match="no such folder"):
        biwi.find_root(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RawDataError, match="not raw Biwi"):
        biwi.find_root(tmp_path / "empty")
    (tiny_copy / "hpdb/07").write_text("a file")
    with pytest.raises(RawDataError, match="expected a folder with a Biwi sequence, found a file"):
        biwi.sequences(tiny_copy / "hpdb")


@pytest.mark.parametrize(
    ("line", "text", "says"),
    [
        (0, "nan 0 40", "line 1: .* found 'nan', no finite"), (0, "inf 0 40", "line 1: .* found 'inf', no finite"),
        (0, "0 0 40", "another K or size"),
        (1, "0 -517 30", "another K or size"), (2, "0 0 0", "another K or size"),
        (10, "nan 0 0", "line 11: .* found 'nan', no finite"),
        (12, "640 -480", "another K or size"), (12, "inf 480", "line 13: .* found 'inf', no finite"),
    ],
)  # fmt: skip
def test_a_calibration_of_no_camera(tiny_copy, line, text, says):
    path = tiny_copy / "hpdb/01/rgb.cal"
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines))
    with pytest.raises(RawDataError, match=says) as raised:
        biwi.open_sequence(tiny_copy / "hpdb", "01", "A")
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_calibration_groups_differ(tiny):
    a, b = (biwi._read_calibration(tiny / f"hpdb/{name}/rgb.cal") for name in ("01", "06"))
    assert (a.width, a.height) == (160, 120)
    assert geodesic(a.rotation, b.rotation) > 0.5


@pytest.fixture
def refuse(monkeypatch):
    """Let folders refuse to be listed, for root as well."""

    def refuse(*folders):
        real = os.listdir

        def listdir(path):
            if path in folders:
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr(os, "listdir", listdir)

    return refuse


def test_folders_that_cannot_be_listed(tiny, tmp_path, refuse):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tiny)
    refuse(tmp_path / "a", tmp_path / "b/hpdb/01")
    assert biwi.find_root(tmp_path) == tmp_path / "b/hpdb"
    told = "01: cannot be read: Permission denied; expected a folder; give yourself the right to read it"
    with pytest.raises(RawDataError, match=told):
        biwi.list_frames(tmp_path / "b/hpdb", "01")


def test_roots_that_cannot_be_listed(tiny, tmp_path, refuse):
    (tmp_path / "a").mkdir()
    refuse(tiny / "hpdb", tmp_path / "a")
    for find in (biwi.find_root, biwi.sequences):
        with pytest.raises(RawDataError, match=r"hpdb: cannot be read: .*give yourself the right to read it"):
            find(tiny / "hpdb")
    with pytest.raises(RawDataError, match=r"not raw Biwi; .*; not looked into: .*a: cannot be read: .* give yourself"):
        biwi.find_root(tmp_path)


def test_poses_and_images_in_the_rgb_camera(tiny_copy):
    root = tiny_copy / "hpdb"
    sequence = biwi.open_sequence(root, "01", "A")
    camera, frame = sequence.camera, sequence.frames[0]
    pose = sequence.read_pose(frame.pose)
    assert pose.rotation == pytest.approx(camera.rotation @ biwi.read_pose(frame.pose).rotation, abs=1e-9)
    assert biwi.read_rgb_image(frame.image, camera).shape == (120, 160, 3)
    with pytest.raises(RawDataError, match="160 x 120 pixels, but the calibration says 640 x 120"):
        biwi.read_rgb_image(frame.image, camera._replace(width=640))
    with pytest.raises(RawDataError, match="mm before the camera"):
        sequence._replace(camera=camera._replace(translation=-pose.centre)).read_pose(frame.pose)
