import re

import numpy as np
import pandas as pd
import pytest
import tomli_w
from scipy.signal import lfilter

from benchmark.scoring import check, labels, orders, protocols
from headposeplus import rotations as rot

ABOUT = {
    "name": "mine", "authors": "me", "training_data": "any", "convention": "pyr", "camera": "rgb",
    "selection": "last epoch", "uses_target_images": True, "task": "cross",
}  # fmt: skip
ANGLES = ["pitch", "yaw", "roll"]
SHUFFLED = (
    "poses fit their frames no better than in any order, as if they had been shuffled; give each row the pose of the "
    "image that its id names; a loader with shuffle=True gives others"
)


def walk(count, step, rng, still=0.95):
    """Angles (count, 3) that wander, about a degree a frame."""
    return lfilter([1], [1, -still], rng.normal(0, step, (count, 3)), axis=0)


def made(count=8, frames=120, first=3, step=(2, 3, 1)):
    """Labels of sequences as a camera films them: each frame resembles the one before it."""
    rng = np.random.default_rng(0)
    ids = np.array([f"biwi/{s:02d}/{n:05d}" for s in range(1, count + 1) for n in range(first, first + frames + 3 * s)])
    sizes = [frames + 3 * s for s in range(1, count + 1)]
    angles = np.concatenate([walk(size, step, rng) + rng.normal(0, 8, 3) for size in sizes])
    return labels.from_arrays(ids, rot.to_matrix(angles), camera="rgb")


@pytest.fixture(scope="module")
def truth():
    return made()


def predicted(truth, error, seed=0, memory=0.9):
    """Angles with errors that wander as a network's do, and an offset a sequence."""
    rng = np.random.default_rng(seed)
    angles = rot.from_matrix(truth.rotations)
    for name in np.unique(truth.sequences):
        rows = truth.sequences == name
        step = error * np.sqrt(1 - memory**2)
        angles[rows] += walk(rows.sum(), step, rng, memory) + rng.normal(0, error / 2, 3)
    return angles


def table(ids, angles):
    frame = pd.DataFrame(angles, columns=ANGLES)
    frame.insert(0, "id", ids)
    return frame.to_csv(index=False).encode()


def told(truth, ids, angles, figures=False):
    found = check.check(table(ids, angles), tomli_w.dumps(ABOUT).encode(), reference(truth))
    suspicions = [str(fault) for fault in found.suspicions]
    if not figures:
        suspicions = [
            re.sub(": read so, the MAE would be [0-9.]+ degrees instead of [0-9.]+", "", x) for x in suspicions
        ]
    return [str(fault) for fault in found.faults], suspicions


def reference(truth):
    return protocols.reference(None, truth, "cross")


def found_in(truth, angles):
    return orders.find_order(rot.to_matrix(angles), np.arange(len(truth.ids)), truth)


def shifted(truth, angles, by):
    moved = angles.copy()
    for name in np.unique(truth.sequences):
        rows = np.flatnonzero(truth.sequences == name)
        moved[rows] = angles[rows[np.clip(np.arange(len(rows)) + by, 0, len(rows) - 1)]]
    return moved


def as_text(ids):
    """Where each id comes when they are sorted without the zeros before their numbers."""
    return np.argsort([re.sub(r"/0+(?=\d)", "/", name) for name in ids], kind="stable")


@pytest.mark.parametrize("error", [1.0, 3.0])
@pytest.mark.parametrize("by", [-5, -1, 1, 2, 9])
def test_poses_of_other_rows_are_told(truth, error, by):
    size, way = f"{abs(by)} row{'s' * (abs(by) > 1)}", "before" if by > 0 else "after"
    faults, suspicions = told(truth, truth.ids, shifted(truth, predicted(truth, error), by))
    assert faults == [] and suspicions == [
        f"poses look shifted by {size}: each frame fits the pose {size} {way} it in its sequence; give each row the "
        f"pose of the image that its id names, which stands {size} {way} it"
    ]


def in_order(truth, order):
    """The rows of sequences in another order."""
    names = np.unique(truth.sequences)
    return np.concatenate([np.flatnonzero(truth.sequences == names[place]) for place in order])


@pytest.mark.parametrize("error", [1.0, 6.0])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda truth, angles: angles[::-1], "poses look reversed; give each row the pose of the image that its id"),
        (
            lambda truth, angles: np.concatenate(
                [angles[truth.sequences == name][::-1] for name in np.unique(truth.sequences)]
            ),
            "poses look reversed within each sequence; give",
        ),
        (
            lambda truth, angles: angles[as_text(truth.ids)],
            "poses look as if their images had been sorted as text (frame_1, frame_10, frame_2), not by number; give",
        ),
        (
            lambda truth, angles: angles[np.argsort(as_text(truth.ids))],
            "ids look as if they had been sorted as text (frame_1, frame_10, frame_2), not by number; give",
        ),
        (
            lambda truth, angles: angles[in_order(truth, [4, 1, 7, 0, 2, 3, 6, 5])],
            "sequences look as if their poses came in the order 05, 02, 08, 01, 03, 04, ...; give",
        ),
    ],
)
def test_poses_in_another_order_are_told(truth, error, change, says):
    faults, suspicions = told(truth, truth.ids, change(truth, predicted(truth, error)))
    assert faults == [] and len(suspicions) == 1 and suspicions[0].startswith(says), suspicions


def test_rows_in_the_order_of_the_disk_with_poses_in_that_of_the_names_are_told(truth):
    order = np.random.default_rng(3).permutation(len(truth.ids))
    angles = predicted(truth, 3.0)
    _, suspicions = told(truth, truth.ids[order], angles, figures=True)
    assert len(suspicions) == 1 and suspicions[0].startswith(
        "poses look as if they were those of the sorted frames, not of their rows' ids: read so, the MAE would be 2."
    )
    assert told(truth, truth.ids[order], angles[order]) == ([], [])


def test_shuffled_poses_are_told(truth):
    for seed, error in enumerate((1.0, 6.0)):
        angles = np.random.default_rng(seed).permutation(predicted(truth, error))
        faults, suspicions = told(truth, truth.ids, angles, figures=True)
        assert faults == [] and suspicions == [SHUFFLED]


@pytest.mark.parametrize("memory", [0.0, 0.8, 0.98])
@pytest.mark.parametrize("error", [0.5, 3.0, 10.0, 25.0])
def test_right_predictions_are_not_suspected(truth, error, memory):
    assert told(truth, truth.ids, predicted(truth, error, 0, memory)) == ([], [])
    for seed in range(1, 9):
        assert found_in(truth, predicted(truth, error, seed, memory)) is None, seed


def test_sequences_that_hardly_move_are_not_suspected():
    still = made(step=(0.02, 0.02, 0.02))
    for seed, error in enumerate((0.2, 1.0, 4.0, 12.0)):
        assert found_in(still, predicted(still, error, seed)) is None


def test_what_owes_nothing_to_the_images_is_of_no_order(truth):
    rng = np.random.default_rng(5)
    count, of_sequences = len(truth.ids), np.unique(truth.sequences, return_counts=True)[1]
    for angles in (
        rng.normal(0, 20, (count, 3)),
        np.cumsum(rng.normal(0, 1, (count, 3)), axis=0) % 40 - 20,
        np.repeat(rng.normal(0, 9, (8, 3)), of_sequences, axis=0),
    ):
        faults, suspicions = told(truth, truth.ids, angles)
        assert faults == [] and set(suspicions) <= {SHUFFLED}
    for angles in (rng.normal(0, 0.5, (count, 3)), np.repeat(rng.normal(0, 1, (8, 3)), of_sequences, axis=0)):
        assert told(truth, truth.ids, angles) == ([], [])
    many = made(count=60, frames=-2)  # of one frame, of four, and so on
    assert found_in(many, rng.normal(0, 15, (len(many.ids), 3))) is None
    fault = told(truth, truth.ids, np.ones((len(truth.ids), 3)))[0]
    assert len(fault) == 1 and fault[0].startswith("every row holds the same pose")


def renamed(ids, change):
    return [f"biwi/{name[5:7]}/{change(name[5:7], int(name[8:])):05d}" for name in ids]


@pytest.mark.parametrize(
    ("change", "count", "says"),
    [
        (lambda s, n: n + 1, 8, "their frame numbers look 1 too high; subtract 1 from the number of each frame, and"),
        (lambda s, n: n - 3, 24, "their frame numbers look 3 too low; add 3 to the number of each frame, and take no"),
        (lambda s, n: n + (s == "04"), 1, "their frame numbers look 1 too high; subtract 1 from the number of each"),
    ],
)
def test_shifted_ids_are_one_fault_that_takes_no_row_out(truth, change, count, says):
    ids = renamed(truth.ids, change)
    faults, _ = told(truth, ids, predicted(truth, 2.0))
    assert len(faults) == 1, faults
    number = f"{count} (id is|ids are)"
    assert re.search(rf": {number} not in the test set, the first 'biwi/\d\d/\d+': {says}", faults[0]), faults
    assert faults[0].endswith("take no row out")


def test_sequences_counted_from_0_and_frames_by_their_place(truth):
    angles = predicted(truth, 2.0)
    faults, _ = told(truth, [f"biwi/{int(name[5:7]) - 1:02d}/{name[8:]}" for name in truth.ids], angles)
    assert len(faults) == 1 and "the first 'biwi/00/00003': their sequence numbers look 1 too low; add 1" in faults[0]
    with_gaps = truth.take(np.flatnonzero(np.arange(len(truth.ids)) % 7 > 0))
    places = np.concatenate([np.arange(np.sum(with_gaps.sequences == s)) for s in np.unique(with_gaps.sequences)])
    ids = [f"{name[:8]}{place:05d}" for name, place in zip(with_gaps.ids, places, strict=True)]
    faults, _ = told(with_gaps, ids, angles[: len(ids)])
    assert len(faults) == 1 and "their frames look counted from 0 in each sequence, where the images" in faults[0]
    assert faults[0].endswith("take the numbers from the images' names, and take no row out")


def test_other_ids_are_told_as_before(truth):
    ids = truth.ids.copy()
    ids[[3, 40, 300]] = "biwi/01/00999", "biwi/99/00001", "other"
    faults, _ = told(truth, ids, predicted(truth, 2.0))
    assert len(faults) == 2 and "3 ids are not in the test set, the first 'biwi/01/00999'; take these rows" in faults[1]
    assert orders.renumbered([], truth.ids.tolist()) == orders.renumbered(["x"], ["biwi/01/00003"]) == ("", "")


@pytest.mark.real
def test_on_real_labels_a_shift_by_a_frame_is_found_and_nothing_else(real):
    published = labels.read_labels(real / "Biwi_plus.npz")
    for error in (2.0, 4.0, 8.0):
        angles = predicted(published, error, memory=0.95)
        assert found_in(published, angles) is None, error
        found = found_in(published, shifted(published, angles, -1)) if error < 6 else None
        assert (found is not None and "shifted by 1 row" in found.what) == (error < 6), error


@pytest.mark.real
def test_real_networks_are_not_suspected_until_their_rows_are_shifted(real, real_photographs, tmp_path, hpp):
    frame = pd.read_csv(real / "predictions/fsanet19.csv")
    toml = (real / "predictions/fsanet19.toml").read_text()
    (tmp_path / "a.toml").write_text(toml)
    words = ["check", tmp_path / "a.csv", "--labels", real / "Biwi_plus.npz", "--subset", "biwi/sequence-19"]
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert "0 faults, 0 suspicions" in hpp(*words).output
    frame[ANGLES] = frame[ANGLES].to_numpy()[as_text(frame["id"])]
    frame.to_csv(tmp_path / "a.csv", index=False)
    output = hpp(*words).output
    assert "0 faults, 1 suspicion" in output
    assert "a.csv: poses look as if their images had been sorted as text (frame_1, frame_10, frame_2), not" in output
    network = np.load(real / "predictions/fsanet_onnx_aflw2000.npz")
    photographs = labels.read_labels(real_photographs)
    place = {f"aflw2000/{name}": row for row, name in enumerate(network["ids"].tolist())}
    tested = photographs.take(np.flatnonzero([name in place for name in photographs.ids.tolist()]))
    angles = network["pred_ypr"].astype(float)[[place[name] for name in tested.ids.tolist()]][:, [1, 0, 2]]
    rotations, rows = rot.to_matrix(angles, "ypr"), np.arange(len(tested.ids))
    assert orders.find_order(rotations, rows, tested) is None
    found = orders.find_order(np.roll(rotations, 1, axis=0), rows, tested)
    assert found is not None and found.what.startswith(
        "poses look shifted by 1 row: each frame fits the pose 1 row aft"
    )


@pytest.mark.parametrize(("count", "frames"), [(2, 2), (1, 7), (4, 7), (2, 9), (24, 2)])
def test_short_sequences_do_not_look_shifted(count, frames):
    truth = made(count, frames)
    found = 0
    for seed in range(40):
        order = orders.find_order(rot.to_matrix(predicted(truth, 5, seed)), np.arange(len(truth.ids)), truth)
        found += order is not None and "shifted" in order.what
    assert found <= 2
