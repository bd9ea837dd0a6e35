"""What the plots of an entry's page say of figures that rest on few frames, and of true and predicted poses."""

import base64

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmark.board import plots, report
from benchmark.scoring.figures import Bin, Cell, Group
from headposeplus.rotations import to_matrix


@pytest.fixture
def figure(monkeypatch):
    """Return what calls a plot's function and gives its figure, with its ticks in place."""

    def drawn(function, *arguments):
        kept = []
        monkeypatch.setattr(plots, "_svg", lambda figure, name, label, names=(): kept.append((figure, label)))
        function.__wrapped__(*arguments)
        FigureCanvasAgg(kept[0][0]).draw()
        return kept[0]

    return drawn


def bins(*frames):
    return tuple(
        Bin(15.0 * place, 15.0 * place + 15, count, 5.0 + place, 8.0 + place) for place, count in enumerate(frames)
    )


def test_bins_of_few_frames_are_drawn_as_uncertain(figure):
    drawn, label = figure(plots.error_by_angle, bins(3, 50, 60, 9, 10), "yaw", 20.0)
    upper, lower = drawn.axes
    marks = [line for line in upper.get_lines() if line.get_marker() not in ("None", "") and len(line.get_xdata())]
    hollow = [line for line in marks if line.get_markerfacecolor() == plots._PAGE]
    whole = [line for line in marks if line not in hollow]
    assert [list(line.get_xdata()) for line in whole] == [[22.5, 37.5, 67.5]] * 2
    assert [list(line.get_xdata()) for line in hollow] == [[7.5, 52.5]] * 2
    assert len({line.get_marker() for line in whole}) == 2  # MAE and geodesic by shape, too
    lines = {tuple(line.get_xdata()): line.get_linestyle() for line in upper.get_lines() if len(line.get_xdata()) == 2
             and line.get_marker() == "None"}  # fmt: skip
    dashed = {ends for ends, style in lines.items() if style == "--"}
    assert dashed == {(7.5, 22.5), (37.5, 52.5), (52.5, 67.5)} and len(lines) == 4
    assert {text.get_text(): text.get_position()[0] for text in lower.texts} == {"3": 7.5, "9": 52.5}
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["MAE", "geodesic", "fewer than 10 frames"]
    assert "bins of fewer than 10 frames are hollow" in label


def test_bins_of_many_frames_are_not(figure):
    drawn, label = figure(plots.error_by_angle, bins(50, 60, 70), "yaw", 20.0)
    assert not drawn.axes[1].texts and "fewer" not in label
    assert [text.get_text() for text in drawn.axes[0].get_legend().get_texts()] == ["MAE", "geodesic"]


def test_groups_and_cells_of_few_frames_are_marked(figure):
    groups = tuple(Group(name, frames, mae, *[1.0] * 5) for name, frames, mae in (("a", 9, 5.0), ("b", 10, 4.0)))
    axes = figure(plots.bars, groups, "subject", 4.5)[0].axes[0]
    filled, hollow = axes.patches
    assert (filled.get_width(), hollow.get_width()) == (4.0, 5.0)
    assert filled.get_facecolor()[3] > 0.5 and hollow.get_facecolor()[3] == 0 and hollow.get_edgecolor()[3] == 1
    assert axes.get_xlabel() == "MAE, degrees (hollow: fewer than 10 frames)"
    cells = (Cell(0.0, 0.0, 4, 1.0, 1.0), Cell(15.0, 0.0, 5, 9.0, 9.0))
    space, scale = figure(plots.label_space, cells)[0].axes
    sides = [np.ptp(patch.get_path().vertices[:, 0]) for patch in space.patches]
    assert sides[0] < 0.6 * sides[1] and sides[1] > 14
    assert scale.get_xlabel() == "MAE, degrees; small squares: fewer than 5 frames"


def test_ticks_of_shares_and_of_errors_are_what_they_say(figure):
    errors = tuple(np.linspace(0, 30, 101))
    axes = figure(plots.cumulative, errors, errors)[0].axes[0]
    [mae, _] = figure(plots.cumulative, errors, errors, 11)[0].axes[0].lines
    assert mae.get_ydata()[[0, -1]] == pytest.approx([0.11, 0.89]) and mae.get_xdata()[0] == errors[11]
    ticks = {tick.get_loc(): tick.label1.get_text() for tick in axes.yaxis.get_major_ticks()}
    assert len(ticks) > 3
    for place, text in ticks.items():
        assert float(text.removesuffix(" %")) == pytest.approx(100 * place)
    # A quarter of a degree from one colour to the next.
    cells = tuple(Cell(15.0 * place, 0.0, 50, mae, mae) for place, mae in enumerate((0.1, 1.0, 1.9)))
    scale = figure(plots.label_space, cells)[0].axes[1]
    texts = [tick.label1.get_text() for tick in scale.xaxis.get_major_ticks()]
    assert texts == ["0", "0.25", "0.5", "0.75", "1", "1.25", "1.5", "1.75", "2+"]


def test_true_and_predicted_poses_are_told_apart():
    grey, pose = np.full((64, 64, 3), 128, np.uint8), to_matrix(np.array([20.0, -30, 5]))
    uri = report._picture(grey, pose, pose)
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    halves = np.split(cv2.imdecode(data, cv2.IMREAD_COLOR).astype(int), 2, axis=1)
    for channel in range(3):
        strong = [(half[30:] - half[30:].mean(axis=2, keepdims=True))[..., channel] > 60 for half in halves]
        assert 0 < strong[1].sum() < 0.85 * strong[0].sum()
    # Each says what it is, in light letters on a dark ground; the longer word takes more room.
    dark = [(half[:25] < 60).all(axis=2).sum() for half in halves]
    assert dark[1] > 1.5 * dark[0] > 300 and all((half[:25] > 200).all(axis=2).any() for half in halves)
