import struct

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from headposeplus.errors import HeadposeError, RawDataError
from headposeplus.heads import tracks
from headposeplus.raw import biwi, manifest, synhead
from headposeplus.rotations import convert, euler_order, from_matrix, geodesic, to_matrix

ORDER = euler_order("zxy+--")


def test_random_tracks_are_synheads_in_number_and_wider_than_biwi():
    planned = tracks.plan_tracks(None, ORDER, 0)
    assert len(planned) == 70 and sum(len(track.angles) for track in planned) == tracks.POSES
    assert {group: sum(track.group == group for track in planned) for group in synhead.GROUPS} == tracks.COUNTS
    angles = np.concatenate([track.angles for track in planned]) * ORDER.signs
    # The limits of the published labels of Biwi+.
    assert (angles.min(axis=0) < [-78, -76, -64]).all() and (angles.max(axis=0) > [52, 75, 68]).all()
    steps = np.concatenate([np.abs(np.diff(track.angles, axis=0)).max(axis=1) for track in planned])
    assert np.median(steps) < 4 and np.percentile(steps, 99) < 15


@pytest.mark.parametrize("poses", [1, 7, 40, 333])
def test_few_poses_are_few_tracks(poses):
    planned = tracks.plan_tracks(poses, ORDER, 0)
    assert sum(len(track.angles) for track in planned) == poses
    assert len({(track.group, track.name) for track in planned}) == len(planned)
    assert [t.text for t in planned] == [t.text for t in tracks.plan_tracks(poses, ORDER, 0)]
    assert [t.text for t in planned] != [t.text for t in tracks.plan_tracks(poses, ORDER, 1)]


def test_a_track_is_what_its_file_holds(tmp_path):
    for track in tracks.plan_tracks(30, ORDER, 0):
        path = tmp_path / f"{track.name}.csv"
        path.write_text(track.text)
        assert (synhead.read_angles(synhead.Track(track.group, track.name, path)) == track.angles).all()


def test_given_poses_are_those_rendered(tmp_path):
    rng = np.random.default_rng(0)
    poses = rng.uniform(-50, 50, (6, 3))
    (tmp_path / "b.csv").write_text("Pitch, yaw, roll\n" + "".join("{},{},{}\n".format(*row) for row in poses) + "\n")
    (tmp_path / "a.CSV").write_text("1,2,3\n")
    first, second = tracks.plan_tracks(None, ORDER, 0, given=tmp_path)
    assert (first.group, first.name, second.name) == ("softkinetic", "00", "01")
    assert geodesic(to_matrix(first.angles, ORDER), to_matrix([[1, 2, 3]])).max() < 1e-5
    assert geodesic(to_matrix(second.angles, ORDER), to_matrix(poses)).max() < 1e-5
    (some,) = tracks.plan_tracks(3, ORDER, 0, given=tmp_path / "b.csv")
    assert geodesic(to_matrix(some.angles, ORDER), to_matrix(poses[[0, 2, 5]])).max() < 1e-5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "t.csv: an empty file; expected a row a pose: pitch,yaw,roll in degrees"),
        ("pitch,yaw,roll\n", "t.csv: holds no row"),
        ("1,2,3\n4,5\n", "t.csv, line 2: expected a row a pose: pitch,yaw,roll in degrees; found '4,5'"),
        ("1,2,3\nfive,5,6\n", "line 2"),
        ("1,2,nan\n", "line 1"),
        ("1,2,3000\n", "line 1"),
        ("yaw,pitch,roll\n1,2,3\n", "line 1"),
    ],
)
def test_a_garbled_csv_is_told(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(RawDataError) as caught:
        tracks.given_tracks(tmp_path / "t.csv", None, ORDER)
    assert words in str(caught.value) and "a row a pose: pitch,yaw,roll in degrees" in str(caught.value)


def test_what_is_no_csv_is_told(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RawDataError, match=r"t\.csv: not UTF-16, as its first bytes say \(.*\); save it as UTF-8"):
        tracks.given_tracks(tmp_path / "t.csv", None, ORDER)
    with pytest.raises(RawDataError, match=r"absent\.csv: cannot be read: No such file .*; expected a row a pose"):
        tracks.given_tracks(tmp_path / "absent.csv", None, ORDER)
    (tmp_path / "none").mkdir()
    with pytest.raises(RawDataError, match=r"holds no \.csv"):
        tracks.given_tracks(tmp_path / "none", None, ORDER)


def annotate(folder, angles):
    """Write Biwi's annotations of a sequence: angles (n, 3) in the convention ``biwi``."""
    folder.mkdir(parents=True)
    for number, row in enumerate(angles):
        (folder / f"frame_{number + 3:05d}_pose.bin").write_bytes(struct.pack("<6f", 0, 0, 900, *row))


def test_annotations_alone_become_the_biwi_tracks_smoothed(tmp_path):
    rng = np.random.default_rng(0)
    angles = gaussian_filter1d(rng.normal(0, 60, (40, 3)), 4, axis=0)
    annotate(tmp_path / "db_annotations/02", angles)
    planned = tracks.plan_tracks(None, ORDER, 0, biwi_folder=tmp_path)
    assert [t.name for t in planned if t.group == "BIWI"] == ["01"]  # tracks are numbered from 0
    expected = gaussian_filter1d(convert(angles, "biwi", "pyr"), 3.0, axis=0) * ORDER.signs
    assert np.abs(planned[0].angles - expected)[12:-12].max() < 0.01  # SciPy's window ends after four deviations
    assert {t.group for t in planned} == set(synhead.GROUPS)
    assert sum(len(t.angles) for t in planned) == tracks.POSES
    few = tracks.plan_tracks(30, ORDER, 0, biwi_folder=tmp_path)
    assert sum(len(t.angles) for t in few) == 30 and 5 <= len(few[0].angles) <= 12


def test_a_raw_copy_gives_the_poses_of_its_texts(tiny):
    planned = tracks.biwi_tracks(tiny / "hpdb", None, ORDER)
    rotations = biwi.depth_rotations(tiny / "hpdb")
    assert [track.name for track in planned] == ["00", "02", "05", "14"]
    for track, (numbers, matrices) in zip(planned, rotations.values(), strict=True):
        assert len(track.angles) == len(numbers)
        angles = from_matrix(matrices)
        for row, number in enumerate(numbers):
            near = np.exp(-((numbers - number) ** 2) / 18.0)
            expected = sum(weight * angle for weight, angle in zip(near, angles, strict=True)) / near.sum()
            assert np.abs(track.angles[row] - expected * ORDER.signs).max() < 1e-5


def test_what_is_no_biwi_is_told(tmp_path):
    with pytest.raises(RawDataError, match=r"expected folders 01 to 24 with frame_00003_pose\.bin"):
        tracks.biwi_tracks(tmp_path, None, ORDER)
    annotate(tmp_path / "01", np.zeros((2, 3)))
    (tmp_path / "01/frame_00004_pose.bin").write_bytes(b"short")
    with pytest.raises(RawDataError, match=r"frame_00004_pose\.bin: expected six float32"):
        tracks.biwi_tracks(tmp_path, None, ORDER)


@pytest.mark.real
def test_the_real_annotations(real, tmp_path):
    import tarfile

    with tarfile.open(real / "db_annotations.tar.gz") as archive:
        some = [member for member in archive.getmembers() if "/01/" in member.name or "/24/" in member.name]
        archive.extractall(tmp_path, some, filter="data")
    planned = tracks.biwi_tracks(tmp_path, None, ORDER)
    frames = manifest.biwi_frames(manifest.read())
    # Of 01, frame 3 has no annotation.
    assert [(t.name, len(t.angles)) for t in planned] == [("00", len(frames["01"]) - 1), ("23", len(frames["24"]))]


def test_no_poses_are_told():
    with pytest.raises(HeadposeError, match="more `images`"):
        tracks.plan_tracks(0, ORDER, 0)
