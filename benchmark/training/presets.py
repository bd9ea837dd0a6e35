"""Presets: everything about training that is not the method."""

from __future__ import annotations

from typing import NamedTuple

from headposeplus.errors import HeadposeError
from headposeplus.raw.targets import BIWI_PLUS, TARGETS, join_task


class Task(NamedTuple):
    """A task: its source and its target, and whose kind its schedule is (``Preset.warm``, ``Preset.hold``)."""

    source: str
    target: str
    kind: str

    def __str__(self) -> str:
        return f"{self.source} to {self.target}"


TASKS = {
    "da": Task("synbiwi+", BIWI_PLUS, "da"),
    **{join_task("pda", target): Task("synhead++", target, "pda") for target in TARGETS},
}


class Preset(NamedTuple):
    """How the two stages are trained.

    An epoch is ``epoch_samples`` source images, or a pass over the source if None. In stage 2, lambda is 0
    for ``warm`` epochs, grows to ``highest_lambda`` over ``ramp``, and training stops ``hold`` epochs later; ``warm``
    and ``hold`` are by the kind of task. ``last_rate`` is the factor that the learning rate of a stage falls to after
    its first third.
    """

    name: str
    backbone: str
    weights: str
    size: int | None  # of the crops, where the preset needs one size
    batch: int
    held_out: float
    epoch_samples: int | None
    stage1_epochs: int
    stage1_optimizer: str
    stage1_rate: float
    stage1_decay: float
    stage2_rate: float
    stage2_decay: float
    last_rate: float
    warm: dict[str, int]
    ramp: int
    hold: dict[str, int]
    highest_lambda: float

    def stage2_epochs(self, kind: str) -> int:
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


def find_preset(name: str) -> Preset:
    """Return a preset by name; raises HeadposeError if there is none."""
    if name not in PRESETS:
        raise HeadposeError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
