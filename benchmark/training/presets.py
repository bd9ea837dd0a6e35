"""Presets: everything about training that is not the method; those of the toolkit, and those in files."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_type_hints

import msgspec
import tomli_w
from msgspec import Meta

from benchmark.scoring.parse import as_written
from benchmark.scoring.protocols import tomllib
from headposeplus import tables
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, said, shown, unreadable
from headposeplus.files import content_hash, read_file
from headposeplus.raw.targets import BIWI_PLUS, TARGETS, join_task

Kind: TypeAlias = Literal["da", "pda"]


class Task(NamedTuple):
    """A task: its source and its target, and whose kind its schedule is (``Preset.warm``, ``Preset.hold``)."""

    source: str
    target: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.source} to {self.target}"


TASKS = {
    "da": Task("synbiwi+", BIWI_PLUS, "da"),
    **{join_task("pda", target): Task("synhead++", target, "pda") for target in TARGETS},
}

Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Epochs = Annotated[int, Meta(ge=0, le=10_000)]
EpochsByKind = dict[Kind, Epochs]
Rate = Annotated[float, Meta(gt=0, le=1e3)]
Decay = Annotated[float, Meta(ge=0, le=1e3)]


class Preset(NamedTuple):
    """How the two stages are trained.

    An epoch is ``epoch_samples`` source images, or a pass over the source if None. In stage 2, lambda is 0
    for ``warm`` epochs, grows to ``highest_lambda`` over ``ramp``, and training stops ``hold`` epochs later; ``warm``
    and ``hold`` are by the kind of task. ``last_rate`` is the factor that the learning rate of a stage falls to after
    its first third. ``base`` names the preset of the toolkit that a changed one was made from; it is empty for those of
    the toolkit themselves, and where a file gives all values.
    """

    name: str
    backbone: Literal["resnet18", "slim"]
    weights: str
    size: Annotated[int, Meta(ge=8, le=2048)] | None  # of the crops, where the preset needs one size
    batch: Annotated[int, Meta(ge=2, le=1_000_000)]
    held_out: Annotated[float, Meta(gt=0, le=0.5)]
    epoch_samples: Count | None
    stage1_epochs: Annotated[int, Meta(ge=1, le=10_000)]
    stage1_optimizer: Literal["sgd", "adamw"]
    stage1_rate: Rate
    stage1_decay: Decay
    stage2_rate: Rate
    stage2_decay: Decay
    last_rate: Annotated[float, Meta(gt=0, le=1)]
    warm: EpochsByKind
    ramp: Annotated[int, Meta(ge=1, le=10_000)]
    hold: EpochsByKind
    highest_lambda: Annotated[float, Meta(ge=0, le=1e3)]
    base: str = ""

    def stage2_epochs(self, kind: Kind) -> int:
        """Return how many epochs the second stage has on tasks of a kind."""
        return self.warm[kind] + self.ramp + self.hold[kind]


PRESETS = {
    preset.name: preset
    for preset in (
        # Kuhnke & Ostermann 2019, section 4.2; lambda is 0 for a third of the epochs. Not stated there, so chosen here:
        # no weight decay, a rate that falls to a tenth, and over how many epochs lambda grows.
        Preset(
            name="paper", backbone="resnet18", weights="imagenet", size=224, batch=200, held_out=0.03,
            epoch_samples=None, stage1_epochs=20, stage1_optimizer="sgd", stage1_rate=0.03, stage1_decay=0.0,
            stage2_rate=0.03, stage2_decay=0.0, last_rate=0.1, warm={"da": 10, "pda": 7}, ramp=7,
            hold={"da": 13, "pda": 5}, highest_lambda=0.2,
        ),
        # For small crops and two CPU cores: fewer steps, so a faster optimizer from scratch and a larger lambda.
        Preset(
            name="miniature", backbone="slim", weights="none", size=None, batch=100, held_out=0.03,
            epoch_samples=3000, stage1_epochs=30, stage1_optimizer="adamw", stage1_rate=3e-3, stage1_decay=1e-3,
            stage2_rate=0.03, stage2_decay=1e-4, last_rate=0.1, warm={"da": 5, "pda": 5}, ramp=5,
            hold={"da": 5, "pda": 5}, highest_lambda=0.3,
        ),
        # A few seconds: to see that a method runs. What it learns is nothing.
        Preset(
            name="trial", backbone="slim", weights="none", size=None, batch=20, held_out=0.03,
            epoch_samples=100, stage1_epochs=3, stage1_optimizer="adamw", stage1_rate=3e-3, stage1_decay=1e-3,
            stage2_rate=0.03, stage2_decay=1e-4, last_rate=0.1, warm={"da": 1, "pda": 1}, ramp=1,
            hold={"da": 1, "pda": 1}, highest_lambda=0.3,
        ),
    )
}  # fmt: skip

# What each value of a preset is, and what it can be.
SETTINGS = {
    "backbone": ("the network", "resnet18 or slim"),
    "weights": ("what the network begins with", "imagenet, none, or a file of ResNet18 weights"),
    "size": ("pixels a side of the crops", 'a whole number from 8, or "any"'),
    "batch": ("images a domain and step", "a whole number from 2"),
    "held_out": ("share of the source that chooses stage 1's epoch", "a number above 0, up to 0.5"),
    "epoch_samples": ("source images an epoch", 'a whole number from 1, or "all"'),
    "stage1_epochs": ("epochs of stage 1", "a whole number from 1"),
    "stage1_optimizer": ("of stage 1; stage 2 has sgd", "sgd or adamw"),
    "stage1_rate": ("learning rate of stage 1", "a number above 0"),
    "stage1_decay": ("weight decay of stage 1", "a number from 0"),
    "stage2_rate": ("learning rate of stage 2", "a number above 0"),
    "stage2_decay": ("weight decay of stage 2", "a number from 0"),
    "last_rate": ("factor that a stage's rate falls to after its first third", "a number above 0, up to 1"),
    "warm": ("first epochs of stage 2, without lambda, by the kind of task", "such as {da = 10, pda = 7}, each from 0"),
    "ramp": ("then epochs over which lambda grows", "a whole number from 1"),
    "hold": ("then epochs at the highest lambda, by the kind of task", "such as {da = 13, pda = 5}, each from 0"),
    "highest_lambda": ("where a method has none of its own", "a number from 0"),
}
_NO_LIMIT = {"size": "any", "epoch_samples": "all"}  # how None is written
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,29}")


def find_preset(name: str) -> Preset:
    """Return a preset of the toolkit by its name, or that of a file; raises HeadposeError if there is none."""
    if name in PRESETS:
        return PRESETS[name]
    if name.endswith(".toml") or "/" in name:
        return read_preset(Path(name))
    near = difflib.get_close_matches(name, PRESETS, 1)
    mend = f"did you mean {near[0]}?" if near else "hpp presets shows them"
    raise HeadposeError(
        Fault(f"unknown preset {shown(name)}: expected one of {', '.join(PRESETS)}, or a file such as my.toml", mend)
    )


def read_preset(path: Path) -> Preset:
    """Return the preset in a TOML file: :data:`SETTINGS` by name, and ``base``, the preset that gives the others.

    Its name is the file's and a hash of all values, so that no two share the folder of a run.

    Raises
    ------
    HeadposeError
        If the file cannot be read, or a value is missing, unknown or not what it can be.
    """
    try:
        text = read_file(path).decode("utf-8-sig")
        content = tomllib.loads(text)
    except OSError as error:
        raise HeadposeError(unreadable(path, error, "a preset; hpp presets paper > my.toml writes one")) from error
    except (ValueError, RecursionError) as error:
        raise HeadposeError(Fault(f"not TOML: {said(error)}", "hpp presets paper writes a preset", path)) from error
    if not _STEM.fullmatch(path.stem) or path.stem in PRESETS:
        what = "is the name of a preset of the toolkit" if path.stem in PRESETS else "is no name for a folder of runs"
        mend = "call the file otherwise, in at most 30 letters, digits, and ._-"
        raise HeadposeError(Fault(f"{shown(path.stem)} {what}", mend, path))
    named = content.pop("base", "")
    base = PRESETS.get(named) if isinstance(named, str) else None
    if named != "" and base is None:
        raise _wrong(path, text, "base", named, f"one of {', '.join(PRESETS)}")
    given = {key: _value(path, text, key, value, base) for key, value in content.items()}
    if base is not None:
        preset = base._replace(**given, base=base.name)
    elif lacking := [key for key in SETTINGS if key not in given]:
        mend = 'write them, or base = "paper" to take that preset\'s'
        raise HeadposeError(Fault(f"lacks {', '.join(lacking)}", mend, path))
    else:
        preset = Preset(name="", **given)
    return preset._replace(name=f"{path.stem}-{content_hash(preset._asdict())[:6]}")


def _value(path: Path, text: str, key: str, value: object, base: Preset | None) -> Any:
    """Return a value of a file as a preset holds it; a part of ``warm`` or ``hold`` is completed from the base."""
    if key not in SETTINGS:
        near = difflib.get_close_matches(key, SETTINGS, 1)
        mend = f"did you mean {near[0]}?" if near else f"expected base, {', '.join(SETTINGS)}"
        raise HeadposeError(Fault("an unknown setting", mend, path, shown(key)))
    if value == _NO_LIMIT.get(key):
        return None
    try:
        kind = get_type_hints(Preset, include_extras=True)[key]
        if value is None or (key == "weights" and not value):
            raise ValueError
        known = msgspec.convert(value, kind)
        if isinstance(known, dict):
            known = (getattr(base, key) if base else {}) | known
            if len(known) < 2:
                raise ValueError
    except ValueError as error:
        raise _wrong(path, text, key, value, SETTINGS[key][1]) from error
    return known


def _wrong(path: Path, text: str, key: str, value: object, expected: str) -> HeadposeError:
    found = said(value) if isinstance(value, dict | list) else as_written(text, key, value)
    return HeadposeError(Fault(f"expected {expected}, found {found}", file=path, field=key))


def renamed(preset: Preset) -> Preset:
    """Return a preset of the toolkit that was changed in Python under a name that says so; another one as it is."""
    if preset.base or preset.name not in PRESETS or not changes(preset):
        return preset
    return preset._replace(name=f"{preset.name}-changed", base=preset.name)


def changed(preset: Preset, epochs: int = 0, rate: float = 0, batch: int = 0) -> Preset:
    """Return a preset with other epochs and another rate of stage 1, or another batch; its name says which.

    What is 0 stays as it is. Stage 2 changes in proportion: its rate by the same factor, and the epochs of each of its
    three parts, of which one is left where there was any.
    """
    new: dict[str, Any] = {}
    if epochs:
        share = epochs / preset.stage1_epochs
        scaled = {key: _scaled(getattr(preset, key), share) for key in ("warm", "ramp", "hold")}
        new |= {"stage1_epochs": epochs, **scaled}
    if rate:
        new |= {"stage1_rate": rate, "stage2_rate": float(f"{rate / preset.stage1_rate * preset.stage2_rate:.6g}")}
    if batch:
        new["batch"] = batch
    new = {key: value for key, value in new.items() if value != getattr(preset, key)}
    if not new:
        return preset
    options = (("epochs", epochs, "stage1_epochs"), ("rate", rate, "stage1_rate"), ("batch", batch, "batch"))
    parts = [f"{word}{value}" for word, value, key in options if key in new and value]
    base = preset.base or (preset.name if preset.name in PRESETS else "")
    return preset._replace(**new, name="-".join((preset.name, *parts)), base=base)


def _scaled(epochs: Any, share: float) -> Any:
    if isinstance(epochs, dict):
        return {kind: _scaled(value, share) for kind, value in epochs.items()}
    return max(round(epochs * share), 1) if epochs else 0


def changes(preset: Preset, *others: str) -> str:
    """Return how a preset, and what ``others`` say, differ from that which it was made from; empty if nothing does.

    Where it was made from none, all its values are told.
    """
    base = PRESETS.get(preset.base or preset.name)
    if base is None:
        return "; ".join(("all settings its own", *(f"{key} {_word(preset, key)}" for key in SETTINGS), *others))
    differing = [key for key in SETTINGS if getattr(preset, key) != getattr(base, key)]
    words = [*(f"{key} {_word(preset, key)}, not {_word(base, key)}" for key in differing), *others]
    return f"{base.name}, but {'; '.join(words)}" if words else ""


def _word(preset: Preset, key: str) -> str:
    value = getattr(preset, key)
    if isinstance(value, dict):
        return " and ".join(f"{epochs} ({kind})" for kind, epochs in value.items())
    return str(_NO_LIMIT[key] if value is None else value)


def to_toml(preset: Preset) -> str:
    """Return a preset as a file that :func:`read_preset` takes, with what each value is and can be."""
    lines = [f"# The preset {preset.name}, to be changed and given as --preset my.toml. Settings that are left out are"]
    lines += ["# those of the base.", tomli_w.dumps({"base": preset.base or preset.name}).strip(), ""]
    for key, (what, expected) in SETTINGS.items():
        value = getattr(preset, key)
        parts = ", ".join(f"{kind} = {epochs}" for kind, epochs in value.items()) if isinstance(value, dict) else ""
        line = f"{key} = {{{parts}}}" if parts else tomli_w.dumps({key: _NO_LIMIT.get(key) if value is None else value})
        lines += [f"# {what}: {expected}", line.strip()]
    return "\n".join(lines)


def table(layout: str = "simple") -> str:
    """Return the presets of the toolkit as a table, a row a setting."""
    rows = [{"setting": key} | {name: _word(preset, key) for name, preset in PRESETS.items()} for key in SETTINGS]
    return tables.table(rows, layout)
