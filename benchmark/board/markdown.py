"""The scoreboard as Markdown: the entries of each protocol as a table, and the published rows."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import pandas as pd

from benchmark.board.published import CAMERAS, published
from benchmark.board.words import augmentation, remark_on
from benchmark.scoring.entry import Entry, Listed
from headposeplus import tables

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


def table(board: Sequence[Listed]) -> str:
    """Return the entries of one protocol as a table in GitHub's Markdown."""
    return github(rows(board, _text))


def rows(board: Sequence[Listed], clean: Callable[[object], str]) -> list[dict[str, str]]:
    """Return all that a table tells of each entry, their authors' texts cleaned by ``clean``."""
    told = [_row(listed, clean) for listed in board]
    if not any(row["augmentation"] for row in told):
        told = [{name: cell for name, cell in row.items() if name != "augmentation"} for row in told]
    return told


def _row(listed: Listed, clean: Callable[[object], str]) -> dict[str, str]:
    entry = listed.entry
    marks = f" ({remark_on(entry.suspicions)})" if entry.suspicions else ""
    marks += " (not verifiable)" if listed.unverified else ""
    names = ("pitch", "yaw", "roll", "geodesic", "maev")
    return {
        "method": clean(entry.name) + marks,
        "MAE": _with_deviation(entry, "mae"),
        "95 % interval": "{:.2f} to {:.2f}".format(*entry.intervals.mae) if entry.intervals else "",
        **{name: _with_deviation(entry, name) for name in names},
        "MAE, source / target statistics": _other_statistics(entry),
        "target images": "yes" if entry.uses_target_images else "no",
        "selection": clean(entry.selection),
        "trained on": clean(entry.training_data),
        "augmentation": clean(augmentation(entry.augment)),
        "convention": f"{clean(entry.convention)}, {clean(entry.camera)} camera",
        "seeds": ", ".join("?" if seed is None else str(seed) for seed in entry.seeds),
    }


def _with_deviation(entry: Entry, name: str) -> str:
    deviation = f" ± {getattr(entry.deviation, name):.2f}" if entry.deviation else ""
    return f"{getattr(entry.scores, name):.2f}{deviation}"


def _other_statistics(entry: Entry) -> str:
    errors = entry.mae_of_other_statistics()
    return f"{errors['source']:.2f} / {errors['target']:.2f}" if len(errors) == 2 else ""


def published_table(test_set: str = "Biwi+", tasks: Sequence[str] = ("da", "pda"), by_error: bool = False) -> str:
    """Return the published rows of some tasks on a test set as Markdown, in their order or the best first."""
    rows = published()
    rows = rows[rows["task"].isin(tasks) & rows["test_set"].eq(test_set)]
    if by_error:
        rows = rows.sort_values("mae", kind="stable")
    columns = {
        "task": rows["task"],
        "method": rows["method"],
        "MAE": rows["mae"].map("{:.2f}".format) + rows["as_printed"].map({True: " (as printed)", False: ""}),
        "pitch": rows["pitch"].map("{:.2f}".format),
        "yaw": rows["yaw"].map("{:.2f}".format),
        "roll": rows["roll"].map("{:.2f}".format),
        "target images": rows["transductive"],
        "trained on": rows["train_set"],
        "convention": rows["convention"] + ", " + rows["labels"].map(CAMERAS).map("{} camera".format),
        "images": ["not said" if images is pd.NA else f"{images:,}" for images in rows["n_images"]],
        "source": rows["source"],
    }
    return github([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def page(board: Sequence[Listed]) -> str:
    """Return the scoreboard as Markdown: a table for each protocol, then the published rows."""
    parts = ["# Scoreboard", "", "Errors in degrees. Scores compare within one protocol only."]
    groups: dict[str, list[Listed]] = {}
    for listed in board:
        groups.setdefault(listed.entry.protocol.id, []).append(listed)
    for name, mine in groups.items():
        protocol = mine[0].entry.protocol
        facts = f"{protocol.frames:,} test frames. The official selection: {_text(protocol.selection)}."
        parts += ["", f"## {_text(name)}", "", f"{_text(protocol.title)}. {facts}", "", table(mine)]
    note = "From the papers and repositories named; not comparable with scores on other data."
    parts += ["", "## Published on the real Biwi+", "", note, "", published_table()]
    return "\n".join(parts) + "\n"
