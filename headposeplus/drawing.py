"""How pictures are drawn: in one style and one set of colours, whatever a user's settings are, and on no screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import matplotlib
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault
from headposeplus.files import whole_or_absent

WIDTH = 8.46  # inches: pages on GitHub are 846 pixels wide, and two pixels of a PNG make one of theirs
# Okabe and Ito's colours, which the colour-blind tell apart, too.
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
INK, SOFT, PALE = "#1a1d21", "#5a636e", "#b9bec6"
SOURCE, TARGET = ORANGE, BLUE
KINDS = (".png", ".pdf", ".svg")

# matplotlib keeps its settings for the whole process, and a service draws in several threads.
_LOCK = RLock()
# All but the backend: to ask for it is to choose one, and the user's stays.
_DEFAULTS: Any = {key: matplotlib.rcParamsDefault[key] for key in matplotlib.rcParamsDefault if key != "backend"}
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "figure.titlesize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # publishers want letters, not outlines of type 3
    "svg.hashsalt": "headposeplus",
}


@contextmanager
def own_settings() -> Iterator[None]:
    """Draw in the toolkit's style; the user's settings are back afterwards.

    It decorates every function that makes a figure: fonts, sizes and styles are taken up at each step of the drawing.
    """
    with _LOCK, matplotlib.rc_context(_DEFAULTS | _STYLE):
        yield


def check_kind(path: Path) -> None:
    """Raise HeadposeError if a picture's file has no ending that :func:`save` knows."""
    if path.suffix.lower() not in KINDS:
        raise HeadposeError(Fault("a picture's file ends in .png, .pdf or .svg", "name it so", path))


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all: PNG, or PDF or SVG where the file is called so.

    Raises
    ------
    HeadposeError
        If it is called otherwise.
    """
    check_kind(path)
    kind = path.suffix.lower()[1:]
    # The date would make each file another one.
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    FigureCanvasAgg(figure)
    with whole_or_absent(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=undated.get(kind))


def percents(share: float) -> str:
    """Return a share as what it is: 0.025 is 2.5 %, not 2 %."""
    return f"{round(100 * share, 6):g} %"


def percent(axis: Axis) -> None:
    """Label the ticks of an axis of shares by :func:`percents`."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: percents(share)))
