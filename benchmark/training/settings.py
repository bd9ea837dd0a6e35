"""What the result of a run depends on, which ``run.json`` in its folder says: a folder belongs to one run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from baselines.method import MethodSettings
from benchmark.loaders.launch import Ranks
from benchmark.training import ranks as among
from benchmark.training.job import PREDICTIONS, TrainingJob, find_device
from benchmark.training.presets import TASKS, Preset
from headposeplus.datasets.dataset import Dataset, open_dataset
from headposeplus.errors import DatasetError, TrainingError
from headposeplus.faults import Fault, shown
from headposeplus.files import read_json, write_json
from headposeplus.raw.targets import BIWI_PLUS

RUN = "run.json"


class SourceSettings(NamedTuple):
    """What the result of stage 1 depends on; ``source`` and ``target`` are hashes of the datasets' content."""

    task: str
    preset: Preset
    weights: str
    seed: int
    precision: str
    clip: float | None
    augment: str
    processes: int
    source: str
    target: str

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain values; ``augment`` and a base are left out where there is none.

        So older runs are known.
        """
        preset = {name: value for name, value in self.preset._asdict().items() if (name, value) != ("base", "")}
        values = {**self._asdict(), "preset": preset}
        return {name: value for name, value in values.items() if (name, value) != ("augment", "none")}


class RunSettings(NamedTuple):
    """What the result of a run depends on: all that stage 1 does, and what is a method's own."""

    shared: SourceSettings
    method: str
    settings: MethodSettings
    selection: str

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain values."""
        own = {"method": self.method, "settings": self.settings._asdict(), "selection": self.selection}
        return self.shared.to_json() | own


def settings_of_run(
    job: TrainingJob, ranks: Ranks, device: torch.device, source: Dataset, target: Dataset
) -> RunSettings:
    """Return what the result of a job on some processes, a device and two datasets depends on."""
    shared = SourceSettings(
        task=job.task,
        preset=job.preset,
        weights=job.weights,
        seed=job.seed,
        precision="bfloat16" if job.is_half(device) else "float32",
        clip=job.options.clip,
        augment=job.options.augment,
        processes=ranks.world,
        source=source.info.content_sha256,
        target=target.info.content_sha256,
    )
    return RunSettings(shared, job.method.name, job.settings, job.options.selection)


def open_data(job: TrainingJob) -> tuple[Dataset, Dataset]:
    """Return source and target; raises DatasetError if they do not fit the preset or each other."""
    task = TASKS[job.task]
    source, target = open_dataset(job.data / task.source), open_dataset(job.data / task.target)
    for dataset in (source, target):
        _check_fits_preset(dataset, job.preset)
    check_sizes(job.data, source, target)
    for part in source.parts() if task.target == BIWI_PLUS else ():
        if part.info.matched_sha256 not in (None, target.info.content_sha256):
            fault = Fault("was matched with another Biwi+", "build with both raw datasets once more", part.folder)
            raise DatasetError(fault)
    return source, target


def _check_fits_preset(dataset: Dataset, preset: Preset) -> None:
    if preset.size not in (None, dataset.size):
        raise DatasetError(
            Fault(
                f"crops of {dataset.size} pixels, but the preset {preset.name} needs {preset.size}",
                f"build with `size` {preset.size}, or choose another `preset`",
                dataset.folder,
            )
        )
    convention, camera = dataset.info.convention, dataset.info.camera
    if (convention, camera) != ("pyr", "rgb"):
        labels = f"labels in convention {convention}, {camera} camera; expected pyr, rgb"
        raise DatasetError(Fault(labels, "build again", dataset.folder))


def check_sizes(data: Path, source: Dataset, target: Dataset) -> None:
    """Raise DatasetError if source and target have crops of two sizes."""
    if source.size != target.size:
        raise DatasetError(
            Fault(
                f"source crops of {source.size} and target crops of {target.size} pixels",
                "build both with one `size`",
                data,
            )
        )


def _is_claimed(folder: Path, settings: Mapping[str, object]) -> bool:
    """Return whether a folder is a run's; raises TrainingError if it belongs to another one."""
    note = folder / RUN
    if not note.exists():
        return False
    kept = read_json(note, "the settings of a run")
    if not isinstance(kept, dict):
        raise TrainingError(Fault("expected the settings of a run", "choose another `out` or delete the folder", note))
    differing = list(dict.fromkeys(_differing(kept, json.loads(json.dumps(settings)))))  # a preset names weights too
    if differing:
        wrong = f"holds a run with other settings: {', '.join(differing)}"
        raise TrainingError(Fault(wrong, "choose another `out` or delete the folder", folder))
    return True


def _differing(kept: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return the settings that are not as they were, each with both values."""
    words: list[str] = []
    for key in {**now, **kept}:
        before, value = kept.get(key), now.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            words += _differing(before, value)
        elif before != value:
            words.append(f"{key} {_word(before)}, not {_word(value)}")
    return words


def _word(value: object) -> str:
    return shown(value) if isinstance(value, str | list | dict) else str(value)


def claim(folder: Path, settings: Mapping[str, object], ranks: Ranks) -> None:
    """Make a run's folder, or check that it belongs to the same run; raises TrainingError if it does not."""
    claimed = _is_claimed(folder, settings)
    among.wait(ranks)
    if ranks.first and not claimed:
        write_json(folder / RUN, settings)
    among.wait(ranks)


def is_finished(job: TrainingJob) -> bool:
    """Return whether a job has left its predictions; raises TrainingError if its folder belongs to another run."""
    settings = settings_of_run(job, Ranks(), find_device(job.options.device), *open_data(job))
    return _is_claimed(job.folder, settings.to_json()) and (job.folder / PREDICTIONS).exists()
