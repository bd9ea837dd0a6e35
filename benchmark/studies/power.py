"""The comparison on miniatures that :mod:`benchmark.studies.plan` plans: its runs, and what is kept of them.

::

    python -m benchmark.studies.power OUT --results results/findings [--draws 24] [--device cuda]

Units of work, a draw's methods on one task in one setting, run side by side, each in one process. Units that have
ended are kept, so a command that was stopped goes on where it was.
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
from benchmark.studies.pool import choose, draw_miniatures, make_pool
from benchmark.studies.runs import submissions
from benchmark.training.job import OptionValue, make_job
from headposeplus.datasets.dataset import open_dataset, read_fields
from headposeplus.faults import shell_line
from headposeplus.files import write_text
from headposeplus.rotations import Floats, angle_difference, from_matrix
from headposeplus.tasks import cores, one_thread_each, run_tasks

RUNS = "runs.csv"


class Unit(NamedTuple):
    """A draw's methods on one task in one setting, and where they are run."""

    data: Path
    out: Path
    draw: int
    task: str
    setting: str
    methods: tuple[str, ...]
    device: str

    @property
    def kept(self) -> Path:
        """Where the unit's rows are kept when it has ended."""
        return self.out / f"{self.task}-{self.setting}-{self.draw}.csv"


class TargetLabels(NamedTuple):
    """What scoring knows of a target: ids and subjects (n,), angles (n, 3), and the turns (n, 3, 3) to viewing rays."""

    ids: np.ndarray
    subjects: np.ndarray
    angles: Floats
    rays: Floats


def read_target(data: Path) -> TargetLabels:
    """Return the labels of the Biwi+ in a folder of datasets, and the viewing ray of each box."""
    dataset = open_dataset(data / "biwi+")
    parts = list(read_fields(dataset, "id", "subject", "label/pyr"))
    ids, subjects, angles = (np.concatenate([part[name] for part in parts]) for name in ("id", "subject", "label/pyr"))
    return TargetLabels(ids, subjects, angles, rays_of(dataset, ids))


def errors_by_person(rotations: Floats, target: TargetLabels) -> pd.DataFrame:
    """Return each subject's mean absolute errors of pitch, yaw and roll, in degrees, of rotations (n, 3, 3).

    An angle's error is the way around to the true one, the shorter of the two.
    Those named with ``ray`` are of the same rotations taken as relative to the viewing ray of each box.
    """
    kinds = {"": from_matrix(rotations), "ray ": from_matrix(target.rays @ rotations)}
    away = {
        f"{kind}{angle}": np.abs(angle_difference(angles, target.angles)[:, i])
        for kind, angles in kinds.items()
        for i, angle in enumerate(plan.ANGLES)
    }
    return pd.DataFrame(away).assign(subject=target.subjects).groupby("subject").mean().round(4).reset_index()


def run_unit(unit: Unit) -> Path:
    """Train and test the methods of a unit; return the path of their errors, a row for each subject and method."""
    if unit.kept.exists():
        return unit.kept
    options: dict[str, OptionValue] = {
        "device": unit.device,
        "threads": 1,
        "precision": "float32",
        "augment": plan.SETTINGS[unit.setting],
    }
    target = read_target(unit.data)
    people = choose(sorted({*target.subjects.tolist()}), len(plan.PEOPLE), unit.draw)
    words = shell_line("python", "-m", "benchmark.studies.power", unit.out.parent)
    jobs = [
        make_job(method, unit.task, unit.data, unit.out, plan.PRESET, unit.draw, options, words)
        for method in unit.methods
    ]
    tables = []
    for method, submission in zip(unit.methods, submissions(jobs, unit.kept.with_suffix(".log")), strict=True):
        assert submission.ids.tolist() == target.ids.tolist()
        table = errors_by_person(submission.rotations, target)
        facts = submission.about.run or {}
        table = table.assign(method=method, accuracy=facts.get("accuracy_at_lambda"), device=facts["device"])
        tables.append(table)
    rows = pd.concat(tables).assign(draw=unit.draw, task=unit.task, setting=unit.setting)
    rows["person"] = [f"{people[subject]}-{subject}" for subject in rows["subject"]]
    errors = [f"{kind}{angle}" for kind in ("", "ray ") for angle in plan.ANGLES]
    columns = ["draw", "task", "setting", "method", "person", *errors, "accuracy", "device"]
    write_text(unit.kept, rows[columns].to_csv(index=False, lineterminator="\n"))
    return unit.kept


def units(data: dict[int, Path], out: Path, device: str) -> list[Unit]:
    """Return the units of some draws, the first draw's first."""
    return [
        Unit(folder, out, draw, task, setting, (*methods, *((plan.STRONGEST,) * (setting == "augmented"))), device)
        for draw, folder in data.items()
        for task, methods in plan.METHODS.items()
        for setting in plan.SETTINGS
    ]


def collect(kept: Sequence[Path], results: Path) -> Path:
    """Write the rows of some units into one file, those of whole draws only; return its path."""
    rows = pd.concat([pd.read_csv(path) for path in kept])
    whole = rows.groupby("draw")[["task", "setting"]].apply(lambda table: len(table.drop_duplicates()))
    rows = rows[rows["draw"].isin(whole.index[whole == len(plan.METHODS) * len(plan.SETTINGS)])]
    ordered = rows.sort_values(["draw", "task", "setting", "method", "person"], kind="stable")
    write_text(results / RUNS, ordered.to_csv(index=False, lineterminator="\n"))
    return results / RUNS


def main(words: Sequence[str]) -> None:
    """Run the first draws of the plan and keep their errors in ``runs.csv`` of the results."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results/findings"))
    parser.add_argument("--draws", type=int, default=plan.LOOKS[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=cores())
    chosen = parser.parse_args(words)
    one_thread_each()
    members = make_pool(chosen.out / "pool", plan.SCALE, plan.POSES, plan.PEOPLE, plan.SIZE, chosen.jobs)
    data = draw_miniatures(members, plan.DRAWS[: chosen.draws], chosen.out / "draws", chosen.jobs)
    kept = run_tasks(run_unit, units(data, chosen.out / "runs", chosen.device), chosen.jobs, "units")
    print(f"errors {collect(kept, chosen.results)}")


if __name__ == "__main__":
    main(sys.argv[1:])
