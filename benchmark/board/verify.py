"""Scores the entries of a scoreboard again, and says what they claim otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.board.entries import _FINE, _SUFFIXES, PREDICTIONS, key, read_entry
from benchmark.scoring import protocols
from benchmark.scoring.labels import Labels, read_labels
from benchmark.scoring.score import score_files
from headposeplus.errors import DatasetError, HeadposeError, SubmissionError
from headposeplus.files import sha256
from headposeplus.raw import subsets
from headposeplus.rotations import ANGLES

AGAIN = "scored again"


class Verified(NamedTuple):
    """An entry's file, what is wrong with it, and whether its predictions were scored again, or why not."""

    path: Path
    faults: list[str]
    scored: str


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
