"""The loop over epochs and steps that every stage of every method is trained by.

Every step leaves a record in ``log.jsonl``. An epoch's random numbers come from (seed, stage, epoch) alone and a
checkpoint is written after each, so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from baselines.method import Batch, Method, Parts
from baselines.methods import lambda_at, rate_at
from baselines.networks import PoseNetwork
from benchmark.training import ranks as among
from benchmark.training.ranks import Ranks
from headposeplus.errors import TrainingError
from headposeplus.files import whole_or_absent
from headposeplus.tasks import progress

LOG, CHECKPOINT = "log.jsonl", "checkpoint.pt"
_REPORT_EVERY = 25  # steps between updates of the progress line; reading a loss waits for the device


class Stage(NamedTuple):
    """One stage of training.

    ``batches`` is given an epoch and returns its batches, this rank's share of each; ``ended`` is given an epoch that
    has ended, and returns what the log shall say of it. ``images`` is how many a step has, on all ranks.
    """

    number: int
    seed: int
    epochs: int
    steps: int
    images: int
    rate: float
    last_rate: float
    warm: float
    ramp: float
    highest_lambda: float
    clip: float | None
    batches: Callable[[int], Iterable[Batch]]
    ended: Callable[[int], dict[str, Any]]


class Step(nn.Module):
    """The loss of a step as a module, which is what several ranks can train together."""

    def __init__(self, network: PoseNetwork, method: Method) -> None:
        super().__init__()
        self.network = network
        self.method = method

    def forward(self, batch: Batch, lam: float) -> tuple[Tensor, Parts]:
        """Return the loss of this rank's share, and its parts."""
        return self.method.loss(self.network, batch, lam)


def make_optimizer(step: nn.Module, kind: str, rate: float, decay: float) -> torch.optim.Optimizer:
    """Return ``adamw``, or SGD with momentum 0.9 and Nesterov's acceleration, for what needs a gradient."""
    trained = [parameter for parameter in step.parameters() if parameter.requires_grad]
    if kind == "adamw":
        return torch.optim.AdamW(trained, lr=rate, weight_decay=decay)
    return torch.optim.SGD(trained, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)


def seed_torch(*keys: int) -> None:
    """Let torch's random numbers follow from some numbers, whatever was drawn before."""
    torch.manual_seed(int(np.random.SeedSequence(keys).generate_state(1)[0]))


def save(path: Path, content: Any) -> None:
    """Write what ``torch.save`` can; the file is whole or absent."""
    with whole_or_absent(path) as temporary:
        torch.save(content, temporary)


def load(path: Path, device: torch.device) -> Any:
    """Return what :func:`save` wrote; raises TrainingError if the file is damaged."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch.load has no error of its own: a damaged file raises many kinds
        raise TrainingError(f"{path}: damaged checkpoint ({error}); delete it to train this stage again") from error


class _Log:
    """Appends records to ``log.jsonl`` and, if asked, TensorBoard; what came after the checkpoint is cut off."""

    def __init__(self, folder: Path, length: int, tensorboard: bool, step: int) -> None:
        self._file = (folder / LOG).open("ab")
        self._file.truncate(length)
        self._file.seek(length)
        self._board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise TrainingError(
                    "--tensorboard: the package is not installed: pip install 'headposeplus[tensorboard]'"
                ) from error
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, records: list[dict[str, Any]], step: int) -> int:
        """Write records and return the log's length in bytes."""
        for record in records:
            self._file.write(json.dumps(record).encode() + b"\n")
            if self._board:
                for name, value in record.items():
                    if isinstance(value, float):
                        self._board.add_scalar(name, value, record.get("step", step))
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board:
            self._board.close()


def run_stage(
    folder: Path,
    run: str,
    step: Step,
    optimizer: torch.optim.Optimizer,
    stage: Stage,
    kept: dict[str, Tensor],
    ranks: Ranks,
    label: str,
    tensorboard: bool = False,
) -> None:
    """Run the epochs of a stage that its checkpoint has not seen yet.

    ``run`` is the hash of the settings, by which a checkpoint knows its run. ``kept`` holds what the stage's functions
    remember from epoch to epoch; it is saved with the checkpoint, and filled from it.

    Raises
    ------
    TrainingError
        If the loss is no longer finite, or the checkpoint is damaged or another run's.
    """
    path = folder / CHECKPOINT
    first, length = _resume(path, run, step, optimizer, kept)
    among.wait(ranks)
    device = step.network.angle_mean.device
    trained: nn.Module = step
    if ranks.world > 1:
        places = [device] if device.type == "cuda" else None
        # Running statistics are averaged below, and a method may have parts that a step leaves out.
        trained = nn.parallel.DistributedDataParallel(
            step, device_ids=places, broadcast_buffers=False, find_unused_parameters=True
        )
    log = _Log(folder, length, tensorboard, first * stage.steps) if ranks.first else None
    bar = progress(stage.epochs * stage.steps, label, "step", first * stage.steps, shown=ranks.first)
    try:
        for epoch in range(first, stage.epochs):
            seed_torch(stage.seed, stage.number, epoch)  # for a method that draws numbers of its own
            batches = stage.batches(epoch)
            among.same(ranks, step)
            for new, speed in _steps(step, trained, optimizer, stage, epoch, batches, ranks):
                if log:
                    log.write(new, 0)
                bar.set_postfix(_shown(new[-1], speed), refresh=False)
                bar.update(len(new))
            among.average_statistics(ranks, step)
            summary = {"stage": stage.number, "epoch": epoch, "epoch_end": True, **stage.ended(epoch)}
            if log:
                length = log.write([summary], (epoch + 1) * stage.steps)
                states = {"network": step.network.state_dict(), "method": step.method.state_dict()}
                states |= {"optimizer": optimizer.state_dict(), "kept": kept}
                save(path, {**states, "epoch": epoch + 1, "log": length, "run": run})
    finally:
        bar.close()
        if log:
            log.close()
    among.wait(ranks)


def _resume(
    path: Path, run: str, step: Step, optimizer: torch.optim.Optimizer, kept: dict[str, Tensor]
) -> tuple[int, int]:
    """Take up a checkpoint, if there is one; return the next epoch, and the log's length in bytes."""
    if not path.exists():
        return 0, 0
    checkpoint = load(path, torch.device("cpu"))  # AdamW counts its steps there
    if checkpoint.get("run") != run:
        raise TrainingError(f"{path}: the checkpoint of another run; choose another --out or delete the folder")
    step.network.load_state_dict(checkpoint["network"])
    step.method.load_state_dict(checkpoint["method"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    kept.update(checkpoint["kept"])
    return checkpoint["epoch"], checkpoint["log"]


def _steps(
    step: Step,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    stage: Stage,
    epoch: int,
    batches: Iterable[Batch],
    ranks: Ranks,
) -> Iterator[tuple[list[dict[str, Any]], float]]:
    """Take the steps of an epoch; yield their records, some at a time, and the images a second of all ranks."""
    step.network.train()
    step.method.train()
    pending: list[tuple[dict[str, Any], Parts]] = []
    began = time.perf_counter()
    for number, batch in enumerate(batches):
        passed = epoch + number / stage.steps
        factor = rate_at(passed, stage.epochs, stage.last_rate)
        for group in optimizer.param_groups:
            group["lr"] = stage.rate * factor
        lam = lambda_at(passed, stage.warm, stage.ramp, stage.highest_lambda)
        loss, parts = trained(batch, lam)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if stage.clip is not None:
            nn.utils.clip_grad_norm_(step.parameters(), stage.clip)
        optimizer.step()
        step.method.after_step(step.network)
        record: dict[str, Any] = {"stage": stage.number, "epoch": epoch, "step": epoch * stage.steps + number}
        record |= {"rate": stage.rate * factor, "lambda": lam}
        pending.append((record, {"loss": loss.detach(), **parts}))
        if len(pending) == _REPORT_EVERY or number == stage.steps - 1:
            records = _read_records(pending, ranks)
            now = time.perf_counter()
            yield records, len(pending) * stage.images / (now - began)
            pending, began = [], now


def _read_records(pending: list[tuple[dict[str, Any], Parts]], ranks: Ranks) -> list[dict[str, Any]]:
    """Return the records with their tensors as numbers, read in one transfer; a loss that is not finite stops."""
    names = list(pending[0][1])
    table = torch.stack([torch.stack([parts[name].detach().float() for name in names]) for _, parts in pending])
    records = []
    for (record, _), row in zip(pending, among.mean(ranks, table).cpu().numpy(), strict=True):
        complete = record | {name: round(float(value), 6) for name, value in zip(names, row, strict=True)}
        if not np.isfinite(row).all():
            raise TrainingError(
                "the loss is not finite; limit the gradient with --clip and another --out. "
                f"The step's record: {complete}"
            )
        records.append(complete)
    return records


def _shown(record: dict[str, Any], speed: float) -> dict[str, str]:
    names = ("pose_loss", "domain_loss", "lambda")
    return {"img/s": f"{speed:,.0f}"} | {name: f"{record[name]:.3g}" for name in names if name in record}
