"""The two stages of training: on the source alone, then on source and target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.method import Batch, FirstStage, Method, Seen
from baselines.weights import effective_sample_size
from benchmark.scoring import selection
from benchmark.training import ranks as among
from benchmark.training.draws import cumulative, draw, endless
from benchmark.training.job import MODEL, _claim, _own_settings
from benchmark.training.loop import Stage, Step, load, make_optimizer, run_stage, save, seed_torch
from benchmark.training.views import _drawn, _look, _Run, _see, _see_source, _slices, _source_images, _target_images
from headposeplus.errors import TrainingError
from headposeplus.files import content_hash, whole_or_absent, write_json
from headposeplus.rotations import Floats

_CRITERIA_IMAGES = 300  # of each kind, by which the selection rules judge an epoch


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
