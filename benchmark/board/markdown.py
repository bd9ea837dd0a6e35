"""The scoreboard as Markdown: of each protocol its entries as tables, and the published rows that belong to it."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from msgspec import UNSET

from benchmark.board.published import Published, beside, cited, published_rows
from benchmark.board.standing import level_with_first, ranks
from benchmark.board.words import SCORES, augmentation, remark_on, seeds_in_words, with_one_name
from benchmark.scoring.entry import Entry, Listed
from headposeplus import tables
from headposeplus.faults import plural

PAGE = "scoreboard.md"


def _text(value: object) -> str:
    """Return a string that is plain text in Markdown: entries may come from anyone."""
    return (
        html.escape(" ".join(str(value).split())[:120])
        .replace("|", "&#124;")
        .replace("[", "&#91;")
        .replace("]", "&#93;")
    )


def github(rows: Sequence[dict[str, str]]) -> str:
    """Return rows as a table in GitHub's Markdown, the cells as they are."""
    return tables.table(rows, "github")


# What a page of GitHub has room for side by side: the figures of each entry, and how it was made.
_FIGURES = ("#", "method", "MAE", "95 % interval", "pitch", "yaw", "roll", "geodesic", "MAEV")
_MADE = ("method", "trained on", "target images", "augmentation", "selection", "seeds")
_OTHER = "MAE, source / target statistics"


def table(mine: Sequence[Listed]) -> str:
    """Return the entries of one protocol as tables in GitHub's Markdown: their figures, and how they were made."""
    told = rows(mine, _text)
    made = (*_MADE, _OTHER) if any(row[_OTHER] for row in told) else _MADE
    parts = [github([{name: row[name] for name in names if name in row} for row in told]) for names in (_FIGURES, made)]
    reading = level_with_first(mine)[1]
    return "\n\n".join(filter(None, [parts[0], reading, parts[1]]))


def rows(mine: Sequence[Listed], clean: Callable[[object], str]) -> list[dict[str, str]]:
    """Return all that a table tells of each entry of a protocol, their authors' texts cleaned by ``clean``."""
    level, _ = level_with_first(mine)
    told = [
        {"#": f"{rank or ''}{' ≈ 1' * (place in level)}", **_row(listed, clean)}
        for place, (listed, rank) in enumerate(zip(mine, ranks(mine), strict=True))
    ]
    empty = [name for name in ("augmentation", "date") if not any(row[name] for row in told)]
    return [{name: cell for name, cell in row.items() if name not in empty} for row in told]


def _row(listed: Listed, clean: Callable[[object], str]) -> dict[str, str]:
    entry = listed.entry
    marks = f" ({remark_on(entry.suspicions)})" if entry.suspicions else ""
    marks += " (not verifiable)" if listed.unverified else ""
    names = ("pitch", "yaw", "roll", "geodesic", "maev")
    return {
        "method": clean(entry.name) + marks,
        "MAE": _with_deviation(entry, "mae"),
        "95 % interval": "{:.2f} to {:.2f}".format(*entry.intervals.mae) if entry.intervals else "",
        **{SCORES[name]: _with_deviation(entry, name) for name in names},
        _OTHER: _other_statistics(entry),
        "target images": "yes" if entry.uses_target_images else "no",
        "selection": clean(entry.selection),
        "trained on": clean(with_one_name(entry.training_data)),
        "augmentation": clean(augmentation(entry.augment)),
        "convention": f"{clean(entry.convention)}, {clean(entry.camera)} camera",
        "seeds": seeds_in_words(entry.seeds),
        "date": "" if entry.date is UNSET else clean(entry.date),
    }


def _with_deviation(entry: Entry, name: str) -> str:
    deviation = f" ± {getattr(entry.deviation, name):.2f}" if entry.deviation else ""
    return f"{getattr(entry.scores, name):.2f}{deviation}"


def _other_statistics(entry: Entry) -> str:
    errors = entry.mae_of_other_statistics()
    return f"{errors['source']:.2f} / {errors['target']:.2f}" if len(errors) == 2 else ""


def published_table(test_set: str = "Biwi+", tasks: Sequence[str] = ("da", "pda"), by_error: bool = False) -> str:
    """Return the published rows of some tasks on a test set, a table each, in their order or the best first."""
    parts = []
    for task in tasks:
        results = [row for row in published_rows() if row.task == task and row.test_set == test_set]
        if by_error:
            results.sort(key=lambda row: row.mae)
        parts.append(published_of(results))
    return "\n\n".join(parts)


def published_of(results: Sequence[Published]) -> str:
    """Return published results as a table in GitHub's Markdown, with the sources below it.

    What all rows have in common is not in the table but above it.
    """
    works, sources = cited(results)
    told = [_published_row(row, work) for row, work in zip(results, works, strict=True)]
    same = {name: cell for name, cell in told[0].items() if name in _SHARED and {row[name] for row in told} == {cell}}
    shown = [{name: cell for name, cell in row.items() if name not in same} for row in told]
    common = [f"All: {'; '.join(f'{name} {cell}' for name, cell in same.items())}."] if len(told) > 1 and same else []
    notes = [f"*: as printed; the mean of its angles is {row.mean_of_angles:.3f}." for row in results if row.as_printed]
    return "\n\n".join([*common, github(shown if common else told), *notes, *sources])


_SHARED = ("task", "trained on", "target images", "convention", "images", "source")


def _published_row(row: Published, work: str) -> dict[str, str]:
    return {
        "task": row.task,
        "method": row.method,
        "MAE": f"{row.mae:.2f}{'*' * row.as_printed}",
        **{name: f"{getattr(row, name):.2f}" for name in ("pitch", "yaw", "roll")},
        "trained on": row.train_set,
        "target images": row.transductive,
        "convention": f"{row.convention}, {row.camera}",
        "images": "not said" if row.n_images is None else f"{row.n_images:,}",
        "source": work,
    }


def page(board: Sequence[Listed]) -> str:
    """Return the scoreboard as Markdown: for each protocol its entries, and the published rows that belong to it."""
    parts = ["# Scoreboard", "Errors in degrees. Scores compare within one protocol only."]
    groups: dict[str, list[Listed]] = {}
    for listed in board:
        groups.setdefault(listed.entry.protocol.id, []).append(listed)
    for name, mine in groups.items():
        protocol = mine[0].entry.protocol
        facts = f"{plural(protocol.frames, 'test frame')}; convention {protocol.convention}, {protocol.camera} camera."
        selection = f"The official selection: {_text(protocol.selection)}."
        parts += [f"## {_text(name)}", f"{_text(protocol.title)}. {facts} {selection}", table(mine)]
        results = beside(protocol)
        if results:
            note = "As the papers and repositories named print them; selection, seeds and crops are theirs."
            parts += ["### Published under this protocol", note, published_of(results)]
    return "\n\n".join(parts if board else [*parts, "No entries yet."]) + "\n"
