"""Scores the entries of a scoreboard again, and says what they claim otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from msgspec import UNSET

from benchmark.board.entries import key, lacks_other_statistics, predictions_of, read_entry
from benchmark.scoring import protocols
from benchmark.scoring.entry import Entry, plain
from benchmark.scoring.label_files import LabelsAt
from benchmark.scoring.labels import Labels, read_labels
from benchmark.scoring.protocols import Protocol
from benchmark.scoring.score import score
from headposeplus.errors import DatasetError, HeadposeError, SubmissionError
from headposeplus.faults import Fault, unreadable
from headposeplus.files import listing, sha256
from headposeplus.raw import subsets
from headposeplus.raw.targets import of_protocol

AGAIN = "scored again"


_FINE = 2e-4  # between an entry and its predictions scored on another machine: numbers have four decimals
_COARSE = ("by", "quantiles")  # the fields whose numbers have three


class Verified(NamedTuple):
    """An entry's file, what is wrong with it, and whether its predictions were scored again, or why not."""

    path: Path
    faults: list[Fault]
    scored: str


def verify(folder: Path, labels: Path | LabelsAt | None) -> list[Verified]:
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
        expected = "expected a scoreboard, a folder of one JSON file an entry"
        raise SubmissionError(Fault("no such folder", expected, folder))

    @cache
    def truth(target: str | None) -> Labels | None:
        return read_labels(labels, target) if labels is not None else None

    return [_verified(path, folder, truth) for path in listing(folder, ".json")]


def _verified(path: Path, folder: Path, truth: Callable[[str | None], Labels | None]) -> Verified:
    try:
        entry = read_entry(path)
    except SubmissionError as error:
        return Verified(path, [error.fault._replace(file="")], "")
    files = predictions_of(folder, path.stem)
    faults = _false_claims(path, entry)
    try:
        hashes = tuple(sha256(file) for file in files)
    except OSError as error:
        return Verified(path, [*faults, unreadable(Path(error.filename), error)], "")
    if files and hashes != entry.predictions_sha256:
        return Verified(path, [*faults, Fault("the predictions beside it have other hashes than it says")], "")
    again, scored = _scored_again(files, entry, truth(of_protocol(entry.protocol.id)))
    return Verified(path, faults + again, scored)


def _false_claims(path: Path, entry: Entry) -> list[Fault]:
    """Return what an entry says that cannot be true."""
    faults, protocol, scores = [], entry.protocol, entry.scores
    if path.stem != key(entry):
        faults.append(Fault(f"the file of this entry is named {key(entry)}.json"))
    known = protocols.find_frozen(protocol.id)
    if protocol.sha256 != entry.protocol_sha256:
        faults.append(Fault("protocol_sha256 is not the hash of the protocol in it"))
    if known is not None and protocol != known:
        faults.append(Fault(f"its protocol {known.id} is not as it is frozen"))
    mean = (scores.pitch + scores.yaw + scores.roll) / 3
    if abs(mean - scores.mae) > _FINE:
        faults.append(Fault(f"its MAE {scores.mae} is not the mean of its three angles, {mean:.4f}"))
    return faults


def _scored_again(files: list[Path], entry: Entry, truth: Labels | None) -> tuple[list[Fault], str]:
    """Return what an entry says otherwise than its files of predictions, and whether they were scored or why not."""
    protocol = protocols.find_frozen(entry.protocol.id) or entry.protocol
    subset = None if entry.subset is UNSET else entry.subset.name
    # A subset's protocol is made anew from the whole one, whose id comes before the colon.
    whole = protocols.find_frozen(protocol.id.partition(":")[0]) if subset else protocol
    why_not = _why_not(files, whole, subset, truth)
    if why_not or truth is None:
        return [], why_not
    resamples, seed = entry.bootstrap.resamples, entry.bootstrap.seed
    ray = entry.ray is not UNSET and truth.dataset is not None  # other labels have no boxes
    try:
        again = score(files, truth, protocol.task, subset, None, None, whole, resamples, seed, ray).entry
    except DatasetError as error:  # the labels lack frames of the subset
        return [], str(error)
    except HeadposeError as error:
        return [error.fault._replace(what=f"its predictions cannot be scored: {error.fault.what}")], ""
    if again.protocol.id != protocol.id:
        return [], "the labels given are of another test set"
    # Which version scored it may differ.
    alone = lacks_other_statistics(entry, files)
    passed = {"toolkit", *(["scores_of_other_statistics"] if alone else []), *(["ray"] if again.ray is UNSET else [])}
    passed |= {"plain_angles"} if entry.plain_angles is UNSET else set()  # older ones do not tell them
    told = "no predictions beside it for its scores under other batch statistics" if alone else AGAIN
    return _differences(entry, again, passed), told


def _why_not(files: list[Path], whole: Protocol | None, subset: str | None, truth: Labels | None) -> str:
    """Return why an entry cannot be scored again; empty if it can."""
    if not files:
        return "no predictions beside it"
    if truth is None:
        return "no labels given"
    # A subset may be a file of its user, which is not opened because a stranger's entry says so.
    if subset is not None and not subsets.is_name(subset):
        return f"the frames of {subset[:80]} are not known here"
    return "" if whole is None or _fits(whole, truth) else "the labels given are of another test set"


def _fits(protocol: Protocol, truth: Labels) -> bool:
    try:
        protocols.reference(protocol, truth)
    except SubmissionError:
        return False
    return True


def _differences(entry: Entry, again: Entry, passed: set[str]) -> list[Fault]:
    """Return what an entry says otherwise than its predictions, scored again, but for the fields passed over."""
    claims, figures, faults = plain(entry), plain(again), []
    for name in sorted((set(claims) | set(figures)) - passed):
        most = 10 * _FINE if name in _COARSE else _FINE
        claim, figure = claims.get(name), figures.get(name)
        if not _same(claim, figure, most):
            said, gives = json.dumps(claim)[:60], json.dumps(figure)[:60]
            faults.append(Fault(f"{name} is {said}, but its predictions give {gives}"))
    return faults


def _same(a: object, b: object, most: float) -> bool:
    """Return whether plain values agree, fractions to ``most``."""
    if isinstance(a, dict) and isinstance(b, dict):
        return set(a) == set(b) and all(_same(a[name], b[name], most) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_same(x, y, most) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= most
    return bool(a == b)
