"""From files of predictions to an entry of the scoreboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace

from benchmark.scoring import protocols
from benchmark.scoring.check import Checked, check
from benchmark.scoring.choice import (
    Asked,
    by_parameter,
    choices,
    choose,
    decide,
    find_reference,
    named_protocol,
)
from benchmark.scoring.entry import SCHEMA, Entry, Subset, plain, to_bytes
from benchmark.scoring.evaluation import RESAMPLES, Comparison, Evaluation, compare, measure
from benchmark.scoring.figures import rounded
from benchmark.scoring.label_files import LabelsAt
from benchmark.scoring.labels import Labels, read_labels
from benchmark.scoring.protocols import Protocol, Reference
from benchmark.scoring.ray import ray_scores
from benchmark.scoring.seeds import DIGITS, check_seeds, other_statistics, selected
from benchmark.scoring.submission import (
    ABOUT,
    BLANK,
    NO_FACTS,
    POSES,
    About,
    about_fault,
    about_path,
    has_about,
    new_place,
    read_about,
    read_files,
    stop,
    template,
)
from headposeplus import __version__
from headposeplus.errors import ChoiceError, SubmissionError
from headposeplus.faults import Fault
from headposeplus.files import bytes_sha256, write_json, write_text
from headposeplus.poses.tables import read
from headposeplus.raw import subsets
from headposeplus.raw.targets import BIWI_PLUS, join_task, of_ids, of_protocol
from headposeplus.rotations import Floats

_NAMING = {(ABOUT, "protocol"), (ABOUT, "task")}  # the fields that name a protocol
_FEWER = 3  # decimals of the figures of frames and parts


class Outcome(NamedTuple):
    """What becomes of a submission: an entry, or the faults that keep it from one; and suspicions."""

    entry: Entry | None
    faults: list[Fault]
    suspicions: list[Fault]


class Scored(NamedTuple):
    """Files that were scored: the entry, what was scored on, and rotations (s, n, 3, 3).

    ``lacks`` are the fields that nobody said, without which a scoreboard takes no entry; ``found`` says how the
    protocol was found, where nobody named one; ``unused`` rows are of frames that the subset leaves out.
    """

    entry: Entry
    reference: Reference
    rotations: Floats
    lacks: tuple[str, ...] = ()
    found: str = ""
    unused: int = 0


class Found(NamedTuple):
    """What a check of files finds, and on what; ``lacks`` and ``found`` are those of :class:`Scored`."""

    checked: Checked
    reference: Reference
    lacks: tuple[str, ...]
    found: str


def assess(
    predictions: bytes,
    about: bytes,
    protocol: Protocol,
    labels: Labels,
    secret: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Outcome:
    """Return the entry of a submission, or its faults: the bytes of a table of predictions and of its TOML.

    Where the labels are ``secret``, they are used for the scores alone, and only if there is no fault.

    Raises
    ------
    SubmissionError
        If the labels are not the protocol's, or an entry cannot hold their parts; never for what is in the submission.
    """
    reference = protocols.reference(protocol, labels)
    checked = check(predictions, about, reference, secret)
    if checked.rotations is None:
        return Outcome(None, checked.faults, checked.suspicions)
    evaluation = measure(checked.rotations[None], reference, resamples, seed)
    entry = _entry(reference, [checked], evaluation, [bytes_sha256(predictions)])
    to_bytes(entry)  # what is stored can be read again
    return Outcome(entry, [], checked.suspicions)


def score(
    predictions: Path | Sequence[Path],
    labels: Path | LabelsAt | Labels,
    task: str | None = None,
    subset: str | None = None,
    manifest_file: Path | None = None,
    rule: str | None = None,
    protocol: str | Protocol | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    ray: bool = False,
    facts: About = NO_FACTS,
    for_board: bool = True,
) -> Scored:
    """Score a file of predictions, or several: those of the seeds of one method.

    ``labels`` is a folder of built datasets, a raw copy of stills, or a file of labels. ``protocol`` is an id or a
    file; if None, it is what the TOML beside the predictions names, or else that of ``task`` (``da``, ``pda``,
    ``cross``, or with a target other than Biwi+, ``pda-aflw2000``; None: the TOML's) on all the labels' frames, or the
    only one that fits (:mod:`benchmark.scoring.choice`). With ``subset``, a name or a file of frames, only its frames
    count, under a protocol of their own; ``manifest_file`` lists the frames of a copy that is not the real one.
    ``rule`` takes the predictions of the epoch that another rule of selection finds
    (:mod:`benchmark.scoring.selection`), which needs what ``hpp benchmark`` leaves beside its predictions; where that
    holds predictions under other batch statistics, their scores come with the entry. With ``ray`` so do those that are
    corrected for the viewing ray of each box (:mod:`benchmark.scoring.ray`).

    ``facts`` are what the TOML beside the predictions lacks, or all that it would say where there is none. Unless the
    entry is ``for_board``, the authors' words may be missing; :attr:`Scored.lacks` then names them.

    Raises
    ------
    ChoiceError
        If no protocol is named and several fit.
    SubmissionError
        If the predictions are faulty or incomplete, or the labels are not the protocol's.
    DatasetError
        If there are no labels, or the subset is unknown or has frames that they lack.
    """
    paths = [predictions] if isinstance(predictions, Path) else list(predictions)
    files = [read_files(path, facts) for path in paths]
    about, faults = read_about(files[0][1])
    asked = decide(paths[0], files[0], labels, Asked(protocol, task, subset, manifest_file, for_board))
    truth = asked.labels
    assert truth is not None
    try:
        reference = find_reference(about, truth, asked.task, asked.subset, manifest_file, asked.protocol)
    except SubmissionError as error:
        naming = [error.fault] if error.fault.file == ABOUT else []
        stop(paths[0], [fault for fault in faults if for_board or fault.kind != BLANK] or naming)
        raise
    checked = [check(*file, reference, for_board=for_board) for file in files]
    for path, checked_file in zip(paths, checked, strict=True):
        stop(path, [fault._replace(mend=by_parameter(fault.mend, facts)) for fault in checked_file.faults])
    hashes = [bytes_sha256(data) for data, _ in files]
    check_seeds(paths, checked, hashes, for_board)
    rotations = np.stack([file.rotations for file in checked if file.rotations is not None])
    chosen = None if rule is None else selected(rule, paths, truth, reference)
    if chosen is not None:
        rotations, hashes = chosen.rotations, [chosen.sha256]
    evaluation = measure(rotations, reference, resamples, seed)
    entry = _entry(reference, checked, evaluation, hashes)
    if chosen is not None:
        entry = replace(entry, selection=chosen.rule, selected_epoch=chosen.epoch)
    elif len(paths) == 1:
        entry = replace(entry, scores_of_other_statistics=other_statistics(paths[0], reference))
    if ray:
        entry = replace(entry, ray=rounded(ray_scores(rotations, reference), DIGITS))
    return Scored(entry, reference, rotations, _lacking(faults), asked.found, sum(file.unused for file in checked))


def entry_path(predictions: Path, rule: str | None) -> Path:
    """Return where the entry of predictions lies: ``score.json`` beside them, after the rule that chose the epoch."""
    # hpp benchmark leaves one file of predictions in a folder; others may have several there.
    name = predictions.with_suffix("").with_suffix("").name
    stem = "score" if name == "predictions" else f"{name}-score"
    return predictions.with_name(f"{stem}-{rule}.json" if rule else f"{stem}.json")


def write_entry(path: Path, entry: Entry, lacks: Sequence[str] = ()) -> None:
    """Write an entry as a scoreboard keeps it, whether or not one can hold it.

    Fields that it ``lacks`` are left out: no scoreboard takes the file for an entry then, and its figures are there.
    """
    write_json(path, {name: value for name, value in plain(entry).items() if name not in lacks})


def check_files(
    predictions: Path,
    labels: Path | LabelsAt | None,
    protocol: str | None = None,
    task: str | None = None,
    subset: str | None = None,
    manifest_file: Path | None = None,
    facts: About = NO_FACTS,
) -> Found:
    """Return everything that is wrong with a file of predictions, and what it was checked against.

    The arguments are those of :func:`score`; ``labels`` may be None. Where no TOML is there, what one would say of the
    authors is not missed.

    Raises
    ------
    SubmissionError
        If the predictions are missing or too large, the facts are not the TOML's, or the protocol is unknown.
    DatasetError
        If there are no labels, or the subset is unknown or has frames that they lack.
    """
    files = read_files(predictions, facts)
    about, faults = read_about(files[1])
    asked, told = _asked(predictions, files, labels, Asked(protocol, task, subset, manifest_file))
    truth, subset = asked.labels, asked.subset
    wanted = asked.task or about.task or ""
    known = protocols.find(asked.protocol) if isinstance(asked.protocol, str) else None
    if not (told or asked.protocol or asked.task):
        # What a TOML says wrongly of its protocol is a fault like others, and does not hide them.
        try:
            known = named_protocol(about)
        except SubmissionError as error:
            mend = f"{protocols.hint(about.protocol or '')}hpp protocols lists them"
            told = [about_fault("protocol", error.fault.what, mend)]
        if truth is not None and wanted == "intra" and not about.protocol:
            told = [about_fault("task", "intra is the task of many protocols", "name one: hpp protocols lists them")]
    wanted = "cross" if told and not asked.task else wanted
    if truth is not None:
        reference = protocols.reference(known, truth, wanted or "cross", subset, manifest_file)
    else:
        few = subsets.find(subset, manifest_file) if subset else None
        reference = protocols.without_labels(known or protocols.whole(wanted), few)
    for_board = has_about(predictions)
    checked = check(*files, reference, for_board=for_board)
    if told:
        # Frames and labels were not those that are meant.
        kept = [fault for fault in checked.faults if (fault.file, fault.field) not in _NAMING]
        checked = checked._replace(faults=told + kept, rotations=None)
    return Found(checked, reference, () if for_board else _lacking(faults), asked.found)


def _asked(
    path: Path, files: tuple[bytes, bytes], labels: Path | LabelsAt | None, asked: Asked
) -> tuple[Asked, list[Fault]]:
    """Return what a check is asked for, and the fault of a protocol that nobody named where several fit."""
    try:
        return decide(path, files, labels, asked), []
    except ChoiceError as error:
        told = [about_fault("protocol", error.fault.what, "; ".join(error.lines) or error.fault.mend)]
    except SubmissionError as error:
        if error.fault.file not in (path, about_path(path)):
            raise
        told = []  # the check tells it, with all else that is wrong
    target = of_ids(read(files[0], "").ids)
    truth = None if labels is None else read_labels(labels, target)
    return asked._replace(labels=truth, task=join_task("cross", target or BIWI_PLUS) if told else None), told


def _lacking(faults: list[Fault]) -> tuple[str, ...]:
    """Return which of the authors' words are missing, from the faults of a TOML."""
    return tuple(fault.field for fault in faults if fault.kind == BLANK and fault.field not in POSES)


def check_record(checked: Checked, reference: Reference) -> dict[str, object]:
    """Return what a check found as plain values."""
    return {
        "protocol": reference.protocol.id,
        "faults": [fault.to_json() for fault in checked.faults],
        "suspicions": [fault.to_json() for fault in checked.suspicions],
    }


class Template(NamedTuple):
    """The id of a template's protocol, the path of its TOML, and the number of its frames."""

    protocol: str
    about: Path
    frames: int


def write_template(
    protocol: str | None,
    labels: Path | LabelsAt | None,
    out: Path,
    subset: str | None = None,
    manifest_file: Path | None = None,
) -> Template:
    """Write the template of a submission: a CSV to ``out`` and a TOML beside it.

    With ``subset`` only its frames are in it, as :func:`score` takes them.

    Raises
    ------
    ChoiceError
        If no protocol is named: it lists those of the labels' frames, or of all known ones.
    SubmissionError
        If the frames are not known without labels, or a file is there already.
    """
    truth = None if labels is None else read_labels(labels, of_protocol(protocol or ""))
    if protocol is None:
        protocol = choose([one for one in choices(None, truth, subset) if one.protocol]).protocol
    known = protocols.find(protocol)
    ids = protocols.frames_of(known) if truth is None else protocols.reference(known, truth).ids
    if subset and ids is not None:
        ids = ids[subsets.select(subsets.find(subset, manifest_file), ids)]
    if ids is None:
        raise SubmissionError(Fault("only its test set knows its frames", "give `data` or `labels`", protocol))
    toml = new_place(out, "a template")
    rows, about = template(known, ids)
    write_text(toml, about)
    write_text(out, rows)
    return Template(protocol, toml, len(ids))


def compare_files(
    first: Sequence[Path],
    second: Sequence[Path],
    labels: Path | LabelsAt,
    protocol: str | None,
    resamples: int,
    seed: int,
    subset: str | None = None,
    manifest_file: Path | None = None,
    facts: About = NO_FACTS,
) -> Comparison:
    """Return the paired difference of two methods, each given by the files of its seeds.

    The other arguments are those of :func:`score`; the facts are those of both.

    Raises
    ------
    ChoiceError
        If no protocol is named and several fit.
    SubmissionError
        If any file is faulty.
    DatasetError
        If there are no labels.
    """
    asked = decide(
        first[0], read_files(first[0], facts), labels, Asked(protocol, None, subset, manifest_file, for_board=False)
    )
    truth, given = asked.labels, (asked.task, asked.subset, manifest_file, None, asked.protocol, 0)
    assert truth is not None
    a, b = (score(paths, truth, *given, facts=facts, for_board=False) for paths in (first, second))
    if a.reference.protocol.id != b.reference.protocol.id:
        what = f"scored under {b.reference.protocol.id}, but {first[0]} under {a.reference.protocol.id}"
        raise SubmissionError(Fault(what, "name the protocol of both with `protocol`", second[0]))
    return compare(a.rotations, b.rotations, a.reference, resamples, seed)


def _entry(reference: Reference, checked: list[Checked], evaluation: Evaluation, hashes: list[str]) -> Entry:
    """Return the entry of files; its figures have four decimals, those of frames and parts three."""
    about, protocol, few = checked[0].about, reference.protocol, reference.subset
    figures = rounded(evaluation, DIGITS)
    return Entry(
        schema=SCHEMA,
        protocol=protocol,
        protocol_sha256=protocol.sha256,
        name=about.name or "",
        authors=about.authors or "",
        link=about.link or "",
        training_data=about.training_data or "",
        selection=about.selection or "",
        uses_target_images=bool(about.uses_target_images),
        notes=about.notes or "",
        batch_statistics=about.batch_statistics or "",
        initial_weights=about.initial_weights or "",
        preset=about.preset or "",
        preset_changes=about.preset_changes or UNSET,
        augment=about.augment or UNSET,
        code=about.code or UNSET,
        date=about.date or UNSET,
        command=about.command or "",
        commit=about.commit or "",
        seeds=tuple(file.about.seed for file in checked),
        predictions_sha256=tuple(hashes),
        convention=protocol.convention,
        camera=protocol.camera,
        scores=figures.scores,
        deviation=figures.deviation,
        scores_of_seeds=figures.scores_of_seeds,
        intervals=figures.intervals,
        bootstrap=figures.bootstrap,
        vectors=figures.vectors,
        conventions=figures.conventions,
        plain_angles=figures.plain_angles,
        distribution=figures.distribution,
        quantiles=rounded(evaluation.quantiles, _FEWER),
        by=rounded(evaluation.by, _FEWER),
        suspicions=tuple(f"{fault.what}; {fault.mend}" for file in checked for fault in file.suspicions),
        toolkit=__version__,
        subset=UNSET if few is None else Subset(few.name, few.sha256, few.source),
    )
