"""The scoreboard: a folder of one JSON file an entry with its predictions, and the pages made of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.board import site
from benchmark.board.markdown import PAGE, page
from benchmark.scoring import schema
from benchmark.scoring.submission import about_path
from headposeplus.errors import SubmissionError
from headposeplus.faults import said
from headposeplus.files import content_hash, write_json, write_text

PREDICTIONS = "predictions"
_MAX_ENTRY = 4 << 20  # bytes
_FINE = 2e-4  # between an entry and its predictions scored on another machine: numbers have four decimals
_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".npz")


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


def build(folder: Path) -> Path:
    """Write the pages of a scoreboard into its folder: Markdown, and HTML with a page an entry; return the Markdown."""
    board = entries(folder)
    site.build(folder, board)
    path = folder / PAGE
    write_text(path, page(board))
    return path
