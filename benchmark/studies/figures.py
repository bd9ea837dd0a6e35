"""Pictures of training: label spaces as the methods draw from them, curves, and errors with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baselines.methods import METHODS
from headposeplus.datasets import spaces
from headposeplus.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PALE,
    PINK,
    SOFT,
    SOURCE,
    TARGET,
    WIDTH,
    own_settings,
    save,
)
from headposeplus.rotations import Floats

# What a method is beside the paper; all others are newer.
_GROUPS = {
    "methods of the paper": ("source-only", "dann", "pada-like", "padaco"),
    "controls": ("source-only-mixed", "control-uniform", "control-pada-like", "control-padaco"),
}
_NEWER = "newer methods"
_SHARES = (0.5, 0.9)  # of the images, that lines go around
_LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (INK, ":"))  # more in one panel hide one another
# Colour, mark, and whether it is filled.
_MARKS = ((BLUE, "o", True), (ORANGE, "s", False), (GREEN, "^", True), (PINK, "D", False))


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


def grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Return methods by what they are: those of the paper, controls, newer ones; in the toolkit's order within each.

    A variant, such as ``padaco-neighbours5``, stands with its method.
    """
    # The longest name, since padaco-updated is no variant of padaco.
    methods = {
        name: max((one for one in METHODS if name == one or name.startswith(f"{one}-")), key=len, default="")
        for name in names
    }
    order = [*METHODS, ""]
    groups: dict[str, list[str]] = {group: [] for group in (*_GROUPS, _NEWER)}
    for name, method in sorted(methods.items(), key=lambda item: order.index(item[1])):
        groups[next((group for group, some in _GROUPS.items() if method in some), _NEWER)].append(name)
    return {group: some for group, some in groups.items() if some}


@own_settings()
def drawn_label_spaces(source: Floats, target: Floats, drawn: Sequence[Drawn], path: Path) -> None:
    """Draw a panel a method, all on one scale: where it draws source labels (n, 3), and its predictions.

    Each panel has the true labels (m, 3) of the target, too, and how wide the source is. After Figure 3 of Kuhnke &
    Ostermann (ICCV 2019); yaw and pitch, ``pyr`` in degrees.
    """
    every = spaces.Cloud("source", source, SOFT, style=":", shares=(0.99,))
    true = spaces.Cloud("target, true", target, INK, shares=_SHARES)
    panels = [
        [
            spaces.Cloud("drawn from the source", source, SOURCE, filled=True, weights=method.probabilities),
            every,
            true,
            spaces.Cloud("target, predicted", method.predictions, TARGET, style="--", shares=_SHARES),
        ]
        for method in drawn
    ]
    across = min(3, len(drawn))
    down = -(-len(drawn) // across)
    # Predictions that are hopeless must not make the label spaces small: they end where the axes do.
    shown = spaces.reach([every, true])
    figure, grid = spaces.sheet(across, down, shown)
    for place, (method, clouds) in enumerate(zip(drawn, panels, strict=True)):
        row, column = divmod(place, across)
        last = place + across >= len(drawn)
        spaces.draw(figure, grid[row, column], clouds, shown, method.name, outer=(column == 0, last))
    spaces.legend(figure, panels[0])
    save(figure, path)


@own_settings()
def curves(panels: Sequence[tuple[str, Sequence[Curve]]], path: Path) -> None:
    """Draw the mean over seeds of each method, and a band from the least to the largest; x is the epoch.

    A column has what ``panels`` name, on one scale; a row has a few methods of a kind, and their names beside it.
    """
    names = list(dict.fromkeys(curve.name for _, of_panel in panels for curve in of_panel))
    rows = [
        (group, some[first : first + len(_LINES)])
        for group, some in grouped(names).items()
        for first in range(0, len(some), len(_LINES))
    ]
    figure = Figure(figsize=(WIDTH, 1.9 * len(rows) + 0.6), layout="constrained")
    widths = [1.0] * len(panels) + [0.62]
    grid = figure.subplots(
        len(rows), len(panels) + 1, sharex=True, sharey="col", squeeze=False, gridspec_kw={"width_ratios": widths}
    )
    for (group, some), line in zip(rows, grid, strict=True):
        for axes, (_, of_panel) in zip(line, panels, strict=False):
            for curve in of_panel:
                if curve.name in some:
                    _draw_curve(axes, curve, some.index(curve.name))
            axes.grid()
            axes.set_visible(bool(axes.get_lines()))
        handles = {h.get_label(): h for axes in line[:-1] for h in axes.get_lines()}
        line[-1].axis("off")
        line[-1].legend(
            [handles[name] for name in some], some, loc="center left", title=group, alignment="left", borderaxespad=0
        )
    for axes, (title, _) in zip(grid[0], panels, strict=False):
        axes.set_title(title, loc="left")
    for column in grid.T[:-1]:
        last = [axes for axes in column if axes.get_visible()][-1]
        last.tick_params(labelbottom=True)
        last.set_xlabel("epoch of stage 2")
    seeds = max(len(curve.values) for _, of_panel in panels for curve in of_panel)
    if seeds > 1:
        figure.supxlabel(
            f"Lines are means over {seeds} seeds, bands reach from the least to the largest.", fontsize=8.5
        )
    save(figure, path)


def _draw_curve(axes: Axes, curve: Curve, place: int) -> None:
    colour, style = _LINES[place]
    axes.plot(curve.x, curve.values.mean(axis=0), lw=1.6, color=colour, ls=style, label=curve.name)
    if len(curve.values) > 1:
        low, high = curve.values.min(axis=0), curve.values.max(axis=0)
        axes.fill_between(curve.x, low, high, color=colour, alpha=0.15, lw=0)


class Interval(NamedTuple):
    """A method's error in degrees under one of several conditions, ``kind``, with its interval where there is one."""

    name: str
    kind: str
    mean: float
    low: float | None = None
    high: float | None = None


@own_settings()
def intervals(
    panels: Sequence[tuple[str, Sequence[Interval]]], label: str, path: Path, reference: str | None = None
) -> None:
    """Draw panels of errors on one scale, a row a method by what it is, a mark a kind.

    ``reference`` is the method whose error has been taken off: a line at 0.
    """
    every = [one for _, some in panels for one in some]
    names = list(dict.fromkeys([*([reference] if reference else []), *(one.name for one in every)]))
    kinds = list(dict.fromkeys(one.kind for one in every))
    ticks = [text for group, some in grouped(names).items() for text in (group, *some)]
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(WIDTH, down * (0.24 * len(ticks) + 0.75) + 0.35), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, (title, some) in zip(grid.flat, panels, strict=False):
        _draw_rows(axes, some, ticks, kinds)
        axes.set_title(title, loc="left")
        if reference:
            axes.axvline(0, color=INK, lw=0.9)
            axes.plot(0, ticks.index(reference), "D", color=INK, ms=5, label="reference")
    for axes in grid[-1]:
        axes.set_xlabel(label)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    grid[0, 0].set_yticks(range(len(ticks)), ticks)
    for axes in grid[:, 0]:
        for text in axes.get_yticklabels():
            if text.get_text() not in names:
                text.set(fontweight="bold", color=SOFT)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(kinds) + 1)
    save(figure, path)


def _draw_rows(axes: Axes, some: Sequence[Interval], ticks: Sequence[str], kinds: Sequence[str]) -> None:
    """Draw intervals at the rows that have their names; the heads of groups have none."""
    for kind, (colour, mark, filled) in zip(kinds, _MARKS, strict=False):
        shift = 0.17 * (2 * kinds.index(kind) - len(kinds) + 1)
        mine = [one for one in some if one.kind == kind]
        at = [ticks.index(one.name) + shift for one in mine]
        for place, one in zip(at, mine, strict=True):
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [place, place], color=colour, lw=1.6, zorder=2)
        face = colour if filled else "white"
        axes.plot([one.mean for one in mine], at, mark, color=colour, mfc=face, ms=5, zorder=3, label=kind)
    heads = [row for row, text in enumerate(ticks) if text in (*_GROUPS, _NEWER)]
    for row in heads:
        axes.axhspan(row - 0.5, row + 0.5, color=PALE, alpha=0.25, lw=0)
    axes.set_ylim(len(ticks) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
