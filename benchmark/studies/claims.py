"""What became of the claims of the plan: judged from the kept runs, look by look, and kept beside them.

::

    python -m benchmark.studies.claims results/findings

reads ``runs.csv`` and writes ``claims.json``; the page of the findings shows what is in it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pandas as pd

from benchmark.studies import plan
from benchmark.studies.analysis import Estimate, estimate, holm
from benchmark.studies.plan import Claim
from benchmark.studies.power import RUNS
from benchmark.studies.records import read_record, write_record
from headposeplus import tables
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
    """All claims, on how many draws and which devices: the paper's, those of the strongest method, and the later ones.

    The later ones are judged on draws of their own, and absent before there are enough.
    """

    draws: int
    devices: list[str]
    paper: list[Judged]
    own: list[Judged]
    later: list[Judged]


def read_runs(results: Path) -> pd.DataFrame:
    """Return the kept runs, a row for each person of a draw and each method; raises HeadposeError if there are none."""
    path = results / RUNS
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise HeadposeError(Fault("expected the runs of benchmark.studies.power", file=path)) from error


class _Side(NamedTuple):
    """What one side of a claim names: a method, its setting, and what is before the columns of its errors."""

    method: str
    setting: str
    scored: str


def _side(text: str, setting: str, scored: str) -> _Side:
    method, *rest = text.split(":")
    return _Side(method, rest[0] if rest else setting, "ray " if "ray" in rest else scored)


def differences(
    runs: pd.DataFrame, claim: Claim, setting: str, angles: Sequence[str] = plan.ANGLES, scored: str = ""
) -> pd.DataFrame:
    """Return what a claim compares: for each draw and person, the better one's error less a share of the worse one's.

    Errors are means over some angles, in degrees; ``scored`` is ``"ray "`` for those with the viewing ray.
    """
    keys = ["draw", "person"]
    sides = []
    for side in (_side(claim.better, setting, scored), _side(claim.worse, setting, scored)):
        chosen = runs[
            (runs["task"] == claim.task) & (runs["setting"] == side.setting) & (runs["method"] == side.method)
        ]
        sides.append(chosen.set_index(keys)[[f"{side.scored}{angle}" for angle in angles]].mean(axis=1))
    difference = sides[0] - claim.share * sides[1]
    if difference.isna().any() or difference.empty:
        raise HeadposeError(
            f"{claim.text}: its two sides are not of the same draws and persons; collect the runs again"
        )
    return difference.rename("difference").reset_index()


def _rounded(found: Estimate) -> list[float]:
    return [round(value, 3) for value in (found.mean, found.low, found.high)]


def judge(runs: pd.DataFrame, claims: Sequence[Claim], setting: str, looks: dict[int, float]) -> list[Judged]:
    """Return what became of claims in a setting; each family is judged by Holm's method at every look so far.

    ``looks`` has what may be spent of the error after how many draws.
    """
    draws = sorted(runs["draw"].unique())
    decided: dict[str, tuple[int, str]] = {}
    for look, level in looks.items():
        if look > len(draws):
            break
        seen = runs[runs["draw"].isin(draws[:look])]
        for primary in (True, False):
            family = [claim for claim in claims if claim.primary == primary]
            found = [estimate(differences(seen, claim, setting)) for claim in family]
            for claim, one, rejected in zip(family, found, holm([one.p for one in found], level), strict=True):
                if rejected and claim.text not in decided:
                    decided[claim.text] = look, HOLDS if one.mean < 0 else OPPOSITE
    return [_judged(runs, claim, setting, *decided.get(claim.text, (None, OPEN))) for claim in claims]


def _judged(runs: pd.DataFrame, claim: Claim, setting: str, look: int | None, verdict: str) -> Judged:
    """Return a claim with its estimates over all draws, and how it was decided."""
    whole = estimate(differences(runs, claim, setting))
    mean, low, high = _rounded(whole)
    parts = {name: _rounded(estimate(differences(runs, claim, setting, angles))) for name, angles in plan.PARTS.items()}
    return Judged(
        text=claim.text,
        setting=setting,
        primary=claim.primary,
        mean=mean,
        low=low,
        high=high,
        p=float(f"{whole.p:.3g}"),
        parts=parts,
        ray=_rounded(estimate(differences(runs, claim, setting, scored="ray "))),
        draws=whole.draws,
        decided=look,
        verdict=verdict,
    )


def main(words: Sequence[str]) -> None:
    """Judge the claims from the kept runs, and keep what became of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("results", type=Path)
    results = parser.parse_args(words).results
    runs = read_runs(results)
    drawn = sorted({int(draw) for draw in runs["draw"]})
    missing = sorted(set(plan.DRAWS[: len(drawn)]) - set(drawn))
    if missing:
        what = f"lacks the draws {', '.join(map(str, missing))}, so a look would be at others than are planned"
        raise HeadposeError(Fault(what, "run them and collect again", results / RUNS))
    looks = dict(zip(plan.LOOKS, plan.SPENT, strict=True))
    paper = [one for setting in plan.SETTINGS for one in judge(runs, plan.CLAIMS, setting, looks)]
    own = judge(runs, plan.OWN_CLAIMS, "augmented", looks)
    later = runs[runs["draw"].isin(plan.LATER)]
    enough = later["draw"].nunique() == len(plan.LATER)
    fresh = judge(later, plan.LATER_CLAIMS, "augmented", {len(plan.LATER): 0.05}) if enough else []
    devices = sorted({str(device) for device in runs["device"].unique()})
    write_record(results / RECORD, JudgedClaims(int(runs["draw"].nunique()), devices, paper, own, fresh))
    for one in (*paper, *own, *fresh):
        mean, low, high = map(tables.signed, (one.mean, one.low, one.high))
        print(f"{one.setting:9} {one.text:76} {mean} ({low} to {high}) {one.verdict}")


def read(results: Path) -> JudgedClaims:
    """Return what became of the claims; raises HeadposeError if it is not there."""
    return read_record(results / RECORD, JudgedClaims, "the record of benchmark.studies.claims")


if __name__ == "__main__":
    main(sys.argv[1:])
