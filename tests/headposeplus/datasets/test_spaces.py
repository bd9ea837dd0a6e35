"""What pictures of datasets say: ticks, scales, and which regions they show."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from headposeplus import drawing
from headposeplus.datasets import plots, spaces
from headposeplus.datasets.info import BeforeAfter, Measures, Residuals, Spread
from headposeplus.errors import HeadposeError
from headposeplus.rotations import from_matrix, to_matrix


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, with their ticks in place."""
    drawn = []

    def keep(figure, path):
        FigureCanvasAgg(figure).draw()
        drawn.append(figure)

    monkeypatch.setattr(plots, "save", keep)
    return drawn


def poses(rng, spread, count=600):
    return from_matrix(to_matrix(rng.normal(0, 1, (count, 3)) * spread))


def texts(axis):
    return {tick.get_loc(): tick.label1.get_text() for tick in axis.get_major_ticks() if tick.label1.get_text()}


def test_a_tick_says_what_it_is(figures, tmp_path, rng):
    # So flat that ticks lie at fractions of a percent.
    labels = {
        "biwi+": rng.uniform(-89, 89, (4000, 3)),
        "synhead+": rng.uniform(-89, 89, (4000, 3)),
    }
    plots.histograms(labels, tmp_path / "a.png")
    found = texts(figures[0].axes[0].yaxis)
    assert len(found) > 2 and any(round(100 * place, 6) % 1 for place in found)
    for place, text in found.items():
        assert text.endswith(" %") and float(text[:-2]) / 100 == pytest.approx(place, abs=1e-9)
    assert len(set(found.values())) == len(found)


def test_label_spaces_are_on_one_scale_and_show_what_is_wider(figures, tmp_path, rng):
    target, same, wide = (poses(rng, spread) for spread in ((15, 20, 8), (15, 20, 8), (30, 40, 12)))
    plots.label_spaces([("da", same, target), ("pda", wide, target)], tmp_path / "a.png")
    axes = figures[0].axes
    assert len(axes) == 2 * 5
    for first, second in zip(axes[:5], axes[5:], strict=True):
        assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
        one, other = first.get_position(), second.get_position()
        assert (one.width, one.height, one.y0) == pytest.approx((other.width, other.height, other.y0))
    assert [axes[place].get_title(loc="left") for place in (0, 5)] == ["da", "pda"]
    reached = np.abs(wide).max(axis=0)  # nothing lies outside
    assert axes[1].get_xlim()[1] >= reached[1] and axes[1].get_ylim()[1] >= reached[0]
    # Below the title: filled regions of the source, then lines around those of the target, of the same shares.
    for panel in (axes[1], axes[6]):
        source, lines = panel.collections
        assert len(source.levels) == len(lines.levels) + 1 == 4
    extents = [
        np.ptp(np.concatenate(panel.collections[0].get_paths()[0].to_polygons())[:, 0]) for panel in (axes[1], axes[6])
    ]
    assert extents[1] > 1.5 * extents[0]
    reached = figures[0].get_tightbbox(figures[0].canvas.get_renderer())  # in inches; nothing is cut
    assert reached.x0 > -0.01 and reached.x1 < figures[0].get_figwidth() + 0.01


def test_regions_hold_the_shares_that_they_say(rng):
    cloud = spaces.Cloud("a", rng.normal(0, 1, (50_000, 3)) * (20, 20, 20), "#000000")
    shown = spaces.reach([cloud])
    yaw, pitch, cells = spaces.density(cloud, 0, shown)
    for share in spaces.SHARES:
        inside = cells >= spaces.level(cells, share)
        # Of a normal distribution, a disc of radius r holds 1 - exp(-r^2 / 2 s^2), s with the smoothing in it.
        deviation = np.hypot(20, shown.blur)
        radius = deviation * np.sqrt(-2 * np.log(1 - share))
        assert inside.sum() == pytest.approx(np.pi * radius**2, rel=0.1)
        assert cells[inside].sum() == pytest.approx(share, abs=0.01)
    assert abs(yaw).max() > 20 * 3 and len(pitch) == len(cells)


def test_poses_of_no_weight_do_not_count(rng):
    angles = np.concatenate([rng.normal(0, 5, (500, 3)), rng.normal(60, 5, (500, 3))])
    cloud = spaces.Cloud("a", angles, "#000000", weights=np.repeat([1.0, 0.0], 500))
    yaw, _, cells = spaces.density(cloud, 0, spaces.reach([cloud]))
    assert cells[:, yaw > 40].sum() < 1e-6 and cells.sum() == pytest.approx(1)


def report(of_heads):
    spread = Spread(1.0, 0.9, 2.0)
    parts = {"01": Measures(spread, spread)}
    heads = {f"f{place:02d}": Measures(Spread(mean, 0.9, 2.0), spread) for place, mean in enumerate(of_heads, start=1)}
    return Residuals(BeforeAfter(spread, spread), BeforeAfter(spread, spread), heads, parts)


@pytest.mark.parametrize(("of_heads", "drawn"), [((1.0, 1.0, 1.0), False), ((1.0, 1.0, 1.3), True), ((), False)])
def test_residuals_by_head_are_drawn_where_heads_differ(figures, tmp_path, rng, of_heads, drawn):
    curves = {f"{name}{when}": rng.gamma(2, 1, 50) for name in ("euler", "geodesic") for when in ("", "_before")}
    plots.residuals(curves, report(of_heads), tmp_path / "a.png")
    assert ("head" in [axes.get_xlabel() for axes in figures[0].axes]) == drawn
    title = figures[0].get_suptitle()
    assert ("all 3 heads are alike (mean Euler error 1.00 degrees)" in title) == (bool(of_heads) and not drawn)


def test_a_picture_is_of_the_kind_that_its_name_says(tmp_path, rng):
    labels = {"biwi+": poses(rng, (15, 20, 8))}
    for name, begins in (("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("A.SVG", b"<?xml")):
        for _ in range(2):
            plots.histograms(labels, tmp_path / name)
            data = (tmp_path / name).read_bytes()
            assert data.startswith(begins)
        before = data
        plots.histograms(labels, tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(HeadposeError, match=r"a\.jpg: a picture's file ends in \.png, \.pdf or \.svg; name it so"):
        plots.histograms(labels, tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()


def test_pictures_are_as_wide_as_a_page_shows_them(figures, tmp_path, rng):
    wide = poses(rng, (30, 40, 12))
    plots.histograms({"biwi+": wide}, tmp_path / "a.png")
    plots.label_spaces([("a", wide, wide), ("b", wide, wide)], tmp_path / "a.png")
    for figure in figures:
        assert figure.get_figwidth() == drawing.WIDTH
        # 8 points of 72 to an inch are 11 of the page's pixels.
        sizes = [text.get_fontsize() for text in figure.findobj(Text)]
        assert min(sizes) >= 8
