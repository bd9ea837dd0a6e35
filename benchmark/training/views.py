"""What a run sees of its data: images in batches, and what its network makes of them.

What a method of one's own sees has another order than the files. SynBiwi+ has the target's poses in the target's
order, and what is drawn follows from the seed, so a method could find the label of a target image by counting rows.
Its second stage sees both domains in an order that follows from what they hold: the source by its labels, the target by
its pixels, each shuffled by the seed. So rows that are counted lead nowhere, and the same seed gives the same network.
Methods of the project, which are known to count nothing, see the files' own order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from baselines.method import Look, Method, Seen, Wanted
from baselines.networks import PoseNetwork
from benchmark.loaders.compose import Composer, Source, Target
from benchmark.loaders.launch import Ranks
from benchmark.loaders.stores import ReorderedStore
from benchmark.training.draws import cumulative, draw
from benchmark.training.job import TrainingJob
from benchmark.training.settings import RunSettings
from headposeplus.files import bytes_sha256, content_hash
from headposeplus.rotations import Floats


class LoadedRun(NamedTuple):
    """A job with all that its stages need at hand.

    ``training`` and ``held_out`` are rows of the source. ``source_order`` (n,) and ``target_order`` (m,) say which row
    of the files each row of source and target is.
    """

    job: TrainingJob
    settings: RunSettings
    ranks: Ranks
    network: PoseNetwork
    source: Source
    target: Target
    composer: Composer
    training: np.ndarray
    held_out: np.ndarray
    source_order: np.ndarray
    target_order: np.ndarray

    @property
    def label(self) -> str:
        """The task and the seed, for a progress bar."""
        return f"({self.job.task}, seed {self.job.seed})"

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.angle_mean.device


def row_slices(count: int, batch: int) -> list[np.ndarray]:
    """Return the rows of each batch of a pass over ``count`` rows; the last one may be smaller."""
    return [np.arange(start, min(start + batch, count)) for start in range(0, count, batch)]


@torch.no_grad()
def see(network: PoseNetwork, batches: Iterable[Tensor]) -> Seen:
    """Return what a network makes of batches of images, with the running batch statistics."""
    network.eval()
    features, angles = [], []
    for images in batches:
        output = network(images)
        features.append(output.features)
        angles.append(network.degrees(output.angles).double())
    return Seen(torch.cat(features).cpu().numpy(), torch.cat(angles).cpu().numpy())


def source_images(
    run: LoadedRun, plan: Sequence[np.ndarray], epoch: int, augment: str = "none"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and angles of batches of source rows, each with the background that it has in an epoch.

    Only images to train on are augmented; those that are looked at are not.
    """
    for rows, (crops, masks) in zip(plan, run.source.store.batches(plan), strict=True):
        assert masks is not None
        yield run.composer.source(rows, crops, masks, epoch, augment)


def drawn_images(run: LoadedRun, probabilities: Floats, count: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Yield ``count`` batches of source images, drawn by the probabilities (n,) of the training rows."""
    drawn = draw(rng, cumulative(probabilities), count * run.job.preset.batch)
    plan = list(run.training[drawn].reshape(count, -1))
    yield from (images for images, _ in source_images(run, plan, 0))


def see_source(run: LoadedRun, rows: np.ndarray, epoch: int) -> Seen:
    """Return what the network makes of source rows, each with the background that it has in an epoch."""
    plan = [rows[part] for part in row_slices(len(rows), run.job.preset.batch)]
    return see(run.network, (images for images, _ in source_images(run, plan, epoch)))


def target_images(run: LoadedRun, rows: np.ndarray | None = None) -> Iterator[Tensor]:
    """Yield the target's images in batches, all or those of some rows."""
    rows = np.arange(len(run.target.ids)) if rows is None else rows
    plan = [rows[part] for part in row_slices(len(rows), run.job.preset.batch)]
    for crops, _ in run.target.store.batches(plan):
        yield run.composer.target(crops)


def look(run: LoadedRun, epoch: int, wanted: Wanted) -> Look:
    """Return what a method may look at; the backgrounds go on where those of stage 1 ended."""
    rng = np.random.default_rng([run.job.seed, 3, epoch])
    found = Look(run.source.angles[run.training], rng)
    if wanted.source:
        rows = np.sort(rng.permutation(len(run.training))[: wanted.source])
        seen = see_source(run, run.training[rows], run.job.preset.stage1_epochs + epoch)
        found = found._replace(rows=rows, source=seen)
    return found._replace(target=see(run.network, target_images(run))) if wanted.target else found


def is_own(method: type[Method]) -> bool:
    """Return whether a method is one of the project's; what users write are methods of their own."""
    return method.__module__.partition(".")[0] in ("baselines", "benchmark")


def reordered(run: LoadedRun) -> LoadedRun:
    """Return a run whose rows have an order that does not depend on the files' order."""
    seed = run.job.seed
    by_label = np.lexsort(run.source.angles.T)
    source = by_label[np.random.default_rng([seed, 8]).permutation(len(by_label))]
    by_pixels = np.argsort(_digests(run), kind="stable")
    target = by_pixels[np.random.default_rng([seed, 9]).permutation(len(by_pixels))]
    place = np.argsort(source)
    mixed = run.source._replace(store=ReorderedStore(run.source.store, source), angles=run.source.angles[source])
    return run._replace(
        source=mixed,
        target=Target(ReorderedStore(run.target.store, target), run.target.ids[target]),
        composer=Composer(mixed, run.device, seed),
        training=np.sort(place[run.training]),
        held_out=np.sort(place[run.held_out]),
        source_order=run.source_order[source],
        target_order=run.target_order[target],
    )


def _digests(run: LoadedRun) -> np.ndarray:
    """Return a hash of the pixels of each target image (m,)."""
    plan = row_slices(len(run.target.ids), run.job.preset.batch)
    batches = (crops.cpu().numpy() for crops, _ in run.target.store.batches(plan))
    return np.array([bytes_sha256(crop.tobytes()) for crops in batches for crop in crops])


def in_file_order(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return values (n, ...) of rows in the order of the files, where row i is their row ``order[i]`` (n,)."""
    there = np.empty_like(values)
    there[order] = values
    return there


def fingerprint(plan: Iterable[np.ndarray]) -> str:
    """Return the fingerprint of the rows that an epoch draws, the same on one process and on several."""
    return content_hash([rows.tolist() for rows in plan])[:16]
