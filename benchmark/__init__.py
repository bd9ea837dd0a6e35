"""The harness: protocols, training, scoring, the scoreboard and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.scoring.evaluation import Comparison, Evaluation, compare, evaluate

__all__ = ["Comparison", "Evaluation", "compare", "evaluate"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the command line begins without numpy."""
    if name in __all__:
        from benchmark.scoring import evaluation

        return getattr(evaluation, name)
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
