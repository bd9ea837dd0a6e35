"""The scoreboard as Markdown: the entries of each protocol as a table, and the published rows."""

from __future__ import annotations

import html
from typing import Any

from tabulate import tabulate

from benchmark.board.published import published

PAGE = "scoreboard.md"


def _text(value: object) -> str:
    """Return a string that is plain text in Markdown: entries may come from anyone."""
    return (
        html.escape(" ".join(str(value).split())[:120])
        .replace("|", "&#124;")
        .replace("[", "&#91;")
        .replace("]", "&#93;")
    )


def table(board: list[dict[str, Any]], layout: str = "github") -> str:
    """Return the entries of one protocol as a table."""
    clean = _text if layout == "github" else str
    rows = [
        {
            "method": clean(e["name"]) + (" (looks odd)" if e["suspicions"] else ""),
            "MAE": _with_deviation(e, "mae"),
            "95 % interval": "{:.2f} to {:.2f}".format(*e["intervals"]["mae"]) if e["intervals"] else "",
            **{name: _with_deviation(e, name) for name in ("pitch", "yaw", "roll", "geodesic", "maev")},
            "MAE, source / target statistics": _other_statistics(e),
            "target images": "yes" if e["uses_target_images"] else "no",
            "selection": clean(e["selection"]),
            "trained on": clean(e["training_data"]),
            "convention": f"{clean(e['convention'])}, {clean(e['camera'])} camera",
            "seeds": ", ".join("?" if seed is None else str(seed) for seed in e["seeds"]),
        }
        for e in board
    ]
    return tabulate(rows, headers="keys", tablefmt=layout, disable_numparse=True)


def _with_deviation(entry: dict[str, Any], name: str) -> str:
    deviation = f" ± {entry['deviation'][name]:.2f}" if entry["deviation"] else ""
    return f"{entry['scores'][name]:.2f}{deviation}"


def _other_statistics(entry: dict[str, Any]) -> str:
    found = entry.get("scores_of_other_statistics", {})
    return " / ".join(f"{found[kind]['mae']:.2f}" for kind in ("source", "target")) if len(found) == 2 else ""


def published_table(layout: str = "github") -> str:
    """Return the published rows of the two tasks as a table."""
    rows = published()
    rows = rows[rows["task"].isin(["da", "pda"]) & rows["test_set"].eq("Biwi+")]
    columns = {
        "task": rows["task"],
        "method": rows["method"],
        "MAE": rows["mae"].map("{:.2f}".format) + rows["as_printed"].map({True: " (as printed)", False: ""}),
        "pitch": rows["pitch"].map("{:.2f}".format),
        "yaw": rows["yaw"].map("{:.2f}".format),
        "roll": rows["roll"].map("{:.2f}".format),
        "target images": rows["transductive"],
        "trained on": rows["train_set"],
        "convention": rows["convention"]
        + ", "
        + rows["labels"].map({"rgb-calibrated": "rgb camera", "depth-camera": "depth camera"}),
        "images": rows["n_images"].map("{:,}".format),
        "source": rows["source"],
    }
    return tabulate(columns, headers="keys", tablefmt=layout, disable_numparse=True)


def page(board: list[dict[str, Any]]) -> str:
    """Return the scoreboard as Markdown: a table for each protocol, then the published rows."""
    parts = ["# Scoreboard", "", "Errors in degrees. Scores compare within one protocol only."]
    for protocol_id in dict.fromkeys(e["protocol"]["id"] for e in board):
        mine = [e for e in board if e["protocol"]["id"] == protocol_id]
        protocol = mine[0]["protocol"]
        facts = f"{protocol['frames']:,} test frames. The official selection: {_text(protocol['selection'])}."
        parts += ["", f"## {_text(protocol_id)}", "", f"{_text(protocol['title'])}. {facts}", "", table(mine)]
    note = "From the papers and repositories named; not comparable with scores on other data."
    parts += ["", "## Published on the real Biwi+", "", note, "", published_table()]
    return "\n".join(parts) + "\n"
