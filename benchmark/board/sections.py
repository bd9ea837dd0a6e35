"""The rows and sections of the board's page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from benchmark.board.published import Published, published_rows
from benchmark.board.words import LONG, SCORES, augmentation, number, remark_on, safe_link, short
from benchmark.scoring import protocols
from benchmark.scoring.entry import Entry, Headline, Listed, ListedHeadline
from benchmark.scoring.protocols import Protocol

ENTRIES = "entries"  # the folder of their pages


class Row(NamedTuple):
    """A row of the board. Values and deviation are in degrees by score; ``interval`` is that of the MAE.

    ``authors`` are the source of a published row, and the method where ``name`` is a team's; ``images`` is the number
    of its test images where it is known, and ``flag`` says what is odd about it. ``private`` and ``public`` are the MAE
    on those parts of the subjects, once a challenge is closed. ``remark`` is a line below the name, ``whisker`` is
    where the lower end of the interval, the MAE and the upper end lie, in percent of the column.
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
    augmentation: str = ""
    remark: str = ""
    private: float | None = None
    public: float | None = None
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


def _entry_link(key: str, root: str | None) -> str:
    path = f"{ENTRIES}/{quote(key, safe='')}"
    return f"{path}.html" if root is None else f"{root}/{path}"


def level(entry: Entry) -> str:
    """Return the level of an entry's intervals in words."""
    return f"{100 * entry.bootstrap.level:g} %"


def rank(listed: Listed | ListedHeadline) -> float:
    """Return what an entry's place within its protocol follows from, in degrees: lower is better."""
    if isinstance(listed, Listed) and listed.parts and listed.parts.private is not None:
        return listed.parts.private
    return listed.entry.scores.mae


def _entry_row(listed: Listed | ListedHeadline, root: str | None) -> Row:
    """Return the row of an entry; of a headline it has but one figure.

    It has the name of the team that sent it, where there is one, and the method below: who the authors are, anyone may
    write.
    """
    entry, method = listed.entry, short(listed.entry.name) or "unnamed"
    full = entry if isinstance(entry, Entry) else None
    parts = listed.parts if isinstance(listed, Listed) else None
    flags = [f"{remark_on(full.suspicions)}: see its page"] if full and full.suspicions else []
    flags += [f"not verifiable: {listed.unverified}"] if isinstance(listed, Listed) and listed.unverified else []
    return Row(
        name=short(listed.team) or method,
        href=_entry_link(listed.key, root),
        published=False,
        values={name: getattr(entry.scores, name, None) for name in SCORES},
        deviation=full.deviation.mae if full and full.deviation else None,
        interval=full.intervals.mae if full and full.intervals else None,
        trained=short(entry.training_data),
        transductive=entry.uses_target_images,
        seeds=len(entry.seeds),
        authors=method if listed.team else short(entry.authors),
        link=safe_link(entry.link),
        images=None,
        augmentation=short(augmentation(entry.augment)),
        flag="; ".join(flags),
        private=parts.private if parts else None,
        public=parts.public if parts else None,
    )


def _published_row(result: Published, frames: int | None) -> Row:
    """Return a published result beside a protocol of so many frames, or in a section of its own."""
    remark = result.backbone
    if result.crop not in ("Biwi+", "own"):
        remark += f", crops: {result.crop}"
    if frames is not None and result.n_images != frames:
        remark += f", {result.n_images:,} images (protocol: {frames:,})"
    flag = f"as printed: the mean of the three angles is {result.mean_of_angles:.3f}" if result.as_printed else ""
    return Row(
        name=result.method,
        href="",
        published=True,
        values=dict.fromkeys(SCORES) | {name: getattr(result, name) for name in ("mae", "pitch", "yaw", "roll")},
        deviation=None,
        interval=None,
        trained=result.train_set,
        transductive=result.transductive == "yes",
        seeds=None,
        authors=result.source,
        link="",
        images=result.n_images,
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
    least = {images: _least(group) for images, group in groups.items()}
    ends = [end for row in rows for end in _reach(row)]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    marked = []
    for row in rows:
        lowest = least.get(row.images, {}) if alone or not row.published else {}
        best = frozenset(
            key for key, value in row.values.items() if value is not None and _told(value) == lowest.get(key)
        )
        # A few percent at both ends leave room for the dot.
        places = [round(4 + 92 * (end - low) / (high - low), 1) for end in _reach(row)] if high > low else []
        marked.append(row._replace(best=best, whisker=places))
    return sorted(marked, key=lambda row: (_place(row), row.name))


def _place(row: Row) -> float:
    mae = row.values["mae"] if row.private is None else row.private
    return math.inf if mae is None else mae


def _reach(row: Row) -> list[float]:
    """Return the lower end of a row's interval, its MAE and the upper end; the MAE thrice where it has none."""
    mae = row.values["mae"]
    if mae is None:
        return []
    return [mae, mae, mae] if row.interval is None else [row.interval[0], mae, row.interval[1]]


def _least(group: list[Row]) -> dict[str, float]:
    """Return the best value of each score among rows that compare, as far as the table shows; none of a row alone."""
    best: dict[str, float] = {}
    for row in group if len(group) > 1 else ():
        for key, value in row.values.items():
            if value is not None:
                best[key] = min(best.get(key, math.inf), _told(value))
    return best


def _told(value: float) -> float:
    return round(value, 2)


def _columns(rows: list[Row]) -> list[str]:
    """Return the columns that any of the rows has."""
    present = {
        "private": any(row.private is not None for row in rows),
        "public": any(row.public is not None for row in rows),
        "interval": any(row.interval for row in rows),
        **{key: any(row.values[key] is not None for row in rows) for key in SCORES if key != "mae"},
        "trained": True,
        "augmentation": any(row.augmentation for row in rows),
        "transductive": True,
        "images": all(row.published for row in rows) and any(row.images for row in rows),
        "seeds": any(row.seeds for row in rows),
    }
    return [name for name, shown in present.items() if shown]


def _protocol_section(name: str, protocol: Protocol, entries: list[Entry | Headline], rows: list[Row]) -> Section:
    facts = [
        ("test set", f"{short(protocol.test_set)}, {number(protocol.frames, 0)} frames"),
        ("convention", short(protocol.convention)),
        ("camera", short(protocol.camera)),
        ("selection", short(protocol.selection)),
        ("target images", short(protocol.target_images, LONG)),
    ]
    levels = {level(entry) for entry in entries if isinstance(entry, Entry) and entry.intervals}
    steps = {entry.step for entry in entries if isinstance(entry, Headline)}
    return Section(
        name=name,
        title=short(protocol.title, 300),
        facts=[fact for fact in facts if fact[1]],
        badges=protocols.badges(protocol),
        rows=_marked(rows),
        columns=_columns(rows),
        level=levels.pop() if len(levels) == 1 else "",
        published_only=False,
        note="".join(
            f"The challenge is open: the MAE is that on the public part of the subjects, in steps of {step:g} degrees."
            for step in sorted(steps)[:1]
        ),
    )


def _published_section(results: list[Published]) -> Section:
    first = results[0]
    rows = [_published_row(result, None) for result in results]
    convention = "own convention" if first.convention == "own" else f"convention {first.convention}"
    unequal = len({row.images for row in rows if row.images}) > 1
    return Section(
        name=f"published: {first.task}, {first.test_set}, {first.convention}, {first.camera} camera",
        title=f"{first.task}: {first.test_set}, {convention}, {first.camera} camera",
        facts=[],
        badges=[],
        rows=_marked(rows),
        columns=_columns(rows),
        level="",
        published_only=True,
        note="Rows on different numbers of images do not compare to the last digit." if unequal else "",
    )


def sections(board: Iterable[Listed | ListedHeadline], root: str | None, published: bool) -> list[Section]:
    """Return a section a protocol, then one for each kind of published rows that belongs to none of them.

    ``root`` is the path below which a service shows them; None in files.
    """
    groups: dict[tuple[str, str], list[Listed | ListedHeadline]] = {}
    for listed in board:
        # Two that say the same id but not the same protocol never share a table.
        protocol = listed.entry.protocol
        groups.setdefault((short(protocol.id), protocol.sha256[:8]), []).append(listed)
    # Frozen protocols come first, and take the published rows before one's own that look like them.
    order = sorted(groups, key=lambda group: (group[0].startswith("local-"), group))
    left = list(published_rows()) if published else []
    result = []
    for name, digest in order:
        mine = groups[name, digest]
        protocol = mine[0].entry.protocol
        rows = [_entry_row(listed, root) for listed in mine]
        rows += [_published_row(row, protocol.frames) for row in left if row.belongs_to(protocol)]
        left = [row for row in left if not row.belongs_to(protocol)]
        unique = sum(other == name for other, _ in order) == 1
        title = name if unique else f"{name} ({digest})"
        result.append(_protocol_section(title, protocol, [listed.entry for listed in mine], rows))
    kinds: dict[tuple[str, ...], list[Published]] = {}
    for row in left:
        kinds.setdefault((row.task, row.test_set, row.labels, row.convention), []).append(row)
    return result + [_published_section(rows) for rows in kinds.values()]
