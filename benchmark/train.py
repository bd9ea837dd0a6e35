"""The training loop, one for all methods: stage 1 on the source, stage 2 on source and target.

A run lives in ``OUT/TASK-PRESET-seedN``: ``stage1`` is shared by all methods, and each method has a folder.
Every step leaves a record in ``log.jsonl``. An epoch's random numbers come from (seed, stage, epoch) alone
and a checkpoint is written after each, so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from baselines.methods import Method, Settings, adaptation_step, find_method, lambda_at, rate_at, source_step
from baselines.networks import PoseNetwork, make_network
from baselines.weights import effective_sample_size
from benchmark.data import Composer, Source, Target, draw, endless, load_source, load_target
from benchmark.presets import TASKS, Preset, find_preset
from benchmark.submission import write_predictions
from headposeplus import __version__, shards
from headposeplus.errors import DatasetError, TrainingError
from headposeplus.files import cores, locked, progress, read_json, whole_or_absent, write_json
from headposeplus.rotations import Floats

RUN, LOG, CHECKPOINT, MODEL = "run.json", "log.jsonl", "checkpoint.pt", "model.pt"
SELECTION = "last epoch of the fixed schedule"
_REPORT_EVERY = 25  # steps between updates of the progress line; reading a loss waits for the device


class Batch(NamedTuple):
    """What a step sees: source images (n, 3, s, s), their angles (n, 3), and target images, if any."""

    images: Tensor
    degrees: Tensor
    target: Tensor | None


class Job(NamedTuple):
    """What to train, and where."""

    method: Method
    task: str
    preset: Preset
    data: Path
    out: Path
    seed: int
    weights: str
    settings: Settings
    device: str
    command: str


def find_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``; raises TrainingError if there is no such one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda") and not re.fullmatch(r"cuda:\d", name):
        raise TrainingError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    if name != "cpu" and not torch.cuda.is_available():
        raise TrainingError(f"--device {name}: this machine has no GPU that torch can use; use --device cpu")
    return torch.device(name)


def commit() -> str:
    """Return the commit of the clone that this code runs from, or an empty text outside of one."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return ""
    found = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make a run's folder, or check that it belongs to the same run."""
    note = folder / RUN
    if note.exists():
        found = read_json(note, "the settings of a run")
        differing = [key for key in settings if found.get(key) != json.loads(json.dumps(settings[key]))]
        if differing:
            raise TrainingError(
                f"{folder}: holds a run with another {', '.join(differing)}; choose another --out or delete the folder"
            )
    else:
        write_json(note, settings)


def _save(path: Path, content: Any) -> None:
    with whole_or_absent(path) as temporary:
        torch.save(content, temporary)


def _load(path: Path, device: torch.device) -> Any:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch.load has no error of its own: a damaged file raises many kinds
        raise TrainingError(f"{path}: damaged checkpoint ({error}); delete it to train this stage again") from error


class _Log:
    """Appends records to ``log.jsonl``; a resumed run cuts off what came after its checkpoint."""

    def __init__(self, path: Path, length: int) -> None:
        self._file = path.open("ab")
        self._file.truncate(length)
        self._file.seek(length)

    def write(self, records: Iterable[dict[str, Any]]) -> int:
        """Write records and return the log's length in bytes."""
        for record in records:
            self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _optimizer(network: PoseNetwork, kind: str, rate: float, decay: float) -> torch.optim.Optimizer:
    if kind == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)


class _Stage(NamedTuple):
    """One stage of training: what its epochs are made of."""

    number: int
    epochs: int
    steps: int  # per epoch
    rate: float
    last_rate: float
    batches: Callable[[int], Iterator[Batch]]  # of an epoch
    loss: Callable[[Batch, float], tuple[Tensor, dict[str, Tensor]]]  # of a batch, at a lambda
    lambda_at: Callable[[float], float]  # after a number of epochs
    after_epoch: Callable[[int], dict[str, float]]


def _run_stage(
    folder: Path, network: PoseNetwork, optimizer: torch.optim.Optimizer, stage: _Stage, job: Job, label: str
) -> None:
    """Run the epochs of a stage that its checkpoint has not seen yet."""
    device = network.angle_mean.device
    first, length = 0, 0
    if (folder / CHECKPOINT).exists():
        checkpoint = _load(folder / CHECKPOINT, device)
        network.load_state_dict(checkpoint["network"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        first, length = checkpoint["epoch"], checkpoint["log"]
    log = _Log(folder / LOG, length)
    bar = progress(stage.epochs * stage.steps, label, "step", first * stage.steps)
    try:
        for epoch in range(first, stage.epochs):
            network.train()
            pending: list[tuple[dict[str, Any], dict[str, Tensor]]] = []
            for step, batch in enumerate(itertools.islice(stage.batches(epoch), stage.steps)):
                passed = epoch + step / stage.steps
                factor = rate_at(passed, stage.epochs, stage.last_rate)
                for group in optimizer.param_groups:
                    group["lr"] = stage.rate * factor
                lam = stage.lambda_at(passed)
                loss, parts = stage.loss(batch, lam)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                record: dict[str, Any] = {"stage": stage.number, "epoch": epoch, "step": epoch * stage.steps + step}
                record |= {"rate": stage.rate * factor, "lambda": lam}
                pending.append((record, {"loss": loss.detach(), **parts}))
                if len(pending) == _REPORT_EVERY or step == stage.steps - 1:
                    new = _read_records(pending)
                    log.write(new)
                    bar.update(len(pending))
                    bar.set_postfix(_shown(new[-1]), refresh=False)
                    pending = []
            summary = {"stage": stage.number, "epoch": epoch, "epoch_end": True, **stage.after_epoch(epoch)}
            length = log.write([summary])
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            _save(folder / CHECKPOINT, {**state, "epoch": epoch + 1, "log": length})
    finally:
        bar.close()
        log.close()


def _read_records(pending: list[tuple[dict[str, Any], dict[str, Tensor]]]) -> list[dict[str, Any]]:
    """Return the records with their tensors as numbers, read in one transfer; a loss that is not finite stops."""
    names = list(pending[0][1])
    values = torch.stack([torch.stack([parts[name].float() for name in names]) for _, parts in pending]).cpu().numpy()
    records = []
    for (record, _), row in zip(pending, values, strict=True):
        complete = record | {name: round(float(value), 6) for name, value in zip(names, row, strict=True)}
        if not np.isfinite(row).all():
            raise TrainingError(f"the loss is not finite; lower the learning rate. The step's record: {complete}")
        records.append(complete)
    return records


def _shown(record: dict[str, Any]) -> dict[str, str]:
    keys = ("pose_loss", "domain_loss", "lambda")
    return {key: f"{record[key]:.3g}" for key in keys if key in record}


@torch.no_grad()
def predict(network: PoseNetwork, batches: Iterable[Tensor]) -> Floats:
    """Return angles (n, 3), ``pyr`` in degrees, of batches of images, with the running batch statistics."""
    network.eval()
    return np.concatenate([network.degrees(network(images).angles).double().cpu().numpy() for images in batches])


def _slices(count: int, batch: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + batch, count)) for start in range(0, count, batch)]


def _target_angles(network: PoseNetwork, composer: Composer, target: Target, batch: int) -> Floats:
    return predict(network, (composer.target(target.crops, part) for part in _slices(len(target.crops), batch)))


def _stage1(
    job: Job, folder: Path, network: PoseNetwork, source: Source, composer: Composer, settings: dict[str, Any]
) -> None:
    """Train on the source alone; leave the epoch with the lowest held-out error in ``folder``."""
    preset = job.preset
    _claim(folder, settings)
    if (folder / MODEL).exists():
        network.load_state_dict(_load(folder / MODEL, network.angle_mean.device)["network"])
        return
    order = np.random.default_rng([job.seed, 0]).permutation(len(source.angles))
    held_out = order[: max(round(preset.held_out * len(order)), 1)]
    training = order[len(held_out) :]
    per_epoch = min(preset.epoch_samples or len(training), len(training))
    batch = preset.batch
    if batch > per_epoch:
        raise TrainingError(f"a batch of {batch} is larger than an epoch of {per_epoch} images; lower --batch")

    def batches(epoch: int) -> Iterator[Batch]:
        shuffled = np.random.default_rng([job.seed, 1, epoch]).permutation(training)
        for part in _slices(per_epoch, batch):
            yield Batch(*composer.source(shuffled[part], epoch), None)

    def after_epoch(epoch: int) -> dict[str, float]:
        batches = (composer.source(held_out[part], 0)[0] for part in _slices(len(held_out), batch))
        error = float(np.abs(predict(network, batches) - source.angles[held_out]).mean())
        best_path = folder / "best.json"
        best = read_json(best_path, "the best epoch")["held_out_mae"] if best_path.exists() and epoch else np.inf
        if error < best:
            _save(folder / "best.pt", {"network": network.state_dict()})
            write_json(best_path, {"epoch": epoch, "held_out_mae": error})
        return {"held_out_mae": error}

    optimizer = _optimizer(network, preset.stage1_optimizer, preset.stage1_rate, preset.stage1_decay)
    stage = _Stage(
        number=1,
        epochs=preset.stage1_epochs,
        steps=per_epoch // batch,
        rate=preset.stage1_rate,
        last_rate=preset.last_rate,
        batches=batches,
        loss=lambda b, lam: source_step(network, b.images, b.degrees),
        lambda_at=lambda progress: 0.0,
        after_epoch=after_epoch,
    )
    _run_stage(folder, network, optimizer, stage, job, f"stage 1 ({job.task}, seed {job.seed})")
    best = _load(folder / "best.pt", network.angle_mean.device)
    network.load_state_dict(best["network"])
    _save(folder / MODEL, best)


def _stage2(
    job: Job, folder: Path, network: PoseNetwork, source: Source, target: Target, composer: Composer
) -> dict[str, Any]:
    """Adapt to the target; return what is worth telling of the source weights."""
    preset, method = job.preset, job.method
    batch = min(preset.batch, len(target.crops))
    predictions = _target_angles(network, composer, target, preset.batch)
    probabilities = method.sampling(source.angles, predictions, job.settings)
    facts = {
        "source_kept": float((probabilities > 0).mean()),
        "effective_source_size": effective_sample_size(probabilities),
    }
    per_epoch = preset.epoch_samples or len(source.angles)
    epochs = preset.warm + preset.ramp + preset.hold[job.task]
    highest = preset.highest_lambda if method.adversarial else 0.0

    def batches(epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng([job.seed, 2, epoch])
        for part in endless(rng, len(target.crops), batch):
            # The backgrounds go on where those of stage 1 ended.
            drawn = composer.source(draw(rng, probabilities, preset.batch), preset.stage1_epochs + epoch)
            yield Batch(*drawn, composer.target(target.crops, part))

    def loss(b: Batch, lam: float) -> tuple[Tensor, dict[str, Tensor]]:
        assert b.target is not None
        return adaptation_step(network, b.images, b.degrees, b.target, lam)

    optimizer = _optimizer(network, "sgd", preset.stage2_rate, preset.stage2_decay)
    stage = _Stage(
        number=2,
        epochs=epochs,
        steps=max(per_epoch // preset.batch, 1),
        rate=preset.stage2_rate,
        last_rate=preset.last_rate,
        batches=batches,
        loss=loss,
        lambda_at=lambda progress: lambda_at(progress, preset.warm, preset.ramp, highest),
        after_epoch=lambda epoch: facts,
    )
    _run_stage(folder, network, optimizer, stage, job, f"{method.name} ({job.task}, seed {job.seed})")
    _save(folder / MODEL, {"network": network.state_dict()})
    return facts


def run(job: Job) -> Path:
    """Train a method and predict the target; return the path of ``predictions.csv``.

    A finished run is not trained again.

    Raises
    ------
    DatasetError
        If a dataset is missing or damaged, or its crops are not of the preset's size.
    TrainingError
        If the run's folder belongs to another run, or training cannot start or go on.
    """
    device = find_device(job.device)
    source_set = shards.open_dataset(job.data / TASKS[job.task])
    target_set = shards.open_dataset(job.data / "biwi+")
    preset = job.preset
    for dataset in (source_set, target_set):
        if preset.size not in (None, dataset.size):
            raise DatasetError(
                f"{dataset.folder}: crops of {dataset.size} pixels, but the preset {preset.name} needs {preset.size}; "
                f"build with --size {preset.size}, or choose another --preset"
            )
    if source_set.size != target_set.size:
        raise DatasetError(
            f"{job.data}: source crops of {source_set.size} and target crops of {target_set.size} pixels; "
            "build both with one --size"
        )
    for part in shards.parts(source_set):
        if part.info.get("matched_sha256", target_set.info["content_sha256"]) != target_set.info["content_sha256"]:
            raise DatasetError(f"{part.folder}: was matched with another Biwi+; build with both raw datasets once more")
    settings: dict[str, Any] = {
        "task": job.task,
        "preset": preset._asdict(),
        "weights": job.weights,
        "seed": job.seed,
        "source": source_set.info["content_sha256"],
        "target": target_set.info["content_sha256"],
    }
    base = job.out / f"{job.task}-{preset.name}-seed{job.seed}"
    folder = base / job.method.name
    _claim(folder, settings | {"method": job.method.name, "settings": job.settings._asdict()})
    predictions = folder / "predictions.csv"
    if predictions.exists():
        return predictions

    torch.manual_seed(job.seed)
    network = make_network(preset.backbone, job.weights).to(memory_format=torch.channels_last).to(device)
    source, target = load_source(source_set), load_target(target_set)
    network.angle_mean.copy_(torch.from_numpy(source.angles.mean(axis=0)))
    network.angle_std.copy_(torch.from_numpy(source.angles.std(axis=0)))
    composer = Composer(source, device, job.seed)
    with locked(base / "stage1", wait=True):
        _stage1(job, base / "stage1", network, source, composer, settings)
    facts: dict[str, Any] = {}
    if job.method.adapts:
        with locked(folder, wait=False):
            facts = _stage2(job, folder, network, source, target, composer)
    angles = _target_angles(network, composer, target, preset.batch)
    about = {
        "name": f"{job.method.name} ({preset.backbone})",
        "authors": "headposeplus baselines",
        "link": "",
        "method": job.method.name,
        "training_data": source_set.name,
        "task": job.task,
        "convention": "pyr",
        "camera": "rgb",
        "selection": SELECTION if job.method.adapts else "lowest error on held-out source images",
        "uses_target_images": job.method.adapts,
        "batch_statistics": "mixed" if job.method.adapts else "source",
        "initial_weights": job.weights,
        "preset": preset.name,
        "seed": job.seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "command": job.command,
        "commit": commit(),
        "toolkit": __version__,
        **facts,
    }
    write_predictions(predictions, target.ids, angles, about)
    return predictions


def run_from_options(
    method: str,
    task: str,
    data: Path,
    out: Path,
    preset: str,
    weights: str | None,
    device: str,
    batch: int | None,
    neighbours: int,
    threshold: float,
    threads: int | None,
    seed: int,
    command: str,
) -> Path:
    """Train as the command line says; see :func:`run`."""
    chosen = find_preset(preset)
    if batch:
        chosen = chosen._replace(batch=batch)
    torch.set_num_threads(threads or cores())
    settings = Settings(neighbours, threshold)
    initial = weights or chosen.weights
    return run(Job(find_method(method), task, chosen, data, out, seed, initial, settings, device, command))
