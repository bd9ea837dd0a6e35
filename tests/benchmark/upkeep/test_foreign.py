import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmark.upkeep import foreign
from benchmark.upkeep.foreign import Face
from headposeplus.raw import biwi
from headposeplus.rotations import FLIP, to_matrix


@pytest.fixture
def face():
    rng = np.random.default_rng(0)
    return Face(rng.normal(size=(40, 3)) * [6, 8, 3], rng.uniform(0, 1, 40) * (rng.random(40) < 0.5))


@pytest.fixture
def rotations():
    return Rotation.random(30, random_state=np.random.default_rng(1)).as_matrix()


def test_a_face_is_laid_over_itself_whatever_its_size_and_place(face, rotations):
    for rotation in rotations:
        points = 3.5 * face.points @ rotation.T + [4, -2, 9]
        points[face.weights == 0] = 100  # does not count
        assert np.allclose(foreign.laid_over(face, points), rotation)


def test_landmarks_give_the_pose_of_the_face_that_they_are_of(face):
    true = to_matrix([-20, 35, 12])
    seen = face.points @ (FLIP @ true @ FLIP).T + [12, -5, -70]
    distance = -seen[:, 2]
    high = 2 * np.tan(np.deg2rad(31.5))
    wide = high * 4 / 3
    middle = distance.mean()
    landmarks = np.stack(
        [seen[:, 0] / distance / wide + 0.5, 0.5 - seen[:, 1] / distance / high, (distance / middle - 1) / wide], axis=1
    )
    assert np.allclose(foreign.rotation_of_landmarks(landmarks, face, 640, 480), true)
    landmarks[:, 2] += 0.3  # from where depth is counted does not matter
    assert np.allclose(foreign.rotation_of_landmarks(landmarks, face, 640, 480), true)


def test_an_asset_is_cut_from_the_packed_file(tmp_path):
    loader = '{"files": [{"filename": "/a/one.tflite", "start": 0, "end": 3}, '
    loader += '{"filename": "/a/two.binarypb", "start": 3, "end": 7}]}'
    (tmp_path / "face_mesh_solution_packed_assets_loader.js").write_text(loader)
    (tmp_path / "face_mesh_solution_packed_assets.data").write_bytes(b"abcdefghi")
    assert foreign.asset(tmp_path, "two.binarypb") == b"defg"
    with pytest.raises(SystemExit, match="holds no three"):
        foreign.asset(tmp_path, "three")


def test_bins_give_the_mean_of_their_angles():
    scores = np.full((2, 66), -1000.0)
    scores[0, 33] = 5
    scores[1, [10, 12]] = 800
    assert np.allclose(foreign.expected(scores, -99), [0, -66])


def test_a_wider_box_keeps_its_middle():
    assert foreign.wider(np.array([10.0, 20, 40, 40]), 1.5).tolist() == [0, 10, 60, 60]


@pytest.mark.parametrize(
    "counts, frames, sizes",
    [
        ([10, 10, 10], 12, [4, 4, 4]),
        ([2, 10, 10], 12, [2, 5, 5]),
        ([10, 10, 10], 2, [1, 1, 0]),
        ([3, 4], 0, [3, 4]),
        ([3, 4], 99, [3, 4]),
    ],
)
def test_a_sample_takes_as_many_of_each_sequence_as_can_be(counts, frames, sizes):
    rows = foreign.sample(counts, frames, seed=3)
    assert [len(some) for some in rows] == sizes
    for some, count in zip(rows, counts, strict=True):
        assert len(set(some)) == len(some) and (np.diff(some) > 0).all() and (some < count).all()
    assert [some.tolist() for some in rows] == [some.tolist() for some in foreign.sample(counts, frames, seed=3)]


def test_a_bootstrap_draws_sequences_or_blocks_where_these_are_few():
    units, drawn = foreign.units_of(np.repeat([f"{n:02d}" for n in range(8)], 5))
    assert drawn == "sequences" and np.array_equal(units, np.repeat(np.arange(8), 5))
    units, drawn = foreign.units_of(np.array(["01"] * 11 + ["19"] * 120))
    assert drawn == "blocks of 50 frames"
    assert np.array_equal(units, np.repeat(np.arange(4), [11, 50, 50, 20]))


def test_an_interval_is_that_of_the_means_of_whole_units():
    assert foreign.interval(np.array([2.0, 2, 2]), np.array([0, 1, 1]), 0) == [2, 2]
    values = np.repeat(np.random.default_rng(0).normal(5, 1, 100), 20)
    low, high = foreign.interval(values, np.repeat(np.arange(100), 20), 0)
    # Values of a unit are one: the mean is known as well as from 100 of them, not from 2,000.
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values[::20].std() / 10, rel=0.15)


def test_figures_tell_an_offset_from_errors_and_count_what_was_not_found():
    angles = np.stack([np.linspace(-20, 20, 40), np.tile([-20.0, 20], 20), np.zeros(40)], axis=1)
    wrong = angles + np.array([5, 0, 0])
    wrong[:, 1] *= 0.9
    read = to_matrix(wrong)
    read[:4] = np.nan
    figures = foreign.figures(read, to_matrix(angles), np.repeat([f"{n:02d}" for n in range(10)], 4), 0)
    assert (figures["frames"], figures["found"]) == (40, 36)
    assert figures["mae"] == pytest.approx(7 / 3, abs=0.01)
    assert figures["mae_by_angle"] == {"pitch": 5, "yaw": 2, "roll": 0}
    assert figures["mean_error"] == {"pitch": 5, "yaw": 0, "roll": 0}
    assert figures["level"]["mae"] == pytest.approx(2 / 3, abs=0.01)
    assert figures["gain"]["yaw"] == pytest.approx(0.9) and figures["gain"]["pitch"] == pytest.approx(1)
    bands = figures["by_degrees_from_the_front"]
    assert {name: band["frames"] for name, band in bands.items()} == {
        "0 to 15": 0, "15 to 30": 40, "30 to 45": 0, "45 to 90": 0,
    }  # fmt: skip
    assert bands["15 to 30"]["found"] == 36 and bands["0 to 15"]["mae"] is None
    assert foreign.figures(np.full((3, 3, 3), np.nan), to_matrix(angles[:3]), np.array(["01"] * 3), 0)["found"] == 0


def test_frames_stand_for_those_of_another_copy_by_their_nearness():
    true = to_matrix([[0, yaw, 0] for yaw in range(0, 60, 2)])
    counts, near = foreign.standing_for(true, to_matrix([[0, 20.1, 0], [0, 20.2, 0]]))
    assert near == pytest.approx(2.15)
    assert np.flatnonzero(counts).tolist() == [8, 9, 10, 11, 12] and counts.sum() == 10
    read = true @ to_matrix([0, 3, 0])
    read[:8] = to_matrix([90, 0, 0])  # none of these counts
    read[8] = np.nan
    figures = foreign.figures_like(read, true, counts)
    assert figures["found"] == 0.8 and figures["level"] == 0
    assert figures["mean_error"] == {"pitch": 0, "yaw": 3, "roll": 0}
    assert foreign.figures_like(np.full_like(read, np.nan), true, counts) == {"found": 0.0}


class _Right:
    """Reads what is true, but is 4 degrees off in pitch."""

    name, version = "right", "1"

    def read(self, frames):
        assert all(frame.image.shape == (120, 160, 3) for frame in frames)
        return to_matrix([4, 0, 0]) @ np.stack([frame.rotation for frame in frames])


def test_the_frames_of_a_raw_copy_are_read_in_the_rgb_camera(tiny, monkeypatch):
    monkeypatch.setattr(foreign, "BATCH", 5)
    kept = foreign.read_frames(tiny / "hpdb", [_Right()], 22, 0)
    assert len(set(kept.ids)) == 22 and kept.read.shape == (1, 22, 3, 3)
    sequence = biwi.open_sequence(tiny / "hpdb", "03", "")
    frame = sequence.frames[[one.id for one in sequence.frames].index(next(i for i in kept.ids if "/03/" in i))]
    assert np.array_equal(kept.true[kept.ids.tolist().index(frame.id)], sequence.read_pose(frame.pose).rotation)
    record = foreign.record_of(kept, ["1"], 0, like=kept.true[:3])
    assert (record["frames"], record["sequences"], record["like"]["frames"]) == (22, 4, 3)
    assert record["right"]["found"] == 22 and record["right"]["geodesic"] == pytest.approx(4)
    assert record["right"]["like"]["found"] == 1
