"""How the claims of a plan are judged: a mixed model, looks that share the error, and Holm's method."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from headposeplus.errors import HeadposeError


class Estimate(NamedTuple):
    """A mean difference in degrees with its 95 % interval, its p (two-sided), and its number of draws."""

    mean: float
    low: float
    high: float
    p: float
    draws: int


def estimate(differences: pd.DataFrame) -> Estimate:
    """Return the mean of differences by a mixed model with random draws and random persons, crossed, fitted by REML.

    ``differences`` has the columns ``draw``, ``person`` and ``difference``, a row for each person of a draw: persons
    return in other draws. The interval is Student's with as many degrees of freedom as there are draws less one, which
    is cautious.

    Raises
    ------
    HeadposeError
        If statsmodels is not installed, or the fit does not converge.
    """
    try:
        import statsmodels.formula.api as models
    except ImportError as error:
        raise HeadposeError("the findings need statsmodels: pip install 'headposeplus[study]'") from error
    parts = {"draw": "0 + C(draw)", "person": "0 + C(person)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance of 0 lies at the edge of what it may be
        model = models.mixedlm("difference ~ 1", differences, groups=np.ones(len(differences)), vc_formula=parts)
        # Nelder & Mead's simplex needs no gradient, which a variance of 0 would mislead.
        fitted = model.fit(reml=True, method="nm")
    if not fitted.converged:
        raise HeadposeError("the mixed model of the differences was not fitted: are there several draws and persons?")
    variances = dict(zip(model.exog_vc.names, fitted.vcomp, strict=True))
    mean, deviation = _weighted_mean(differences, variances, float(fitted.scale))
    draws = int(differences["draw"].nunique())
    half = float(stats.t.ppf(0.975, draws - 1)) * deviation
    return Estimate(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / deviation, draws - 1)), draws)


def _weighted_mean(differences: pd.DataFrame, variances: dict[str, float], rest: float) -> tuple[float, float]:
    """Return the mean of differences whose variances are known, by generalised least squares, and its standard error.

    The fit's own standard error follows from the inverse of a Hessian, which is singular where a variance is 0.
    """
    covariance = rest * np.eye(len(differences))
    for column, variance in variances.items():
        names = differences[column].to_numpy()
        covariance += variance * (names[:, None] == names[None, :])
    weights = np.linalg.solve(covariance, np.ones(len(differences)))
    mean = float(weights @ differences["difference"].to_numpy() / weights.sum())
    return mean, float(weights.sum() ** -0.5)


def holm(p: Sequence[float], level: float) -> list[bool]:
    """Return which hypotheses of a family are rejected at a level (Holm 1979)."""
    order = np.argsort(p)
    rejected = [False] * len(p)
    for rank, index in enumerate(order):
        if p[index] > level / (len(p) - rank):
            break
        rejected[index] = True
    return rejected
