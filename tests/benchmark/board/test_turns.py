"""What the drawings of angles show is what the conventions say."""

import re

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmark.board import turns

FLIP = np.diag([1.0, -1.0, -1.0])
# As docs/angles.md defines them, by SciPy alone: angles about the fixed axes x, y, z of F R F; R for biwi.
DEFINED = {
    "pyr": lambda x, y, z: FLIP @ Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix() @ FLIP,
    "biwi": lambda x, y, z: Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix(),
    "ypr": lambda x, y, z: FLIP @ Rotation.from_euler("zyx", [-z, -y, -x], degrees=True).as_matrix() @ FLIP,
}


def arrow(svg):
    """Where the arrow of a drawing begins and ends, x right and y down."""
    line = re.search(r'<g class="way"><path d="M([^"]+)"', svg)[1]
    points = [tuple(map(float, point.split())) for point in line.split("L")]
    return np.array(points[0]), np.array(points[-1])


@pytest.mark.parametrize("convention", DEFINED)
@pytest.mark.parametrize("place", range(3))
def test_an_arrow_points_where_the_head_goes(convention, place):
    turn = turns.conventions()[convention].turns[place]
    angles = np.zeros(3)
    angles[place] = turns.DEGREES
    pose = DEFINED[convention](*angles)
    np.testing.assert_allclose(turns.pose_of(turn.angle, convention), pose, atol=1e-12)
    point = np.array([0, -1.0, 0]) if turn.angle == "roll" else np.array([0, 0, -1.0])  # the crown, or the nose
    moved = (pose @ point - point)[:2]
    start, end = arrow(turn.svg)
    along = end - start
    assert moved @ along / np.linalg.norm(moved) / np.linalg.norm(along) > 0.99
    word = {"pitch": ("down", "up"), "yaw": ("right", "left"), "roll": ("right, clockwise", "left, anticlockwise")}
    assert word[turn.angle][int(moved[1 if turn.angle == "pitch" else 0] < 0)] in turn.words


def test_what_real_frames_show():
    """Of Biwi's sequence 19, whose frames were looked at: at a yaw (pyr) of 48 the face looks to the image's right,
    at a pitch of -68 it looks up, and at a roll of 37 the head leans to the image's left."""
    words = [turn.words for turn in turns.conventions()["pyr"].turns]
    assert words == ["looks down", "looks to the image's right", "leans to the image's left, anticlockwise"]
    assert [turn.words for turn in turns.conventions()["ypr"].turns] == [
        "looks up", "looks to the image's left", "leans to the image's right, clockwise"
    ]  # fmt: skip


def test_in_which_order_angles_act():
    assert turns.order("pyr") == "pitch acts first, then yaw, then roll"
    assert turns.order("ypr") == "roll acts first, then yaw, then pitch"
    # The first of them moves a head that all others leave alone: about the fixed axes it acts on the head's own.
    both = Rotation.from_euler("z", -30, degrees=True), Rotation.from_euler("x", -20, degrees=True)
    acted = FLIP @ (both[1] * both[0]).as_matrix() @ FLIP
    np.testing.assert_allclose(DEFINED["ypr"](20, 0, 30), acted, atol=1e-12)
