"""The harness: protocols, training, scoring, the scoreboard and the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.scoring.evaluation import Comparison, Evaluation, compare, evaluate
    from benchmark.training.network import load_network

_ROOMS = {
    **dict.fromkeys(("Comparison", "Evaluation", "compare", "evaluate"), "scoring.evaluation"),
    "load_network": "training.network",
}
__all__ = ["Comparison", "Evaluation", "compare", "evaluate", "load_network"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the command line begins without numpy."""
    if name in _ROOMS:
        return getattr(importlib.import_module(f"benchmark.{_ROOMS[name]}"), name)
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
