"""What became of the claims of the plan: judged from the kept runs, look by look, and kept beside them.

::

    python -m benchmark.studies.claims results/findings

reads ``runs.csv`` and writes ``claims.json``; the page of the findings shows what is in it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pandas as pd

from benchmark.studies import plan
from benchmark.studies.analysis import Estimate, estimate, holm
from benchmark.studies.plan import Claim
from benchmark.studies.power import RUNS
from benchmark.studies.records import read_record, write_record
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault

RECORD = "claims.json"
HOLDS, OPPOSITE, OPEN = "holds", "does not hold: the opposite does", "not decided"


class Judged(msgspec.Struct, frozen=True):
    """What became of a claim in a setting.

    Attributes
    ----------
    text, setting
        The claim, and ``paper`` or ``augmented``.
    primary
        Whether it is of the family of primary claims.
    mean, low, high, p
        The difference of MAE in degrees, better less worse, with its 95 % interval and its p, over all draws.
    parts
        The mean differences of pitch alone, and of yaw and roll, with their intervals.
    ray
        The difference of MAE, with its interval, where both are scored with the viewing ray.
    draws
        How many there are.
    decided
        After how many draws the claim was decided; None while it is not.
    verdict
        ``holds``, the opposite, or not decided.
    """

    text: str
    setting: str
    primary: bool
    mean: float
    low: float
    high: float
    p: float
    parts: dict[str, list[float]]
    ray: list[float]
    draws: int
    decided: int | None
    verdict: str


class JudgedClaims(msgspec.Struct, frozen=True):
    """All claims, and the methods' mean errors by task and setting; on how many draws and which devices."""

    draws: int
    devices: list[str]
    paper: list[Judged]
    own: list[Judged]


def read_runs(results: Path) -> pd.DataFrame:
    """Return the kept runs, a row for each person of a draw and each method; raises HeadposeError if there are none."""
    path = results / RUNS
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise HeadposeError(Fault("expected the runs of benchmark.studies.power", file=path)) from error


def _side(text: str, setting: str) -> tuple[str, str]:
    """Return the method and the setting that one side of a claim names."""
    method, _, own = text.partition(":")
    return method, own or setting


def differences(runs: pd.DataFrame, claim: Claim, setting: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return what a claim compares: for each draw and person, the better one's error less a share of the worse one's.

    Errors are means over ``columns``, in degrees.
    """
    keys = ["draw", "person"]
    sides = []
    for method, of_setting in (_side(claim.better, setting), _side(claim.worse, setting)):
        chosen = runs[(runs["task"] == claim.task) & (runs["setting"] == of_setting) & (runs["method"] == method)]
        sides.append(chosen.set_index(keys)[list(columns)].mean(axis=1))
    difference = sides[0] - claim.share * sides[1]
    return difference.rename("difference").dropna().reset_index()


def _rounded(found: Estimate) -> list[float]:
    return [round(value, 3) for value in (found.mean, found.low, found.high)]


def judge(runs: pd.DataFrame, claims: Sequence[Claim], setting: str) -> list[Judged]:
    """Return what became of claims in a setting; each family is judged by Holm's method at every look so far."""
    draws = sorted(runs["draw"].unique())
    decided: dict[str, tuple[int, str]] = {}
    for look, level in zip(plan.LOOKS, plan.SPENT, strict=True):
        if look > len(draws):
            break
        seen = runs[runs["draw"].isin(draws[:look])]
        for primary in (True, False):
            family = [claim for claim in claims if claim.primary == primary]
            found = [estimate(differences(seen, claim, setting, plan.ANGLES)) for claim in family]
            for claim, one, rejected in zip(family, found, holm([one.p for one in found], level), strict=True):
                if rejected and claim.text not in decided:
                    decided[claim.text] = look, HOLDS if one.mean < 0 else OPPOSITE
    judged = []
    for claim in claims:
        whole = estimate(differences(runs, claim, setting, plan.ANGLES))
        parts = {
            name: _rounded(estimate(differences(runs, claim, setting, columns)))
            for name, columns in plan.PARTS.items()
            if name != "all"
        }
        ray = estimate(differences(runs, claim, setting, [f"ray {angle}" for angle in plan.ANGLES]))
        mean, low, high = _rounded(whole)
        judged.append(
            Judged(
                text=claim.text,
                setting=setting,
                primary=claim.primary,
                mean=mean,
                low=low,
                high=high,
                p=float(f"{whole.p:.3g}"),
                parts=parts,
                ray=_rounded(ray),
                draws=len(draws),
                decided=decided.get(claim.text, (None, OPEN))[0],
                verdict=decided.get(claim.text, (None, OPEN))[1],
            )
        )
    return judged


def main(words: Sequence[str]) -> None:
    """Judge the claims from the kept runs, and keep what became of them."""
    results = Path(words[0])
    runs = read_runs(results)
    paper = [one for setting in plan.SETTINGS for one in judge(runs, plan.CLAIMS, setting)]
    own = judge(runs, plan.OWN_CLAIMS, "augmented")
    devices = sorted({str(device) for device in runs["device"].unique()})
    write_record(results / RECORD, JudgedClaims(int(runs["draw"].nunique()), devices, paper, own))
    for one in (*paper, *own):
        print(f"{one.setting:9} {one.text:58} {one.mean:+.2f} ({one.low:+.2f} to {one.high:+.2f}) {one.verdict}")


def read(results: Path) -> JudgedClaims:
    """Return what became of the claims; raises HeadposeError if it is not there."""
    return read_record(results / RECORD, JudgedClaims, "the record of benchmark.studies.claims")


if __name__ == "__main__":
    main(sys.argv[1:])
