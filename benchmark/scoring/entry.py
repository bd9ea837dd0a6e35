"""An entry of the scoreboard: what was scored, under which protocol, what its authors say of it, and its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from benchmark.scoring import parse
from benchmark.scoring.figures import (
    AngleErrors,
    Bootstrap,
    Conventions,
    Degrees,
    Distribution,
    Figures,
    Intervals,
    Parts,
    Quantiles,
    Scores,
    Seed,
    Vectors,
)
from benchmark.scoring.protocols import Camera, Convention, Protocol, Sha256
from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault, said, shown

SCHEMA: Literal[1] = 1
MAX_BYTES = 4 << 20
_LINK = r"^(https?://[^\s<>\"'\\]+)?$"
_ONE_OR_MORE = Meta(min_length=1, max_length=100)

Text80 = Annotated[str, Meta(max_length=80)]
Text200 = Annotated[str, Meta(max_length=200)]
Text300 = Annotated[str, Meta(max_length=300)]
Text2000 = Annotated[str, Meta(max_length=2_000)]


class Subset(Struct, frozen=True, forbid_unknown_fields=True):
    """The frames of the test set that counted, where not all did."""

    name: Text200
    frames_sha256: Sha256
    source: Text2000


class OtherStatistics(Figures, frozen=True):
    """The scores of the same model under the batch statistics of one domain alone."""

    source: Scores | UnsetType = UNSET
    target: Scores | UnsetType = UNSET


class Entry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry, field by field as its file holds it.

    Texts from ``name`` to ``commit`` are the authors' words; ``toolkit`` is the version that scored. ``deviation`` is
    over the seeds, None for one; ``intervals`` are None for one subject. What is unset is not in the file:
    ``selected_epoch`` where no rule of selection took it, ``subset`` where all frames counted, ``preset_changes`` where
    the authors name none, ``code`` and ``date`` where they give none,
    ``augment`` where they do not say how training images were augmented, ``ray`` where nobody
    asked for the scores with the viewing ray (:mod:`benchmark.scoring.ray`), by which nothing is ranked, and
    ``plain_angles``, the errors of angles that are wrapped at 180 and no more, in entries from before they were told.
    ``quantiles`` and ``distribution`` are always in it; only the service takes them out of what it shows.
    """

    schema: Literal[1]
    protocol: Protocol
    protocol_sha256: Sha256
    name: Annotated[str, Meta(min_length=1, max_length=80)]
    authors: Text300
    link: Annotated[str, Meta(max_length=300, pattern=_LINK)]
    training_data: Text200
    selection: Text200
    uses_target_images: bool
    notes: Text2000 = ""
    batch_statistics: Text80 = ""
    initial_weights: Annotated[str, Meta(max_length=400)] = ""
    preset: Text80 = ""
    preset_changes: Text2000 | UnsetType = UNSET
    augment: Text80 | UnsetType = UNSET
    code: Annotated[str, Meta(max_length=300, pattern=_LINK)] | UnsetType = UNSET
    date: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$")] | UnsetType = UNSET
    command: Annotated[str, Meta(max_length=4_000)] = ""
    commit: Text80 = ""
    seeds: Annotated[tuple[Seed | None, ...], _ONE_OR_MORE]
    predictions_sha256: Annotated[tuple[Sha256, ...], _ONE_OR_MORE]
    convention: Convention
    camera: Camera
    scores: Scores
    deviation: Scores | None
    scores_of_seeds: Annotated[tuple[Scores, ...], _ONE_OR_MORE]
    intervals: Intervals | None
    bootstrap: Bootstrap
    vectors: Vectors
    conventions: Conventions
    distribution: Distribution | UnsetType
    quantiles: Quantiles | UnsetType
    by: Parts
    suspicions: Annotated[tuple[Annotated[str, Meta(max_length=1_000)], ...], Meta(max_length=100)]
    toolkit: Annotated[str, Meta(pattern="^[0-9A-Za-z.+-]{1,40}$")]
    scores_of_other_statistics: OtherStatistics | UnsetType = UNSET
    ray: Scores | UnsetType = UNSET
    plain_angles: AngleErrors | UnsetType = UNSET
    selected_epoch: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    subset: Subset | UnsetType = UNSET

    def mae_of_other_statistics(self) -> dict[str, float]:
        """Return the MAE under the batch statistics of ``source`` and ``target`` alone, where they are known."""
        other = self.scores_of_other_statistics
        both = {} if other is UNSET else {"source": other.source, "target": other.target}
        return {kind: scores.mae for kind, scores in both.items() if scores is not UNSET}


class ToldScore(Figures, frozen=True):
    """The only score that is told of an entry while its challenge is open."""

    mae: Degrees


class Headline(Struct, frozen=True, kw_only=True):
    """What an entry tells while its challenge is open: its authors' words, and one figure.

    That is the MAE on the public part of the subjects, rounded to ``step`` degrees; where the entry is no step
    better than the best of its submitter that was told before, that one again, and ``improved`` is False.
    """

    protocol: Protocol
    protocol_sha256: Sha256
    name: str
    authors: str
    link: str
    training_data: str
    selection: str
    uses_target_images: bool
    notes: str
    batch_statistics: str
    initial_weights: str
    preset: str
    preset_changes: str | UnsetType
    augment: str | UnsetType
    code: str | UnsetType
    date: str | UnsetType
    command: str
    commit: str
    seeds: tuple[Seed | None, ...]
    predictions_sha256: tuple[Sha256, ...]
    convention: Convention
    camera: Camera
    toolkit: str
    scores: ToldScore
    step: float
    improved: bool


class PartErrors(Struct, frozen=True):
    """The MAE on the public and on the private part of the subjects; None where there is no private part."""

    public: Degrees
    private: Degrees | None


class Listed(NamedTuple):
    """An entry on a board, with the key that names its file and its page.

    ``unverified`` is why nobody can score it again; empty where that can be done. ``parts`` are known of the entries of
    a challenge that is closed: the private one decides their order. ``team`` is who sent it, by the name that its token
    was given; empty where nobody needed one. ``day`` is when a service scored it.
    """

    key: str
    entry: Entry
    unverified: str = ""
    parts: PartErrors | None = None
    team: str = ""
    day: str = ""


class ListedHeadline(NamedTuple):
    """An entry on the board of an open challenge, and the team that sent it."""

    key: str
    entry: Headline
    team: str = ""
    day: str = ""


def read(data: bytes, file: Path | str = "") -> Entry:
    """Return the entry that some bytes hold.

    Raises
    ------
    SubmissionError
        If they hold none: the field that is wrong is named.
    """
    return parse.from_json(data, Entry, MAX_BYTES, "not an entry of the scoreboard", file=file)


def plain(entry: Entry) -> dict[str, object]:
    """Return an entry as plain values, in the order of its file."""
    return msgspec.to_builtins(entry)


def to_bytes(entry: Entry) -> bytes:
    """Return an entry as its file holds it.

    Raises
    ------
    SubmissionError
        If :func:`read` would refuse it: whoever builds the board next could not read it.
    """
    wrong = f"{shown(entry.name)} does not fit a scoreboard"
    unsaid = [name for name in ("authors", "training_data", "selection") if not getattr(entry, name).strip()]
    if unsaid:
        raise SubmissionError(Fault(f"{wrong}: nothing says its {', '.join(unsaid)}"))
    try:
        data = (json.dumps(plain(entry), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except ValueError as error:  # half of a surrogate pair, for instance
        raise SubmissionError(Fault(f"{wrong}: {said(error, 200)}")) from error
    parse.from_json(data, Entry, MAX_BYTES, wrong)
    return data


def json_schema() -> dict[str, object]:
    """Return what an entry's file must hold, as a JSON Schema (draft 2020-12)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Entry)}
