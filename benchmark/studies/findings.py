"""The findings on the miniature: the runs that they rest on, and the tables of ``docs/findings.md``.

The settings were fixed on seeds 100 and 101; what is reported are other seeds, each with heads, light, cameras and
poses of its own. Differences are paired by seed, with a 95 % interval of Student's t.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from scipy import stats
from tabulate import tabulate

from baselines.method import MethodSettings
from baselines.methods import METHODS
from benchmark.studies import figures
from benchmark.studies.page import RECORDS, read_records, rules_table, spread
from benchmark.studies.records import RunRecord, SweepRecords, SweptRecord, read_record, write_record
from benchmark.studies.reproduce import collect, reproduce
from benchmark.studies.runs import make_miniature, plan, run_side_by_side
from benchmark.training.job import OptionValue, TrainingJob
from benchmark.training.presets import TASKS, find_preset
from headposeplus.tasks import cores, processor

SEEDS = (10, 11, 12, 13, 14)
SCALE, PRESET, SWEPT = "study", "miniature", "sweeps.json"
MAIN = {
    "da": ["source-only", "control-uniform", "dann", "padaco", "control-padaco"],
    "pda": [
        "source-only",
        "control-uniform",
        "dann",
        "pada-like",
        "padaco",
        "control-padaco",
        "padaco-updated",
        "padaco-updated-plainly",
        "rcr",
        "rcrw",
        "adabn",
        "coral",
        "dare-gram",
        "jumbot",
        "wasserstein-weights",
        "control-pada-like",
    ],
}


class Sweep(NamedTuple):
    """Runs of methods on ``pda`` with one option at values that are not its default."""

    option: str
    values: tuple[float, ...]
    methods: tuple[str, ...]


SWEEPS = (
    Sweep("neighbours", (1, 100), ("padaco",)),
    Sweep("threshold", (10.0,), ("pada-like",)),
    Sweep("highest_lambda", (1.0,), ("dann", "padaco")),
)


class Difference(NamedTuple):
    """A mean difference over seeds with its 95 % interval, in degrees."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ({self.low:+.2f} to {self.high:+.2f})"

    @property
    def verdict(self) -> str:
        """Whether the first one's error is lower, as far as the interval tells."""
        if self.high < 0:
            return "yes"
        return "no, the opposite" if self.low > 0 else "not decided"


def difference(a: list[float], b: list[float]) -> Difference:
    """Return the mean of ``a - b``, paired, with its 95 % interval of Student's t."""
    pairs = np.subtract(a, b)
    half = stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(pairs)
    return Difference(float(pairs.mean()), float(pairs.mean() - half), float(pairs.mean() + half))


def run(out: Path, results: Path, jobs: int | None = None) -> None:
    """Train what the findings rest on in ``out``, and keep its records and pictures in ``results``.

    Runs that have ended are kept, so a command that was stopped goes on where it was.
    """
    jobs = jobs or cores()
    preset = find_preset(PRESET)
    standard: dict[str, OptionValue] = {"device": "cpu", "threads": 1}
    folders = {seed: make_miniature(out, SCALE, seed, jobs) for seed in SEEDS}
    runs = out / "runs"
    first = [job for task in MAIN for job in plan(task, ["source-only"], folders, runs, preset, standard)]
    run_side_by_side(first, jobs, "stage 1")
    swept = {
        (sweep.option, value): plan("pda", sweep.methods, folders, runs, preset, standard | {sweep.option: value})
        for sweep in SWEEPS
        for value in sweep.values
    }
    main = [job for task, names in MAIN.items() for job in plan(task, names, folders, runs, preset, standard)]
    run_side_by_side(main + [job for planned in swept.values() for job in planned], jobs, "stage 2")
    for task, names in MAIN.items():
        reproduce(task, names, list(SEEDS), None, out, results / task, SCALE, PRESET, "cpu", jobs, 1)
    records = [_collect_swept(*key, job) for key, planned in swept.items() for job in planned]
    about = SweepRecords(SCALE, PRESET, processor(), jobs, str(torch.__version__), records)
    write_record(results / SWEPT, about)
    draw(results)


def _collect_swept(option: str, value: float, job: TrainingJob) -> SweptRecord:
    return SweptRecord(option=option, value=value, **msgspec.structs.asdict(collect(job)))


class MethodRecords(NamedTuple):
    """The kept records of a task, by method and then in the order of the seeds."""

    of: dict[str, list[RunRecord]]

    def mae(self, method: str) -> list[float]:
        """Return the MAE of a method, a value a seed."""
        return [record.scores.mae for record in self.of[method]]

    def best_first(self) -> list[str]:
        """Return the methods by their mean MAE."""
        return sorted(self.of, key=lambda method: np.mean(self.mae(method)))

    def difference(self, method: str, other: str) -> Difference:
        """Return by how much a method's MAE is above another's."""
        return difference(self.mae(method), self.mae(other))


def read(results: Path, task: str) -> MethodRecords:
    """Return the kept records of a task."""
    of: dict[str, list[RunRecord]] = {}
    for record in read_records(results / task / RECORDS).records:
        of.setdefault(record.method, []).append(record)
    return MethodRecords({method: sorted(runs, key=lambda record: record.seed) for method, runs in of.items()})


def read_sweeps(results: Path) -> SweepRecords:
    """Return the kept records of all sweeps."""
    return read_record(results / SWEPT, SweepRecords, "the records of make findings")


def swept_runs(results: Path) -> dict[tuple[str, float, str], Sequence[RunRecord]]:
    """Return the records of all sweeps by option, value and the method's name, and those of the default values."""
    runs: dict[tuple[str, float, str], list[RunRecord]] = {}
    for record in read_sweeps(results).records:
        name = next(name for name in METHODS if re.fullmatch(rf"{name}-{record.option}.*", record.method))
        runs.setdefault((record.option, record.value, name), []).append(record)
    main = read(results, "pda")
    for sweep in SWEEPS:
        for method in sweep.methods:
            runs[sweep.option, default(sweep.option), method] = main.of[method]
    return dict(sorted(runs.items(), key=lambda item: (item[0][0], item[0][2], item[0][1])))


def default(option: str) -> float:
    """Return what an option is where nothing is said."""
    return float(getattr(MethodSettings(), option) or find_preset(PRESET).highest_lambda)


def _table(rows: list[dict[str, str]]) -> str:
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


# What a method without its own idea is: the same sampling with lambda = 0.
CONTROLS = {"padaco": "control-padaco", "pada-like": "control-pada-like", "rcrw": "control-padaco"}


def table(results: Path, task: str) -> str:
    """Return the table of a task, best first: the MAE and how it differs from source-only and from the controls."""
    kept = read(results, task)
    rows = []
    for method in kept.best_first():
        row = {"method": method, "MAE": spread(kept.mae(method))}
        for other in ("source-only", "control-uniform"):
            row[f"minus {other}"] = "" if method == other else str(kept.difference(method, other))
        control = CONTROLS.get(method)
        row["minus its own sampling with lambda = 0"] = f"{kept.difference(method, control)}" if control else ""
        rows.append(row)
    return _table(rows)


# Claims of the paper, and questions of ours: the one that should be better, the other, the task.
CLAIMS = (
    ("da: DANN beats source-only", "da", "dann", "source-only"),
    ("da: PADACO beats source-only", "da", "padaco", "source-only"),
    ("da: DANN beats PADACO", "da", "dann", "padaco"),
    ("pda: DANN is worse than source-only", "pda", "source-only", "dann"),
    ("pda: PADA-like is worse than source-only", "pda", "source-only", "pada-like"),
    ("pda: PADACO beats source-only", "pda", "padaco", "source-only"),
    ("pda: PADACO beats DANN", "pda", "padaco", "dann"),
    ("pda: PADACO beats PADA-like", "pda", "padaco", "pada-like"),
)


def claims(results: Path) -> str:
    """Return the paper's claims beside what was measured."""
    kept = {task: read(results, task) for task in MAIN}
    rows = []
    for claim, task, better, worse in CLAIMS:
        measured = kept[task].difference(better, worse)
        rows.append({"claim": claim, "difference of MAE": str(measured), "holds here": measured.verdict})
    return _table(rows)


def parts(results: Path) -> str:
    """Return what of the gain over source-only is a second stage alone, what resampling, what the adversary."""
    rows = []
    for task in MAIN:
        kept = read(results, task)
        for method in ("padaco", "pada-like", "dann"):
            if method not in kept.of:
                continue
            control = CONTROLS.get(method, "control-uniform")
            rows.append(
                {
                    "task": task,
                    "method": method,
                    "all": str(kept.difference(method, "source-only")),
                    "a second stage, lambda = 0": str(kept.difference("control-uniform", "source-only")),
                    "its sampling": ""
                    if control == "control-uniform"
                    else str(kept.difference(control, "control-uniform")),
                    "its adversary": str(kept.difference(method, control)),
                }
            )
    return _table(rows)


def statistics(results: Path) -> str:
    """Return the MAE of each method under the three kinds of batch statistics."""
    rows = []
    for task in MAIN:
        kept = read(results, task)
        for method in kept.best_first():
            kinds = {kind: [record.statistics[kind] for record in kept.of[method]] for kind in ("source", "target")}
            row = {"task": task, "method": method, "as submitted": spread(kept.mae(method))}
            row |= {kind: spread(values) for kind, values in kinds.items()}
            row["target minus as submitted"] = str(difference(kinds["target"], kept.mae(method)))
            rows.append(row)
    return _table(rows)


def updates(results: Path) -> str:
    """Return how far PADACO's weights moved where they are updated, and what that did, on pda."""
    kept = read(results, "pda")
    rows = []
    for method in ("padaco", "padaco-updated", "padaco-updated-plainly"):
        row = {"method": method, "MAE": spread(kept.mae(method))}
        row["minus padaco"] = "" if method == "padaco" else str(kept.difference(method, "padaco"))
        moved = np.array([record.moved or [0.0, 0.0] for record in kept.of[method]])
        row["moved in the first update"], row["in the last"] = (f"{moved[:, at].mean():.1%}" for at in (1, -1))
        row["in all"] = f"{moved.sum(axis=1).mean():.1%}"
        last = np.array([record.mae_of_epochs[-5:] for record in kept.of[method]])
        row["MAE in the last five epochs, highest minus lowest"] = spread(np.ptp(last, axis=1).tolist())
        rows.append(row)
    return _table(rows)


_NAMES = {"neighbours": "N", "threshold": "t, degrees squared", "highest_lambda": "highest lambda"}


def sweeps(results: Path) -> str:
    """Return the MAE on pda for each value of N, t and the highest lambda."""
    main = read(results, "pda")
    rows = []
    for (option, value, method), records in swept_runs(results).items():
        mae = [record.scores.mae for record in sorted(records, key=lambda record: record.seed)]
        is_default = value == default(option)
        rows.append(
            {
                "method": method,
                "option": _NAMES[option],
                "value": f"{value:g}" + " (default)" * is_default,
                "MAE": spread(mae),
                "minus the default": "" if is_default else str(difference(mae, main.mae(method))),
                "source samples kept": f"{np.mean([record.source_kept or 0 for record in records]):.1%}",
                "effective number": f"{np.mean([record.effective_source_size or 0 for record in records]):,.0f}",
            }
        )
    return _table(rows)


def rules(results: Path) -> str:
    """Return the MAE on pda of the epoch that each rule of selection takes."""
    return rules_table([record for records in read(results, "pda").of.values() for record in records])


def setting(results: Path) -> str:
    """Return on what the figures were measured."""
    about, pda = read_sweeps(results), read_records(results / "pda" / RECORDS)
    return (
        f"Seeds {', '.join(map(str, pda.seeds))}, a miniature of scale `{about.scale}` for each: "
        f"{pda.data.target:,} target images, {pda.data.source:,} source images on pda. "
        f"Preset `{about.preset}`, {about.processor} with {about.cores} cores, a thread a run, torch {about.torch}."
    )


def draw(results: Path) -> None:
    """Draw how each method differs from source-only, with intervals, PNG."""
    panels = []
    for task in MAIN:
        kept = read(results, task)
        others = [method for method in kept.best_first() if method != "source-only"]
        rows = [figures.Interval(method, *kept.difference(method, "source-only")) for method in others]
        panels.append((f"{task}: {TASKS[task]}", rows))
    figures.intervals(panels, "MAE minus that of source-only, degrees, 95 % interval", results / "differences.png")


PARTS: dict[str, Callable[[Path], str]] = {
    "setting": setting,
    "claims": claims,
    "da": lambda results: table(results, "da"),
    "pda": lambda results: table(results, "pda"),
    "parts": parts,
    "statistics": statistics,
    "updates": updates,
    "sweeps": sweeps,
    "rules": rules,
}


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(__file__).resolve().parents[2] / "results" / "findings")
