"""How benchmarks tell their figures: the spread of a row's, and below the table which rows miss their aims."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def describe_aims(reached: Mapping[str, bool]) -> str:
    """Return a sentence on which of some rows, by their names, do not reach their aims."""
    missed = [name for name, is_reached in reached.items() if not is_reached]
    if not missed:
        return "All reach the aim."
    return f"The aim is not reached by {'any of them' if len(missed) == len(reached) else ', '.join(missed)}."


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the median of some values, with the least and the most, such as ``1.82 (1.10 to 3.47)``."""
    middle, least, most = (f"{of(values):.{digits}f}" for of in (statistics.median, min, max))
    return f"{middle} ({least} to {most})"
