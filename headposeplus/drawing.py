"""How pictures are drawn: as matplotlib draws by default, whatever a user's settings are, and on no screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from headposeplus.files import whole_or_absent

# matplotlib keeps its settings for the whole process, and a service draws in several threads.
_LOCK = RLock()
# All but the backend: to ask for it is to choose one, and the user's stays.
_DEFAULTS: Any = {key: matplotlib.rcParamsDefault[key] for key in matplotlib.rcParamsDefault if key != "backend"}


@contextmanager
def own_settings() -> Iterator[None]:
    """Draw with matplotlib's defaults; the user's settings are back afterwards.

    It decorates every function that makes a figure: fonts, sizes and styles are taken up at each step of the drawing.
    """
    with _LOCK, matplotlib.rc_context(_DEFAULTS):
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    FigureCanvasAgg(figure)
    with whole_or_absent(path) as temporary:
        figure.savefig(temporary, format="png")
