"""What a step of training takes under conditions that a user meets: lambda of 0, bfloat16, another busy program."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest import mock

import msgspec
import numpy as np
import torch

from baselines import adversarial
from baselines.adversarial import DANN
from baselines.method import DomainBatch, FirstStage, Look, MethodSettings
from baselines.networks import Output, PoseNetwork, make_network
from benchmark.training.job import BFLOAT16
from benchmark.training.loop import Step, Trainer, make_trainer, take
from benchmark.upkeep.aims import describe_aims
from benchmark.upkeep.machine import Machine, machine
from headposeplus import tables
from headposeplus.beside import python
from headposeplus.progress import progress
from headposeplus.tasks import cores, processor_flags

ROUNDS = 5
RATE = 1e-4
SMALL, LARGE = (32, 100), (224, 16)  # pixels a side and images a domain, of the slim network and of ResNet18
_BUSY = "while True: pass"


class Compared(NamedTuple):
    """Two ways of taking the same steps, in words, each with what is done once to make ready for it."""

    what: str
    aim: str
    ways: tuple[str, str]


LAMBDA_0 = Compared(
    "stage 2 while lambda is 0", "at least 1.3", ("all gradients", "the target's images take none back")
)
HALF = Compared("ResNet18 at 224 pixels", "at least 1.8", ("float32", "bfloat16"))
BESIDE = Compared("beside a busy program on each core", "at least 2", ("threads that spin", "threads that sleep"))


class StepFigures(msgspec.Struct, frozen=True):
    """Images a second in two ways, a value a round each."""

    what: str
    aim: str
    ways: tuple[str, str]
    before: list[float]
    after: list[float]

    @property
    def ratio(self) -> float:
        """The median of the quotients, the second way to the first."""
        return statistics.median(b / a for a, b in zip(self.before, self.after, strict=True))


class Steps(Machine, frozen=True, kw_only=True):
    """What :func:`bench_step` measures; ``bfloat16`` says whether the processor computes in it."""

    bfloat16: bool
    compared: list[StepFigures]


def _with_gradient(network: PoseNetwork, images: torch.Tensor, lam: float) -> Output:
    return network(images)


def _trainer(backbone: str, second_stage: bool) -> Trainer:
    torch.manual_seed(0)
    network = make_network(backbone).to(memory_format=torch.channels_last)
    if not second_stage:
        trainer = make_trainer(Step(network, FirstStage(MethodSettings())), "sgd", RATE, 0.0)
    else:
        method = DANN(MethodSettings())
        method.start(network, Look(np.zeros((1, 3)), np.random.default_rng(0)))
        trainer = make_trainer(Step(network, method), "sgd", RATE, 0.0)
    trainer.step.train()
    return trainer


def _batch(size: int, count: int, target: bool) -> DomainBatch:
    images = torch.randn(count, 3, size, size).to(memory_format=torch.channels_last)
    return DomainBatch(images, 20 * torch.randn(count, 3), images.clone() if target else images[:0])


def _rate(trainer: Trainer, batch: DomainBatch, seconds: float) -> float:
    """Return the images a second of steps at lambda 0, the first of which is not counted."""
    take(trainer, batch, 0.0)
    images, began = 0, time.perf_counter()
    while not images or time.perf_counter() - began < seconds:
        take(trainer, batch, 0.0)
        images += len(batch.images) + len(batch.target)
    return images / (time.perf_counter() - began)


def _in_turn(compared: Compared, rates: tuple[Callable[[], float], Callable[[], float]]) -> StepFigures:
    """Return the images a second of two ways, round by round, each going first in turn."""
    found: tuple[list[float], list[float]] = ([], [])
    with progress(2 * ROUNDS, compared.what, "run") as bar:
        for number in range(ROUNDS):
            for way in (0, 1)[:: -1 if number % 2 else 1]:
                found[way].append(round(rates[way](), 1))
                bar.update()
    return StepFigures(*compared, *found)


def _at_lambda_0(seconds: float) -> StepFigures:
    trainer, batch = _trainer("slim", second_stage=True), _batch(*SMALL, target=True)

    def all_gradients() -> float:
        with mock.patch.object(adversarial, "of_target", _with_gradient):
            return _rate(trainer, batch, seconds)

    return _in_turn(LAMBDA_0, (all_gradients, lambda: _rate(trainer, batch, seconds)))


def _in_half(seconds: float) -> StepFigures:
    trainer, batch = _trainer("resnet18", second_stage=False), _batch(*LARGE, target=False)

    def rate(half: bool) -> float:
        trainer.step.network.low_precision = half
        return _rate(trainer, batch, seconds)

    return _in_turn(HALF, (lambda: rate(False), lambda: rate(True)))


@contextmanager
def _busy() -> Iterator[None]:
    """Keep every core busy with a program of its own while the block runs."""
    with contextlib.ExitStack() as stack:
        for _ in range(cores()):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", _BUSY]))
            stack.callback(other.kill)
        yield


def slim_rate(seconds: float) -> float:
    """Return the images a second of the slim network's first stage; for a process of its own."""
    torch.set_num_threads(cores())
    return _rate(_trainer("slim", second_stage=False), _batch(*SMALL, target=False), seconds)


def _beside(seconds: float) -> StepFigures:
    code = f"from benchmark.upkeep.bench_step import slim_rate; print(slim_rate({seconds!r}))"
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}

    def rate(**settings: str) -> float:
        done = subprocess.run(python(code), env=plain | settings, capture_output=True, text=True, check=True)
        return float(done.stdout)

    with _busy():
        return _in_turn(BESIDE, (rate, lambda: rate(GOMP_SPINCOUNT="10000")))


def bench_step(seconds: float = 4.0) -> Steps:
    """Measure steps of training on this processor in two ways each, for so many seconds a round.

    Each batch is in memory, so nothing is loaded. What is beside runs in a process of its own, since the threads read
    how they wait when torch is imported.
    """
    torch.set_num_threads(cores())
    compared = [_at_lambda_0(seconds), _in_half(seconds), _beside(seconds)]
    able = not processor_flags().isdisjoint(BFLOAT16)
    return Steps(**msgspec.structs.asdict(machine(torch.device("cpu"))), bfloat16=able, compared=compared)


def describe_step(figures: Steps, layout: str = "simple") -> str:
    """Return the figures of :func:`bench_step` as text."""
    rows = [
        {
            "steps": one.what,
            "images a second": f"{statistics.median(one.before):,.0f} ({one.ways[0]})",
            "then": f"{statistics.median(one.after):,.0f} ({one.ways[1]})",
            "ratio": f"{one.ratio:.2f}",
            "aim": one.aim,
            "least to most": _spread(one),
        }
        for one in figures.compared
    ]
    reached = {one.what: round(one.ratio, 2) >= float(one.aim.removeprefix("at least ")) for one in figures.compared}
    note = (
        f"On {figures.describe()}, which {'has' if figures.bfloat16 else 'has no'} arithmetic for bfloat16; medians of "
        f"{len(figures.compared[0].before)} rounds in turn. The slim network has crops of {SMALL[0]} pixels a side. "
        f"A ratio is the median of the rounds' ratios. {describe_aims(reached)}"
    )
    return tables.with_note(rows, note, layout)


def _spread(one: StepFigures) -> str:
    ratios = [b / a for a, b in zip(one.before, one.after, strict=True)]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"
