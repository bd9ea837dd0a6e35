"""A run that is asked for: its method, its data, its options and its folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import torch

from baselines.method import Method, MethodSettings
from baselines.methods import find_method
from benchmark.loaders.launch import Ranks
from benchmark.scoring import selection
from benchmark.training.presets import Preset, changed, changes, find_preset, renamed
from headposeplus.errors import TrainingError

MODEL, PREDICTIONS = "model.pt", "predictions.csv"
PRECISIONS = {"auto": None, "float32": False, "bfloat16": True}
BFLOAT16 = ("amx_bf16", "avx512_bf16")  # what a processor that computes in it says of itself

OptionValue = str | float | bool | None


class RunOptions(NamedTuple):
    """How a run is carried out; of these, ``half``, ``clip``, ``augment`` and ``selection`` may change its result.

    ``half`` is bfloat16 for the network, ``clip`` the largest norm of a step's gradient, ``augment`` how source images
    are changed (:data:`baselines.augment.KINDS`), ``store`` where the crops are kept
    (:data:`benchmark.loaders.open.STORES`), ``selection`` one of :data:`benchmark.scoring.selection.RULES`.
    """

    device: str = "auto"
    half: bool | None = None  # None: on a GPU
    compiled: bool = False
    clip: float | None = None
    augment: str = "none"
    deterministic: bool = False
    store: str = "auto"
    selection: str = selection.OFFICIAL
    threads: int | None = None
    tensorboard: bool = False


class TrainingJob(NamedTuple):
    """What to train, and where; ``command`` is what a user types for it."""

    method: type[Method]
    task: str
    preset: Preset
    data: Path
    out: Path
    seed: int
    weights: str
    settings: MethodSettings
    options: RunOptions
    command: str

    @property
    def title(self) -> str:
        """The method and the seed."""
        return f"{self.method.name}, seed {self.seed}"

    @property
    def label(self) -> str:
        """The preset, and what else of stage 1 is not as by default, but for augmentation, as in a folder's name."""
        weights = "" if self.weights == self.preset.weights else f"weights-{Path(self.weights).stem}"
        clip = "" if self.options.clip is None else f"clip{self.options.clip}"
        half = next((word for word, half in PRECISIONS.items() if half is self.options.half), "")
        parts = (self.preset.name, weights, clip, "" if half == "auto" else half)
        return "-".join(_plain(part) for part in parts if part)

    @property
    def changes(self) -> str:
        """How the two stages differ from a preset of the toolkit, in words; empty if they do not."""
        clip = [] if self.options.clip is None else [f"clip {self.options.clip}, not none"]
        return changes(self.preset._replace(weights=self.weights), *clip)

    @property
    def family(self) -> str:
        """What the runs of all methods and seeds share with this one, the beginning of their folders' name."""
        augment = "" if self.options.augment == "none" else f"-{self.options.augment}"
        return f"{self.task}-{self.label}{augment}"

    @property
    def folder(self) -> Path:
        """The folder of the method and the seed."""
        base = self.out / f"{self.family}-seed{self.seed}"
        return base / variant(self.method.name, self.settings, self.options.selection)

    def is_half(self, device: torch.device) -> bool:
        """Return whether the network computes in bfloat16 on a device."""
        return device.type == "cuda" if self.options.half is None else self.options.half

    def could_be_half(self, device: torch.device, flags: frozenset[str]) -> bool:
        """Return whether bfloat16 is worth a word: nobody chose, the network is large, the processor has it.

        It is not chosen for them, since the weights would then be others on another processor.
        """
        unsaid = self.options.half is None and self.preset.backbone == "resnet18"
        return unsaid and device.type == "cpu" and not flags.isdisjoint(BFLOAT16)


Chosen = TypeVar("Chosen", MethodSettings, RunOptions)


def variant(method: str, settings: MethodSettings | None = None, rule: str = selection.OFFICIAL) -> str:
    """Return the name of a run's folder: the method, and what is not as it is by default."""
    standard, chosen = MethodSettings()._asdict(), (settings or MethodSettings())._asdict()
    changed = [
        f"{name}-{value}" if isinstance(value, str) else f"{name}{value:g}"
        for name, value in chosen.items()
        if value != standard[name]
    ]
    parts = [method, *changed, *([rule] if rule != selection.OFFICIAL else [])]
    return "-".join(map(_plain, parts))


def _plain(part: str) -> str:
    return re.sub(r"[^\w.-]+", "-", part)


def find_device(name: str, ranks: Ranks | None = None) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``; raises TrainingError if there is no such one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda") and not re.fullmatch(r"cuda:\d", name):
        raise TrainingError(f"`device` {name}: expected auto, cpu, cuda or cuda:N")
    if name != "cpu" and not torch.cuda.is_available():
        raise TrainingError(f"`device` {name}: this machine has no GPU that torch can use; use `device` cpu")
    device = torch.device(name)
    if device.type == "cuda":
        number = ranks.local if ranks and ranks.world > 1 else device.index or 0
        if number >= torch.cuda.device_count():
            raise TrainingError(f"`device` {name}: this machine has {torch.cuda.device_count()} GPUs, not {number + 1}")
        device = torch.device("cuda", number)
    return device


def settings_of(options: Mapping[str, OptionValue]) -> MethodSettings:
    """Return the settings of a method among the options of ``hpp benchmark``."""
    return _filled(MethodSettings(), options)


def _filled(standard: Chosen, options: Mapping[str, OptionValue]) -> Chosen:
    """Return a tuple of options as by default, but for those that are named."""
    values = [options.get(name, value) for name, value in standard._asdict().items()]
    return msgspec.convert(values, type(standard))


def make_job(
    method: str,
    task: str,
    data: Path,
    out: Path,
    preset: str | Preset,
    seed: int,
    options: Mapping[str, OptionValue],
    command: str,
) -> TrainingJob:
    """Return what the command line asks for.

    Parameters
    ----------
    method
        Its name, or ``package.module:Class``.
    task
        One of :data:`benchmark.training.presets.TASKS`.
    data, out
        The folder of the built datasets, and that of the runs.
    preset
        A preset, its name, or the path of its file.
    seed
        Of all random numbers.
    options
        The other options of ``hpp benchmark`` by their names; those left out are as by default.
    command
        What a user types for the run.

    Raises
    ------
    HeadposeError
        If there is no such method or preset.
    """
    chosen = find_preset(preset) if isinstance(preset, str) else renamed(preset)
    epochs, rate, batch = (options.get(name) for name in ("epochs", "rate", "batch"))
    chosen = changed(chosen, int(epochs or 0), float(rate or 0), int(batch or 0))
    half = PRECISIONS[str(options.get("precision", "auto"))]
    return TrainingJob(
        method=find_method(method),
        task=task,
        preset=chosen,
        data=data,
        out=out,
        seed=seed,
        weights=str(options.get("weights") or chosen.weights),
        settings=settings_of(options),
        options=_filled(RunOptions(half=half), options),
        command=command,
    )
