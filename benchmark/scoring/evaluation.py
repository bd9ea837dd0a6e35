"""Scores of predicted head poses from Python, and the comparison of two sets of predictions.

In three lines::

    from benchmark import evaluate
    found = evaluate(ids, rotations, protocol="biwi+/pda@1", labels="Biwi_plus.npz")
    print(found.scores["mae"], found.intervals["mae"])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from tabulate import tabulate

from benchmark.scoring import metrics, protocols
from benchmark.scoring.labels import Labels, from_arrays, read_labels
from benchmark.scoring.metrics import MEASURES
from benchmark.scoring.protocols import Protocol, Reference
from headposeplus.errors import SubmissionError
from headposeplus.poses.columns import ROTATION_TOLERANCE
from headposeplus.rotations import Floats, nearest_rotation, orthonormality_error

RESAMPLES = 2_000


class Evaluation(NamedTuple):
    """What predictions score. Errors in degrees, means over the frames and then over the seeds.

    ``scores`` holds ``mae``, its parts ``pitch``, ``yaw`` and ``roll`` in the protocol's convention, ``geodesic`` and
    ``maev``; ``deviation`` their standard deviation over the seeds (n - 1), None for one seed; ``scores_of_seeds``
    those of each. ``intervals`` are (low, high) at 95 %, by drawing the subjects again as ``bootstrap`` says; None for
    one subject. ``vectors`` are the parts of MAEV, by the subject's left, down and front; ``conventions`` the MAE in
    every named convention; ``distribution`` median, 95th percentile and shares of the frames within 5, 10 and 15
    degrees, ``quantiles`` the errors at 0, 1, ..., 100 % of the frames, both of ``mae`` and ``geodesic``. ``by`` has
    the errors by bins of the true ``pitch``, ``yaw``, ``roll`` and ``yaw_pitch``, by ``sequence`` and by ``subject``.
    """

    protocol: Protocol
    scores: dict[str, float]
    deviation: dict[str, float] | None
    scores_of_seeds: list[dict[str, float]]
    intervals: dict[str, tuple[float, float]] | None
    bootstrap: dict[str, Any]
    vectors: dict[str, float]
    conventions: dict[str, dict[str, float]]
    distribution: dict[str, dict[str, float]]
    quantiles: dict[str, list[float]]
    by: dict[str, list[dict[str, Any]]]

    def __str__(self) -> str:
        """Return the main figures as a table."""
        return describe(self._asdict())


def evaluate(
    ids: Sequence[str] | np.ndarray,
    rotations: ArrayLike,
    protocol: str | Protocol | None = None,
    labels: str | Path | Labels | tuple[Sequence[str] | np.ndarray, ArrayLike] = "Biwi_plus.npz",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Return the scores of predictions.

    Parameters
    ----------
    ids
        (n,), a frame each, such as ``biwi/01/00003``; in any order, each of the protocol's frames once.
    rotations
        (n, 3, 3), from the head's axes to those of the protocol's camera (x right, y down, z forward); or
        (s, n, 3, 3) of s seeds. ``headposeplus.rotations.to_matrix`` makes them from angles in degrees.
    protocol
        An id such as ``biwi+/pda@1``, a file of a protocol of one's own, or None: then the labels' frames are scored
        under an id of their own.
    labels
        A folder of built datasets, ``Biwi_plus.npz`` or a CSV of labels; or ids (m,) and rotations (m, 3, 3).
    resamples, seed
        Of the bootstrap over subjects.

    Raises
    ------
    SubmissionError
        If frames are missing, unknown or come twice, rotations are none, or the labels are not the protocol's.
    DatasetError
        If there are no labels, or they are none.
    """
    reference = _reference(protocol, labels)
    predicted = _aligned(ids, rotations, reference)
    return measure(predicted, reference, resamples, seed)


def _reference(protocol: str | Protocol | None, labels: Any) -> Reference:
    if isinstance(labels, str | Path):
        labels = read_labels(Path(labels))
    elif not isinstance(labels, Labels):
        labels = from_arrays(*labels)
    found = protocols.find(protocol) if isinstance(protocol, str) else protocol
    return protocols.reference(found, labels, "cross")


def _aligned(ids: Sequence[str] | np.ndarray, rotations: ArrayLike, reference: Reference) -> Floats:
    """Return rotations (s, n, 3, 3) in the order of the test set's ids; raises SubmissionError."""
    assert reference.ids is not None
    names = np.asarray(ids).astype(str)
    try:
        given = np.asarray(rotations, np.float64)
    except (ValueError, TypeError) as error:
        raise SubmissionError(f"rotations: expected numbers ({len(names)}, 3, 3): {error}") from error
    shape = given.shape
    given = given[None] if given.ndim == 3 else given
    if given.ndim != 4 or given.shape[1:] != (len(names), 3, 3) or not len(given):
        raise SubmissionError(f"rotations of the shape {shape}: expected ({len(names)}, 3, 3), one for each id")
    if reference.beyond:
        kept = ~np.isin(names, list(reference.beyond))
        names, given = names[kept], given[:, kept]
    position = {name: row for row, name in enumerate(names.tolist())}
    missing = [name for name in reference.ids.tolist() if name not in position]
    if missing or len(position) != len(names) or len(names) != len(reference.ids):
        raise SubmissionError(
            f"{len(names):,} ids, {len(names) - len(position)} of them twice; {reference.protocol.id} has "
            f"{reference.protocol.frames:,} frames, {len(missing):,} of which are missing"
            f"{f' ({missing[0]})' if missing else ''}; give each of its frames once"
        )
    if not np.isfinite(given).all() or (orthonormality_error(given) > ROTATION_TOLERANCE).any():
        raise SubmissionError(
            "rotations hold a matrix that is no rotation; to_matrix makes them from angles in degrees"
        )
    return nearest_rotation(given[:, [position[name] for name in reference.ids.tolist()]])


def measure(predicted: Floats, reference: Reference, resamples: int = RESAMPLES, seed: int = 0) -> Evaluation:
    """Return the scores of rotations (s, n, 3, 3) of s seeds, in the order of the test set's ids."""
    assert reference.labels is not None
    labels, convention = reference.labels, reference.protocol.convention
    truth = labels.rotations
    found = [metrics.frame_errors(one, truth, convention) for one in predicted]
    tables = np.stack([errors.table for errors in found])
    frames = tables.mean(axis=0)
    seeds = tables.mean(axis=1)
    interval = metrics.bootstrap(frames, labels.subjects, resamples, seed)
    conventions = [metrics.other_conventions(one, truth) for one in predicted]
    main = {"mae": MEASURES.index("mae"), "geodesic": MEASURES.index("geodesic")}
    return Evaluation(
        protocol=reference.protocol,
        scores=metrics.named(seeds.mean(axis=0)),
        deviation=metrics.named(seeds.std(axis=0, ddof=1)) if len(seeds) > 1 else None,
        scores_of_seeds=[metrics.named(one) for one in seeds],
        intervals=_intervals(interval),
        bootstrap={
            "over": "subjects", "subjects": len(np.unique(labels.subjects)), "resamples": resamples, "seed": seed,
            "level": metrics.LEVEL,
        },
        vectors=dict(
            zip(metrics.VECTORS, np.mean([one.vectors.mean(axis=0) for one in found], axis=0).tolist(), strict=True)
        ),
        conventions={name: _mean([one[name] for one in conventions]) for name in conventions[0]},
        distribution={
            name: _mean([metrics.distribution(table[:, place]) for table in tables]) for name, place in main.items()
        },
        quantiles={
            name: np.mean([metrics.quantiles(table[:, place]) for table in tables], axis=0).tolist()
            for name, place in main.items()
        },
        by={
            **metrics.by_pose(frames, truth, convention),
            "sequence": metrics.by_group(frames, labels.sequences),
            "subject": metrics.by_group(frames, labels.subjects),
        },
    )  # fmt: skip


def _intervals(values: Floats | None) -> dict[str, tuple[float, float]] | None:
    """Return the intervals (2, 6) of a bootstrap by measure."""
    if values is None:
        return None
    return {name: (float(low), float(high)) for name, (low, high) in zip(MEASURES, values.T, strict=True)}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


class Comparison(NamedTuple):
    """Two sets of predictions on the same frames: what the first scores more than the second, in degrees.

    ``differences`` of every measure, negative where the first is better, with ``intervals`` (low, high) at 95 % by
    drawing the subjects again, None for one subject; ``subjects`` (k,) with their difference of MAE.
    """

    protocol: Protocol
    first: dict[str, float]
    second: dict[str, float]
    differences: dict[str, float]
    intervals: dict[str, tuple[float, float]] | None
    subjects: dict[str, float]
    bootstrap: dict[str, Any]

    def __str__(self) -> str:
        """Return the differences as a table, and in how many subjects the first is better."""
        rows = []
        for name, value in self.differences.items():
            row = {"": name, "A": f"{self.first[name]:.2f}", "B": f"{self.second[name]:.2f}", "A - B": f"{value:+.2f}"}
            if self.intervals:
                low, high = self.intervals[name]
                verdict = "A is better" if high < 0 else "B is better" if low > 0 else "not decided"
                row |= {"95 % interval": f"{low:+.2f} to {high:+.2f}", "so": verdict}
            rows.append(row)
        better = sum(value < 0 for value in self.subjects.values())
        table = tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True)
        return f"{table}\n\nA has the lower MAE in {better} of {len(self.subjects)} subjects."


def compare(
    first: Floats, second: Floats, reference: Reference, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """Return the paired difference of rotations (s, n, 3, 3) and (t, n, 3, 3), in the order of the test set's ids.

    The seeds of each are averaged frame by frame; the subjects are drawn again for both at once.
    """
    assert reference.labels is not None
    truth, convention, subjects = reference.labels.rotations, reference.protocol.convention, reference.labels.subjects
    tables = [
        np.mean([metrics.frame_errors(one, truth, convention).table for one in side], axis=0)
        for side in (first, second)
    ]
    difference = tables[0] - tables[1]
    interval = metrics.bootstrap(difference, subjects, resamples, seed)
    return Comparison(
        reference.protocol,
        metrics.named(tables[0].mean(axis=0)),
        metrics.named(tables[1].mean(axis=0)),
        metrics.named(difference.mean(axis=0)),
        _intervals(interval),
        {row["name"]: row["mae"] for row in metrics.by_group(difference, subjects)},
        {"over": "subjects", "subjects": len(np.unique(subjects)), "resamples": resamples, "seed": seed},
    )


def describe(found: dict[str, Any]) -> str:
    """Return the figures of an evaluation or an entry as text: main scores, conventions, distribution."""
    rows = []
    for name in MEASURES:
        row = {"degrees": name, "score": f"{found['scores'][name]:.2f}"}
        if found["intervals"]:
            low, high = found["intervals"][name]
            row["95 % interval"] = f"{low:.2f} to {high:.2f}"
        if found["deviation"]:
            row["± over seeds"] = f"{found['deviation'][name]:.2f}"
        rows.append(row)
    parts = [tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True), ""]
    bootstrap = found["bootstrap"]
    if found["intervals"]:
        parts.append(
            f"Intervals: {bootstrap['resamples']:,} resamples of the {bootstrap['subjects']} subjects, seed "
            f"{bootstrap['seed']}."
        )
    vectors = ", ".join(f"{name} {value:.2f}" for name, value in found["vectors"].items())
    parts.append(f"MAEV by vector: {vectors}.")
    parts.append(
        "MAE in other conventions: "
        + ", ".join(f"{name} {scores['mae']:.2f}" for name, scores in found["conventions"].items())
        + "."
    )
    for name, label in (("mae", "MAE of a frame"), ("geodesic", "Geodesic error")):
        spread = found["distribution"][name]
        shares = ", ".join(f"{100 * spread[f'within_{limit}']:.1f} % within {limit}" for limit in metrics.WITHIN)
        parts.append(f"{label}: median {spread['median']:.2f}, 95th percentile {spread['p95']:.2f}; {shares} degrees.")
    return "\n".join(parts)
