"""The first stage of training: on the source alone. All methods of a seed share it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
from torch import Tensor

from baselines.method import DomainBatch, FirstStage
from benchmark.training import ranks as among
from benchmark.training.checkpoint import copy_state, fill_network, save
from benchmark.training.job import MODEL
from benchmark.training.log import Fact
from benchmark.training.loop import Schedule, Step, make_trainer, run_stage
from benchmark.training.settings import claim
from benchmark.training.views import LoadedRun, fingerprint, row_slices, see_source, source_images
from headposeplus.errors import TrainingError
from headposeplus.files import content_hash, write_json

BEST = "best.json"


class _SourceState(TypedDict):
    epoch: int
    held_out_mae: float
    network: dict[str, Tensor]


class SourceStage:
    """The batches of stage 1, and its best epoch: the one with the lowest error on held-out source images.

    Attributes
    ----------
    schedule
        How long it trains, at which rates.
    epoch, held_out_mae
        The best epoch so far, from 0, and its error in degrees; -1 and infinity before there is one.
    network
        The network's state after that epoch.
    """

    def __init__(self, run: LoadedRun) -> None:
        preset = run.job.preset
        self._run = run
        self._per_epoch = min(preset.epoch_samples or len(run.training), len(run.training))
        if preset.batch > self._per_epoch:
            raise TrainingError(
                f"a batch of {preset.batch} is larger than an epoch of {self._per_epoch} images; lower `batch`"
            )
        self.schedule = Schedule(
            number=1,
            seed=run.job.seed,
            epochs=preset.stage1_epochs,
            steps=self._per_epoch // preset.batch,
            images=preset.batch,
            rate=preset.stage1_rate,
            last_rate=preset.last_rate,
            clip=run.job.options.clip,
        )
        self.epoch, self.held_out_mae = -1, float("inf")
        self.network = copy_state(run.network)

    def _plan(self, epoch: int) -> list[np.ndarray]:
        """Return the rows of each step of an epoch, on all ranks."""
        run, batch = self._run, self._run.job.preset.batch
        shuffled = np.random.default_rng([run.job.seed, 1, epoch]).permutation(run.training)
        return [shuffled[part] for part in row_slices(self._per_epoch, batch) if len(part) == batch]

    def batches(self, epoch: int) -> Iterator[DomainBatch]:
        """Yield this rank's share of each batch of an epoch: source images alone."""
        plan = [self._run.ranks.share(rows) for rows in self._plan(epoch)]
        for images, degrees in source_images(self._run, plan, epoch, self._run.job.options.augment):
            yield DomainBatch(images, degrees, images[:0])

    def ended(self, epoch: int, means: Mapping[str, float]) -> dict[str, Fact]:
        """Keep the network if its error is the lowest so far; return the error and what was drawn, for the log."""
        run = self._run
        seen = see_source(run, run.held_out, 0)
        error = float(np.abs(seen.angles - run.source.angles[run.held_out]).mean())
        if error < self.held_out_mae:
            self.epoch, self.held_out_mae, self.network = epoch, error, copy_state(run.network)
        return {"held_out_mae": error, "drawn": fingerprint(self._plan(epoch))}

    def state_dict(self) -> _SourceState:
        """Return the best epoch so far, its error and its network."""
        return {"epoch": self.epoch, "held_out_mae": self.held_out_mae, "network": self.network}

    def load_state_dict(self, state: _SourceState, /) -> None:
        """Take up the best epoch of a checkpoint; raises ValueError if there is no such epoch."""
        if not 0 <= state["epoch"] < self.schedule.epochs:
            raise ValueError(f"stage.epoch: {state['epoch']}")
        self.epoch, self.held_out_mae, self.network = state["epoch"], state["held_out_mae"], state["network"]


def train_on_source(run: LoadedRun, folder: Path) -> None:
    """Train on the source alone; leave the epoch with the lowest held-out error in ``folder``, and in the network.

    Raises
    ------
    TrainingError
        If the folder is another run's, a batch is larger than an epoch, or the loss is no longer finite.
    """
    preset, network = run.job.preset, run.network
    settings = run.settings.shared.to_json()
    claim(folder, settings, run.ranks)
    if (folder / MODEL).exists():
        fill_network(folder / MODEL, network)
        return
    stage = SourceStage(run)
    step = Step(network, FirstStage(run.job.settings))
    trainer = make_trainer(step, preset.stage1_optimizer, preset.stage1_rate, preset.stage1_decay, run.ranks)
    label = f"stage 1 {run.label}"
    run_stage(folder, content_hash(settings), trainer, stage, run.ranks, label, run.job.options.tensorboard)
    network.load_state_dict(stage.network)
    if run.ranks.first:
        write_json(folder / BEST, {"epoch": stage.epoch, "held_out_mae": round(stage.held_out_mae, 6)})
        save(folder / MODEL, {"network": stage.network})
    among.wait(run.ranks)
