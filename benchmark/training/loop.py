"""The loop over epochs and steps that every stage of every method is trained by.

Every step leaves a record in ``log.jsonl``. An epoch's random numbers come from (seed, stage, epoch) alone and a
checkpoint is written after each, so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from baselines.devices import beside_steps
from baselines.method import DomainBatch, Method, Parts
from baselines.methods import lambda_at, rate_at
from baselines.networks import PoseNetwork
from benchmark.loaders.launch import Ranks
from benchmark.training import ranks as among
from benchmark.training.checkpoint import CHECKPOINT, Stateful, save_checkpoint, take_up
from benchmark.training.log import EpochRecord, Fact, LogWriter, StepRecord
from headposeplus.errors import TrainingError
from headposeplus.progress import progress

_REPORT_EVERY = 25  # steps between updates of the progress line; reading a loss waits for the device


class Schedule(NamedTuple):
    """How long a stage trains, at which rates and lambdas; ``images`` is how many a step has, on all ranks."""

    number: int
    seed: int
    epochs: int
    steps: int
    images: int
    rate: float
    last_rate: float
    warm: float = 0
    ramp: float = 0
    highest_lambda: float = 0.0
    clip: float | None = None


class Stage(Protocol):
    """What a stage is to the loop; its state is what it remembers from epoch to epoch."""

    @property
    def schedule(self) -> Schedule:
        """How long it trains, at which rates and lambdas; the lambdas of later epochs may follow from earlier ones."""

    def batches(self, epoch: int) -> Iterator[DomainBatch]:
        """Return the batches of an epoch, this rank's share of each."""

    def ended(self, epoch: int, means: Mapping[str, float]) -> dict[str, Fact]:
        """Return what the log shall say of an epoch that has ended; ``means`` are those of its losses."""

    def state_dict(self) -> Mapping[str, object]:
        """Return what it remembers: tensors and numbers, by name."""

    def load_state_dict(self, state: Any, /) -> None:
        """Remember that of a checkpoint."""


class Step(nn.Module):
    """The loss of a step as a module, which is what several ranks can train together."""

    def __init__(self, network: PoseNetwork, method: Method) -> None:
        super().__init__()
        self.network = network
        self.method = method

    def forward(self, batch: DomainBatch, lam: float) -> tuple[Tensor, Parts]:
        """Return the loss of this rank's share, and its parts."""
        return self.method.loss(self.network, batch, lam)


class Trainer(NamedTuple):
    """A step, its optimizer, and the module that computes the step's loss: where there are several ranks, a wrapper."""

    step: Step
    optimizer: torch.optim.Optimizer
    module: nn.Module

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.step.network.angle_mean.device


def make_trainer(step: Step, kind: str, rate: float, decay: float, ranks: Ranks | None = None) -> Trainer:
    """Return a trainer of what needs a gradient.

    Its optimizer is ``adamw``, or SGD with momentum 0.9 and Nesterov's acceleration.
    """
    trained = [parameter for parameter in step.parameters() if parameter.requires_grad]
    optimizer: torch.optim.Optimizer
    if kind == "adamw":
        optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=decay)
    else:
        optimizer = torch.optim.SGD(trained, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)
    module: nn.Module = step
    if ranks is not None and ranks.world > 1:
        device = step.network.angle_mean.device
        # Running statistics are averaged after each epoch, and a method may have parts that a step leaves out.
        module = nn.parallel.DistributedDataParallel(
            step,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=True,
        )
    return Trainer(step, optimizer, module)


def seed_torch(*keys: int) -> None:
    """Let torch's random numbers follow from some numbers, whatever was drawn before."""
    torch.manual_seed(int(np.random.SeedSequence(keys).generate_state(1)[0]))


def take(trainer: Trainer, batch: DomainBatch, lam: float, clip: float | None = None) -> Parts:
    """Take a step of training; return its loss and the parts of it, on the device.

    ``lam`` is the method's lambda, ``clip`` the largest norm of the gradient.
    """
    loss, parts = trainer.module(batch, lam)
    trainer.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(trainer.step.parameters(), clip)
    trainer.optimizer.step()
    trainer.step.method.after_step(trainer.step.network)
    return {"loss": loss.detach(), **parts}


def run_stage(
    folder: Path,
    run: str,
    trainer: Trainer,
    stage: Stage,
    ranks: Ranks,
    label: str,
    tensorboard: bool = False,
) -> None:
    """Run the epochs of a stage that its checkpoint has not seen yet.

    ``run`` is the hash of the settings, by which a checkpoint knows its run.

    Raises
    ------
    TrainingError
        If the loss is no longer finite, or the checkpoint is damaged or another run's.
    """
    path, step, schedule = folder / CHECKPOINT, trainer.step, stage.schedule
    states: dict[str, Stateful] = {
        "network": step.network,
        "method": step.method,
        "optimizer": trainer.optimizer,
        "stage": stage,
    }
    begun = take_up(path, run, states, schedule.epochs)
    among.wait(ranks)
    log = LogWriter(folder, begun, tensorboard, begun.epochs * schedule.steps) if ranks.first else None
    steps = schedule.epochs * schedule.steps
    bar = progress(steps, label, "step", begun.epochs * schedule.steps, shown=ranks.first)
    try:
        for epoch in range(begun.epochs, schedule.epochs):
            seed_torch(schedule.seed, schedule.number, epoch)  # for a method that draws numbers of its own
            batches = stage.batches(epoch)
            among.same(ranks, step)
            taken: list[StepRecord] = []
            for records, speed in _steps(trainer, stage.schedule, epoch, batches, ranks):
                taken += records
                if log:
                    log.write_steps(records)
                bar.set_postfix(_shown(records[-1], speed), refresh=False)
                bar.update(len(records))
            among.average_statistics(ranks, step)
            ended = EpochRecord(schedule.number, epoch, stage.ended(epoch, means_of(taken)))
            if log:
                log.write_epoch(ended, (epoch + 1) * schedule.steps)
                save_checkpoint(path, run, log.place(epoch + 1), states)
    finally:
        bar.close()
        if log:
            log.close()
    among.wait(ranks)


def _steps(
    trainer: Trainer, schedule: Schedule, epoch: int, batches: Iterator[DomainBatch], ranks: Ranks
) -> Iterator[tuple[list[StepRecord], float]]:
    """Take the steps of an epoch; yield their records, some at a time, and the images a second of all ranks."""
    trainer.step.network.train()
    trainer.step.method.train()
    pending: list[tuple[StepRecord, Parts]] = []
    began = time.perf_counter()
    for number, batch in enumerate(beside_steps(batches, trainer.device)):
        passed = epoch + number / schedule.steps
        rate = schedule.rate * rate_at(passed, schedule.epochs, schedule.last_rate)
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        lam = lambda_at(passed, schedule.warm, schedule.ramp, schedule.highest_lambda)
        parts = take(trainer, batch, lam, schedule.clip)
        place = epoch * schedule.steps + number
        pending.append((StepRecord(schedule.number, epoch, place, rate, lam, {}), parts))
        if len(pending) == _REPORT_EVERY or number == schedule.steps - 1:
            records = _read_records(pending, ranks)
            now = time.perf_counter()
            yield records, len(pending) * schedule.images / (now - began)
            pending, began = [], now


def _read_records(pending: list[tuple[StepRecord, Parts]], ranks: Ranks) -> list[StepRecord]:
    """Return the records with their tensors as numbers, read in one transfer; a loss that is not finite stops."""
    names = list(pending[0][1])
    table = torch.stack([torch.stack([parts[name].detach().float() for name in names]) for _, parts in pending])
    records = []
    for (record, _), row in zip(pending, among.mean(ranks, table).cpu().numpy(), strict=True):
        losses = {name: round(float(value), 6) for name, value in zip(names, row, strict=True)}
        complete = record._replace(losses=losses)
        if not np.isfinite(row).all():
            raise TrainingError(
                "the loss is not finite; lower the rate with `rate`, or limit the gradient with `clip`. "
                f"The step's record: {json.dumps(complete.to_json())}"
            )
        records.append(complete)
    return records


def means_of(records: Sequence[StepRecord]) -> dict[str, float]:
    """Return the mean over some steps of their loss and of each part of it, the same on all ranks."""
    names = dict.fromkeys(name for record in records for name in record.losses)
    return {name: fmean(record.losses[name] for record in records if name in record.losses) for name in names}


def _shown(record: StepRecord, speed: float) -> dict[str, str]:
    numbers = {**record.losses, "lambda": record.lam}
    names = ("pose_loss", "domain_loss", "lambda")
    return {"img/s": f"{speed:,.0f}"} | {name: f"{numbers[name]:.3g}" for name in names if name in numbers}
