"""Training, one way for all methods: stage 1 on the source, stage 2 on source and target.

A run lives in ``OUT/TASK-PRESET-seedN``, whose name also says what is not as the preset has it
(:attr:`benchmark.training.job.TrainingJob.family`): ``stage1`` is shared by all methods, and each method has a folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch

from baselines import augment
from baselines.adabn import estimate_statistics, in_turn
from baselines.networks import PoseNetwork, make_network
from baselines.weights import uniform
from benchmark.loaders.compose import Composer, load_source, load_target
from benchmark.loaders.launch import Ranks, ranks_here
from benchmark.scoring import selection
from benchmark.training import ranks as among
from benchmark.training.job import PREDICTIONS, RunOptions, TrainingJob, find_device
from benchmark.training.predictions import leave_predictions
from benchmark.training.settings import RunSettings, claim, open_data, settings_of_run
from benchmark.training.stage1 import train_on_source
from benchmark.training.stage2 import adapt, check_target
from benchmark.training.views import LoadedRun, drawn_images, is_own, reordered, row_slices, target_images
from headposeplus.datasets.dataset import Dataset
from headposeplus.errors import TrainingError
from headposeplus.files import locked
from headposeplus.tasks import cores, processor_flags


def run(job: TrainingJob) -> Path:
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
    ranks = ranks_here()
    device = find_device(job.options.device, ranks)
    selection.check(job.options.selection)
    augment.check(job.options.augment)
    if job.preset.batch < 2 * ranks.world:
        raise TrainingError(f"a batch of {job.preset.batch} is too small for {ranks.world} processes; raise `batch`")
    with _told_limits(job.method.name, device), among.connected(ranks, device):
        datasets = open_data(job)
        settings = settings_of_run(job, ranks, device, *datasets)
        finished = (job.folder / PREDICTIONS).exists()
        network = None if finished else _network(job, ranks)  # weights that are none leave no folder behind
        claim(job.folder, settings.to_json(), ranks)
        if network is not None:
            _set_up_torch(job.options, device)
            _train(_load(job, settings, ranks, device, network, *datasets), datasets[0])
        return job.folder / PREDICTIONS


@contextmanager
def _told_limits(method: str, device: torch.device) -> Iterator[None]:
    """Raise what memory and numbers cannot hold as a TrainingError that says what to do."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            f"out of memory on {torch.cuda.get_device_name(device)}; choose `store` host, which goes on where it was, "
            "or lower `batch` and choose another `out`"
        ) from error
    except torch.linalg.LinAlgError as error:
        raise TrainingError(
            f"{method}: its features are no longer finite ({error}); limit the gradient with `clip` and choose "
            "another `out`"
        ) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):  # torch has no error of its own for this
            raise
        raise TrainingError(
            "out of memory; choose `store` stream, which goes on where it was, or lower `batch` and choose another "
            "`out`"
        ) from error


def _set_up_torch(options: RunOptions, device: torch.device) -> None:
    """Let torch compute with the threads and the algorithms that are asked for."""
    torch.set_num_threads(options.threads or max(cores() // ranks_here().here, 1))
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def load_run(job: TrainingJob) -> LoadedRun:
    """Return a job, on one process, with its network, its data, and the rows that it trains on.

    Raises
    ------
    DatasetError
        If a dataset is missing or damaged, or its crops are not of the preset's size.
    """
    device, ranks = find_device(job.options.device), Ranks()
    _set_up_torch(job.options, device)
    datasets = open_data(job)
    settings = settings_of_run(job, ranks, device, *datasets)
    return _load(job, settings, ranks, device, _network(job, ranks), *datasets)


def _network(job: TrainingJob, ranks: Ranks) -> PoseNetwork:
    """Return a job's network, as its training begins."""
    torch.manual_seed(job.seed)
    return make_network(job.preset.backbone, job.weights, partial(_say, ranks))


def _load(
    job: TrainingJob,
    settings: RunSettings,
    ranks: Ranks,
    device: torch.device,
    network: PoseNetwork,
    source_set: Dataset,
    target_set: Dataset,
) -> LoadedRun:
    """Return a job with its network, its data, and the rows that it trains on."""
    preset, options = job.preset, job.options
    network = network.to(memory_format=torch.channels_last).to(device)
    network.low_precision = job.is_half(device)
    if options.compiled:
        network.compile()
    source = load_source(source_set, device, options.store, options.threads)
    target = load_target(target_set, device, options.store, options.threads)
    if job.could_be_half(device, processor_flags()):
        _say(ranks, "this processor computes in bfloat16: --precision bfloat16 would train about twice as fast")
    if not len(source.backgrounds):
        _say(ranks, f"{job.data}: SynHead came without backgrounds; plain colours stand behind the heads")
    network.angle_mean.copy_(torch.from_numpy(source.angles.mean(axis=0)))
    network.angle_std.copy_(torch.from_numpy(source.angles.std(axis=0)))
    order = np.random.default_rng([job.seed, 0]).permutation(len(source.angles))
    held = max(round(preset.held_out * len(order)), 1)
    return LoadedRun(
        job=job,
        settings=settings,
        ranks=ranks,
        network=network,
        source=source,
        target=target,
        composer=Composer(source, device, job.seed),
        training=order[held:],
        held_out=order[:held],
        source_order=np.arange(len(order)),
        target_order=np.arange(len(target.ids)),
    )


def _say(ranks: Ranks, text: str) -> None:
    """Print a line on standard error, once among the ranks."""
    if ranks.first:
        print(text, file=sys.stderr)


def _train(run: LoadedRun, source: Dataset) -> None:
    """Train both stages and leave the network and its predictions."""
    folder, ranks = run.job.folder, run.ranks
    stage1 = folder.parent / "stage1"
    if run.job.method.trains:
        check_target(run)
    with locked(stage1, wait=True) if ranks.first else nullcontext():
        train_on_source(run, stage1)
    if not is_own(run.job.method):
        run = reordered(run)
    method = run.job.method(run.job.settings)
    with locked(folder, wait=False) if ranks.first else nullcontext():
        adaptation = adapt(run, folder, method) if method.trains else None
        if method.estimated:
            images = target_images(run)
            if method.estimated == "both":
                count = len(row_slices(len(run.target.ids), run.job.preset.batch))
                rng = np.random.default_rng([run.job.seed, 7])
                images = in_turn(drawn_images(run, uniform(len(run.training)), count, rng), images)
            estimate_statistics(run.network, images)
        method.finish(run.network)
        if ranks.first:
            leave_predictions(run, method, source, adaptation)
    among.wait(ranks)
