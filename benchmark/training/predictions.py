"""What a finished run leaves: its predictions under each kind of batch statistics, and how they were made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from baselines.adabn import estimate_statistics, statistics_of
from baselines.method import Method
from baselines.weights import uniform
from benchmark.scoring import selection
from benchmark.scoring.submission import TEXTS, About, write_predictions
from benchmark.training.checkpoint import copy_state
from benchmark.training.job import MODEL, PREDICTIONS
from benchmark.training.network import STATISTICS, NetworkFacts, NetworkStates, anew, save_network
from benchmark.training.stage2 import Adaptation
from benchmark.training.views import LoadedRun, drawn_images, in_file_order, is_own, see, target_images
from headposeplus import __version__
from headposeplus.datasets.dataset import Dataset

_SOURCE_BATCHES = 20  # by which the source's statistics are estimated


def commit() -> str:
    """Return the commit of the clone that this code runs from, ``-dirty`` if it was changed; else an empty text."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    words = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        # Its complaint may quote a path in any encoding.
        return subprocess.run(words, capture_output=True, text=True, errors="replace", check=False).stdout.strip()
    except OSError:  # there is no git
        return ""


def leave_predictions(run: LoadedRun, method: Method, source: Dataset, adaptation: Adaptation | None) -> Path:
    """Write the network, and its predictions under each kind of batch statistics; return the path of those that count.

    ``adaptation`` is what the second stage ended with, if there was one.
    """
    folder, network = run.job.folder, run.network
    about = _about(run, method, source.name, adaptation)
    states = NetworkStates(copy_state(network), {})
    ids = in_file_order(run.target.ids, run.target_order)
    official = in_file_order(see(network, target_images(run)).angles, run.target_order)
    probabilities = uniform(len(run.training)) if adaptation is None else adaptation.probabilities
    batches: dict[str, Iterable[Tensor]] = {
        "source": drawn_images(run, probabilities, _SOURCE_BATCHES, np.random.default_rng([run.job.seed, 5])),
        "target": target_images(run),
    }
    for kind in STATISTICS:
        estimate_statistics(network, batches[kind])
        states.statistics[kind] = statistics_of(network)
        angles = in_file_order(see(network, target_images(run)).angles, run.target_order)
        path = folder / f"predictions-{kind}.csv"
        write_predictions(path, ids, angles, msgspec.structs.replace(about, batch_statistics=anew(kind)))
    rule = source.parts()[0].info.parameters.box_rule or ""
    facts = NetworkFacts(backbone=run.job.preset.backbone, size=source.size, box_rule=rule)
    save_network(folder / MODEL, states, facts, about)
    # Last: where they are, the run has ended.
    write_predictions(folder / PREDICTIONS, ids, official, about)
    return folder / PREDICTIONS


def _about(run: LoadedRun, method: Method, source: str, adaptation: Adaptation | None) -> About:
    """Return what stands beside the predictions."""
    job, kind = run.job, type(method)
    how = f"{job.preset.backbone}, {job.label}" if job.changes else job.preset.backbone
    return About(
        name=f"{job.folder.name} ({how})",
        authors="headposeplus baselines" if is_own(kind) else "not given",
        own_method=None if is_own(kind) else f"{kind.__module__}:{kind.__qualname__}"[: TEXTS["own_method"]],
        link="",
        task=job.task,
        training_data=source,
        convention="pyr",
        camera="rgb",
        selection=selection.RULES[job.options.selection if method.trains else "source-val"],
        uses_target_images=method.uses_target,
        batch_statistics=method.batch_statistics,
        initial_weights=job.weights,
        preset=job.label,
        preset_changes=job.changes or None,
        augment=job.options.augment,
        seed=job.seed,
        command=job.command,
        commit=commit(),
        # Nothing that reads predictions needs the rest.
        run={
            "method": method.name,
            "neighbours": job.settings.neighbours,
            "metric": job.settings.metric,
            "threshold": job.settings.threshold,
            "discriminator": job.settings.discriminator,
            "precision": run.settings.shared.precision,
            "backgrounds": len(run.source.backgrounds),
            "processes": run.ranks.world,
            "device": torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else "cpu",
            "toolkit": __version__,
            **(adaptation.facts() if adaptation else {}),
        },
    )
