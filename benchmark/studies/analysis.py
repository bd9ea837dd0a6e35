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
        If statsmodels is not installed.
    """
    try:
        import statsmodels.formula.api as models
    except ImportError as error:
        raise HeadposeError("the findings need statsmodels: pip install 'headposeplus[study]'") from error
    parts = {"draw": "0 + C(draw)", "person": "0 + C(person)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance of 0 lies at the edge of what it may be
        model = models.mixedlm("difference ~ 1", differences, groups=np.ones(len(differences)), vc_formula=parts)
        fitted = model.fit(reml=True)
    mean, deviation = float(fitted.fe_params.iloc[0]), float(fitted.bse_fe.iloc[0])
    draws = int(differences["draw"].nunique())
    half = float(stats.t.ppf(0.975, draws - 1)) * deviation
    return Estimate(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / deviation, draws - 1)), draws)


def holm(p: Sequence[float], level: float) -> list[bool]:
    """Return which hypotheses of a family are rejected at a level (Holm 1979)."""
    order = np.argsort(p)
    rejected = [False] * len(p)
    for rank, index in enumerate(order):
        if p[index] > level / (len(p) - rank):
            break
        rejected[index] = True
    return rejected


def spent(level: float, looks: Sequence[int]) -> list[float]:
    """Return what each look may spend of an error level: Pocock's spending function, looks after so many replicates."""
    shares = np.array(looks) / looks[-1]
    return np.diff(level * np.log(1 + (np.e - 1) * shares), prepend=0.0).tolist()
