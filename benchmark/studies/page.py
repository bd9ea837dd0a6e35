"""The page of a task's results: tables of errors, and the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.board.published import published_rows
from benchmark.scoring import selection
from benchmark.scoring.protocols import whole
from benchmark.studies.records import RunRecord, TaskRecords, read_record
from benchmark.training.presets import TASKS
from headposeplus import tables
from headposeplus.files import write_text
from headposeplus.rotations import ANGLES

RECORDS, PAGE, PICTURES = "records.json", "table.md", ("label_spaces", "curves")
_ON_SCREEN = ("method", "MAE", "pitch", "yaw", "roll", "target images", "MAE in the paper")
# The rows of the paper's Table 1 that a method's name stands for.
_PAPER = {
    ("da", "source-only"): "BaselineDA",
    ("pda", "source-only"): "BaselinePDA",
    ("da", "dann"): "DANN",
    ("pda", "dann"): "DANN",
    ("pda", "pada-like"): "PADA-like",
    ("da", "padaco"): "PADACO",
    ("pda", "padaco"): "PADACO",
}


def read_records(path: Path) -> TaskRecords:
    """Return what ``hpp reproduce`` has kept of a task; raises HeadposeError if it is not there."""
    return read_record(path, TaskRecords, "the records of hpp reproduce")


def spread(values: Sequence[float]) -> str:
    """Return a mean and its standard deviation (n - 1), as text."""
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{deviation}"


def best_first(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the records by their methods, that with the lowest mean MAE first."""
    runs: dict[str, list[RunRecord]] = {}
    for record in records:
        runs.setdefault(record.method, []).append(record)
    return dict(sorted(runs.items(), key=lambda item: np.mean([record.scores.mae for record in item[1]])))


def table(records: Sequence[RunRecord], task: str, layout: str = "github") -> str:
    """Return a row a method, best first: errors in degrees, mean ± standard deviation over the seeds."""
    return tables.table(_rows(records, task), layout)


def describe(results: Path) -> str:
    """Return the results in a folder for a terminal: what holds for all methods, and a row a method.

    Where whole rows are asked for, they are those of the page.
    """
    about = read_records(results / RECORDS)
    above = {
        "task": f"{about.task}: {TASKS[about.task]}",
        "protocol": ", ".join(sorted({record.protocol for record in about.records})),
        "preset": f"{about.preset}{_augmented(about)}",
        "data": _where(about),
        "seeds": ", ".join(map(str, about.seeds)),
        "convention": f"{whole(about.task).convention}, RGB camera",
    }
    rows = _rows(about.records, about.task)
    if tables.width() is not None:
        rows = [{name: row[name] for name in _ON_SCREEN if name in row} for row in rows]
        rows = [row | {name: row[name].partition(" ±")[0] for name in ANGLES} for row in rows]
    note = "Errors in degrees: means over the seeds, ± standard deviation (n - 1)."
    return f"{tables.pairs(above)}\n\n{tables.with_note(rows, note)}"


def _rows(records: Sequence[RunRecord], task: str) -> list[dict[str, str]]:
    real = all(record.protocol.startswith("biwi+/") for record in records)
    paper = {row.method: row.mae for row in published_rows() if "ICCV 2019 Table 1" in row.source and row.task == task}
    rows = []
    for method, runs in best_first(records).items():
        row = {"method": method, "MAE": spread([run.scores.mae for run in runs])}
        for name in ("pitch", "yaw", "roll", "geodesic"):
            row[name] = spread([getattr(run.scores, name) for run in runs])
        for kind in ("source", "target"):
            errors = [run.statistics[kind] for run in runs if kind in run.statistics]
            row[f"MAE, {kind} statistics"] = spread(errors) if errors else ""
        row["target images"] = "yes" if runs[0].uses_target_images else "no"
        if real:
            printed = paper.get(_PAPER.get((task, method), ""))
            row["MAE in the paper"] = "" if printed is None else f"{printed:.2f}"
        rows.append(row)
    return rows


def rules_table(records: Sequence[RunRecord], layout: str = "github") -> str:
    """Return a row a method: the MAE in degrees of the epoch that each rule of selection takes."""
    titles = {selection.OFFICIAL: "last (official)", selection.ORACLE: "oracle (sees the labels)"}
    rows = []
    for method, runs in best_first(records).items():
        errors = [run.rules for run in runs if run.rules]
        if errors:
            row = {titles.get(rule, rule): spread([error[rule] for error in errors]) for rule in errors[0]}
            rows.append({"method": method} | row)
    return tables.table(rows, layout)


def _augmented(about: TaskRecords) -> str:
    kind = about.options.get("augment")
    return f", augmentation {kind}" if kind else ""


def _where(about: TaskRecords) -> str:
    return f"a miniature of scale {about.miniature} for each seed" if about.miniature else "the data given"


def write_page(results: Path) -> Path:
    """Write the page of a folder of results from its records; return its path."""
    about = read_records(results / RECORDS)
    records = about.records
    changes = f" ({about.changes})" if about.changes else ""
    parts = [
        f"# {about.task}: {TASKS[about.task]}",
        f"Preset {about.preset}{changes}{_augmented(about)}, seeds {', '.join(map(str, about.seeds))}; "
        f"{_where(about)}; "
        f"{', '.join(sorted({record.device for record in records}))}, torch {about.torch}. Errors in degrees, "
        f"convention {whole(about.task).convention}, RGB camera: mean ± standard deviation (n - 1) over the seeds. The "
        "batch statistics are mixed, the running ones of training, unless a column says otherwise.",
        table(records, about.task),
        "## Selection\n\nThe MAE of the epoch that each rule takes.",
        rules_table(records),
    ]
    titles = (f"Label spaces, seed {about.seeds[0]}", "Training")
    for name, title in zip(PICTURES, titles, strict=True):
        if (results / f"{name}.png").exists():
            parts.append(f"## {title}\n\n![{title}]({name}.png)")
    protocols = sorted({record.protocol for record in records})
    parts.append(f"Protocols: {', '.join(f'`{protocol}`' for protocol in protocols)}.")
    path = results / PAGE
    write_text(path, "\n\n".join(parts) + "\n")
    return path
