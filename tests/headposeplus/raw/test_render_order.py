import functools
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from headposeplus.errors import OrderError
from headposeplus.miniature.poses import SCALES, hidden_order
from headposeplus.miniature.write import write_miniature
from headposeplus.raw import render_order, synhead
from headposeplus.rotations import ALL_ORDERS, from_matrix, to_matrix

# Flipping the signs of two angles mirrors all poses and all candidates alike, so an order of axes has two cases.
CASES = ("xyz+++", "xyz++-", "xzy+--", "xzy-++", "yxz-+-", "yxz---", "yzx--+", "yzx+-+", "zxy+++", "zxy++-", "zyx-+-",
         "zyx-++")  # fmt: skip
CASES = [order for order in ALL_ORDERS if str(order) in CASES or os.environ.get("HPP_ALL_ORDERS") == "1"]


def rewrite(root, change):
    """Rewrite each track's file of angles."""
    for track in synhead.tracks(root):
        np.savetxt(track.csv, change(synhead.read_angles(track)), delimiter=",", fmt="%.6f")


def only_yaw(angles):
    return angles * [0, 1, 0]


def shuffled(angles):
    return np.random.default_rng(len(angles)).permutation(angles)  # against the images


def test_rendering_order_is_the_hidden_one(built):
    _, summary = built
    report, path = summary.order, Path("render_order.json")
    assert report.order == hidden_order(0)
    assert len(report.candidates) == 48 and report.candidates[0].order == report.order
    errors = [candidate.error for candidate in report.candidates]
    assert errors == sorted(errors) and report.margin > render_order.MIN_MARGIN
    content = json.loads(json.dumps(render_order.to_json(report)))
    assert list(content) == ["order", "candidates", "margin", "pairs", "biwi"]
    assert list(content["candidates"][0]) == ["order", "error", "behind"] and content["order"] == str(report.order)
    assert render_order.from_json(content, path) == report
    with pytest.raises(OrderError, match=r"^render_order\.json: no report of a rendering order: .*margin"):
        render_order.from_json(content | {"margin": "large"}, path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 5, 7])
def test_rendering_order_of_other_miniatures(tmp_path, seed, monkeypatch):
    # One frame of Biwi, which is not looked at, and half of the tracks, with more poses in each.
    small = SCALES["tiny"]._replace(sequences=("01",), frames=1, tracks=(1, 2, 1, 2), poses=(20, 10, 10, 12))
    monkeypatch.setitem(SCALES, "tiny", small)
    write_miniature(tmp_path / "raw", "tiny", seed)
    assert render_order.infer(synhead.look_through(tmp_path / "raw/synhead2_release")).order == hidden_order(seed)


def test_processes_side_by_side_find_the_same(copy, monkeypatch):
    monkeypatch.setattr(render_order, "IMAGES", 4 * render_order.MIN_PAIRS)
    assert render_order.judge(copy, workers=2) == render_order.judge(copy)


@pytest.fixture(scope="module")
def read_once():
    """Each image's detail is taken once for all orders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render_order, "_patch", functools.cache(render_order._patch))
        yield


@pytest.fixture(scope="module")
def copy(tiny):
    return synhead.look_through(tiny / "synhead2_release")


@pytest.mark.slow
@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize("order", CASES, ids=str)
def test_every_order_is_found(copy, order):
    """The same images, with the angles written as if they had been rendered in another order."""
    angles = {
        track: np.round(from_matrix(to_matrix(rows, hidden_order(0)), order), 6) for track, rows in copy.angles.items()
    }
    report = render_order.judge(copy._replace(angles=angles))
    print(f"{order}: margin {report.margin:.1f}")
    assert report.order == order
    render_order.check_margin(report, copy.root)


@pytest.mark.parametrize("seed", [0, 1])
def test_two_more_signs_are_the_same_case(seed):
    """What the choice of cases rests on: with two signs flipped, the rotations are those seen in a mirror."""
    angles = np.random.default_rng(seed).uniform(-80, 80, (20, 3))
    for order in ALL_ORDERS:
        for flipped, axis in (((1, -1, -1), 0), ((-1, 1, -1), 1), ((-1, -1, 1), 2)):
            turn = -np.eye(3)
            turn[axis, axis] = 1
            mirrored = turn @ to_matrix(angles, order) @ turn
            assert mirrored == pytest.approx(to_matrix(angles * flipped, order))


def test_rendering_order_refuses_pure_yaw(tiny_copy):
    root = tiny_copy / "synhead2_release"
    rewrite(root, only_yaw)
    with pytest.raises(OrderError, match=r"the poses hardly differ .* `render_order`") as error:
        render_order.infer(synhead.look_through(root))
    assert str(root) in str(error.value)


def test_rendering_order_refuses_images_of_something_else_and_shows_why(tiny_copy):
    root = tiny_copy / "synhead2_release"
    rewrite(root, shuffled)
    report = render_order.judge(synhead.look_through(root))
    text = render_order.describe(report)
    assert all(text.count(str(order)) >= 1 for order in ALL_ORDERS) and len(report.candidates) == 48
    assert f"margin {report.margin:.1f} standard errors, {render_order.MIN_MARGIN:.0f} are needed" in text
    with pytest.raises(OrderError, match=f"{report.order} and .* almost equally well .* `render_order`"):
        render_order.check_margin(report, root)


def test_swapped_columns_are_seen_in_the_fit_to_biwi():
    rng = np.random.default_rng(0)
    numbers = np.arange(200)
    angles = np.cumsum(rng.normal(0, 1, (200, 3)), axis=0)

    track = synhead.Track("BIWI", "04", Path("04.csv"))
    for sequence, columns in (("05", [0, 1, 2]), ("04", [1, 0, 2])):  # counted from 0, and from 1
        matrix, count = render_order.biwi_agreement({track: angles[:, columns]}, {sequence: (numbers, angles)})
        assert count == 1 and np.abs(matrix).argmax(axis=1).tolist() == columns


def test_the_command_prints_draws_and_writes(tiny, built, tmp_path, hpp):
    text = hpp("render-order", "--synhead", tiny, "--biwi", tiny, "--plot", tmp_path / "p.png",
               "--json", tmp_path / "r.json", "--jobs", 1).output  # fmt: skip
    assert f"pairs of images: {hidden_order(0)}" in text and all(f"{order} 0." in text for order in ALL_ORDERS)
    assert "4 BIWI tracks" in text and f"{tmp_path / 'p.png'}" in text and f"{tmp_path / 'r.json'}" in text
    written = render_order.from_json(json.loads((tmp_path / "r.json").read_text()), tmp_path / "r.json")
    assert written == built[1].order  # what the build found of the same images
    assert cv2.imread(str(tmp_path / "p.png")).std() > 10


@pytest.mark.parametrize(
    ("change", "says", "shown"), [(only_yaw, "the poses hardly differ", 0), (shuffled, "almost equally well", 48)]
)
def test_the_command_when_the_images_cannot_tell(tiny_copy, tmp_path, hpp, change, says, shown):
    rewrite(tiny_copy / "synhead2_release", change)
    text = hpp("render-order", "--synhead", tiny_copy, "--plot", tmp_path / "p.png", "--json", tmp_path / "r.json",
               "--jobs", 1, expect=1).output  # fmt: skip
    lines = [line for line in text.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and says in lines[0] and "give it to the build with --render-order" in lines[0]
    assert sum(f"{order} " in text.replace(lines[0], "") for order in ALL_ORDERS) == shown
    assert (tmp_path / "p.png").exists() == (tmp_path / "r.json").exists() == bool(shown)
