import json

import msgspec
import numpy as np
import pytest
from msgspec.structs import asdict, astuple
from scipy import stats
from scipy.spatial.transform import Rotation

from benchmark import compare, evaluate
from benchmark.scoring import evaluation, labels, metrics, protocols
from benchmark.scoring.figures import Bootstrap
from benchmark.scoring.label_files import LabelsAt
from benchmark.upkeep import bench_score
from headposeplus import rotations as rot
from headposeplus.errors import DatasetError, HeadposeError, SubmissionError, SuspicionWarning

MEASURES = ("mae", "pitch", "yaw", "roll", "geodesic", "maev")


@pytest.fixture(scope="module")
def truth():
    """Labels of eight subjects with 30 to 51 frames each, poses as wide as Biwi's."""
    rng = np.random.default_rng(3)
    counts = [30 + 3 * i for i in range(8)]
    ids = [f"lab/{who}/{n:03d}" for who, count in enumerate(counts) for n in range(count)]
    angles = rng.normal(0, [20, 28, 10], (len(ids), 3))
    return labels.from_arrays(np.array(ids), rot.to_matrix(angles), camera="rgb")


def noisy(truth, seed, scale=5.0):
    """Predictions with an error that is larger for some subjects."""
    rng = np.random.default_rng(seed)
    per_subject = 1 + 0.3 * np.array([int(name[4:]) for name in truth.subjects])
    angles = rot.from_matrix(truth.rotations)
    return rot.to_matrix(angles + scale * per_subject[:, None] * rng.normal(0, 1, angles.shape))


def test_two_frames_by_hand():
    truth = (["a/1", "b/1"], rot.to_matrix([[0, 0, 179], [10, 20, 30]]))
    found = evaluate(["b/1", "a/1"], rot.to_matrix([[10, 26, 30], [3, 0, -179]]), labels=truth, camera="rgb")
    assert [getattr(found.scores, name) for name in MEASURES[:4]] == pytest.approx([(1.5 + 3 + 1) / 3, 1.5, 3, 1])
    assert asdict(found.by.subject[0]) | {"geodesic": 0, "maev": 0} == pytest.approx(
        {"name": "a", "frames": 1, "mae": 5 / 3, "pitch": 3, "yaw": 0, "roll": 2, "geodesic": 0, "maev": 0}
    )
    # Frame errors 5/3 and 2 degrees: the median is between them.
    assert found.distribution.mae.median == pytest.approx((5 / 3 + 2) / 2)
    assert found.distribution.mae.within_5 == 1 and found.quantiles.mae[0] == pytest.approx(5 / 3)
    assert [part.low for part in found.by.yaw] == [0, 15] and [part.frames for part in found.by.roll] == [1, 1]
    assert found.protocol.id.startswith("local-") and found.deviation is None


def test_measures_against_scipy_and_a_loop(truth):
    predicted = noisy(truth, 0)
    found = evaluate(truth.ids, predicted, labels=truth, resamples=0)
    relative = Rotation.from_matrix(predicted) * Rotation.from_matrix(truth.rotations).inv()
    assert found.scores.geodesic == pytest.approx(np.rad2deg(relative.magnitude()).mean())
    angles = [
        [np.degrees(np.arccos(np.clip(p[:, k] @ t[:, k], -1, 1))) for k in range(3)]
        for p, t in zip(predicted, truth.rotations, strict=True)
    ]
    assert astuple(found.vectors) == pytest.approx(np.mean(angles, axis=0))
    assert found.scores.maev == pytest.approx(np.mean(angles))
    mae = metrics.frame_errors(predicted, truth.rotations).angles.mean(axis=1)
    spread = found.distribution.mae
    assert spread.median == pytest.approx(np.median(mae)) and spread.p95 == pytest.approx(np.percentile(mae, 95))
    for limit in (5, 10, 15):
        assert getattr(spread, f"within_{limit}") == pytest.approx(np.mean([error <= limit for error in mae]))
    for name in ("pyr", "ypr", "biwi"):
        both = [rot.from_matrix(one, name) for one in (predicted, truth.rotations)]
        near = np.flatnonzero(np.abs(both).max(axis=(0, 2)) < 60)  # where no second triple is nearer
        assert len(near) > 200
        part = evaluate(truth.ids[near], predicted[near], labels=truth.take(near), resamples=0)
        plain = np.abs(rot.angle_difference(both[0][near], both[1][near])).mean()
        assert getattr(part.conventions, name).mae == pytest.approx(plain)
    assert found.conventions.pyr.mae == pytest.approx(found.scores.mae)


def test_groups_add_up_to_the_whole(truth):
    found = evaluate(truth.ids, noisy(truth, 1), labels=truth, resamples=0)
    for name, rows in asdict(found.by).items():
        assert sum(row.frames for row in rows) == len(truth.ids), name
        pooled = np.average([row.mae for row in rows], weights=[row.frames for row in rows])
        assert pooled == pytest.approx(found.scores.mae), name
    angles = rot.from_matrix(truth.rotations)
    for row in found.by.yaw_pitch:
        inside = (angles[:, 1] // 15 * 15 == row.yaw) & (angles[:, 0] // 15 * 15 == row.pitch)
        assert inside.sum() == row.frames
    assert all(row.high - row.low == 15 for row in found.by.pitch)


def test_the_bootstrap_draws_subjects(truth):
    """Against a plain loop over resampled subjects, and against SciPy where all subjects have as many frames."""
    predicted = noisy(truth, 2)
    found = evaluate(truth.ids, predicted, labels=truth, resamples=20_000, seed=5)
    errors = metrics.frame_errors(predicted, truth.rotations).angles.mean(axis=1)
    groups = [errors[truth.subjects == name] for name in np.unique(truth.subjects)]
    rng = np.random.default_rng(0)
    means = [np.concatenate([groups[i] for i in rng.integers(8, size=8)]).mean() for _ in range(10_000)]
    assert found.intervals.mae == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.12)
    equal = np.concatenate([np.flatnonzero(truth.subjects == name)[:30] for name in np.unique(truth.subjects)])
    same = truth.take(equal)
    found = evaluate(same.ids, predicted[equal], labels=same, resamples=20_000)
    by_subject = [errors[equal][same.subjects == name].mean() for name in np.unique(same.subjects)]
    theirs = stats.bootstrap((by_subject,), np.mean, method="percentile", n_resamples=20_000, rng=rng)
    assert found.intervals.mae == pytest.approx(list(theirs.confidence_interval), abs=0.12)
    over_frames = np.percentile([rng.choice(errors, len(errors)).mean() for _ in range(500)], [2.5, 97.5])
    assert np.diff(over_frames) < 0.5 * np.diff(found.intervals.mae)  # frames of a person resemble each other


def test_resamples_and_seed_are_the_users(truth):
    predicted = noisy(truth, 2)
    one, same, other = (evaluate(truth.ids, predicted, labels=truth, seed=seed) for seed in (0, 0, 1))
    assert one.intervals == same.intervals != other.intervals
    assert one.bootstrap == Bootstrap(over="subjects", subjects=8, resamples=2000, seed=0, level=0.95)
    assert evaluate(truth.ids, predicted, labels=truth, resamples=0).intervals is None
    alone = truth.take(np.flatnonzero(truth.subjects == "lab/1"))
    rows = np.isin(truth.ids, alone.ids)
    assert evaluate(alone.ids, predicted[rows], labels=alone).intervals is None


def test_several_seeds_are_one_entry(truth):
    runs = np.stack([noisy(truth, seed, 4 + seed) for seed in (0, 1, 2)])
    found = evaluate(truth.ids, runs, labels=truth)
    single = [evaluate(truth.ids, run, labels=truth, resamples=0).scores for run in runs]
    for name in MEASURES:
        values = [getattr(one, name) for one in single]
        assert getattr(found.scores, name) == pytest.approx(np.mean(values))
        assert getattr(found.deviation, name) == pytest.approx(np.std(values, ddof=1))
        assert [getattr(one, name) for one in found.scores_of_seeds] == pytest.approx(values)
    low, high = found.intervals.mae
    assert low < found.scores.mae < high and "± over seeds" in str(found)


def test_order_and_faults_of_arrays(truth):
    predicted = noisy(truth, 0)
    order = np.random.default_rng(0).permutation(len(truth.ids))
    whole = evaluate(truth.ids, predicted, labels=truth)
    assert evaluate(truth.ids[order], predicted[order], labels=truth) == whole
    for ids, rotations, says in (
        (truth.ids[1:], predicted[1:], "1 of which is missing"),
        (np.append(truth.ids, "x/1"), predicted[[*range(len(predicted)), 0]], "give each of its frames once"),
        (truth.ids[[0, *range(len(truth.ids) - 1)]], predicted, "1 of them twice"),
        (truth.ids, predicted[1:], "one for each id"),
        (truth.ids, predicted * 2, "no rotation"),
        (truth.ids, rot.from_matrix(predicted), "one for each id"),
        (truth.ids, predicted * np.nan, "no rotation"),
        (truth.ids, predicted[None][:0], "one for each id"),
        (truth.ids, "rotations", "expected numbers"),
    ):
        with pytest.raises(SubmissionError, match=says):
            evaluate(ids, rotations, labels=truth)


@pytest.mark.parametrize(
    ("ids", "rotations", "says"),
    [
        (["a/1", "a/1"], np.stack([np.eye(3)] * 2), "'a/1' comes twice"),
        (["a/1"], np.eye(3)[None] * 2, "a matrix that is no rotation"),
        (["a/1"], np.full((1, 3, 3), np.nan), "a matrix that is no rotation"),
        (["a/1"], -np.eye(3)[None], "a matrix that is no rotation"),
        (["a/1"], [[1.0, 2.0, 3.0]], r"expected \(1, 3, 3\)"),
        ([], np.zeros((0, 3, 3)), "not none"),
    ],
)
def test_labels_that_are_none(ids, rotations, says):
    with pytest.raises(DatasetError, match=says):
        evaluate(["a/1"], np.eye(3)[None], labels=(ids, rotations))


def test_files_of_labels(tmp_path, truth):
    angles = rot.from_matrix(truth.rotations)
    rows = [
        f"{name},{','.join(map(str, row))},s{i % 5}"
        for i, (name, row) in enumerate(zip(truth.ids, angles, strict=True))
    ]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["id,pitch,yaw,roll,subject", *rows]))
    found = labels.read_labels(path)
    assert sorted(set(found.subjects)) == [f"s{i}" for i in range(5)] and found.sequences[0] == "lab/0"
    assert found.unsaid == ("convention", "camera")
    with pytest.raises(SubmissionError, match=r"labels\.csv: nothing says the convention and camera of these labels"):
        evaluate(truth.ids, truth.rotations, labels=path)
    said = LabelsAt(path, "pyr", "rgb")
    assert evaluate(truth.ids, truth.rotations, labels=said).scores.geodesic < 1e-5
    for text, says in (
        ("\n".join(["id,pitch,yaw,roll,subject", *rows, rows[0]]), "labels.csv: 'lab/0/000' comes twice"),
        ("id,pitch,yaw,roll\na,1,2,\n", "labels.csv, line 2: roll is empty"),
        ("", "labels.csv: an empty file"),
    ):
        path.write_text(text)
        with pytest.raises(DatasetError, match=says):
            labels.read_labels(path)
    with pytest.raises(
        DatasetError, match=r"none\.csv: cannot be read: No such file or directory; expected a folder of built"
    ):
        labels.read_labels(tmp_path / "none.csv")


@pytest.mark.real
def test_golden_scores_of_the_published_labels(real):
    """All labels against themselves, and those in the depth camera against those in the RGB camera: 0.80 degrees."""
    published = np.load(real / "Biwi_plus.npz")
    truth = real / "Biwi_plus.npz"
    ids = labels.read_labels(truth).ids
    same = evaluate(ids, rot.to_matrix(published["pyr"]), "biwi+/pda@1", truth)
    assert max(astuple(same.scores)) < 1e-6 and same.protocol.frames == 15678 and same.bootstrap.subjects == 20
    other = np.load(real / "Biwi_plus_non_cal.npz")["pyr"]
    found = evaluate(ids, rot.to_matrix(other), "biwi+/pda@1", truth)
    assert found.scores.mae == pytest.approx(0.80, abs=0.005)
    assert found.scores.mae == pytest.approx(np.abs(rot.angle_difference(other, published["pyr"])).mean(), abs=1e-4)
    low, high = found.intervals.mae
    assert low < 0.80 < high
    # The published ypr columns are yaw, pitch, roll.
    both = [np.load(real / name)["ypr"] for name in ("Biwi_plus_non_cal.npz", "Biwi_plus.npz")]
    assert found.conventions.ypr.mae == pytest.approx(np.abs(rot.angle_difference(*both)).mean(), abs=1e-4)


def test_a_paired_difference_is_sharper_than_two_intervals(truth):
    reference = protocols.reference(None, truth, "cross")
    good, bad = noisy(truth, 0, 5.0)[None], noisy(truth, 0, 5.5)[None]
    found = evaluation.compare(good, bad, reference)
    a, b = (evaluate(truth.ids, one[0], labels=truth) for one in (good, bad))
    assert found.differences.mae == pytest.approx(a.scores.mae - b.scores.mae)
    low, high = found.intervals.mae
    assert low < found.differences.mae < high < 0
    assert a.intervals.mae[1] > b.intervals.mae[0]  # which alone would not tell them apart
    assert "A is better" in str(found) and "lower MAE in 8 of 8 subjects" in str(found)
    errors = [metrics.frame_errors(one[0], truth.rotations).angles.mean(axis=1) for one in (good, bad)]
    by_hand = {n: (errors[0] - errors[1])[truth.subjects == n].mean() for n in np.unique(truth.subjects).tolist()}
    assert found.subjects == pytest.approx(by_hand)
    assert compare(good, good, reference).intervals.mae == (0, 0)


def test_an_evaluation_is_plain_values(truth):
    found = evaluate(truth.ids, noisy(truth, 0), labels=truth)
    assert json.loads(json.dumps(msgspec.to_builtins(found)))["scores"] == asdict(found.scores)
    assert "95 % interval" in str(found) and "MAE in other conventions: pyr" in str(found)


# The second triple of Euler angles, by NumPy alone


def by_numpy(angles):
    """Rotations (n, 3, 3) of pitch, yaw, roll in degrees: Rz(roll) Ry(yaw) Rx(pitch), of axes with y up."""
    (a, b, c), (d, e, f) = np.cos(np.radians(angles.T)), np.sin(np.radians(angles.T))
    rows = (
        (c * b, c * e * d - f * a, c * e * a + f * d),
        (f * b, f * e * d + c * a, f * e * a - c * d),
        (-e, b * d, b * a),
    )
    return np.moveaxis(np.array(rows), -1, 0)


def back(m):
    """The angles of those, the middle one within 90 degrees."""
    middle = -np.arcsin(np.clip(m[:, 2, 0], -1, 1))
    return np.degrees(np.stack([np.arctan2(m[:, 2, 1], m[:, 2, 2]), middle, np.arctan2(m[:, 1, 0], m[:, 0, 0])], -1))


def turned(rotations, spread, seed=1):
    """Rotations (n, 3, 3), each turned about a random axis (Rodrigues' formula), by degrees of a spread an axis."""
    vectors = np.radians(np.random.default_rng(seed).normal(0, spread, (len(rotations), 3)))
    size = np.linalg.norm(vectors, axis=1)
    x, y, z = (vectors / size[:, None]).T
    cross = np.moveaxis(np.array([[0 * x, -z, y], [z, 0 * x, -x], [-y, x, 0 * x]]), -1, 0)
    sin, cos = (part[:, None, None] for part in (np.sin(size), np.cos(size)))
    return (np.eye(3) + sin * cross + (1 - cos) * cross @ cross) @ rotations


def both_errors(truth, spread):
    """The MAE with the nearer of both triples and with the first, of poses that are off by a spread; and ours."""
    right = by_numpy(truth)
    wrong = turned(right, spread)
    first, labels_angles = back(wrong), back(right)
    second = np.stack([first[:, 0] + 180, 180 - first[:, 1], first[:, 2] + 180], -1)
    one, other = (np.abs((angles - labels_angles + 180) % 360 - 180) for angles in (first, second))
    nearer = np.minimum(one.mean(axis=1), other.mean(axis=1)).mean()
    flip = np.diag([1, -1, -1])
    predicted, reference = flip @ wrong @ flip, flip @ right @ flip
    ours = metrics.scores(predicted, reference).mae, metrics.plain_angles(predicted, reference)
    assert ours[0] == pytest.approx(nearer, abs=1e-6) and ours[1].mae == pytest.approx(one.mean(), abs=1e-6)
    assert [ours[1].pitch, ours[1].yaw, ours[1].roll] == pytest.approx(one.mean(axis=0), abs=1e-6)
    return nearer, one.mean()


def test_the_nearer_triple_lowers_large_errors_alone():
    """On poses within 70 degrees: nothing below an MAE of 8 that two decimals show, more than half a degree at 25."""
    truth = np.clip(np.random.default_rng(0).normal([-12, -8, 2], [24, 28, 12], (8000, 3)), -70, 70)
    for spread, least, most, where in ((4, 0, 1e-6, 3.7), (8, 0, 0.01, 7.4), (27, 0.5, 1.1, 25)):
        nearer, plain = both_errors(truth, spread)
        assert plain == pytest.approx(where, abs=0.4) and least <= plain - nearer <= most, spread
    # Near a yaw of 90 degrees the angles of a pose that is hardly off may be half a turn off.
    nearer, plain = both_errors(np.array([[5.0, 89.0, 3.0]] * 500), 3)
    assert plain > nearer + 15


@pytest.mark.real
def test_by_how_much_on_the_real_poses(real):
    """As ``hpp protocols show`` says it."""
    truth = np.load(real / "Biwi_plus.npz")["pyr"]
    nearer, plain = both_errors(truth, 8.4)
    assert 7.7 < plain < 8 and plain - nearer < 0.01
    nearer, plain = both_errors(truth, 25.82)
    assert plain == pytest.approx(25, abs=0.02) and plain - nearer == pytest.approx(0.86, abs=0.01)
    assert "less than 0.01 degrees where it is below 8, and by 0.86 where it is 25" in metrics.NEARER_TRIPLE


def test_plain_angles_stand_beside_the_scores(truth):
    found = evaluate(truth.ids, turned(truth.rotations, 26), labels=truth, resamples=0)
    plain = found.plain_angles
    assert plain.mae > found.scores.mae and f"MAE, plain: {plain.mae:.2f} (pitch {plain.pitch:.2f}, " in str(found)
    runs = np.stack([turned(truth.rotations, 26, seed) for seed in (1, 2)])
    both = [evaluate(truth.ids, run, labels=truth, resamples=0).plain_angles.mae for run in runs]
    assert evaluate(truth.ids, runs, labels=truth, resamples=0).plain_angles.mae == pytest.approx(np.mean(both))


# What is told of predictions from Python, too


def test_angles_are_taken_with_their_convention(truth):
    angles = rot.from_matrix(noisy(truth, 0), "ypr")
    from_angles = evaluate(truth.ids, angles, labels=truth, resamples=0, convention="ypr")
    assert asdict(from_angles.scores) == pytest.approx(
        asdict(evaluate(truth.ids, noisy(truth, 0), labels=truth, resamples=0).scores)
    )
    two = evaluate(truth.ids, np.stack([angles, angles + 1]), labels=truth, resamples=0, convention="ypr")
    assert len(two.scores_of_seeds) == 2
    for given, options, says in (
        (angles, {}, r"expected \(324, 3, 3\), one for each id; angles have a `convention`, pyr, biwi or ypr"),
        (truth.rotations, {"convention": "ypr"}, "expected .*, one for each id; rotations have no `convention`"),
        (angles * np.nan, {"convention": "ypr"}, "is nan, no finite number; give pitch, yaw, roll in degrees"),
        (
            np.where(np.arange(3) + 0 * angles == 1, np.inf, angles),
            {"convention": "ypr"},
            f"the yaw of '{truth.ids[0]}' is inf, no finite number",
        ),
        (truth.rotations * 1.5, {}, f"the matrix of '{truth.ids[0]}' is no rotation"),
        (np.radians(angles), {"convention": "ypr"}, "rotations: angles look like radians.* multiply pitch, yaw and"),
        (
            angles,
            {"convention": "ypr", "camera": "depth"},
            "camera: poses in the depth camera, but local-.* rgb camera",
        ),
    ):
        with pytest.raises(SubmissionError, match=says):
            evaluate(truth.ids, given, labels=truth, **options)
    with pytest.raises(HeadposeError, match="unknown angle convention 'rpy'"):
        evaluate(truth.ids, angles, labels=truth, convention="rpy")


def test_suspicions_are_told_from_python_as_of_files(truth):
    angles = rot.from_matrix(noisy(truth, 0))
    fine = evaluate(truth.ids, angles, labels=truth, resamples=0, convention="pyr")
    assert fine.suspicions == ()
    order = np.random.default_rng(0).permutation(len(angles))
    for given, options, says in (
        (angles[:, [1, 0, 2]], {"convention": "pyr"}, "columns look swapped, pitch in yaw, yaw in pitch: read so, the"),
        (rot.from_matrix(noisy(truth, 0), "ypr"), {"convention": "pyr"}, "angles look like ypr, not pyr"),
        (np.swapaxes(noisy(truth, 0), 1, 2), {}, "rotations look inverted"),
        (np.tile(np.eye(3), (len(angles), 1, 1)), {}, "every row holds the same pose"),
        (np.roll(noisy(truth, 0), 3, axis=0), {}, "poses look shifted by 3 rows"),
        (noisy(truth, 0)[order], {}, "poses fit their frames no better than in any order"),
    ):
        with pytest.warns(SuspicionWarning, match=says) as warned:
            found = evaluate(truth.ids, given, labels=truth, resamples=0, **options)
        assert warned[0].filename == __file__ and len(warned) == 1
        assert found.suspicions == (str(warned[0].message),) and f"suspicion: {found.suspicions[0]}" in str(found)
        assert found.suspicions[0].startswith(says) and "; " in found.suspicions[0]
    # No other reading is told of that would score worse, though its rotations are nearer: pitch off by two degrees.
    biwi = bench_score.random_labels(0)
    moved = rot.from_matrix(biwi.rotations) + np.array([2, 0, 0])
    assert evaluate(biwi.ids, moved, labels=biwi, resamples=0, convention="pyr").suspicions == ()
    # Of rows in another order than the test set's, those that the ids name count.
    assert evaluate(truth.ids[order], angles[order], labels=truth, resamples=0, convention="pyr") == fine
