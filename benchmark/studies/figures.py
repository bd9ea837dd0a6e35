"""Pictures of training: label spaces as the methods draw from them, and curves."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from headposeplus.datasets.plots import SOURCE_COLOUR, TARGET_COLOUR
from headposeplus.drawing import own_settings, save
from headposeplus.rotations import Floats

_POINTS = 1_500  # of each kind in a panel
_RANGES = 6  # curves of a panel that are drawn with their ranges; those of more hide one another
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#555555", "#e08e45")


class Drawn(NamedTuple):
    """What a method draws: its name, the probabilities (n,) of the source samples, and its predictions (m, 3)."""

    name: str
    probabilities: Floats
    predictions: Floats


class Curve(NamedTuple):
    """Values (seeds, k) of a method over training, at k places on the x axis."""

    name: str
    x: Floats
    values: Floats


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


@own_settings()
def drawn_label_spaces(source: Floats, drawn: list[Drawn], path: Path, seed: int) -> None:
    """Draw a panel a method: source labels (n, 3), those that it draws, and its predictions on the target.

    After Figure 3 of Kuhnke & Ostermann (ICCV 2019); yaw and pitch, ``pyr`` in degrees.
    """
    columns = min(4, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.8 * rows + 0.5), dpi=110, layout="constrained")
    rng = np.random.default_rng(seed)
    every = source[rng.permutation(len(source))[:_POINTS]]
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, method in zip(panels.flat, drawn, strict=False):
        chosen = source[rng.choice(len(source), _POINTS, p=method.probabilities / method.probabilities.sum())]
        predicted = method.predictions[rng.permutation(len(method.predictions))[:_POINTS]]
        axes.scatter(every[:, 1], every[:, 0], s=3, c="#cccccc", linewidths=0, label="source")
        axes.scatter(chosen[:, 1], chosen[:, 0], s=3, c=SOURCE_COLOUR, linewidths=0, alpha=0.6, label="drawn")
        axes.scatter(
            predicted[:, 1], predicted[:, 0], s=3, c=TARGET_COLOUR, linewidths=0, alpha=0.5, label="target, predicted"
        )
        axes.set_title(method.name, fontsize=10)
        axes.set_xlim(-110, 110)
        axes.set_ylim(-90, 90)
        _bare(axes)
    for axes in panels.flat[len(drawn) :]:
        axes.set_visible(False)
    figure.supxlabel("yaw, degrees", fontsize=10)
    figure.supylabel("pitch, degrees", fontsize=10)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, markerscale=3, frameon=False, fontsize=9)
    save(figure, path)


@own_settings()
def curves(panels: list[tuple[str, list[Curve]]], path: Path) -> None:
    """Draw panels of curves, the mean over seeds of each method, with its range where they are few; x is the epoch."""
    figure = Figure(figsize=(5.2 * len(panels), 4.4), dpi=110, layout="constrained")
    names = list(dict.fromkeys(curve.name for _, of_panel in panels for curve in of_panel))
    for axes, (title, of_panel) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        for curve in of_panel:
            place = names.index(curve.name)
            style = {"color": _COLOURS[place % len(_COLOURS)], "linestyle": ("-", "--", ":")[place // len(_COLOURS)]}
            axes.plot(curve.x, curve.values.mean(axis=0), lw=1.6, label=curve.name, **style)
            if len(curve.values) > 1 and len(of_panel) <= _RANGES:
                low, high = curve.values.min(axis=0), curve.values.max(axis=0)
                axes.fill_between(curve.x, low, high, color=style["color"], alpha=0.08, lw=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch of stage 2", fontsize=9)
        _bare(axes)
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        lines, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    save(figure, path)


class Interval(NamedTuple):
    """A mean with its interval, and its name."""

    name: str
    mean: float
    low: float
    high: float


@own_settings()
def intervals(panels: list[tuple[str, list[Interval]]], label: str, path: Path) -> None:
    """Draw panels of means with their intervals, a row each, and a line at 0."""
    most = max(len(rows) for _, rows in panels)
    figure = Figure(figsize=(5.6 * len(panels), 0.34 * most + 1.2), dpi=110, layout="constrained")
    for axes, (title, rows) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        for place, row in enumerate(reversed(rows)):
            colour = "#228833" if row.high < 0 else SOURCE_COLOUR if row.low > 0 else "#777777"
            axes.plot([row.low, row.high], [place, place], color=colour, lw=2)
            axes.plot(row.mean, place, "o", color=colour, ms=5)
        axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)], fontsize=9)
        axes.axvline(0, color="black", lw=0.8)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(label, fontsize=9)
        _bare(axes)
    save(figure, path)


@own_settings()
def dots(panels: list[tuple[str, list[str], dict[str, list[float]]]], label: str, path: Path) -> None:
    """Draw panels of values, a row a name and a colour a kind; NaN is left out."""
    most = max(len(names) for _, names, _ in panels)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns + 1, rows * (0.3 * most + 0.9) + 0.4), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, sharex=True, squeeze=False)
    for axes, (title, names, kinds) in zip(grid.flat, panels, strict=False):
        for place, (kind, values) in enumerate(kinds.items()):
            axes.plot(values, range(len(names)), "o", ms=6, color=_COLOURS[place], label=kind)
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(label, fontsize=9)
        axes.tick_params(labelbottom=True)
        _bare(axes)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9)
    save(figure, path)
