"""How fast training goes through its data, beside the same steps on one batch that is on the device already."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from baselines import weights
from baselines.adversarial import DANN
from baselines.devices import beside_steps
from baselines.method import DomainBatch, FirstStage, Look, MethodSettings
from baselines.networks import make_network
from benchmark.loaders.compose import Composer, Source, Target, load_source, load_target
from benchmark.loaders.stores import AHEAD
from benchmark.training.draws import cumulative, draw, endless
from benchmark.training.job import find_device
from benchmark.training.loop import Step, Trainer, make_trainer, take
from benchmark.training.presets import TASKS, Preset, find_preset
from benchmark.training.settings import check_sizes
from benchmark.upkeep.aims import describe_aims
from benchmark.upkeep.bench_scale import LABELS, PREDICTIONS, draw_labels
from benchmark.upkeep.machine import Machine, machine, wait_for
from headposeplus import tables
from headposeplus.datasets.dataset import Dataset, layout_of, open_dataset
from headposeplus.errors import DatasetError, TrainingError
from headposeplus.faults import Fault
from headposeplus.rotations import Floats
from headposeplus.tasks import cores

ROUNDS = 3  # of both ways of feeding in turn, so that what else the machine does meets each of them
WARM = AHEAD + 1  # steps before a measurement: by then the batches that were made ready meanwhile are used up
LEAST_STEPS = 3  # of a measurement, where a step takes long
READ_EVERY = 25  # steps between two waits for the device; training reads its losses as often
LAMBDA = 0.3  # of stage 2; any but 0 would take as long
RATE = 1e-4  # takes as long as any other, and an untrained network stays finite
# What training should keep to: the ratio, by the network, and the seconds of the sampling weights.
LEAST_RATIO, MOST_WEIGHTS = {"slim": 0.95, "resnet18": 0.97}, 3.0
LEAST_RATE, MOST_IDLE = 12_000, 0.03  # on a GPU: images a second, and the share of the time without a step


class StageFigures(msgspec.Struct, frozen=True):
    """A stage's images a second with batches from the store, and with one that is on the device, a value a round.

    ``ratio`` is the median of their quotients, ``idle`` the median share of the time without a step to compute. In
    stage 2, ``images_a_second_at_first`` are those with batches from the store while lambda is 0.
    """

    stage: int
    images_a_second: list[float]
    resident_images_a_second: list[float]
    ratio: float
    idle: float
    images_a_second_at_first: list[float] = []


class StoredCrops(msgspec.Struct, frozen=True):
    """A dataset, how many crops it has, and the store that they came from."""

    dataset: str
    crops: int
    store: str


class TrainFigures(Machine, frozen=True, kw_only=True):
    """What :func:`bench_train` measures; ``seconds`` is the time of each measurement."""

    precision: str
    seed: int
    task: str
    preset: str
    backbone: str
    size: int
    batch: int
    seconds: float
    source: StoredCrops
    target: StoredCrops
    stages: list[StageFigures]
    weights_seconds: dict[str, float]


class LoadedData(NamedTuple):
    """Source and target, and what composes their batches."""

    source: Source
    target: Target
    composer: Composer


def _drawn(rng: np.random.Generator, count: int, batch: int) -> Iterator[np.ndarray]:
    """Yield batches of rows without end, drawn with replacement and all alike: they lie apart as far as can be."""
    summed = cumulative(weights.uniform(count))
    while True:
        yield draw(rng, summed, batch)


def batches(data: LoadedData, stage: int, batch: int, seed: int) -> Generator[DomainBatch, None, None]:
    """Yield the batches of a stage without end, as training makes them within an epoch.

    Those of stage 1 are passes over the source, shuffled; those of stage 2 are drawn from the source, beside passes
    over the target.
    """
    source, target, composer = data

    def plan() -> Iterator[np.ndarray]:  # made twice: the store reads it ahead, in another thread
        rows = endless if stage == 1 else _drawn
        return rows(np.random.default_rng([seed, stage]), len(source.store), batch)

    targets: Iterator[tuple[Tensor, Tensor | None] | None] = itertools.repeat(None)
    if stage == 2:
        targets = target.store.batches(endless(np.random.default_rng([seed, 3]), len(target.store), batch))
    for rows, (crops, masks), seen in zip(plan(), source.store.batches(plan()), targets, strict=True):
        assert masks is not None
        images, degrees = composer.source(rows, crops, masks, 0)
        yield DomainBatch(images, degrees, images[:0] if seen is None else composer.target(seen[0]))


def make_stage(stage: int, preset: Preset, data: LoadedData, device: torch.device) -> Trainer:
    """Return the trainer of a stage; how long its steps take does not depend on the initial weights."""
    network = make_network(preset.backbone).to(memory_format=torch.channels_last).to(device)
    network.low_precision = device.type == "cuda"
    angles = data.source.angles
    network.angle_mean.copy_(torch.from_numpy(angles.mean(axis=0)))
    network.angle_std.copy_(torch.from_numpy(angles.std(axis=0)))
    if stage == 1:
        step = Step(network, FirstStage(MethodSettings()))
        return make_trainer(step, preset.stage1_optimizer, RATE, preset.stage1_decay)
    method = DANN(MethodSettings())
    method.start(network, Look(angles, np.random.default_rng(0)))
    return make_trainer(Step(network, method.to(device)), "sgd", RATE, preset.stage2_decay)


def _mark(device: torch.device) -> Any:
    """Return a mark in the device's own time: that of a GPU comes when all that it was told to do before is done."""
    if device.type == "cuda":
        return torch.cuda.current_stream(device).record_event(torch.cuda.Event(enable_timing=True))
    return time.perf_counter()


def _between(first: Any, second: Any) -> float:
    """Return the seconds from one mark to the next."""
    return second - first if isinstance(first, float) else first.elapsed_time(second) / 1000


def measure(fed: Iterator[DomainBatch], trainer: Trainer, lam: float, seconds: float) -> tuple[float, float]:
    """Return the images a second of steps, and the share of the time in which the device has no step to compute.

    That share runs from the end of a step until its next batch is composed. The device is not waited for at each step,
    so that, as in training, it computes while the next batch is on its way.
    """
    device = trainer.device
    for _ in range(WARM):
        take(trainer, next(fed), lam)
    wait_for(device)
    marks: list[tuple[Any, Any]] = []
    images, began = 0, time.perf_counter()
    while len(marks) < LEAST_STEPS or time.perf_counter() - began < seconds:
        ended = _mark(device)
        batch = next(fed)
        marks.append((ended, _mark(device)))
        take(trainer, batch, lam)
        images += len(batch.images) + len(batch.target)
        if len(marks) % READ_EVERY == 0:
            wait_for(device)
    wait_for(device)
    passed = time.perf_counter() - began
    return images / passed, sum(itertools.starmap(_between, marks)) / passed


def _bench_stage(
    stage: int, preset: Preset, data: LoadedData, device: torch.device, seconds: float, seed: int
) -> StageFigures:
    """Return the figures of a stage; the ways of feeding take turns in going first."""
    trainer = make_stage(stage, preset, data, device)
    trainer.step.train()
    lambdas = {"real": 0.0, "resident": 0.0} if stage == 1 else {"real": LAMBDA, "resident": LAMBDA, "at first": 0.0}
    rates: dict[str, list[float]] = {way: [] for way in lambdas}
    idle = []
    with closing(batches(data, stage, preset.batch, seed)) as made:
        real = beside_steps(made, device)
        resident = itertools.repeat(next(real))
        for number in range(ROUNDS):
            for way in list(lambdas)[:: -1 if number % 2 else 1]:
                fed = resident if way == "resident" else real
                rate, share = measure(fed, trainer, lambdas[way], seconds)
                rates[way].append(rate)
                if way == "real":
                    idle.append(share)
    ratios = [real / resident for real, resident in zip(rates["real"], rates["resident"], strict=True)]
    return StageFigures(
        stage=stage,
        images_a_second=[round(rate, 1) for rate in rates["real"]],
        resident_images_a_second=[round(rate, 1) for rate in rates["resident"]],
        ratio=round(statistics.median(ratios), 3),
        idle=round(statistics.median(idle), 4),
        images_a_second_at_first=[round(rate, 1) for rate in rates.get("at first", [])],
    )


def weights_seconds(seed: int) -> dict[str, float]:
    """Return the seconds that the sampling weights take at the size of the real datasets, the best of three.

    They are PADACO's and the PADA-like ones, by their methods' names, of labels drawn at random. One core is used.
    """
    source, predictions = draw_labels(np.random.default_rng(seed), LABELS, PREDICTIONS)

    def best(weigh: Callable[[Floats, Floats], object]) -> float:
        least = math.inf
        for _ in range(3):
            began = time.perf_counter()
            weigh(source, predictions)
            least = min(least, time.perf_counter() - began)
        return round(least, 3)

    return {"padaco": best(weights.padaco), "pada-like": best(weights.pada_like)}


def _open(data: Path, task: str, batch: int) -> tuple[Dataset, Dataset]:
    """Return source and target; raises DatasetError if they are not as a run needs them."""
    source, target = (open_dataset(data / name) for name in TASKS[task][:2])
    check_sizes(data, source, target)
    for dataset in (source, target):
        # Before any crop is decoded, which takes minutes.
        count = layout_of(dataset).rows
        if batch > count:
            wrong = f"holds {count} images, fewer than a batch of {batch}"
            raise DatasetError(Fault(wrong, "lower `batch`", dataset.folder))
    return source, target


def bench_train(
    data: Path,
    task: str,
    preset: str,
    batch: int | None,
    seconds: float,
    device: str = "auto",
    store: str = "auto",
    seed: int = 0,
) -> TrainFigures:
    """Measure both stages of training on built datasets.

    Each stage takes its steps once with batches that come from the store and are composed, and once with one batch
    that is on the device already, in turn; their quotient is the ratio: 1 would be data that cost nothing. Precision,
    memory format and threads are those that a run has by default. Stage 2 has the loss of DANN and PADACO. The
    sampling weights are timed at the size of the real datasets, whatever the size of these.

    Parameters
    ----------
    data
        Folder of the built datasets.
    task
        One of :data:`benchmark.training.presets.TASKS`.
    preset
        Name of the preset that says the network and the optimizers; crops of any size will do.
    batch
        Images a domain and step; None for the preset's.
    seconds
        Time of each measurement; there are :data:`ROUNDS` of each way of feeding and stage.
    device
        ``auto``, ``cpu`` or ``cuda``.
    store
        One of :data:`benchmark.loaders.open.STORES`.
    seed
        Of all random numbers.

    Raises
    ------
    DatasetError
        If a dataset is missing or damaged, or is smaller than a batch.
    TrainingError
        If there is no such device, or its memory is too small.
    """
    where, chosen = find_device(device), find_preset(preset)
    if batch:
        chosen = chosen._replace(batch=batch)
    source_set, target_set = _open(data, task, chosen.batch)
    torch.set_num_threads(cores())
    torch.manual_seed(seed)
    if where.type == "cuda":
        torch.backends.cudnn.benchmark = True
    try:
        source, target = load_source(source_set, where, store), load_target(target_set, where, store)
        made = LoadedData(source, target, Composer(source, where, seed))
        stages = [_bench_stage(stage, chosen, made, where, seconds, seed) for stage in (1, 2)]
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            f"out of memory on {torch.cuda.get_device_name(where)}; lower `batch`, or choose `store` host"
        ) from error
    return TrainFigures(
        **msgspec.structs.asdict(machine(where)),
        precision="bfloat16" if where.type == "cuda" else "float32",
        seed=seed,
        task=task,
        preset=chosen.name,
        backbone=chosen.backbone,
        size=source_set.size,
        batch=chosen.batch,
        seconds=seconds,
        source=StoredCrops(source_set.name, len(source.store), source.store.kind),
        target=StoredCrops(target_set.name, len(target.store), target.store.kind),
        stages=stages,
        weights_seconds=weights_seconds(seed),
    )


def stage_row(figures: TrainFigures, stage: StageFigures) -> dict[str, str]:
    """Return a stage's row of the table; on a GPU two more columns have aims."""
    gpu = figures.device != "cpu"
    least, most = (f" (at least {LEAST_RATE:,})", f" (at most {100 * MOST_IDLE:.0f})") if gpu else ("", "")
    return {
        "stage": str(stage.stage),
        f"images a second{least}": f"{statistics.median(stage.images_a_second):,.0f}",
        "of one batch on the device": f"{statistics.median(stage.resident_images_a_second):,.0f}",
        f"ratio (at least {LEAST_RATIO[figures.backbone]})": f"{stage.ratio:.2f}",
        f"without a step, % of the time{most}": f"{100 * stage.idle:.1f}",
    }


def reached(figures: TrainFigures, stage: StageFigures) -> bool:
    """Return whether a stage keeps to the least ratio, as the table shows it."""
    return round(stage.ratio, 2) >= LEAST_RATIO[figures.backbone]


def about_train(figures: TrainFigures) -> str:
    """Return on what the figures were measured, but for the stores."""
    rounds = len(figures.stages[0].images_a_second)
    return (
        f"{figures.backbone} in {figures.precision}, crops of {figures.size} pixels a side: "
        f"{figures.source.crops:,} of {figures.source.dataset}, in stage 2 also {figures.target.crops:,} of "
        f"{figures.target.dataset}; {figures.batch} images a domain and step, on {figures.describe()}; medians of "
        f"{rounds} rounds, and a ratio is the median of the rounds' ratios. The device is without a step from the end "
        "of one until the next batch is composed."
    )


def describe_train(figures: TrainFigures, layout: str = "simple") -> str:
    """Return the figures of :func:`bench_train` as text."""
    rows = [stage_row(figures, stage) for stage in figures.stages]
    source, target, seconds = figures.source, figures.target, figures.weights_seconds
    about = (
        f"{about_train(figures)} "
        f"{describe_aims({f'stage {stage.stage}': reached(figures, stage) for stage in figures.stages})} "
        f"{source.dataset} came from its {source.store} store, {target.dataset} from its {target.store} store. The "
        f"sampling weights of {LABELS:,} source labels and {PREDICTIONS:,} predictions take {seconds['padaco']:.2f} s "
        f"(PADACO) and {seconds['pada-like']:.2f} s (PADA-like) on one core (at most {MOST_WEIGHTS:.0f})."
    )
    return tables.with_note(rows, about, layout)


def describe_on_gpu(measured: Mapping[str, TrainFigures]) -> str:
    """Return the figures of a GPU by store, a row a store and stage, as Markdown."""
    rows = []
    aims: dict[str, dict[str, bool]] = {"Images a second": {}, "Ratio": {}, "Time without a step": {}}
    for store, figures in measured.items():
        for stage in figures.stages:
            rate, at_first = statistics.median(stage.images_a_second), stage.images_a_second_at_first
            early = f"{statistics.median(at_first):,.0f}" if at_first else ""
            rows.append({"store": store} | stage_row(figures, stage) | {"images a second while lambda is 0": early})
            are_reached = (rate >= LEAST_RATE, reached(figures, stage), stage.idle <= MOST_IDLE)
            for of, is_reached in zip(aims.values(), are_reached, strict=True):
                of[f"{store} in stage {stage.stage}"] = is_reached
    about = about_train(next(iter(measured.values())))
    told = " ".join(f"{aim}: {describe_aims(of)}" for aim, of in aims.items())
    return f"{tables.table(rows, 'github')}\n\n{about} {told}"
