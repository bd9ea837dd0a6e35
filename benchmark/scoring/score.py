"""From files of predictions to an entry of the scoreboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmark.scoring import protocols, selection
from benchmark.scoring.check import Checked, check
from benchmark.scoring.evaluation import RESAMPLES, Comparison, Evaluation, compare, measure
from benchmark.scoring.labels import Labels, read_labels
from benchmark.scoring.metrics import scores
from benchmark.scoring.protocols import Protocol, Reference
from benchmark.scoring.submission import (
    ABOUT,
    About,
    about_fault,
    about_path,
    read_about,
    read_files,
    stop,
    template,
)
from headposeplus import __version__
from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault
from headposeplus.files import bytes_sha256, content_hash, sha256, write_text
from headposeplus.rotations import Floats, to_matrix

SCHEMA = 1
_ABOUT = (
    "name", "authors", "link", "training_data", "selection", "uses_target_images", "notes", "batch_statistics",
    "initial_weights", "preset", "command", "commit",
)  # fmt: skip
# What several seeds of one method have in common.
_SAME = ("name", "authors", "training_data", "selection", "uses_target_images")
_NAMING = {(ABOUT, "protocol"), (ABOUT, "task")}  # the fields that name a protocol
_DIGITS, _FEWER = 4, 3


class Outcome(NamedTuple):
    """What becomes of a submission: an entry, or the faults that keep it from one; and suspicions."""

    entry: dict[str, Any] | None
    faults: list[Fault]
    suspicions: list[Fault]


class Scored(NamedTuple):
    """Files that were scored: the entry, the evaluation, what was scored on, and rotations (s, n, 3, 3)."""

    entry: dict[str, Any]
    evaluation: Evaluation
    reference: Reference
    rotations: Floats


def assess(
    predictions: bytes,
    about: bytes,
    protocol: Protocol,
    labels: Labels,
    figures: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Outcome:
    """Return the entry of a submission, or its faults: the bytes of a table of predictions and of its TOML.

    With ``figures`` False a suspicion does not tell the error that a mended file would have.

    Raises
    ------
    SubmissionError
        If the labels are not the protocol's; never for what is in the submission.
    """
    reference = protocols.reference(protocol, labels)
    checked = check(predictions, about, reference, figures)
    if checked.rotations is None:
        return Outcome(None, checked.faults, checked.suspicions)
    found = measure(checked.rotations[None], reference, resamples, seed)
    return Outcome(_entry(reference, [checked], found, [bytes_sha256(predictions)]), [], checked.suspicions)


def score(predictions: Path | Sequence[Path], labels: Path | Labels, *others: Any, **options: Any) -> dict[str, Any]:
    """Return the entry of files of predictions; see :func:`score_files`."""
    return score_files(predictions, labels, *others, **options).entry


def score_files(
    predictions: Path | Sequence[Path],
    labels: Path | Labels,
    task: str | None = None,
    subset: str | None = None,
    manifest_file: Path | None = None,
    rule: str | None = None,
    protocol: str | Protocol | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scored:
    """Return the entry of a file of predictions, or of several: those of the seeds of one method.

    ``labels`` is a folder of built datasets or a file of labels. ``protocol`` is an id or a file; if None, it is what
    the TOML beside the predictions names, or else that of ``task`` (``da``, ``pda``, ``cross``; None: the TOML's) on
    all the labels' frames. With ``subset``, a name or a file of frames, only its frames count, under a protocol of
    their own; ``manifest_file`` lists the frames of a copy that is not the real one. ``rule`` takes the predictions of
    the epoch that another rule of selection finds (:mod:`benchmark.scoring.selection`), which needs what
    ``hpp benchmark`` leaves beside its predictions; where that holds predictions under other batch statistics, their
    scores come with the entry.

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
    found = labels if isinstance(labels, Labels) else read_labels(labels)
    try:
        reference = find_reference(about, found, task, subset, manifest_file, protocol)
    except SubmissionError:
        stop(about_path(paths[0]), faults)
        raise
    checked = [check(*file, reference) for file in files]
    for path, one in zip(paths, checked, strict=True):
        stop(path, one.faults)
    hashes = [bytes_sha256(data) for data, _ in files]
    _check_seeds(paths, checked, hashes)
    rotations = np.stack([one.rotations for one in checked if one.rotations is not None])
    more: dict[str, Any] = {}
    if rule is not None:
        rotations, hashes, more = _selected(rule, paths, found, reference)
    elif len(paths) == 1:
        more = _other_statistics(paths[0], reference)
    if reference.subset is not None:
        few = reference.subset
        more["subset"] = {"name": few.name, "frames_sha256": few.sha256, "source": few.source}
    evaluation = measure(rotations, reference, resamples, seed)
    return Scored(_entry(reference, checked, evaluation, hashes) | more, evaluation, reference, rotations)


def find_reference(
    about: About,
    labels: Labels,
    task: str | None = None,
    subset: str | None = None,
    manifest_file: Path | None = None,
    protocol: str | Protocol | None = None,
) -> Reference:
    """Return what predictions with these fields of a TOML are scored on; see :func:`score_files`.

    Raises
    ------
    SubmissionError
        If there is no such protocol, or the labels are not its own.
    DatasetError
        If the subset is unknown or has frames that the labels lack.
    """
    found = protocol if isinstance(protocol, Protocol) else None
    if isinstance(protocol, str):
        found = protocols.find(protocol)
    elif found is None and task is None:
        found = _named_protocol(about)
    return protocols.reference(found, labels, task or about.task or "cross", subset, manifest_file)


def _named_protocol(about: About) -> Protocol | None:
    """Return the frozen protocol that a TOML names; never a file, which a stranger's TOML could name."""
    name = (about.protocol or "").partition(":")[0]
    if name.startswith("local-") or (not name and about.task):
        return None
    if not name:
        raise SubmissionError('which protocol? name it with --protocol, or by protocol = "..." in the TOML')
    found = protocols.find_frozen(name)
    if found is None:
        own = "one of your own is given by --protocol"
        raise SubmissionError(f"the TOML names {name[:80]!r}, no frozen protocol; {protocols.hint(name)}{own}")
    return found


def check_files(
    predictions: Path, labels: Path | None, protocol: str | None = None, task: str | None = None
) -> tuple[Checked, Reference]:
    """Return everything that is wrong with a file of predictions, and what it was checked against.

    Raises
    ------
    SubmissionError
        If the predictions or the TOML beside them are missing or too large, or the protocol is unknown.
    DatasetError
        If there are no labels.
    """
    data, toml = read_files(predictions)
    about, _ = read_about(toml)
    truth = None if labels is None else read_labels(labels)
    given, wanted = None, task or about.task or ""
    told = []
    if protocol is not None:
        given = protocols.find(protocol)
    elif task is None:
        # What a TOML says wrongly of its protocol is a fault like others, and does not hide them.
        try:
            given = _named_protocol(about)
        except SubmissionError as error:
            told = [about_fault("protocol", str(error), "hpp protocols lists them")]
        if truth is not None and wanted == "intra" and not about.protocol:
            told = [about_fault("task", "intra is the task of many protocols", "name one: hpp protocols lists them")]
        wanted = "cross" if told else wanted
    if truth is not None:
        reference = protocols.reference(given, truth, wanted or "cross")
    else:
        known = wanted if wanted in ("da", "pda", "cross") else "pda"
        reference = protocols.without_labels(given or protocols.find(f"biwi+/{known}@1"))
    checked = check(data, toml, reference)
    if told:
        # Frames and labels were not those that are meant.
        kept = [fault for fault in checked.faults if (fault.file, fault.field) not in _NAMING]
        checked = checked._replace(faults=told + kept, rotations=None)
    return checked, reference


def write_template(protocol: str, labels: Path | None, out: Path) -> tuple[Path, int]:
    """Write the template of a submission: a CSV to ``out`` and a TOML beside it; return its path, and the frames.

    Raises
    ------
    SubmissionError
        If the frames are not known without labels, or a file is there already.
    """
    found = protocols.find(protocol)
    ids = protocols.frames_of(found)
    if labels is not None:
        ids = protocols.reference(found, read_labels(labels)).ids
    if ids is None:
        raise SubmissionError(f"{protocol}: only its test set knows its frames; give --data or --labels")
    if out.suffix != ".csv":
        raise SubmissionError(f"{out}: a template is a CSV; choose an --out that ends in .csv")
    toml = about_path(out)
    for path in (out, toml):
        if path.exists():
            raise SubmissionError(f"{path}: there is such a file, and it may be filled in; choose another --out")
    rows, about = template(found, ids)
    write_text(toml, about)
    write_text(out, rows)
    return toml, len(ids)


def compare_files(
    first: Sequence[Path], second: Sequence[Path], labels: Path, protocol: str | None, resamples: int, seed: int
) -> Comparison:
    """Return the paired difference of two methods, each given by the files of its seeds.

    Raises
    ------
    SubmissionError
        If any file is faulty.
    DatasetError
        If there are no labels.
    """
    truth = read_labels(labels)
    a, b = (score_files(paths, truth, protocol=protocol, resamples=0) for paths in (first, second))
    if a.reference.protocol.id != b.reference.protocol.id:
        raise SubmissionError(
            f"{second[0]}: scored under {b.reference.protocol.id}, but {first[0]} under {a.reference.protocol.id}; "
            "name the protocol of both with --protocol"
        )
    return compare(a.rotations, b.rotations, a.reference, resamples, seed)


def _check_seeds(paths: list[Path], checked: list[Checked], hashes: list[str]) -> None:
    """Raise SubmissionError if several files are not the seeds of one method."""
    if len(paths) == 1:
        return
    for path, one in zip(paths[1:], checked[1:], strict=True):
        for field in _SAME:
            mine, first = getattr(one.about, field), getattr(checked[0].about, field)
            if mine != first:
                raise SubmissionError(
                    f"{about_path(path)}: {field} is {mine!r}, in {about_path(paths[0])} "
                    f"{first!r}; several files are the seeds of one method: score others one by one"
                )
    if len(set(hashes)) < len(hashes):
        twice = next(path for place, path in enumerate(paths) if hashes[place] in hashes[:place])
        raise SubmissionError(f"{twice}: the same predictions as in another of these files; give each seed its own")
    seeds = [one.about.seed for one in checked]
    if None in seeds or len(set(seeds)) < len(seeds):
        raise SubmissionError(f"{about_path(paths[-1])}: seeds {seeds}; give each of several files a seed of its own")


def _selected(
    rule: str, paths: list[Path], labels: Labels, reference: Reference
) -> tuple[Floats, list[str], dict[str, Any]]:
    """Return rotations (1, n, 3, 3) of the epoch that a rule takes, their hash, and what an entry says of them."""
    if len(paths) > 1:
        raise SubmissionError("--selection takes the predictions of one run; score the others one by one")
    path = paths[0].with_name(selection.EPOCHS)
    epochs = selection.read_epochs(path)
    if epochs.ids.tolist() != labels.ids.tolist():
        raise SubmissionError(
            f"{path}: predictions on {len(epochs.ids)} frames that are not the {len(labels.ids)} of {labels.source}; "
            "score them on the data that they were made on"
        )
    epoch, text = selection.find_epoch(rule, epochs, labels.rotations, reference.protocol.convention)
    assert reference.ids is not None
    chosen = np.isin(labels.ids, reference.ids)
    more = {"selection": text, "selected_epoch": epoch + 1}
    return to_matrix(epochs.angles[epoch])[chosen][None], [content_hash([sha256(path), rule])], more


def _other_statistics(path: Path, reference: Reference) -> dict[str, Any]:
    """Return the scores of the predictions under other batch statistics that lie beside some, if any do."""
    assert reference.labels is not None
    found = {}
    for kind in ("source", "target"):
        other = path.with_name(f"{path.stem}-{kind}.csv")
        if other.exists() and other.with_suffix(".toml").exists():
            checked = check(*read_files(other), reference)
            stop(other, checked.faults)
            assert checked.rotations is not None
            found[kind] = scores(checked.rotations, reference.labels.rotations, reference.protocol.convention)
    return {"scores_of_other_statistics": _rounded(found, _DIGITS)} if found else {}


def _entry(reference: Reference, checked: list[Checked], found: Evaluation, hashes: list[str]) -> dict[str, Any]:
    about, protocol = checked[0].about, reference.protocol
    seeds = [one.about.seed for one in checked]
    said = {key: getattr(about, key) for key in _ABOUT}
    return {
        "schema": SCHEMA,
        "protocol": protocol._asdict(),
        "protocol_sha256": protocol.sha256,
        **{key: "" if value is None else value for key, value in said.items()},
        "seeds": seeds,
        "predictions_sha256": hashes,
        "convention": protocol.convention,
        "camera": protocol.camera,
        **{
            name: _rounded(getattr(found, name), _DIGITS)
            for name in ("scores", "deviation", "scores_of_seeds", "intervals", "bootstrap", "vectors", "conventions",
                         "distribution")
        },
        "quantiles": _rounded(found.quantiles, _FEWER),
        "by": _rounded(found.by, _FEWER),
        "suspicions": [f"{fault.what}; {fault.mend}" for one in checked for fault in one.suspicions],
        "toolkit": __version__,
    }  # fmt: skip


def _rounded(value: Any, digits: int) -> Any:
    """Return plain values with their fractions rounded."""
    if isinstance(value, dict):
        return {key: _rounded(one, digits) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one, digits) for one in value]
    return round(value, digits) if isinstance(value, float) else value
