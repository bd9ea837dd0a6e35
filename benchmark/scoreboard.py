"""Scores as entries, and the scoreboard: a folder of one JSON file an entry, and a page made of them."""

from __future__ import annotations

import html
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from benchmark import protocols, selection
from benchmark.metrics import scores
from benchmark.submission import read_submission
from headposeplus import __version__, shards, subsets
from headposeplus.errors import SubmissionError
from headposeplus.files import content_hash, read_json, sha256, write_json, write_text
from headposeplus.rotations import to_matrix

PAGE = "scoreboard.md"
_ABOUT = (
    "name", "authors", "link", "training_data", "selection", "uses_target_images", "batch_statistics",
    "initial_weights", "preset", "seed", "command", "commit",
)  # fmt: skip
_SCORES = ("mae", "pitch", "yaw", "roll", "geodesic")


def score(
    predictions: Path,
    data: Path,
    task: str | None = None,
    subset: str | None = None,
    manifest_file: Path | None = None,
    rule: str | None = None,
) -> dict[str, Any]:
    """Return the entry of a file of predictions on the Biwi+ of ``data``.

    ``task`` is ``da`` or ``pda``; if None, that of the TOML beside the predictions. With ``subset``, a name or a
    file of frames, only its frames count, under a protocol of their own; ``manifest_file`` lists the frames of a
    copy that is not the real one. ``rule`` takes the predictions of the epoch that another rule of selection finds
    (:mod:`benchmark.selection`), which needs what ``hpp benchmark`` leaves beside its predictions; where that holds
    predictions under other batch statistics, their scores come with the entry.

    Raises
    ------
    SubmissionError
        If the predictions are faulty or incomplete.
    DatasetError
        If there is no Biwi+, or the subset is unknown or has frames that Biwi+ lacks.
    """
    submission = read_submission(predictions)
    ids, every_truth = shards.read_labels(shards.open_dataset(data / "biwi+"))
    truth = every_truth
    task = protocols.find_task(task or str(submission.about.get("task", "")))
    protocol = protocols.for_test_set(task, ids, truth)
    chosen, about_subset = None, {}
    if subset is not None:
        found = subsets.find(subset, manifest_file)
        chosen = subsets.select(found, ids)
        truth = truth[chosen]
        protocol = protocols.narrowed(protocol, found, truth)
        about_subset = {"subset": {"name": found.name, "frames_sha256": found.sha256, "source": found.source}}
    rotations = protocols.aligned(submission, ids, protocol, predictions, chosen)
    selected = {}
    if rule is not None:
        epochs = selection.read_epochs(predictions.with_name(selection.EPOCHS))
        if epochs.ids.tolist() != ids.tolist():
            raise SubmissionError(
                f"{predictions.with_name(selection.EPOCHS)}: predictions on {len(epochs.ids)} frames that are not the "
                f"{len(ids)} of {data / 'biwi+'}; score them on the data that they were made on"
            )
        epoch, text = selection.find_epoch(rule, epochs, every_truth, protocol.convention)
        rotations = to_matrix(epochs.angles[epoch])[slice(None) if chosen is None else chosen]
        selected = {
            "selection": text,
            "selected_epoch": epoch + 1,
            "predictions_sha256": content_hash([sha256(predictions.with_name(selection.EPOCHS)), rule]),
        }
    statistics = {}
    for kind in ("source", "target") if rule is None else ():
        path = predictions.with_name(f"{predictions.stem}-{kind}.csv")
        if path.exists():
            other = protocols.aligned(read_submission(path), ids, protocol, path, chosen)
            statistics[kind] = {k: round(v, 4) for k, v in scores(other, truth, protocol.convention).items()}
    return {
        "protocol": protocol._asdict(),
        **about_subset,
        **{key: _plain(submission.about.get(key, "")) for key in _ABOUT},
        "predictions_sha256": sha256(predictions),
        **selected,
        "convention": protocol.convention,
        "camera": protocol.camera,
        **({"scores_of_other_statistics": statistics} if statistics else {}),
        "scores": {key: round(value, 4) for key, value in scores(rotations, truth, protocol.convention).items()},
        "toolkit": __version__,
    }


def _plain(value: object) -> object:
    """Return a value of the TOML as JSON can hold it: a date becomes text."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def add(folder: Path, entry: dict[str, Any]) -> Path:
    """Write an entry into the scoreboard's folder; the same predictions replace their older entry."""
    slug = re.sub(r"[^a-z0-9]+", "-", str(entry["name"]).lower()).strip("-")[:40] or "entry"
    protocol = re.sub(r"[^a-z0-9]+", "-", entry["protocol"]["id"].replace("+", "-plus").lower())
    path = folder / f"{protocol}-{slug}-{entry['predictions_sha256'][:8]}.json"
    write_json(path, entry)
    return path


def entries(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a scoreboard, best first within a protocol.

    Raises
    ------
    SubmissionError
        If the folder is missing, or a file in it is not an entry.
    """
    if not folder.is_dir():
        raise SubmissionError(f"{folder}: no such folder; add entries with hpp score ... --scoreboard {folder}")
    found = []
    for path in sorted(folder.glob("*.json")):
        entry = read_json(path, "an entry of the scoreboard")
        try:
            entry["scores"] = {key: float(entry["scores"][key]) for key in _SCORES}
            protocol = protocols.Protocol(**entry["protocol"])
            entry["protocol"] = protocol._replace(frames=int(protocol.frames))._asdict()
            if not isinstance(entry["uses_target_images"], bool):
                raise TypeError("uses_target_images")
            entry |= {key: str(entry[key]) for key in ("name", "training_data", "selection", "seed")}
        except (TypeError, KeyError, ValueError) as error:
            raise SubmissionError(f"{path}: not an entry of the scoreboard: {error!r} is wrong or missing") from error
        found.append(entry)
    return sorted(found, key=lambda e: (str(e["protocol"]["id"]), e["scores"]["mae"]))


def published() -> pd.DataFrame:
    """Return the published results, a row each, with the source of each."""
    with resources.as_file(resources.files("benchmark") / "published_results.csv") as path:
        return pd.read_csv(path, dtype={"n_images": "Int64"})


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
            "method": clean(e["name"]),
            "MAE": f"{e['scores']['mae']:.2f}",
            "pitch": f"{e['scores']['pitch']:.2f}",
            "yaw": f"{e['scores']['yaw']:.2f}",
            "roll": f"{e['scores']['roll']:.2f}",
            "geodesic": f"{e['scores']['geodesic']:.2f}",
            "MAE, source / target statistics": _other_statistics(e),
            "target images": "yes" if e["uses_target_images"] else "no",
            "selection": clean(e["selection"]),
            "trained on": clean(e["training_data"]),
            "convention": f"{clean(e['convention'])}, {clean(e['camera'])} camera",
            "seed": clean(e["seed"]),
        }
        for e in board
    ]
    return tabulate(rows, headers="keys", tablefmt=layout, disable_numparse=True)


def _other_statistics(entry: dict[str, Any]) -> str:
    found = entry.get("scores_of_other_statistics", {})
    try:
        return " / ".join(f"{float(found[kind]['mae']):.2f}" for kind in ("source", "target"))
    except (KeyError, TypeError, ValueError):
        return ""


def published_table(layout: str = "github") -> str:
    """Return the published rows of the two tasks as a table."""
    rows = published()
    rows = rows[rows["task"].isin(["da", "pda"]) & rows["test_set"].eq("Biwi+")]
    columns = {
        "task": rows["task"],
        "method": rows["method"],
        "MAE": rows["mae"].map("{:.2f}".format),
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


def build(folder: Path) -> Path:
    """Write the page of a scoreboard into its folder; return its path."""
    path = folder / PAGE
    write_text(path, page(entries(folder)))
    return path
