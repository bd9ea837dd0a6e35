"""Words and numbers from strangers, as a page may show them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

SCORES = {"mae": "MAE", "pitch": "pitch", "yaw": "yaw", "roll": "roll", "geodesic": "geodesic", "maev": "MAEV"}
_SHORT, _LONG = 120, 4_000  # characters of a stranger's text in a table, and on its own page


def _clean(value: object) -> object:
    return "" if value is None else value


def number(value: object, digits: int = 2) -> str:
    """Return a number as text, or a dash where there is none."""
    known = _number(value)
    return "–" if known is None else f"{known:,.{digits}f}"


def _number(value: object) -> float | None:
    """Return a finite number, or None: an entry may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e12 and math.isfinite(value) else None


def _share(value: object) -> str:
    known = _number(value)
    return "–" if known is None else f"{100 * known:.1f} %"


def short(value: object, most: int = _SHORT) -> str:
    """Return a stranger's text in one line of ``most`` characters at most."""
    text = " ".join(str("" if value is None else value)[: 4 * most].split())
    return text if len(text) <= most else text[: most - 1] + "…"


def safe_link(value: object) -> str:
    """Return an address if it is one of http or https, else nothing."""
    text = str("" if value is None else value).strip()
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return ""
    return text if valid and len(text) <= 2_000 and re.fullmatch(r"[!-~]+", text) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _pair(value: object) -> tuple[float, float] | None:
    ends = [_number(end) for end in _list(value)]
    return (ends[0], ends[1]) if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None
