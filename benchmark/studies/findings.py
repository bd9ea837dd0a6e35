"""The tables and two of the pictures of ``docs/findings.md``, from the records in ``results/findings``.

``python -m benchmark.studies.findings RESULTS`` draws the pictures anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd

from benchmark.board.markdown import github
from benchmark.studies import claims, diagnosis, figures, plan, real_pixels
from benchmark.studies.analysis import estimate
from benchmark.studies.plan import Claim
from headposeplus import tables
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault
from headposeplus.files import read_json

PICTURE, PHOTOGRAPHS, FOREIGN = "differences.png", "photographs.png", "foreign-{}.json"
_TARGETS = {"da": "Biwi 19, matched (da)", "pda": "Biwi 19 (pda)", "pda-aflw2000": "AFLW2000-3D (pda)"}


def _interval(values: Sequence[float]) -> str:
    return "{} ({} to {})".format(*map(tables.signed, values))


def setting(results: Path) -> str:
    """Return on what the claims were judged."""
    kept = claims.read(results)
    return (
        f"{kept.draws} draws of ten heads and twenty subjects, from a pool of {10 * len(plan.PEOPLE)} and "
        f"{20 * len(plan.PEOPLE)}; scale `{plan.SCALE}`, crops of {plan.SIZE} pixels, preset `{plan.PRESET}`, one run "
        f"of each method a draw, on {', '.join(kept.devices)}."
    )


class _Plain(NamedTuple):
    """A claim as a plain difference A - B, and what the paper says of it; B is the first stage, as in the picture."""

    text: str
    says: str
    sign: int  # of the claim's own difference, better minus worse


def _plain(claim: Claim) -> _Plain:
    if claim.better == plan.FIRST:
        return _Plain(f"{claim.task}: {claim.worse} - {claim.better}", "higher", -1)
    return _Plain(f"{claim.task}: {claim.better} - {claim.worse}", "lower", 1)


def _turned(values: Sequence[float], sign: int) -> str:
    """Return a mean and its interval, with the other sign where that is -1."""
    mean, low, high = values
    return _interval((mean, low, high) if sign > 0 else (-mean, -high, -low))


def claims_table(results: Path) -> str:
    """Return the paper's eight claims as differences of MAE, and what became of each, with and without augmentation."""
    kept = claims.read(results).paper
    rows = []
    for claim in plan.CLAIMS:
        plain = _plain(claim)
        row = {"A - B": f"**{plain.text}**" if claim.primary else plain.text, "the paper says": plain.says}
        for name, title in (("paper", "as in the paper"), ("augmented", "with augmentation")):
            one = next(one for one in kept if (one.text, one.setting) == (claim.text, name))
            row[title] = _turned([one.mean, one.low, one.high], plain.sign)
            row[f"{title}: verdict"] = one.verdict + (f" (n = {one.decided})" if one.decided else "")
        rows.append(row)
    return github(rows)


def parts_table(results: Path) -> str:
    """Return the differences of the paper's claims by angle, and with the viewing ray, in the paper's setting."""
    plain = {claim.text: _plain(claim) for claim in plan.CLAIMS}
    return github(
        [
            {"A - B": plain[one.text].text, "the paper says": plain[one.text].says}
            | {name: _turned(values, plain[one.text].sign) for name, values in one.parts.items()}
            | {"with the viewing ray": _turned(one.ray, plain[one.text].sign)}
            for one in claims.read(results).paper
            if one.setting == "paper"
        ]
    )


def methods_table(results: Path) -> str:
    """Return the mean errors of each method over the draws, with their standard deviation."""
    runs = claims.read_runs(results)
    rows = []
    for task in plan.METHODS:
        for name in plan.SETTINGS:
            some = runs[(runs["task"] == task) & (runs["setting"] == name)]
            means = some.groupby(["method", "draw"]).mean(numeric_only=True)
            plain = means[list(plan.ANGLES)].mean(axis=1).groupby("method")
            ray = means[[f"ray {angle}" for angle in plan.ANGLES]].mean(axis=1).groupby("method")
            for method in plain.mean().sort_values().index:
                angles = means.loc[method][list(plan.ANGLES)].mean()
                rows.append(
                    {"task": task, "setting": name, "method": str(method)}
                    | {"MAE": f"{plain.mean()[method]:.2f} ± {plain.std()[method]:.2f}"}
                    | {angle: f"{angles[angle]:.2f}" for angle in plan.ANGLES}
                    | {"MAE with the viewing ray": f"{ray.mean()[method]:.2f} ± {ray.std()[method]:.2f}"}
                )
    return github(rows)


def own_table(results: Path) -> str:
    """Return what became of the claims about the strongest method, those of before and those judged on later draws."""
    kept = claims.read(results)
    shares = {claim.text: claim.share for claim in (*plan.OWN_CLAIMS, *plan.LATER_CLAIMS)}
    return github(
        [
            {
                "claim": one.text,
                "draws": str(one.draws),
                "share of the other's MAE": f"{shares[one.text]:g}",
                "its MAE minus that": _interval([one.mean, one.low, one.high]),
                "verdict": one.verdict,
            }
            for one in (*kept.own, *kept.later)
        ]
    )


class Level(msgspec.Struct, frozen=True):
    """The MAE of a network whose mean error of each angle is taken off."""

    mae: float


class LikePoses(msgspec.Struct, frozen=True):
    """The same of frames that are counted so that their poses are like those of other ones."""

    found: float
    mae: float
    level: float
    mean_error: dict[str, float]


class NetworkFigures(msgspec.Struct, frozen=True):
    """How a network of others reads some frames, as ``benchmark.upkeep.foreign`` keeps it; errors in degrees."""

    frames: int
    found: int
    mae: float
    interval: list[float]
    level: Level
    mean_error: dict[str, float]
    like: LikePoses | None = None


def foreign_table(results: Path) -> str:
    """Return how networks that never saw the miniature read it, beside real frames."""
    rows = []
    for name, pictures in (("real", "Biwi"), ("miniature", "the miniature")):
        kept = read_json(results / FOREIGN.format(name), "what benchmark.upkeep.foreign measured")
        for network, found in kept.items():
            if not (isinstance(found, dict) and "mae" in found):
                continue
            one = msgspec.convert(found, NetworkFigures)
            between = f" ({one.interval[0]:.1f} to {one.interval[1]:.1f})"
            of_all = (f"{pictures}, {one.frames} frames", one.found / one.frames, f"{one.mae:.2f}{between}")
            rows.append(_foreign_row(network, *of_all, one.level.mae, one.mean_error))
            if one.like:
                of_like = (f"{pictures}, of like poses", one.like.found, f"{one.like.mae:.2f}")
                rows.append(_foreign_row(network, *of_like, one.like.level, one.like.mean_error))
    return github(sorted(rows, key=lambda row: row["network"]))


def _foreign_row(
    network: str, pictures: str, found: float, mae: str, level: float, mean_error: dict[str, float]
) -> dict[str, str]:
    return {
        "network": network,
        "pictures": pictures,
        "faces found": f"{found:.0%}",
        "MAE": mae,
        "without its mean errors": f"{level:.2f}",
        "mean error of pitch": tables.signed(mean_error["pitch"], 1),
    }


_REAL_SIZES = "miniature of the real sizes"  # a source with which networks and sizes of crops were compared


def _photographs(results: Path, sizes: bool = False) -> pd.DataFrame:
    """Return the runs on photographs; with ``sizes`` those of networks and sizes of crops instead."""
    path = results / real_pixels.RUNS
    try:
        runs = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise HeadposeError(Fault("expected the runs of benchmark.studies.real_pixels", file=path)) from error
    return runs[(runs["source"] == _REAL_SIZES) == sizes]


_ON_PHOTOGRAPHS = list(dict.fromkeys(name for names in real_pixels.METHODS.values() for name in names))


def photographs_table(results: Path) -> str:
    """Return the errors on photographs: a row for each source, target and setting, a column a method."""
    runs = _photographs(results)
    rows = []
    keys = ["size", "preset", "source", "task", "setting"]
    for (size, preset, source, task, name), some in runs.groupby(keys, sort=True):
        of = some.groupby("method")[["mae", "ray mae"]].mean()
        row = {
            "preset": f"{preset}, {size} pixels",
            "from, to": f"{source}, {_TARGETS[str(task)]}",
            "setting": str(name),
        }
        for method in _ON_PHOTOGRAPHS:
            row[method] = ""
            if method in of.index:
                mae, ray = of.loc[method]
                row[method] = f"{mae:.2f}" + ("" if np.isnan(ray) else f" ({ray:.2f})")
        rows.append(row)
    preset = {row.pop("preset") for row in rows}
    assert len(preset) == 1, "a page has no room for a column of presets"
    return f"The preset is {preset.pop()}.\n\n{github(rows)}"


def sizes_table(results: Path) -> str:
    """Return the errors of the networks and sizes of crops that were compared, a row for each, a column a method."""
    runs = _photographs(results, sizes=True)
    methods = [method for method in _ON_PHOTOGRAPHS if method in set(runs["method"])]
    rows = []
    for (size, preset, device), some in runs.groupby(["size", "preset", "device"]):
        network = "slim" if preset == plan.PRESET else "ResNet18"
        row = {"network": network, "pixels": str(size), "on": str(device)} | dict.fromkeys(methods, "")
        for run in some.to_dict("records"):
            row[str(run["method"])] = f"{run['mae']:.2f} ({run['ray mae']:.2f})"
        rows.append(row)
    return github(rows)


_ADVERSARIES = ("dann", "pada-like", "padaco")


def photographs_words(results: Path) -> str:
    """Return what the errors on photographs say of the adversaries and of augmentation, with the reference named."""
    runs = _photographs(results)
    means = runs.groupby(["task", "source", "setting", "method"])["mae"].mean().unstack()
    paper, augmented = (means.xs(name, level="setting") for name in ("paper", "augmented"))
    adversaries = paper[list(_ADVERSARIES)]

    def beside(task: str, reference: str) -> str:
        differences = adversaries.loc[task].sub(paper.loc[task, reference], axis=0).to_numpy()
        some = differences[~np.isnan(differences)]
        spread = f"{tables.signed(some.min())} to {tables.signed(some.max())} degrees"
        return f"the MAE of {(some > 0).sum()} of {len(some)} is above that of `{reference}` ({spread})"

    changes = augmented - paper
    lowered = ", ".join(
        f"{(changes[method] < 0).sum()} of {changes[method].notna().sum()} times for `{method}`"
        for method in _ON_PHOTOGRAPHS
        if changes[method].notna().any()
    )
    ahead = (augmented[plan.FIRST] < adversaries.min(axis=1)).sum()
    return (
        f"Runs of adversaries without augmentation, sequence 19 in `pda`: {beside('pda', plan.FIRST)}, "
        f"and {beside('pda', 'source-only')}. In `da`, {beside('da', plan.FIRST)}; on AFLW2000-3D, "
        f"{beside('pda-aflw2000', plan.FIRST)}. Augmentation lowers the MAE {lowered}; with it, `{plan.FIRST}` is "
        f"below the best adversary without it for {ahead} of {len(paper)} pairs of source and target."
    )


_KINDS = {"paper": "as in the paper", "augmented": "with augmentation"}  # the settings, as pictures call them
_TITLES = {"da": "da: the label spaces agree", "pda": "pda: the source's is wider"}


def draw(results: Path) -> None:
    """Draw how each method differs from source-only with batch statistics of both domains, with intervals, PNG."""
    runs = claims.read_runs(results)
    panels = []
    for task, methods in plan.METHODS.items():
        rows = []
        for name in plan.SETTINGS:
            for method in (*methods, *((plan.STRONGEST,) * (name == "augmented"))):
                if method != plan.FIRST:
                    found = estimate(claims.differences(runs, Claim("", task, method, plan.FIRST), name))
                    rows.append(figures.Interval(method, _KINDS[name], found.mean, found.low, found.high))
        panels.append((_TITLES[task], rows))
    label = f"MAE minus that of {plan.FIRST}, degrees\n(left of the line is better)"
    figures.intervals(panels, label, results / PICTURE, plan.FIRST)


def draw_photographs(results: Path) -> None:
    """Draw the errors on photographs, a panel for each source and target, PNG."""
    runs = _photographs(results)
    panels = []
    for (size, source, task), some in runs.groupby(["size", "source", "task"], sort=True):
        means = some.groupby(["setting", "method"])["mae"].mean()
        rows = [
            figures.Interval(method, _KINDS[name], float(means[name, method]))
            for name in plan.SETTINGS
            for method in _ON_PHOTOGRAPHS
            if (name, method) in means.index
        ]
        panels.append((f"{source} heads, {size} pixels,\nto {_TARGETS[str(task)]}", rows))
    figures.intervals(panels, "MAE, degrees", results / PHOTOGRAPHS)


TABLES: dict[str, Callable[[Path], str]] = {
    "setting": setting,
    "claims": claims_table,
    "parts": parts_table,
    "methods of the plan": methods_table,
    "gap": diagnosis.gap_table,
    "bounds": diagnosis.bounds_table,
    "causes": diagnosis.causes_table,
    "foreign": foreign_table,
    "own": own_table,
    "photographs": photographs_table,
    "photographs in words": photographs_words,
    "photographs by size": sizes_table,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the pictures of the findings.")
    parser.add_argument("results", type=Path)
    drawn = parser.parse_args().results
    draw(drawn)
    draw_photographs(drawn)
