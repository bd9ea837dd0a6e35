"""What pictures of training say: which methods stand together, on which scale, and how sure their figures are."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from baselines.methods import METHODS
from benchmark.studies import figures, findings, plan
from headposeplus.drawing import WIDTH

KEPT = Path(__file__).resolve().parents[3] / "results/findings"


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, with their ticks in place."""
    kept = []

    def keep(figure, path):
        FigureCanvasAgg(figure).draw()
        kept.append(figure)

    monkeypatch.setattr(figures, "save", keep)
    return kept


def test_methods_stand_by_what_they_are():
    names = ["mean-teacher", "padaco-updated", "control-padaco", "padaco-neighbours5", "padaco", "source-only-mixed",
             "mine:Own", "dann", "source-only"]  # fmt: skip
    assert figures.grouped(names) == {
        "methods of the paper": ["source-only", "dann", "padaco-neighbours5", "padaco"],
        "controls": ["source-only-mixed", "control-padaco"],
        "newer methods": ["padaco-updated", "mean-teacher", "mine:Own"],
    }
    groups = figures.grouped(list(METHODS))
    assert sum(map(len, groups.values())) == len(METHODS) and len(groups) == 3


def test_differences_have_one_scale_their_groups_and_a_legend(drawn, tmp_path):
    pytest.importorskip("statsmodels", reason="statsmodels is not installed: pip install -e .[study]")
    runs = pd.read_csv(KEPT / "runs.csv")
    runs[runs["draw"].isin(plan.DRAWS[:3])].to_csv(tmp_path / "runs.csv", index=False)  # all of them take long
    findings.draw(tmp_path)
    (figure,) = drawn
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    rows = [text.get_text() for text in first.get_yticklabels()]
    assert rows == [
        "methods of the paper", "source-only", "dann", "pada-like", "padaco",
        "controls", "source-only-mixed", "newer methods", "mean-teacher",
    ]  # fmt: skip
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["as in the paper", "with augmentation", "reference"]
    for axes, task in ((first, "da"), (second, "pda")):
        assert axes.get_title(loc="left").startswith(f"{task}:")
        marks = {line.get_label(): line for line in axes.get_lines() if line.get_label() in words}
        # By colour, by shape, and by whether they are filled.
        looks = [(mark.get_color(), mark.get_marker(), mark.get_markerfacecolor()) for mark in marks.values()]
        assert all(len(set(ways)) > 1 for ways in zip(*looks, strict=True))
        assert len({mark.get_marker() for mark in marks.values()}) == 3
        for setting, kind in (("paper", "as in the paper"), ("augmented", "with augmentation")):
            shown = [rows[round(place)] for place in marks[kind].get_ydata()]
            wanted = {*plan.METHODS[task], *([plan.STRONGEST] if setting == "augmented" else [])} - {plan.FIRST}
            assert set(shown) == wanted and len(shown) == len(wanted)
        at = marks["reference"]
        assert list(at.get_xdata()) == [0] and rows[at.get_ydata()[0]] == plan.FIRST


def test_photographs_are_drawn_as_wide_as_a_page(drawn, tmp_path):
    shutil.copy(KEPT / "real_pixels.csv", tmp_path)
    findings.draw_photographs(tmp_path)
    (figure,) = drawn
    assert figure.get_figwidth() == WIDTH
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 6 and len({axes.get_xlim() for axes in shown}) == 1
    assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 8
    reached = figure.get_tightbbox(figure.canvas.get_renderer())  # in inches; nothing is cut
    assert reached.x0 > -0.01 and reached.x1 < figure.get_figwidth() + 0.01


def curve(name, seeds, level=1.0):
    return figures.Curve(name, np.arange(1.0, 6), level + np.arange(seeds)[:, None] * np.ones((seeds, 5)))


def test_curves_are_few_in_a_panel_with_bands_over_the_seeds(drawn, tmp_path):
    names = ["dann", "padaco", "control-uniform", "coral", "dare-gram", "jumbot", "rcr", "rcrw", "mean-teacher"]
    every = [curve(name, 3, level) for level, name in enumerate(names)]
    figures.curves([("MAE", every), ("accuracy", every[:2])], tmp_path / "a.png")
    (figure,) = drawn
    grid = np.array(figure.axes).reshape(-1, 3)
    told = [[text.get_text() for text in row[2].get_legend().get_texts()] for row in grid]
    assert [row[2].get_legend().get_title().get_text() for row in grid] == [
        "methods of the paper", "controls", "newer methods", "newer methods",
    ]  # fmt: skip
    assert sorted(name for some in told for name in some) == sorted(names) and max(map(len, told)) <= 4
    assert len({row[0].get_ylim() for row in grid}) == 1
    for row, some in zip(grid, told, strict=True):
        lines = {line.get_label(): line for line in row[0].get_lines()}
        assert list(lines) == some and len(row[0].collections) == len(some)
        assert len({(line.get_color(), line.get_linestyle()) for line in lines.values()}) == len(some)
        for name, band in zip(some, row[0].collections, strict=True):
            level = names.index(name)
            assert lines[name].get_ydata() == pytest.approx(level + 1)
            heights = band.get_paths()[0].vertices[:, 1]
            assert (heights.min(), heights.max()) == (level, level + 2)
    assert [row[1].get_visible() for row in grid] == [True, False, False, False]
    assert "3 seeds" in figure.get_supxlabel()


def test_one_seed_has_no_band(drawn, tmp_path):
    figures.curves([("MAE", [curve("dann", 1)])], tmp_path / "a.png")
    assert not drawn[0].axes[0].collections and not drawn[0].get_supxlabel()


def test_the_true_target_is_in_each_panel_of_label_spaces(drawn, tmp_path):
    rng = np.random.default_rng(0)
    source, target = rng.normal(0, 1, (2000, 3)) * (30, 40, 10), rng.normal(0, 1, (300, 3)) * (12, 15, 5)
    near = np.exp(-np.square(source[:, :2] / 15).sum(axis=1))
    methods = [
        figures.Drawn("dann", np.ones(2000), target + 1),
        figures.Drawn("padaco", near, target),
        figures.Drawn("jumbot", np.ones(2000), target * 2),
        figures.Drawn("coral", np.ones(2000), np.full((300, 3), 179.0)),  # hopeless, and beyond the axes
    ]
    figures.drawn_label_spaces(source, target, methods, tmp_path / "a.png")
    (figure,) = drawn
    panels = [figure.axes[place : place + 3] for place in range(0, len(figure.axes), 3)]
    assert [panel[0].get_title(loc="left") for panel in panels] == ["dann", "padaco", "jumbot", "coral"]
    assert len({(space.get_xlim(), space.get_ylim()) for _, space, _ in panels}) == 1
    assert len({(top.get_ylim(), side.get_xlim()) for top, _, side in panels}) == 1
    widths = [space.get_position().width for _, space, _ in panels]
    assert widths == pytest.approx([widths[0]] * 4)
    true = [space.collections[2] for _, space, _ in panels]
    for lines in true:
        assert to_hex(lines.get_edgecolor()[0]) == figures.INK and len(lines.get_paths()) == 2
        assert all(
            np.array_equal(a.vertices, b.vertices) for a, b in zip(lines.get_paths(), true[0].get_paths(), strict=True)
        )

    def width(drawn):
        return np.ptp(np.concatenate(drawn.get_paths()[0].to_polygons())[:, 0])

    filled = [width(space.collections[0]) for _, space, _ in panels]
    assert filled[1] < 0.7 * filled[0] and filled[0] == filled[2]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [
        "drawn from the source, 50, 90 and 99 %", "source, 99 %", "target, true, 50 and 90 %",
        "target, predicted, 50 and 90 %",
    ]  # fmt: skip
