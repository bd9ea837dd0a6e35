"""A run that is asked for: its job, its settings and its folder."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from baselines.method import Method, Settings
from baselines.methods import find_method
from benchmark.scoring import selection
from benchmark.training import ranks as among
from benchmark.training.presets import TASKS, Preset, find_preset
from benchmark.training.ranks import Ranks
from headposeplus.datasets.dataset import Dataset, open_dataset
from headposeplus.errors import DatasetError, TrainingError
from headposeplus.files import read_json, write_json

RUN, MODEL, PREDICTIONS = "run.json", "model.pt", "predictions.csv"


class Options(NamedTuple):
    """How a run is carried out; of these, ``half``, ``clip`` and ``selection`` may change its result.

    ``half`` is bfloat16 for the network, ``clip`` the largest norm of a step's gradient, ``store`` where the crops are
    kept (:data:`benchmark.loaders.open.STORES`), ``selection`` one of :data:`benchmark.scoring.selection.RULES`.
    """

    device: str = "auto"
    half: bool | None = None  # None: on a GPU
    compiled: bool = False
    clip: float | None = None
    deterministic: bool = False
    store: str = "auto"
    selection: str = selection.OFFICIAL
    threads: int | None = None
    tensorboard: bool = False


class Job(NamedTuple):
    """What to train, and where."""

    method: type[Method]
    task: str
    preset: Preset
    data: Path
    out: Path
    seed: int
    weights: str
    settings: Settings
    options: Options
    command: str


def variant(method: str, settings: Settings | None = None, rule: str = selection.OFFICIAL) -> str:
    """Return the name of a run's folder: the method, and what is not as it is by default."""
    standard, given = Settings()._asdict(), (settings or Settings())._asdict()
    changed = [f"{name}{value:g}" for name, value in given.items() if value != standard[name]]
    parts = [method, *changed, *([rule] if rule != selection.OFFICIAL else [])]
    return "-".join(re.sub(r"[^\w.]+", "-", part) for part in parts)


def find_device(name: str, ranks: Ranks | None = None) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``; raises TrainingError if there is no such one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda") and not re.fullmatch(r"cuda:\d", name):
        raise TrainingError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    if name != "cpu" and not torch.cuda.is_available():
        raise TrainingError(f"--device {name}: this machine has no GPU that torch can use; use --device cpu")
    device = torch.device(name)
    if device.type == "cuda":
        number = ranks.local if ranks and ranks.world > 1 else device.index or 0
        if number >= torch.cuda.device_count():
            raise TrainingError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs, not {number + 1}")
        device = torch.device("cuda", number)
    return device


def commit() -> str:
    """Return the commit of the clone that this code runs from, ``-dirty`` if it was changed; else an empty text."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    words = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # there is no git
        return ""


def _is_claimed(folder: Path, settings: dict[str, Any]) -> bool:
    """Return whether a folder is a run's; raises TrainingError if it belongs to another one."""
    note = folder / RUN
    if not note.exists():
        return False
    found = read_json(note, "the settings of a run")
    differing = [key for key in settings if found.get(key) != json.loads(json.dumps(settings[key]))]
    if differing:
        raise TrainingError(
            f"{folder}: holds a run with another {', '.join(differing)}; choose another --out or delete the folder"
        )
    return True


def _claim(folder: Path, settings: dict[str, Any], ranks: Ranks) -> None:
    """Make a run's folder, or check that it belongs to the same run."""
    claimed = _is_claimed(folder, settings)
    among.wait(ranks)
    if ranks.first and not claimed:
        write_json(folder / RUN, settings)
    among.wait(ranks)


def _own_settings(job: Job) -> dict[str, Any]:
    """Return the settings that stage 1 does not depend on."""
    return {"method": job.method.name, "settings": job.settings._asdict(), "selection": job.options.selection}


def _check_data(job: Job) -> tuple[Dataset, Dataset]:
    """Return source and target; raises DatasetError if they do not fit the preset or each other."""
    source, target = open_dataset(job.data / TASKS[job.task]), open_dataset(job.data / "biwi+")
    for dataset in (source, target):
        if job.preset.size not in (None, dataset.size):
            raise DatasetError(
                f"{dataset.folder}: crops of {dataset.size} pixels, but the preset {job.preset.name} needs "
                f"{job.preset.size}; build with --size {job.preset.size}, or choose another --preset"
            )
        found = dataset.info.convention, dataset.info.camera
        if found != ("pyr", "rgb"):
            raise DatasetError(
                f"{dataset.folder}: labels in convention {found[0]}, {found[1]} camera; expected pyr, rgb: build again"
            )
    if source.size != target.size:
        raise DatasetError(
            f"{job.data}: source crops of {source.size} and target crops of {target.size} pixels; "
            "build both with one --size"
        )
    for part in source.parts():
        if part.info.matched_sha256 not in (None, target.info.content_sha256):
            raise DatasetError(f"{part.folder}: was matched with another Biwi+; build with both raw datasets once more")
    return source, target


def _half(job: Job, device: torch.device) -> bool:
    return device.type == "cuda" if job.options.half is None else job.options.half


def _settings(job: Job, ranks: Ranks, device: torch.device, source: Dataset, target: Dataset) -> dict[str, Any]:
    """Return what the result of stage 1 depends on."""
    return {
        "task": job.task,
        "preset": job.preset._asdict(),
        "weights": job.weights,
        "seed": job.seed,
        "precision": "bfloat16" if _half(job, device) else "float32",
        "clip": job.options.clip,
        "processes": ranks.world,
        "source": source.info.content_sha256,
        "target": target.info.content_sha256,
    }


def folder_of(job: Job) -> Path:
    """Return the folder of a job's method and seed."""
    base = job.out / f"{job.task}-{job.preset.name}-seed{job.seed}"
    return base / variant(job.method.name, job.settings, job.options.selection)


def is_finished(job: Job) -> bool:
    """Return whether a job has left its predictions; raises TrainingError if its folder belongs to another run."""
    settings = _settings(job, Ranks(), find_device(job.options.device), *_check_data(job))
    return _is_claimed(folder_of(job), settings | _own_settings(job)) and (folder_of(job) / PREDICTIONS).exists()


def job_from_options(
    method: str,
    task: str,
    data: Path,
    out: Path,
    preset: str,
    weights: str | None,
    batch: int | None,
    settings: Settings,
    options: Options,
    seed: int,
    command: str,
) -> Job:
    """Return what the options of the command line ask for; raises HeadposeError if a name is unknown."""
    chosen = find_preset(preset)
    if batch:
        chosen = chosen._replace(batch=batch)
    initial = weights or chosen.weights
    return Job(find_method(method), task, chosen, data, out, seed, initial, settings, options, command)
