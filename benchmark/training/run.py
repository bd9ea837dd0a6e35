"""Training, one way for all methods: stage 1 on the source, stage 2 on source and target.

A run lives in ``OUT/TASK-PRESET-seedN``: ``stage1`` is shared by all methods, and each method has a folder. The loop
over epochs is in :mod:`benchmark.training.loop`; here is what an epoch draws, and what a run leaves behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from baselines.adabn import estimate_statistics
from baselines.method import Method
from baselines.networks import make_network
from benchmark.loaders.compose import Composer, load_source, load_target
from benchmark.scoring import selection
from benchmark.scoring.submission import About, write_predictions
from benchmark.training import ranks as among
from benchmark.training.draws import cumulative, draw
from benchmark.training.job import (
    MODEL,
    PREDICTIONS,
    Job,
    _check_data,
    _claim,
    _half,
    _own_settings,
    _settings,
    commit,
    find_device,
    folder_of,
)
from benchmark.training.loop import save
from benchmark.training.ranks import Ranks
from benchmark.training.stages import _stage1, _stage2
from benchmark.training.views import _Run, _see, _source_images, _target_images
from headposeplus import __version__
from headposeplus.errors import TrainingError
from headposeplus.files import locked
from headposeplus.rotations import Floats
from headposeplus.tasks import cores, processes_here

STATISTICS = ("source", "target")  # estimated anew; the running statistics of training are ``mixed``
_SOURCE_BATCHES = 20  # by which the source's statistics are estimated


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


def _run(job: Job, ranks: Ranks, device: torch.device) -> Path:
    preset, options = job.preset, job.options
    source_set, target_set = _check_data(job)
    settings = _settings(job, ranks, device, source_set, target_set)
    folder = folder_of(job)
    base = folder.parent
    _claim(folder, settings | _own_settings(job), ranks)
    if (folder / PREDICTIONS).exists():
        return folder / PREDICTIONS

    torch.set_num_threads(options.threads or max(cores() // processes_here(), 1))
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
    about = About(
        name=f"{folder.name} ({preset.backbone})",
        authors="headposeplus baselines" if type(method).__module__.startswith("baselines.") else "not given",
        link="",
        task=job.task,
        training_data=source,
        convention="pyr",
        camera="rgb",
        selection=selection.RULES[job.options.selection if method.trains else "source-val"],
        uses_target_images=method.uses_target,
        batch_statistics=own,
        initial_weights=job.weights,
        preset=preset.name,
        seed=job.seed,
        command=job.command,
        commit=commit(),
        # Nothing that reads predictions needs the rest.
        run={
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
    )
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
        said = msgspec.structs.replace(about, batch_statistics=f"{kind}, estimated anew")
        write_predictions(path, run.target.ids, angles, said)
    write_predictions(folder / PREDICTIONS, run.target.ids, official, about)
