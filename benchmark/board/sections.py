"""The rows and sections of the board's page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd

from benchmark.board.published import CAMERAS, belongs_to
from benchmark.board.published import published as published_rows
from benchmark.board.words import _LONG, SCORES, _list, _mapping, _number, _pair, number, safe_link, short
from benchmark.scoring import protocols
from headposeplus.files import content_hash

ENTRIES = "entries"  # the folder of their pages


class Row(NamedTuple):
    """A row of the board. Values and deviation are in degrees by score; ``interval`` is that of the MAE.

    ``authors`` are the source of a published row, ``images`` is the number of its test images where it is known, and
    ``flag`` says what is odd about it. ``remark`` is a line below the name, ``whisker`` is where the lower end
    of the interval, the MAE and the upper end lie, in percent of the column.
    """

    name: str
    href: str
    published: bool
    values: dict[str, float | None]
    deviation: float | None
    interval: tuple[float, float] | None
    trained: str
    transductive: bool
    seeds: int | None
    authors: str
    link: str
    images: int | None
    remark: str = ""
    flag: str = ""
    best: frozenset[str] = frozenset()
    whisker: Sequence[float] = ()


class Section(NamedTuple):
    """The rows of one protocol, or published rows alone, which have no protocol but the facts of their papers.

    ``name`` is what the filter calls it, ``columns`` are those that any of its rows has.
    """

    name: str
    title: str
    facts: list[tuple[str, str]]
    badges: list[str]
    rows: list[Row]
    columns: list[str]
    level: str
    published_only: bool
    note: str = ""


def _entry_link(key: str, live: bool) -> str:
    return f"{'/' if live else ''}{ENTRIES}/{quote(key, safe='')}{'' if live else '.html'}"


def _level(entry: Mapping[str, Any]) -> str:
    known = _number(_mapping(entry.get("bootstrap")).get("level"))
    return "" if known is None else f"{100 * known:g} %"


def _entry_row(entry: Mapping[str, Any], live: bool) -> Row:
    scores = _mapping(entry.get("scores"))
    return Row(
        name=short(entry.get("name")) or "unnamed",
        href=_entry_link(str(entry["key"]), live),
        published=False,
        values={key: _number(scores.get(key)) for key in SCORES},
        deviation=_number(_mapping(entry.get("deviation")).get("mae")),
        interval=_pair(_mapping(entry.get("intervals")).get("mae")),
        trained=short(entry.get("training_data")),
        transductive=entry.get("uses_target_images") is True,
        seeds=len(_list(entry.get("seeds"))) or None,
        authors=short(entry.get("authors")),
        link=safe_link(entry.get("link")),
        images=None,
        flag="looks odd: see its page" if _list(entry.get("suspicions")) else "",
    )


def _published_row(row: Mapping[str, Any], frames: int | None) -> Row:
    """Return a published row beside a protocol of so many frames, or in a section of its own."""
    images = None if pd.isna(row["n_images"]) else int(row["n_images"])
    remark = str(row["backbone"])
    if row["crop"] not in ("Biwi+", "own"):
        remark += f", crops: {row['crop']}"
    if frames is not None and images != frames:
        remark += f", {images:,} images (protocol: {frames:,})"
    flag = f"as printed: the mean of the three angles is {row['mean_of_angles']:.3f}" if row["as_printed"] else ""
    return Row(
        name=str(row["method"]),
        href="",
        published=True,
        values={key: float(row[key]) if key in row else None for key in SCORES},
        deviation=None,
        interval=None,
        trained=str(row["train_set"]),
        transductive=row["transductive"] == "yes",
        seeds=None,
        authors=str(row["source"]),
        link="",
        images=images,
        remark=remark,
        flag=flag,
    )


def _marked(rows: list[Row]) -> list[Row]:
    """Return rows, best first, that know which of their values are the best among comparable ones.

    Those scored here compare with each other; published ones do where they stand alone, on as many images.
    """
    alone = all(row.published for row in rows)
    groups: dict[int | None, list[Row]] = {}
    for row in rows:
        if alone or not row.published:
            groups.setdefault(row.images, []).append(row)
    ends = [end for row in rows for end in _reach(row)]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    marked = []
    for row in rows:
        group = groups.get(row.images, []) if alone or not row.published else []
        best = frozenset(key for key in SCORES if len(group) > 1 and _is_best(row, group, key))
        # A few percent at both ends leave room for the dot.
        places = [round(4 + 92 * (end - low) / (high - low), 1) for end in _reach(row)] if high > low else []
        marked.append(row._replace(best=best, whisker=places))
    return sorted(marked, key=lambda row: (math.inf if row.values["mae"] is None else row.values["mae"], row.name))


def _reach(row: Row) -> list[float]:
    """Return the lower end of a row's interval, its MAE and the upper end; the MAE thrice where it has none."""
    mae = row.values["mae"]
    if mae is None:
        return []
    return [mae, mae, mae] if row.interval is None else [row.interval[0], mae, row.interval[1]]


def _is_best(row: Row, group: list[Row], key: str) -> bool:
    """Tell whether a value is the best of a group, as far as the table shows."""
    known = [round(value, 2) for value in (other.values[key] for other in group) if value is not None]
    value = row.values[key]
    return value is not None and round(value, 2) == min(known)


def _columns(rows: list[Row]) -> list[str]:
    """Return the columns that any of the rows has."""
    present = {
        "interval": any(row.interval for row in rows),
        **{key: any(row.values[key] is not None for row in rows) for key in SCORES if key != "mae"},
        "trained": True,
        "transductive": True,
        "images": all(row.published for row in rows) and any(row.images for row in rows),
        "seeds": any(row.seeds for row in rows),
    }
    return [name for name, shown in present.items() if shown]


def _protocol_section(name: str, entries: list[Mapping[str, Any]], rows: list[Row]) -> Section:
    protocol = entries[0]["protocol"]
    facts = [
        ("test set", f"{short(protocol.get('test_set'))}, {number(protocol.get('frames'), 0)} frames"),
        ("convention", short(protocol.get("convention"))),
        ("camera", short(protocol.get("camera"))),
        ("selection", short(protocol.get("selection"))),
        ("target images", short(protocol.get("target_images"), _LONG)),
    ]
    levels = {_level(entry) for entry in entries if entry.get("intervals")} - {""}
    return Section(
        name=name,
        title=short(protocol.get("title"), 300),
        facts=[fact for fact in facts if fact[1]],
        badges=protocols.badges(protocols.Protocol(**protocol)),
        rows=_marked(rows),
        columns=_columns(rows),
        level=levels.pop() if len(levels) == 1 else "",
        published_only=False,
    )


def _published_section(rows: pd.DataFrame) -> Section:
    first = rows.iloc[0]
    camera = CAMERAS[first["labels"]]
    found = [_published_row(row, None) for row in rows.to_dict("records")]
    images = sorted({row.images for row in found if row.images})
    convention = "own convention" if first["convention"] == "own" else f"convention {first['convention']}"
    return Section(
        name=f"published: {first['task']}, {first['test_set']}, {first['convention']}, {camera} camera",
        title=f"{first['task']}: {first['test_set']}, {convention}, {camera} camera",
        facts=[],
        badges=[],
        rows=_marked(found),
        columns=_columns(found),
        level="",
        published_only=True,
        note="Rows on different numbers of images do not compare to the last digit." if len(images) > 1 else "",
    )


def _sections(entries: Iterable[Mapping[str, Any]], live: bool, published: bool) -> list[Section]:
    """Return a section a protocol, then one for each kind of published rows that belongs to none of them."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        # Two that say the same id but not the same protocol never share a table.
        protocol = entry["protocol"]
        groups.setdefault((short(protocol.get("id")), content_hash(protocol)[:8]), []).append(entry)
    # Frozen protocols come first, and take the published rows before one's own that look like them.
    order = sorted(groups, key=lambda group: (group[0].startswith("local-"), group))
    left = published_rows() if published else pd.DataFrame()
    sections = []
    for name, digest in order:
        mine = groups[name, digest]
        rows = [_entry_row(entry, live) for entry in mine]
        protocol = mine[0]["protocol"]
        belongs = np.array([belongs_to(row, protocol) for row in left.to_dict("records")], bool)
        for row in left[belongs].to_dict("records") if belongs.any() else ():
            rows.append(_published_row(row, int(protocol["frames"])))
        left = left[~belongs] if belongs.any() else left
        unique = sum(other == name for other, _ in order) == 1
        sections.append(_protocol_section(name if unique else f"{name} ({digest})", mine, rows))
    if len(left):
        kinds = left.groupby(["task", "test_set", "labels", "convention"], sort=False, dropna=False)
        sections += [_published_section(rows) for _, rows in kinds]
    return sections
