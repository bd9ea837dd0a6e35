"""Training, one way for all methods: stage 1 on the source, stage 2 on source and target.

A run lives in ``OUT/TASK-PRESET-seedN``: ``stage1`` is shared by all methods, and each method has a folder. The loop
over epochs is in :mod:`benchmark.training.loop`; here is what an epoch draws, and what a run leaves behind.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from baselines.adabn import estimate_statistics
from baselines.method import Batch, FirstStage, Look, Method, Seen, Settings
from baselines.methods import find_method
from baselines.networks import PoseNetwork, make_network
from baselines.weights import effective_sample_size
from benchmark.loaders.compose import Composer, Source, Target, cumulative, draw, endless, load_source, load_target
from benchmark.scoring import selection
from benchmark.scoring.submission import write_predictions
from benchmark.training import ranks as among
from benchmark.training.loop import Stage, Step, load, make_optimizer, run_stage, save, seed_torch
from benchmark.training.presets import TASKS, Preset, find_preset
from benchmark.training.ranks import Ranks
from headposeplus import __version__
from headposeplus.datasets import shards
from headposeplus.errors import DatasetError, TrainingError
from headposeplus.files import content_hash, cores, locked, read_json, whole_or_absent, write_json
from headposeplus.rotations import Floats

RUN, MODEL, PREDICTIONS = "run.json", "model.pt", "predictions.csv"
STATISTICS = ("source", "target")  # estimated anew; the running statistics of training are ``mixed``
_SOURCE_BATCHES = 20  # by which the source's statistics are estimated
_CRITERIA_IMAGES = 300  # of each kind, by which the selection rules judge an epoch


class Options(NamedTuple):
    """How a run is carried out; of these, ``half``, ``clip`` and ``selection`` may change its result.

    ``half`` is bfloat16 for the network, ``clip`` the largest norm of a step's gradient, ``store`` where the crops are
    kept (:data:`benchmark.loaders.stores.STORES`), ``selection`` one of :data:`benchmark.scoring.selection.RULES`.
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


class _Run(NamedTuple):
    """A job with all that its stages need at hand."""

    job: Job
    ranks: Ranks
    network: PoseNetwork
    source: Source
    target: Target
    composer: Composer
    training: np.ndarray  # rows of the source that are trained on
    held_out: np.ndarray
    settings: dict[str, Any]

    @property
    def label(self) -> str:
        return f"({self.job.task}, seed {self.job.seed})"


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


def _slices(count: int, batch: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + batch, count)) for start in range(0, count, batch)]


@torch.no_grad()
def _see(network: PoseNetwork, batches: Iterable[Tensor]) -> Seen:
    """Return what a network makes of batches of images, with the running batch statistics."""
    network.eval()
    features, angles = [], []
    for images in batches:
        output = network(images)
        features.append(output.features)
        angles.append(network.degrees(output.angles).double())
    return Seen(torch.cat(features).cpu().numpy(), torch.cat(angles).cpu().numpy())


def _source_images(run: _Run, plan: list[np.ndarray], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and angles of batches of source rows, each with the background that it has in an epoch."""
    for rows, (crops, masks) in zip(plan, run.source.store.batches(plan), strict=True):
        assert masks is not None
        yield run.composer.source(rows, crops, masks, epoch)


def _see_source(run: _Run, rows: np.ndarray, epoch: int) -> Seen:
    plan = [rows[part] for part in _slices(len(rows), run.job.preset.batch)]
    return _see(run.network, (images for images, _ in _source_images(run, plan, epoch)))


def _target_images(run: _Run, rows: np.ndarray | None = None) -> Iterator[Tensor]:
    """Yield the target's images in batches, all or those of some rows."""
    rows = np.arange(len(run.target.ids)) if rows is None else rows
    plan = [rows[part] for part in _slices(len(rows), run.job.preset.batch)]
    for crops, _ in run.target.store.batches(plan):
        yield run.composer.target(crops)


def _look(run: _Run, epoch: int) -> Look:
    """Return what a method may look at; the backgrounds go on where those of stage 1 ended."""
    background = run.job.preset.stage1_epochs + epoch
    return Look(
        angles=run.source.angles[run.training],
        source=lambda rows: _see_source(run, run.training[rows], background),
        target=lambda: _see(run.network, _target_images(run)),
        rng=np.random.default_rng([run.job.seed, 3, epoch]),
    )


def _drawn(plan: list[np.ndarray]) -> str:
    """Return the fingerprint of what an epoch draws, the same on one process and on several."""
    return content_hash([rows.tolist() for rows in plan])[:16]


def _stage1(run: _Run, folder: Path) -> None:
    """Train on the source alone; leave the epoch with the lowest held-out error in ``folder``."""
    job, preset, network = run.job, run.job.preset, run.network
    device = network.angle_mean.device
    _claim(folder, run.settings, run.ranks)
    if (folder / MODEL).exists():
        network.load_state_dict(load(folder / MODEL, device)["network"])
        return
    per_epoch = min(preset.epoch_samples or len(run.training), len(run.training))
    if preset.batch > per_epoch:
        raise TrainingError(f"a batch of {preset.batch} is larger than an epoch of {per_epoch} images; lower --batch")
    # The best epoch so far, and its network.
    kept = {"best": torch.tensor([-1.0, np.inf])} | {f"best/{k}": v.clone() for k, v in network.state_dict().items()}

    def plan_of(epoch: int) -> list[np.ndarray]:
        shuffled = np.random.default_rng([job.seed, 1, epoch]).permutation(run.training)
        return [shuffled[part] for part in _slices(per_epoch, preset.batch) if len(part) == preset.batch]

    def batches(epoch: int) -> Iterator[Batch]:
        plan = [run.ranks.share(rows) for rows in plan_of(epoch)]
        for images, degrees in _source_images(run, plan, epoch):
            yield Batch(images, degrees, images[:0])

    def ended(epoch: int) -> dict[str, Any]:
        seen = _see_source(run, run.held_out, 0)
        error = float(np.abs(seen.angles - run.source.angles[run.held_out]).mean())
        if error < kept["best"][1]:
            kept["best"] = torch.tensor([epoch, error], dtype=torch.float64)
            kept.update({f"best/{k}": v.clone() for k, v in network.state_dict().items()})
        return {"held_out_mae": error, "drawn": _drawn(plan_of(epoch))}

    step = Step(network, FirstStage(job.settings))
    stage = Stage(
        number=1, seed=job.seed, epochs=preset.stage1_epochs, steps=per_epoch // preset.batch, images=preset.batch,
        rate=preset.stage1_rate, last_rate=preset.last_rate, warm=0, ramp=0, highest_lambda=0.0,
        clip=job.options.clip, batches=batches, ended=ended,
    )  # fmt: skip
    optimizer = make_optimizer(step, preset.stage1_optimizer, preset.stage1_rate, preset.stage1_decay)
    hashed = content_hash(run.settings)
    run_stage(folder, hashed, step, optimizer, stage, kept, run.ranks, f"stage 1 {run.label}", job.options.tensorboard)
    best = {key.removeprefix("best/"): value for key, value in kept.items() if key.startswith("best/")}
    network.load_state_dict(best)
    if run.ranks.first:
        write_json(
            folder / "best.json", {"epoch": int(kept["best"][0]), "held_out_mae": round(float(kept["best"][1]), 6)}
        )
        save(folder / MODEL, {"network": best})
    among.wait(run.ranks)


def _checked(probabilities: Floats, count: int, method: Method) -> Floats:
    """Return a method's probabilities (n,) divided by their sum; raises TrainingError if they cannot be that."""
    probabilities = np.asarray(probabilities, float)
    total = probabilities.sum()
    if probabilities.shape != (count,) or not np.isfinite(total) or (probabilities < 0).any() or total <= 0:
        raise TrainingError(
            f"{method.name}: expected {count} probabilities that are not negative and do not sum to 0, "
            f"got {probabilities.size} with the sum {total:g}"
        )
    return probabilities / total


def _judge(run: _Run, seen: Seen) -> dict[str, float]:
    """Return what each rule of selection but the official one says of the network, which made this of the target."""
    rng = np.random.default_rng([run.job.seed, 4])  # the same images for every epoch
    some = rng.permutation(len(run.target.ids))[:_CRITERIA_IMAGES]
    flipped = _see(run.network, (images.flip(3) for images in _target_images(run, some)))
    held_out, training = run.held_out[:_CRITERIA_IMAGES], rng.permutation(run.training)[:_CRITERIA_IMAGES]
    held = _see_source(run, held_out, 0)
    errors = np.abs(held.angles - run.source.angles[held_out]).mean(axis=1)
    validated = selection.deep_embedded_validation(
        _see_source(run, training, 0).features.astype(float),
        seen.features[some].astype(float),
        held.features.astype(float),
        errors,
    )
    return {
        "source-val": float(errors.mean()),
        "consistency": selection.consistency(seen.angles[some], flipped.angles),
        "dev": validated,
    }


def _stage2(run: _Run, folder: Path, method: Method) -> tuple[dict[str, Any], Floats]:
    """Adapt to the target; return what is worth telling, and the last probabilities of the training samples."""
    job, preset, network, ranks = run.job, run.job.preset, run.network, run.ranks
    device = network.angle_mean.device
    count, batch = len(run.target.ids), preset.batch
    if count < 2:
        raise TrainingError(
            f"{job.data / 'biwi+'}: {count} target images; {method.name} normalises by batches and needs 2"
        )
    if batch > count:
        raise TrainingError(f"a batch of {batch} is larger than the target of {count} images; lower --batch")
    seed_torch(job.seed, 6)  # what a method begins with does not depend on whether stage 1 was trained just now
    method.start(network, _look(run, 0))
    step = Step(network, method.to(device))
    per_epoch = preset.epoch_samples or len(run.training)
    steps, epochs = max(per_epoch // batch, 1), preset.warm + preset.ramp + preset.hold[job.task]
    kept = {
        "probabilities": torch.full((len(run.training),), 1 / len(run.training), dtype=torch.float64),
        "angles": torch.zeros((epochs, count, 3)),
        "criteria": torch.zeros((epochs, len(selection.RULES) - 1), dtype=torch.float64),
        **{f"selected/{k}": v.clone() for k, v in network.state_dict().items()},
    }
    rules = [rule for rule in selection.RULES if rule != selection.OFFICIAL]

    def batches(epoch: int) -> Iterator[Batch]:
        new = method.sampling(epoch, _look(run, epoch))
        if new is not None:
            kept["probabilities"] = torch.from_numpy(_checked(new, len(run.training), method))
        if ranks.world > 1:  # a GPU need not give every rank the same last digits
            shared = kept["probabilities"].to(device)
            torch.distributed.broadcast(shared, 0)
            kept["probabilities"] = shared.cpu()
        return _adaptation_batches(run, kept["probabilities"].cpu().numpy(), epoch, steps)

    def ended(epoch: int) -> dict[str, Any]:
        seen = _see(network, _target_images(run))
        criteria = _judge(run, seen)
        kept["angles"][epoch] = torch.from_numpy(seen.angles)
        kept["criteria"][epoch] = torch.tensor([criteria[rule] for rule in rules], dtype=torch.float64)
        values = {rule: kept["criteria"][: epoch + 1, i].cpu().numpy() for i, rule in enumerate(rules)}
        if selection.choose(job.options.selection, values, epoch + 1) == epoch:
            kept.update({f"selected/{k}": v.clone() for k, v in network.state_dict().items()})
        probabilities = kept["probabilities"].cpu().numpy()
        plan = _adaptation_plan(run, probabilities, epoch, steps)
        return {
            **{rule: round(value, 6) for rule, value in criteria.items()},
            "source_kept": float((probabilities > 0).mean()),
            "effective_source_size": effective_sample_size(probabilities),
            "drawn": _drawn([rows for pair in plan for rows in pair]),
            **method.facts(),
        }

    optimizer = make_optimizer(step, "sgd", preset.stage2_rate, preset.stage2_decay)
    highest = next(
        value for value in (job.settings.highest_lambda, method.strength, preset.highest_lambda) if value is not None
    )
    stage = Stage(
        number=2, seed=job.seed, epochs=epochs, steps=steps, images=2 * batch, rate=preset.stage2_rate,
        last_rate=preset.last_rate, warm=preset.warm, ramp=preset.ramp, highest_lambda=highest,
        clip=job.options.clip, batches=batches, ended=ended,
    )  # fmt: skip
    hashed = content_hash(run.settings | _own_settings(job))
    run_stage(
        folder, hashed, step, optimizer, stage, kept, ranks, f"{method.name} {run.label}", job.options.tensorboard
    )
    values = {rule: kept["criteria"][:, i].cpu().numpy() for i, rule in enumerate(rules)}
    chosen = selection.choose(job.options.selection, values, epochs)
    selected = {key.removeprefix("selected/"): value for key, value in kept.items() if key.startswith("selected/")}
    network.load_state_dict(selected)
    probabilities = kept["probabilities"].cpu().numpy()
    if ranks.first:
        with whole_or_absent(folder / selection.EPOCHS) as path:
            everywhere = np.zeros(len(run.source.angles))
            everywhere[run.training] = probabilities
            angles = kept["angles"].cpu().double().numpy()
            selection.write_epochs(path, selection.Epochs(run.target.ids, angles, everywhere, values))
    facts = {
        "epoch": chosen + 1,
        "epochs": epochs,
        "highest_lambda": highest,
        "source_kept": float((probabilities > 0).mean()),
        "effective_source_size": effective_sample_size(probabilities),
    }
    return facts, probabilities


def _adaptation_plan(run: _Run, probabilities: Floats, epoch: int, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the source and target rows of each step of an epoch, on all ranks."""
    rng, batch = np.random.default_rng([run.job.seed, 2, epoch]), run.job.preset.batch
    drawn = run.training[draw(rng, cumulative(probabilities), steps * batch)].reshape(steps, batch)
    return list(zip(drawn, endless(rng, len(run.target.ids), batch), strict=False))


def _adaptation_batches(run: _Run, probabilities: Floats, epoch: int, steps: int) -> Iterator[Batch]:
    """Yield this rank's share of an epoch's batches."""
    plan = _adaptation_plan(run, probabilities, epoch, steps)
    sources, targets = ([run.ranks.share(rows) for rows in part] for part in zip(*plan, strict=True))
    images = _source_images(run, sources, run.job.preset.stage1_epochs + epoch)
    for (source, degrees), (crops, _) in zip(images, run.target.store.batches(targets), strict=True):
        yield Batch(source, degrees, run.composer.target(crops))


def _own_settings(job: Job) -> dict[str, Any]:
    """Return the settings that stage 1 does not depend on."""
    return {"method": job.method.name, "settings": job.settings._asdict(), "selection": job.options.selection}


def _check_data(job: Job) -> tuple[shards.Dataset, shards.Dataset]:
    """Return source and target; raises DatasetError if they do not fit the preset or each other."""
    source, target = shards.open_dataset(job.data / TASKS[job.task]), shards.open_dataset(job.data / "biwi+")
    for dataset in (source, target):
        if job.preset.size not in (None, dataset.size):
            raise DatasetError(
                f"{dataset.folder}: crops of {dataset.size} pixels, but the preset {job.preset.name} needs "
                f"{job.preset.size}; build with --size {job.preset.size}, or choose another --preset"
            )
        found = dataset.info.get("convention"), dataset.info.get("camera")
        if found != ("pyr", "rgb"):
            raise DatasetError(
                f"{dataset.folder}: labels in convention {found[0]}, {found[1]} camera; expected pyr, rgb: build again"
            )
    if source.size != target.size:
        raise DatasetError(
            f"{job.data}: source crops of {source.size} and target crops of {target.size} pixels; "
            "build both with one --size"
        )
    for part in shards.parts(source):
        if part.info.get("matched_sha256", target.info["content_sha256"]) != target.info["content_sha256"]:
            raise DatasetError(f"{part.folder}: was matched with another Biwi+; build with both raw datasets once more")
    return source, target


def run(job: Job) -> Path:
    """Train a method and predict the target; return the path of ``predictions.csv``.

    Beside it are the predictions under re-estimated batch statistics, ``predictions-source.csv`` and
    ``predictions-target.csv``, and, of methods with a second stage, those of every epoch. A finished run is not
    trained again, and one that was stopped goes on where it was.

    Raises
    ------
    DatasetError
        If a dataset is missing or damaged, or its crops are not of the preset's size.
    TrainingError
        If the run's folder belongs to another run, or training cannot start or go on.
    """
    ranks = among.from_environment()
    device = find_device(job.options.device, ranks)
    selection.check(job.options.selection)
    if job.preset.batch < 2 * ranks.world:
        raise TrainingError(f"a batch of {job.preset.batch} is too small for {ranks.world} processes; raise --batch")
    try:
        with among.connected(ranks, device):
            return _run(job, ranks, device)
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            f"out of memory on {torch.cuda.get_device_name(device)}; choose --store host, which goes on where it was, "
            "or lower --batch with another --out"
        ) from error
    except torch.linalg.LinAlgError as error:
        raise TrainingError(
            f"{job.method.name}: its features are no longer finite ({error}); limit the gradient with --clip and "
            "another --out"
        ) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise TrainingError(
            "out of memory; choose --store stream, which goes on where it was, or lower --batch with another --out"
        ) from error


def _half(job: Job, device: torch.device) -> bool:
    return device.type == "cuda" if job.options.half is None else job.options.half


def _settings(
    job: Job, ranks: Ranks, device: torch.device, source: shards.Dataset, target: shards.Dataset
) -> dict[str, Any]:
    """Return what the result of stage 1 depends on."""
    return {
        "task": job.task,
        "preset": job.preset._asdict(),
        "weights": job.weights,
        "seed": job.seed,
        "precision": "bfloat16" if _half(job, device) else "float32",
        "clip": job.options.clip,
        "processes": ranks.world,
        "source": source.info["content_sha256"],
        "target": target.info["content_sha256"],
    }


def folder_of(job: Job) -> Path:
    """Return the folder of a job's method and seed."""
    base = job.out / f"{job.task}-{job.preset.name}-seed{job.seed}"
    return base / variant(job.method.name, job.settings, job.options.selection)


def is_finished(job: Job) -> bool:
    """Return whether a job has left its predictions; raises TrainingError if its folder belongs to another run."""
    settings = _settings(job, Ranks(), find_device(job.options.device), *_check_data(job))
    return _is_claimed(folder_of(job), settings | _own_settings(job)) and (folder_of(job) / PREDICTIONS).exists()


def _run(job: Job, ranks: Ranks, device: torch.device) -> Path:
    preset, options = job.preset, job.options
    source_set, target_set = _check_data(job)
    settings = _settings(job, ranks, device, source_set, target_set)
    folder = folder_of(job)
    base = folder.parent
    _claim(folder, settings | _own_settings(job), ranks)
    if (folder / PREDICTIONS).exists():
        return folder / PREDICTIONS

    torch.set_num_threads(options.threads or max(cores() // among.processes_here(), 1))
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    torch.manual_seed(job.seed)
    network = make_network(preset.backbone, job.weights).to(memory_format=torch.channels_last).to(device)
    network.low_precision = _half(job, device)
    if options.compiled:
        network.compile()
    source = load_source(source_set, device, options.store, options.threads)
    target = load_target(target_set, device, options.store, options.threads)
    if not len(source.backgrounds) and ranks.first:
        print(f"{job.data}: SynHead came without backgrounds; plain colours stand behind the heads", file=sys.stderr)
    network.angle_mean.copy_(torch.from_numpy(source.angles.mean(axis=0)))
    network.angle_std.copy_(torch.from_numpy(source.angles.std(axis=0)))
    order = np.random.default_rng([job.seed, 0]).permutation(len(source.angles))
    held = max(round(preset.held_out * len(order)), 1)
    run = _Run(
        job, ranks, network, source, target, Composer(source, device, job.seed), order[held:], order[:held], settings
    )
    with locked(base / "stage1", wait=True) if ranks.first else nullcontext():
        _stage1(run, base / "stage1")
    method = job.method(job.settings)
    facts: dict[str, Any] = {}
    probabilities = np.full(len(run.training), 1 / len(run.training))
    if method.trains:
        with locked(folder, wait=False) if ranks.first else nullcontext():
            facts, probabilities = _stage2(run, folder, method)
    method.finish(network, _target_images(run))
    if ranks.first:
        if method.trains or method.uses_target:
            save(folder / MODEL, {"network": network.state_dict()})
        _write_all_predictions(run, folder, method, source_set.name, probabilities, facts)
    among.wait(ranks)
    return folder / PREDICTIONS


def _write_all_predictions(
    run: _Run, folder: Path, method: Method, source: str, probabilities: Floats, facts: dict[str, Any]
) -> None:
    """Write the predictions under each kind of batch statistics, those that count last."""
    job, network, preset = run.job, run.network, run.job.preset
    device = network.angle_mean.device
    own = "mixed" if method.trains else "target" if method.uses_target else "source"
    about = {
        "name": f"{folder.name} ({preset.backbone})",
        "authors": "headposeplus baselines" if type(method).__module__.startswith("baselines.") else "not given",
        "link": "",
        "task": job.task,
        "training_data": source,
        "convention": "pyr",
        "camera": "rgb",
        "selection": selection.RULES[job.options.selection if method.trains else "source-val"],
        "uses_target_images": method.uses_target,
        "batch_statistics": own,
        "initial_weights": job.weights,
        "preset": preset.name,
        "seed": job.seed,
        "command": job.command,
        "commit": commit(),
        # Nothing that reads predictions needs the rest.
        "run": {
            "method": method.name,
            "neighbours": job.settings.neighbours,
            "threshold": job.settings.threshold,
            "precision": run.settings["precision"],
            "backgrounds": len(run.source.backgrounds),
            "processes": run.ranks.world,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "toolkit": __version__,
            **facts,
        },
    }
    official = _see(network, _target_images(run)).angles
    rng = np.random.default_rng([job.seed, 5])
    rows = draw(rng, cumulative(probabilities), _SOURCE_BATCHES * preset.batch)
    drawn = run.training[rows].reshape(_SOURCE_BATCHES, -1)
    estimates: dict[str, Iterable[Tensor]] = {
        "source": (images for images, _ in _source_images(run, list(drawn), 0)),
        "target": _target_images(run),
    }
    for kind in STATISTICS:
        estimate_statistics(network, estimates[kind])
        angles = _see(network, _target_images(run)).angles
        path = folder / f"predictions-{kind}.csv"
        write_predictions(path, run.target.ids, angles, about | {"batch_statistics": f"{kind}, estimated anew"})
    write_predictions(folder / PREDICTIONS, run.target.ids, official, about)


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
