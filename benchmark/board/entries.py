"""The scoreboard: a folder of one JSON file an entry with its predictions, and the pages made of them."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from benchmark.board import site
from benchmark.board.published import published
from benchmark.scoring import protocols, schema
from benchmark.scoring.labels import Labels, read_labels
from benchmark.scoring.score import score_files
from benchmark.scoring.submission import about_path
from headposeplus.errors import DatasetError, HeadposeError, SubmissionError
from headposeplus.files import content_hash, sha256, write_json, write_text
from headposeplus.poses.tables import said
from headposeplus.raw import subsets
from headposeplus.rotations import ANGLES

PAGE = "scoreboard.md"
PREDICTIONS = "predictions"
AGAIN = "scored again"
_MAX_ENTRY = 4 << 20  # bytes
_FINE = 2e-4  # between an entry and its predictions scored on another machine: numbers have four decimals
_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".npz")


class Verified(NamedTuple):
    """An entry's file, what is wrong with it, and whether its predictions were scored again, or why not."""

    path: Path
    faults: list[str]
    scored: str


def key(entry: dict[str, Any]) -> str:
    """Return the name of an entry's file and page: its protocol, its name, and a hash of its predictions."""
    slug = re.sub(r"[^a-z0-9]+", "-", str(entry["name"]).lower()).strip("-")[:40] or "entry"
    protocol = re.sub(r"[^a-z0-9]+", "-", entry["protocol"]["id"].replace("+", "-plus").lower()).strip("-")[:100]
    hashes = entry["predictions_sha256"]
    return f"{protocol or 'protocol'}-{slug}-{(hashes[0] if len(hashes) == 1 else content_hash(hashes))[:8]}"


def add(folder: Path, entry: dict[str, Any], predictions: Sequence[Path] = ()) -> Path:
    """Write an entry into the scoreboard's folder; the same predictions under the same name replace their older entry.

    ``predictions`` are copied beside it, a file a seed with its TOML, so that anyone can score them again.

    Raises
    ------
    SubmissionError
        If it does not fit the schema: whoever builds the board next could not read it.
    """
    wrong = schema.fault(entry)
    if wrong:
        raise SubmissionError(f"{entry['name']!r} does not fit a scoreboard: {wrong}")
    path = folder / f"{key(entry)}.json"
    kept = folder / PREDICTIONS / path.stem
    for place, file in enumerate(predictions):
        kept.mkdir(parents=True, exist_ok=True)
        suffix = next((one for one in reversed(_SUFFIXES) if file.name.endswith(one)), ".csv")
        if file.resolve().parent != kept.resolve():  # else they are there already
            shutil.copyfile(file, kept / f"{place:02}{suffix}")
            shutil.copyfile(about_path(file), kept / f"{place:02}.toml")
    write_json(path, entry)
    return path


def read_entry(path: Path) -> dict[str, Any]:
    """Return the entry in a file, checked against ``entry.schema.json``.

    Raises
    ------
    SubmissionError
        If it is no entry: the field that is wrong is named.
    """

    def refused(name: str) -> float:
        raise ValueError(f"{name} is no number")

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_ENTRY + 1)
        if len(data) > _MAX_ENTRY:
            raise ValueError(f"more than {_MAX_ENTRY:,} bytes")
        entry = json.loads(data.decode("utf-8"), parse_constant=refused)
        wrong = schema.fault(entry)
    except (OSError, ValueError, RecursionError) as broken:
        raise SubmissionError(f"{path}: not an entry of the scoreboard: {said(broken, 200)}") from broken
    if wrong:
        raise SubmissionError(f"{path}: not an entry of the scoreboard: {wrong}")
    return dict(entry)


def entries(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a scoreboard, best first within a protocol; each has its ``key``.

    Raises
    ------
    SubmissionError
        If the folder is missing, or a file in it is not an entry.
    """
    if not folder.is_dir():
        raise SubmissionError(
            f"{folder}: no such folder; add entries with hpp scoreboard add ... --scoreboard {folder}"
        )
    found = [{**read_entry(path), "key": path.stem} for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda entry: (str(entry["protocol"]["id"]), entry["scores"]["mae"]))


def verify(folder: Path, labels: Path | None) -> list[Verified]:
    """Return what is wrong with each entry of a scoreboard; its predictions are scored again where that can be done.

    An entry must fit the schema, lie in a file of its own name, and be about a protocol as it is frozen. Its
    predictions must have the hashes that it says, and score what it says, under ``labels`` if those are its protocol's.

    Raises
    ------
    SubmissionError
        If the folder is missing.
    DatasetError
        If there are no labels.
    """
    if not folder.is_dir():
        raise SubmissionError(f"{folder}: no such folder; expected a scoreboard, a folder of one JSON file an entry")
    truth = read_labels(labels) if labels is not None else None
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            entry = read_entry(path)
        except SubmissionError as error:
            found.append(Verified(path, [str(error).partition(": ")[2]], ""))
            continue
        faults, scored = _scored_again(folder / PREDICTIONS / path.stem, entry, truth)
        found.append(Verified(path, _wrong_claims(path, entry) + faults, scored))
    return found


def _wrong_claims(path: Path, entry: dict[str, Any]) -> list[str]:
    """Return what an entry says that cannot be true."""
    faults = []
    if path.stem != key(entry):
        faults.append(f"the file of this entry is named {key(entry)}.json")
    protocol = protocols.Protocol(**entry["protocol"])
    known = protocols.find_frozen(protocol.id)
    if protocol.sha256 != entry["protocol_sha256"]:
        faults.append("protocol_sha256 is not the hash of the protocol in it")
    if known is not None and protocol != known:
        faults.append(f"its protocol {known.id} is not as it is frozen")
    mean = sum(entry["scores"][name] for name in ANGLES) / 3
    if abs(mean - entry["scores"]["mae"]) > _FINE:
        faults.append(f"its MAE {entry['scores']['mae']} is not the mean of its three angles, {mean:.4f}")
    return faults


def _scored_again(folder: Path, entry: dict[str, Any], truth: Labels | None) -> tuple[list[str], str]:
    """Return what an entry says otherwise than the predictions in a folder, and whether they were scored or why not."""
    files = [file for file in sorted(folder.glob("*")) if file.name.endswith(_SUFFIXES)]
    if files and [sha256(file) for file in files] != entry["predictions_sha256"]:
        return ["the predictions beside it have other hashes than it says"], ""
    claimed, subset = protocols.Protocol(**entry["protocol"]), entry.get("subset", {}).get("name")
    protocol = protocols.find_frozen(claimed.id) or claimed
    why_not = _why_not(files, protocol, subset, truth)
    if why_not or truth is None:
        return [], why_not
    bootstrap = entry["bootstrap"]
    # A subset's protocol is made anew from the whole one, whose id comes before the colon.
    given = protocols.find_frozen(protocol.id.partition(":")[0]) if subset else protocol
    try:
        again = score_files(
            files, truth, protocol.task, subset, None, None, given, bootstrap["resamples"], bootstrap["seed"]
        ).entry
    except DatasetError as error:  # the labels lack frames of the subset
        return [], str(error)
    except HeadposeError as error:
        return [f"its predictions cannot be scored: {error}"], ""
    if again["protocol"]["id"] != protocol.id:
        return [], "the labels given are of another test set"
    return _differences(entry, again), AGAIN


def _why_not(files: list[Path], protocol: protocols.Protocol, subset: str | None, truth: Labels | None) -> str:
    """Return why an entry cannot be scored again; empty if it can."""
    if not files:
        return "no predictions beside it"
    if truth is None:
        return "no labels given"
    # A subset may be a file of its user, which is not opened because a stranger's entry says so.
    if subset is not None and subset not in subsets.names():
        return f"the frames of {subset[:80]} are not known here"
    return "" if subset or _fits(protocol, truth) else "the labels given are of another test set"


def _fits(protocol: protocols.Protocol, truth: Labels) -> bool:
    try:
        protocols.reference(protocol, truth)
    except SubmissionError:
        return False
    return True


def _differences(entry: dict[str, Any], again: dict[str, Any]) -> list[str]:
    """Return what an entry says otherwise than its predictions, scored again."""
    found = []
    for name in sorted(set(entry) | set(again)):
        # Which version scored it may differ; other statistics come from files that are not on the board.
        if name in ("toolkit", "scores_of_other_statistics"):
            continue
        most = _FINE if name not in ("by", "quantiles") else 10 * _FINE  # they have a digit less
        if not _same(entry.get(name), again.get(name), most):
            shown = [json.dumps(one.get(name))[:60] for one in (entry, again)]
            found.append(f"{name} is {shown[0]}, but its predictions give {shown[1]}")
    return found


def _same(a: Any, b: Any, most: float) -> bool:
    """Return whether plain values agree, fractions to ``most``."""
    if isinstance(a, dict) and isinstance(b, dict):
        return set(a) == set(b) and all(_same(a[name], b[name], most) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_same(x, y, most) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(b, int | float) and isinstance(a, int | float) and abs(a - b) <= most
    return bool(a == b)


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


def build(folder: Path) -> Path:
    """Write the pages of a scoreboard into its folder: Markdown, and HTML with a page an entry; return the Markdown."""
    board = entries(folder)
    site.build(folder, board)
    path = folder / PAGE
    write_text(path, page(board))
    return path
