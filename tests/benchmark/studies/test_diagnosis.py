import numpy as np
import pytest

from benchmark.studies import diagnosis
from headposeplus.raw import synhead


def test_errors_of_a_step_by_hand():
    found = diagnosis.step_errors(np.array([[1.0, 2, -6], [3, -4, 0]]), np.array([[0.0, 0, 0], [0, 0, 3]]))
    assert found.errors == [2, 3, 4.5] and found.bias == [2, -1, -4.5]
    assert found.mae == pytest.approx((2 + 3 + 4.5) / 3, abs=1e-3)


def test_constant_shares_by_hand():
    groups = np.array(["a", "a", "b", "b"])
    away = np.array([[2.0, 1, 3], [2, -1, 1], [2, 1, -3], [2, -1, -1]])
    # An offset for all; nothing constant; and one of each group: of the mean square 5, that of 2 and -2 is 4.
    assert diagnosis.constant_shares(away, groups) == [[1, 1], [0, 0], [0, 0.8]]


def test_no_share_is_larger_by_all_than_by_group():
    rng = np.random.default_rng(0)
    groups = rng.integers(5, size=200)
    away = rng.normal(0, 1, (200, 3)) + rng.normal(0, 1, (5, 3))[groups] + [0.5, 0, -1]
    for angle, (over_all, by_group) in enumerate(diagnosis.constant_shares(away, groups)):
        means = np.array([away[groups == group, angle].mean() for group in groups])
        square = (away[:, angle] ** 2).mean()
        # What is left within the groups is the rest of the square.
        assert 1 - by_group == pytest.approx(((away[:, angle] - means) ** 2).mean() / square, abs=1e-3)
        assert over_all == pytest.approx(away[:, angle].mean() ** 2 / square, abs=1e-3) and over_all < by_group


def test_how_far_boxes_from_outlines_lie_off(tiny, tiny_copy):
    """Where a copy says another place of a head, the boxes from its outlines lie off it by so much more."""
    found = {error.head: error for error in diagnosis.outlined_boxes(tiny, 0)}
    assert list(found) == list(synhead.HEADS)
    for error in found.values():  # heads are those of the same meshes, found to a seventh of a box
        assert abs(error.right) < 0.04 and abs(error.down) < 0.15 and error.scale == pytest.approx(1, abs=0.2)
    path = tiny_copy / "synhead2_release/head_places.csv"
    header, *rows = path.read_text().splitlines()
    scale = float(rows[0].split(",")[3])
    rows[0] = f"f01,41.5,31.5,{scale}"
    rows[1] = f"f02,31.5,25.5,{scale}"
    rows[2] = f"f03,31.5,31.5,{2 * scale}"
    path.write_text("\n".join([header, *rows]))
    moved = {error.head: error for error in diagnosis.outlined_boxes(tiny_copy, 0)}
    side = 250 * scale  # of a box, to a few percent
    assert moved["f01"].right - found["f01"].right == pytest.approx(-10 / side, rel=0.1)
    assert moved["f02"].down - found["f02"].down == pytest.approx(6 / side, rel=0.1)
    assert moved["f03"].scale == pytest.approx(found["f03"].scale / 2, rel=0.03)
    assert moved["f01"].down == pytest.approx(found["f01"].down, abs=1e-3)
    assert all(moved[head] == found[head] for head in synhead.HEADS[3:])
