"""From files of predictions to an entry of the scoreboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from benchmark.scoring import protocols, selection
from benchmark.scoring.check import Checked, check
from benchmark.scoring.entry import SCHEMA, Entry, OtherStatistics, Subset, plain, to_bytes
from benchmark.scoring.evaluation import RESAMPLES, Comparison, Evaluation, compare, measure
from benchmark.scoring.figures import rounded
from benchmark.scoring.label_files import LabelsAt
from benchmark.scoring.labels import Labels, read_labels
from benchmark.scoring.metrics import scores
from benchmark.scoring.protocols import Protocol, Reference
from benchmark.scoring.ray import ray_scores
from benchmark.scoring.submission import (
    ABOUT,
    About,
    about_fault,
    about_path,
    new_place,
    of_other_statistics,
    read_about,
    read_files,
    stop,
    template,
)
from headposeplus import __version__
from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault
from headposeplus.files import bytes_sha256, content_hash, sha256, write_json, write_text
from headposeplus.raw import subsets
from headposeplus.raw.targets import of_protocol, split_task
from headposeplus.rotations import Floats, to_matrix

# What several seeds of one method have in common.
_SAME = ("name", "authors", "training_data", "selection", "uses_target_images", "preset", "preset_changes", "augment")
_NAMING = {(ABOUT, "protocol"), (ABOUT, "task")}  # the fields that name a protocol
_DIGITS, _FEWER = 4, 3


class Outcome(NamedTuple):
    """What becomes of a submission: an entry, or the faults that keep it from one; and suspicions."""

    entry: Entry | None
    faults: list[Fault]
    suspicions: list[Fault]


class Scored(NamedTuple):
    """Files that were scored: the entry, what was scored on, and rotations (s, n, 3, 3)."""

    entry: Entry
    reference: Reference
    rotations: Floats


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
) -> Scored:
    """Score a file of predictions, or several: those of the seeds of one method.

    ``labels`` is a folder of built datasets, a raw copy of stills, or a file of labels. ``protocol`` is an id or a
    file; if None, it is what the TOML beside the predictions names, or else that of ``task`` (``da``, ``pda``,
    ``cross``, or with a target other than Biwi+, ``pda-aflw2000``; None: the TOML's) on all the labels' frames. With
    ``subset``, a name or a file of frames, only its frames count, under a protocol of their own; ``manifest_file``
    lists the frames of a copy that is not the real one. ``rule`` takes the predictions of the epoch that another rule
    of selection finds (:mod:`benchmark.scoring.selection`), which needs what ``hpp benchmark`` leaves beside its
    predictions; where that holds predictions under other batch statistics, their scores come with the entry. With
    ``ray`` so do those that are corrected for the viewing ray of each box (:mod:`benchmark.scoring.ray`).

    Raises
    ------
    SubmissionError
        If the predictions are faulty or incomplete, or the labels are not the protocol's.
    DatasetError
        If there are no labels, or the subset is unknown or has frames that they lack.
    """
    paths = [predictions] if isinstance(predictions, Path) else list(predictions)
    files = [read_files(path) for path in paths]
    about, faults = read_about(files[0][1])
    truth = labels if isinstance(labels, Labels) else read_labels(labels, target_of(about, task, protocol))
    try:
        reference = find_reference(about, truth, task, subset, manifest_file, protocol)
    except SubmissionError as error:
        naming = [error.fault] if error.fault.file == ABOUT else []
        stop(about_path(paths[0]), faults or naming)
        raise
    checked = [check(*file, reference) for file in files]
    for path, checked_file in zip(paths, checked, strict=True):
        stop(path, checked_file.faults)
    hashes = [bytes_sha256(data) for data, _ in files]
    _check_seeds(paths, checked, hashes)
    rotations = np.stack([file.rotations for file in checked if file.rotations is not None])
    selected = None if rule is None else _selected(rule, paths, truth, reference)
    if selected is not None:
        rotations, hashes = selected.rotations, [selected.sha256]
    evaluation = measure(rotations, reference, resamples, seed)
    entry = _entry(reference, checked, evaluation, hashes)
    if selected is not None:
        entry = replace(entry, selection=selected.rule, selected_epoch=selected.epoch)
    elif len(paths) == 1:
        entry = replace(entry, scores_of_other_statistics=_other_statistics(paths[0], reference))
    if ray:
        entry = replace(entry, ray=rounded(ray_scores(rotations, reference), _DIGITS))
    return Scored(entry, reference, rotations)


def entry_path(predictions: Path, rule: str | None) -> Path:
    """Return where the entry of predictions lies: ``score.json`` beside them, after the rule that chose the epoch."""
    # hpp benchmark leaves one file of predictions in a folder; others may have several there.
    name = predictions.with_suffix("").with_suffix("").name
    stem = "score" if name == "predictions" else f"{name}-score"
    return predictions.with_name(f"{stem}-{rule}.json" if rule else f"{stem}.json")


def write_entry(path: Path, entry: Entry) -> None:
    """Write an entry as a scoreboard keeps it, whether or not one can hold it."""
    write_json(path, plain(entry))


def target_of(about: About, task: str | None = None, protocol: str | Protocol | None = None) -> str | None:
    """Return the dataset that predictions with these fields of a TOML are meant for; None if nothing says it."""
    named = protocol or (about.protocol if task is None else None)
    if named:
        return of_protocol(named if isinstance(named, str) else named.id)
    task = task or about.task
    return split_task(task)[1] if task else None


def find_reference(
    about: About,
    labels: Labels,
    task: str | None = None,
    subset: str | None = None,
    manifest_file: Path | None = None,
    protocol: str | Protocol | None = None,
) -> Reference:
    """Return what predictions with these fields of a TOML are scored on; see :func:`score`.

    Raises
    ------
    SubmissionError
        If there is no such protocol, or the labels are not its own.
    DatasetError
        If the subset is unknown or has frames that the labels lack.
    """
    if isinstance(protocol, str):
        protocol = protocols.find(protocol)
    elif protocol is None and task is None:
        protocol = _named_protocol(about)
    return protocols.reference(protocol, labels, task or about.task or "cross", subset, manifest_file)


def _named_protocol(about: About) -> Protocol | None:
    """Return the frozen protocol that a TOML names; never a file, which a stranger's TOML could name."""
    name = (about.protocol or "").partition(":")[0]
    if name.startswith("local-") or (not name and about.task):
        return None
    if not name:
        raise SubmissionError(
            about_fault("protocol", "no protocol is named", 'name it with `protocol`, or by protocol = "..." there')
        )
    protocol = protocols.find_frozen(name)
    if protocol is None:
        mend = f"{protocols.hint(name)}one of your own is given by `protocol`"
        raise SubmissionError(about_fault("protocol", f"the TOML names {name[:80]!r}, no frozen protocol", mend))
    return protocol


def check_files(
    predictions: Path,
    labels: Path | LabelsAt | None,
    protocol: str | None = None,
    task: str | None = None,
    subset: str | None = None,
    manifest_file: Path | None = None,
) -> tuple[Checked, Reference]:
    """Return everything that is wrong with a file of predictions, and what it was checked against.

    The arguments are those of :func:`score`; ``labels`` may be None.

    Raises
    ------
    SubmissionError
        If the predictions or the TOML beside them are missing or too large, or the protocol is unknown.
    DatasetError
        If there are no labels, or the subset is unknown or has frames that they lack.
    """
    data, toml = read_files(predictions)
    about, _ = read_about(toml)
    truth = None if labels is None else read_labels(labels, target_of(about, task, protocol))
    known, wanted = None, task or about.task or ""
    told = []
    if protocol is not None:
        known = protocols.find(protocol)
    elif task is None:
        # What a TOML says wrongly of its protocol is a fault like others, and does not hide them.
        try:
            known = _named_protocol(about)
        except SubmissionError as error:
            mend = f"{protocols.hint(about.protocol or '')}hpp protocols lists them"
            told = [about_fault("protocol", error.fault.what, mend)]
        if truth is not None and wanted == "intra" and not about.protocol:
            told = [about_fault("task", "intra is the task of many protocols", "name one: hpp protocols lists them")]
        wanted = "cross" if told else wanted
    if truth is not None:
        reference = protocols.reference(known, truth, wanted or "cross", subset, manifest_file)
    else:
        few = subsets.find(subset, manifest_file) if subset else None
        reference = protocols.without_labels(known or protocols.whole(wanted), few)
    checked = check(data, toml, reference)
    if told:
        # Frames and labels were not those that are meant.
        kept = [fault for fault in checked.faults if (fault.file, fault.field) not in _NAMING]
        checked = checked._replace(faults=told + kept, rotations=None)
    return checked, reference


def check_record(checked: Checked, reference: Reference) -> dict[str, object]:
    """Return what a check found as plain values."""
    return {
        "protocol": reference.protocol.id,
        "faults": [fault.to_json() for fault in checked.faults],
        "suspicions": [fault.to_json() for fault in checked.suspicions],
    }


def write_template(
    protocol: str,
    labels: Path | LabelsAt | None,
    out: Path,
    subset: str | None = None,
    manifest_file: Path | None = None,
) -> tuple[Path, int]:
    """Write the template of a submission: a CSV to ``out`` and a TOML beside it; return its path, and the frames.

    With ``subset`` only its frames are in it, as :func:`score` takes them.

    Raises
    ------
    SubmissionError
        If the frames are not known without labels, or a file is there already.
    """
    known = protocols.find(protocol)
    ids = protocols.frames_of(known)
    if labels is not None:
        ids = protocols.reference(known, read_labels(labels, of_protocol(known.id))).ids
    if subset and ids is not None:
        ids = ids[subsets.select(subsets.find(subset, manifest_file), ids)]
    if ids is None:
        raise SubmissionError(Fault("only its test set knows its frames", "give `data` or `labels`", protocol))
    toml = new_place(out, "a template")
    rows, about = template(known, ids)
    write_text(toml, about)
    write_text(out, rows)
    return toml, len(ids)


def compare_files(
    first: Sequence[Path],
    second: Sequence[Path],
    labels: Path | LabelsAt,
    protocol: str | None,
    resamples: int,
    seed: int,
    subset: str | None = None,
    manifest_file: Path | None = None,
) -> Comparison:
    """Return the paired difference of two methods, each given by the files of its seeds.

    The other arguments are those of :func:`score`.

    Raises
    ------
    SubmissionError
        If any file is faulty.
    DatasetError
        If there are no labels.
    """
    about, _ = read_about(read_files(first[0])[1])
    truth = read_labels(labels, target_of(about, protocol=protocol))
    asked = {"protocol": protocol, "subset": subset, "manifest_file": manifest_file}
    a, b = (score(paths, truth, resamples=0, **asked) for paths in (first, second))  # type: ignore[arg-type]
    if a.reference.protocol.id != b.reference.protocol.id:
        what = f"scored under {b.reference.protocol.id}, but {first[0]} under {a.reference.protocol.id}"
        raise SubmissionError(Fault(what, "name the protocol of both with `protocol`", second[0]))
    return compare(a.rotations, b.rotations, a.reference, resamples, seed)


def _check_seeds(paths: list[Path], checked: list[Checked], hashes: list[str]) -> None:
    """Raise SubmissionError if several files are not the seeds of one method."""
    if len(paths) == 1:
        return
    first = checked[0].about
    for path, other in zip(paths[1:], checked[1:], strict=True):
        for field in _SAME:
            theirs, mine = getattr(other.about, field), getattr(first, field)
            if mine != theirs:
                what = f"{field} is {theirs!r}, in {about_path(paths[0])} {mine!r}"
                mend = "several files are the seeds of one method: score others one by one"
                raise SubmissionError(Fault(what, mend, about_path(path)))
    if len(set(hashes)) < len(hashes):
        twice = next(path for place, path in enumerate(paths) if hashes[place] in hashes[:place])
        raise SubmissionError(
            Fault("the same predictions as in another of these files", "give each seed its own", twice)
        )
    seeds = [file.about.seed for file in checked]
    if None in seeds or len(set(seeds)) < len(seeds):
        mend = "give each of several files a seed of its own"
        raise SubmissionError(Fault(f"seeds {seeds}", mend, about_path(paths[-1])))


class _Selected(NamedTuple):
    """Rotations (1, n, 3, 3) of the epoch, counted from 1, that a rule takes; its words, and a hash of both."""

    rotations: Floats
    sha256: str
    rule: str
    epoch: int


def _selected(rule: str, paths: list[Path], labels: Labels, reference: Reference) -> _Selected:
    """Return the predictions of the epoch that a rule takes; raises SubmissionError if they are not at hand."""
    if len(paths) > 1:
        raise SubmissionError(Fault("`selection` takes the predictions of one run", "score the others one by one"))
    path = paths[0].with_name(selection.EPOCHS)
    epochs = selection.read_epochs(path, labels.ids, labels.source)
    epoch, words = selection.find_epoch(rule, epochs, labels.rotations, reference.protocol.convention)
    assert reference.ids is not None
    chosen = np.isin(labels.ids, reference.ids)
    rotations = to_matrix(epochs.angles[epoch])[chosen][None]
    return _Selected(rotations, content_hash([sha256(path), rule]), words, epoch + 1)


def _other_statistics(path: Path, reference: Reference) -> OtherStatistics | UnsetType:
    """Return the scores of the predictions under other batch statistics that lie beside some, if any do."""
    assert reference.labels is not None
    statistics = OtherStatistics()
    for kind in OtherStatistics.__struct_fields__:
        other = of_other_statistics(path, kind)
        if other.exists() and about_path(other).exists():
            checked = check(*read_files(other), reference)
            stop(other, checked.faults)
            assert checked.rotations is not None
            errors = scores(checked.rotations, reference.labels.rotations, reference.protocol.convention)
            statistics = replace(statistics, **{kind: rounded(errors, _DIGITS)})
    return UNSET if statistics == OtherStatistics() else statistics


def _entry(reference: Reference, checked: list[Checked], evaluation: Evaluation, hashes: list[str]) -> Entry:
    """Return the entry of files; its figures have four decimals, those of frames and parts three."""
    about, protocol, few = checked[0].about, reference.protocol, reference.subset
    figures = rounded(evaluation, _DIGITS)
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
        distribution=figures.distribution,
        quantiles=rounded(evaluation.quantiles, _FEWER),
        by=rounded(evaluation.by, _FEWER),
        suspicions=tuple(f"{fault.what}; {fault.mend}" for file in checked for fault in file.suspicions),
        toolkit=__version__,
        subset=UNSET if few is None else Subset(few.name, few.sha256, few.source),
    )
