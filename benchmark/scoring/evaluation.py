"""Scores of predicted head poses from Python, and the comparison of two sets of predictions.

In three lines::

    from headposeplus import evaluate
    found = evaluate(ids, angles, protocol="biwi+/cross@1", labels="Biwi_plus.npz", convention="ypr")
    print(found.scores.mae, found.intervals.mae)

What looks odd about the predictions is told by a :class:`headposeplus.errors.SuspicionWarning`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Struct, structs
from numpy.typing import ArrayLike

from benchmark.scoring import metrics, protocols
from benchmark.scoring.entry import Entry
from benchmark.scoring.figures import (
    MEASURES,
    AngleErrors,
    Bootstrap,
    Conventions,
    Distribution,
    Intervals,
    Parts,
    Quantiles,
    Scores,
    Spread,
    Value,
    Vectors,
)
from benchmark.scoring.label_files import LabelsAt
from benchmark.scoring.labels import Labels, from_arrays, read_labels
from benchmark.scoring.protocols import Protocol, Reference
from benchmark.scoring.submission import About
from benchmark.scoring.suspicions import SAME, UNITS, find_suspicions
from headposeplus import tables
from headposeplus.errors import SubmissionError, SuspicionWarning
from headposeplus.faults import Fault, plural, said, shown
from headposeplus.poses.columns import ANGLE_COLUMNS, MATRIX_COLUMNS, ROTATION_TOLERANCE
from headposeplus.poses.containers import NOTHING
from headposeplus.poses.tables import Poses
from headposeplus.raw.targets import of_protocol
from headposeplus.rotations import Floats, geodesic, nearest_rotation, orthonormality_error, to_matrix

RESAMPLES = 2_000
FEWEST = 6  # subjects that can decide: with five, even if all agree, chance does so in 6 % of cases (a sign test)


class Evaluation(Struct, frozen=True):
    """What predictions score. Errors in degrees, means over the frames and then over the seeds.

    ``scores`` are ``mae``, its parts ``pitch``, ``yaw`` and ``roll`` in the protocol's convention, ``geodesic`` and
    ``maev``. Angles are wrapped at 180, and of the two triples that a rotation has, the one nearer to the label's
    counts; ``plain_angles`` are the same errors wrapped and no more. ``deviation`` is the standard deviation of the
    scores over the seeds (n - 1), None for one seed; ``scores_of_seeds`` are those of each. ``intervals`` are
    (low, high) at 95 %, by drawing the subjects again as ``bootstrap`` says; None for one subject. ``vectors`` are the
    parts of MAEV; ``conventions`` the errors of the angles in every named convention. ``distribution`` (median, 95th
    percentile and shares of the frames within 5, 10 and 15 degrees) and ``quantiles`` (the errors at 0, 1, ..., 100 %
    of the frames) are of ``mae`` and ``geodesic``. ``by`` has the errors by bins of the true ``pitch``, ``yaw``,
    ``roll`` and ``yaw_pitch``, by ``sequence`` and by ``subject``.
    ``suspicions`` are what looks odd, each with a way to mend it: other readings of the poses, or another order, that
    fit the labels much better.
    """

    protocol: Protocol
    scores: Scores
    deviation: Scores | None
    scores_of_seeds: tuple[Scores, ...]
    intervals: Intervals | None
    bootstrap: Bootstrap
    vectors: Vectors
    conventions: Conventions
    plain_angles: AngleErrors
    distribution: Distribution
    quantiles: Quantiles
    by: Parts
    suspicions: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the main figures as a table, and what looks odd."""
        return "\n".join([describe(self), *(f"suspicion: {text}" for text in self.suspicions)])


def evaluate(
    ids: Sequence[str] | np.ndarray,
    rotations: ArrayLike,
    protocol: str | Protocol | None = None,
    labels: str | Path | LabelsAt | Labels | tuple[Sequence[str] | np.ndarray, ArrayLike] = "Biwi_plus.npz",
    resamples: int = RESAMPLES,
    seed: int = 0,
    camera: str = "",
    convention: str = "",
    labels_convention: str = "",
    labels_camera: str = "",
) -> Evaluation:
    """Return the scores of predictions.

    Parameters
    ----------
    ids
        (n,), a frame each, such as ``biwi/01/00003``; in any order, each of the protocol's frames once.
    rotations
        (n, 3, 3), from the head's axes to those of the protocol's camera (x right, y down, z forward); or
        (s, n, 3, 3) of s seeds. With a ``convention`` angles, (n, 3) or (s, n, 3): pitch, yaw, roll in degrees.
    protocol
        An id such as ``biwi+/cross@1``, a file of a protocol of one's own, or None: then it is the task ``cross`` on
        the labels' frames, under the frozen protocol that has them, or an id of their own.
    labels
        A folder of built datasets, ``Biwi_plus.npz`` or a CSV of labels; :class:`LabelsAt`, which also says their
        convention and camera; :class:`Labels`; or ids (m,) and rotations (m, 3, 3).
    resamples, seed
        Of the bootstrap over subjects.
    camera
        Of the poses, ``rgb`` or ``depth``; the protocol's where it is not said. Labels that are arrays are in the same
        one, and without a protocol it has to be said.
    convention
        Of the angles: ``pyr``, ``biwi`` or ``ypr``. Rotations have none.
    labels_convention, labels_camera
        Of the labels in a file that does not say them.

    Raises
    ------
    SubmissionError
        If frames are missing, unknown or come twice, rotations are none, angles look like radians, the camera is not
        the protocol's, or the labels are not.
    DatasetError
        If there are no labels, or they are none.

    Warns
    -----
    SuspicionWarning
        If other readings of the poses, or another order, fit the labels much better; ``suspicions`` has the same.
    """
    reference = _reference(protocol, labels, camera, labels_convention, labels_camera)
    if camera not in ("", reference.protocol.camera):
        known = reference.protocol
        what = f"poses in the {camera} camera, but {known.id} scores those in the {known.camera} camera"
        raise SubmissionError(Fault(what, "turn them into that camera first", field="camera"))
    names = np.asarray(ids).astype(str)
    given, values = _numbers(names, rotations, convention)
    names, given, values = _without_others(names, given, values, reference)
    places = _places(names, reference)
    suspicions = _suspicions(names, given, values, places, reference, convention)
    for text in suspicions:
        warnings.warn(text, SuspicionWarning, stacklevel=2)
    found = measure(given[:, places], reference, resamples, seed)
    return structs.replace(found, suspicions=suspicions)


def _reference(
    protocol: str | Protocol | None,
    labels: str | Path | LabelsAt | Labels | tuple[Sequence[str] | np.ndarray, ArrayLike],
    camera: str,
    labels_convention: str,
    labels_camera: str,
) -> Reference:
    if isinstance(protocol, str):
        protocol = protocols.find(protocol)
    target = of_protocol(protocol.id) if protocol else None
    if isinstance(labels, str | Path):
        labels = LabelsAt(Path(labels), labels_convention, labels_camera)
    if isinstance(labels, LabelsAt):
        labels = read_labels(labels, target)
    elif not isinstance(labels, Labels):
        ids, rotations = labels
        labels = from_arrays(np.asarray(ids), np.asarray(rotations), camera=labels_camera or camera)
    return protocols.reference(protocol, labels, "cross")


def _numbers(names: np.ndarray, given: ArrayLike, convention: str) -> tuple[Floats, Floats]:
    """Return rotations (s, n, 3, 3) of s seeds, and the numbers (s, n, k) that they came as; raises SubmissionError."""
    count = len(names)
    shape = (count, 3) if convention else (count, 3, 3)
    try:
        numbers = np.asarray(given, np.float64)
    except (ValueError, TypeError) as error:
        raise SubmissionError(Fault(f"expected numbers {shape}: {said(error)}", field="rotations")) from error
    found = numbers.shape
    numbers = numbers[None] if numbers.ndim == len(shape) else numbers
    if numbers.shape[1:] != shape or not len(numbers):
        mend = "angles have a `convention`, pyr, biwi or ypr" if found[-2:] == (count, 3) else ""
        mend = "rotations have no `convention`" if convention and found[-2:] == (3, 3) else mend
        raise SubmissionError(
            Fault(f"the shape is {found}, expected {shape}, one for each id", mend, field="rotations")
        )
    if convention:
        if not np.isfinite(numbers).all():
            _, row, place = np.argwhere(~np.isfinite(numbers))[0].tolist()
            value = numbers[~np.isfinite(numbers)][0]
            what = f"the {ANGLE_COLUMNS[place]} of {shown(names[row])} is {value}, no finite number"
            mend = "give pitch, yaw, roll in degrees"
            raise SubmissionError(Fault(what, mend, field="rotations"))
        return to_matrix(numbers, convention), numbers
    if not np.isfinite(numbers).all() or (orthonormality_error(numbers) > ROTATION_TOLERANCE).any():
        mend = "to_matrix makes them from angles in degrees, or say the `convention` of angles"
        off = ~np.isfinite(numbers).all(axis=(2, 3)) | (orthonormality_error(numbers) > ROTATION_TOLERANCE)
        first = shown(names[np.argwhere(off)[0][1]])
        raise SubmissionError(Fault(f"the matrix of {first} is no rotation", mend, field="rotations"))
    return nearest_rotation(numbers), numbers.reshape(*numbers.shape[:2], 9)


def _without_others(
    names: np.ndarray, rotations: Floats, values: Floats, reference: Reference
) -> tuple[np.ndarray, Floats, Floats]:
    """Return predictions without those of frames that a subset leaves out."""
    kept = ~np.isin(names, list(reference.beyond))
    return (names, rotations, values) if kept.all() else (names[kept], rotations[:, kept], values[:, kept])


def _places(names: np.ndarray, reference: Reference) -> np.ndarray:
    """Return the rows (m,) of the test set's ids among those (n,) of predictions; raises SubmissionError."""
    assert reference.ids is not None
    position = {name: row for row, name in enumerate(names.tolist())}
    missing = [name for name in reference.ids.tolist() if name not in position]
    if missing or len(position) != len(names) or len(names) != len(reference.ids):
        what = (
            f"{plural(len(names), 'id')}, {len(names) - len(position)} of them twice; {reference.protocol.id} has "
            f"{plural(reference.protocol.frames, 'frame')}, "
            f"{plural(len(missing), 'of which is', 'of which are')} missing"
            f"{f' ({missing[0]})' if missing else ''}"
        )
        raise SubmissionError(Fault(what, "give each of its frames once"))
    return np.array([position[name] for name in reference.ids.tolist()])


def _suspicions(
    names: np.ndarray, rotations: Floats, values: Floats, places: np.ndarray, reference: Reference, convention: str
) -> tuple[str, ...]:
    """Return what looks odd about rotations (s, n, 3, 3) that came as numbers (s, n, k).

    Raises
    ------
    SubmissionError
        If they look like angles in another unit: no method is scored so by choice.
    """
    assert reference.labels is not None
    form = ANGLE_COLUMNS if convention else MATRIX_COLUMNS
    about = About(convention=convention, camera=reference.protocol.camera)
    texts = []
    for mine, numbers in zip(rotations, values, strict=True):
        if len(mine) > 1 and geodesic(mine, mine[0]).max() < SAME:
            texts.append("every row holds the same pose; give what a model predicts")
            continue
        poses = Poses(names, mine, form, numbers, None, NOTHING, [])
        for fault in find_suspicions(poses, places, about, reference.labels, reference.protocol.convention):
            if fault.kind == UNITS:
                raise SubmissionError(fault._replace(field="rotations"))
            texts.append(f"{fault.what}; {fault.mend}")
    return tuple(dict.fromkeys(texts))


def measure(predicted: Floats, reference: Reference, resamples: int = RESAMPLES, seed: int = 0) -> Evaluation:
    """Return the scores of rotations (s, n, 3, 3) of s seeds, in the order of the test set's ids."""
    assert reference.labels is not None
    labels, convention = reference.labels, reference.protocol.convention
    truth = labels.rotations
    errors = [metrics.frame_errors(rotations, truth, convention) for rotations in predicted]
    tables = np.stack([error.table for error in errors])
    frames, seeds = tables.mean(axis=0), tables.mean(axis=1)
    mae, turned = (
        _mean([metrics.spread(table[:, MEASURES.index(name)]) for table in tables]) for name in ("mae", "geodesic")
    )
    return Evaluation(
        protocol=reference.protocol,
        scores=metrics.named(seeds.mean(axis=0)),
        deviation=metrics.named(seeds.std(axis=0, ddof=1)) if len(seeds) > 1 else None,
        scores_of_seeds=tuple(metrics.named(seed_scores) for seed_scores in seeds),
        intervals=_intervals(metrics.bootstrap(frames, labels.subjects, resamples, seed)),
        bootstrap=_bootstrap(labels, resamples, seed),
        vectors=metrics.vectors(np.mean([error.vectors.mean(axis=0) for error in errors], axis=0)),
        conventions=_mean([metrics.other_conventions(rotations, truth) for rotations in predicted]),
        plain_angles=_mean([metrics.plain_angles(rotations, truth, convention) for rotations in predicted]),
        distribution=Distribution(mae, turned),
        quantiles=metrics.quantiles(tables),
        by=metrics.by_part(frames, truth, convention, labels.sequences, labels.subjects),
    )


def _bootstrap(labels: Labels, resamples: int, seed: int) -> Bootstrap:
    return Bootstrap("subjects", len(np.unique(labels.subjects)), resamples, seed, metrics.LEVEL)


def _intervals(values: Floats | None) -> Intervals | None:
    """Return the intervals (2, 6) of a bootstrap by measure."""
    return None if values is None else Intervals(*((float(low), float(high)) for low, high in values.T))


def _mean(rows: Sequence[Value]) -> Value:
    """Return the mean of figures of several seeds, field by field."""
    value: Any = rows[0]
    if isinstance(value, Struct):
        value = type(value)(*(_mean([getattr(row, name) for row in rows]) for name in value.__struct_fields__))
    else:
        value = float(np.mean(np.array(rows)))
    return value


class Comparison(Struct, frozen=True):
    """Two sets of predictions on the same frames: what the first scores more than the second, in degrees.

    ``differences`` of every measure are negative where the first is better. Their ``intervals`` (low, high) at 95 %
    come from drawing the subjects again; None for one subject. ``subjects`` (k,) have their difference of MAE.
    """

    protocol: Protocol
    first: Scores
    second: Scores
    differences: Scores
    intervals: Intervals | None
    subjects: dict[str, float]
    bootstrap: Bootstrap

    def to_json(self) -> dict[str, object]:
        """Return the comparison as plain values, with its protocol's id."""
        fields: dict[str, object] = msgspec.to_builtins(self)
        return {**fields, "protocol": self.protocol.id}

    def __str__(self) -> str:
        """Return the differences as a table, and in how many subjects the first is better."""
        rows = []
        for name in MEASURES:
            first, second, difference = (getattr(side, name) for side in (self.first, self.second, self.differences))
            row = {"": name, "A": f"{first:.2f}", "B": f"{second:.2f}", "A - B": tables.signed(difference)}
            if self.intervals:
                low, high = getattr(self.intervals, name)
                verdict = "A is better" if high < 0 else "B is better" if low > 0 else "not decided"
                verdict = verdict if len(self.subjects) >= FEWEST else "too few subjects"
                row |= {"95 % interval": f"{tables.signed(low)} to {tables.signed(high)}", "so": verdict}
            rows.append(row)
        better = sum(value < 0 for value in self.subjects.values())
        return f"{tables.table(rows)}\n\nA has the lower MAE in {better} of {plural(len(self.subjects), 'subject')}."


def compare(
    first: Floats, second: Floats, reference: Reference, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """Return the paired difference of rotations (s, n, 3, 3) and (t, n, 3, 3), in the order of the test set's ids.

    The seeds of each are averaged frame by frame; the subjects are drawn again for both at once.
    """
    assert reference.labels is not None
    labels, convention = reference.labels, reference.protocol.convention
    a, b = (
        np.mean([metrics.frame_errors(rotations, labels.rotations, convention).table for rotations in side], axis=0)
        for side in (first, second)
    )
    difference = a - b
    return Comparison(
        reference.protocol,
        metrics.named(a.mean(axis=0)),
        metrics.named(b.mean(axis=0)),
        metrics.named(difference.mean(axis=0)),
        _intervals(metrics.bootstrap(difference, labels.subjects, resamples, seed)),
        {subject.name: subject.mae for subject in metrics.by_group(difference, labels.subjects)},
        _bootstrap(labels, resamples, seed),
    )


def describe(figures: Evaluation | Entry) -> str:
    """Return the figures of an evaluation or an entry as text: main scores, conventions, distribution."""
    rows = []
    for name in MEASURES:
        row = {"degrees": name, "score": f"{getattr(figures.scores, name):.2f}"}
        if figures.intervals:
            low, high = getattr(figures.intervals, name)
            row["95 % interval"] = f"{low:.2f} to {high:.2f}"
        if figures.deviation:
            row["± over seeds"] = f"{getattr(figures.deviation, name):.2f}"
        rows.append(row)
    parts = []
    if figures.intervals:
        drawn = figures.bootstrap
        parts.append(
            f"Intervals: {drawn.resamples:,} resamples of the {plural(drawn.subjects, 'subject')}, seed {drawn.seed}."
        )
    vectors, conventions = figures.vectors, figures.conventions
    parts.append(f"MAEV by vector: left {vectors.left:.2f}, down {vectors.down:.2f}, front {vectors.front:.2f}.")
    errors = ", ".join(f"{name} {getattr(conventions, name).mae:.2f}" for name in conventions.__struct_fields__)
    parts.append(f"MAE in other conventions: {errors}.")
    if figures.plain_angles is not UNSET:
        parts.append(describe_plain(figures.plain_angles))
    if figures.distribution is not UNSET:
        parts.append(_described("MAE of a frame", figures.distribution.mae))
        parts.append(_described("Geodesic error", figures.distribution.geodesic))
    return "\n".join([tables.table(rows), "", *tables.prose(*parts)])


def describe_plain(errors: AngleErrors) -> str:
    """Return the errors of angles that are wrapped at 180 and no more, as text."""
    parts = f"pitch {errors.pitch:.2f}, yaw {errors.yaw:.2f}, roll {errors.roll:.2f}"
    return f"MAE, plain: {errors.mae:.2f} ({parts}): wrapped alone, where the MAE takes the nearer Euler triple."


def _described(name: str, spread: Spread) -> str:
    within = zip((spread.within_5, spread.within_10, spread.within_15), metrics.WITHIN, strict=True)
    shares = ", ".join(f"{100 * share:.1f} % within {limit}" for share, limit in within if share is not UNSET)
    high = "" if spread.p95 is UNSET else f", 95th percentile {spread.p95:.2f}"
    return f"{name}: median {spread.median:.2f}{high}" + (f"; {shares} degrees." if shares else ".")
