"""Words and numbers from strangers, as a page may show them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from msgspec import UNSET, UnsetType

from benchmark.scoring.check import ON_HONOUR

SCORES = {"mae": "MAE", "pitch": "pitch", "yaw": "yaw", "roll": "roll", "geodesic": "geodesic", "maev": "MAEV"}
SHORT, LONG = 120, 4_000  # characters of a stranger's text in a table, and on its own page

# As papers write them; people and programs write them in other ways, too.
_DATASETS = ("Biwi+", "SynHead+", "SynHead++", "SynBiwi+", "AFLW2000-3D", "300W-LP")
_BY_LETTERS = {re.sub(r"[^a-z0-9+]", "", name.lower()): name for name in _DATASETS} | {"aflw2000": "AFLW2000-3D"}
_WORD = re.compile(r"(?i:300W LP|AFLW2000 3D)\b|[A-Za-z0-9](?:[\w+]|-(?=[A-Za-z0-9]))*")


def with_one_name(text: str) -> str:
    """Return a text in which each dataset that the toolkit knows has the one name that papers give it."""
    return _WORD.sub(lambda word: _BY_LETTERS.get(re.sub(r"[^a-z0-9+]", "", word[0].lower()), word[0]), text)


def number(value: float | UnsetType | None, digits: int = 2) -> str:
    """Return a number as text, or a dash where there is none."""
    return "–" if value is None or value is UNSET else f"{value:,.{digits}f}"


def augmentation(kind: str | UnsetType) -> str:
    """Return how an entry's training images were augmented; nothing where they were not, or nobody says it."""
    return "" if kind is UNSET or kind == "none" else kind


def share(value: float | UnsetType, digits: int = 1) -> str:
    """Return a share from 0 to 1 in percent, or a dash where there is none."""
    return "–" if value is UNSET else f"{100 * value:.{digits}f} %"


def short(text: object, most: int = SHORT) -> str:
    """Return a stranger's text in one line of ``most`` characters at most."""
    line = " ".join(str(text)[: 4 * most].split())
    return line if len(line) <= most else line[: most - 1] + "…"


def safe_link(text: str) -> str:
    """Return an address if it is one of http or https, else nothing."""
    address = text.strip()
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return ""
    return address if valid and len(address) <= 2_000 and re.fullmatch(r"[!-~]+", address) else ""


def seeds_in_words(seeds: Sequence[int | None]) -> str:
    """Return how many seeds an entry has and which, such as ``1 (0)``, ``3 (0 to 2)`` or ``1 (unknown)``."""
    known = [seed for seed in seeds if seed is not None]
    if len(known) < len(seeds):
        names = "unknown"
    elif len(known) > 2 and known == list(range(known[0], known[0] + len(known))):
        names = f"{known[0]} to {known[-1]}"
    else:
        names = ", ".join(map(str, known))
    return f"{len(seeds)} ({short(names)})"


def remark_on(suspicions: Sequence[str]) -> str:
    """Return what a table says of an entry with suspicions."""
    return "a method of its authors' own" if all(ON_HONOUR in text for text in suspicions) else "looks odd"
