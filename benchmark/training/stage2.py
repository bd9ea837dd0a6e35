"""The second stage of training: on source and target, as a method says."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor

from baselines.method import DomainBatch, Method, Seen
from baselines.weights import effective_sample_size, uniform
from benchmark.scoring import selection
from benchmark.training.checkpoint import copy_state
from benchmark.training.draws import cumulative, draw, endless
from benchmark.training.log import Fact
from benchmark.training.loop import Schedule, Step, make_trainer, run_stage, seed_torch
from benchmark.training.presets import TASKS
from benchmark.training.views import (
    LoadedRun,
    fingerprint,
    in_file_order,
    look,
    see,
    see_source,
    source_images,
    target_images,
)
from headposeplus.errors import TrainingError
from headposeplus.faults import Fault
from headposeplus.files import content_hash, whole_or_absent
from headposeplus.rotations import Floats

_CRITERIA_IMAGES = 300  # of each kind, by which the selection rules judge an epoch
_RULES = tuple(rule for rule in selection.RULES if rule != selection.OFFICIAL)


class Adaptation(NamedTuple):
    """What a second stage ended with: the epoch that was selected, from 0, and the last probabilities (n,).

    ``began`` is the epoch, from 0, that lambda began to grow in, and ``accuracy`` that of the discriminator, if there
    is one, over the epoch before.
    """

    epoch: int
    epochs: int
    highest_lambda: float
    began: int
    accuracy: float | None
    probabilities: Floats

    def facts(self) -> dict[str, float]:
        """Return what is worth telling beside the predictions; epochs count from 1."""
        facts = {"epoch": self.epoch + 1, "epochs": self.epochs, "highest_lambda": self.highest_lambda}
        if self.highest_lambda:
            facts["lambda_began"] = self.began + 1
        if self.highest_lambda and self.accuracy is not None:
            facts["accuracy_at_lambda"] = round(self.accuracy, 4)
        return facts | _facts_of_draws(self.probabilities)


def _facts_of_draws(probabilities: Floats) -> dict[str, float]:
    return {
        "source_kept": float((probabilities > 0).mean()),
        "effective_source_size": effective_sample_size(probabilities),
    }


class _AdaptationState(TypedDict):
    waited: int
    accuracy: float | None
    probabilities: Tensor
    angles: Tensor
    criteria: dict[str, Tensor]
    network: dict[str, Tensor]


class AdaptationStage:
    """The batches of stage 2, and what it keeps of every epoch.

    Attributes
    ----------
    schedule
        How long it trains, at which rates and lambdas.
    waited
        By how many epochs lambda begins later than the preset says, since the discriminator was not ready.
    accuracy
        The share of samples that the discriminator told right in the last epoch before lambda began; None before
        that, and without a discriminator.
    probabilities
        Those (n,) of drawing each training sample of the source.
    angles
        Predictions (e, m, 3) of the target after each of the e epochs, ``pyr`` in degrees.
    criteria
        What each rule of selection but the official one says of the e epochs.
    network
        The network's state after the epoch that the job's rule takes so far.
    """

    def __init__(self, run: LoadedRun, method: Method) -> None:
        job, preset, kind = run.job, run.job.preset, TASKS[run.job.task].kind
        self._run, self._method = run, method
        per_epoch = preset.epoch_samples or len(run.training)
        lambdas = (job.settings.highest_lambda, method.strength, preset.highest_lambda)
        self._planned = Schedule(
            number=2,
            seed=job.seed,
            epochs=preset.stage2_epochs(kind),
            steps=max(per_epoch // preset.batch, 1),
            images=2 * preset.batch,
            rate=preset.stage2_rate,
            last_rate=preset.last_rate,
            warm=preset.warm[kind],
            ramp=preset.ramp,
            highest_lambda=next(value for value in lambdas if value is not None),
            clip=job.options.clip,
        )
        self._longest_wait = preset.hold[kind]
        self.waited = 0
        self.accuracy: float | None = None
        epochs = self._planned.epochs
        self.probabilities = uniform(len(run.training))
        self.angles = np.zeros((epochs, len(run.target.ids), 3), np.float32)
        self.criteria: dict[str, Floats] = {rule: np.zeros(epochs) for rule in _RULES}
        self.network = copy_state(run.network)

    @property
    def schedule(self) -> Schedule:
        """How long it trains, at which rates and lambdas; what waits is lambda alone."""
        return self._planned._replace(warm=self._planned.warm + self.waited)

    @property
    def is_saturated(self) -> bool:
        """Whether the discriminator, if there is one, told enough samples right before lambda began."""
        wanted = self._method.saturation
        return wanted is None or self.accuracy is None or self.accuracy >= wanted

    def _wait(self, epoch: int, accuracy: float | None) -> None:
        """Put lambda off by an epoch if it would begin after this one, and the discriminator is not ready."""
        if epoch + 1 != self.schedule.warm:
            return
        self.accuracy = accuracy
        if not self.is_saturated and self.waited < self._longest_wait:
            self.waited += 1

    def _plan(self, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the source and target rows of each step of an epoch, on all ranks."""
        run, steps, batch = self._run, self.schedule.steps, self._run.job.preset.batch
        rng = np.random.default_rng([run.job.seed, 2, epoch])
        drawn = run.training[draw(rng, cumulative(self.probabilities), steps * batch)].reshape(steps, batch)
        return list(zip(drawn, endless(rng, len(run.target.ids), batch), strict=False))

    def batches(self, epoch: int) -> Iterator[DomainBatch]:
        """Ask the method for its probabilities; return this rank's share of each batch of an epoch."""
        run = self._run
        new = self._method.sampling(epoch, look(run, epoch, self._method.looks_at(epoch)))
        if new is not None:
            self.probabilities = checked_probabilities(new, len(run.training), self._method.name)
        if run.ranks.world > 1:  # a GPU need not give every rank the same last digits
            shared = torch.from_numpy(self.probabilities).to(run.device)
            torch.distributed.broadcast(shared, 0)
            self.probabilities = shared.cpu().numpy()
        return self._batches(epoch)

    def _batches(self, epoch: int) -> Iterator[DomainBatch]:
        run = self._run
        sources, targets = ([run.ranks.share(rows) for rows in part] for part in zip(*self._plan(epoch), strict=True))
        images = source_images(run, sources, run.job.preset.stage1_epochs + epoch, run.job.options.augment)
        for (source, degrees), (crops, _) in zip(images, run.target.store.batches(targets), strict=True):
            yield DomainBatch(source, degrees, run.composer.target(crops))

    def ended(self, epoch: int, means: Mapping[str, float]) -> dict[str, Fact]:
        """Keep the predictions, and the network if the job's rule takes this epoch; return facts for the log."""
        accuracy = means.get("domain_accuracy")
        self._wait(epoch, accuracy)
        run = self._run._replace(network=self._method.predictor(self._run.network))
        seen = see(run.network, target_images(run))
        self.angles[epoch] = seen.angles
        judged = judge(run, seen)
        for rule, value in judged.items():
            self.criteria[rule][epoch] = value
        if self.selected(epoch + 1) == epoch:
            self.network = copy_state(run.network)
        return {
            **{rule: round(value, 6) for rule, value in judged.items()},
            **({} if accuracy is None else {"domain_accuracy": round(accuracy, 6)}),
            **_facts_of_draws(self.probabilities),
            "drawn": fingerprint(rows for pair in self._plan(epoch) for rows in pair),
            **self._method.facts(),
        }

    def selected(self, epochs: int) -> int:
        """Return the epoch, from 0, that the job's rule takes of the first ``epochs``."""
        criteria = {rule: values[:epochs] for rule, values in self.criteria.items()}
        return selection.choose(self._run.job.options.selection, criteria, epochs)

    def state_dict(self) -> _AdaptationState:
        """Return what it keeps of the epochs so far."""
        return {
            "waited": self.waited,
            "accuracy": self.accuracy,
            "probabilities": torch.from_numpy(self.probabilities),
            "angles": torch.from_numpy(self.angles),
            "criteria": {rule: torch.from_numpy(values) for rule, values in self.criteria.items()},
            "network": self.network,
        }

    def load_state_dict(self, state: _AdaptationState, /) -> None:
        """Take up what a checkpoint has kept; raises ValueError if it cannot be."""
        drawn, accuracy = state["probabilities"], state["accuracy"] or 0
        if (drawn < 0).any() or abs(float(drawn.sum()) - 1) > 1e-6:
            raise ValueError("stage.probabilities: they are none")
        if not (0 <= state["waited"] <= self._longest_wait and 0 <= accuracy <= 1):
            raise ValueError(f"stage: waited {state['waited']} epochs, accuracy {accuracy}")
        self.waited, self.accuracy = state["waited"], state["accuracy"]
        self.probabilities, self.angles = state["probabilities"].numpy(), state["angles"].numpy()
        self.criteria = {rule: values.numpy() for rule, values in state["criteria"].items()}
        self.network = state["network"]


def checked_probabilities(probabilities: Floats, count: int, method: str) -> Floats:
    """Return a method's probabilities (n,) divided by their sum; raises TrainingError if they cannot be that."""
    probabilities = np.asarray(probabilities, float)
    total = probabilities.sum()
    if probabilities.shape != (count,) or not np.isfinite(total) or (probabilities < 0).any() or total <= 0:
        raise TrainingError(
            f"{method}: expected {count} probabilities that are not negative and do not sum to 0, "
            f"got {probabilities.size} with the sum {total:g}"
        )
    return probabilities / total


def judge(run: LoadedRun, seen: Seen) -> dict[str, float]:
    """Return what each rule of selection but the official one says of the network, which made this of the target."""
    rng = np.random.default_rng([run.job.seed, 4])  # the same images for every epoch
    some = rng.permutation(len(run.target.ids))[:_CRITERIA_IMAGES]
    flipped = see(run.network, (images.flip(3) for images in target_images(run, some)))
    held_out, training = run.held_out[:_CRITERIA_IMAGES], rng.permutation(run.training)[:_CRITERIA_IMAGES]
    held = see_source(run, held_out, 0)
    errors = np.abs(held.angles - run.source.angles[held_out]).mean(axis=1)
    validated = selection.deep_embedded_validation(
        see_source(run, training, 0).features.astype(float),
        seen.features[some].astype(float),
        held.features.astype(float),
        errors,
    )
    return {
        "source-val": float(errors.mean()),
        "consistency": selection.consistency(seen.angles[some], flipped.angles),
        "dev": validated,
    }


def check_target(run: LoadedRun) -> None:
    """Raise TrainingError if the target is too small to adapt to, which is found before the first stage."""
    count, batch = len(run.target.ids), run.job.preset.batch
    if count < 2:
        wrong = f"{count} target images; {run.job.method.name} normalises by batches and needs 2"
        raise TrainingError(Fault(wrong, file=run.job.data / TASKS[run.job.task].target))
    if batch > count:
        raise TrainingError(f"a batch of {batch} is larger than the target of {count} images; lower `batch`")


def adapt(run: LoadedRun, folder: Path, method: Method) -> Adaptation:
    """Adapt to the target; leave the predictions of every epoch in ``folder``, and the selected one in the network.

    Raises
    ------
    TrainingError
        If the method's probabilities are none, or the loss is no longer finite.
    """
    job, preset = run.job, run.job.preset
    seed_torch(job.seed, 6)  # what a method begins with does not depend on whether stage 1 was trained just now
    method.start(run.network, look(run, 0, method.looks_at(-1)))
    step = Step(run.network, method.to(run.device))
    stage = AdaptationStage(run, method)
    trainer = make_trainer(step, "sgd", preset.stage2_rate, preset.stage2_decay, run.ranks)
    hashed, label = content_hash(run.settings.to_json()), f"{method.name} {run.label}"
    run_stage(folder, hashed, trainer, stage, run.ranks, label, job.options.tensorboard)
    run.network.load_state_dict(stage.network)
    if run.ranks.first:
        everywhere = np.zeros(len(run.source.angles))
        everywhere[run.source_order[run.training]] = stage.probabilities
        with whole_or_absent(folder / selection.EPOCHS) as path:
            ids = in_file_order(run.target.ids, run.target_order)
            angles = in_file_order(stage.angles.swapaxes(0, 1), run.target_order).swapaxes(0, 1)
            epochs = selection.Epochs(ids, angles.astype(float), everywhere, stage.criteria)
            selection.write_epochs(path, epochs)
    schedule = stage.schedule
    if run.ranks.first and schedule.highest_lambda and not stage.is_saturated:
        told, wanted = f"{stage.accuracy:.1%}", f"{method.saturation:.0%}"
        print(
            f"{label}: lambda began at epoch {schedule.warm + 1:g}, when it could wait no longer; the discriminator "
            f"told {told} of the samples right, not {wanted}",
            file=sys.stderr,
        )
    return Adaptation(
        epoch=stage.selected(schedule.epochs),
        epochs=schedule.epochs,
        highest_lambda=schedule.highest_lambda,
        began=int(schedule.warm),
        accuracy=stage.accuracy,
        probabilities=stage.probabilities,
    )
