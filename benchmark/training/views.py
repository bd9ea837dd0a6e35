"""What a run sees of its data: images in batches, and what its network makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from baselines.method import Look, Seen
from baselines.networks import PoseNetwork
from benchmark.loaders.compose import Composer, Source, Target
from benchmark.training.job import Job
from benchmark.training.ranks import Ranks
from headposeplus.files import content_hash


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
