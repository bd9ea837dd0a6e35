"""Which epoch of the second stage is submitted: rules that see no target label, and the oracle, which does.

The official rule is ``last``: the last epoch of the fixed schedule. ``source-val`` takes the lowest error on held-out
source images, ``consistency`` the epoch whose predictions on target images change least when the images are mirrored
(what low entropy is to a classifier), ``dev`` the lowest error on held-out source images, weighted to be like the
target. ``oracle`` takes the lowest error on the target's labels. Training cannot know it: a scorer finds it from the
predictions of every epoch, and says so, to show what the other rules leave on the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.scoring.metrics import scores
from headposeplus.errors import SubmissionError, TrainingError
from headposeplus.faults import Fault, said
from headposeplus.files import check_zip, opened_npz, whole_or_absent
from headposeplus.rotations import Floats, geodesic, to_matrix

OFFICIAL = "last"
RULES = {
    OFFICIAL: "last epoch of the fixed schedule",
    "source-val": "lowest error on held-out source images",
    "consistency": "least change of the predictions on mirrored target images",
    "dev": "lowest error on held-out source images weighted by deep embedded validation",
}
ORACLE = "oracle"
ORACLE_TEXT = "oracle: lowest error on the target's own labels"
EPOCHS = "epochs.npz"


class Epochs(NamedTuple):
    """What a second stage of e epochs leaves beside its predictions.

    ``ids`` (m,) are those of the target images, ``angles`` (e, m, 3) the predictions after each epoch, ``pyr`` in
    degrees; ``probabilities`` (n,) those by which the source samples were drawn in the end; ``criteria`` the e values
    of each rule but ``last``.
    """

    ids: np.ndarray
    angles: Floats
    probabilities: Floats
    criteria: dict[str, Floats]


def mirrored(angles: Floats) -> Floats:
    """Return the angles (n, 3) of mirrored images: yaw and roll change their sign."""
    return angles * [1, -1, -1]


def consistency(angles: Floats, of_mirrored: Floats) -> float:
    """Return the mean angle in degrees between predictions (n, 3) and those on the mirrored images, mirrored back."""
    return float(geodesic(to_matrix(angles), to_matrix(mirrored(of_mirrored))).mean())


def deep_embedded_validation(source: Floats, target: Floats, held_out: Floats, losses: Floats) -> float:
    """Return the risk on the target as deep embedded validation estimates it (You et al., ICML 2019).

    A logistic regression tells features of source training images (n, d) from the target's (m, d). Its odds weight the
    losses (k,) of held-out source images with features (k, d). The weights are divided by their mean, whose expectation
    is 1: the control variate of their equation 7 is then 0, and an estimate never leaves the range of the losses, as
    it does where that control is found from few samples.
    """
    from scipy.optimize import minimize  # which scores do without
    from scipy.special import expit

    both = np.concatenate((source, target))
    middle, spread = both.mean(axis=0), both.std(axis=0) + 1e-6
    source, target, held_out = ((part - middle) / spread for part in (source, target, held_out))
    features = np.concatenate((source, target))
    is_target = np.repeat([0.0, 1.0], [len(source), len(target)])
    share = np.where(is_target > 0, 0.5 / len(target), 0.5 / len(source))
    decay = 1e-2

    def loss(parameters: Floats) -> tuple[float, Floats]:
        w, b = parameters[:-1], parameters[-1]
        logits = features @ w + b
        errors = share * (expit(logits) - is_target)
        value = float((share * (np.logaddexp(0, logits) - is_target * logits)).sum() + decay / 2 * (w @ w))
        return value, np.append(features.T @ errors + decay * w, errors.sum())

    fitted = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
    # Both domains weigh one half in the fit, so the odds are the ratio of the densities.
    weights = np.exp(np.clip(held_out @ fitted[:-1] + fitted[-1], -20, 20))
    return float((weights * losses).sum() / weights.sum())


def check(rule: str) -> None:
    """Raise TrainingError if a rule is none that training can follow."""
    if rule == ORACLE:
        what = "`selection` oracle sees the target's labels, training does not"
        raise TrainingError(Fault(what, "use it with hpp score"))
    if rule not in RULES:
        raise TrainingError(Fault(f"`selection` {rule}: expected one of {', '.join(RULES)}"))


def choose(rule: str, criteria: dict[str, Floats], count: int) -> int:
    """Return the epoch, from 0, that a rule other than the oracle takes of ``count``."""
    return count - 1 if rule == OFFICIAL else int(np.argmin(criteria[rule]))


def find_epoch(rule: str, epochs: Epochs, truth: Floats, convention: str) -> tuple[int, str]:
    """Return the epoch, from 0, that a rule takes, and what an entry says of it; rotations ``truth`` are (m, 3, 3).

    Raises
    ------
    SubmissionError
        If there is no such rule.
    """
    if rule == ORACLE:
        errors = [scores(to_matrix(angles), truth, convention).mae for angles in epochs.angles]
        return int(np.argmin(errors)), ORACLE_TEXT
    if rule not in RULES:
        raise SubmissionError(Fault(f"`selection` {rule}: expected one of {', '.join([*RULES, ORACLE])}"))
    return choose(rule, epochs.criteria, len(epochs.angles)), RULES[rule]


def write_epochs(path: Path, epochs: Epochs) -> None:
    """Write predictions and criteria of all epochs."""
    with whole_or_absent(path) as temporary, temporary.open("wb") as file:
        arrays = {"angles": epochs.angles.astype(np.float32), "probabilities": epochs.probabilities.astype(np.float32)}
        np.savez_compressed(file, ids=epochs.ids, **arrays, **epochs.criteria)  # type: ignore[arg-type]


def read_epochs(path: Path, ids: np.ndarray | None = None, source: str = "") -> Epochs:
    """Return what :func:`write_epochs` wrote.

    Raises
    ------
    SubmissionError
        If the file is missing or damaged, or its frames are not those of ``ids`` (m,), which ``source`` says.
    """
    try:
        data = path.read_bytes()
        check_zip(data)
        with opened_npz(data) as file:
            epochs = _checked(file)
    except (OSError, ValueError) as error:
        what = f"expected the predictions after every epoch, as hpp benchmark leaves them: {said(error)}"
        raise SubmissionError(Fault(what, "train again into another `out`", path)) from error
    if ids is not None and epochs.ids.tolist() != ids.tolist():
        what = f"predictions on {len(epochs.ids)} frames that are not the {len(ids)} of {source}"
        raise SubmissionError(Fault(what, "score them on the data that they were made on", path))
    return epochs


def _checked(file: Mapping[str, np.ndarray]) -> Epochs:
    """Return what the arrays of a file hold; raises ValueError if they are not what was written."""
    ids, angles, probabilities = (file[name] for name in ("ids", "angles", "probabilities"))
    criteria = {rule: file[rule] for rule in RULES if rule != OFFICIAL}
    shapes = {"angles": (len(angles), len(ids), 3), "probabilities": (len(probabilities),)}
    for name, values in {"angles": angles, "probabilities": probabilities, **criteria}.items():
        if values.shape != shapes.get(name, (len(angles),)) or values.dtype.kind != "f" or not len(values):
            raise ValueError(f"{name} of shape {values.shape} and type {values.dtype}")
        if name not in criteria and not np.isfinite(values).all():
            raise ValueError(f"{name} that are not finite")
    if ids.ndim != 1 or ids.dtype.kind != "U" or (probabilities < 0).any():
        raise ValueError("ids that are no texts, or negative probabilities")
    return Epochs(ids, angles.astype(float), probabilities.astype(float), criteria)
