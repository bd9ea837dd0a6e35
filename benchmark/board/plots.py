"""The plots of an entry's page, as SVG to stand in HTML: small, the same bytes each time, in the page's own colours.

Colours are CSS variables of ``pages/style.css``, so that a plot follows a dark or light page. Names that come from
strangers never pass through matplotlib, which would read formulas in them.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from benchmark.scoring.figures import Bin, Cell, Group
from headposeplus.drawing import own_settings, percent
from headposeplus.rotations import Floats

# Colours that stand in the figure for what the page's style sheet calls by these names.
_INK, _SOFT, _LINE, _FIRST, _SECOND, _PAGE = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {_INK: "ink", _SOFT: "soft", _LINE: "line", _FIRST: "first", _SECOND: "second", _PAGE: "page"}
_LEVELS = 8  # colours of the scale from the least to the largest error
_SCALE = [f"#0a0a{level:02x}" for level in range(_LEVELS)]
_FEW, _FEW_IN_CELL = 10, 5  # frames: the error of fewer in a bin or a group, and in a cell, is drawn as uncertain
_BIN = 15.0  # degrees: the width of a bin and the side of a cell
_POINTS = 1_200  # frames of a scatter; more would make the page heavy
_BARS = 40  # groups that a bar plot names
_NAME = 14  # characters of a name
_WIDE = 5.6  # of a plot, in units of 72 pixels
# A service shows the same pages again and again, and a plot takes a tenth of a second.
_kept = lru_cache(maxsize=512)


class Points(NamedTuple):
    """Frames in the label space: true yaw (n,) and pitch (n,) and the error (n,), in degrees."""

    yaw: Floats
    pitch: Floats
    error: Floats


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=72, layout="constrained", facecolor="none")


def _bare(axes: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(colors=_SOFT, labelsize=10, length=0, pad=4)
    axes.grid(axis=grid, color=_LINE, lw=0.8, alpha=1)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=_SOFT, fontsize=10)


def _svg(figure: Figure, name: str, label: str, names: Sequence[str] = ()) -> str:
    """Return a figure as an SVG element with ``label`` for who cannot see it; its ids begin with ``name``.

    ``names`` replace the texts @000@, @001@ and so on.
    """
    buffer = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.rc_context(settings):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style[^>]*>.*?</style>"):
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", text).replace("xlink:href", "href")
    # Two versions of matplotlib write a font in two ways.
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]+;? ?", "", text)
    text = re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.1f}", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    for level, colour in enumerate(_SCALE):
        text = text.replace(colour, f"var(--scale-{level})")
    text = re.sub(r"M ([\d.]+) ([\d.]+)\s+L \1 \2\s+", r"M\1 \2h0", text)  # the dots of a scatter
    while "<g/>" in text or "<defs/>" in text:  # what held nothing but an id
        text = re.sub(r"<(g|defs)/>", "", text)
        text = re.sub(r"<(g|defs)>\s*</\1>", r"<\1/>", text)
    text = re.sub(r">\s+<", "><", text)
    text = re.sub(r"@(\d{3})@", lambda m: html.escape(names[int(m[1])]), text)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None, "matplotlib always writes a viewBox"
    head = f'<svg class="plot" viewBox="{box[1]}" role="img" aria-label="{html.escape(label)}">'
    return head + text[text.index(">") + 1 :].strip()


@_kept
@own_settings()
def error_by_angle(bins: tuple[Bin, ...], angle: str, top: float) -> str:
    """Return a plot of the error against a true angle, with the number of frames below it.

    ``angle`` is ``pitch``, ``yaw`` or ``roll``; ``top`` is the end of the error's axis in degrees, which the plots of
    one page share.
    """
    figure = _figure(4.6, 3.5)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    middles = np.array([part.low + _BIN / 2 for part in bins])
    frames = np.array([part.frames for part in bins])
    few = frames < _FEW
    for values, colour, mark, word in (
        ([part.mae for part in bins], _FIRST, "o", "MAE"),
        ([part.geodesic for part in bins], _SECOND, "s", "geodesic"),
    ):
        _line(upper, middles, np.array(values), few, colour, mark, word)
    if few.any():
        upper.plot([], [], "o", color=_SOFT, mfc=_PAGE, ms=5, label=f"fewer than {_FEW} frames")
    upper.set_ylim(0, top)
    upper.set_ylabel("error, degrees")
    upper.legend(
        frameon=False, fontsize=10, labelcolor=_INK, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0,
        handlelength=1.4, columnspacing=1, handletextpad=0.5,
    )  # fmt: skip
    lower.bar(middles, frames, width=_BIN * 0.86, color=_SOFT, alpha=0.55)
    for middle, count in zip(middles[few], frames[few], strict=True):
        lower.text(middle, count, str(count), ha="center", va="bottom", fontsize=9, color=_SOFT)
    lower.set_ylabel("frames")
    lower.set_xlabel(f"true {angle}, degrees")
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    lower.xaxis.set_major_locator(MaxNLocator(7, steps=[1.5, 3, 4.5, 6, 9, 10]))
    for axes in (upper, lower):
        _bare(axes, "y")
    most = max(bins, key=lambda part: part.mae)
    label = (
        f"Error against true {angle}: MAE from {min(part.mae for part in bins):.1f} to {most.mae:.1f} degrees, the "
        f"largest between {most.low:.0f} and {most.low + _BIN:.0f} degrees of {angle}"
        + (f"; bins of fewer than {_FEW} frames are hollow, with their number below" if few.any() else "")
    )
    return _svg(figure, f"angle-{angle}", label)


def _line(axes: Axes, at: Floats, values: Floats, few: np.ndarray, colour: str, mark: str, word: str) -> None:
    """Draw the errors of bins; those of few frames are hollow, and the line to them is thin and dashed."""
    for left, right in pairwise(range(len(at))):
        if at[right] - at[left] > _BIN * 1.5:  # a bin without frames breaks the line
            continue
        uncertain = few[left] or few[right]
        style: dict[str, Any] = {"lw": 1, "ls": (0, (3, 2))} if uncertain else {"lw": 2}
        axes.plot(at[[left, right]], values[[left, right]], color=colour, **style)
    axes.plot(at[~few], values[~few], mark, color=colour, ms=4.5, label=word)
    axes.plot(at[few], values[few], mark, color=colour, mfc=_PAGE, ms=4.5)


@_kept
@own_settings()
def cumulative(mae: tuple[float, ...], geodesic: tuple[float, ...], withheld: int = 0) -> str:
    """Return a plot of the share of frames below an error, of the errors (101,) at 0, 1, ..., 100 % of the frames.

    Nothing is drawn of the ``withheld`` percents at either end, whose errors are not told.
    """
    figure = _figure(_WIDE, 3.9)
    axes = figure.subplots()
    known = slice(withheld, len(mae) - withheld)
    shares = np.linspace(0, 1, len(mae))[known]
    axes.plot(mae[known], shares, color=_FIRST, lw=2, label="MAE")
    axes.plot(geodesic[known], shares, color=_SECOND, lw=2, ls=(0, (5, 1.5)), label="geodesic")
    # The last hundredth of the frames would squeeze the others.
    end = max(geodesic[-2], mae[-2], 1e-3)
    axes.set(xlim=(0, end), ylim=(0, 1.01), xlabel="error below, degrees", ylabel="share of the frames")
    percent(axes.yaxis)
    axes.legend(frameon=False, fontsize=10, labelcolor=_INK, loc="lower right")
    _bare(axes)
    half = len(mae) // 2
    label = (
        f"Share of the frames below an error: half of them below {mae[half]:.1f} degrees of MAE and "
        f"{geodesic[half]:.1f} degrees geodesic"
        + (f"; drawn from {withheld} to {100 - withheld} % of the frames" if withheld else "")
    )
    return _svg(figure, "cumulative", label)


def _levels(errors: Floats) -> tuple[Floats, Floats]:
    """Return the edges (9,) of the scale's levels, round numbers of degrees, and the level of each error (n,)."""
    # A few hopeless cells must not leave all the others in one colour.
    reach = max(float(np.quantile(errors, 0.95)), 0.1)
    steps = np.array([0.1, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 25])
    step = steps[min(int(np.searchsorted(steps, reach / _LEVELS)), len(steps) - 1)]
    edges = step * np.arange(_LEVELS + 1)
    return edges, np.clip(np.digitize(errors, edges) - 1, 0, _LEVELS - 1)


def _square(x: float, y: float, margin: float) -> Outline:
    """Return the outline of a cell by its lower edges, less a margin, in degrees."""
    low, high = margin, _BIN - margin
    corners = ((low, low), (high, low), (high, high), (low, high), (low, low))
    return Outline([(x + right, y + up) for right, up in corners], closed=True)


def _legend(axes: Axes, edges: Floats, note: str = "") -> None:
    """Draw the scale of errors."""
    for level, colour in enumerate(_SCALE):
        axes.barh(0, 1, left=level, height=1, color=colour)
    words = [f"{edge:g}" for edge in edges]
    axes.set_xticks(range(_LEVELS + 1), [*words[:-1], f"{words[-1]}+"])
    axes.set(yticks=[], xlim=(0, _LEVELS), xlabel=f"MAE, degrees{note}")
    _bare(axes)
    axes.grid(False)


def _space(yaw: Floats, pitch: Floats) -> tuple[Figure, Axes, Axes]:
    """Return a figure of the label space that holds points, with the axes of the space and of its scale."""
    limits = []
    for values in (yaw, pitch):
        low, high = np.floor(values.min() / _BIN) * _BIN, np.ceil(values.max() / _BIN + 1e-9) * _BIN
        limits.append((low - 3, high + 3))
    (left, right), (bottom, top) = limits
    width = _WIDE
    # Degrees of both axes are as long as each other, as far as the page has room.
    height = float(np.clip((width - 0.9) * (top - bottom) / (right - left), 2.0, 4.0)) + 1.25
    figure = _figure(width, height)
    space, scale = figure.subplots(2, 1, gridspec_kw={"height_ratios": (height - 1.25, 0.16)})
    space.set(xlim=(left, right), ylim=(bottom, top), xlabel="true yaw, degrees", ylabel="true pitch, degrees")
    for axis in (space.xaxis, space.yaxis):
        axis.set_major_locator(MaxNLocator(8, steps=[1.5, 3, 4.5, 6, 9, 10]))
    _bare(space)
    return figure, space, scale


@_kept
@own_settings()
def label_space(cells: tuple[Cell, ...]) -> str:
    """Return a plot of the label space, yaw and pitch, whose cells are coloured by their error."""
    yaw, pitch = np.array([[cell.yaw, cell.pitch] for cell in cells], np.float64).T
    errors = np.array([cell.mae for cell in cells])
    edges, levels = _levels(errors)
    figure, axes, scale = _space(np.append(yaw, yaw + _BIN - 1e-6), np.append(pitch, pitch + _BIN - 1e-6))
    few = np.array([cell.frames for cell in cells]) < _FEW_IN_CELL
    margins = np.where(few, 0.24 * _BIN, 0.35)  # degrees between a cell's edge and what is drawn of it
    for level, colour in enumerate(_SCALE):
        squares = [_square(yaw[i], pitch[i], margins[i]) for i in np.flatnonzero(levels == level)]
        if squares:
            axes.add_patch(PathPatch(Outline.make_compound_path(*squares), facecolor=colour, edgecolor="none"))
    _legend(scale, edges, f"; small squares: fewer than {_FEW_IN_CELL} frames" if few.any() else "")
    worst = cells[int(np.argmax(errors))]
    label = (
        f"Label space in cells of 15 degrees, coloured by MAE: from {errors.min():.1f} to {errors.max():.1f} degrees, "
        f"the largest from yaw {worst.yaw:.0f} and pitch {worst.pitch:.0f} degrees"
    )
    return _svg(figure, "label-space", label)


@own_settings()
def scatter(frames: Points) -> tuple[str, int]:
    """Return a plot of frames in the label space, coloured by error, and how many of them it shows.

    Of more than 1,200 frames it shows as many, drawn at random but the same each time; the worst lie on top.
    """
    yaw, pitch, error = frames
    chosen = np.arange(len(yaw))
    if len(yaw) > _POINTS:
        chosen = np.random.default_rng(0).choice(len(yaw), _POINTS, replace=False)
    chosen = chosen[np.argsort(error[chosen], kind="stable")]
    edges, levels = _levels(error)
    figure, axes, scale = _space(yaw, pitch)
    points = np.stack([yaw, pitch], axis=1)
    for level, colour in enumerate(_SCALE):
        few = points[chosen[levels[chosen] == level]]
        # A stroke without length under a round cap is a dot, in half the bytes of a marker.
        strokes = np.repeat(few, 2, axis=0)
        codes = np.tile([Outline.MOVETO, Outline.LINETO], len(few)).astype(Outline.code_type)
        if len(few):
            outline = Outline(strokes, codes)
            outline.should_simplify = False  # which would drop what has no length
            dots = PathPatch(outline, fill=False, edgecolor=colour, lw=3.4, capstyle="round")
            axes.add_patch(dots)
    _legend(scale, edges)
    label = (
        f"Label space of {len(chosen):,} frames, coloured by MAE: from {error.min():.1f} to {error.max():.1f} degrees"
    )
    return _svg(figure, "label-space", label), len(chosen)


@_kept
@own_settings()
def bars(groups: tuple[Group, ...], what: str, mean: float) -> str:
    """Return a plot of the error of each ``subject`` or ``sequence``, largest first, with a line at the mean.

    Only the 40 with the largest error are drawn.
    """
    shown = sorted(groups, key=lambda group: -group.mae)[:_BARS]
    figure = _figure(_WIDE, 0.235 * len(shown) + 0.95)
    axes = figure.subplots()
    places = np.arange(len(shown))[::-1]
    few = np.array([group.frames < _FEW for group in shown])
    errors = np.array([group.mae for group in shown])
    axes.barh(places[~few], errors[~few], height=0.68, color=_FIRST, alpha=0.8)
    axes.barh(places[few], errors[few], height=0.62, color="none", edgecolor=_FIRST, lw=1.2)
    for place, group in zip(places, shown, strict=True):
        axes.annotate(
            f"{group.mae:.2f}",
            xy=(1, place),
            xytext=(6, 0),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            va="center_baseline",
            fontsize=9,
            color=_SOFT,
        )
    axes.axvline(mean, color=_INK, lw=1.2, ls=(0, (4, 3)))
    axes.text(mean, len(shown) - 0.2, f"all frames {mean:.2f}", ha="center", va="bottom", fontsize=10, color=_INK)
    axes.set_yticks(places, [f"@{place:03d}@" for place in range(len(shown))])
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlim(0, 1.05 * max(*(group.mae for group in shown), mean, 1e-3))
    axes.set_xlabel(f"MAE, degrees{f' (hollow: fewer than {_FEW} frames)' if few.any() else ''}")
    _bare(axes, "x")
    names = [group.name if len(group.name) <= _NAME else group.name[: _NAME - 1] + "…" for group in shown]
    label = f"MAE by {what}: from {min(g.mae for g in groups):.1f} to {shown[0].mae:.1f} degrees"
    return _svg(figure, f"by-{what}", label, names)
