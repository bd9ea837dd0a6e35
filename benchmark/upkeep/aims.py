"""What a benchmark says below its table of the rows that miss their aims."""

from __future__ import annotations

from collections.abc import Mapping


def describe_aims(reached: Mapping[str, bool]) -> str:
    """Return a sentence on which of some rows, by their names, do not reach their aims."""
    missed = [name for name, is_reached in reached.items() if not is_reached]
    if not missed:
        return "All reach the aim."
    return f"The aim is not reached by {'any of them' if len(missed) == len(reached) else ', '.join(missed)}."
