"""Label spaces as densities: the regions that hold most images, and how often each angle occurs beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.ndimage import gaussian_filter

from headposeplus.drawing import SOFT, WIDTH, percent, percents
from headposeplus.rotations import ANGLES, Floats

SHARES = (0.5, 0.9, 0.99)  # of the images, that the regions of highest density hold
_CELL, _BIN = 1.0, 5.0  # degrees
_TINTS = (0.55, 0.3, 0.13)  # of the regions of a filled cloud, the innermost first
_BLUR = (1.5, 5.0)  # degrees: the least and the most that densities are smoothed by
_YAW = ANGLES.index("yaw")
_STRIP, _SIDE = 0.22, 0.18  # of the histograms above and beside the space, as shares of its height and width


class Cloud(NamedTuple):
    """Poses as they are drawn: angles (n, 3), ``pyr`` in degrees, their weights (n,) if they do not count alike.

    A filled cloud has a tint for each of the :data:`SHARES`; any other has a line around those of ``shares``.
    """

    name: str
    angles: Floats
    colour: str
    filled: bool = False
    style: str = "-"
    shares: tuple[float, ...] = SHARES
    weights: Floats | None = None


class Reach(NamedTuple):
    """What all panels of a picture share, so that they compare; by angle where there are three.

    ``ends`` are where the angles' axes end, both ways, ``shares`` where those of the histograms do, and ``blur`` is
    the deviation of the Gaussian that smooths all densities; the first and the last in degrees.
    """

    ends: tuple[float, ...]
    shares: tuple[float, ...]
    blur: float


def reach(clouds: Sequence[Cloud]) -> Reach:
    """Return what panels have to show so that all hold these clouds: multiples of 10 degrees, never beyond 180."""
    blur = float(np.clip(max(map(_bandwidth, clouds)), *_BLUR))
    most = np.max([np.abs(cloud.angles).max(axis=0, initial=1) for cloud in clouds], axis=0)
    ends = np.minimum(np.ceil((most + 2 * blur) / 10) * 10, 180)
    shares = [1.05 * max(histogram(cloud, column)[0].max() for cloud in clouds) for column in range(3)]
    return Reach(tuple(ends.tolist()), tuple(shares), blur)


def _bandwidth(cloud: Cloud) -> float:
    """Return the bandwidth that Scott's rule gives for yaw and pitch, degrees."""
    weights = np.ones(len(cloud.angles)) if cloud.weights is None else cloud.weights
    alike = weights.sum() ** 2 / max(np.square(weights).sum(), 1e-300)  # so many that count alike vary as much
    if alike <= 1:
        return 0.0
    return float(np.sqrt(np.cov(cloud.angles[:, :2].T, aweights=weights).diagonal()).min() * alike ** (-1 / 6))


def histogram(cloud: Cloud, column: int) -> tuple[Floats, Floats]:
    """Return the share of a cloud's poses in each bin of 5 degrees of an angle, and the bins' edges."""
    edges = np.arange(-180, 180 + _BIN, _BIN)
    counts = np.histogram(cloud.angles[:, column], edges, weights=cloud.weights)[0]
    return counts / max(counts.sum(), 1e-300), edges


def density(cloud: Cloud, column: int, shown: Reach) -> tuple[Floats, Floats, Floats]:
    """Return the middles of cells of yaw (w,) and of another angle (h,), and the share of the poses in each (h, w)."""
    across, up = (np.arange(-end - 10, end + 10 + _CELL, _CELL) for end in (shown.ends[_YAW], shown.ends[column]))
    counts = np.histogram2d(cloud.angles[:, column], cloud.angles[:, _YAW], (up, across), weights=cloud.weights)[0]
    smooth = gaussian_filter(counts, shown.blur / _CELL, mode="constant")
    middles = [(edges[1:] + edges[:-1]) / 2 for edges in (across, up)]
    return middles[0], middles[1], smooth / max(smooth.sum(), 1e-300)


def level(shares: Floats, share: float) -> float:
    """Return the density that the smallest region with a share of the whole lies above, for cells (h, w)."""
    ordered = np.sort(shares, axis=None)[::-1]
    return float(ordered[min(int(np.searchsorted(np.cumsum(ordered), share * ordered.sum())), ordered.size - 1)])


def _tint(colour: str, strength: float) -> tuple[float, float, float]:
    """Return a colour mixed with white, which is what it would be before it if it were transparent."""
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def _draw_space(axes: Axes, clouds: Sequence[Cloud], column: int, shown: Reach) -> None:
    """Draw yaw against another angle."""
    ends = shown.ends[_YAW], shown.ends[column]
    for cloud in clouds:
        across, up, cells = density(cloud, column, shown)
        shares = SHARES if cloud.filled else cloud.shares
        # From the outermost to the densest; those of a few poses can coincide.
        levels = np.maximum.accumulate([level(cells, share) for share in sorted(shares, reverse=True)])
        levels += np.arange(len(levels)) * 1e-12
        if cloud.filled:
            tints = [_tint(cloud.colour, strength) for strength in _TINTS[::-1]]
            axes.contourf(across, up, cells, [*levels, np.inf], colors=tints)
        else:
            widths = [0.8 + 0.5 * place for place in range(len(levels))]
            axes.contour(across, up, cells, levels, colors=cloud.colour, linewidths=widths, linestyles=cloud.style)
    axes.set(xlim=(-ends[0], ends[0]), ylim=(-ends[1], ends[1]))
    for axis, end in ((axes.xaxis, ends[0]), (axes.yaxis, ends[1])):
        step = 30 if end <= 105 else 60
        axis.set_ticks(np.arange(-(end // step) * step, end + 1, step))
    axes.grid()


def _draw_margin(axes: Axes, clouds: Sequence[Cloud], column: int, share: float, upright: bool) -> None:
    """Draw how often each angle occurs, above a space (``upright``) or beside it."""
    for cloud in clouds:
        shares, edges = histogram(cloud, column)
        orientation: Literal["vertical", "horizontal"] = "vertical" if upright else "horizontal"
        if cloud.filled:
            colour = _tint(cloud.colour, _TINTS[1])
            axes.stairs(shares, edges, fill=True, color=colour, orientation=orientation)
        else:
            axes.stairs(shares, edges, color=cloud.colour, ls=cloud.style, lw=1.1, orientation=orientation)
    along, across = (axes.xaxis, axes.yaxis) if upright else (axes.yaxis, axes.xaxis)
    along.set_tick_params(length=0, labelbottom=False, labelleft=False)
    (axes.set_ylim if upright else axes.set_xlim)(0, share)
    across.set_ticks([_round(share)])  # all of them begin at 0
    percent(across)
    axes.tick_params(labelsize=8, colors=SOFT)
    if not upright:
        # There is no room for it below, between two spaces.
        axes.set_xticklabels([])
        words = percents(_round(share))
        place = axes.get_xaxis_transform()
        axes.text(_round(share), 0.01, words, transform=place, ha="center", va="bottom", fontsize=8, color=SOFT)


def _round(share: float) -> float:
    """Return the largest round share that is no larger."""
    steps = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    return float(steps[max(int(np.searchsorted(steps, share, side="right")) - 1, 0)])


def sheet(across: int, down: int, shown: Reach, columns: Sequence[int] = (0,)) -> tuple[Figure, GridSpec]:
    """Return a figure for so many panels, and their places; a degree of any angle is about as long as another.

    The places are worked out here: whatever moves axes to make room for words would give panels of different sizes.
    """
    width = WIDTH if across > 1 else 0.6 * WIDTH
    left, right, top, bottom, beside, below = 0.65, 0.08, 0.78, 0.48, 0.16, 0.34  # inches
    panel = (width - left - right - (across - 1) * beside) / across
    degrees = sum([_STRIP * shown.ends[columns[0]], *(shown.ends[column] for column in columns)])
    tall = panel / (1 + _SIDE) * degrees / shown.ends[_YAW]
    height = top + down * tall + (down - 1) * below + bottom
    figure = Figure(figsize=(width, height))
    edges = {"left": left / width, "right": 1 - right / width, "top": 1 - top / height, "bottom": bottom / height}
    return figure, figure.add_gridspec(down, across, wspace=beside / panel, hspace=below / tall, **edges)


def draw(
    figure: Figure,
    place: SubplotSpec,
    clouds: Sequence[Cloud],
    shown: Reach,
    title: str,
    columns: Sequence[int] = (0,),
    outer: tuple[bool, bool] = (True, True),
) -> list[Axes]:
    """Draw clouds into a part of a figure: yaw against other angles, one below the other, with histograms beside them.

    ``outer`` says whether the panel is at the left and at the bottom of the figure, where axes have their words.
    Returns the axes of yaw's histogram, then the space and the histogram of each angle.
    """
    heights = [shown.ends[column] for column in columns]
    strip = _STRIP * heights[0]
    grid = place.subgridspec(
        1 + len(columns), 2, height_ratios=[strip, *heights], width_ratios=[1, _SIDE], hspace=0.06, wspace=0.03
    )
    top = figure.add_subplot(grid[0, 0])
    left, bottom = outer
    _draw_margin(top, clouds, _YAW, shown.shares[_YAW], upright=True)
    top.tick_params(labelleft=left)
    top.set_title(title, loc="left")
    made = [top]
    for row, column in enumerate(columns, start=1):
        space = figure.add_subplot(grid[row, 0], sharex=top)
        side = figure.add_subplot(grid[row, 1], sharey=space)
        _draw_margin(side, clouds, column, shown.shares[column], upright=False)
        _draw_space(space, clouds, column, shown)
        space.tick_params(labelleft=left, labelbottom=bottom and row == len(columns))
        if left:
            space.set_ylabel(f"{ANGLES[column]}, degrees")
        if bottom and row == len(columns):
            space.set_xlabel("yaw, degrees (pyr, RGB camera)")
        made += [space, side]
    return made


def legend(figure: Figure, clouds: Sequence[Cloud]) -> None:
    """Say above the figure what the clouds are, and how much of them their regions hold."""
    handles: list[Artist] = []
    for cloud in clouds:
        shares = [f"{100 * share:g}" for share in (SHARES if cloud.filled else cloud.shares)]
        words = f"{cloud.name}, {' and '.join(filter(None, (', '.join(shares[:-1]), shares[-1])))} %"
        if cloud.filled:
            handles.append(Patch(color=_tint(cloud.colour, _TINTS[1]), label=words))
        else:
            handles.append(Line2D([], [], color=cloud.colour, ls=cloud.style, lw=1.5, label=words))
    title = "Regions of highest density, with the share of the images in them"
    made = figure.legend(
        handles=handles, loc="upper left", ncols=len(handles), title=title, columnspacing=1, borderaxespad=0.3
    )
    made.set_alignment("left")
