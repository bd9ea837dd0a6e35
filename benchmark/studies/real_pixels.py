"""The methods on photographs: rendered heads as the source, a sequence of Biwi and AFLW2000-3D as targets.

::

    python -m benchmark.studies.real_pixels OUT --source NAME=SYNHEAD --biwi HPDB [--aflw2000 FOLDER] [--size 64]

Sources are copies in SynHead's layout: a miniature's, or people that ``hpp render`` drew. Each is used as a superset of
the target's poses (pda) and, for Biwi, matched to them (da). The errors go to ``real_pixels.csv`` of the results, a row
for each run, beside those of other sizes that are there already.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.scoring.ray import rays_of
from benchmark.studies import plan
from benchmark.studies.runs import submissions
from benchmark.training.job import OptionValue, make_job
from benchmark.training.presets import TASKS, find_preset
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.faults import shell_line
from headposeplus.files import write_text
from headposeplus.raw.source import Source
from headposeplus.rotations import Floats, euler_difference, geodesic
from headposeplus.tasks import cores, one_thread_each, run_tasks

RUNS = "real_pixels.csv"
METHODS = {
    "paper": ("source-only", "source-only-mixed", "dann", "pada-like", "padaco"),
    "augmented": ("source-only", "source-only-mixed", "padaco", plan.STRONGEST),
}
_KEYS = ["source", "size", "preset", "task", "setting", "method", "seed"]


class Unit(NamedTuple):
    """The methods of a task in a setting with a seed, on the datasets of a source."""

    source: str
    data: Path
    out: Path
    task: str
    setting: str
    methods: tuple[str, ...]
    preset: str
    seed: int
    device: str
    precision: str
    threads: int
    command: str

    @property
    def kept(self) -> Path:
        """Where the unit's rows are kept when it has ended."""
        preset = find_preset(self.preset).name
        return self.out / f"{self.task}-{preset}-{self.precision}-{self.setting}-{self.seed}.csv"


def score(rotations: Floats, data: Path, target: str) -> dict[str, float]:
    """Return the errors of rotations (n, 3, 3) of all rows of a target, in degrees.

    They are those of pitch, yaw and roll, the geodesic one, the mean error of each angle, and, where the camera is
    known, the MAE with the viewing ray.
    """
    dataset = open_dataset(data / target)
    ids, truth = read_labels(dataset)
    away = euler_difference(rotations, truth)
    errors = np.abs(away).mean(axis=0)
    found = {"mae": errors.mean(), **dict(zip(plan.ANGLES, errors, strict=True))}
    found["geodesic"] = geodesic(rotations, truth).mean()
    found |= {f"mean {angle}": value for angle, value in zip(plan.ANGLES, away.mean(axis=0), strict=True)}
    if dataset.info.cameras:
        found["ray mae"] = np.abs(euler_difference(rays_of(dataset, ids) @ rotations, truth)).mean()
    return {name: round(float(value), 4) for name, value in found.items()}


def run_unit(unit: Unit) -> Path:
    """Train and test the methods of a unit; return the path of their errors, a row for each."""
    if unit.kept.exists():
        return unit.kept
    options: dict[str, OptionValue] = {
        "device": unit.device,
        "threads": unit.threads,
        "precision": unit.precision,
        "augment": plan.SETTINGS[unit.setting],
        "weights": "none",
    }
    jobs = [
        make_job(method, unit.task, unit.data, unit.out, unit.preset, unit.seed, options, unit.command)
        for method in unit.methods
    ]
    target = TASKS[unit.task].target
    size = open_dataset(unit.data / target).size
    rows: list[dict[str, object]] = []
    for method, submission in zip(unit.methods, submissions(jobs, unit.kept.with_suffix(".log")), strict=True):
        keys = (unit.source, size, jobs[0].preset.name, unit.task, unit.setting, method, unit.seed)
        device = (submission.about.run or {})["device"]
        errors = score(submission.rotations, unit.data, target)
        rows.append(dict(zip(_KEYS, keys, strict=True)) | errors | {"device": device})
    write_text(unit.kept, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    return unit.kept


def keep(table: pd.DataFrame, path: Path) -> None:
    """Write rows into a table; those of the same runs, of before, give way to them."""
    if path.exists():
        table = pd.concat([pd.read_csv(path), table]).drop_duplicates(_KEYS, keep="last")
    write_text(path, table.sort_values(_KEYS).to_csv(index=False, lineterminator="\n"))


def main(words: Sequence[str]) -> None:
    """Build the datasets, train and test, and keep the errors."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", action="append", required=True, metavar="NAME=SYNHEAD")
    parser.add_argument("--biwi", type=Path, required=True)
    parser.add_argument("--aflw2000", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results/findings"))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--preset", default=plan.PRESET)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--settings", nargs="+", default=list(plan.SETTINGS), choices=list(plan.SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=cores())
    chosen = parser.parse_args(words)
    if chosen.device == "cpu":
        one_thread_each()
    typed = shell_line("python", "-m", "benchmark.studies.real_pixels", *words)
    stills = {"aflw2000": chosen.aflw2000} if chosen.aflw2000 else None
    units = []
    for name, _, folder in (text.partition("=") for text in chosen.source):
        folder_of_size = chosen.out / f"{name}-{chosen.size}"
        data, runs = folder_of_size / "data", folder_of_size / "runs"
        build_datasets(Source(chosen.biwi, Path(folder), stills=stills), data, Options(size=chosen.size), chosen.jobs)
        for seed in chosen.seeds:
            for task in ("da", "pda", "pda-aflw2000") if stills else ("da", "pda"):
                for setting in chosen.settings:
                    # On da, the poses of both domains are alike, and PADA-like is not meant for it.
                    methods = tuple(m for m in METHODS[setting] if task != "da" or m != "pada-like")
                    threads = 1 if chosen.device == "cpu" else 4
                    units.append(
                        Unit(name, data, runs, task, setting, methods, chosen.preset, seed, chosen.device,
                             chosen.precision, threads, typed)
                    )  # fmt: skip
    keep(pd.concat(map(pd.read_csv, run_tasks(run_unit, units, chosen.jobs, "units"))), chosen.results / RUNS)
    print(f"errors {chosen.results / RUNS}")


if __name__ == "__main__":
    main(sys.argv[1:])
