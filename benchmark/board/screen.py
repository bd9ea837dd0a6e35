"""The scoreboard on a terminal: of each protocol a table of the main figures, and what its entries say in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby

from msgspec import UNSET

from benchmark.board.markdown import rows
from benchmark.board.published import describe_beside
from benchmark.board.standing import level_with_first, ranks
from benchmark.board.words import augmentation, remark_on, seeds_in_words, short, with_one_name
from benchmark.scoring.entry import Entry, Listed
from headposeplus import tables
from headposeplus.faults import plural

# What an entry says beside its figures: above the table where all say the same, else below it.
_FACTS: dict[str, Callable[[Entry], str]] = {
    "trained on": lambda entry: with_one_name(entry.training_data),
    "convention": lambda entry: f"{entry.convention}, {entry.camera} camera",
    "selection": lambda entry: entry.selection,
    "seeds": lambda entry: seeds_in_words(entry.seeds),
    "augmentation": lambda entry: "not said" if entry.augment is UNSET else augmentation(entry.augment) or "none",
}


def describe_board(board: Sequence[Listed]) -> str:
    """Return the entries of a board as text; of each protocol the best first.

    Where whole rows are asked for, they hold all that the page tells of an entry.
    """
    if not board:
        return "the scoreboard has no entries yet"
    parts = [_of_protocol(list(mine)) for _, mine in groupby(board, lambda listed: listed.entry.protocol.id)]
    return "\n\n\n".join(parts)


def _of_protocol(mine: Sequence[Listed]) -> str:
    """Return the entries of one protocol as text."""
    protocol = mine[0].entry.protocol
    said = {name: [short(fact(listed.entry)) for listed in mine] for name, fact in _FACTS.items()}
    common = {name: texts[0] for name, texts in said.items() if len(set(texts)) == 1}
    title = f"{protocol.id}: {short(protocol.title)}"
    above = {"protocol": title, "test set": plural(protocol.frames, "frame"), **common}
    below = [f"{name}: {_differing(mine, texts)}" for name, texts in said.items() if name not in common]
    below += [f"{short(one.entry.name)}: {remark_on(one.entry.suspicions)}" for one in mine if one.entry.suspicions]
    below += [f"{short(one.entry.name)}: not verifiable: {one.unverified}" for one in mine if one.unverified]
    if any(listed.entry.deviation for listed in mine):
        below.append("±: the standard deviation over the seeds.")
    level, reading = level_with_first(mine)
    below += [reading] if reading else []
    beside = describe_beside(protocol)
    beside = f"\n\n{beside}" if beside else ""
    if tables.width() is None:
        above = {name: text for name, text in above.items() if name in ("protocol", "test set")}
        note = f"Errors in degrees. {reading}".strip()
        return f"{tables.pairs(above)}\n\n{tables.table(rows(mine, short))}\n\n{note}{beside}"
    shown = [
        {"#": f"{rank or ''}{' ≈ 1' * (place in level)}", **_row(listed.entry)}
        for place, (listed, rank) in enumerate(zip(mine, ranks(mine), strict=True))
    ]
    table = tables.table(shown, right=("MAE", "pitch", "yaw", "roll"))
    return "\n".join([tables.pairs(above), "", table, "", *tables.prose("Errors in degrees.", *below)]) + beside


def _differing(mine: Sequence[Listed], texts: Sequence[str]) -> str:
    """Return what most entries say, and which say what else."""
    (most, _), *others = Counter(texts).most_common()
    by_text = {
        text: ", ".join(short(one.entry.name) for one, theirs in zip(mine, texts, strict=True) if theirs == text)
        for text, _ in others
    }
    return "; ".join([most, *(f"{names}: {text}" for text, names in by_text.items())])


def _row(entry: Entry) -> dict[str, str]:
    deviation = f" ± {entry.deviation.mae:.2f}" if entry.deviation else ""
    return {
        "method": short(entry.name),
        "MAE": f"{entry.scores.mae:.2f}{deviation}",
        **({"95 % interval": "{:.2f} to {:.2f}".format(*entry.intervals.mae)} if entry.intervals else {}),
        **{name: f"{getattr(entry.scores, name):.2f}" for name in ("pitch", "yaw", "roll")},
        "target images": "yes" if entry.uses_target_images else "no",
    }
