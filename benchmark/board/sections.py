"""The rows and sections of the board's page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from msgspec import UNSET

from benchmark.board.published import IMAGES, Published, cited, published_rows
from benchmark.board.standing import level_with_first, ranks, told
from benchmark.board.words import LONG, SCORES, augmentation, remark_on, safe_link, seeds_in_words, short, with_one_name
from benchmark.scoring import protocols
from benchmark.scoring.entry import Entry, Headline, Listed, ListedHeadline
from benchmark.scoring.protocols import Protocol
from headposeplus.faults import plural

ENTRIES = "entries"  # the folder of their pages
_WIDTH, _MARGIN = 96, 4  # pixels of the intervals' scale, and of what it leaves free at both ends
_LETTER, _GAP = 6.2, 4  # pixels of a digit below it, and between two numbers
_STEPS = ((1, 2, 5), (2.5, 4), (1.5, 3, 6, 8))  # between the numbers below it, the rounder first


class Row(NamedTuple):
    """A row of the board. Values and deviation are in degrees by score; ``interval`` is that of the MAE.

    ``rank`` is None where a row has none, and ``level`` says that it cannot be told apart from the first. ``authors``
    are the work that a published row comes from, and the method where ``name`` is a team's; ``images`` is the number of
    its test images where it is known, and ``flag`` says what is odd about it. ``link`` and ``code`` are addresses.
    ``private`` and ``public`` are the MAE on those parts of the subjects, once a challenge is closed. ``remark`` is a
    line below the name, ``whisker`` is where the lower end of the interval, the MAE and the upper end lie, in pixels.
    """

    name: str
    href: str
    published: bool
    values: dict[str, float | None]
    deviation: float | None
    interval: tuple[float, float] | None
    trained: str
    transductive: bool
    seeds: str
    authors: str
    link: str
    images: int | None
    rank: int | None = None
    level: bool = False
    date: str = ""
    code: str = ""
    augmentation: str = ""
    remark: str = ""
    private: float | None = None
    public: float | None = None
    flag: str = ""
    best: frozenset[str] = frozenset()
    whisker: Sequence[float] = ()


class Section(NamedTuple):
    """The rows of one protocol, or published rows alone.

    Those are of a protocol that has no entries, or of none: then the facts of their papers describe them. ``name`` is
    what the filter calls it, ``columns`` are those that any of its rows has, ``ticks`` are the places and numbers below
    the intervals, ``reading`` says which entries can be told apart, and ``sources`` are those of its rows in full.
    """

    name: str
    title: str
    facts: list[tuple[str, str]]
    badges: list[str]
    rows: list[Row]
    columns: list[str]
    level: str
    published_only: bool
    ticks: list[tuple[float, str]]
    sources: list[str]
    note: str = ""
    reading: str = ""

    @property
    def ranked(self) -> bool:
        """Whether its table has ranks."""
        return not self.published_only


def _entry_link(key: str, root: str | None) -> str:
    path = f"{ENTRIES}/{quote(key, safe='')}"
    return f"{path}.html" if root is None else f"{root}/{path}"


def level(entry: Entry) -> str:
    """Return the level of an entry's intervals in words."""
    return f"{100 * entry.bootstrap.level:g} %"


def _entry_row(listed: Listed | ListedHeadline, root: str | None, rank: int | None, level_with_first: bool) -> Row:
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
        trained=with_one_name(short(entry.training_data)),
        transductive=entry.uses_target_images,
        seeds="" if entry.seeds == (None,) else seeds_in_words(entry.seeds),
        authors=method if listed.team else short(entry.authors),
        link=safe_link(entry.link),
        images=None,
        rank=rank,
        level=level_with_first,
        date=listed.day if entry.date is UNSET else short(entry.date),
        code="" if entry.code is UNSET else safe_link(entry.code),
        augmentation=short(augmentation(entry.augment)),
        remark="" if entry.selection == entry.protocol.selection else f"selection: {short(entry.selection)}",
        flag="; ".join(flags),
        private=parts.private if parts else None,
        public=parts.public if parts else None,
    )


def _published_rows(results: Sequence[Published], frames: int | None) -> tuple[list[Row], list[str]]:
    """Return published results beside a protocol of so many frames, or by themselves, and their sources in full."""
    works, sources = cited(results)
    return [_published_row(result, work, frames) for result, work in zip(results, works, strict=True)], sources


def _published_row(result: Published, work: str, frames: int | None) -> Row:
    remark = result.backbone
    if result.crop not in ("Biwi+", "own"):
        remark += f", crops: {result.crop}"
    if frames is not None and result.n_images != frames:
        remark += f", {plural(result.n_images or 0, 'image')} (protocol: {frames:,})"
    flag = f"as printed: the mean of the three angles is {result.mean_of_angles:.3f}" if result.as_printed else ""
    return Row(
        name=result.method,
        href="",
        published=True,
        values=dict.fromkeys(SCORES) | {name: getattr(result, name) for name in ("mae", "pitch", "yaw", "roll")},
        deviation=None,
        interval=None,
        trained=with_one_name(result.train_set),
        transductive=result.transductive == "yes",
        seeds="",
        authors=work,
        link=result.link,
        images=result.n_images,
        date=result.year,
        remark=remark,
        flag=flag,
    )


def _marked(rows: list[Row]) -> list[Row]:
    """Return rows, best first, that know which of their values are the best among comparable ones.

    Those that have a rank compare with each other; where all rows are published, these do, on as many images.
    """
    alone = all(row.published for row in rows) and _on_as_many_images(rows)
    least = _least([row for row in rows if alone or row.rank is not None])
    marked = []
    for row in rows:
        its = _figures(row).items() if alone or row.rank is not None else ()
        best = frozenset(key for key, value in its if value is not None and told(value) == least.get(key))
        marked.append(row._replace(best=best))
    return sorted(marked, key=lambda row: (_place(row), row.name))


def _on_as_many_images(rows: list[Row]) -> bool:
    """Return whether published rows were scored on as many images, give or take those that a release lacks."""
    known = [row.images for row in rows if row.images is not None]
    return not known or (len(known) == len(rows) and max(known) - min(known) <= IMAGES)


def _place(row: Row) -> float:
    mae = row.values["mae"] if row.private is None else row.private
    return math.inf if mae is None else mae


def _scaled(rows: list[Row]) -> tuple[list[Row], list[tuple[float, str]]]:
    """Return rows that know where their intervals lie on the one scale of their table, and the ticks of that."""
    ends = [end for row in rows for end in _reach(row)]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    if high <= low:
        return rows, []

    def place(value: float) -> float:
        return round(_MARGIN + (_WIDTH - 2 * _MARGIN) * (value - low) / (high - low), 1)

    ticks = [(place(float(tick)), tick) for tick in _ticks(low, high)]
    return [row._replace(whisker=[place(end) for end in _reach(row)]) for row in rows], ticks


def _ticks(low: float, high: float) -> list[str]:
    """Return the round numbers from ``low`` to ``high`` that stand below the intervals, as many as have room."""
    ticks: list[str] = []
    for factors in _STEPS:
        for power, factor in itertools.product(range(-4, 4), factors):
            step, digits = factor * 10.0**power, max(0, -power + (factor % 1 > 0))
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            widest = len(f"{last * step:.{digits}f}°") * _LETTER + _GAP
            if step / (high - low) * (_WIDTH - 2 * _MARGIN) >= widest:
                ticks = [f"{number * step:.{digits}f}" for number in range(first, last + 1)]
                break
        if len(ticks) > 1:
            break
    return ticks


def _reach(row: Row) -> list[float]:
    """Return the lower end of a row's interval, its MAE and the upper end; the MAE thrice where it has none."""
    mae = row.values["mae"]
    if mae is None:
        return []
    return [mae, mae, mae] if row.interval is None else [row.interval[0], mae, row.interval[1]]


def _figures(row: Row) -> dict[str, float | None]:
    """Return all the errors that a row shows, by column."""
    return {**row.values, "private": row.private, "public": row.public}


def _least(group: list[Row]) -> dict[str, float]:
    """Return the best value of each score among rows that compare, as far as the table shows; none of a row alone."""
    best: dict[str, float] = {}
    for row in group if len(group) > 1 else ():
        for key, value in _figures(row).items():
            if value is not None:
                best[key] = min(best.get(key, math.inf), told(value))
    return best


def _columns(rows: list[Row]) -> list[str]:
    """Return the columns that any of the rows has."""
    present = {
        "private": any(row.private is not None for row in rows),
        "public": any(row.public is not None for row in rows),
        "interval": any(row.interval for row in rows),
        **{key: any(row.values[key] is not None for row in rows) for key in SCORES if key != "mae"},
        "trained": True,
        "images": all(row.published for row in rows) and any(row.images for row in rows),
        "seeds": any(row.seeds for row in rows),
        "date": any(row.date for row in rows),
    }
    return [name for name, shown in present.items() if shown]


def _protocol_section(
    name: str, mine: list[Listed | ListedHeadline], results: list[Published], root: str | None
) -> Section:
    protocol, entries = mine[0].entry.protocol, [listed.entry for listed in mine]
    level_ones, reading = level_with_first(mine)
    rows = [
        _entry_row(listed, root, rank, place in level_ones)
        for place, (listed, rank) in enumerate(zip(mine, ranks(mine), strict=True))
    ]
    published, sources = _published_rows(results, protocol.frames)
    rows, ticks = _scaled(_marked(rows + published))
    levels = {level(entry) for entry in entries if isinstance(entry, Entry) and entry.intervals}
    steps = {entry.step for entry in entries if isinstance(entry, Headline)}
    return Section(
        name=name,
        title=short(protocol.title, 300),
        facts=_facts(protocol),
        badges=protocols.badges(protocol),
        rows=rows,
        columns=_columns(rows),
        level=levels.pop() if len(levels) == 1 else "",
        published_only=False,
        ticks=ticks,
        sources=sources,
        note="".join(
            f"The challenge is open: the MAE is that on the public part of the subjects, in steps of {step:g} degrees."
            for step in sorted(steps)[:1]
        ),
        reading=reading,
    )


def _facts(protocol: Protocol) -> list[tuple[str, str]]:
    facts = [
        ("test set", f"{with_one_name(short(protocol.test_set))}, {plural(protocol.frames, 'frame')}"),
        ("convention", short(protocol.convention)),
        ("camera", short(protocol.camera)),
        ("official selection", short(protocol.selection)),
        ("target images", short(protocol.target_images, LONG)),
    ]
    return [fact for fact in facts if fact[1]]


def _published_section(results: list[Published], protocol: Protocol | None) -> Section:
    first = results[0]
    published, sources = _published_rows(results, None)
    rows = _marked(published)
    convention = "own convention" if first.convention == "own" else f"convention {first.convention}"
    condition = f"{first.test_set}, {convention}, {first.camera} camera"
    unequal = len({row.images for row in rows if row.images}) > 1
    name = f"published: {first.task}, {first.test_set}, {first.convention}, {first.camera} camera"
    return Section(
        name=protocol.id if protocol else name,
        title=f"{protocol.id}: {condition}" if protocol else f"{first.task}: {condition}",
        facts=[],
        badges=[],
        rows=rows,
        columns=_columns(rows),
        level="",
        published_only=True,
        ticks=[],
        sources=sources,
        note="Rows on different numbers of images do not compare to the last digit." if unequal else "",
    )


def sections(board: Iterable[Listed | ListedHeadline], root: str | None, published: bool) -> list[Section]:
    """Return a section a protocol, then the published rows of protocols that have no entry, and of each other kind.

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
        its = [row for row in left if row.belongs_to(mine[0].entry.protocol)]
        left = [row for row in left if row not in its]
        unique = sum(other == name for other, _ in order) == 1
        result.append(_protocol_section(name if unique else f"{name} ({digest})", mine, its, root))
    for frozen in protocols.frozen() if left else ():
        its = [row for row in left if row.belongs_to(frozen)]
        left = [row for row in left if row not in its]
        result += [_published_section(its, frozen)] if its else []
    kinds: dict[tuple[str, ...], list[Published]] = {}
    for row in left:
        kinds.setdefault((row.task, row.test_set, row.labels, row.convention), []).append(row)
    return result + [_published_section(rows, None) for rows in kinds.values()]
