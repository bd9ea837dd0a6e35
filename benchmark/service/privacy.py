"""What the service may tell of scores on secret labels."""

from __future__ import annotations

from typing import Any

SMALLEST_GROUP = 50  # frames: figures of fewer do not leave


def shown(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what of an entry may leave: no figure that tells of a single frame.

    Groups of fewer than 50 frames are left out. An error at a share of the frames is that of one frame: where fewer
    than 50 frames lie beyond it, the nearest is given that has as many. Degrees have two decimals and shares three,
    which one frame among thousands does not move.
    """
    frames = int(entry["protocol"]["frames"])
    kept = {key: value if key == "protocol" else _rounded(value) for key, value in entry.items()}
    kept["by"] = {
        kind: [group for group in groups if group["frames"] >= SMALLEST_GROUP]
        for kind, groups in kept.get("by", {}).items()
    }
    first = -(-100 * SMALLEST_GROUP // frames) if frames else 100  # the percent beyond which lie as many
    if first > 50:
        for kind in ("quantiles", "distribution"):
            kept.pop(kind, None)
        return kept
    kept["quantiles"] = {
        kind: [values[min(max(at, first), 100 - first)] for at in range(len(values))]
        for kind, values in kept.get("quantiles", {}).items()
    }
    if first > 5:
        for spread in kept.get("distribution", {}).values():
            spread.pop("p95", None)
    return kept


def _rounded(value: Any, decimals: int = 2) -> Any:
    if isinstance(value, float):
        return round(value, decimals)
    if isinstance(value, dict):
        return {key: _rounded(held, 3 if key.startswith("within_") else 2) for key, held in value.items()}
    return [_rounded(held) for held in value] if isinstance(value, list) else value
